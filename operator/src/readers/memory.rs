//! The memory of a leader between rounds. All of it may be lost: a new leader finds drains in annotations and cordons,
//! and removes no reader before it has watched for as long as the stabilisation window.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use liverank_core::handover::ReaderShare;
use liverank_core::scaling::PastDecision;
use liverank_core::{Millis, VideoId};

use super::decision::{Decision, ReportedStates};
use super::proposal::{PlanSubject, WaitingProposal};
use super::seen::{ObservedReader, ReaderDrain};

/// Milliseconds within which two decisions for the same number of readers are stored as one: trend and window need no
/// finer history.
const HISTORY_EVERY_MS: Millis = 5_000;
/// Maximal number of stored decisions: those of the longest possible window, an hour, and of the time just before it.
const MAX_HISTORY: usize = 800;
/// The time in milliseconds for which an order is assumed to be in progress: a manager gives it up earlier, if the
/// budget has room.
const ORDER_LIFETIME_MS: Millis = 30_000;
/// The time in milliseconds for which a reported order is remembered: no manager lets an order wait for longer.
const ORDER_REMEMBERED_MS: Millis = 120_000;
/// The longest time in milliseconds for which viewers who left a reader are in transit to another one, on busy
/// machines: three seconds that their reader asked them to wait, and then as long again for an answer and a stream. 7.5
/// s were needed in the model of `core/tests/replacing.rs` and 5.7 s on a cluster of two busy cores.
const MAX_TRANSIT_MS: Millis = 10_000;
/// The first pause of an upgrade after reconnect errors, in milliseconds; each further pause for the same template is
/// twice as long.
const FIRST_UPGRADE_PAUSE_MS: Millis = 300_000;
/// The longest pause of an upgrade, in milliseconds.
const LONGEST_UPGRADE_PAUSE_MS: Millis = 3_600_000;

/// The operator's memory of a cluster's readers between two rounds.
#[derive(Debug, Clone)]
pub struct ReaderMemory {
    pub(super) created_at: Millis,
    /// Number of readers wanted; `None` before the first round and if there are to be no readers.
    pub(super) wanted_readers: Option<u32>,
    /// The wanted number of readers in the status that the previous leader wrote; used in the first round only.
    pub(super) wanted_in_status: Option<u32>,
    pub(super) history: VecDeque<PastDecision>,
    pub(super) pending_writes: PendingWrites,
    pub(super) move_budget: MoveBudget,
    /// The time at which the planner last ran.
    pub(super) last_plan_at: Option<Millis>,
    pub(super) orders_given: BTreeMap<VideoId, GivenOrder>,
    /// The plans that wait for approval.
    pub(super) proposals: BTreeMap<PlanSubject, WaitingProposal>,
    /// The time since which this leader has seen readers being emptied, by their Deployments' uids. The annotations
    /// have the time of an earlier leader's clock: no reader may be removed because two clocks differ.
    pub(super) draining_since: BTreeMap<String, Millis>,
    /// The time since which readers have been empty, by their names.
    pub(super) empty_since: BTreeMap<String, Millis>,
    /// The time at which readers that are being emptied were last seen to have viewers, by their names.
    pub(super) last_had_viewers_at: BTreeMap<String, Millis>,
    /// The time since which readers whose pods are ready have not been heard by the managers, by their names.
    pub(super) unheard_since: BTreeMap<String, Millis>,
    pub(super) upgrade_pause: Option<UpgradePause>,
    /// Whether the load is unusable, and the time since which that has been so, in milliseconds since the Unix epoch.
    pub(super) load_trouble: Option<(bool, Millis)>,
    /// The number of readers that was wanted when the load became unusable; `None` while it is usable.
    pub(super) wanted_before_trouble: Option<u32>,
    pub(super) announced_states: ReportedStates,
}

/// Writes that were requested and are not observed to be done yet.
#[derive(Debug, Clone, Default)]
pub struct PendingWrites {
    pub readers_to_create: BTreeSet<String>,
    /// Annotations to write by reader's name: the uid of the Deployment, and the wanted drain.
    pub drains_to_annotate: BTreeMap<String, (String, Option<ReaderDrain>)>,
    /// Deployments to delete, by uid.
    pub deployments_to_delete: BTreeSet<String>,
}

/// An order to change a video's readers that was given to the managers.
#[derive(Debug, Clone)]
pub struct GivenOrder {
    /// The assignment epoch that the order is based on.
    pub epoch: u64,
    pub given_at: Millis,
    /// The readers that are to serve the video.
    pub readers: Vec<ReaderShare>,
}

/// The number of viewers that may still be moved; the budget fills at the permitted rate. A new leader begins with an
/// empty budget, because the previous leader may just have spent it.
#[derive(Debug, Clone, Default)]
pub struct MoveBudget {
    viewers_left: i64,
    last_refill_at: Option<Millis>,
}

/// A pause of an upgrade after reconnect errors.
#[derive(Debug, Clone)]
pub struct UpgradePause {
    pub template: String,
    pub paused_until: Millis,
    /// The length of the pause, in milliseconds.
    pub length_ms: Millis,
    /// Number of pauses so far for this template.
    pub pause_count: u32,
    /// The observed errors: the number of failures, and of attempts.
    pub failures_and_attempts: (u64, u64),
}

impl ReaderMemory {
    /// Creates the memory of a new leader, from the last decision and the wanted number of readers in the resource's
    /// status.
    pub fn new(now: Millis, last: Option<&Decision>, wanted: Option<u32>) -> Self {
        Self {
            created_at: now,
            wanted_readers: None,
            wanted_in_status: wanted,
            history: VecDeque::new(),
            pending_writes: PendingWrites::default(),
            move_budget: MoveBudget::default(),
            last_plan_at: None,
            orders_given: BTreeMap::new(),
            proposals: BTreeMap::new(),
            draining_since: BTreeMap::new(),
            empty_since: BTreeMap::new(),
            last_had_viewers_at: BTreeMap::new(),
            unheard_since: BTreeMap::new(),
            upgrade_pause: None,
            load_trouble: None,
            wanted_before_trouble: None,
            announced_states: ReportedStates::new(last),
        }
    }

    pub(super) fn remember_demand(&mut self, past: PastDecision, window: Millis) {
        match self.history.back_mut() {
            Some(last) if past.at - last.at < HISTORY_EVERY_MS && past.desired == last.desired => {
                last.raw = last.raw.max(past.raw);
            }
            _ => self.history.push_back(past),
        }
        // One decision from before the window is kept: it shows that the history covers the whole window.
        let since = past.at - window - 2 * HISTORY_EVERY_MS;
        let before = |past: &PastDecision| past.at < since;
        while self.history.len() > MAX_HISTORY || self.history.get(1).is_some_and(before) {
            self.history.pop_front();
        }
    }

    pub(super) fn forget_expired(&mut self, now: Millis) {
        self.orders_given.retain(|_, order| now - order.given_at < ORDER_REMEMBERED_MS);
    }

    /// Notes that these readers, which are being emptied, still have viewers.
    pub(super) fn note_viewers_of_leaving(&mut self, now: Millis, names: impl Iterator<Item = String>) {
        self.last_had_viewers_at.extend(names.map(|name| (name, now)));
        self.last_had_viewers_at.retain(|_, last| now - *last < MAX_TRANSIT_MS);
    }

    /// Returns whether viewers who left a reader a moment ago may not be counted anywhere yet. A plan made now would
    /// count too few viewers, and the missing viewers would be moved again when they arrive.
    pub(super) fn viewers_are_on_their_way(&self, now: Millis) -> bool {
        self.last_had_viewers_at.values().any(|last| *last < now)
    }

    /// Returns the order for a video that is not in force yet and may still come into force; `None` if there is none.
    pub(super) fn order_under_way(&self, video: &VideoId, epoch: u64, now: Millis) -> Option<&GivenOrder> {
        self.orders_given
            .get(video)
            .filter(|order| order.epoch == epoch && now - order.given_at < ORDER_LIFETIME_MS)
    }

    /// Begins a pause of a template's upgrade; each further pause of the same template is longer.
    pub(super) fn begin_upgrade_pause(
        &mut self,
        template: &str,
        now: Millis,
        failures_and_attempts: (u64, u64),
    ) {
        let same = self.upgrade_pause.as_ref().filter(|rest| rest.template == template);
        let times = same.map_or(0, |rest| rest.pause_count);
        let length_ms = (FIRST_UPGRADE_PAUSE_MS << times.min(10)).min(LONGEST_UPGRADE_PAUSE_MS);
        self.upgrade_pause = Some(UpgradePause {
            template: template.to_owned(),
            paused_until: now + length_ms,
            length_ms,
            pause_count: times + 1,
            failures_and_attempts,
        });
    }
}

impl PendingWrites {
    /// Drops writes that are observed to be done, or cannot be done any more.
    pub fn drop_settled(&mut self, readers: &[ObservedReader]) {
        let find = |name: &str| readers.iter().find(|reader| reader.name == name);
        self.readers_to_create.retain(|name| find(name).is_none());
        self.drains_to_annotate.retain(|name, (uid, drain)| {
            let here = find(name).filter(|reader| reader.uid == *uid && !reader.deleting);
            here.is_some_and(|reader| {
                let done = reader.drain.map(|it| it.why) == drain.map(|it| it.why);
                // A drain has to name its beginning.
                !done || reader.drain.is_some_and(|it| it.since.is_none())
            })
        });
        self.deployments_to_delete
            .retain(|uid| readers.iter().any(|reader| reader.uid == *uid && !reader.deleting));
    }
}

impl MoveBudget {
    pub fn refill(&mut self, now: Millis, per_minute: u64) -> u64 {
        let passed = now - *self.last_refill_at.get_or_insert(now);
        let more = (u128::from(per_minute) * passed.clamp(0, 60_000) as u128 / 60_000) as u64;
        // A fraction of a viewer is left for the next time.
        if more > 0 || passed > 60_000 {
            self.last_refill_at = Some(now);
            let full = i64::try_from(per_minute).unwrap_or(i64::MAX);
            self.viewers_left = self.viewers_left.saturating_add_unsigned(more).min(full);
        }
        u64::try_from(self.viewers_left).unwrap_or(0)
    }

    pub fn spend(&mut self, viewers: u64) {
        self.viewers_left = self.viewers_left.saturating_sub_unsigned(viewers);
    }
}
