//! From a `RankingCluster` to all its objects: a pure function, so that what a change does can be asked before it is
//! made.
//!
//! | module | makes |
//! |---|---|
//! | [`component`] | the parts of a cluster, and the order in which they are rolled out |
//! | [`names`] | names, labels, annotations |
//! | `config`, `secrets`, `tls` | each component's settings |
//! | `identity` | who each pod is to the others |
//! | `pod`, `extras`, `lifetime`, `spread` | pods, what users add to them, how they end, and where they run |
//! | `workload` | Deployments, autoscalers, budgets |
//! | `network`, `exposure` | Services, policies, and the way in |
//! | [`object`], `quantity` | objects as the API server stores them |
//!
//! Values are written as the API server stores them, so that what is wanted is a part of the live object when nothing is
//! to be done, and can be compared with it without asking the API server.

pub mod component;
mod config;
mod exposure;
mod extras;
mod identity;
mod lifetime;
pub mod names;
mod network;
pub mod object;
mod pod;
pub(crate) mod quantity;
mod scope;
mod secrets;
mod shared;
mod spread;
mod tls;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use component::{ADMIN_PORT, Component, Store};
pub use object::{Kind, Object};
use scope::Scope;

use crate::crd::{RankingCluster, RankingClusterSpec};

/// The newest revision of the pod templates that this builder writes. It is counted up whenever a template or a
/// configuration file changes for an unchanged spec; clusters stay at the one they have until their spec changes.
pub const CURRENT_REVISION: u32 = 3;

/// All that a cluster's objects depend on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The resource, with its name, namespace and uid.
    pub cluster: &'a RankingCluster,
    /// The builder's revision in force for it.
    pub revision: u32,
    /// The readers there are to be, those on their way out too.
    pub readers: &'a [Reader],
    /// What the cluster's objects say of the operator.
    pub operator: &'a OperatorFacts,
}

/// The operator, as far as its clusters need to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorFacts {
    /// Where it runs.
    pub namespace: String,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// Its `ServiceAccount`, as whom it gives orders.
    pub service_account: String,
    /// The public keys of the API server's tokens (a JSON Web Key Set), and who issues them (its member `issuer`); empty
    /// where they are not known yet.
    pub keys: String,
    /// Whether the platform gives pods their user ids, where the resource does not say.
    pub platform_user: bool,
}

/// A reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its name: of its Deployment and Service, and its id at the managers.
    pub name: String,
    /// Set while it is being emptied.
    pub drain: Option<Drain>,
}

/// That a reader is being emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// The reason.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// All objects of a cluster, in the order in which they are to be applied: what pods need first, Deployments in the
/// order of roll-out. The same input gives the same objects, each kind and name once.
pub fn desired_objects(input: &Input<'_>) -> Vec<Object> {
    let scope = Scope::of(input);
    let readers: &[Reader] = if Component::Reader.is_enabled(scope.spec) { input.readers } else { &[] };
    let not_readers = || scope.components().filter(|component| *component != Component::Reader);

    let mut objects = identity::service_accounts(scope, readers);
    objects.extend(scope.components().map(|component| shared::config_map(scope, component)));
    objects.push(identity::public_keys_config_map(scope));
    objects.extend(not_readers().map(|component| network::service(scope, component)));
    objects.extend(readers.iter().map(|reader| network::reader_service(scope, &reader.name)));
    if scope.spec.network_policy.enabled {
        objects.extend(scope.components().map(|component| network::network_policy(scope, component)));
    }
    objects.extend(scope.components().map(|component| workload::disruption_budget(scope, component)));
    for component in scope.components() {
        if component == Component::Reader {
            objects.extend(readers.iter().map(|reader| workload::reader_deployment(scope, reader)));
        } else {
            objects.push(workload::component_deployment(scope, component));
        }
    }
    objects.extend(scope.components().filter_map(|component| workload::autoscaler(scope, component)));
    objects.extend(exposure::gateway_ingress(scope));
    objects.extend(readers.iter().filter_map(|reader| exposure::reader_ingress(scope, &reader.name)));
    if scope.spec.monitoring.service_monitor {
        objects.push(shared::service_monitor(scope));
    }
    objects
}

/// Whether an annotation of an object is the builder's and none that somebody asked for.
pub fn is_own_annotation(key: &str, value: &str) -> bool {
    let own = exposure::STREAM_ANNOTATIONS.iter().chain(&tls::TLS_BACKEND_ANNOTATIONS);
    key.starts_with(names::OUR_PREFIX) || own.into_iter().any(|annotation| *annotation == (key, value))
}

/// The hash of the pod template that every reader is to have ([`names::TEMPLATE_HASH`]).
pub fn reader_template_hash(input: &Input<'_>) -> String {
    pod::template_hash(Scope::of(input), Component::Reader)
}

/// The components whose pods a change of the spec restarts. One that is switched on or off does not count: it starts or
/// ends.
pub fn restarted_components(old: &RankingClusterSpec, new: &RankingClusterSpec) -> BTreeSet<Component> {
    let operator = OperatorFacts::default();
    let [old, new] = [old, new].map(|spec| RankingCluster {
        metadata: ObjectMeta {
            name: Some("name".to_owned()),
            namespace: Some("namespace".to_owned()),
            uid: Some("uid".to_owned()),
            ..ObjectMeta::default()
        },
        spec: spec.clone(),
        status: None,
    });
    let input = |cluster| Input { cluster, revision: CURRENT_REVISION, readers: &[], operator: &operator };
    components_with_different_templates(&input(&old), &input(&new))
}

/// The components whose pods builder revision `newest` would restart, were it to take the place of `in_force`.
pub fn components_restarted_by_revision(
    cluster: &RankingCluster,
    in_force: u32,
    newest: u32,
    operator: &OperatorFacts,
) -> BTreeSet<Component> {
    let input = |revision| Input { cluster, revision, readers: &[], operator };
    components_with_different_templates(&input(in_force), &input(newest))
}

/// The components that are in both clusters and whose pod templates differ.
fn components_with_different_templates(old: &Input<'_>, new: &Input<'_>) -> BTreeSet<Component> {
    let [old, new] = [old, new].map(Scope::of);
    let differs =
        |component: &Component| pod::template_hash(old, *component) != pod::template_hash(new, *component);
    old.components().filter(|component| component.is_enabled(new.spec)).filter(differs).collect()
}
