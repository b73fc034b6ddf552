//! The fields of a live object that one manager owns, and other values for them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A field, and where it is in the object as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedField {
    /// A JSON pointer; items of lists by number, which may change.
    pub pointer: String,
    /// The value of the field.
    pub value: Value,
}

/// What `manager` owns by server-side apply, by paths in which items of lists have their keys.
pub fn owned_fields(object: &Value, manager: &str) -> BTreeMap<String, OwnedField> {
    let mut fields = BTreeMap::new();
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        if entry["manager"] == manager
            && entry["operation"] == "Apply"
            && let Some(tree) = entry["fieldsV1"].as_object()
        {
            walk_owned(tree, object, ("", ""), &[], &mut fields);
        }
    }
    fields
}

/// `keys` are the members by which `live` is known in its list: with another value it would be another item, and the one
/// that somebody made stays, for it is theirs.
fn walk_owned(
    tree: &Map<String, Value>,
    live: &Value,
    (path, pointer): (&str, &str),
    keys: &[String],
    fields: &mut BTreeMap<String, OwnedField>,
) {
    for (key, below) in tree {
        let Some(below) = below.as_object() else { continue };
        let mut below_keys = Vec::new();
        let found = if let Some(name) = key.strip_prefix("f:") {
            if keys.iter().any(|key| key == name) {
                continue;
            }
            live.get(name).map(|value| (value, name.replace('~', "~0").replace('/', "~1")))
        } else if let Some(wanted) = key.strip_prefix("k:") {
            below_keys = parse_keys(wanted).into_iter().map(|(name, _)| name).collect();
            find_item(live, wanted).map(|(at, value)| (value, at.to_string()))
        } else {
            None
        };
        let Some((value, step)) = found else { continue };
        let (path, pointer) = (format!("{path}/{key}"), format!("{pointer}/{step}"));
        if below.is_empty() {
            fields.insert(path, OwnedField { pointer, value: value.clone() });
        } else {
            walk_owned(below, value, (&path, &pointer), &below_keys, fields);
        }
    }
}

fn parse_keys(keys: &str) -> Map<String, Value> {
    serde_json::from_str(keys).unwrap_or_default()
}

/// The item of a list that has these keys.
fn find_item<'a>(list: &'a Value, keys: &str) -> Option<(usize, &'a Value)> {
    let keys = parse_keys(keys);
    let mut items = list.as_array()?.iter().enumerate();
    items.find(|(_, item)| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

/// Words that have to be others of the same kind.
const WORD_REPLACEMENTS: [(&str, &str); 12] = [
    ("Always", "IfNotPresent"),
    ("IfNotPresent", "Always"),
    ("Never", "Always"),
    ("TCP", "UDP"),
    ("HTTP", "HTTPS"),
    ("RuntimeDefault", "Unconfined"),
    ("Recreate", "RollingUpdate"),
    ("RollingUpdate", "Recreate"),
    ("ScheduleAnyway", "DoNotSchedule"),
    ("ClusterIP", "NodePort"),
    ("Ingress", "Egress"),
    ("true", "false"),
];

/// Other values that such a field might take, the likeliest first. The API server decides which it can.
pub fn other_values(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Bool(value) => vec![Value::Bool(!value)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            vec![Value::from(number + 1), Value::from(number - 1)]
        }
        Value::String(text) => {
            let word =
                WORD_REPLACEMENTS.iter().find(|(word, _)| word == text).map(|(_, other)| Value::from(*other));
            // A longer name; a larger quantity.
            let longer = [format!("{text}x"), format!("1{text}")].map(Value::from);
            word.into_iter().chain(longer).collect()
        }
        Value::Array(items) => {
            let mut fewer = items.clone();
            fewer.pop();
            let mut more = items.clone();
            more.extend(items.first().cloned());
            vec![Value::Array(fewer), Value::Array(more)]
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("edited".into(), "edited".into());
            vec![Value::Object(more)]
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn owned_fields_are_found_by_the_keys_of_lists() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "d"}, "managedFields": [
                {"manager": "other", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "us", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:a.b/c": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"two\"}": {".": {}, "f:name": {}, "f:image": {}, "f:gone": {}}}},
                }},
            ]},
            "spec": {"replicas": 1, "containers": [{"name": "one", "image": "x"}, {"name": "two", "image": "y"}]},
        });
        let fields: Vec<OwnedField> = owned_fields(&object, "us").into_values().collect();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0], OwnedField { pointer: "/metadata/labels/a.b~1c".into(), value: json!("d") });
        assert_eq!(fields[1], OwnedField { pointer: "/spec/containers/1/image".into(), value: json!("y") });
        assert!(fields.iter().all(|field| object.pointer(&field.pointer) == Some(&field.value)));
    }

    #[test]
    fn other_values_differ_from_the_value() {
        for value in [json!(true), json!(3), json!("TCP"), json!("100m"), json!(["a"]), json!({"a": "b"})] {
            assert!(
                other_values(&value).iter().all(|other| *other != value) && !other_values(&value).is_empty(),
                "{value}"
            );
        }
    }
}
