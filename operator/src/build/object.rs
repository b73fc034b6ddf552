//! One object as it is applied, and what the runtime asks of it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{ApiResource, GroupVersionKind};
use liverank_core::comment::to_hex;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strum::{EnumCount, VariantArray};

use super::{Component, names, scope};

/// The kinds of objects that a cluster is made of, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, VariantArray)]
pub enum Kind {
    /// Whom the pods run as.
    ServiceAccount,
    /// Configuration.
    ConfigMap,
    /// Names and addresses.
    Service,
    /// Who may reach whom.
    NetworkPolicy,
    /// How many pods may be evicted at a time.
    PodDisruptionBudget,
    /// Pods.
    Deployment,
    /// How many pods.
    HorizontalPodAutoscaler,
    /// The way in.
    Ingress,
    /// The way in, by the Gateway API.
    HttpRoute,
    /// What Prometheus scrapes.
    ServiceMonitor,
}

impl Kind {
    /// All of them, in that order: what pods need is there before them.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Whether a Kubernetes cluster may lack it: nothing waits for its watch.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::HttpRoute | Self::ServiceMonitor)
    }

    /// Group, version, kind and plural.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
            Self::Ingress => ApiResource::erase::<Ingress>(&()),
            Self::HttpRoute => foreign_api_resource("gateway.networking.k8s.io", "HTTPRoute", "httproutes"),
            Self::ServiceMonitor => {
                foreign_api_resource("monitoring.coreos.com", "ServiceMonitor", "servicemonitors")
            }
        }
    }
}

fn foreign_api_resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}

/// An object as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The kind of the object.
    pub kind: Kind,
    /// Its name; the namespace is the cluster's.
    pub name: String,
    /// Whose it is; `None` where it belongs to all components.
    pub component: Option<Component>,
    /// The reader it belongs to, where it belongs to one alone.
    pub reader: Option<String>,
    /// All that is applied, with apiVersion and kind.
    pub body: Value,
}

impl Object {
    /// Writes `body` as the API server will store it.
    pub(super) fn as_stored_by_server(
        kind: Kind,
        name: String,
        component: Option<Component>,
        reader: Option<String>,
        mut body: Value,
    ) -> Self {
        canonicalise(&mut body);
        Self { kind, name, component, reader, body }
    }

    /// An object from its typed form.
    pub(super) fn of<T: Serialize>(kind: Kind, name: &str, component: Option<Component>, typed: &T) -> Self {
        Self::as_stored_by_server(kind, name.to_owned(), component, None, scope::to_json(typed))
    }

    /// An object of one reader, called as the reader is.
    pub(super) fn of_reader<T: Serialize>(kind: Kind, reader: &str, typed: &T) -> Self {
        let reader = reader.to_owned();
        Self::as_stored_by_server(
            kind,
            reader.clone(),
            Some(Component::Reader),
            Some(reader),
            scope::to_json(typed),
        )
    }

    /// Of a Deployment: hash of the pod template that is wanted. A template has changed where the live object's
    /// [annotation](names::TEMPLATE_HASH) differs; the templates themselves differ by the API server's defaults.
    pub fn template_hash(&self) -> Option<&str> {
        annotation_value(&self.body, names::TEMPLATE_HASH_ANNOTATION)
    }

    /// The same Deployment with the pod template that `live` has: for one whose turn in the roll-out has not come, and
    /// for a reader that is to be replaced, not changed in place. Everything else is still repaired and scaled.
    ///
    /// The live template has the API server's defaults in it; owning them for a while changes nothing, for they come
    /// back when they are dropped again.
    #[must_use]
    pub fn with_template_of(&self, live: &Value) -> Self {
        let mut kept = self.clone();
        let (Some(template), Some(_)) = (live.pointer("/spec/template"), self.template_hash()) else {
            return kept;
        };
        kept.body["spec"]["template"] = template.clone();
        let hash = annotation_value(live, names::TEMPLATE_HASH_ANNOTATION).unwrap_or_default();
        kept.body["metadata"]["annotations"][names::TEMPLATE_HASH_ANNOTATION] = json!(hash);
        canonicalise(&mut kept.body);
        kept
    }
}

/// The value of an annotation of an object in JSON.
pub fn annotation_value<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// Hash of a [canonical](canonicalise) value, as 16 hexadecimal digits: to tell that something changed, not to defend
/// against anybody.
pub(crate) fn hash(value: &Value) -> String {
    to_hex(&Sha256::digest(value.to_string())[..8])
}

/// Writes a value as the API server stores it, its fields in the order of their names. Another crate of a build may turn on
/// that maps keep the order in which they were filled; no hash and no text may depend on that, or another build of the
/// same operator would restart pods.
pub(super) fn canonicalise(value: &mut Value) {
    remove_nulls_and_empties(value);
    value.sort_all_objects();
}

/// Maps that the API server leaves out when they are empty. An empty selector means everything, and stays.
const FIELDS_LEFT_OUT_IF_EMPTY: [&str; 7] =
    ["matchLabels", "nodeSelector", "annotations", "labels", "requests", "limits", "data"];

/// Takes out what the API server does not store: nulls, empty lists and empty maps.
fn remove_nulls_and_empties(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_nulls_and_empties);
            fields.retain(|field, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(entries) => {
                    !(entries.is_empty() && FIELDS_LEFT_OUT_IF_EMPTY.contains(&field.as_str()))
                }
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls_and_empties),
        _ => {}
    }
}
