//! The control of one cluster's readers: the state that managers and readers report, the round of decisions
//! ([`crate::readers`], pure), and orders to managers under this leader's term.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use liverank_protocol::{CordonRequest, MoveRequest, OutsideDecision, TermState};
use liverank_runtime::now_ms;
use reqwest::Url;
use tokio::time::sleep;

use super::answer_budget::BudgetedAnswer;
use super::cache::{CachedPod, LiveObject};
use super::leadership::Leadership;
use super::managers::{MAX_MOVES, Managers, RequestRefusal};
use super::store::CachedObject;
use crate::build::{self, Component, names};
use crate::crd::RankingCluster;
use crate::readers::{
    self, DrainReason, ManagerReport, ReaderDrain, ReaderMemory, ReaderSelfReport, ReaderSettings,
    RoundInput, RoundOutcome,
};

/// The time between two renewals of a term: managers' autopilots take over after 15 s without one.
const RENEW_TERM_EVERY: Duration = Duration::from_secs(6);
/// The pause after a term was refused or lost: two planners must not take over from each other at full speed.
const RETRY_TERM_AFTER: Duration = Duration::from_secs(3);

/// The term of this planner that the cluster's managers have accepted.
#[derive(Debug, Clone, Copy)]
struct PlannerTerm {
    term: u64,
    renewed_at: Instant,
}

/// The client of one cluster's managers and readers in one period of leadership: it queries their load, decides about
/// readers, and sends orders.
pub struct ReaderController {
    managers: Managers,
    leadership: Arc<Leadership>,
    memory: ReaderMemory,
    manager_reports: BTreeMap<String, BudgetedAnswer<ManagerReport>>,
    self_reports: HashMap<String, ReaderSelfReport>,
    /// Readers that have to be queried for their own number of viewers.
    readers_to_ask: Vec<String>,
    /// Whether the next query needs all assignments.
    needs_assignments: bool,
    /// Number of queries of the managers so far, which selects the manager that is queried for all assignments.
    query_count: usize,
    /// The manager that answered the last query; orders are sent to it.
    last_answering_manager: Option<Url>,
    /// The other managers that answered the last query. The last decisions are sent to them, too, because any manager
    /// may be queried for them.
    other_managers: Vec<Url>,
    /// The last decisions, the latest first.
    decisions: Vec<OutsideDecision>,
    /// Whether the last decisions have been sent to the managers.
    are_decisions_sent: bool,
    term: Option<PlannerTerm>,
    next_term_not_before: Instant,
    /// The last problem with the managers, which is reported, and logged once; `None` if they answer.
    trouble: Option<String>,
}

/// The input of a round of decisions, apart from the reports of managers and readers.
pub struct RoundFacts<'a> {
    /// The `RankingCluster`, as it is in force.
    pub cluster: &'a RankingCluster,
    /// The hash of the pod template that readers are to have.
    pub template: &'a str,
    /// The reason why readers may not be replaced yet; `None` if they may.
    pub upgrade_held_reason: Option<&'a str>,
    /// Whether the cluster hibernates and it is the readers' turn to end.
    pub hibernates: bool,
    /// All Deployments of the cluster.
    pub deployments: &'a [Arc<LiveObject>],
    /// All pods of the cluster.
    pub pods: &'a [Arc<CachedPod>],
}

impl ReaderController {
    /// Creates the controller of a leader that has just begun.
    pub fn new(managers: Managers, leadership: Arc<Leadership>, memory: ReaderMemory) -> Self {
        let now = Instant::now();
        Self {
            managers,
            leadership,
            memory,
            manager_reports: BTreeMap::new(),
            self_reports: HashMap::new(),
            readers_to_ask: Vec::new(),
            needs_assignments: true,
            query_count: 0,
            last_answering_manager: None,
            other_managers: Vec::new(),
            decisions: Vec::new(),
            are_decisions_sent: true,
            term: None,
            next_term_not_before: now,
            trouble: None,
        }
    }

    /// Queries managers and readers for their state, and decides the next steps.
    pub async fn ask_and_decide(&mut self, facts: &RoundFacts<'_>) -> RoundOutcome {
        self.managers.set_tls(facts.cluster.spec.tls.as_ref());
        self.fetch_loads(&own_manager_pods(facts)).await;
        self.ask_readers(facts).await;
        if let Some(manager) = self.last_answering_manager.clone() {
            self.keep_term(&manager).await;
        }
        // The reports are moved into the input and back: a copy of them would take memory that nothing counts.
        let (managers, rooms): (Vec<_>, Vec<_>) = std::mem::take(&mut self.manager_reports)
            .into_values()
            .map(|BudgetedAnswer { answer, reserved_memory }| (answer, reserved_memory))
            .unzip();
        let seen = self.collect_round_input(facts, managers);
        let outcome = readers::decide_round(&seen, &mut self.memory);
        let reports = seen.managers.into_iter().zip(rooms);
        self.manager_reports = reports
            .map(|(answer, reserved_memory)| {
                (answer.manager.clone(), BudgetedAnswer { answer, reserved_memory })
            })
            .collect();
        self.readers_to_ask.clone_from(&outcome.readers_to_ask);
        self.needs_assignments = outcome.needs_assignments;
        outcome
    }

    /// Queries every manager for its load, and one of them, in turn, for the assignments. Every manager has the same
    /// assignments, and each such answer takes memory of the budget while other answers wait for theirs.
    async fn fetch_loads(&mut self, pods: &[(String, String)]) {
        let managers = self.managers.manager_addresses(pods);
        let at = now_ms();
        let detailed = self.needs_assignments.then(|| self.query_count % managers.len().max(1));
        self.query_count = self.query_count.wrapping_add(1);
        let asked = managers.iter().enumerate();
        let answers =
            join_all(asked.map(|(at, (_, url))| self.managers.fetch_load(url, detailed == Some(at)))).await;
        if !managers.is_empty() {
            // The report of a removed manager is dropped; a manager that does not answer keeps its last report, with
            // its time.
            self.manager_reports.retain(|name, _| managers.iter().any(|(manager, _)| manager == name));
        }
        self.last_answering_manager = None;
        self.other_managers.clear();
        let mut trouble = None;
        for ((manager, url), answer) in managers.into_iter().zip(answers) {
            match answer {
                Ok(load) => {
                    if self.last_answering_manager.is_none() {
                        self.last_answering_manager = Some(url);
                    } else {
                        self.other_managers.push(url);
                    }
                    let report = load.map(|load| ManagerReport { manager: manager.clone(), at, load });
                    self.manager_reports.insert(manager, report);
                }
                Err(refusal) => {
                    self.leadership.metrics.count_failure("manager");
                    trouble = Some(format!("the manager {manager} does not say its load: {refusal}"));
                }
            }
        }
        self.note_trouble(trouble.filter(|_| self.last_answering_manager.is_none()));
    }

    /// Queries the readers in [`Self::readers_to_ask`] that have a pod for the number of their own viewers.
    async fn ask_readers(&mut self, facts: &RoundFacts<'_>) {
        let at = now_ms();
        let asked =
            self.readers_to_ask.iter().filter_map(|name| Some((name, own_reader_address(facts, name)?)));
        let managers = &self.managers;
        let answers =
            asked.map(|(reader, ip)| async move { (reader, managers.fetch_viewers(reader, ip).await) });
        let answers = join_all(answers).await;
        self.self_reports.retain(|reader, _| self.readers_to_ask.contains(reader));
        for (reader, answer) in answers {
            match answer {
                Ok(viewers) => {
                    self.self_reports.insert(reader.clone(), ReaderSelfReport { viewers, at });
                }
                Err(refusal) => tracing::debug!(reader, %refusal, "a reader does not say its viewers"),
            }
        }
    }

    /// Begins a term if this planner has none, or renews its term if a renewal is due.
    async fn keep_term(&mut self, manager: &Url) {
        let now = Instant::now();
        let result = match self.term {
            Some(term)
                if self.are_decisions_sent && now.duration_since(term.renewed_at) < RENEW_TERM_EVERY =>
            {
                return;
            }
            None if now < self.next_term_not_before => return,
            Some(term) => self.renew_term(manager, term.term).await,
            None => {
                self.managers
                    .begin_term(manager, &self.leadership.identity, &self.leadership.held_lease)
                    .await
            }
        };
        match result {
            Ok(state) => {
                if self.term.is_none_or(|term| term.term != state.term) {
                    tracing::info!(%manager, term = state.term, "in office at the managers");
                }
                let begun_before = self.term.is_some();
                self.term = Some(PlannerTerm { term: state.term, renewed_at: now });
                if begun_before {
                    self.inform_other_managers(state.term).await;
                }
            }
            Err(refusal) => self.handle_refusal(refusal).await,
        }
    }

    async fn renew_term(&self, manager: &Url, term: u64) -> Result<TermState, RequestRefusal> {
        let office = &self.leadership;
        self.managers.renew_term(manager, &office.identity, &office.held_lease, term, &self.decisions).await
    }

    /// Tells the other managers the last decisions, with another renewal of the term. A manager that does not receive
    /// the decisions now receives them at the next renewal.
    async fn inform_other_managers(&mut self, term: u64) {
        if !self.decisions.is_empty() {
            let told =
                join_all(self.other_managers.iter().map(|manager| self.renew_term(manager, term))).await;
            for refusal in told.into_iter().filter_map(Result::err) {
                tracing::debug!(%refusal, "a manager was not told what was decided");
            }
        }
        self.are_decisions_sent = true;
    }

    /// Notes the last decisions, the latest first. The next renewal of the term sends the decisions to the managers.
    pub fn note_decisions(&mut self, decisions: Vec<OutsideDecision>) {
        if decisions != self.decisions {
            self.decisions = decisions;
            self.are_decisions_sent = false;
        }
    }

    /// Runs `work`, and renews the planner's term at the managers meanwhile.
    pub async fn renew_term_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        // Both are on the heap: an actor would hold them on its own for as long as a look takes.
        let (work, renewing) = (Box::pin(work), Box::pin(self.keep_renewing_term()));
        tokio::select! {
            biased;
            done = work => done,
            never = renewing => match never {},
        }
    }

    /// Renews the planner's term at the managers again and again. Never returns.
    async fn keep_renewing_term(&mut self) -> Infallible {
        loop {
            let due = self
                .term
                .map_or(RENEW_TERM_EVERY, |term| RENEW_TERM_EVERY.saturating_sub(term.renewed_at.elapsed()));
            sleep(due.max(RETRY_TERM_AFTER)).await;
            if let Some(manager) = self.last_answering_manager.clone() {
                self.keep_term(&manager).await;
            }
        }
    }

    /// Handles a manager's refusal: if the planner's term is over, checks whether another process leads.
    async fn handle_refusal(&mut self, refusal: RequestRefusal) {
        self.leadership.metrics.count_failure("order");
        if let RequestRefusal::TermOver(_) = refusal {
            self.term = None;
            self.next_term_not_before = Instant::now() + RETRY_TERM_AFTER;
            self.leadership.check_still_leading().await;
        }
        self.note_trouble(Some(format!("the managers do not do what is ordered: {refusal}")));
    }

    fn note_trouble(&mut self, trouble: Option<String>) {
        match (&self.trouble, &trouble) {
            (None, Some(trouble)) => tracing::warn!(trouble, "managers"),
            (Some(_), None) => tracing::info!("managers answer again"),
            _ => {}
        }
        self.trouble = trouble;
    }

    /// Sends cordons to a manager. A cordon that cannot be sent becomes a step again in the next round.
    pub async fn send_cordons(&mut self, cordons: Vec<CordonRequest>) {
        let (Some(manager), Some(term)) = (self.last_answering_manager.clone(), self.term) else { return };
        let result = self
            .managers
            .send_cordons(&manager, &self.leadership.held_lease, term.term, cordons)
            .await
            .map(drop);
        self.note_order_result(result).await;
    }

    /// Sends move orders to a manager.
    pub async fn send_moves(&mut self, mut moves: Vec<MoveRequest>) {
        let (Some(manager), Some(term)) = (self.last_answering_manager.clone(), self.term) else { return };
        moves.truncate(MAX_MOVES);
        match self.managers.send_moves(&manager, &self.leadership.held_lease, term.term, moves).await {
            // The orders do not fit the present state any more: the next plan is made from that state.
            Err(RequestRefusal::Refused { detail, .. }) => tracing::debug!(detail, "no move was taken"),
            result => self.note_order_result(result).await,
        }
    }

    async fn note_order_result(&mut self, result: Result<(), RequestRefusal>) {
        match result {
            Ok(()) => {
                self.leadership.metrics.accepted_orders.inc();
                if let Some(term) = &mut self.term {
                    term.renewed_at = Instant::now();
                }
            }
            Err(refusal) => self.handle_refusal(refusal).await,
        }
    }

    fn collect_round_input(&self, facts: &RoundFacts<'_>, managers: Vec<ManagerReport>) -> RoundInput {
        let cluster = facts.cluster.name();
        let is_reader = |live: &&Arc<LiveObject>| names::reader_number(cluster, live.name()).is_some();
        let pods = newest_pods_of_readers(facts.pods);
        let pod_of = |live: &LiveObject| pods.get(live.name()).copied();
        let readers = facts.deployments.iter().filter(is_reader);
        let readers = readers.map(|live| self.observed_reader(live, pod_of(live)));
        RoundInput {
            now: now_ms(),
            cluster: cluster.to_owned(),
            settings: ReaderSettings {
                hibernates: facts.hibernates,
                ..ReaderSettings::of(&facts.cluster.spec)
            },
            template: facts.template.to_owned(),
            held: facts.upgrade_held_reason.map(str::to_owned),
            readers: readers.collect(),
            orphans: orphaned_readers(facts.deployments, facts.pods),
            approved: approved_plans(facts.cluster),
            managers,
        }
    }

    fn observed_reader(&self, live: &LiveObject, pod: Option<&CachedPod>) -> readers::ObservedReader {
        let drain = live.our_annotation(names::DRAIN_ANNOTATION).map(|why| ReaderDrain {
            why: DrainReason::parse(why),
            since: live
                .our_annotation(names::DRAIN_SINCE_ANNOTATION)
                .and_then(|since| since.parse::<Timestamp>().ok())
                .map(Timestamp::as_millisecond),
        });
        readers::ObservedReader {
            name: live.name().to_owned(),
            uid: live.uid.to_string(),
            template: live.our_annotation(names::TEMPLATE_HASH_ANNOTATION).unwrap_or_default().to_owned(),
            created: live.created,
            deleting: live.deleting,
            drain,
            pod: pod.map(|pod| readers::ReaderPod {
                ready: pod.ready,
                since: pod.ready_changed_at,
                terminating: pod.terminating,
                unschedulable: pod.unschedulable.is_some(),
                node: pod.node.as_deref().map(str::to_owned),
                zone: pod.zone.as_deref().map(str::to_owned),
                reason: pod.unschedulable.as_deref().or(pod.trouble.as_deref()).map(str::to_owned),
            }),
            own: self.self_reports.get(live.name()).copied(),
        }
    }
}

/// Returns the newest pod of each reader by the reader's name; of a reader with several pods one that does not end.
fn newest_pods_of_readers(pods: &[Arc<CachedPod>]) -> HashMap<&str, &CachedPod> {
    let mut newest: HashMap<&str, &CachedPod> = HashMap::new();
    for pod in pods {
        let Some(reader) = pod.reader.as_deref() else { continue };
        let known = newest.entry(reader).or_insert(pod);
        if (!pod.terminating, pod.created) >= (!known.terminating, known.created) {
            *known = pod;
        }
    }
    newest
}

/// Returns the names and addresses of the managers' ready pods, for requests with the operator's token. The pods have
/// to belong to the managers' Deployment, and the Deployment to the cluster: labels alone would let anybody who may
/// create a pod receive the token.
fn own_manager_pods(facts: &RoundFacts<'_>) -> Vec<(String, String)> {
    let name = names::component_object_name(facts.cluster.name(), Component::Manager);
    if !has_own_deployment(facts, &name) {
        return Vec::new();
    }
    let is_manager = |pod: &&Arc<CachedPod>| {
        *pod.component == *Component::Manager.name()
            && pod.is_of_deployment(&name)
            && pod.ready
            && !pod.terminating
    };
    let address = |pod: &Arc<CachedPod>| Some((pod.name().to_owned(), pod.ip.as_deref()?.to_owned()));
    facts.pods.iter().filter(is_manager).filter_map(address).collect()
}

/// Returns the address of a reader's own pod; of two pods, the one that does not terminate. `None` if the reader has no
/// pod.
fn own_reader_address<'a>(facts: &RoundFacts<'a>, reader: &str) -> Option<&'a str> {
    if !has_own_deployment(facts, reader) {
        return None;
    }
    let own = facts.pods.iter().filter(|pod| pod.is_of_deployment(reader) && pod.ip.is_some());
    own.max_by_key(|pod| (!pod.terminating, pod.created))?.ip.as_deref()
}

/// Returns whether the cluster has a Deployment of this name that the cluster's resource controls. A Deployment that
/// the operator only once applied may be written, but its pods get no token: anybody who may create Deployments can
/// name the operator as the one who applied them.
fn has_own_deployment(facts: &RoundFacts<'_>, name: &str) -> bool {
    let uid = facts.cluster.uid();
    facts.deployments.iter().any(|live| live.name() == name && live.controller_uid.as_deref() == Some(uid))
}

/// Maximal number of approved plans that are read from the annotation: few plans wait at the same time.
const MAX_APPROVED: usize = 8;

/// Returns the names of the plans that the resource's annotation approves.
fn approved_plans(cluster: &RankingCluster) -> BTreeSet<String> {
    let said = cluster.metadata.annotations.as_ref().and_then(|all| all.get(names::APPROVE_ANNOTATION));
    let ids = said.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    ids.filter(|id| !id.is_empty()).take(MAX_APPROVED).map(str::to_owned).collect()
}

/// Returns the readers that exist, in the builder's form. A reader whose deletion has begun is left out.
pub fn existing_readers(cluster: &str, deployments: &[Arc<LiveObject>]) -> Vec<build::Reader> {
    let is_reader =
        |live: &&Arc<LiveObject>| names::reader_number(cluster, live.name()).is_some() && !live.deleting;
    let reader = |live: &Arc<LiveObject>| build::Reader {
        name: live.name().to_owned(),
        drain: live.our_annotation(names::DRAIN_ANNOTATION).map(|reason| build::Drain {
            reason: reason.to_owned(),
            since: live.our_annotation(names::DRAIN_SINCE_ANNOTATION).unwrap_or_default().to_owned(),
        }),
    };
    deployments.iter().filter(is_reader).map(reader).collect()
}

/// Returns the names of readers that have pods but no visible Deployment; the value is `true` if one of the pods was
/// not told to end.
fn orphaned_readers(deployments: &[Arc<LiveObject>], pods: &[Arc<CachedPod>]) -> BTreeMap<String, bool> {
    let mut orphans = BTreeMap::new();
    for pod in pods {
        if let Some(reader) = pod.reader.as_deref() {
            *orphans.entry(reader.to_owned()).or_default() |= !pod.terminating;
        }
    }
    for live in deployments {
        orphans.remove(live.name());
    }
    orphans
}

/// Returns the names of readers that have running pods but no visible Deployment, because its labels were edited.
pub fn lost_readers(deployments: &[Arc<LiveObject>], pods: &[Arc<CachedPod>]) -> BTreeSet<String> {
    orphaned_readers(deployments, pods)
        .into_iter()
        .filter_map(|(reader, runs)| runs.then_some(reader))
        .collect()
}

/// Converts a drain to the builder's form.
pub fn drain_to_build(drain: &ReaderDrain) -> build::Drain {
    let since = drain.since.and_then(|at| Timestamp::from_millisecond(at).ok());
    build::Drain {
        reason: drain.why.as_str().to_owned(),
        since: since.map(|at| at.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster() -> RankingCluster {
        serde_yaml::from_str(include_str!("../../tests/build/clusters/minimal.yaml")).unwrap()
    }

    fn deployment(name: &str, owner: &str) -> Arc<LiveObject> {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
            "name": name, "namespace": "tv", "uid": "d", "resourceVersion": "1",
            "labels": {names::INSTANCE_LABEL: "live"},
            "ownerReferences": [{"apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster", "name": "live",
                "uid": owner, "controller": true}]}});
        Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    fn pod(component: Component, name: &str, ip: &str, owners: &Value) -> Arc<CachedPod> {
        let object = json!({"spec": {}, "metadata": {"name": name, "namespace": "tv", "ownerReferences": owners,
                "labels": {names::INSTANCE_LABEL: "live", names::COMPONENT_LABEL: component.name(),
                    "pod-template-hash": "abc12"}},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}});
        Arc::new(CachedPod::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    fn set(name: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "r", "controller": true}])
    }

    fn facts<'a>(
        cluster: &'a RankingCluster,
        deployments: &'a [Arc<LiveObject>],
        pods: &'a [Arc<CachedPod>],
    ) -> RoundFacts<'a> {
        RoundFacts { cluster, template: "", upgrade_held_reason: None, hibernates: false, deployments, pods }
    }

    #[test]
    fn orders_go_to_pods_of_the_clusters_own_managers_only() {
        let manager = |name: &str, owners: &Value| pod(Component::Manager, name, "10.0.0.1", owners);
        let pods = [
            manager("own", &set("live-manager-abc12")),
            manager("of-another", &set("theirs-abc12")),
            manager("by-hand", &json!([])),
        ];
        let cluster = cluster();
        let reached = |deployments: &[Arc<LiveObject>]| -> Vec<String> {
            let pods = own_manager_pods(&facts(&cluster, deployments, &pods));
            pods.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(reached(&[deployment("live-manager", cluster.uid())]), ["own"]);
        let others = [deployment("live-manager", "other")];
        assert!(reached(&others).is_empty(), "the Deployment is somebody else's");
        assert!(reached(&[]).is_empty());
    }

    #[test]
    fn a_reader_stands_where_its_newest_pod_is_that_does_not_end() {
        let pod = |name: &str, reader: &str, created: &str, ends: Option<&str>| {
            let object = json!({"spec": {}, "status": {}, "metadata": {"name": name, "namespace": "tv",
                "creationTimestamp": created, "deletionTimestamp": ends, "labels": {names::INSTANCE_LABEL: "live",
                    names::COMPONENT_LABEL: "reader", names::READER_LABEL: reader}}});
            Arc::new(CachedPod::from_watched(serde_json::from_value(object).unwrap()).unwrap())
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let pods = [
            pod("a", "r-0", late, None),
            pod("b", "r-0", early, None),
            pod("c", "r-1", early, None),
            pod("d", "r-1", late, Some(late)),
            pod("e", "r-2", late, Some(late)),
        ];
        let newest = newest_pods_of_readers(&pods);
        let name = |reader: &str| newest.get(reader).map(|pod| pod.name());
        assert_eq!(["r-0", "r-1", "r-2", "r-3"].map(name), [Some("a"), Some("c"), Some("e"), None]);
    }

    #[test]
    fn a_reader_is_asked_at_its_own_pod_only() {
        let reader = |ip: &str, owners: &Value| pod(Component::Reader, ip, ip, owners);
        let (foreign, own) =
            (reader("10.0.0.1", &json!([])), reader("10.0.0.2", &set("live-reader-0-abc12")));
        let cluster = cluster();
        let mine = [deployment("live-reader-0", cluster.uid())];
        let both = [Arc::clone(&foreign), own, Arc::clone(&foreign)];
        let asked = |deployments: &[Arc<LiveObject>], pods: &[Arc<CachedPod>]| {
            own_reader_address(&facts(&cluster, deployments, pods), "live-reader-0").map(str::to_owned)
        };
        assert_eq!(asked(&mine, &both).as_deref(), Some("10.0.0.2"));
        assert_eq!(asked(&mine, &[foreign]), None);
        assert_eq!(asked(&[deployment("live-reader-0", "other")], &both), None);
    }
}
