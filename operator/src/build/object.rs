//! A Kubernetes object as the operator applies it, and its properties that the runtime needs.

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
    /// The `ServiceAccount` as which pods run.
    ServiceAccount,
    /// A configuration file, or the public keys of identities.
    ConfigMap,
    /// A stable name and address of pods.
    Service,
    /// The rules by which pods may connect to each other.
    NetworkPolicy,
    /// The limit on how many pods may be evicted at a time.
    PodDisruptionBudget,
    /// The pods of a component, or of one reader.
    Deployment,
    /// The autoscaler of a component's number of pods.
    HorizontalPodAutoscaler,
    /// The route for viewers from outside the Kubernetes cluster, by an Ingress controller.
    Ingress,
    /// The route for viewers from outside the Kubernetes cluster, by the Gateway API.
    HttpRoute,
    /// The configuration that makes Prometheus scrape the cluster's metrics.
    ServiceMonitor,
}

impl Kind {
    /// All kinds in the order in which they are applied: objects that pods need come before the pods.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Returns whether a Kubernetes cluster may not have this kind at all; the operator does not wait for a watch of
    /// such a kind.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::HttpRoute | Self::ServiceMonitor)
    }

    /// Returns the kind's group, version, kind and plural name at the API server.
    pub fn api_resource(self) -> ApiResource {
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

/// An object as the operator wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The kind of the object.
    pub kind: Kind,
    /// The object's name; its namespace is the cluster's.
    pub name: String,
    /// The component that the object belongs to; `None` if it belongs to all components.
    pub component: Option<Component>,
    /// The reader that the object belongs to; `None` if it does not belong to a single reader.
    pub reader: Option<String>,
    /// The whole object as it is applied, including `apiVersion` and `kind`.
    pub body: Value,
}

impl Object {
    /// Creates an object whose `body` is changed to the form in which the API server stores it.
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

    /// Creates an object from its typed form.
    pub(super) fn of<T: Serialize>(kind: Kind, name: &str, component: Option<Component>, typed: &T) -> Self {
        Self::as_stored_by_server(kind, name.to_owned(), component, None, scope::to_json(typed))
    }

    /// Creates an object of one reader; its name is the reader's.
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

    /// Returns the hash of the pod template that is wanted; `None` if the object is no Deployment. A template has
    /// changed if the live object's [annotation](names::TEMPLATE_HASH_ANNOTATION) differs; the templates themselves
    /// cannot be compared, because the API server adds defaults.
    pub fn template_hash(&self) -> Option<&str> {
        annotation_value(&self.body, names::TEMPLATE_HASH_ANNOTATION)
    }

    /// Returns the same Deployment with the pod template of `live`: for a Deployment whose turn in the roll-out has not
    /// come, and for a reader that is to be replaced, not changed in place. All other fields of the Deployment, with
    /// the number of pods, are still the wanted ones.
    ///
    /// The live template contains the API server's defaults. It does no harm that the operator owns the API server's
    /// defaults for a while: if it drops these fields again, the API server sets them again.
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

/// Returns the value of an annotation of an object in JSON; `None` if the object does not have it.
pub fn annotation_value<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// Returns the hash of a [canonical](canonicalise) value as 16 hexadecimal digits. The hash shows that something
/// changed; it is no protection against an attacker.
pub(crate) fn hash(value: &Value) -> String {
    hash_text(&value.to_string())
}

/// Returns the [hash] of the value whose JSON is `text`.
pub(super) fn hash_text(text: &str) -> String {
    to_hex(&Sha256::digest(text)[..8])
}

/// Returns the place of an object among the objects of its cluster, by which they are sorted: objects of equal places
/// stay in the order in which they were made.
pub(super) fn place_in_order(
    kind: Kind,
    component: Option<Component>,
    is_of_reader: bool,
) -> (Kind, Option<Component>, bool) {
    // Readers' Deployments and their budget are between those of other components.
    let by_component = matches!(kind, Kind::Deployment | Kind::PodDisruptionBudget);
    (kind, component.filter(|_| by_component), is_of_reader)
}

/// Changes a value to the form in which the API server stores it, with fields sorted by name. Sorting is needed because
/// another crate of the build may make maps keep their insertion order; no hash and no text may depend on that, or
/// another build of the same operator would restart pods.
pub(super) fn canonicalise(value: &mut Value) {
    remove_nulls_and_empties(value);
    value.sort_all_objects();
}

/// Map fields that the API server leaves out when they are empty. Empty selectors are kept, because an empty selector
/// selects everything.
const FIELDS_LEFT_OUT_IF_EMPTY: [&str; 7] =
    ["matchLabels", "nodeSelector", "annotations", "labels", "requests", "limits", "data"];

/// Removes what the API server does not store: nulls, empty lists, and the empty maps of `FIELDS_LEFT_OUT_IF_EMPTY`.
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
