//! The reconciler of one cluster. It wakes when something about the cluster changes, and regularly while the cluster
//! has readers. Then it reads the watches' stores, decides with pure functions, and writes the objects that differ.
//!
//! No other cluster may delay a reconciler. Managers are queried outside of any queue; a request to the API server
//! holds a place in the queue only while the request is young ([`super::lanes`]); the writes of one reconcile are
//! limited in time; and the planner's term is renewed during all writes, also those of the status.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};

use super::apply::Applier;
use super::cache::{CachedPod, LiveObject};
use super::carry::{self, ObjectMemory, RoundWriter};
use super::claim::{Claim, ClaimState};
use super::context::OperatorContext;
use super::events;
use super::hibernation;
use super::in_force;
use super::leadership::Leadership;
use super::managers::Managers;
use super::mounts::MountChecker;
use super::reporter::Reporter;
use super::rollout::{self, RolloutState};
use super::shrink::{self, ScaleDownPacer};
use super::steering::{self, ReaderController};
use super::store::ClusterKey;
use super::troubles;
use crate::build::{self, Component, Kind, OperatorFacts};
use crate::crd::RankingCluster;
use crate::maintenance;
use crate::readers::{ReaderMemory, ReaderStep, RoundOutcome};
use crate::status::{self, ReportedProblem, StatusInput};
use crate::validate::{self, FieldProblem};
use kube::Resource;
use liverank_runtime::now_ms;

/// The time between two queries of the managers while there are readers, which report to the managers every second.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause of the reconciler after the first of a group of changes, so that the whole group is handled at once.
const GATHER_CHANGES_FOR: Duration = Duration::from_millis(100);
/// The pause of the reconciler after it has found a store that does not show the operator's own last writes yet;
/// watches may wake the reconciler earlier.
const LOOK_AGAIN_IF_BEHIND: Duration = Duration::from_secs(1);
/// The longest wait of the reconciler for a store that is behind; later only the objects with an unseen write are
/// delayed.
const MAX_WAIT_FOR_STORES: Duration = Duration::from_secs(3);
/// The time limit for restoring lost readers in one reconcile.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two checks of another installation's claim.
const CHECK_CLAIM_EVERY: Duration = Duration::from_secs(20);
/// The time between two checks of another shard of this installation that still works; used only while the number of
/// shards changes.
const CHECK_SHARD_EVERY: Duration = Duration::from_secs(4);

/// The findings of a reconcile of all objects of the cluster; a reconcile of only the readers reuses them.
struct LookFindings {
    /// The generation of the resource that the findings are about.
    generation: i64,
    revision: u32,
    reader_template: String,
    upgrade_held_reason: Option<String>,
    rollout_states: Vec<RolloutState>,
    spec_problems: Vec<FieldProblem>,
    components_to_restart: BTreeSet<Component>,
    other_problems: Vec<ReportedProblem>,
    active_reader_count: u32,
    /// The components that still have pods.
    components_with_pods: BTreeSet<Component>,
    /// Whether the cluster hibernates and it is the readers' turn to end.
    hibernates: bool,
}

/// The time of the next reconcile if nothing changes.
enum NextLook {
    At(Option<Instant>),
    /// There is no next reconcile: the cluster was deleted, or was deleted and created again.
    Never,
}

/// The reconciler of one `RankingCluster`: it reads the cluster's objects and the managers' reports, and changes what
/// differs from the resource.
pub struct Actor {
    context: Arc<OperatorContext>,
    leadership: Arc<Leadership>,
    key: ClusterKey,
    uid: String,
    waker: Arc<Notify>,
    operator_facts: OperatorFacts,
    claim: Claim,
    /// The holder of the claim if that is another installation; `None` otherwise.
    claimed_by: Option<String>,
    /// The wanted objects, each as it was made last.
    object_memory: ObjectMemory,
    applier: Applier,
    scale_down_pacer: ScaleDownPacer,
    reader_controller: ReaderController,
    mounts: MountChecker,
    reporter: Reporter,
    last_findings: Option<LookFindings>,
    /// The refusals of the operator's policy, with the generation and builder revision that they are for.
    policy_refusals: Option<((i64, u32), Vec<FieldProblem>)>,
    /// Whether something has changed since the last reconcile of all objects.
    must_look_at_everything: bool,
    /// The time of the next reconcile of all objects if nothing changes; `None` if no time is set.
    next_whole_look: Option<Instant>,
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.note_claim_holder(None);
    }
}

impl Actor {
    /// Creates the reconciler of the resource that has the name `key` now.
    pub fn new(
        world: &Arc<OperatorContext>,
        office: &Arc<Leadership>,
        key: &ClusterKey,
        cluster: &RankingCluster,
    ) -> Self {
        let uid = cluster.uid().to_owned();
        let managers =
            Managers::new(world.peers.clone(), world.url_templates.clone(), Arc::clone(&world.tokens), key);
        let told = cluster.status.as_ref();
        let last =
            told.and_then(|status| status.last_decision.as_ref()).and_then(super::reporter::last_decision);
        let wanted = told.and_then(|status| u32::try_from(status.readers.as_ref()?.desired).ok());
        let memory = ReaderMemory::new(now_ms(), last.as_ref(), wanted);
        let (client, metrics, lanes) = (&world.client, &world.metrics, &world.request_limit);
        let owner = cluster.owner_ref(&()).unwrap_or_default();
        Self {
            operator_facts: world.operator_facts(),
            claim: Claim::new(
                client.clone(),
                lanes.clone(),
                metrics.clone(),
                key,
                owner,
                (&world.installation, office.shard),
            ),
            claimed_by: None,
            object_memory: ObjectMemory::default(),
            applier: Applier::new(client.clone(), lanes.clone(), key.clone(), uid.clone(), metrics.clone()),
            scale_down_pacer: ScaleDownPacer::default(),
            reader_controller: ReaderController::new(managers, Arc::clone(office), memory),
            mounts: MountChecker::default(),
            reporter: Reporter::new(
                client.clone(),
                lanes.clone(),
                key,
                office.identity.clone(),
                metrics.clone(),
                told.map(|status| status.history.clone()).unwrap_or_default(),
            ),
            waker: world.wakers.waker_of(key),
            context: Arc::clone(world),
            leadership: Arc::clone(office),
            key: key.clone(),
            uid,
            last_findings: None,
            policy_refusals: None,
            must_look_at_everything: true,
            next_whole_look: None,
        }
    }

    /// Reconciles the cluster until it is deleted.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            // The future is on the heap: it holds a cluster's objects while the actor waits.
            let next = Box::pin(self.look_and_act()).await;
            self.context.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
            let NextLook::At(at) = next else { return };
            let asleep = async {
                match at {
                    Some(at) => sleep_until(at.max(Instant::now() + GATHER_CHANGES_FOR).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.waker.notified() => {
                    sleep(GATHER_CHANGES_FOR).await;
                    self.must_look_at_everything = true;
                }
                () = asleep => {}
            }
        }
    }

    /// Reconciles once: all objects if something changed, otherwise only the readers by the managers' reports.
    async fn look_and_act(&mut self) -> NextLook {
        let world = Arc::clone(&self.context);
        let Some(cluster) = world.cluster(&self.key).filter(|cluster| cluster.uid() == self.uid) else {
            return NextLook::Never;
        };
        if cluster.is_deleting() {
            // The objects that the cluster owns are deleted with it; none of them may be created again meanwhile.
            return NextLook::At(None);
        }
        if let Some(wait) = self.wait_for_claim(&cluster).await {
            return NextLook::At(Some(Instant::now() + wait));
        }
        let now = Timestamp::now();
        // On the heap: otherwise it would be on the stack of every actor for as long as a look takes.
        let cluster = Box::new(in_force::resource_in_force(&cluster, now));
        if self.applier.stores_behind_for(&world.stores).is_some_and(|age| age < MAX_WAIT_FOR_STORES) {
            return NextLook::At(Some(Instant::now() + LOOK_AGAIN_IF_BEHIND));
        }
        if *self.operator_facts.public_keys != *world.public_keys.known_keys() {
            self.operator_facts = world.operator_facts();
            self.must_look_at_everything = true;
        }
        let due = [self.applier.next_retry(), self.next_whole_look].into_iter().flatten().min();
        let retry = due.is_some_and(|at| at <= Instant::now());
        let whole = std::mem::take(&mut self.must_look_at_everything)
            || retry
            || self.are_findings_of_earlier_spec(&cluster);
        let deployments = own_deployments(&cluster, world.stores[&Kind::Deployment].objects_of(&self.key));
        let pods = world.pods.objects_of(&self.key);
        let found = match self.last_findings.take().filter(|_| !whole) {
            Some(found) => found,
            None => self.gather_findings(&cluster, &deployments, &pods),
        };
        let may_write = !cluster.spec.paused && found.spec_problems.is_empty();
        if may_write && whole && self.restore_lost_readers(&pods).await {
            // They are readers like all others once the watch shows them.
            self.must_look_at_everything = true;
            return NextLook::At(Some(Instant::now() + LOOK_AGAIN_IF_BEHIND));
        }
        let outcome = self.look_at_readers(&cluster, &found, &deployments, &pods).await;
        let steps = outcome.as_ref().map(|outcome| outcome.steps.clone()).unwrap_or_default();
        if may_write {
            self.send_orders(&steps).await;
        }
        let mut shrinking = self.next_whole_look.filter(|at| *at > Instant::now());
        if may_write && (whole || !steps.is_empty()) {
            let carry = RoundWriter {
                context: &world,
                key: &self.key,
                cluster: &cluster,
                operator_facts: &self.operator_facts,
                revision: found.revision,
                rollout_states: &found.rollout_states,
                deployments: &deployments,
                pods: &pods,
            };
            let memory = &mut self.object_memory;
            let written = carry.carry_out(steps, memory, &mut self.applier, &mut self.scale_down_pacer);
            // Writes may take long if a webhook hangs.
            shrinking = self.reader_controller.renew_term_during(written).await;
        }
        let requests = (&world.client, &world.request_limit);
        let (mounts, mounting) =
            self.mounts.check_mounts(requests, &self.key.namespace, &pods, &deployments, now_ms()).await;
        let status = self.write_report(&cluster, &found, outcome.as_ref(), mounts).await;
        self.last_findings = Some(found);
        let tick = outcome.is_some().then(|| Instant::now() + LOOK_EVERY);
        let retry = self.applier.next_retry().filter(|_| may_write);
        self.next_whole_look = [shrinking, self.next_change_by_time(&pods)].into_iter().flatten().min();
        let next =
            [tick, status, retry, mounting, self.next_whole_look, Some(Instant::now() + CHECK_CLAIM_EVERY)];
        NextLook::At(next.into_iter().flatten().min())
    }

    /// Returns the next time at which the passing of time changes something: pods that crashed have run for long
    /// enough, `restartAt` comes, a maintenance window opens or closes, or a pod that all wait for counts as lost.
    fn next_change_by_time(&self, pods: &[Arc<CachedPod>]) -> Option<Instant> {
        let now = now_ms();
        let cluster = self.context.cluster(&self.key);
        let spec = cluster.as_deref();
        let restart = spec.and_then(|it| in_force::scheduled_restart(it, Timestamp::now()));
        let window = spec.and_then(|it| maintenance::state(&it.spec.maintenance, Timestamp::now()));
        let at = [
            troubles::next_recovery(pods, now),
            restart.map(Timestamp::as_millisecond),
            window.and_then(|state| state.until).map(Timestamp::as_millisecond),
            spec.filter(|it| it.spec.hibernate).and_then(|_| shrink::next_pod_lost_at(pods, now)),
        ];
        let wait = at.into_iter().flatten().min()?.saturating_sub(now);
        Some(Instant::now() + Duration::from_millis(u64::try_from(wait).unwrap_or(0)) + GATHER_CHANGES_FOR)
    }

    /// Takes or renews the claim. Returns how long to wait before the next check; `None` if this operator holds the
    /// claim.
    async fn wait_for_claim(&mut self, cluster: &RankingCluster) -> Option<Duration> {
        match self.claim.take_or_renew().await {
            ClaimState::Held => {
                self.note_claim_holder(None);
                None
            }
            ClaimState::HeldByShard(shard) => {
                self.note_claim_holder(None);
                tracing::debug!(cluster = %self.key, %shard, "it still looks after the cluster");
                Some(CHECK_SHARD_EVERY)
            }
            ClaimState::HeldByInstallation(holder) => {
                if self.claimed_by.as_ref() != Some(&holder) {
                    let words = format!(
                        "the operator {} leaves this cluster to the operator {holder}, which holds the Lease {}; \
                         operators beside each other need an operatorClass each, or namespaces of their own",
                        self.context.installation,
                        build::names::claim_lease_name(&self.key.name),
                    );
                    tracing::warn!(cluster = %self.key, holder, "another operator looks after it");
                    self.context.event_publisher.publish(
                        &cluster.object_ref(&()),
                        &events::warning_event("ClaimedByAnother", &words),
                    );
                }
                self.note_claim_holder(Some(holder));
                Some(CHECK_CLAIM_EVERY)
            }
            ClaimState::Unknown(error) => {
                self.context.metrics.count_failure("claim");
                tracing::warn!(cluster = %self.key, error, "it is not known who looks after it");
                Some(CHECK_CLAIM_EVERY)
            }
        }
    }

    fn note_claim_holder(&mut self, by: Option<String>) {
        let gauge = &self.context.metrics.claimed_by_others;
        gauge.inc_by(i64::from(by.is_some()) - i64::from(self.claimed_by.is_some()));
        self.claimed_by = by;
    }

    /// Returns true if the last findings are about an earlier generation of the resource: the cache has a change before
    /// its actor is woken. A status of such findings would call a new generation done before anything was written.
    fn are_findings_of_earlier_spec(&self, cluster: &RankingCluster) -> bool {
        self.last_findings.as_ref().is_some_and(|found| found.generation != cluster.generation())
    }

    /// Collects the facts that the stores hold; sends no request.
    fn gather_findings(
        &mut self,
        cluster: &RankingCluster,
        deployments: &[Arc<LiveObject>],
        pods: &[Arc<CachedPod>],
    ) -> LookFindings {
        let revision = in_force::revision_in_force(cluster, self.context.newest_revision, Timestamp::now());
        let components_with_pods = hibernation::components_with_pods(pods, now_ms());
        let hibernates = cluster.spec.hibernate
            && hibernation::may_scale_to_zero(Component::Reader, &components_with_pods);
        let mut spec_problems = validate::validate_cluster(cluster);
        spec_problems.extend(self.context.unknown_fields(&self.key));
        let readers = steering::existing_readers(cluster.name(), deployments);
        let current = readers.iter().filter(|reader| reader.drain.is_none()).count() as u32;
        let (mut reader_template, mut rollout_states, mut components_to_restart) =
            (String::new(), Vec::new(), BTreeSet::new());
        let input = build::Input { cluster, revision, readers: &readers, operator: &self.operator_facts };
        if spec_problems.is_empty() {
            // The refusals depend only on the resource and the builder, but pods change often: they are computed once.
            let of = (cluster.generation(), revision);
            if self.policy_refusals.as_ref().is_none_or(|(was, _)| *was != of) {
                self.policy_refusals = Some((of, self.context.policy.find_refusals(&input)));
            }
            spec_problems =
                self.policy_refusals.as_ref().map(|(_, refusals)| refusals.clone()).unwrap_or_default();
        }
        if spec_problems.is_empty() {
            let built = &mut self.object_memory.built;
            built.reader_template_hash(&input).clone_into(&mut reader_template);
            let mut objects = built.objects(&input).to_vec();
            hibernation::set_replicas(&mut objects, cluster, deployments, &components_with_pods);
            rollout_states = rollout::component_states(&objects, deployments);
            let newest = self.context.newest_revision;
            if revision != newest {
                components_to_restart.clone_from(built.components_restarted_by_revision(&input, newest));
            }
        }
        let turn =
            rollout::next_component(&rollout_states).filter(|state| state.component < Component::Reader);
        let held = turn.map(|state| format!("{} is being rolled out first", state.component.name()));
        let mut other_problems = troubles::pod_problems(pods, now_ms());
        other_problems.extend(troubles::route_problems(&carry::routes_of_cluster(&self.context, &self.key)));
        LookFindings {
            generation: cluster.generation(),
            revision,
            reader_template,
            upgrade_held_reason: held,
            rollout_states,
            spec_problems,
            components_to_restart,
            other_problems,
            active_reader_count: current,
            components_with_pods,
            hibernates,
        }
    }

    /// Restores lost readers, while the planner renews its term. Returns whether readers were lost.
    async fn restore_lost_readers(&mut self, pods: &[Arc<CachedPod>]) -> bool {
        let labelled = self.context.stores[&Kind::Deployment].objects_of(&self.key);
        let restored = restore_unlabelled_readers(&mut self.applier, &labelled, pods);
        self.reader_controller.renew_term_during(restored).await
    }

    async fn look_at_readers(
        &mut self,
        cluster: &RankingCluster,
        found: &LookFindings,
        deployments: &[Arc<LiveObject>],
        pods: &[Arc<CachedPod>],
    ) -> Option<RoundOutcome> {
        let none_left = || steering::existing_readers(cluster.name(), deployments).is_empty();
        let none_wanted = !cluster.spec.comments() || found.hibernates;
        if !found.spec_problems.is_empty() || (none_wanted && none_left()) {
            return None;
        }
        let facts = steering::RoundFacts {
            cluster,
            template: &found.reader_template,
            upgrade_held_reason: found.upgrade_held_reason.as_deref(),
            hibernates: found.hibernates,
            deployments,
            pods,
        };
        Some(self.reader_controller.ask_and_decide(&facts).await)
    }

    /// Sends the managers their orders. Orders follow from the observed state, not from what is about to be written: a
    /// cordon from an existing annotation, a move from readers that serve.
    async fn send_orders(&mut self, steps: &[ReaderStep]) {
        let cordons: Vec<_> = steps.iter().filter_map(ReaderStep::cordon_request).collect();
        if !cordons.is_empty() {
            self.reader_controller.send_cordons(cordons).await;
        }
        for step in steps {
            if let ReaderStep::Moves { moves } = step {
                self.reader_controller.send_moves(moves.clone()).await;
            }
        }
    }

    async fn write_report(
        &mut self,
        cluster: &RankingCluster,
        found: &LookFindings,
        outcome: Option<&RoundOutcome>,
        mounts: Vec<ReportedProblem>,
    ) -> Option<Instant> {
        let contested = self.applier.contested_fields();
        let spec = self.context.cluster(&self.key);
        let unheeded_replicas = spec.as_deref().and_then(in_force::ignored_replicas);
        let mut troubles = troubles::refusal_problems(&self.applier.refusals());
        troubles.extend(troubles::contested_field_problems(&contested));
        troubles.extend(found.other_problems.iter().cloned());
        troubles.extend(mounts);
        let about = cluster.object_ref(&());
        let decisions = outcome.map(|outcome| outcome.decisions.as_slice()).unwrap_or_default();
        self.reporter.note_decisions(decisions);
        for decision in decisions {
            self.context.event_publisher.publish(&about, &events::decision_event(decision));
        }
        let decision = self.reporter.last_decision();
        let history = self.reporter.history();
        self.reader_controller.note_decisions(status::outside_decisions(decision.as_ref(), &history));
        let report = StatusInput {
            cluster,
            now: Timestamp::now(),
            identity: &self.leadership.identity,
            revision: found.revision,
            spec_problems: &found.spec_problems,
            rollout_states: &found.rollout_states,
            active_reader_count: found.active_reader_count,
            unheeded_replicas,
            reader_facts: outcome.map(|outcome| &outcome.facts),
            last_decision: decision.as_ref(),
            history: &history,
            proposals: outcome.map(|outcome| outcome.proposals.as_slice()).unwrap_or_default(),
            other_problems: &troubles,
            contested_fields: &contested,
            components_to_restart: &found.components_to_restart,
            has_unwritten_objects: self.applier.is_unfinished(),
            components_with_pods: &found.components_with_pods,
        };
        let (told, next) =
            self.reader_controller.renew_term_during(self.reporter.write_status(&report)).await;
        for news in told {
            self.context.event_publisher.publish(&about, &news);
        }
        next
    }
}

/// Returns the Deployments of a cluster, of those that have its labels. A Deployment of somebody else is left out even
/// if it has a reader's name: it would be emptied and deleted.
fn own_deployments(cluster: &RankingCluster, mut labelled: Vec<Arc<LiveObject>>) -> Vec<Arc<LiveObject>> {
    labelled.retain(|live| live.is_writable_for(cluster.uid()));
    labelled
}

/// Restores readers whose Deployments the watch no longer shows, because somebody edited the labels that it selects by;
/// their pods still name them. Otherwise such readers would be replaced by new ones, and would run for ever. Returns
/// whether readers were lost.
async fn restore_unlabelled_readers(
    applier: &mut Applier,
    deployments: &[Arc<LiveObject>],
    pods: &[Arc<CachedPod>],
) -> bool {
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
