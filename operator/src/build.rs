//! Makes all Kubernetes objects of a `RankingCluster`. The builder is a pure function, so that the effect of a change
//! can be computed before the change is made.
//!
//! | module | makes |
//! |---|---|
//! | [`component`] | the parts of a cluster, and the order in which they are rolled out |
//! | [`names`] | names, labels, annotations |
//! | `config`, `secrets`, `tls` | each component's settings |
//! | `identity` | the `ServiceAccount`, token and public keys by which each pod identifies itself to the others |
//! | `pod`, `extras`, `lifetime`, `spread` | pods, what users add to them, how they end, and where they run |
//! | `workload` | Deployments, autoscalers, budgets |
//! | `network`, `exposure` | Services, network policies, and the routes for viewers outside the Kubernetes cluster |
//! | [`object`], `quantity` | objects as the API server stores them |
//! | [`wanted`], [`built`] | objects as an actor keeps them from one look to the next |
//!
//! Values are written as the API server stores them. If nothing has to be changed, the wanted object is therefore a
//! subset of the live object, and the two can be compared without a request to the API server.

pub mod built;
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
pub mod wanted;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use built::BuiltObjects;
pub use component::{ADMIN_PORT, Component, Store};
pub use object::{Kind, Object};
use scope::Scope;
pub use wanted::WantedObject;

use crate::crd::{RankingCluster, RankingClusterSpec};

/// The newest revision of the pod templates that this builder writes. The number is increased whenever a template or a
/// configuration file changes for an unchanged spec; a cluster keeps its revision until its spec changes.
pub const CURRENT_REVISION: u32 = 5;

/// The input of the builder: all facts that a cluster's objects depend on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The resource, with its name, namespace and uid.
    pub cluster: &'a RankingCluster,
    /// The builder revision in force for the cluster.
    pub revision: u32,
    /// The readers that the cluster is to have, including those that are being emptied.
    pub readers: &'a [Reader],
    /// The facts about the operator that the cluster's objects contain.
    pub operator: &'a OperatorFacts,
}

/// The facts about the operator that a cluster's objects depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorFacts {
    /// The namespace that the operator runs in.
    pub namespace: String,
    /// The labels of the operator's pods.
    pub labels: BTreeMap<String, String>,
    /// The operator's `ServiceAccount`, as which it sends orders to managers and readers.
    pub service_account: String,
    /// The public keys of the API server's tokens as a JSON Web Key Set, with the issuer of the tokens as its member
    /// `issuer`; empty while the keys are not known yet.
    pub public_keys: String,
    /// Whether the platform assigns the user ids of pods; used if the resource does not set `podUser`.
    pub platform_assigns_user_ids: bool,
}

/// A reader that a cluster is to have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reader {
    /// The reader's name: also the name of its Deployment and Service, and its id at the managers.
    pub name: String,
    /// The drain of the reader; `None` if the reader is not being emptied.
    pub drain: Option<Drain>,
}

/// The reason and the start of a reader's drain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Drain {
    /// The reason why the reader is being emptied.
    pub reason: String,
    /// The time at which the drain began, in RFC 3339.
    pub since: String,
}

/// Returns all objects of a cluster in the order in which they have to be applied: objects that pods need come first,
/// Deployments follow in the order of roll-out. The same input gives the same objects; each kind and name occurs once.
pub fn desired_objects(input: &Input<'_>) -> Vec<Object> {
    let alone = without_readers(input);
    let scope = Scope::of(&alone);
    let mut objects = shared_objects(scope);
    objects.extend(reader_budget(scope, input.readers.len()));
    let template = pod::template_hash(scope, Component::Reader);
    let readers = enabled_readers(input).iter();
    objects.extend(readers.flat_map(|reader| reader_objects(scope, reader, &template)));
    objects
        .sort_by_key(|object| object::place_in_order(object.kind, object.component, object.reader.is_some()));
    objects
}

/// Returns the input without its readers: no object but the readers' disruption budget depends on how many readers there
/// are, and the objects of one reader do not depend on the others.
const fn without_readers<'a>(input: &Input<'a>) -> Input<'a> {
    Input { readers: &[], ..*input }
}

/// Returns the readers of the input; none if the cluster has no readers.
const fn enabled_readers<'a>(input: &Input<'a>) -> &'a [Reader] {
    if Component::Reader.is_enabled(&input.cluster.spec) { input.readers } else { &[] }
}

/// Returns the objects that belong to no single reader, but for [`reader_budget`]; of each kind in their order.
fn shared_objects(scope: Scope<'_>) -> Vec<Object> {
    let not_readers = || scope.components().filter(|component| *component != Component::Reader);
    let mut objects = identity::service_accounts(scope);
    objects.extend(scope.components().map(|component| shared::config_map(scope, component)));
    objects.push(identity::public_keys_config_map(scope));
    objects.extend(not_readers().map(|component| network::service(scope, component)));
    if scope.spec.network_policy.enabled {
        objects.extend(scope.components().map(|component| network::network_policy(scope, component)));
    }
    objects.extend(not_readers().map(|component| workload::disruption_budget(scope, component, 0)));
    objects.extend(not_readers().map(|component| workload::component_deployment(scope, component)));
    objects.extend(scope.components().filter_map(|component| workload::autoscaler(scope, component)));
    objects.extend(exposure::gateway_ingress(scope));
    if scope.spec.monitoring.service_monitor {
        objects.push(shared::service_monitor(scope));
    }
    objects
}

/// Returns the disruption budget of all readers together, of which there are `count`; `None` if the cluster has no
/// readers.
fn reader_budget(scope: Scope<'_>, count: usize) -> Option<Object> {
    let has_readers = Component::Reader.is_enabled(scope.spec);
    has_readers.then(|| workload::disruption_budget(scope, Component::Reader, count))
}

/// Returns the objects of one reader. `template` is the hash of the readers' pod template, which is the same for all
/// readers.
fn reader_objects(scope: Scope<'_>, reader: &Reader, template: &str) -> Vec<Object> {
    let mut objects = vec![
        identity::reader_service_account(scope, &reader.name),
        network::reader_service(scope, &reader.name),
        workload::reader_deployment(scope, reader, template),
    ];
    objects.extend(exposure::reader_ingress(scope, &reader.name));
    objects
}

/// Returns whether an annotation of an object was written by this builder; `false` for an annotation that a user asked
/// for.
pub fn is_own_annotation(key: &str, value: &str) -> bool {
    let own = exposure::STREAM_ANNOTATIONS.iter().chain(&tls::TLS_BACKEND_ANNOTATIONS);
    key.starts_with(names::OUR_PREFIX) || own.into_iter().any(|annotation| *annotation == (key, value))
}

/// Returns the hash of the pod template that every reader is to have ([`names::TEMPLATE_HASH_ANNOTATION`]).
pub fn reader_template_hash(input: &Input<'_>) -> String {
    pod::template_hash(Scope::of(input), Component::Reader)
}

/// Returns the components whose pods are restarted by a change of the spec from `old` to `new`. A component that the
/// change switches on or off is not among them: its pods start or end.
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

/// Returns the components whose pods would restart if builder revision `newest` replaced revision `in_force`.
pub fn components_restarted_by_revision(
    cluster: &RankingCluster,
    in_force: u32,
    newest: u32,
    operator: &OperatorFacts,
) -> BTreeSet<Component> {
    let input = |revision| Input { cluster, revision, readers: &[], operator };
    components_with_different_templates(&input(in_force), &input(newest))
}

/// Returns the components that are in both clusters and whose pod templates differ.
fn components_with_different_templates(old: &Input<'_>, new: &Input<'_>) -> BTreeSet<Component> {
    let [old, new] = [old, new].map(Scope::of);
    let differs =
        |component: &Component| pod::template_hash(old, *component) != pod::template_hash(new, *component);
    old.components().filter(|component| component.is_enabled(new.spec)).filter(differs).collect()
}
