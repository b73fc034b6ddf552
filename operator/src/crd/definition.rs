//! The `CustomResourceDefinition` as it is installed: derived from the types, then made smaller and stricter.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::schema::VALIDATIONS;
use super::{RankingCluster, rules};

/// Returns the `CustomResourceDefinition` as it is installed.
pub fn definition() -> CustomResourceDefinition {
    let mut value = serde_json::to_value(RankingCluster::crd()).expect("a definition is JSON");
    let versions = value["spec"]["versions"].as_array_mut().expect("a definition has versions");
    for version in versions {
        let root = &mut version["schema"]["openAPIV3Schema"];
        simplify_schema(root);
        // The name is the only member of metadata that a rule may read, and only if the schema declares it.
        root["properties"]["metadata"] =
            json!({ "type": "object", "properties": { "name": { "type": "string" } } });
        root[VALIDATIONS] = rules::resource();
        // Until an operator has looked at a resource, it must not be taken for finished: kstatus takes a resource
        // without a status for current.
        root["properties"]["status"]["default"] = json!({ "observedGeneration": -1 });
    }
    serde_json::from_value(value).expect("a tidy definition is one")
}

/// Returns the definition as YAML, the content of `crds/rankingcluster.yaml`.
pub fn definition_yaml() -> String {
    to_yaml(&definition())
}

/// Returns a definition as YAML.
pub(super) fn to_yaml(definition: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(definition).expect("a definition is JSON");
    write_whole_floats_as_integers(&mut value);
    // Whether a map keeps its insertion order depends on the programs that are built together; the text must not.
    value.sort_all_objects();
    serde_yaml::to_string(&value).expect("a definition is YAML")
}

/// Turns whole floats into integers: bounds are floats in Kubernetes' types, and `500` reads better than `500.0`.
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

/// The objects whose rules read members that have defaults. The API server checks rules against an object's default
/// before it fills in members, so that the members have to be in the default.
const PROPERTIES_KEEPING_WHOLE_DEFAULT: [&str; 2] = ["exposure", "readers"];

/// Simplifies a schema: an object's default becomes `{}`, because its members have their own defaults, and `nullable`
/// is removed: a null then means "not set" and is replaced by the default. A number between two bounds needs no format, which
/// would only take room.
fn simplify_schema(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    members.remove("nullable");
    if members.contains_key("minimum") && members.contains_key("maximum") {
        members.remove("format");
    }
    if let Some(Value::Object(default)) = members.get_mut("default") {
        default.clear();
    }
    for (key, value) in members.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    let whole = property["default"].clone();
                    simplify_schema(property);
                    if PROPERTIES_KEEPING_WHOLE_DEFAULT.contains(&name.as_str()) && whole.is_object() {
                        property["default"] = whole;
                    }
                }
            }
            ("items" | "additionalProperties", value) => simplify_schema(value),
            _ => {}
        }
    }
}
