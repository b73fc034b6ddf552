//! The definition as it is installed: what is derived from the types, made smaller and stricter.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::schema::VALIDATIONS;
use super::{RankingCluster, rules};

/// The definition as it is installed.
pub fn definition() -> CustomResourceDefinition {
    let mut value = serde_json::to_value(RankingCluster::crd()).expect("a definition is JSON");
    let versions = value["spec"]["versions"].as_array_mut().expect("a definition has versions");
    for version in versions {
        let root = &mut version["schema"]["openAPIV3Schema"];
        simplify_schema(root);
        // The only member of metadata that a rule may look at, and only where the schema names it.
        root["properties"]["metadata"] =
            json!({ "type": "object", "properties": { "name": { "type": "string" } } });
        root[VALIDATIONS] = rules::resource();
        // Until an operator has looked nothing may read as done: kstatus takes a resource without a status for current.
        root["properties"]["status"]["default"] = json!({ "observedGeneration": -1 });
    }
    serde_json::from_value(value).expect("a tidy definition is one")
}

/// The definition as YAML, as `crds/rankingcluster.yaml` holds it.
pub fn definition_yaml() -> String {
    let mut value = serde_json::to_value(definition()).expect("a definition is JSON");
    write_whole_floats_as_integers(&mut value);
    // Whether a map keeps its order depends on which programs are built together: the text may not.
    value.sort_all_objects();
    serde_yaml::to_string(&value).expect("a definition is YAML")
}

/// Bounds are floats in Kubernetes' types; `500` reads better than `500.0`.
fn write_whole_floats_as_integers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                *value = json!(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_floats_as_integers),
        Value::Object(members) => members.values_mut().for_each(write_whole_floats_as_integers),
        _ => {}
    }
}

/// Parents whose rules speak of members that have defaults. The API server holds rules against a default as it stands,
/// before it fills in members, so that these have to be in it.
const PARENTS_WITH_FULL_DEFAULTS: [&str; 2] = ["exposure", "readers"];

/// A parent's default becomes `{}`, for its members have their own. `nullable` goes: a null then means "not set", and is
/// replaced by the default.
fn simplify_schema(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    members.remove("nullable");
    if let Some(Value::Object(default)) = members.get_mut("default") {
        default.clear();
    }
    for (key, value) in members.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    let whole = property["default"].clone();
                    simplify_schema(property);
                    if PARENTS_WITH_FULL_DEFAULTS.contains(&name.as_str()) && whole.is_object() {
                        property["default"] = whole;
                    }
                }
            }
            ("items" | "additionalProperties", value) => simplify_schema(value),
            _ => {}
        }
    }
}
