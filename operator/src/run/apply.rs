//! Writes to the API server: server-side apply of objects that differ, deletion of objects that are not wanted any
//! more, and nothing else.
//!
//! Writes are answered late or never if somebody's admission webhook hangs. So all writes of a kind pause after one
//! that was not answered, and the writes of a look end after [`WRITES_TIMEOUT`]: the next look writes the rest.
//!
//! An object is applied if the live one lacks a field of ours, or was applied from a text other than today's (its
//! annotation [`APPLIED_HASH_ANNOTATION`] has the hash of the text). So nothing is written at rest, whoever leads, and
//! a field that is not wanted any more is given up. No decision is based on a store that does not show our own last
//! write yet. An object that had nothing to be written is compared again only if it, or what is wanted, has changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::cache::{
    FIELD_MANAGER, HANDOVER_FIELD_MANAGER, LiveObject, is_applied_by_operator, is_writable_for,
};
use super::compared::EqualObjects;
use super::contest::{self, RepairHistory};
use super::lanes::RequestLimit;
use super::metrics::OperatorMetrics;
use super::store::{CachedObject, ClusterKey, ClusterStore};
use super::subset::first_difference;
use crate::build::{Component, Kind, WantedObject, names};

/// The annotation with the hash of the text that an object was applied from.
pub const APPLIED_HASH_ANNOTATION: &str = "liverank.dev/applied";
/// The time limit of one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a refused write, doubled by each that follows up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after refused writes: somebody may have raised a quota or changed a policy meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The longest pause if somebody else uses the object's name: the operator gets no event when that object is deleted.
const LONGEST_NAME_CONFLICT_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause of a kind whose writes hang: everything of that kind waits for one write.
const LONGEST_HUNG_KIND_PAUSE: Duration = Duration::from_mins(1);
/// The time limit of all writes of one reconcile together.
const WRITES_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest text of a refusal that is shown in a condition, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// A write that the API server refused, or that was not sent because another object is in the way; with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedObject {
    /// The reason for conditions, one of a fixed set of words.
    pub reason: &'static str,
    /// The object, and the API server's message.
    pub message: String,
}

/// The kind and the name of an object, which identify an object of one cluster.
type ObjectName = (Kind, String);

/// A write that the watch has to show before a decision is based on its store.
enum AwaitedWrite {
    Version(String),
    Gone { uid: Box<str> },
}

struct Backoff {
    refusal: RefusedObject,
    hash: String,
    /// The uid of the object that existed when the write was refused: if it is deleted, there is no reason to wait.
    seen_when_refused: Option<Box<str>>,
    tries: u32,
    retry_at: Instant,
}

impl Backoff {
    /// Returns whether the same write still has to wait. A write with another text, to another object of the same name, or
    /// after the object was deleted, counts as another write.
    fn must_wait(&self, hash: &str, seen: Option<&str>, now: Instant) -> bool {
        self.hash == hash && self.seen_when_refused.as_deref() == seen && now < self.retry_at
    }
}

/// The pause in the writes of a kind, after writes of that kind were not answered.
struct HungKind {
    tries: u32,
    hung_until: Instant,
}

/// The writer of one cluster's objects, with its memory of earlier writes.
pub struct Applier {
    client: Client,
    cluster: ClusterKey,
    uid: String,
    metrics: OperatorMetrics,
    request_limit: RequestLimit,
    awaited_objects: HashMap<ObjectName, (AwaitedWrite, Instant)>,
    backoff: HashMap<ObjectName, Backoff>,
    hung_kinds: HashMap<Kind, HungKind>,
    /// The hash of the text that each object was last applied from.
    applied_hashes: HashMap<ObjectName, String>,
    repair_history: RepairHistory<ObjectName>,
    /// The objects that had nothing to be written when they were last compared.
    equal_objects: EqualObjects<ObjectName>,
    /// Number of live objects that were parsed and compared.
    comparison_count: u64,
    /// The time at which the writes of the present round end.
    look_deadline: Instant,
    /// Whether the present round passed its deadline before everything was written.
    deadline_passed: bool,
    /// Whether the present round left out objects of a kind whose writes hang.
    hung_kind_skipped: bool,
    /// The objects that the API server (or a webhook) stores in another form than they were sent, with the hash of what
    /// was sent. While the stored form stays the same, sending it again would change nothing.
    stored_differently: HashMap<ObjectName, (String, Value)>,
    /// The objects that were handled since [`Applier::begin_round`].
    seen_this_round: HashSet<ObjectName>,
}

/// The stores of all kinds of objects that the operator makes.
pub type Stores = HashMap<Kind, Arc<ClusterStore<LiveObject>>>;

impl Applier {
    /// Creates the writer for the cluster `uid`.
    pub fn new(
        client: Client,
        request_limit: RequestLimit,
        cluster: ClusterKey,
        uid: String,
        metrics: OperatorMetrics,
    ) -> Self {
        let (awaited, backoff, hung_kinds, applied_hashes, stored_differently, seen_this_round) =
            Default::default();
        Self {
            client,
            cluster,
            uid,
            metrics,
            request_limit,
            awaited_objects: awaited,
            backoff,
            hung_kinds,
            applied_hashes,
            repair_history: RepairHistory::default(),
            equal_objects: EqualObjects::default(),
            comparison_count: 0,
            look_deadline: Instant::now(),
            deadline_passed: false,
            hung_kind_skipped: false,
            stored_differently,
            seen_this_round,
        }
    }

    /// Returns for how long the stores have not shown a write of this operator; `None` if they show all its writes. An
    /// object whose last write is not shown is left alone until it is.
    pub fn stores_behind_for(&mut self, stores: &Stores) -> Option<Duration> {
        let cluster = &self.cluster;
        self.awaited_objects.retain(|(kind, name), (awaited, _)| {
            let Some(store) = stores.get(kind).filter(|store| store.is_listed()) else { return false };
            match awaited {
                AwaitedWrite::Version(version) => !store.has_seen(&cluster.namespace, version),
                AwaitedWrite::Gone { uid } => {
                    store.get(cluster, name).is_some_and(|live| live.uid == *uid && !live.deleting)
                }
            }
        });
        // A kind that may not be installed delays nothing.
        let waited = self.awaited_objects.iter().filter(|((kind, _), _)| !kind.is_optional());
        waited.map(|(_, (_, since))| since.elapsed()).max()
    }

    /// Returns the refused writes, each with its reason, sorted by object.
    pub fn refusals(&self) -> Vec<RefusedObject> {
        let mut all: Vec<_> = self.backoff.iter().collect();
        all.sort_by_key(|(name, _)| *name);
        all.into_iter().map(|(_, backoff)| backoff.refusal.clone()).collect()
    }

    /// Returns the fields that somebody else writes, too, each with the object and the other writers.
    pub fn contested_fields(&self) -> Vec<String> {
        self.repair_history.describe_contested(Instant::now())
    }

    /// Returns the time of the next retry: of a refused write, of a contested field, or of a kind whose writes hang.
    pub fn next_retry(&self) -> Option<Instant> {
        let refused = self.backoff.values().map(|backoff| backoff.retry_at);
        let hung = self.hung_kinds.values().map(|hung| hung.hung_until).filter(|_| self.hung_kind_skipped);
        let rest = self.deadline_passed.then_some(self.look_deadline);
        refused.chain(hung).chain(rest).chain(self.repair_history.next_due(Instant::now())).min()
    }

    /// Returns whether the last round left objects unwritten that are not among the refusals.
    pub const fn is_unfinished(&self) -> bool {
        self.deadline_passed || self.hung_kind_skipped
    }

    /// Returns how many live objects were parsed so far to compare them.
    pub const fn comparison_count(&self) -> u64 {
        self.comparison_count
    }

    /// Applies an object if it differs from the live one and nothing makes it wait. `listed` says whether the watch of
    /// its kind has listed.
    pub async fn apply_if_different(
        &mut self,
        object: &WantedObject,
        live: Option<&Arc<LiveObject>>,
        listed: bool,
    ) {
        let name = (object.kind, object.name.to_string());
        let hash = &*object.hash;
        self.seen_this_round.insert(name.clone());
        if self.awaited_objects.contains_key(&name) {
            // The store does not show the last write yet.
            return;
        }
        let written = self.applied_hashes.get(&name).is_some_and(|written| written == hash);
        if !listed && written {
            // The watch does not tell whether the object still exists.
            return;
        }
        let Some(path) = self.missing_path(&name, object, live) else { return };
        let live = live.map(|live| &**live);
        let now = Instant::now();
        if self.is_waiting(&name, hash, live) {
            return;
        }
        if self.repair_history.repair_waits_until(&name, now).is_some() || !self.may_write(name.0, now) {
            return;
        }
        if written {
            let about = self.describe_contested_field(&name, &path).await;
            self.repair_history.note_repair(&name, about, now);
        }
        let result = self.write_object(object, live).await;
        match result {
            Ok(version) => {
                self.hung_kinds.remove(&name.0);
                self.backoff.remove(&name);
                self.applied_hashes.insert(name.clone(), hash.to_owned());
                self.awaited_objects.insert(name, (AwaitedWrite::Version(version), Instant::now()));
            }
            Err(refused) => self.back_off(name, hash.to_owned(), refused, live),
        }
    }

    /// Describes an object's contested field, and its other writers. The other writers are only looked up if the field
    /// was repaired before: where nobody else writes, no request is sent.
    async fn describe_contested_field(&self, name: &ObjectName, path: &str) -> String {
        let what = format!("{} {}: {path}", kind_name(name.0), name.1);
        if !self.repair_history.is_suspicious(name) {
            return what;
        }
        let api = self.api_of_kind(name.0);
        let found = self.request_limit.run(timeout(WRITE_TIMEOUT, api.get_opt(&name.1))).await;
        let writers = match flatten_timeout(found) {
            Ok(Some(found)) => contest::other_writers(found.managed_fields(), path),
            Ok(None) => return format!("{what} is deleted again and again"),
            Err(_) => Vec::new(),
        };
        if writers.is_empty() {
            return format!("{what} is changed again and again");
        }
        format!("{what} is also written by {}", writers.join(", "))
    }

    /// Deletes an object of the operator that is not wanted any more, if the object did not change since the watch
    /// showed it.
    pub async fn delete_object(&mut self, kind: Kind, live: &LiveObject) {
        let name: ObjectName = (kind, live.name().to_owned());
        self.seen_this_round.insert(name.clone());
        if self.awaited_objects.contains_key(&name) || self.is_waiting(&name, "delete", Some(live)) {
            return;
        }
        if !self.may_write(kind, Instant::now()) {
            return;
        }
        let preconditions = Preconditions {
            uid: Some(live.uid.to_string()),
            resource_version: Some(live.resource_version.to_string()),
        };
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let api = self.api_of_kind(kind);
        let result = flatten_timeout(
            self.request_limit.run(timeout(WRITE_TIMEOUT, api.delete(&name.1, &parameters))).await,
        );
        tracing::info!(cluster = %self.cluster, kind = kind_name(kind), name = name.1, ok = result.is_ok(), "delete");
        self.metrics.count_write(kind_name(kind), "delete");
        match result {
            Ok(_) => {
                self.backoff.remove(&name);
                self.applied_hashes.remove(&name);
                self.awaited_objects
                    .insert(name, (AwaitedWrite::Gone { uid: live.uid.clone() }, Instant::now()));
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            // The object has changed meanwhile: the next look decides anew.
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => {
                let refused = self.note_refusal(&name, &error);
                self.back_off(name, "delete".into(), refused, Some(live));
            }
        }
    }

    /// Restores the labels of a reader's Deployment that the watch does not show. Returns whether the Deployment has
    /// the labels again; a refused write must not delay other writes. Other fields are repaired once the watch shows
    /// the Deployment.
    pub async fn restore_labels(&mut self, reader: &str) -> bool {
        let api = self.api_of_kind(Kind::Deployment);
        let found = self.request_limit.run(timeout(WRITE_TIMEOUT, api.get_opt(reader))).await;
        let found = flatten_timeout(found).ok().flatten();
        let ours =
            |found: &DynamicObject| self.is_owner(found) && found.metadata.deletion_timestamp.is_none();
        if !found.as_ref().is_some_and(ours) {
            return false;
        }
        let labels = names::object_labels(&self.cluster.name, Some(Component::Reader), Some(reader));
        let name: ObjectName = (Kind::Deployment, reader.to_owned());
        let body = json!({"metadata": {"labels": labels}});
        tracing::warn!(cluster = %self.cluster, reader, "somebody changed the labels that a reader is known by");
        let Ok(seen) = self.send(&api, &name, FIELD_MANAGER, Patch::Merge(body)).await else { return false };
        let version = seen.metadata.resource_version.unwrap_or_default();
        self.awaited_objects.insert(name, (AwaitedWrite::Version(version), Instant::now()));
        true
    }

    /// Begins a round, in which all objects of the cluster are handled.
    pub fn begin_round(&mut self) {
        self.seen_this_round.clear();
        self.look_deadline = Instant::now() + WRITES_TIMEOUT;
        (self.deadline_passed, self.hung_kind_skipped) = (false, false);
    }

    /// Ends the round and forgets the notes on objects that were not handled in it.
    pub fn finish_round(&mut self) {
        self.backoff.retain(|name, _| self.seen_this_round.contains(name));
        self.stored_differently.retain(|name, _| self.seen_this_round.contains(name));
        self.applied_hashes.retain(|name, _| self.seen_this_round.contains(name));
        self.equal_objects.retain(|name| self.seen_this_round.contains(name));
    }

    /// Returns whether the round has time left and the writes of this kind do not hang.
    fn may_write(&mut self, kind: Kind, now: Instant) -> bool {
        let cut = now >= self.look_deadline;
        let hangs = self.hung_kinds.get(&kind).is_some_and(|hung| now < hung.hung_until);
        self.deadline_passed |= cut;
        self.hung_kind_skipped |= hangs;
        !cut && !hangs
    }

    fn is_waiting(&self, name: &ObjectName, hash: &str, live: Option<&LiveObject>) -> bool {
        let backoff = self.backoff.get(name);
        backoff.is_some_and(|backoff| backoff.must_wait(hash, live.map(|live| &*live.uid), Instant::now()))
    }

    /// Returns the path of a field that `object` has and the live object lacks or has otherwise; `None` if there is
    /// none.
    fn missing_path(
        &mut self,
        name: &ObjectName,
        object: &WantedObject,
        live: Option<&Arc<LiveObject>>,
    ) -> Option<String> {
        let Some(live) = live else { return Some("the object itself".to_owned()) };
        if live.our_annotation(APPLIED_HASH_ANNOTATION) != Some(&*object.hash) {
            return Some(format!("metadata.annotations.{APPLIED_HASH_ANNOTATION}"));
        }
        if self.equal_objects.contains(name, &object.hash, live) {
            return None;
        }
        self.comparison_count += 1;
        let body = live.to_value();
        let found = first_difference(kind_name(object.kind), &object.body(), &body);
        let settled = self.stored_differently.get(name).filter(|(sent, _)| **sent == *object.hash);
        let Some(path) = found.filter(|_| settled.is_none_or(|(_, usual)| *usual != body)) else {
            self.equal_objects.insert(name.clone(), &object.hash, live);
            return None;
        };
        tracing::info!(cluster = %self.cluster, kind = kind_name(object.kind), name = name.1, path, "somebody changed what is ours");
        Some(path)
    }

    async fn write_object(
        &mut self,
        object: &WantedObject,
        live: Option<&LiveObject>,
    ) -> Result<String, RefusedObject> {
        let name: ObjectName = (object.kind, object.name.to_string());
        self.expect_ours(&name, live).await?;
        let api = self.api_of_kind(object.kind);
        let wanted = object.body();
        let gives_replicas = object.kind == Kind::Deployment && object.replicas.is_none();
        if let Some(live) = live.filter(|live| gives_replicas && live.owns_replicas) {
            // A field that its only owner drops gets its default, which is 1: another field manager has to own it
            // meanwhile.
            let held = json!({
                "apiVersion": wanted["apiVersion"], "kind": wanted["kind"],
                "metadata": {"name": name.1}, "spec": {"replicas": live.replicas},
            });
            self.send_patch(&api, &name, HANDOVER_FIELD_MANAGER, held).await?;
        }
        if let Some(cleared) = live.and_then(|live| patch_to_clear_first(&wanted, live)) {
            self.send(&api, &name, FIELD_MANAGER, Patch::Merge(cleared)).await?;
        }
        let mut body = wanted.clone();
        body["metadata"]["annotations"][APPLIED_HASH_ANNOTATION] = json!(object.hash);
        let written = self.send_patch(&api, &name, FIELD_MANAGER, body).await?;
        let version = written.metadata.resource_version.clone().unwrap_or_default();
        let body = LiveObject::from_watched(written).map(|live| live.to_value()).unwrap_or_default();
        if let Some(path) = first_difference(kind_name(name.0), &wanted, &body) {
            tracing::debug!(cluster = %self.cluster, name = name.1, path, "the API server has its own way with this field");
            self.stored_differently.insert(name, (object.hash.to_string(), body));
        } else {
            self.stored_differently.remove(&name);
        }
        Ok(version)
    }

    /// Returns an error if an object of this name exists that the operator may not write. Writes are forced, so that
    /// only this check keeps foreign objects from being overwritten.
    async fn expect_ours(&self, name: &ObjectName, live: Option<&LiveObject>) -> Result<(), RefusedObject> {
        let taken = |what: &str| RefusedObject {
            reason: "NameTaken",
            message: format!("{} {} {what}", kind_name(name.0), name.1),
        };
        match live {
            // The watch shows the end of its deletion, and the write is then tried at once.
            Some(live) if live.deleting => Err(RefusedObject {
                reason: "BeingDeleted",
                ..taken("is being deleted: it is made anew when it is gone")
            }),
            Some(live) if live.is_writable_for(&self.uid) => Ok(()),
            Some(LiveObject { controller_uid: Some(_), .. }) => {
                Err(taken("belongs to another object: rename or delete that one"))
            }
            Some(_) => Err(taken("exists and is not ours: rename or delete it")),
            None => {
                let api = self.api_of_kind(name.0);
                let found = flatten_timeout(
                    self.request_limit.run(timeout(WRITE_TIMEOUT, api.get_opt(&name.1))).await,
                );
                let found = found.map_err(|error| self.note_refusal(name, &error))?;
                if found.is_none_or(|found| self.may_write_over(&found)) {
                    Ok(())
                } else {
                    Err(taken("exists and is not ours: rename or delete it"))
                }
            }
        }
    }

    fn is_owner(&self, object: &DynamicObject) -> bool {
        object.metadata.owner_references.iter().flatten().any(|owner| owner.uid == self.uid)
    }

    /// Returns whether an object that the watch does not show may be written; [`LiveObject::is_writable_for`] is the
    /// same check for objects that the watch shows.
    fn may_write_over(&self, object: &DynamicObject) -> bool {
        let controller = object.owner_references().iter().find(|it| it.controller == Some(true));
        let controller = controller.map(|it| it.uid.as_str());
        is_writable_for(&self.uid, controller, is_applied_by_operator(object.managed_fields()))
    }

    async fn send_patch(
        &self,
        api: &Api<DynamicObject>,
        name: &ObjectName,
        manager: &str,
        body: Value,
    ) -> Result<DynamicObject, RefusedObject> {
        self.send(api, name, manager, Patch::Apply(body)).await
    }

    async fn send(
        &self,
        api: &Api<DynamicObject>,
        name: &ObjectName,
        manager: &str,
        patch: Patch<Value>,
    ) -> Result<DynamicObject, RefusedObject> {
        let parameters = PatchParams::apply(manager);
        let parameters = if matches!(patch, Patch::Apply(_)) { parameters.force() } else { parameters };
        let sent = self.request_limit.run(timeout(WRITE_TIMEOUT, api.patch(&name.1, &parameters, &patch)));
        let result = flatten_timeout(sent.await);
        self.metrics.count_write(kind_name(name.0), "apply");
        tracing::info!(cluster = %self.cluster, kind = kind_name(name.0), name = name.1, manager, ok = result.is_ok(), "apply");
        result.map_err(|error| self.note_refusal(name, &error))
    }

    fn note_refusal(&self, name: &ObjectName, error: &kube::Error) -> RefusedObject {
        let (reason, said) = classify_error(error);
        self.metrics.count_failure(reason);
        let said: String = said.chars().take(MAX_TEXT_CHARS).collect();
        RefusedObject { reason, message: format!("{} {}: {said}", kind_name(name.0), name.1) }
    }

    fn back_off(
        &mut self,
        name: ObjectName,
        hash: String,
        refusal: RefusedObject,
        live: Option<&LiveObject>,
    ) {
        let seen: Option<Box<str>> = live.map(|live| live.uid.clone());
        let before =
            self.backoff.get(&name).filter(|before| before.hash == hash && before.seen_when_refused == seen);
        let tries = before.map_or(0, |before| before.tries);
        if before.is_none_or(|before| before.refusal != refusal) {
            tracing::warn!(cluster = %self.cluster, reason = refusal.reason, refusal.message, "refused");
        }
        if refusal.reason == UNANSWERED {
            let tries = self.hung_kinds.get(&name.0).map_or(0, |hung| hung.tries);
            let until = Instant::now() + pause_after_tries(tries, LONGEST_HUNG_KIND_PAUSE);
            self.hung_kinds.insert(name.0, HungKind { tries: tries + 1, hung_until: until });
        }
        let longest = if refusal.reason == "NameTaken" { LONGEST_NAME_CONFLICT_PAUSE } else { LONGEST_PAUSE };
        let until = Instant::now() + pause_after_tries(tries, longest);
        self.backoff.insert(
            name,
            Backoff { refusal, hash, seen_when_refused: seen, tries: tries + 1, retry_at: until },
        );
    }

    fn api_of_kind(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.cluster.namespace, &kind.api_resource())
    }
}

/// Returns a patch that has to be sent before `wanted` can be applied to `live`; `None` if nothing is in the way.
/// Server-side apply keeps fields of others, but a Deployment with strategy `Recreate` must not have somebody's
/// `rollingUpdate`.
fn patch_to_clear_first(wanted: &Value, live: &LiveObject) -> Option<Value> {
    const ROLLING_UPDATE_PATH: &str = "/spec/strategy/rollingUpdate";
    let recreated = wanted.pointer("/spec/strategy/type").is_some_and(|kind| kind == "Recreate");
    let is_in_the_way =
        recreated && live.to_value().pointer(ROLLING_UPDATE_PATH).is_some_and(|it| !it.is_null());
    is_in_the_way.then(|| {
        json!({
            "metadata": {"resourceVersion": &*live.resource_version},
            "spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}},
        })
    })
}

/// Returns the pause after `tries` failed tries, with a random part so that not all objects are tried at one time.
fn pause_after_tries(tries: u32, longest: Duration) -> Duration {
    liverank_core::backoff::wait_after_failures(tries, FIRST_PAUSE, longest)
        .mul_f64(rand::random_range(0.8..1.0))
}

/// Returns a kind's name, for logs, messages and metrics.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::ServiceAccount => "ServiceAccount",
        Kind::ConfigMap => "ConfigMap",
        Kind::Service => "Service",
        Kind::NetworkPolicy => "NetworkPolicy",
        Kind::PodDisruptionBudget => "PodDisruptionBudget",
        Kind::Deployment => "Deployment",
        Kind::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        Kind::Ingress => "Ingress",
        Kind::HttpRoute => "HTTPRoute",
        Kind::ServiceMonitor => "ServiceMonitor",
    }
}

/// The reason of a write that was not answered in time.
const UNANSWERED: &str = "NoAnswer";

fn flatten_timeout<T>(result: Result<kube::Result<T>, tokio::time::error::Elapsed>) -> kube::Result<T> {
    result.unwrap_or_else(|late| Err(kube::Error::Service(Box::new(late))))
}

/// Returns the reason for a condition and the message of the error.
fn classify_error(error: &kube::Error) -> (&'static str, String) {
    if let kube::Error::Service(error) = error
        && error.is::<tokio::time::error::Elapsed>()
    {
        let seconds = WRITE_TIMEOUT.as_secs();
        return (
            UNANSWERED,
            format!("no answer in {seconds} s; where the API server is well, an admission webhook hangs"),
        );
    }
    let kube::Error::Api(status) = error else {
        return ("ApiUnavailable", liverank_runtime::peer::root_cause(error));
    };
    let said = &status.message;
    let reason = match status.code {
        409 => "ApplyConflict",
        403 if said.contains("exceeded quota") => "QuotaExceeded",
        403 if said.contains("is being terminated") => "NamespaceTerminating",
        403 if said.contains("is forbidden: User") => "Forbidden",
        404 => "KindMissing",
        429 | 500.. => "ApiUnavailable",
        _ => "ApplyRefused",
    };
    (reason, said.clone())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_wait_ends_with_its_cause() {
        let now = Instant::now();
        let refusal = RefusedObject { reason: "BeingDeleted", message: String::new() };
        let until = now + LONGEST_PAUSE;
        let backoff = Backoff {
            refusal,
            hash: "text".into(),
            seen_when_refused: Some("old".into()),
            tries: 9,
            retry_at: until,
        };
        assert!(backoff.must_wait("text", Some("old"), now));
        assert!(!backoff.must_wait("text", None, now), "the object that was in the way is gone");
        assert!(!backoff.must_wait("text", Some("new"), now));
        assert!(!backoff.must_wait("other", Some("old"), now), "somebody corrected the resource");
        assert!(!backoff.must_wait("text", Some("old"), until));
    }

    #[test]
    fn each_refusal_has_a_reason_of_its_own() {
        let of = |code, message: &str| {
            classify_error(&kube::Error::Api(Status::failure(message, "").with_code(code).boxed())).0
        };
        assert_eq!(of(409, "conflict with \"kubectl\""), "ApplyConflict");
        assert_eq!(of(403, "pods \"x\" is forbidden: exceeded quota: q, requested"), "QuotaExceeded");
        assert_eq!(of(403, "deployments is forbidden: User \"op\" cannot patch"), "Forbidden");
        assert_eq!(
            of(403, "unable to create new content in namespace x because it is being terminated"),
            "NamespaceTerminating"
        );
        assert_eq!(of(403, "admission webhook \"w\" denied the request: no"), "ApplyRefused");
        assert_eq!(of(422, "Deployment.apps \"x\" is invalid"), "ApplyRefused");
        assert_eq!(of(503, "away"), "ApiUnavailable");
        assert_eq!(classify_error(&kube::Error::Service("refused".into())).0, "ApiUnavailable");
    }
}
