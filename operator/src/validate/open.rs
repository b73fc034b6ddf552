//! Finds unknown fields in the parts of a resource that the definition leaves open: usually typing errors, which the
//! API server accepts there. Pure.

use serde_json::Value;

use super::FieldProblem;
use crate::crd::v1beta1::OPEN_SPEC_SCHEMA;

/// Maximal number of unknown fields that are reported of one resource.
const MAX_MEMBERS_REPORTED: usize = 10;

/// Returns the paths of all members in open parts of `given` that `read` does not have; `read` is the same spec after
/// parsing by the operator's types.
pub fn unknown_fields(given: &Value, read: &Value) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    // This operator does not know the schema of a later definition, so that only the parts that are open in its own
    // ones count.
    find_unknown_fields(&OPEN_SPEC_SCHEMA, given, read, "spec", &mut found);
    found.truncate(MAX_MEMBERS_REPORTED);
    found
        .into_iter()
        .map(|path| FieldProblem { path, message: "there is no such field".to_owned() })
        .collect()
}

fn find_unknown_fields(schema: &Value, given: &Value, read: &Value, path: &str, found: &mut Vec<String>) {
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match given {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(_, value)| !is_empty_value(value)) {
                let below = &schema["properties"][name.as_str()];
                let path = format!("{path}.{name}");
                match read.get(name) {
                    Some(read) if open => find_unknown_fields(schema, value, read, &path, found),
                    Some(read) => find_unknown_fields(below, value, read, &path, found),
                    None if open => found.push(path),
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            let below = if open { schema } else { &schema["items"] };
            for (at, value) in items.iter().enumerate() {
                find_unknown_fields(below, value, &read[at], &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

/// Returns whether a value is empty, so that it is left out when the spec is serialised again.
fn is_empty_value(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::RankingClusterSpec;

    /// Returns the problems of a spec with these members of a component's pod.
    fn unknown_fields_of_pod(component: &str, pod: &Value) -> Vec<String> {
        let secret = json!({"name": "a", "key": "b"});
        let mut given = json!({"image": "i:1", "kafka": {"bootstrapServers": "k:1"}, "redis": {"urlSecret": secret},
            "mongodb": {"uriSecret": secret}, "auth": {"enabled": false}, "later": {"field": 1}});
        given[component] = json!({"pod": pod, "laterStill": true});
        let read: RankingClusterSpec = serde_json::from_value(given.clone()).unwrap();
        let problems = unknown_fields(&given, &serde_json::to_value(&read).unwrap());
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unknown_field_in_an_open_part_is_reported_with_its_path() {
        let term = |key: &str| {
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {key: "zone", "labelSelector": {"matchLabels": {"any": "thing"}}, "namespaces": []}]}}})
        };
        assert_eq!(unknown_fields_of_pod("gateway", &term("topologyKey")), [""; 0]);
        let path =
            "pod.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologykey";
        for component in ["gateway", "comment", "readers"] {
            let mut pod = term("topologyKey");
            let terms =
                &mut pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
            terms[0]["topologykey"] = json!("zone");
            assert_eq!(
                unknown_fields_of_pod(component, &pod),
                [format!("spec.{component}.{path}: there is no such field")]
            );
        }
        let sidecar = json!({"sidecars": [{"name": "a", "image": "b", "livenessProbe": {"periodSecond": 3},
            "resources": {"requests": {"cpu": "1"}}, "later": true}]});
        let path = "spec.manager.pod.sidecars[0].livenessProbe.periodSecond";
        // A sidecar itself is open in the definition of both versions.
        let mut told = unknown_fields_of_pod("manager", &sidecar);
        told.sort();
        let later = "spec.manager.pod.sidecars[0].later: there is no such field".to_owned();
        assert_eq!(told, [later, format!("{path}: there is no such field")]);
    }
}
