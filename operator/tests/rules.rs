//! Tests that every rule of the definition refuses what `fixtures/rules.yaml` says, with the same words, and that no
//! other rule does. The test in `e2e/cluster` asks a real API server; this one uses an interpreter of the same
//! language.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use kube::core::cel::{ValidationError, ValidationErrors, Validator, apply_defaults};
use liverank_operator::crd::v1beta1::{Version, WebhookService, convert_object, definition_of_both, table};
use liverank_operator::crd::{RankingCluster, RankingClusterStatus, definition};
use serde::Deserialize;
use serde_json::{Value, json};

const VALIDATIONS_KEY: &str = "x-kubernetes-validations";

/// An expected refusal from `fixtures/rules.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedRefusal {
    name: String,
    rule: String,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    update: Option<BTreeMap<String, Value>>,
    path: String,
    message: String,
}

fn printed_schema() -> Value {
    let definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn schema_of_v1beta1() -> Value {
    let service = WebhookService { namespace: "liverank".to_owned(), name: "operator".to_owned() };
    let definition = serde_json::to_value(definition_of_both(&service)).unwrap();
    definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"].clone()
}

fn valid_resource() -> Value {
    serde_yaml::from_str(include_str!("fixtures/valid.yaml")).unwrap()
}

fn refusals() -> Vec<ExpectedRefusal> {
    serde_yaml::from_str(include_str!("fixtures/rules.yaml")).unwrap()
}

/// Sets fields by dotted paths; null removes a field.
fn with_fields(mut object: Value, set: &BTreeMap<String, Value>) -> Value {
    for (path, value) in set {
        let (parents, field) = path.rsplit_once('.').unwrap();
        let mut at = &mut object;
        for part in parents.split('.') {
            at = &mut at[part];
        }
        if value.is_null() {
            at.as_object_mut().unwrap().remove(field);
        } else {
            at[field] = value.clone();
        }
    }
    object
}

/// Returns the object as the API server stores it: with the defaults, and the defaults in those. The interpreter fills
/// in one level at a time.
fn with_defaults(schema: &Value, object: &Value) -> Value {
    let more = apply_defaults(schema, object);
    if more == *object { more } else { with_defaults(schema, &more) }
}

/// Validates an object and its update of `old`; returns the violations.
fn validate_object(schema: &Value, object: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    let old = old.map(|old| with_defaults(schema, old));
    Validator::new().validate(schema, &with_defaults(schema, object), old.as_ref())
}

/// Returns the rules that a refusal's object violates.
fn violated_rules(schema: &Value, refusal: &ExpectedRefusal) -> Vec<ValidationError> {
    let stored = with_fields(valid_resource(), &refusal.set);
    let result = match &refusal.update {
        Some(update) => {
            validate_object(schema, &stored, None).unwrap_or_else(|e| panic!("{}: {e}", refusal.name));
            validate_object(schema, &with_fields(stored.clone(), update), Some(&stored))
        }
        None => validate_object(schema, &stored, None),
    };
    result.err().map_or_else(Vec::new, ValidationErrors::into_vec)
}

/// Collects every rule with the pointer of its schema.
fn collect_rules(schema: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    for rule in schema[VALIDATIONS_KEY].as_array().into_iter().flatten() {
        found.push((pointer.to_owned(), rule["rule"].as_str().unwrap().to_owned()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect_rules(property, &format!("{pointer}/properties/{name}"), found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            collect_rules(&schema[inner], &format!("{pointer}/{inner}"), found);
        }
    }
}

/// Returns the pointer of the schema with the rule that answers with this refusal's path.
fn schema_pointer(refusal: &ExpectedRefusal) -> String {
    if refusal.path == "metadata.name" {
        return String::new();
    }
    refusal.path.split('.').fold(String::new(), |pointer, part| match part.split_once('[') {
        Some((name, _)) => format!("{pointer}/properties/{name}/items"),
        None => format!("{pointer}/properties/{part}"),
    })
}

#[test]
fn a_valid_resource_is_accepted() {
    let result = validate_object(&printed_schema(), &valid_resource(), None);
    assert!(result.is_ok(), "{result:?}");
    let same = validate_object(&printed_schema(), &valid_resource(), Some(&valid_resource()));
    assert!(same.is_ok(), "{same:?}");
}

#[test]
fn a_component_that_scales_by_other_metrics_needs_no_cpu() {
    let given = json!({
        "spec.gateway.autoscaling": {"maxReplicas": 6, "metrics": [{"type": "External"}]},
        "spec.gateway.pod.resources": {"requests": {"memory": "64Mi"}},
    });
    let resource = with_fields(valid_resource(), &serde_json::from_value(given).unwrap());
    let result = validate_object(&printed_schema(), &resource, None);
    assert!(result.is_ok(), "{result:?}");
    let newer = convert_object(&resource, Version::V1beta1).unwrap();
    let result = validate_object(&schema_of_v1beta1(), &newer, None);
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn each_crd_rule_refusal_names_the_field_and_the_fix() {
    let schema = printed_schema();
    for refusal in refusals() {
        let errors = violated_rules(&schema, &refusal);
        let [error] = &errors[..] else { panic!("{}: not one error but {errors:?}", refusal.name) };
        let path = error.field_path.trim_start_matches('.');
        assert_eq!((path, &error.message), (&*refusal.path, &refusal.message), "{}", refusal.name);
        assert_eq!(error.rule, refusal.rule, "{}", refusal.name);
    }
}

#[test]
fn each_crd_rule_refuses_the_same_in_v1beta1() {
    let schema = schema_of_v1beta1();
    let converted = |object: &Value| convert_object(object, Version::V1beta1).unwrap();
    let valid = validate_object(&schema, &converted(&valid_resource()), None);
    assert!(valid.is_ok(), "{valid:?}");
    for refusal in refusals() {
        let stored = with_fields(valid_resource(), &refusal.set);
        let result = match &refusal.update {
            Some(update) => {
                let changed = converted(&with_fields(stored.clone(), update));
                validate_object(&schema, &changed, Some(&converted(&stored)))
            }
            None => validate_object(&schema, &converted(&stored), None),
        };
        let errors = result.err().map_or_else(Vec::new, ValidationErrors::into_vec);
        let [error] = &errors[..] else { panic!("{}: not one error but {errors:?}", refusal.name) };
        let change = table::RULES.iter().find(|change| change.old == refusal.rule);
        let (rule, message) = change.map_or((&*refusal.rule, &*refusal.message), |it| (it.new, it.message));
        assert_eq!((&*error.rule, &*error.message), (rule, message), "{}", refusal.name);
    }
}

#[test]
fn each_duration_of_v1beta1_is_held_to_its_bounds() {
    let schema = schema_of_v1beta1();
    let valid = convert_object(&valid_resource(), Version::V1beta1).unwrap();
    for (path, refused, message) in [
        ("spec.readers.drain.timeout", "9s", "write a duration from 10s to 24h"),
        ("spec.readers.drain.timeout", "24h1s", "write a duration from 10s to 24h"),
        ("spec.scoring.trendingHalfLife", "0m", "write a duration from 1m to 8760h"),
        ("spec.gateway.drainTimeout", "4s", "write a duration from 5s to 10m"),
    ] {
        let object = with_fields(valid.clone(), &BTreeMap::from([(path.to_owned(), json!(refused))]));
        let errors = validate_object(&schema, &object, None).unwrap_err().into_vec();
        let [error] = &errors[..] else { panic!("{path}: not one error but {errors:?}") };
        assert_eq!((error.field_path.trim_start_matches('.'), &*error.message), (path, message));
    }
}

#[test]
fn each_crd_rule_is_needed_for_its_refusal() {
    let whole = printed_schema();
    let mut there = Vec::new();
    collect_rules(&whole, "", &mut there);
    let refusals = refusals();
    let mut refused: Vec<_> = refusals.iter().map(|r| (schema_pointer(r), r.rule.clone())).collect();
    there.sort();
    refused.sort();
    assert_eq!(there, refused, "rules of the definition, and refusals");
    for refusal in &refusals {
        let mut less = whole.clone();
        let rules =
            less.pointer_mut(&schema_pointer(refusal)).unwrap()[VALIDATIONS_KEY].as_array_mut().unwrap();
        rules.retain(|rule| rule["rule"] != json!(refusal.rule));
        let errors = violated_rules(&less, refusal);
        assert!(errors.is_empty(), "{} without its rule: {errors:?}", refusal.name);
    }
}

#[test]
fn the_definition_and_the_types_fill_in_the_same_defaults() {
    let required = |name: &str| json!({ "name": name, "key": "key" });
    let bare = json!({
        "apiVersion": "liverank.dev/v1alpha1",
        "kind": "RankingCluster",
        "metadata": { "name": "live" },
        "spec": {
            "image": "liverank",
            "kafka": { "bootstrapServers": "kafka:9092" },
            "redis": { "urlSecret": required("redis") },
            "mongodb": { "uriSecret": required("mongodb") },
            "auth": { "enabled": false },
            "gateway": { "autoscaling": { "maxReplicas": 3 } },
        },
    });
    for object in [bare, valid_resource()] {
        let stored = with_defaults(&printed_schema(), &object);
        let mut read: RankingCluster = serde_json::from_value(object).unwrap();
        // The status before any operator has looked is only in the definition.
        read.status =
            Some(RankingClusterStatus { observed_generation: Some(-1), ..RankingClusterStatus::default() });
        assert_eq!(serde_json::to_value(&read).unwrap(), stored);
        let again: RankingCluster = serde_json::from_value(stored).unwrap();
        assert_eq!(read, again);
    }
}
