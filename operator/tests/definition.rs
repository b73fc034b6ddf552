//! Tests of the definition as it is installed.
#![allow(clippy::unwrap_used, reason = "a test")]

use liverank_operator::crd::{definition, definition_yaml};
use serde_json::Value;

#[path = "definition/reference.rs"]
mod reference;

/// The limit for the definition's size in bytes: `kubectl apply` can annotate 262,144 bytes.
const MAX_BYTES: usize = 200 * 1024;

/// The fields of Kubernetes' own types, whose schemas have no descriptions.
const FOREIGN_FIELDS: [&str; 23] = [
    "affinity",
    "conditions",
    "configMap",
    "containerSecurityContext",
    "csi",
    "emptyDir",
    "env",
    "envFrom",
    "hostAliases",
    "hostPath",
    "ingressFrom",
    "livenessProbe",
    "persistentVolumeClaim",
    "ports",
    "projected",
    "readinessProbe",
    "resources",
    "secret",
    "securityContext",
    "startupProbe",
    "tolerations",
    "topologySpread",
    "volumeMounts",
];

fn printed_schema() -> Value {
    serde_json::to_value(definition()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `see` with the path and schema of each of our fields and of foreign ones, but not of the fields below foreign
/// ones.
fn visit_fields(schema: &Value, path: &str, see: &mut dyn FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        see(&path, field);
        if !FOREIGN_FIELDS.contains(&name.as_str()) {
            visit_fields(field, &path, see);
            visit_fields(&field["items"], &format!("{path}[]"), see);
        }
    }
}

#[test]
fn the_crd_file_is_what_the_command_prints() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/rankingcluster.yaml");
    let printed = definition_yaml();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(file, &printed).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap();
    assert!(
        written == printed,
        "crds/rankingcluster.yaml is not what the types say: liverank-operator crd > crds/rankingcluster.yaml"
    );
}

#[test]
fn the_crd_is_small_enough_to_apply() {
    let bytes = serde_json::to_string(&definition()).unwrap().len();
    assert!(bytes < MAX_BYTES, "{bytes} bytes");
}

#[test]
fn each_field_of_ours_is_explained_and_no_other() {
    let (mut ours, mut mute) = (0, Vec::new());
    for part in ["spec", "status"] {
        visit_fields(&printed_schema()["properties"][part], part, &mut |path, field| {
            ours += 1;
            if field["description"].as_str().is_none_or(|text| text.len() < 5) {
                mute.push(path.to_owned());
            }
        });
    }
    assert!(mute.is_empty(), "no description: {mute:?}");
    assert!(ours > 150, "only {ours} fields were looked at");
    let spread = &printed_schema()["properties"]["spec"]["properties"]["readers"]["properties"]["pod"]["properties"]
        ["topologySpread"]["items"];
    assert!(spread["properties"]["labelSelector"].is_object());
    let words = spread["properties"].to_string().matches("\"description\":\"").count();
    assert_eq!(words, 0, "descriptions in a foreign schema");
}

#[test]
fn every_string_list_and_map_is_bounded() {
    let mut unbounded = Vec::new();
    let mut look = |path: &str, field: &Value| {
        let bound = match field["type"].as_str() {
            Some("string") => ["maxLength", "enum"].iter().any(|key| !field[key].is_null()),
            Some("array") => !field["maxItems"].is_null(),
            Some("object") if field["properties"].is_null() && field["additionalProperties"].is_object() => {
                !field["maxProperties"].is_null() && !field["additionalProperties"]["maxLength"].is_null()
            }
            Some("integer") => path.starts_with("status") || !field["maximum"].is_null(),
            _ => true,
        };
        if !bound {
            unbounded.push(path.to_owned());
        }
    };
    for part in ["spec", "status"] {
        visit_fields(&printed_schema()["properties"][part], part, &mut look);
    }
    assert!(unbounded.is_empty(), "{unbounded:?}");
}

#[test]
fn no_crd_field_is_a_float_or_nullable() {
    let text = printed_schema().to_string();
    assert!(!text.contains("\"number\""), "a float");
    assert!(!text.contains("nullable"), "a null that would stand in for a default");
}

#[test]
fn the_crd_has_scope_names_subresources_and_columns() {
    let definition = serde_json::to_value(definition()).unwrap();
    let spec = &definition["spec"];
    assert_eq!(definition["metadata"]["name"], "rankingclusters.liverank.dev");
    assert_eq!(spec["scope"], "Namespaced");
    assert_eq!(spec["names"]["shortNames"], serde_json::json!(["rkc"]));
    let version = &spec["versions"][0];
    assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.readers.replicas");
    assert_eq!(version["subresources"]["scale"]["statusReplicasPath"], ".status.readers.replicas");
    assert_eq!(version["subresources"]["scale"]["labelSelectorPath"], ".status.readers.selector");
    assert!(version["subresources"]["status"].is_object());
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Ready", "Readers", "Viewers", "Imbalance", "Mode", "Image", "Reason", "Age"]);
    let wide = columns.iter().filter(|column| column["priority"] == 1).count();
    assert_eq!(wide, 3, "columns of -o wide");
    let selectable = serde_json::json!([{"jsonPath": ".spec.operatorClass"}, {"jsonPath": ".spec.image"}]);
    assert_eq!(version["selectableFields"], selectable);
    for parent in ["gateway", "scoring", "networkPolicy", "manager"] {
        assert_eq!(
            printed_schema()["properties"]["spec"]["properties"][parent]["default"],
            serde_json::json!({}),
            "{parent}"
        );
    }
}
