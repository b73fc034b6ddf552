//! The manager itself: what it knows, and how it changes what is in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_adapters::StoreError;
use liverank_adapters::assignment_store::{Assignment, AssignmentStore, Orders, Swapped, Term};
use liverank_core::VideoId;
use liverank_runtime::client::Client;
use liverank_runtime::peer::Peers;
use liverank_runtime::{Identity, Problem, ServiceContext};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::addresses::ReaderAddresses;
use crate::cluster::overdue::DrainClock;
use crate::cluster::{Cluster, Decision};
use crate::history::History;
use crate::metrics::ManagerMetrics;
use crate::moves::MoveExecutor;
use crate::{Config, autopilot, sweep};

/// What the store is called among the dependencies.
const PART_NAME: &str = "assignments";
/// How long the store may take: a request waits for it, and its client for the request.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries of a compare-and-set: every one that fails means that another manager has just succeeded.
const MAX_TRIES: usize = 8;

/// Shared by all requests and tasks.
pub struct Manager {
    /// What the managers share.
    pub store: Arc<dyn AssignmentStore>,
    cluster: Mutex<Cluster>,
    carrying: Mutex<MoveExecutor>,
    /// What the planner in this manager decided last.
    pub decisions: Mutex<autopilot::Decisions>,
    /// What the readers had over the last minutes.
    pub history: Mutex<History>,
    /// Questions of what the planner would do that are answered at once.
    pub what_if: Semaphore,
    /// How it is set up.
    pub config: Config,
    /// Where readers may be.
    pub addresses: ReaderAddresses,
    /// Who this manager is, and how it knows others.
    pub identity: Identity,
    /// The way to readers.
    pub peers: Peers,
    /// Asks readers whether they are there.
    pub probes: Client,
    /// Where the coordinator's time begins.
    begun: Instant,
    /// Wakes who carries out moves: there is something to do.
    pub carry_now: Notify,
    /// The manager's metrics.
    pub metrics: ManagerMetrics,
    shell: ServiceContext,
}

/// What became of a video that was to have a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// The assignment that is in force.
    pub assignment: Assignment,
    /// Whether it was given a reader just now.
    pub is_new: bool,
}

/// Why a video has no reader.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unplaced {
    /// None takes videos now.
    #[error("no reader takes viewers now: try again")]
    NoReader,
    /// The number of assigned videos is at its limit.
    #[error("as many videos are assigned as may be: try again")]
    Full,
    /// Who has it, if anyone, is not known while the store is away.
    #[error("{0}: try again")]
    Away(StoreError),
    /// Other managers were faster, again and again.
    #[error("the video's assignment keeps changing: try again")]
    Contended,
}

impl From<Unplaced> for Problem {
    fn from(unplaced: Unplaced) -> Self {
        Self::unavailable(unplaced.to_string())
    }
}

impl Manager {
    /// A manager that knows nothing yet.
    pub fn new(config: Config, store: Arc<dyn AssignmentStore>, shell: &ServiceContext) -> Arc<Self> {
        let drain_clock = DrainClock::new(config.drain_limit());
        Arc::new(Self {
            store,
            cluster: Mutex::new(Cluster::new(drain_clock)),
            carrying: Mutex::default(),
            decisions: Mutex::default(),
            history: Mutex::default(),
            what_if: Semaphore::new(1),
            addresses: ReaderAddresses::new(config.reader_urls.clone()),
            identity: shell.identity.clone(),
            config,
            peers: shell.peers(),
            probes: sweep::probe_client(&shell.peer_tls),
            begun: Instant::now(),
            carry_now: Notify::new(),
            metrics: ManagerMetrics::new(&shell.metrics),
            shell: shell.clone(),
        })
    }

    /// What it carries out. Where both are needed, [`Manager::cluster`] is locked first. Never held across an await.
    pub fn carrying(&self) -> MutexGuard<'_, MoveExecutor> {
        self.carrying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The coordinator's time at `now`.
    pub fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// Takes over what the store says of planners and closed readers. Returns what the store has lost of it and is to be
    /// told again: orders of the highest term known.
    pub fn heard_orders(&self, orders: Orders) -> Option<Orders> {
        let mut cluster = self.cluster();
        let told = orders.term.as_ref().map_or(0, |term| term.term);
        let known = cluster.orders.term.as_ref().map_or(0, |term| term.term);
        if told < known {
            return Some(cluster.orders.clone());
        }
        self.carrying().heard_of_term(told);
        cluster.orders = orders;
        None
    }

    /// Notes that no reader could be named to somebody who asked.
    pub fn unserved(&self, video: &VideoId) {
        self.metrics.unserved.inc();
        self.cluster().unserved.note(Instant::now(), video);
    }

    /// Locks the cluster as this manager knows it. The lock is never held across an await.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store answers within [`STORE_TIMEOUT`]; how it is shows in the process's health.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let slow =
            || StoreError::unavailable(PART_NAME, format!("no answer within {} s", STORE_TIMEOUT.as_secs()));
        let answer = timeout(STORE_TIMEOUT, question).await.unwrap_or_else(|_| Err(slow()));
        let state = answer.as_ref().map(drop).map_err(ToString::to_string);
        self.shell.health.dependency(PART_NAME, state);
        answer
    }

    /// Takes over a term that this manager has just minted, ahead of the next poll.
    pub fn heard_term(&self, term: Term) {
        let mut cluster = self.cluster();
        self.carrying().heard_of_term(term.term);
        if cluster.orders.term.as_ref().is_none_or(|known| known.term <= term.term) {
            cluster.orders.term = Some(term);
        }
    }

    /// Makes sure that `video` has a reader fit to be used, by compare-and-set against the other managers. While the
    /// store is away, what is known stays in force. `known`: the highest epoch that the one who asks has heard of for the
    /// video; it is never answered with an older one.
    pub async fn ensure(&self, video: &VideoId, known: u64) -> Result<Ensured, Unplaced> {
        for _ in 0..MAX_TRIES {
            let decision = self.cluster().claim(Instant::now(), video, known);
            let (expected, readers, seen) = match decision {
                Decision::Serve(assignment) => return Ok(Ensured { assignment, is_new: false }),
                Decision::NoReader => return Err(Unplaced::NoReader),
                Decision::Full => return Err(Unplaced::Full),
                Decision::Assign { expected, readers, seen } => (expected, readers, seen),
            };
            match self.ask(self.store.assign(video, expected, &readers, seen, None)).await {
                Ok(Swapped::Stored(assignment)) => {
                    if expected.is_some() {
                        self.metrics.replaced();
                    }
                    self.note_assignment(&assignment, expected);
                    return Ok(Ensured { assignment, is_new: expected.is_none() });
                }
                Ok(Swapped::Conflict(current)) => self.learn(video, current),
                // Nobody is fenced who says no term.
                Ok(Swapped::Fenced(_)) => return Err(Unplaced::Contended),
                Err(error) => {
                    let in_force = self.cluster().view.get(video).cloned();
                    return in_force
                        .filter(|assignment| assignment.epoch() >= known)
                        .map(|assignment| Ensured { assignment, is_new: false })
                        .ok_or(Unplaced::Away(error));
                }
            }
        }
        Err(Unplaced::Contended)
    }

    /// Takes over what this manager's own compare-and-set brought into force, by an order.
    pub fn stored(&self, assignment: &Assignment, expected: Option<u64>) {
        self.note_assignment(assignment, expected);
        self.cluster().promise(Instant::now(), &assignment.video_id, assignment.readers());
    }

    /// The same without counting who comes: who claimed it has.
    fn note_assignment(&self, assignment: &Assignment, expected: Option<u64>) {
        let counter = if expected.is_some() { &self.metrics.moved } else { &self.metrics.placed };
        counter.inc();
        self.cluster().view.put(Instant::now(), assignment.clone());
    }

    /// What the store says of a video, for one whose news have not come yet.
    pub async fn look_up(&self, video: &VideoId) -> Option<Assignment> {
        // No assignment has this epoch: a removal that expects it changes nothing and answers what is in force.
        const NO_EPOCH_SEEN: u64 = 0;
        let Ok(Swapped::Conflict(current)) = self.ask(self.store.remove(video, NO_EPOCH_SEEN)).await else {
            return None;
        };
        self.learn(video, current.clone());
        current
    }

    /// Takes over what the store says is in force.
    pub fn learn(&self, video: &VideoId, current: Option<Assignment>) {
        let mut cluster = self.cluster();
        match current {
            Some(assignment) => cluster.view.put(Instant::now(), assignment),
            None => cluster.view.remove(video),
        }
    }

    /// Lets go of an assignment that is not in use, if it is still the same.
    pub async fn let_go(&self, video: &VideoId, epoch: u64) {
        match self.ask(self.store.remove(video, epoch)).await {
            Ok(Swapped::Stored(_)) => {
                self.metrics.removed.inc();
                self.learn(video, None);
            }
            Ok(Swapped::Conflict(current)) => self.learn(video, current),
            // The next sweep finds it again.
            Ok(Swapped::Fenced(_)) | Err(_) => {}
        }
    }
}
