//! The readers of one cluster: the state that managers and readers report, the round of decisions ([`crate::readers`],
//! pure), and orders to managers under this leader's term.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use liverank_protocol::{CordonRequest, MoveRequest};
use liverank_runtime::now_ms;
use reqwest::Url;
use tokio::time::sleep;

use super::cache::{Live, Pod};
use super::leadership::Leadership;
use super::managers::{MAX_MOVES, Managers, Refusal};
use super::store::CachedObject;
use crate::build::{self, Component, names};
use crate::crd::RankingCluster;
use crate::readers::{
    self, DrainWhy, ManagerReport, ReaderDrain, ReaderMemory, ReaderSelfReport, ReaderSettings, RoundInput,
    RoundOutcome,
};

/// The time between two renewals of a term: managers' autopilots take over after 15 s without one.
const RENEW_TERM_EVERY: Duration = Duration::from_secs(6);
/// The pause after a term was refused or lost: two planners that take over from each other at full speed help nobody.
const RETRY_TERM_AFTER: Duration = Duration::from_secs(3);

/// A term in office at a cluster's managers.
#[derive(Debug, Clone, Copy)]
struct Term {
    term: u64,
    renewed: Instant,
}

/// The state of one leader about one cluster's readers.
pub struct Steering {
    managers: Managers,
    office: Arc<Leadership>,
    memory: ReaderMemory,
    manager_reports: BTreeMap<String, ManagerReport>,
    self_reports: HashMap<String, ReaderSelfReport>,
    /// Readers that have to be queried for their own number of viewers.
    readers_to_ask: Vec<String>,
    /// Whether the next query needs all assignments.
    detail: bool,
    /// The manager that answered last; orders are sent to it.
    answering: Option<Url>,
    term: Option<Term>,
    no_term_before: Instant,
    /// The last problem with the managers, which is reported, and logged once.
    trouble: Option<String>,
}

/// The input of a round besides the managers' reports.
pub struct Facts<'a> {
    /// The `RankingCluster`, as it is in force.
    pub cluster: &'a RankingCluster,
    /// The hash of the pod template that readers are to have.
    pub template: &'a str,
    /// The reason why readers may not be replaced yet; `None` if they may.
    pub upgrade_held_reason: Option<&'a str>,
    /// Whether the cluster hibernates and it is the readers' turn to end.
    pub hibernates: bool,
    /// All Deployments of the cluster.
    pub deployments: &'a [Arc<Live>],
    /// All pods of the cluster.
    pub pods: &'a [Arc<Pod>],
}

impl Steering {
    /// Creates the state of a leader that has just begun.
    pub fn new(managers: Managers, office: Arc<Leadership>, memory: ReaderMemory) -> Self {
        let now = Instant::now();
        Self {
            managers,
            office,
            memory,
            manager_reports: BTreeMap::new(),
            self_reports: HashMap::new(),
            readers_to_ask: Vec::new(),
            detail: true,
            answering: None,
            term: None,
            no_term_before: now,
            trouble: None,
        }
    }

    /// Queries managers and readers for their state, and decides the next steps.
    pub async fn ask_and_decide(&mut self, facts: &Facts<'_>) -> RoundOutcome {
        self.managers.set_tls(facts.cluster.spec.tls.as_ref());
        self.fetch_loads(facts.pods).await;
        self.ask_readers().await;
        if let Some(manager) = self.answering.clone() {
            self.keep_office(&manager).await;
        }
        let seen = self.collect_seen(facts);
        let outcome = readers::decide_round(&seen, &mut self.memory);
        self.readers_to_ask.clone_from(&outcome.readers_to_ask);
        self.detail = outcome.detail;
        outcome
    }

    /// Queries every manager for its load.
    async fn fetch_loads(&mut self, pods: &[Arc<Pod>]) {
        let is_ready =
            |pod: &&Arc<Pod>| *pod.component == *Component::Manager.name() && pod.ready && !pod.terminating;
        let address = |pod: &Arc<Pod>| Some((pod.name().to_owned(), pod.ip.as_deref()?.to_owned()));
        let pods: Vec<_> = pods.iter().filter(is_ready).filter_map(address).collect();
        let managers = self.managers.manager_addresses(&pods);
        let at = now_ms();
        let answers =
            join_all(managers.iter().map(|(_, url)| self.managers.fetch_load(url, self.detail))).await;
        if !managers.is_empty() {
            // The report of a removed manager is dropped; a manager that does not answer keeps its last report, with
            // its time.
            self.manager_reports.retain(|name, _| managers.iter().any(|(manager, _)| manager == name));
        }
        self.answering = None;
        let mut trouble = None;
        for ((manager, url), answer) in managers.into_iter().zip(answers) {
            match answer {
                Ok(load) => {
                    self.answering.get_or_insert(url);
                    self.manager_reports.insert(manager.clone(), ManagerReport { manager, at, load });
                }
                Err(refusal) => {
                    self.office.metrics.count_failure("manager");
                    trouble = Some(format!("the manager {manager} does not say its load: {refusal}"));
                }
            }
        }
        self.note_trouble(trouble.filter(|_| self.answering.is_none()));
    }

    async fn ask_readers(&mut self) {
        let at = now_ms();
        let asked = self.readers_to_ask.iter().map(|reader| self.managers.fetch_viewers(reader));
        let answers = join_all(asked).await;
        self.self_reports.retain(|reader, _| self.readers_to_ask.contains(reader));
        for (reader, answer) in self.readers_to_ask.iter().zip(answers) {
            match answer {
                Ok(viewers) => {
                    self.self_reports.insert(reader.clone(), ReaderSelfReport { viewers, at });
                }
                Err(refusal) => tracing::debug!(reader, %refusal, "a reader does not say its viewers"),
            }
        }
    }

    /// Begins a term if this planner has none, or renews it if that is due.
    async fn keep_office(&mut self, manager: &Url) {
        let now = Instant::now();
        let result = match self.term {
            Some(term) if now.duration_since(term.renewed) < RENEW_TERM_EVERY => return,
            None if now < self.no_term_before => return,
            Some(term) => {
                self.managers
                    .renew_term(manager, &self.office.identity, &self.office.held_lease, term.term)
                    .await
            }
            None => self.managers.begin_term(manager, &self.office.identity, &self.office.held_lease).await,
        };
        match result {
            Ok(state) => {
                if self.term.is_none_or(|term| term.term != state.term) {
                    tracing::info!(%manager, term = state.term, "in office at the managers");
                }
                self.term = Some(Term { term: state.term, renewed: now });
            }
            Err(refusal) => self.handle_refusal(refusal).await,
        }
    }

    /// Renews the planner's term at the managers again and again, for ever.
    pub async fn stay_in_office(&mut self) {
        loop {
            let due = self
                .term
                .map_or(RENEW_TERM_EVERY, |term| RENEW_TERM_EVERY.saturating_sub(term.renewed.elapsed()));
            sleep(due.max(RETRY_TERM_AFTER)).await;
            if let Some(manager) = self.answering.clone() {
                self.keep_office(&manager).await;
            }
        }
    }

    /// Handles a refusal: if the term is over, it checks whether another process leads.
    async fn handle_refusal(&mut self, refusal: Refusal) {
        self.office.metrics.count_failure("order");
        if let Refusal::Term(_) = refusal {
            self.term = None;
            self.no_term_before = Instant::now() + RETRY_TERM_AFTER;
            self.office.check_still_leading().await;
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

    /// Sends cordons to a manager. Cordons that fail are steps again after the next look.
    pub async fn send_cordons(&mut self, cordons: Vec<CordonRequest>) {
        let (Some(manager), Some(term)) = (self.answering.clone(), self.term) else { return };
        let result =
            self.managers.send_cordons(&manager, &self.office.held_lease, term.term, cordons).await.map(drop);
        self.note_order_result(result).await;
    }

    /// Sends orders for moves to a manager.
    pub async fn send_moves(&mut self, mut moves: Vec<MoveRequest>) {
        let (Some(manager), Some(term)) = (self.answering.clone(), self.term) else { return };
        moves.truncate(MAX_MOVES);
        match self.managers.send_moves(&manager, &self.office.held_lease, term.term, moves).await {
            // The orders do not fit the present state any more: the next plan is made from that state.
            Err(Refusal::Refused { detail, .. }) => tracing::debug!(detail, "no move was taken"),
            result => self.note_order_result(result).await,
        }
    }

    async fn note_order_result(&mut self, result: Result<(), Refusal>) {
        match result {
            Ok(()) => {
                self.office.metrics.orders.inc();
                if let Some(term) = &mut self.term {
                    term.renewed = Instant::now();
                }
            }
            Err(refusal) => self.handle_refusal(refusal).await,
        }
    }

    fn collect_seen(&self, facts: &Facts<'_>) -> RoundInput {
        let cluster = facts.cluster.name();
        let is_reader = |live: &&Arc<Live>| names::reader_number(cluster, live.name()).is_some();
        let readers =
            facts.deployments.iter().filter(is_reader).map(|live| self.reader_seen(live, facts.pods));
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
            managers: self.manager_reports.values().cloned().collect(),
        }
    }

    fn reader_seen(&self, live: &Live, pods: &[Arc<Pod>]) -> readers::ObservedReader {
        let drain = live.our_annotation(names::DRAIN_ANNOTATION).map(|why| ReaderDrain {
            why: DrainWhy::parse(why),
            since: live
                .our_annotation(names::DRAIN_SINCE_ANNOTATION)
                .and_then(|since| since.parse::<Timestamp>().ok())
                .map(Timestamp::as_millisecond),
        });
        let own_pods = pods.iter().filter(|pod| pod.reader.as_deref() == Some(live.name()));
        let newest = own_pods.max_by_key(|pod| (!pod.terminating, pod.created));
        readers::ObservedReader {
            name: live.name().to_owned(),
            uid: live.uid.to_string(),
            template: live.our_annotation(names::TEMPLATE_HASH_ANNOTATION).unwrap_or_default().to_owned(),
            created: live.created,
            deleting: live.deleting,
            drain,
            pod: newest.map(|pod| readers::ReaderPod {
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

/// Maximal number of approved plans that are read from the annotation: few plans wait at a time.
const MAX_APPROVED: usize = 8;

/// Returns the names of the plans that the resource's annotation approves.
fn approved_plans(cluster: &RankingCluster) -> BTreeSet<String> {
    let said = cluster.metadata.annotations.as_ref().and_then(|all| all.get(names::APPROVE_ANNOTATION));
    let ids = said.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    ids.filter(|id| !id.is_empty()).take(MAX_APPROVED).map(str::to_owned).collect()
}

/// Returns the readers that exist, in the builder's form. A reader whose deletion has begun is left out.
pub fn existing_readers(cluster: &str, deployments: &[Arc<Live>]) -> Vec<build::Reader> {
    let is_reader =
        |live: &&Arc<Live>| names::reader_number(cluster, live.name()).is_some() && !live.deleting;
    let reader = |live: &Arc<Live>| build::Reader {
        name: live.name().to_owned(),
        drain: live.our_annotation(names::DRAIN_ANNOTATION).map(|reason| build::Drain {
            reason: reason.to_owned(),
            since: live.our_annotation(names::DRAIN_SINCE_ANNOTATION).unwrap_or_default().to_owned(),
        }),
    };
    deployments.iter().filter(is_reader).map(reader).collect()
}

/// Returns readers that have pods but no visible Deployment; `true` if one of the pods was not told to end.
fn orphaned_readers(deployments: &[Arc<Live>], pods: &[Arc<Pod>]) -> BTreeMap<String, bool> {
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

/// Returns readers that have running pods but no visible Deployment.
pub fn lost_readers(deployments: &[Arc<Live>], pods: &[Arc<Pod>]) -> BTreeSet<String> {
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
