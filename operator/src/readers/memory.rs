//! What a leader remembers from round to round. All of it may be lost: a new leader finds drains in annotations and
//! cordons, and takes nobody away before it has looked for as long as the stabilisation window.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use liverank_core::handover::ReaderShare;
use liverank_core::scaling::PastDecision;
use liverank_core::{Millis, VideoId};

use super::decision::{AnnouncedStates, Decision};
use super::proposal::{PlanSubject, WaitingProposal};
use super::seen::{ObservedReader, ReaderDrain};

/// Counts closer together than this are kept as one: the trend and the window need no more.
const HISTORY_EVERY_MS: Millis = 5_000;
/// Counts kept: the longest window there may be, an hour, and what lies just beyond it.
const MAX_HISTORY: usize = 800;
/// How long an order is taken to be under way: a manager gives one up after less, where there is room in the budget.
const ORDER_LIFETIME_MS: Millis = 30_000;
/// How long it is remembered that an order was told of: no manager lets one wait for longer.
const ORDER_REMEMBERED_MS: Millis = 120_000;
/// How long viewers who left a reader may be on their way to another one, where machines are busy: three seconds that their
/// reader asked them to wait, and then as long again for an answer and a stream. 7.5 s were needed in the model of
/// `core/tests/replacing.rs` and 5.7 s on a cluster of two busy cores.
const ON_THEIR_WAY_MS: Millis = 10_000;
/// The first rest after reconnect errors; each further one for the same template is twice as long.
const FIRST_REST_MS: Millis = 300_000;
/// The longest such rest.
const LONGEST_REST_MS: Millis = 3_600_000;

/// What the operator remembers of a cluster's readers between two rounds.
#[derive(Debug, Clone)]
pub struct ReaderMemory {
    pub(super) born: Millis,
    /// Readers wanted; `None` before the first round and where there are to be none.
    pub(super) wanted_readers: Option<u32>,
    /// What the status said was wanted, for the first round.
    pub(super) last_wanted: Option<u32>,
    pub(super) history: VecDeque<PastDecision>,
    pub(super) writes: PendingWrites,
    pub(super) bucket: MoveBudget,
    /// When the planner last looked.
    pub(super) planned: Option<Millis>,
    pub(super) ordered: BTreeMap<VideoId, GivenOrder>,
    /// Plans that wait to be approved.
    pub(super) proposals: BTreeMap<PlanSubject, WaitingProposal>,
    /// Since when this leader has seen readers being emptied, by their Deployments' uids. What their annotations say is by
    /// the clock of whoever led then: nobody is let go by the difference of two clocks.
    pub(super) draining: BTreeMap<String, Millis>,
    /// Since when readers have been seen to be empty.
    pub(super) empty_since: BTreeMap<String, Millis>,
    /// When readers that are being emptied were last seen to have viewers, by their names.
    pub(super) last_viewers: BTreeMap<String, Millis>,
    /// Since when readers whose pods are ready have not been heard by the managers.
    pub(super) unheard: BTreeMap<String, Millis>,
    pub(super) upgrade_rest: Option<UpgradeRest>,
    /// Since when the load cannot be acted on, or can again.
    pub(super) load_trouble: Option<(bool, Millis)>,
    pub(super) announced_states: AnnouncedStates,
}

/// Writes that were asked for and are not seen yet.
#[derive(Debug, Clone, Default)]
pub struct PendingWrites {
    pub create: BTreeSet<String>,
    /// By name: whose annotations, and what they are to say.
    pub annotate: BTreeMap<String, (String, Option<ReaderDrain>)>,
    /// Deployments, by uid.
    pub delete: BTreeSet<String>,
}

/// An order that was given.
#[derive(Debug, Clone)]
pub struct GivenOrder {
    /// The assignment epoch that the order is based on.
    pub epoch: u64,
    pub given_at: Millis,
    /// The readers that are to serve the video.
    pub readers: Vec<ReaderShare>,
}

/// Viewers that may be moved: fills at the permitted rate. A new leader begins with none, since the one before it may just
/// have spent them.
#[derive(Debug, Clone, Default)]
pub struct MoveBudget {
    viewers_left: i64,
    filled: Option<Millis>,
}

/// No upgrade after reconnect errors.
#[derive(Debug, Clone)]
pub struct UpgradeRest {
    pub template: String,
    pub rest_until: Millis,
    /// How long it is in all.
    pub ms: Millis,
    /// How many there were for this template.
    pub times: u32,
    /// What was seen: the number of failures, and of attempts.
    pub errors: (u64, u64),
}

impl ReaderMemory {
    /// What a new leader knows: what the resource's status says was decided last, and how many readers were wanted.
    pub fn new(now: Millis, last: Option<&Decision>, wanted: Option<u32>) -> Self {
        Self {
            born: now,
            wanted_readers: None,
            last_wanted: wanted,
            history: VecDeque::new(),
            writes: PendingWrites::default(),
            bucket: MoveBudget::default(),
            planned: None,
            ordered: BTreeMap::new(),
            proposals: BTreeMap::new(),
            draining: BTreeMap::new(),
            empty_since: BTreeMap::new(),
            last_viewers: BTreeMap::new(),
            unheard: BTreeMap::new(),
            upgrade_rest: None,
            load_trouble: None,
            announced_states: AnnouncedStates::new(last),
        }
    }

    pub(super) fn remember_demand(&mut self, past: PastDecision, window: Millis) {
        match self.history.back_mut() {
            Some(last) if past.at - last.at < HISTORY_EVERY_MS && past.desired == last.desired => {
                last.raw = last.raw.max(past.raw);
            }
            _ => self.history.push_back(past),
        }
        // One from before the window has to stay: it shows that the history reaches back over all of it.
        let since = past.at - window - 2 * HISTORY_EVERY_MS;
        let before = |past: &PastDecision| past.at < since;
        while self.history.len() > MAX_HISTORY || self.history.get(1).is_some_and(before) {
            self.history.pop_front();
        }
    }

    pub(super) fn forget_expired(&mut self, now: Millis) {
        self.ordered.retain(|_, order| now - order.given_at < ORDER_REMEMBERED_MS);
    }

    /// Notes that readers that are being emptied still have viewers.
    pub(super) fn note_viewers_of_leaving(&mut self, now: Millis, names: impl Iterator<Item = String>) {
        self.last_viewers.extend(names.map(|name| (name, now)));
        self.last_viewers.retain(|_, last| now - *last < ON_THEIR_WAY_MS);
    }

    /// Whether viewers who left a reader a moment ago may be counted nowhere yet. Whoever plans for them meanwhile plans for
    /// too few, and they are moved again when they are there.
    pub(super) fn viewers_are_on_their_way(&self, now: Millis) -> bool {
        self.last_viewers.values().any(|last| *last < now)
    }

    /// The order for a video that is not in force yet and may come to be.
    pub(super) fn ordered(&self, video: &VideoId, epoch: u64, now: Millis) -> Option<&GivenOrder> {
        self.ordered
            .get(video)
            .filter(|order| order.epoch == epoch && now - order.given_at < ORDER_LIFETIME_MS)
    }

    /// Begins or prolongs the rest of a template.
    pub(super) fn begin_rest(&mut self, template: &str, now: Millis, errors: (u64, u64)) {
        let same = self.upgrade_rest.as_ref().filter(|rest| rest.template == template);
        let times = same.map_or(0, |rest| rest.times);
        let ms = (FIRST_REST_MS << times.min(10)).min(LONGEST_REST_MS);
        self.upgrade_rest = Some(UpgradeRest {
            template: template.to_owned(),
            rest_until: now + ms,
            ms,
            times: times + 1,
            errors,
        });
    }
}

impl PendingWrites {
    /// Drops what is seen to be done, or cannot be done any more.
    pub fn drop_settled(&mut self, readers: &[ObservedReader]) {
        let find = |name: &str| readers.iter().find(|reader| reader.name == name);
        self.create.retain(|name| find(name).is_none());
        self.annotate.retain(|name, (uid, drain)| {
            let here = find(name).filter(|reader| reader.uid == *uid && !reader.deleting);
            here.is_some_and(|reader| {
                let done = reader.drain.map(|it| it.why) == drain.map(|it| it.why);
                // A drain has to say since when.
                !done || reader.drain.is_some_and(|it| it.since.is_none())
            })
        });
        self.delete.retain(|uid| readers.iter().any(|reader| reader.uid == *uid && !reader.deleting));
    }
}

impl MoveBudget {
    pub fn refill(&mut self, now: Millis, per_minute: u64) -> u64 {
        let passed = now - *self.filled.get_or_insert(now);
        let more = (u128::from(per_minute) * passed.clamp(0, 60_000) as u128 / 60_000) as u64;
        // What is less than a viewer waits for the next time.
        if more > 0 || passed > 60_000 {
            self.filled = Some(now);
            let full = i64::try_from(per_minute).unwrap_or(i64::MAX);
            self.viewers_left = self.viewers_left.saturating_add_unsigned(more).min(full);
        }
        u64::try_from(self.viewers_left).unwrap_or(0)
    }

    pub fn spend(&mut self, viewers: u64) {
        self.viewers_left = self.viewers_left.saturating_sub_unsigned(viewers);
    }
}
