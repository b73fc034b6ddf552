//! The definition as it is installed: what is derived from the types, made smaller and stricter.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::RankingCluster;

/// The definition as it is installed.
pub fn definition() -> CustomResourceDefinition {
    let mut value = serde_json::to_value(RankingCluster::crd()).expect("a definition is JSON");
    let versions = value["spec"]["versions"].as_array_mut().expect("a definition has versions");
    for version in versions {
        tidy(&mut version["schema"]["openAPIV3Schema"]);
    }
    serde_json::from_value(value).expect("a tidy definition is one")
}

/// The definition as YAML, as `crds/rankingcluster.yaml` holds it.
pub fn definition_yaml() -> String {
    serde_yaml::to_string(&definition()).expect("a definition is YAML")
}

/// A parent's default becomes `{}`, for its members have their own. `nullable` goes: a null then means "not set", and is
/// replaced by the default.
fn tidy(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    members.remove("nullable");
    if let Some(Value::Object(default)) = members.get_mut("default") {
        default.clear();
    }
    for (key, value) in members.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(tidy),
            ("items" | "additionalProperties", value) => tidy(value),
            _ => {}
        }
    }
}
