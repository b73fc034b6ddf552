//! The `CustomResourceDefinition` that serves v1alpha1 and v1beta1.
//!
//! `kubectl apply` keeps a definition in an annotation of at most 262,144 bytes, and two whole versions are 355 KB. So
//! v1alpha1 has no descriptions there, and leaves the parts of pods open that are of Kubernetes' own types or lists of
//! containers and volumes; [`crate::validate`] tells their typing errors. v1beta1 has all of that, but for descriptions of
//! what is inside of containers and volumes.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::convert::Version;
use super::schema::schema_of_v1beta1;
use crate::crd::definition::{definition, to_yaml};
use crate::crd::schema::without_descriptions;

/// The Service of the webhook that converts resources between versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookService {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
}

/// The HTTP path at which the webhook converts resources between versions.
pub const CONVERT_PATH: &str = "/convert";

/// The members of pods that v1alpha1 leaves open. Resources are not among them, because a rule reads them.
const OPEN_MEMBERS: [&str; 9] = [
    "containerSecurityContext",
    "envFrom",
    "hostAliases",
    "initContainers",
    "securityContext",
    "sidecars",
    "tolerations",
    "topologySpread",
    "volumes",
];
/// The lists in a pod's settings that v1alpha1 leaves open, each with the one member of its items that stays declared,
/// because a rule reads it.
const READ_BY_RULES: [(&str, &str); 2] = [("env", "name"), ("volumeMounts", "mountPath")];
/// The members of a pod's spec whose items have no descriptions in v1beta1.
const UNDESCRIBED_MEMBERS: [&str; 4] = ["imagePullSecrets", "initContainers", "sidecars", "volumes"];

/// Returns the definition that serves v1alpha1 and v1beta1. v1alpha1 is the version that is stored; the webhook behind
/// `service` converts.
pub fn definition_of_both(service: &WebhookService) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(definition()).expect("a definition is JSON");
    let spec = &mut value["spec"];
    let mut newer = spec["versions"][0].clone();
    newer["name"] = json!(Version::V1beta1.name());
    newer["storage"] = json!(false);
    // The API server (1.36) refuses versions with the same selectable fields and different schemas: it takes them for one
    // list of the whole definition, which then has no schema.
    let selectable = newer["selectableFields"].as_array_mut().expect("a version has selectable fields");
    selectable.push(json!({ "jsonPath": ".spec.reconciliation" }));
    let schema = &mut newer["schema"]["openAPIV3Schema"];
    *schema = schema_of_v1beta1(schema);
    shorten_v1beta1(schema);
    shorten_v1alpha1(&mut spec["versions"][0]["schema"]["openAPIV3Schema"]);
    spec["versions"].as_array_mut().expect("a definition has versions").push(newer);
    spec["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": { "service": {
                "namespace": service.namespace, "name": service.name, "path": CONVERT_PATH, "port": 443,
            } },
        },
    });
    serde_json::from_value(value).expect("a definition of both versions is one")
}

/// Returns the definition of both versions as YAML.
pub fn definition_of_both_yaml(service: &WebhookService) -> String {
    to_yaml(&definition_of_both(service))
}

/// The schema of a spec of v1alpha1 in the definition of both versions: fewer members are declared than in the
/// definition of v1alpha1 alone.
pub static OPEN_SPEC_SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let alone = serde_json::to_value(definition()).expect("a definition is JSON");
    let mut schema = alone["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    shorten_v1alpha1(&mut schema);
    schema["properties"]["spec"].take()
});

/// Calls `change` with the schema of the members of each component's pod; `name` is the name of the pod's field in the
/// version.
fn change_pod_schemas(root: &mut Value, name: &str, change: impl Fn(&mut Value)) {
    let components = root["properties"]["spec"]["properties"].as_object_mut();
    for component in components.into_iter().flat_map(|all| all.values_mut()) {
        if let Some(pod) = component.pointer_mut(&format!("/properties/{name}/properties")) {
            change(pod);
        }
    }
}

fn shorten_v1alpha1(root: &mut Value) {
    without_descriptions(root);
    change_pod_schemas(root, "pod", |pod| {
        for member in OPEN_MEMBERS {
            allow_unknown_fields(&mut pod[member]);
        }
        for (member, read_by_rule) in READ_BY_RULES {
            let kept = pod[member]["items"]["properties"][read_by_rule].take();
            allow_unknown_fields(&mut pod[member]);
            pod[member]["items"]["properties"] = json!({ read_by_rule: kept });
            pod[member]["items"]["required"] = json!([read_by_rule]);
        }
    });
}

/// Changes the schema of an object, or of a list's items, to allow unknown fields. The member `name`, by which a list
/// of maps is merged, stays declared.
fn allow_unknown_fields(schema: &mut Value) {
    let mut inside = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    if schema["type"] != "array" {
        *schema = inside;
        return;
    }
    if schema["x-kubernetes-list-type"] == "map" {
        inside["required"] = json!(["name"]);
        inside["properties"] = json!({ "name": schema["items"]["properties"]["name"] });
    }
    schema["items"] = inside;
}

fn shorten_v1beta1(root: &mut Value) {
    change_pod_schemas(root, "podTemplate", |template| {
        for member in UNDESCRIBED_MEMBERS {
            without_descriptions(&mut template["spec"]["properties"][member]["items"]);
        }
    });
}
