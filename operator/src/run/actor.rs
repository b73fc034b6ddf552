//! The actor of one cluster. It wakes when something about the cluster changes, and regularly while the cluster has
//! readers. Then it reads the watches' stores, decides with pure functions, and writes what differs.
//!
//! No other cluster may delay an actor. Managers are queried outside of any queue; a request to the API server holds a
//! place only while it is young ([`super::lanes`]); the writes of a look are limited in time; and the planner's term is
//! renewed during the writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};

use super::apply::Applier;
use super::cache::{Live, Pod};
use super::carry::{self, Carry};
use super::claim::{Claim, Hold};
use super::context::OperatorContext;
use super::events;
use super::hibernation;
use super::in_force;
use super::leadership::Leadership;
use super::managers::Managers;
use super::mounts::Mounts;
use super::reporter::Reporter;
use super::rollout::{self, State};
use super::shrink::{self, Shrinks};
use super::steering::{self, Steering};
use super::store::Key;
use super::troubles;
use crate::build::{self, Component, Kind, OperatorFacts};
use crate::crd::RankingCluster;
use crate::maintenance;
use crate::readers::{ReaderMemory, ReaderStep, RoundOutcome};
use crate::status::{StatusInput, Trouble};
use crate::validate::{self, FieldProblem};
use kube::Resource;
use liverank_runtime::now_ms;

/// The time between two queries of the managers while there are any: readers report to them every second.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause of the actor after the first change of a group: changes come in groups.
const GATHER_CHANGES_FOR: Duration = Duration::from_millis(100);
/// The pause after a look that found the stores behind our own writes; the watches wake the actor anyway.
const LOOK_AGAIN_IF_BEHIND: Duration = Duration::from_secs(1);
/// The longest wait of the actor for a store that is behind; later only the objects with an unseen write are delayed.
const MAX_WAIT_FOR_STORES: Duration = Duration::from_secs(3);
/// The time limit for restoring lost readers in one look.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two checks of another installation's claim.
const CHECK_CLAIM_EVERY: Duration = Duration::from_secs(20);
/// The time between two checks of another shard of this installation that still works; used only while the number of
/// shards changes.
const CHECK_SHARD_EVERY: Duration = Duration::from_secs(4);

/// The findings of a whole look; ticks in between reuse them.
struct Found {
    revision: u32,
    template: String,
    upgrade_held_reason: Option<String>,
    states: Vec<State>,
    problems: Vec<FieldProblem>,
    pending: BTreeSet<Component>,
    troubles: Vec<Trouble>,
    readers: u32,
    /// The components that still have pods.
    awake: BTreeSet<Component>,
    /// Whether the cluster hibernates and it is the readers' turn to end.
    hibernates: bool,
}

/// The time of the next look if nothing happens.
enum Next {
    At(Option<Instant>),
    /// There is no next look: the cluster was deleted, or was deleted and created again.
    Never,
}

/// The reconciler of one `RankingCluster`: it looks at the cluster's objects and managers, and changes what differs.
pub struct Actor {
    world: Arc<OperatorContext>,
    office: Arc<Leadership>,
    key: Key,
    uid: String,
    bell: Arc<Notify>,
    facts: OperatorFacts,
    claim: Claim,
    /// The holder of the claim, if another installation manages the cluster.
    claimed_by: Option<String>,
    applier: Applier,
    shrinks: Shrinks,
    steering: Steering,
    mounts: Mounts,
    reporter: Reporter,
    last_found: Option<Found>,
    /// The refusals of the operator's policy, with the generation and builder revision that they are for.
    policy_refusals: Option<((i64, u32), Vec<FieldProblem>)>,
    /// Whether something has changed since the last whole look.
    whole: bool,
    /// The time of the next whole look if nothing changes; `None` if no time is set.
    look_due: Option<Instant>,
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.tell_claimed(None);
    }
}

impl Actor {
    /// Creates the actor of the resource that has the name `key` now.
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
        let last =
            told.and_then(|status| status.last_decision.as_ref()).and_then(super::reporter::last_decision);
        let wanted = told.and_then(|status| u32::try_from(status.readers.as_ref()?.desired).ok());
        let memory = ReaderMemory::new(now_ms(), last.as_ref(), wanted);
        let (client, metrics, lanes) = (&world.client, &world.metrics, &world.lanes);
        let owner = cluster.owner_ref(&()).unwrap_or_default();
        Self {
            facts: world.operator_facts(),
            claim: Claim::new(
                client.clone(),
                lanes.clone(),
                metrics.clone(),
                key,
                owner,
                (&world.installation, office.shard),
            ),
            claimed_by: None,
            applier: Applier::new(client.clone(), lanes.clone(), key.clone(), uid.clone(), metrics.clone()),
            shrinks: Shrinks::default(),
            steering: Steering::new(managers, Arc::clone(office), memory),
            mounts: Mounts::default(),
            reporter: Reporter::new(
                client.clone(),
                lanes.clone(),
                key,
                office.identity.clone(),
                metrics.clone(),
                told.map(|status| status.history.clone()).unwrap_or_default(),
            ),
            bell: world.bells.waker_of(key),
            world: Arc::clone(world),
            office: Arc::clone(office),
            key: key.clone(),
            uid,
            last_found: None,
            policy_refusals: None,
            whole: true,
            look_due: None,
        }
    }

    /// Reconciles the cluster until it is deleted.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            // The future is on the heap: it holds a cluster's objects while the actor waits.
            let next = Box::pin(self.look_and_act()).await;
            self.world.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
            let Next::At(at) = next else { return };
            let asleep = async {
                match at {
                    Some(at) => sleep_until(at.max(Instant::now() + GATHER_CHANGES_FOR).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.bell.notified() => {
                    sleep(GATHER_CHANGES_FOR).await;
                    self.whole = true;
                }
                () = asleep => {}
            }
        }
    }

    /// Looks once: at everything if something changed, else only at the managers' reports.
    async fn look_and_act(&mut self) -> Next {
        let world = Arc::clone(&self.world);
        let Some(cluster) = world.cluster(&self.key).filter(|cluster| cluster.uid() == self.uid) else {
            return Next::Never;
        };
        if cluster.is_deleting() {
            // The objects that the cluster owns are deleted with it; none of them may be created again meanwhile.
            return Next::At(None);
        }
        if let Some(wait) = self.wait_for_claim(&cluster).await {
            return Next::At(Some(Instant::now() + wait));
        }
        let now = Timestamp::now();
        // On the heap: otherwise it would be on the stack of every actor for as long as a look takes.
        let cluster = Box::new(in_force::resource_in_force(&cluster, now));
        if self.applier.stores_behind_for(&world.stores).is_some_and(|age| age < MAX_WAIT_FOR_STORES) {
            return Next::At(Some(Instant::now() + LOOK_AGAIN_IF_BEHIND));
        }
        if *self.facts.keys != *world.keys.known_keys() {
            self.facts = world.operator_facts();
            self.whole = true;
        }
        let due = [self.applier.next_try(), self.look_due].into_iter().flatten().min();
        let retry = due.is_some_and(|at| at <= Instant::now());
        let whole = std::mem::take(&mut self.whole) || retry;
        let deployments = world.stores[&Kind::Deployment].objects_of(&self.key);
        let pods = world.pods.objects_of(&self.key);
        let found = match self.last_found.take().filter(|_| !whole) {
            Some(found) => found,
            None => self.gather_findings(&cluster, &deployments, &pods),
        };
        let may_write = !cluster.spec.paused && found.problems.is_empty();
        if may_write && whole && self.recover(&deployments, &pods).await {
            // They are readers like all others once the watch shows them.
            self.whole = true;
            return Next::At(Some(Instant::now() + LOOK_AGAIN_IF_BEHIND));
        }
        let outcome = self.look_at_readers(&cluster, &found, &deployments, &pods).await;
        let steps = outcome.as_ref().map(|outcome| outcome.steps.clone()).unwrap_or_default();
        if may_write {
            self.send_orders(&steps).await;
        }
        let mut shrinking = self.look_due.filter(|at| *at > Instant::now());
        if may_write && (whole || !steps.is_empty()) {
            let carry = Carry {
                world: &world,
                key: &self.key,
                cluster: &cluster,
                facts: &self.facts,
                revision: found.revision,
                states: &found.states,
                deployments: &deployments,
                pods: &pods,
            };
            let written = carry.carry_out(steps, &mut self.applier, &mut self.shrinks);
            // Writes may take long if a webhook hangs; the planner has to renew its term meanwhile.
            shrinking = tokio::select! {
                biased;
                next = written => next,
                () = self.steering.stay_in_office() => None,
            };
        }
        let (mounts, mounting) = self
            .mounts
            .check_mounts((&world.client, &world.lanes), &self.key.namespace, &pods, &deployments, now_ms())
            .await;
        let status = self.write_report(&cluster, &found, outcome.as_ref(), mounts).await;
        self.last_found = Some(found);
        let tick = outcome.is_some().then(|| Instant::now() + LOOK_EVERY);
        let retry = self.applier.next_try().filter(|_| may_write);
        self.look_due = [shrinking, self.next_change_by_time(&pods)].into_iter().flatten().min();
        let next = [tick, status, retry, mounting, self.look_due, Some(Instant::now() + CHECK_CLAIM_EVERY)];
        Next::At(next.into_iter().flatten().min())
    }

    /// Returns when time alone changes something: pods that crashed have run for long enough, `restartAt` comes, a
    /// maintenance window opens or closes, or a pod that all wait for counts as lost.
    fn next_change_by_time(&self, pods: &[Arc<Pod>]) -> Option<Instant> {
        let now = now_ms();
        let cluster = self.world.cluster(&self.key);
        let spec = cluster.as_deref();
        let restart = spec.and_then(|it| in_force::restarts_at(it, Timestamp::now()));
        let window = spec.and_then(|it| maintenance::state(&it.spec.maintenance, Timestamp::now()));
        let at = [
            troubles::next_calm(pods, now),
            restart.map(Timestamp::as_millisecond),
            window.and_then(|state| state.until).map(Timestamp::as_millisecond),
            spec.filter(|it| it.spec.hibernate).and_then(|_| shrink::next_lost(pods, now)),
        ];
        let wait = at.into_iter().flatten().min()?.saturating_sub(now);
        Some(Instant::now() + Duration::from_millis(u64::try_from(wait).unwrap_or(0)) + GATHER_CHANGES_FOR)
    }

    /// Takes or renews the claim. Returns how long to wait before the next check; `None` if this operator holds the
    /// claim.
    async fn wait_for_claim(&mut self, cluster: &RankingCluster) -> Option<Duration> {
        match self.claim.take_or_renew().await {
            Hold::Held => {
                self.tell_claimed(None);
                None
            }
            Hold::OtherShard(shard) => {
                self.tell_claimed(None);
                tracing::debug!(cluster = %self.key, %shard, "it still looks after the cluster");
                Some(CHECK_SHARD_EVERY)
            }
            Hold::Others(holder) => {
                if self.claimed_by.as_ref() != Some(&holder) {
                    let words = format!(
                        "the operator {} leaves this cluster to the operator {holder}, which holds the Lease {}; \
                         operators beside each other need an operatorClass each, or namespaces of their own",
                        self.world.installation,
                        build::names::claim_lease_name(&self.key.name),
                    );
                    tracing::warn!(cluster = %self.key, holder, "another operator looks after it");
                    self.world
                        .announcer
                        .publish(&cluster.object_ref(&()), &events::warning_news("ClaimedByAnother", &words));
                }
                self.tell_claimed(Some(holder));
                Some(CHECK_CLAIM_EVERY)
            }
            Hold::Unknown(error) => {
                self.world.metrics.count_failure("claim");
                tracing::warn!(cluster = %self.key, error, "it is not known who looks after it");
                Some(CHECK_CLAIM_EVERY)
            }
        }
    }

    fn tell_claimed(&mut self, by: Option<String>) {
        let gauge = &self.world.metrics.claimed_by_others;
        gauge.inc_by(i64::from(by.is_some()) - i64::from(self.claimed_by.is_some()));
        self.claimed_by = by;
    }

    /// Collects the facts that the stores hold; sends no request.
    fn gather_findings(
        &mut self,
        cluster: &RankingCluster,
        deployments: &[Arc<Live>],
        pods: &[Arc<Pod>],
    ) -> Found {
        let revision = in_force::revision_in_force(cluster, self.world.newest, Timestamp::now());
        let awake = hibernation::components_with_pods(pods, now_ms());
        let hibernates = cluster.spec.hibernate && hibernation::may_go(Component::Reader, &awake);
        let mut problems = validate::validate_cluster(cluster);
        problems.extend(self.world.unknown_fields(&self.key));
        let readers = steering::existing_readers(cluster.name(), deployments);
        let current = readers.iter().filter(|reader| reader.drain.is_none()).count() as u32;
        let (mut template, mut states, mut pending) = (String::new(), Vec::new(), BTreeSet::new());
        let input = build::Input { cluster, revision, readers: &readers, operator: &self.facts };
        if problems.is_empty() {
            // The refusals depend only on the resource and the builder, but pods change often: they are computed once.
            let of = (cluster.generation(), revision);
            if self.policy_refusals.as_ref().is_none_or(|(was, _)| *was != of) {
                self.policy_refusals = Some((of, self.world.policy.find_refusals(&input)));
            }
            problems =
                self.policy_refusals.as_ref().map(|(_, refusals)| refusals.clone()).unwrap_or_default();
        }
        if problems.is_empty() {
            template = build::reader_template_hash(&input);
            let mut objects = build::desired_objects(&input);
            hibernation::set_replicas(&mut objects, cluster, deployments, &awake);
            states = rollout::component_states(&objects, deployments);
            if revision != self.world.newest {
                pending = build::components_restarted_by_revision(
                    cluster,
                    revision,
                    self.world.newest,
                    &self.facts,
                );
            }
        }
        let turn = rollout::next_component(&states).filter(|state| state.component < Component::Reader);
        let held = turn.map(|state| format!("{} is being rolled out first", state.component.name()));
        let mut troubles = troubles::of_pods(pods, now_ms());
        troubles.extend(troubles::of_routes(&carry::routes_of_cluster(&self.world, &self.key)));
        Found {
            revision,
            template,
            upgrade_held_reason: held,
            states,
            problems,
            pending,
            troubles,
            readers: current,
            awake,
            hibernates,
        }
    }

    /// Restores lost readers, while the planner renews its term. Returns whether there were any.
    async fn recover(&mut self, deployments: &[Arc<Live>], pods: &[Arc<Pod>]) -> bool {
        tokio::select! {
            biased;
            any = recover(&mut self.applier, deployments, pods) => any,
            () = self.steering.stay_in_office() => false,
        }
    }

    async fn look_at_readers(
        &mut self,
        cluster: &RankingCluster,
        found: &Found,
        deployments: &[Arc<Live>],
        pods: &[Arc<Pod>],
    ) -> Option<RoundOutcome> {
        let none_left = || steering::existing_readers(cluster.name(), deployments).is_empty();
        let none_wanted = !cluster.spec.comments() || found.hibernates;
        if !found.problems.is_empty() || (none_wanted && none_left()) {
            return None;
        }
        let facts = steering::Facts {
            cluster,
            template: &found.template,
            upgrade_held_reason: found.upgrade_held_reason.as_deref(),
            hibernates: found.hibernates,
            deployments,
            pods,
        };
        Some(self.steering.ask_and_decide(&facts).await)
    }

    /// Sends the managers their orders. Orders follow from the observed state, not from what is about to be written: a
    /// cordon from an existing annotation, a move from readers that serve.
    async fn send_orders(&mut self, steps: &[ReaderStep]) {
        let cordons: Vec<_> = steps.iter().filter_map(ReaderStep::cordon_request).collect();
        if !cordons.is_empty() {
            self.steering.send_cordons(cordons).await;
        }
        for step in steps {
            if let ReaderStep::Moves { moves } = step {
                self.steering.send_moves(moves.clone()).await;
            }
        }
    }

    async fn write_report(
        &mut self,
        cluster: &RankingCluster,
        found: &Found,
        outcome: Option<&RoundOutcome>,
        mounts: Vec<Trouble>,
    ) -> Option<Instant> {
        let contested = self.applier.contested_fields();
        let spec = self.world.cluster(&self.key);
        let unheeded = spec.as_deref().and_then(in_force::unheeded_replicas);
        let mut troubles = troubles::of_refusals(&self.applier.refusals());
        troubles.extend(troubles::of_contests(&contested));
        troubles.extend(found.troubles.iter().cloned());
        troubles.extend(mounts);
        let about = cluster.object_ref(&());
        let decisions = outcome.map(|outcome| outcome.decisions.as_slice()).unwrap_or_default();
        self.reporter.note_decisions(decisions);
        for decision in decisions {
            self.world.announcer.publish(&about, &events::of_decision(decision));
        }
        let decision = self.reporter.last_decision();
        let history = self.reporter.history();
        let report = StatusInput {
            cluster,
            now: Timestamp::now(),
            identity: &self.office.identity,
            revision: found.revision,
            problems: &found.problems,
            states: &found.states,
            readers: found.readers,
            unheeded,
            facts: outcome.map(|outcome| &outcome.facts),
            decision: decision.as_ref(),
            history: &history,
            proposals: outcome.map(|outcome| outcome.proposals.as_slice()).unwrap_or_default(),
            troubles: &troubles,
            contested: &contested,
            pending: &found.pending,
            unwritten: self.applier.is_unfinished(),
            awake: &found.awake,
        };
        let (told, next) = self.reporter.write_status(&report).await;
        for news in told {
            self.world.announcer.publish(&about, &news);
        }
        next
    }
}

/// Restores readers whose Deployments the watch no longer shows, because somebody edited the labels that it selects by;
/// their pods still name them. Otherwise they would be replaced, and run for ever. Returns whether there were any.
async fn recover(applier: &mut Applier, deployments: &[Arc<Live>], pods: &[Arc<Pod>]) -> bool {
    let (mut any, until) = (false, Instant::now() + RECOVERY_TIMEOUT);
    for name in steering::lost_readers(deployments, pods) {
        if Instant::now() >= until {
            // If a webhook hangs, everything else is reconciled first.
            break;
        }
        any |= applier.restore_labels(&name).await;
    }
    any
}

#[cfg(test)]
mod tests;
