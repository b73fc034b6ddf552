//! Tests that every field of the resource has an effect: if another value of a field changes no object, `fields.yaml`
//! says what the field is for.

use std::collections::{BTreeMap, BTreeSet};

use liverank_operator::build::Object;
use liverank_operator::crd::{RankingCluster, definition};
use serde_json::{Map, Value, json};

use crate::fixtures::{CLUSTERS, build_objects, cluster_yaml, path};
use crate::settings::settings_that_are_in_no_table;

/// Returns the fields that only the running operator uses and that are in no object, each with all fields below it, and
/// their purpose.
fn fields_of_the_operator() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path("tests/build/fields.yaml")).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

/// Calls `see` with the path and the schema of each field that has none of our fields below it.
fn visit_leaf_fields(schema: &Value, path: &[&str], see: &mut dyn FnMut(&[&str], &Value)) {
    let Some(fields) = schema["properties"].as_object() else { return see(path, schema) };
    for (name, field) in fields {
        visit_leaf_fields(field, &[path, &[name.as_str()]].concat(), see);
    }
}

/// Returns other values of a field: no value, and values that its schema allows.
fn other_values(schema: &Value, now: Option<&Value>) -> Vec<Option<Value>> {
    let mut others = vec![None];
    let mut or = |value: Value| others.push(Some(value));
    schema["enum"].as_array().into_iter().flatten().cloned().for_each(&mut or);
    match schema["type"].as_str() {
        Some("boolean") => [true, false].map(Value::from).into_iter().for_each(&mut or),
        Some("integer") => {
            let bounds = ["minimum", "maximum"].map(|bound| schema[bound].as_i64());
            bounds.into_iter().flatten().chain([7]).map(Value::from).for_each(&mut or);
        }
        Some("string") => {
            let more = now.and_then(Value::as_str).map(|text| format!("{text}x"));
            more.into_iter()
                .chain(["x".to_owned(), "{reader}.x.example".to_owned()])
                .map(Value::from)
                .for_each(&mut or);
        }
        Some("object") => or(json!({ "example.org/x": "x" })),
        _ => or(json!(7)),
    }
    others
}

/// Returns the value with the field set, or without the field.
fn with_field(value: &Value, path: &[&str], new: Option<Value>) -> Value {
    let mut fields: Map<String, Value> = value.as_object().cloned().unwrap_or_default();
    let (name, rest) = path.split_first().unwrap();
    let new = if rest.is_empty() {
        new
    } else {
        Some(with_field(&fields.remove(*name).unwrap_or_default(), rest, new))
    };
    match new {
        Some(new) => fields.insert((*name).to_owned(), new),
        None => fields.remove(*name),
    };
    Value::Object(fields)
}

fn objects(cluster: Value) -> Option<Vec<Object>> {
    serde_json::from_value::<RankingCluster>(cluster).ok().map(|cluster| build_objects(&cluster))
}

/// Returns the schema of `spec`.
fn spec_schema() -> Value {
    let schema = serde_json::to_value(definition()).unwrap();
    schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// A field without a default leads to its setting only where it is set, and no cluster of these tests may set it.
#[test]
fn every_setting_that_a_field_leads_to_is_in_the_table_of_roles() {
    let (cluster, mut lacking) = (cluster_yaml("full"), BTreeSet::new());
    visit_leaf_fields(&spec_schema(), &["spec"], &mut |path, schema| {
        let now = path.iter().try_fold(&cluster, |value, name| value.get(name));
        for other in other_values(schema, now).into_iter().flatten() {
            let built = objects(with_field(&cluster, path, Some(other))).unwrap_or_default();
            let found = settings_that_are_in_no_table(&built).into_iter();
            lacking.extend(found.map(|setting| format!("{setting}, written for {}", path[1..].join("."))));
        }
    });
    assert_eq!(lacking, BTreeSet::new(), "protocol/src/roles.rs has no such settings");
}

#[test]
fn every_field_of_the_resource_reaches_an_object() {
    let clusters = CLUSTERS.map(|name| (cluster_yaml(name), objects(cluster_yaml(name)).unwrap()));
    let mut idle = Vec::new();
    visit_leaf_fields(&spec_schema(), &["spec"], &mut |path, schema| {
        let reaches = clusters.iter().any(|(cluster, before)| {
            let now = path.iter().try_fold(cluster, |value, name| value.get(name));
            let others = other_values(schema, now).into_iter();
            others.filter_map(|other| objects(with_field(cluster, path, other))).any(|after| after != *before)
        });
        if !reaches {
            idle.push(path[1..].join("."));
        }
    });
    let of_the_operator = fields_of_the_operator();
    let is_in = |field: &String, of: &String| field == of || field.starts_with(&format!("{of}."));
    let unknown: Vec<_> =
        idle.iter().filter(|field| !of_the_operator.keys().any(|of| is_in(field, of))).collect();
    assert_eq!(
        unknown, [""; 0],
        "no object depends on it: write it in operator/src/build, or in fields.yaml what it is for"
    );
    let stale: Vec<_> =
        of_the_operator.keys().filter(|of| !idle.iter().any(|field| is_in(field, of))).collect();
    assert_eq!(stale, [""; 0], "in fields.yaml, and an object depends on it");
}
