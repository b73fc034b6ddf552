//! The fields of a live object that one field manager owns, and other values to edit them to.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A field of a live object, with the position and the value that it has now.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedField {
    /// The field's JSON pointer; an item of a list is named by its index, which may change later.
    pub pointer: String,
    /// The value of the field.
    pub value: Value,
}

/// Returns the fields that `manager` owns by server-side apply. The map's keys are paths as in `managedFields`, which
/// name an item of a list by its merge keys.
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

/// Collects the owned fields below `tree`. `keys` are the merge keys that identify `live` in its list, and they are
/// left out: with another value the item would be another one, and the edited item would remain, because the editor
/// owns it.
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

/// Returns the item of a list that has all these merge keys, with its index.
fn find_item<'a>(list: &'a Value, keys: &str) -> Option<(usize, &'a Value)> {
    let keys = parse_keys(keys);
    let mut items = list.as_array()?.iter().enumerate();
    items.find(|(_, item)| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

/// Replacements for words of an enumeration: another valid word of the same field.
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

/// Returns other values that a field with this value may accept, the likeliest first. Which of them are valid, the API
/// server decides.
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
            // For a name a longer name; for a quantity a larger quantity.
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
