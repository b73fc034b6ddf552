//! Compares a live object with the wanted one, as server-side apply would: foreign fields may exist, and so may foreign
//! entries of keyed lists; lists and maps that apply treats as one value must be equal.

use serde_json::Value;

/// Maps that server-side apply treats as one value: an additional key in a Service's selector would disconnect the
/// Service from its pods.
const WHOLE_VALUE_MAPS: [&str; 4] = ["selector", "nodeSelector", "podSelector", "matchLabels"];

/// The fields with an object's kind, which the API server leaves out of the items of lists.
const KIND_FIELDS: [&str; 2] = ["apiVersion", "kind"];

/// Returns the path of a field of `wanted` that `live` lacks or has with another value; `None` if nothing has to be
/// written.
pub fn first_difference(kind: &str, wanted: &Value, live: &Value) -> Option<String> {
    let fields =
        wanted.as_object().into_iter().flatten().filter(|(name, _)| !KIND_FIELDS.contains(&name.as_str()));
    fields.into_iter().find_map(|(name, value)| {
        let other = live.get(name).unwrap_or(&Value::Null);
        first_difference_reversed(kind, name, value, other).map(|mut path| {
            path.push(name.clone());
            path.reverse();
            path.join(".")
        })
    })
}

/// Returns the path of the first difference as [`first_difference`] finds it, as its names from the last to the first.
fn first_difference_reversed(kind: &str, field: &str, wanted: &Value, live: &Value) -> Option<Vec<String>> {
    let inside = |name: String, found: Option<Vec<String>>| {
        found.map(|mut path| {
            path.push(name);
            path
        })
    };
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            if WHOLE_VALUE_MAPS.contains(&field) && live.keys().any(|name| !wanted.contains_key(name)) {
                return Some(Vec::new());
            }
            wanted.iter().find_map(|(name, value)| {
                let other = live.get(name).unwrap_or(&Value::Null);
                inside(name.clone(), first_difference_reversed(kind, name, value, other))
            })
        }
        (Value::Array(wanted), Value::Array(live)) => {
            let keys = keys_of(kind, field);
            if keys.is_empty() && wanted.len() != live.len() {
                return Some(Vec::new());
            }
            wanted.iter().enumerate().find_map(|(at, value)| {
                let other = if keys.is_empty() { live.get(at) } else { find_item(live, value, keys) };
                inside(
                    at.to_string(),
                    first_difference_reversed(kind, "", value, other.unwrap_or(&Value::Null)),
                )
            })
        }
        _ => (!is_same(wanted, live)).then(Vec::new),
    }
}

fn find_item<'a>(items: &'a [Value], wanted: &Value, keys: &[&str]) -> Option<&'a Value> {
    items.iter().find(|item| keys.iter().all(|key| key_of(item, key) == key_of(wanted, key)))
}

/// Returns the keys by which server-side apply merges the items of a list; empty for lists that it does not merge. Only
/// kinds that the operator writes are known.
fn keys_of(kind: &str, field: &str) -> &'static [&'static str] {
    match (kind, field) {
        (_, "ownerReferences") => &["uid"],
        ("Deployment", "containers" | "initContainers" | "env" | "volumes")
        | ("Deployment" | "ServiceAccount", "imagePullSecrets") => &["name"],
        ("Deployment", "volumeMounts") => &["mountPath"],
        ("Deployment", "ports") => &["containerPort", "protocol"],
        ("Deployment", "topologySpreadConstraints") => &["topologyKey", "whenUnsatisfiable"],
        ("Service", "ports") => &["port", "protocol"],
        _ => &[],
    }
}

/// Returns the value of one merge key of a list's item, as text and as number; a missing protocol counts as TCP.
fn key_of<'a>(item: &'a Value, key: &str) -> (Option<&'a str>, Option<i64>) {
    match item.get(key) {
        None if key == "protocol" => (Some("TCP"), None),
        value => (value.and_then(Value::as_str), value.and_then(Value::as_i64)),
    }
}

/// Returns whether two values are equal or both empty: the API server leaves out empty values.
fn is_same(wanted: &Value, live: &Value) -> bool {
    wanted == live || (live.is_null() && is_nothing(wanted))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(_) | Value::Bool(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: &str, wanted: &Value, live: &Value, expected: Option<&str>) {
        assert_eq!(first_difference(kind, wanted, live).as_deref(), expected, "{wanted} in {live}");
    }

    #[test]
    fn foreign_fields_are_no_difference_and_ours_are() {
        let wanted = json!({"spec": {"replicas": 2, "template": {"labels": {"a": "b"}}}});
        let live =
            json!({"spec": {"replicas": 2, "template": {"labels": {"a": "b", "c": "d"}}, "paused": true}});
        check("Deployment", &wanted, &live, None);
        check("Deployment", &wanted, &json!({"spec": {"replicas": 3}}), Some("spec.replicas"));
        let live = json!({"spec": {"replicas": 2, "template": {"labels": {}}}});
        check("Deployment", &wanted, &live, Some("spec.template.labels.a"));
    }

    #[test]
    fn keyed_lists_are_compared_by_key_and_others_as_a_whole() {
        let wanted =
            json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}]});
        let live = json!({"containers": [
            {"name": "sidecar"}, {"name": "a", "image": "x", "env": [{"name": "J"}, {"name": "K", "value": "1"}]}
        ]});
        check("Deployment", &wanted, &live, None);
        let edited =
            json!({"containers": [{"name": "a", "image": "y", "env": [{"name": "K", "value": "1"}]}]});
        check("Deployment", &wanted, &edited, Some("containers.0.image"));
        let without = json!({"containers": [{"name": "a", "image": "x", "env": []}]});
        check("Deployment", &wanted, &without, Some("containers.0.env.0"));
        check("Deployment", &json!({"args": ["a"]}), &json!({"args": ["a", "b"]}), Some("args"));
        check("Deployment", &json!({"args": ["a", "b"]}), &json!({"args": ["b", "a"]}), Some("args.0"));
    }

    #[test]
    fn what_is_keyed_depends_on_the_kind() {
        let wanted = json!({"ports": [{"port": 1}]});
        let more = json!({"ports": [{"port": 2, "protocol": "TCP"}, {"port": 1, "protocol": "TCP"}]});
        check("Service", &wanted, &more, None);
        check("NetworkPolicy", &wanted, &more, Some("ports"));
        let other = json!({"ports": [{"port": 1, "protocol": "UDP"}]});
        check("Service", &wanted, &other, Some("ports.0"));
    }

    #[test]
    fn a_selector_is_one_value_and_empty_is_absent() {
        let wanted = json!({"selector": {"a": "b"}});
        check("Service", &wanted, &json!({"selector": {"a": "b", "stray": "x"}}), Some("selector"));
        check("Service", &wanted, &json!({"selector": {"a": "c"}}), Some("selector.a"));
        check("Deployment", &json!({"a": {}, "b": [], "c": null, "d": {"e": {}}, "f": ""}), &json!({}), None);
        check("Deployment", &json!({"a": false}), &json!({}), Some("a"));
        check(
            "Deployment",
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "a": 1}),
            &json!({"a": 1}),
            None,
        );
    }
}
