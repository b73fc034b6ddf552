//! The manager's state, and the operations that change assignments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_adapters::StoreError;
use liverank_adapters::assignment_store::{
    AssignmentStore, PlannerOrders, PlannerTerm, SwapOutcome, VideoAssignment,
};
use liverank_core::VideoId;
use liverank_protocol::OutsideDecision;
use liverank_runtime::client::Client;
use liverank_runtime::peer::PeerClient;
use liverank_runtime::{Identity, Problem, ServiceContext};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::addresses::ReaderAddresses;
use crate::cluster::overdue::DrainClock;
use crate::cluster::{KnownCluster, VideoDecision};
use crate::history::ViewerHistory;
use crate::metrics::ManagerMetrics;
use crate::moves::MoveExecutor;
use crate::registrations::RecentRegistrations;
use crate::{Config, autopilot, sweep};

/// The name of the store in the health report.
const STORE_HEALTH_NAME: &str = "assignments";
/// The time that the store may take to answer: requests wait for it, and clients for their requests.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of tries of a compare-and-set: each try that fails means that another manager has just succeeded.
const MAX_TRIES: usize = 8;
/// The maximum number of questions to the store at once about videos of callers that have used their share: as many as a
/// gateway asks the boards about its callers.
const MAX_OVER_SHARE_LOOK_UPS: usize = 16;

/// The state of a manager, shared by all requests and tasks.
pub struct Manager {
    /// The store that all managers share.
    pub assignment_store: Arc<dyn AssignmentStore>,
    known_cluster: Mutex<KnownCluster>,
    move_executor: Mutex<MoveExecutor>,
    /// The last decisions of the planner in this manager.
    pub planner_decisions: Mutex<autopilot::PlannerDecisions>,
    /// The last decisions of a planner outside of the managers, as it told them, the latest first.
    pub outside_decisions: Mutex<Vec<OutsideDecision>>,
    /// The number of viewers of each reader over the last minutes.
    pub viewer_history: Mutex<ViewerHistory>,
    /// The new videos that strangers registered lately.
    recent_registrations: Mutex<RecentRegistrations>,
    /// Permits for looking up videos that this manager does not know and whose caller has used its share: a flood of
    /// them must not slow down the store for others.
    pub over_share_look_ups: Semaphore,
    /// Permits for forecasts of the planner, which are answered one at a time.
    pub what_if_permits: Semaphore,
    /// The settings of the manager.
    pub config: Config,
    /// The addresses that readers may have.
    pub reader_addresses: ReaderAddresses,
    /// The identity of this manager, and the keys by which it verifies callers.
    pub identity: Identity,
    /// The HTTP client for requests to readers.
    pub reader_client: PeerClient,
    /// The HTTP client that probes whether readers answer.
    pub probe_client: Client,
    /// The time at which this manager started; the coordinator's clock counts from it.
    begun_at: Instant,
    /// Notified when a step of a move may have become due.
    pub moves_changed: Notify,
    /// The manager's metrics.
    pub metrics: ManagerMetrics,
    shell: ServiceContext,
}

/// The result of [`Manager::ensure_assigned`]: a video's assignment, and facts about how it came into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredAssignment {
    /// The assignment in force.
    pub assignment: VideoAssignment,
    /// True if the video had no assignment before.
    pub is_new: bool,
    /// True if the video's readers were chosen just now, so that the asking viewer is counted at each of them
    /// ([`KnownCluster::release_asking_viewer`]).
    pub is_viewer_counted: bool,
}

impl EnsuredAssignment {
    /// Wraps an assignment that was in force before the request.
    pub const fn already_in_force(assignment: VideoAssignment) -> Self {
        Self { assignment, is_new: false, is_viewer_counted: false }
    }
}

/// The reason for which a video has no reader.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnplacedReason {
    /// No reader accepts videos now.
    #[error("no reader takes viewers now: try again")]
    NoReader,
    /// The number of assigned videos is at its limit.
    #[error("as many videos are assigned as may be: try again")]
    TooManyAssignments,
    /// The store is unavailable, so that it is not known whether the video has a reader.
    #[error("{0}: try again")]
    StoreAway(StoreError),
    /// Other managers changed the assignment first, at every try.
    #[error("the video's assignment keeps changing: try again")]
    Contended,
}

impl From<UnplacedReason> for Problem {
    fn from(unplaced: UnplacedReason) -> Self {
        Self::part_unavailable(unplaced.to_string())
    }
}

impl Manager {
    /// Makes a manager that has not read anything from the store yet.
    pub fn new(config: Config, store: Arc<dyn AssignmentStore>, shell: &ServiceContext) -> Arc<Self> {
        let drain_clock = DrainClock::new(config.drain_limit());
        Arc::new(Self {
            assignment_store: store,
            known_cluster: Mutex::new(KnownCluster::new(drain_clock)),
            move_executor: Mutex::default(),
            planner_decisions: Mutex::default(),
            outside_decisions: Mutex::default(),
            viewer_history: Mutex::default(),
            recent_registrations: Mutex::new(RecentRegistrations::new(
                config.max_new_videos_per_hour as usize,
            )),
            over_share_look_ups: Semaphore::new(MAX_OVER_SHARE_LOOK_UPS),
            what_if_permits: Semaphore::new(1),
            reader_addresses: ReaderAddresses::new(config.reader_urls.clone()),
            identity: shell.identity.clone(),
            config,
            reader_client: shell.peer_client(),
            probe_client: sweep::new_probe_client(&shell.peer_tls),
            begun_at: Instant::now(),
            moves_changed: Notify::new(),
            metrics: ManagerMetrics::new(&shell.metrics),
            shell: shell.clone(),
        })
    }

    /// Locks the moves that this manager carries out. If both locks are needed, [`Manager::cluster`] is locked first. The lock is never held across an await.
    pub fn move_executor(&self) -> MutexGuard<'_, MoveExecutor> {
        self.move_executor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the coordinator's time at `now`.
    pub fn coordinator_time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun_at)
    }

    /// Locks the new videos that strangers registered lately. The lock is never held across an await.
    pub fn recent_registrations(&self) -> MutexGuard<'_, RecentRegistrations> {
        self.recent_registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the planner's term and the cordons from the store. Returns this manager's copy if the store has lost
    /// them, because the store has to be told again: the orders of the highest known term are in force.
    pub fn take_over_orders(&self, orders: PlannerOrders) -> Option<PlannerOrders> {
        let mut cluster = self.cluster();
        let told = orders.planner_term.as_ref().map_or(0, |term| term.term);
        let known = cluster.planner_orders.planner_term.as_ref().map_or(0, |term| term.term);
        if told < known {
            return Some(cluster.planner_orders.clone());
        }
        self.move_executor().note_term(told);
        cluster.planner_orders = orders;
        None
    }

    /// Counts a request for which no reader could be named.
    pub fn note_unserved(&self, video: &VideoId) {
        self.metrics.requests_unserved.inc();
        self.cluster().unserved_viewers.note_unserved(Instant::now(), video);
    }

    /// Locks the cluster as this manager knows it. The lock is never held across an await.
    pub fn cluster(&self) -> MutexGuard<'_, KnownCluster> {
        self.known_cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the store's answer, or the error "unavailable" after [`STORE_TIMEOUT`]. The outcome shows in the health
    /// report.
    pub async fn ask_store<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.ask_store_within(STORE_TIMEOUT, question).await
    }

    /// Returns the store's answer as [`Manager::ask_store`] does, or the error "unavailable" after `within`.
    pub async fn ask_store_within<T>(
        &self,
        within: Duration,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let slow =
            || StoreError::unavailable(STORE_HEALTH_NAME, format!("no answer within {} s", within.as_secs()));
        let answer = timeout(within, question).await.unwrap_or_else(|_| Err(slow()));
        let state = answer.as_ref().map(drop).map_err(ToString::to_string);
        self.shell.health.note_dependency(STORE_HEALTH_NAME, state);
        answer
    }

    /// Takes over a term that this manager has just begun in the store, before the next poll.
    pub fn take_over_term(&self, term: PlannerTerm) {
        let mut cluster = self.cluster();
        self.move_executor().note_term(term.term);
        if cluster.planner_orders.planner_term.as_ref().is_none_or(|known| known.term <= term.term) {
            cluster.planner_orders.planner_term = Some(term);
        }
    }

    /// Makes sure that `video` has a usable reader, by compare-and-set against the other managers. While the store is
    /// unavailable, the known assignment stays in force. `known`: the highest epoch of the video that the caller knows;
    /// an older assignment is never returned.
    pub async fn ensure_assigned(
        &self,
        video: &VideoId,
        known: u64,
    ) -> Result<EnsuredAssignment, UnplacedReason> {
        for _ in 0..MAX_TRIES {
            let decision = self.cluster().decide_and_count(Instant::now(), video, known);
            let (expected, readers, seen) = match decision {
                VideoDecision::UseCurrent(assignment) => {
                    return Ok(EnsuredAssignment::already_in_force(assignment));
                }
                VideoDecision::NoReader => return Err(UnplacedReason::NoReader),
                VideoDecision::TooManyAssignments => return Err(UnplacedReason::TooManyAssignments),
                VideoDecision::Assign { expected, readers, seen } => (expected, readers, seen),
            };
            match self
                .ask_store(self.assignment_store.assign_video(video, expected, &readers, seen, None))
                .await
            {
                Ok(SwapOutcome::Stored(assignment)) => {
                    if expected.is_some() {
                        self.metrics.count_reader_replacement();
                    }
                    self.note_assignment(&assignment, expected);
                    return Ok(EnsuredAssignment {
                        assignment,
                        is_new: expected.is_none(),
                        is_viewer_counted: true,
                    });
                }
                Ok(SwapOutcome::Conflict(current)) => self.take_over_current(video, current),
                // An assignment without a term cannot be fenced.
                Ok(SwapOutcome::Fenced(_)) => return Err(UnplacedReason::Contended),
                Err(error) => {
                    let in_force = self.cluster().assignment_view.get(video).cloned();
                    return in_force
                        .filter(|assignment| assignment.epoch() >= known)
                        .map(EnsuredAssignment::already_in_force)
                        .ok_or(UnplacedReason::StoreAway(error));
                }
            }
        }
        Err(UnplacedReason::Contended)
    }

    /// Takes over an assignment that this manager's own compare-and-set brought into force for an order, and reserves
    /// capacity for its viewers.
    pub fn take_over_swapped_assignment(&self, assignment: &VideoAssignment, expected: Option<u64>) {
        self.note_assignment(assignment, expected);
        self.cluster().reserve_for_viewers(Instant::now(), &assignment.video_id, assignment.readers());
    }

    /// Takes over an assignment without reserving capacity for its viewers: the caller has already counted them.
    fn note_assignment(&self, assignment: &VideoAssignment, expected: Option<u64>) {
        let counter =
            if expected.is_some() { &self.metrics.videos_moved } else { &self.metrics.videos_placed };
        counter.inc();
        self.cluster().assignment_view.take_over_assignment(Instant::now(), assignment.clone());
    }

    /// Reads a video's assignment from the store, for a video whose change has not arrived yet; `None` if there is none
    /// or the store does not answer.
    pub async fn look_up_assignment(&self, video: &VideoId) -> Option<VideoAssignment> {
        // No assignment has this epoch: a removal that expects it changes nothing and returns the assignment in force.
        const NO_EPOCH_SEEN: u64 = 0;
        let Ok(SwapOutcome::Conflict(current)) =
            self.ask_store(self.assignment_store.remove_assignment(video, NO_EPOCH_SEEN)).await
        else {
            return None;
        };
        self.take_over_current(video, current.clone());
        current
    }

    /// Takes over the assignment that the store says is in force; `None`: the video has none.
    pub fn take_over_current(&self, video: &VideoId, current: Option<VideoAssignment>) {
        let mut cluster = self.cluster();
        match current {
            Some(assignment) => cluster.assignment_view.take_over_assignment(Instant::now(), assignment),
            None => cluster.assignment_view.remove(video),
        }
    }

    /// Removes an unused assignment from the store, if it still has this epoch.
    pub async fn remove_unused_assignment(&self, video: &VideoId, epoch: u64) {
        match self.ask_store(self.assignment_store.remove_assignment(video, epoch)).await {
            Ok(SwapOutcome::Stored(_)) => {
                self.metrics.assignments_removed.inc();
                self.take_over_current(video, None);
            }
            Ok(SwapOutcome::Conflict(current)) => self.take_over_current(video, current),
            // The next sweep finds it again.
            Ok(SwapOutcome::Fenced(_)) | Err(_) => {}
        }
    }
}
