//! One cluster's actor: woken when something of it changes, and by a tick while it has readers, it looks at what the
//! watches know, decides with pure functions, and writes what differs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, sleep_until};

use super::apply::{Applier, Stores};
use super::cache::{Cluster, Live, Pod};
use super::events::Announcer;
use super::leadership::Leadership;
use super::managers::{Managers, Templates};
use super::metrics::OperatorMetrics;
use super::reporter::Reporter;
use super::rollout::{self, State};
use super::steering::{self, Steering};
use super::store::{Kept, Key, Store, Wakers};
use super::tokens::{OperatorTokens, PublicKeys};
use super::troubles;
use crate::build::{self, Component, Kind, Object, OperatorFacts};
use crate::crd::RankingCluster;
use crate::readers::{Memory, Outcome, Step};
use crate::status::{Report, Trouble};
use crate::validate::{self, Problem};
use liverank_runtime::now_ms;
use liverank_runtime::peer::Peers;

/// How often managers are asked, while there are any: readers report to them every second.
const TICK: Duration = Duration::from_secs(2);
/// Changes come in groups: this long is waited for the rest of one.
const GATHER: Duration = Duration::from_millis(100);
/// After a look that found the stores behind our own writes: their watches wake us anyway.
const BEHIND: Duration = Duration::from_secs(1);

/// What all actors share.
pub struct OperatorContext {
    /// To the API server.
    pub client: kube::Client,
    /// All objects that we make.
    pub stores: Stores,
    /// Their pods.
    pub pods: Arc<Store<Pod>>,
    /// The resources.
    pub clusters: Arc<Store<Cluster>>,
    /// Who is woken.
    pub bells: Arc<Wakers>,
    /// How many may work at once.
    pub turns: Arc<Semaphore>,
    /// What is counted.
    pub metrics: OperatorMetrics,
    /// Who tells.
    pub announcer: Announcer,
    /// Who the operator is to managers.
    pub tokens: Arc<OperatorTokens>,
    /// By which keys a cluster's processes know each other.
    pub keys: Arc<PublicKeys>,
    /// Where managers and readers are, outside of Kubernetes.
    pub templates: Templates,
    /// To managers and readers.
    pub peers: Peers,
    /// The newest revision of the builder.
    pub newest: u32,
    /// The class of clusters that are ours.
    pub class: String,
    /// Where the operator itself runs, as whom, and its pods' labels.
    pub operator: OperatorFacts,
}

impl OperatorContext {
    /// What objects say of the operator, with the keys as they are now.
    pub fn facts(&self) -> OperatorFacts {
        OperatorFacts { keys: self.keys.known().to_string(), ..self.operator.clone() }
    }

    /// The resource that is called so, where it is ours to look after.
    pub fn cluster(&self, key: &Key) -> Option<Arc<RankingCluster>> {
        let found = self.clusters.get(key, &key.name)?;
        (found.resource.spec.operator_class == self.class).then(|| Arc::clone(&found.resource))
    }
}

/// What a whole look found; a tick in between needs no more.
struct Found {
    revision: u32,
    template: String,
    held: Option<String>,
    states: Vec<State>,
    problems: Vec<Problem>,
    pending: BTreeSet<Component>,
    troubles: Vec<Trouble>,
    readers: u32,
}

/// When to look again if nothing happens.
enum Next {
    At(Option<Instant>),
    /// The cluster is gone, or is another one.
    Never,
}

/// See the module.
pub struct Actor {
    world: Arc<OperatorContext>,
    office: Arc<Leadership>,
    key: Key,
    uid: String,
    bell: Arc<Notify>,
    facts: OperatorFacts,
    applier: Applier,
    steering: Steering,
    reporter: Reporter,
    found: Option<Found>,
    /// Whether something has changed since the last whole look.
    whole: bool,
    /// Whether kinds that are not watched hold nothing unwanted.
    swept: bool,
}

impl Actor {
    /// For the resource that is called `key` now.
    pub fn new(
        world: &Arc<OperatorContext>,
        office: &Arc<Leadership>,
        key: &Key,
        cluster: &RankingCluster,
    ) -> Self {
        let uid = cluster.uid().to_owned();
        let managers =
            Managers::new(world.peers.clone(), world.templates.clone(), Arc::clone(&world.tokens), key);
        let told = cluster.status.as_ref();
        let last = told.and_then(|status| status.last_decision.as_ref()).and_then(super::reporter::decision);
        let wanted = told.and_then(|status| u32::try_from(status.readers.as_ref()?.desired).ok());
        let memory = Memory::new(now_ms(), last.as_ref(), wanted);
        Self {
            facts: world.facts(),
            applier: Applier::new(world.client.clone(), key.clone(), uid.clone(), world.metrics.clone()),
            steering: Steering::new(managers, Arc::clone(office), memory),
            reporter: Reporter::new(
                world.client.clone(),
                key,
                office.identity.clone(),
                world.metrics.clone(),
            ),
            bell: world.bells.hang(key),
            world: Arc::clone(world),
            office: Arc::clone(office),
            key: key.clone(),
            uid,
            found: None,
            whole: true,
            swept: false,
        }
    }

    /// Looks after the cluster until it is gone.
    pub async fn run(mut self) {
        loop {
            let next = {
                let _turn = self.turn().await;
                let began = Instant::now();
                self.world.metrics.running.inc();
                let next = self.look().await;
                self.world.metrics.running.dec();
                self.world.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
                next
            };
            let Next::At(at) = next else { return };
            let asleep = async {
                match at {
                    Some(at) => sleep_until(at.max(Instant::now() + GATHER).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.bell.notified() => {
                    sleep(GATHER).await;
                    self.whole = true;
                }
                () = asleep => {}
            }
        }
    }

    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.world.metrics.queued.inc();
        let turn = Arc::clone(&self.world.turns).acquire_owned().await;
        self.world.metrics.queued.dec();
        turn.ok()
    }

    /// One look: a whole one at everything where something changed, else at what managers say only.
    async fn look(&mut self) -> Next {
        let world = Arc::clone(&self.world);
        let Some(cluster) = world.cluster(&self.key).filter(|cluster| cluster.uid() == self.uid) else {
            return Next::Never;
        };
        if cluster.is_deleting() {
            // What it owns goes with it; nothing of that may come back meanwhile.
            return Next::At(None);
        }
        if !self.applier.has_caught_up(&world.stores) {
            return Next::At(Some(Instant::now() + BEHIND));
        }
        if *self.facts.keys != *world.keys.known() {
            self.facts = world.facts();
            self.whole = true;
        }
        let retry = self.applier.next_try().is_some_and(|at| at <= Instant::now());
        let whole = std::mem::take(&mut self.whole) || retry || !self.swept;
        let deployments = world.stores[&Kind::Deployment].of(&self.key);
        let pods = world.pods.of(&self.key);
        let found = match self.found.take().filter(|_| !whole) {
            Some(found) => found,
            None => self.find(&cluster, &deployments, &pods),
        };
        let may_write = !cluster.spec.paused && found.problems.is_empty();
        if may_write && whole && self.recover(&deployments, &pods).await {
            // They are readers like all others once the watch shows them.
            self.whole = true;
            return Next::At(Some(Instant::now() + BEHIND));
        }
        let outcome = self.look_at_readers(&cluster, &found, &deployments, &pods).await;
        let steps = outcome.as_ref().map(|outcome| outcome.steps.clone()).unwrap_or_default();
        if may_write && (whole || !steps.is_empty()) {
            self.carry_out(&cluster, &found, &deployments, steps).await;
        }
        let status = self.report(&cluster, &found, outcome.as_ref()).await;
        self.found = Some(found);
        let tick = outcome.is_some().then(|| Instant::now() + TICK);
        let retry = self.applier.next_try().filter(|_| may_write);
        Next::At([tick, status, retry].into_iter().flatten().min())
    }

    /// Everything that can be known without asking anybody.
    fn find(&self, cluster: &RankingCluster, deployments: &[Arc<Live>], pods: &[Arc<Pod>]) -> Found {
        let revision = self.revision(cluster);
        let problems = validate::validate(cluster);
        let readers = steering::existing(cluster.name(), deployments);
        let current = readers.iter().filter(|reader| reader.drain.is_none()).count() as u32;
        let (mut template, mut states, mut pending) = (String::new(), Vec::new(), BTreeSet::new());
        if problems.is_empty() {
            let input = build::Input { cluster, revision, readers: &readers, operator: &self.facts };
            template = build::reader_template_hash(&input);
            states = rollout::states(&build::desired(&input), deployments);
            if revision != self.world.newest {
                pending = build::pending(cluster, revision, self.world.newest, &self.facts);
            }
        }
        let turn = rollout::turn(&states).filter(|state| state.component < Component::Reader);
        let held = turn.map(|state| format!("{} is being rolled out first", state.component.name()));
        let troubles = troubles::of_pods(pods);
        Found { revision, template, held, states, problems, pending, troubles, readers: current }
    }

    /// The builder's revision in force: the newest, once the spec has changed; till then the one it was built with.
    fn revision(&self, cluster: &RankingCluster) -> u32 {
        let status = cluster.status.as_ref();
        let unchanged = status.is_some_and(|status| status.observed_generation == Some(cluster.generation()));
        let kept = status.and_then(|status| status.builder_revision.as_ref()?.parse().ok());
        // One of a later operator cannot be built by this one.
        kept.filter(|_| unchanged).map_or(self.world.newest, |kept: u32| kept.min(self.world.newest))
    }

    /// Brings readers back whose Deployments the watch has lost sight of, because somebody edited the labels that it
    /// selects by: their pods are still there to tell. They would be replaced, and stay for ever. Whether there were any.
    async fn recover(&mut self, deployments: &[Arc<Live>], pods: &[Arc<Pod>]) -> bool {
        let mut any = false;
        for name in steering::lost(deployments, pods) {
            any |= self.applier.relabel(&name).await;
        }
        any
    }

    async fn look_at_readers(
        &mut self,
        cluster: &RankingCluster,
        found: &Found,
        deployments: &[Arc<Live>],
        pods: &[Arc<Pod>],
    ) -> Option<Outcome> {
        let none_left = || steering::existing(cluster.name(), deployments).is_empty();
        if !found.problems.is_empty() || (!cluster.spec.comments() && none_left()) {
            return None;
        }
        let facts = steering::Facts {
            cluster,
            template: &found.template,
            held: found.held.as_deref(),
            deployments,
            pods,
        };
        Some(self.steering.look(&facts).await)
    }

    /// Takes the steps, then makes everything else what it should be.
    async fn carry_out(
        &mut self,
        cluster: &RankingCluster,
        found: &Found,
        deployments: &[Arc<Live>],
        steps: Vec<Step>,
    ) {
        let mut readers = steering::existing(cluster.name(), deployments);
        self.applier.begin();
        let mut unwritten = false;
        for step in steps {
            let is_order = matches!(step, Step::Cordon { .. } | Step::Moves { .. });
            if is_order && unwritten {
                // An order may rest on what was to be written before it.
                self.apply(cluster, found, &readers).await;
                unwritten = false;
            }
            match step {
                Step::CreateReader { name } => {
                    readers.push(build::Reader { name, drain: None });
                    unwritten = true;
                }
                Step::Annotate { name, drain, .. } => {
                    let drain = drain.as_ref().map(steering::written);
                    readers
                        .iter_mut()
                        .filter(|reader| reader.name == name)
                        .for_each(|it| it.drain.clone_from(&drain));
                    unwritten = true;
                }
                Step::DeleteReader { name, uid, forced } => {
                    tracing::info!(cluster = %self.key, reader = name, forced, "a reader goes");
                    let live = deployments.iter().find(|live| *live.uid == *uid);
                    if let Some(live) = live.filter(|live| !live.deleting) {
                        self.applier.delete(Kind::Deployment, live).await;
                    }
                    readers.retain(|reader| reader.name != name);
                    unwritten = true;
                }
                Step::Cordon { .. } => {
                    self.steering.cordon(step.cordon_request().into_iter().collect()).await;
                }
                Step::Moves { moves } => self.steering.order(moves).await,
            }
        }
        self.apply(cluster, found, &readers).await;
        self.applier.finish();
    }

    /// Makes all objects what they should be.
    async fn apply(&mut self, cluster: &RankingCluster, found: &Found, readers: &[build::Reader]) {
        let input = build::Input { cluster, revision: found.revision, readers, operator: &self.facts };
        let objects = build::desired(&input);
        let turn = rollout::turn(&found.states).map(|state| state.component);
        for object in &objects {
            let live = self.live(object.kind, &object.name);
            let admitted = rollout::admitted(object, live.as_deref(), turn);
            self.applier.ensure(&admitted, live.as_deref()).await;
        }
        self.delete_unwanted(&objects).await;
        if !self.swept {
            self.swept = self.applier.sweep(&objects).await;
        }
    }

    fn live(&self, kind: Kind, name: &str) -> Option<Arc<Live>> {
        self.world.stores.get(&kind)?.get(&self.key, name)
    }

    /// Deletes what we made and do not want any more.
    async fn delete_unwanted(&mut self, objects: &[Object]) {
        let wanted: BTreeSet<(Kind, &str)> = objects.iter().map(|it| (it.kind, it.name.as_str())).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.optional()) {
            for live in self.world.stores[&kind].of(&self.key) {
                let ours = live.owner.as_deref() == Some(&*self.uid) && !live.deleting;
                if ours && !wanted.contains(&(kind, live.name())) {
                    self.applier.delete(kind, &live).await;
                }
            }
        }
        if self.applier.has_unwatched_but(objects) {
            self.swept = false;
        }
    }

    async fn report(
        &mut self,
        cluster: &RankingCluster,
        found: &Found,
        outcome: Option<&Outcome>,
    ) -> Option<Instant> {
        let mut troubles = troubles::of_refusals(&self.applier.refused());
        troubles.extend(found.troubles.iter().cloned());
        let decisions = outcome.map(|outcome| outcome.decisions.as_slice()).unwrap_or_default();
        self.reporter.decided(decisions);
        for decision in decisions {
            self.world.announcer.tell(cluster, &super::events::of_decision(decision)).await;
        }
        let decision = self.reporter.decision();
        let report = Report {
            cluster,
            now: Timestamp::now(),
            identity: &self.office.identity,
            revision: found.revision,
            problems: &found.problems,
            states: &found.states,
            readers: found.readers,
            facts: outcome.map(|outcome| &outcome.facts),
            decision: decision.as_ref(),
            troubles: &troubles,
            pending: &found.pending,
        };
        let (told, next) = self.reporter.write(&report).await;
        for news in told {
            self.world.announcer.tell(cluster, &news).await;
        }
        next
    }
}
