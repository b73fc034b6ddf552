//! What a batch of the log does: counts, owners, scores and numbered comments, each event exactly once.
//!
//! The archive keeps, in one transaction, the next offset of every partition and all that was counted up to it. A
//! batch names the offsets it starts from; an archive that stands elsewhere refuses it. So this module need not
//! remember what was applied: it only says what a batch does to the state it is given.

use std::collections::{BTreeSet, HashMap};

use crate::comment::{Comment, EntryKind, nobody_user};
use crate::decays::{CountedDecays, DecayedScores};
use crate::event::CommentBody;
use crate::moderation::reports::MAX_REPORTED_BYTES;
use crate::moderation::{ActorRole, HeldChange, NameDigest, ReportedComment, RuleChange};
use crate::score::{Counters, Weights, thousandths_added};
use crate::trending::{Log2Worths, log2_difference, log2_sum};
use crate::windows::{CountedWindows, WindowChange, WindowCounting};
use crate::{Interaction, Kind, Metadata, Millis, UserId, VideoId, canary};

mod batch;
mod identity;
mod identity_table;
mod moderating;
mod places;
mod reporting;
mod unique;

pub use batch::{Batch, LogRecord, OffsetRange, RecordFingerprint};
pub use identity::{event_identities, has_effects_beyond_counts, identity_digest, identity_of_event, sha256};
pub use identity_table::{IdentityTable, Sighting, may_be_merged, merged, segments_to_merge};
use moderating::Moderating;
pub use moderating::{AuditEntry, StoredModeration};
use places::VideoPlaces;
use unique::Marks;
pub use unique::{MarkChange, MarkKey, UniqueKinds, UniqueMark, mark_key, mark_keys};

/// A repeat of an `event_id` is recognised for this long, in the log's time.
pub const REPEAT_WINDOW_MS: Millis = 24 * 3600 * 1000;

/// The bytes that an archive may write anew for this event beside what it says: reports of a comment are one document.
pub fn extra_written_bytes(event: &Interaction) -> usize {
    if reporting::reported(event).is_some() { MAX_REPORTED_BYTES } else { 0 }
}

/// What is known of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoState {
    /// Which video.
    pub video_id: VideoId,
    /// Its owner: the first `owner_id` given, else the user of its first interaction.
    pub owner: UserId,
    /// Whether the owner was given as such, and thus is final.
    pub owner_given: bool,
    /// How often each thing happened.
    pub counters: Counters,
    /// The number of its last comment; 0 before the first.
    pub last_seq: u64,
    /// The decayed score as a logarithm ([`crate::trending`]); negative infinity before the first event of weight.
    pub trending: f64,
    /// The decayed scores by half-lives of boards' own.
    pub decayed: DecayedScores,
    /// What [`VideoState::revision`] has beside the counts: two for each event that was taken back, and one for each time
    /// that the video was put or removed, or its owner forgotten.
    pub corrections: u64,
    /// What the app says of it, if anything.
    pub metadata: Option<Metadata>,
    /// What the one is who took it off the boards; `None` while it is not.
    pub removed_by: Option<ActorRole>,
}

impl VideoState {
    /// A number that grows with every change of the state: of two states of a generation it tells the later one. It is made
    /// of the counts, so that what releases before it have counted is in it, too.
    pub const fn revision(&self) -> u64 {
        let Counters { views, likes, comments, shares, watch_ms: _, watch_short, watch_long } = self.counters;
        let counted = views + likes + comments + shares + watch_short + watch_long;
        counted as u64 + self.last_seq + self.corrections
    }

    /// The video as it is in a window of which these are the counts. Its revision stays: whatever changes counts of a window changes
    /// the video, too.
    #[must_use]
    pub fn within_window(mut self, counters: Counters) -> Self {
        let revision = self.revision();
        self.counters = counters;
        self.trending = f64::NEG_INFINITY;
        self.decayed = DecayedScores::default();
        self.corrections = 0;
        self.corrections = revision.saturating_sub(self.revision());
        self
    }

    /// Whether it is on no board: it was taken off, or it is the system's own.
    pub fn is_off_boards(&self) -> bool {
        self.removed_by.is_some() || canary::is_canary(&self.video_id)
    }

    /// A video's state before its first event, which `event` is.
    fn from_first_event(event: &Interaction) -> Self {
        // Whoever writes to the topic first must not become the owner of the system's own video.
        let own = canary::is_canary(&event.video_id).then(canary::user);
        let given = own.or_else(|| event.owner_id.clone());
        Self {
            video_id: event.video_id.clone(),
            owner_given: given.is_some(),
            owner: given.unwrap_or_else(|| event.user_id.clone()),
            counters: Counters::default(),
            last_seq: 0,
            trending: f64::NEG_INFINITY,
            decayed: DecayedScores::default(),
            corrections: 0,
            metadata: None,
            removed_by: None,
        }
    }

    fn put_metadata(&mut self, metadata: &Metadata, owner: Option<&UserId>) {
        if let (false, Some(owner)) = (self.owner_given, owner) {
            self.owner = owner.clone();
            self.owner_given = true;
        }
        self.metadata = Some(metadata.clone());
        self.removed_by = None;
        self.corrections += 1;
    }

    /// Takes it off the boards. An owner does not take the place of a service that did so before.
    fn take_off_boards(&mut self, by: ActorRole) {
        self.removed_by = Some(self.removed_by.filter(|_| by == ActorRole::Owner).unwrap_or(by));
        self.corrections += 1;
    }

    /// Forgets its owner, where that is this one. One that was given as such is not replaced by another.
    fn forget_owner(&mut self, user: NameDigest) {
        if NameDigest::of_user(&self.owner) == user {
            self.owner = nobody_user();
            self.corrections += 1;
        }
    }

    /// Takes back an event of this type that added `log2` to the decayed score.
    fn take_back_event(&mut self, kind: Kind, log2: f64, rules: &CountingRules) {
        self.counters.uncount_event(kind);
        // The count has one less now: with two more the revision still grows by one.
        self.corrections += 2;
        self.trending = if self.counters.score(&rules.weights) == 0 {
            f64::NEG_INFINITY
        } else {
            log2_difference(self.trending, log2)
        };
    }
}

/// How events count: fixed for a generation of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountingRules {
    /// What each kind is worth.
    pub weights: Weights,
    /// The half-life of the trending board, in milliseconds.
    pub half_life_ms: u64,
    /// The types that count once per user and video.
    pub unique: UniqueKinds,
}

impl CountingRules {
    /// Why the scores of an archive that was counted by these rules cannot be made by `others` from its counts, if so.
    ///
    /// # Errors
    /// Says what differs, and that the log has to be counted anew.
    pub fn check_rescore(&self, others: &Self) -> Result<(), String> {
        const COUNT_ANEW_HINT: &str = "`rebuild mongodb` counts anew from the log";
        let (threshold, wanted) = (self.weights.watch_threshold_ms, others.weights.watch_threshold_ms);
        if threshold != wanted {
            return Err(format!(
                "the watch threshold is {threshold} ms in the archive and {wanted} ms now: how many watches are of \
                 either kind cannot be had from counts; {COUNT_ANEW_HINT}"
            ));
        }
        if !others.unique.includes_all(self.unique) {
            return Err(format!(
                "these types count once per user in the archive: {}; and these now: {}. Counts do not tell how often \
                 each user did it; {COUNT_ANEW_HINT}",
                self.unique, others.unique
            ));
        }
        if !self.unique.is_empty() && self.half_life_ms != others.half_life_ms {
            return Err(format!(
                "another half-life starts trending anew, and then what is taken back later cannot be told from what \
                 was never in it (once per user: {}); {COUNT_ANEW_HINT}",
                self.unique
            ));
        }
        Ok(())
    }
}

impl Default for CountingRules {
    fn default() -> Self {
        Self { weights: Weights::default(), half_life_ms: 360 * 60 * 1000, unique: UniqueKinds::default() }
    }
}

/// A comment with the place in the log that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedComment {
    /// The comment.
    pub comment: Comment,
    /// The partition it came from.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

/// An entry of an earlier batch that loses something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRemoval {
    /// Its video.
    pub video: VideoId,
    /// Its number.
    pub seq: u64,
    /// Whether it loses its text ([`Comment::into_removed`]).
    pub removes_text: bool,
    /// Whether it loses its author's name ([`Comment::into_erased`]).
    pub removes_author: bool,
}

impl EntryRemoval {
    /// What is left of the entry.
    #[must_use]
    pub fn apply_to(&self, entry: Comment) -> Comment {
        let entry = if self.removes_text { entry.into_removed() } else { entry };
        if self.removes_author { entry.into_erased() } else { entry }
    }
}

/// What a batch does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchEffects {
    /// The new state of every video that changed, by id.
    pub videos: Vec<VideoState>,
    /// The new comments, in the order of their numbers within each video. Not all are archived:
    /// [`BatchEffects::archived_comments`].
    pub comments: Vec<NumberedComment>,
    /// The identities to remember, with the log's time of each.
    pub new_identities: Vec<(String, Millis)>,
    /// What is to be removed of entries of earlier batches.
    pub removals: Vec<EntryRemoval>,
    /// Restrictions and rules of comments that changed, in the order of their revisions.
    pub rule_changes: Vec<RuleChange>,
    /// Comments that wait for a moderator from now on, and those that wait no more, in log order.
    pub held_changes: Vec<HeldChange>,
    /// The comments whose reports changed, as they are now.
    pub changed_reports: Vec<ReportedComment>,
    /// What moderators did, and that comments were reported, in log order.
    pub audit_entries: Vec<AuditEntry>,
    /// The marks that changed, by key.
    pub mark_changes: Vec<MarkChange>,
    /// What is added to counts by window.
    pub windows: Vec<WindowChange>,
    /// Where windows are counted, the videos of which more changed than counts: an owner, metadata, whether they are on boards.
    pub restated: Vec<VideoId>,
    /// Events that counted.
    pub counted_events: u64,
    /// Events that were repeats of counted ones, or took back what had not counted.
    pub repeated_events: u64,
}

impl BatchEffects {
    /// The new comments that are archived: all but those of the canary, which are published only.
    pub fn archived_comments(&self) -> impl Iterator<Item = &NumberedComment> {
        self.comments.iter().filter(|numbered| !canary::is_canary(&numbered.comment.video_id))
    }
}

/// By what an archive counts.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a> {
    /// How events count.
    pub rules: &'a CountingRules,
    /// The windows that are counted.
    pub windows: &'a CountedWindows,
    /// The decays that are counted beside that of the rules.
    pub decays: &'a CountedDecays,
}

/// [`apply_moderated_batch`], where nothing that is moderated was stored before, no mark is set, and neither windows nor decays are counted.
/// Tests and measurements use it; archives, which store all of that, do not.
pub fn apply_batch(
    records: &[LogRecord],
    known: impl IntoIterator<Item = VideoState>,
    sightings: impl IntoIterator<Item = (String, Millis)>,
    rules: &CountingRules,
) -> BatchEffects {
    let (windows, decays) = (&CountedWindows::default(), &CountedDecays::default());
    apply_moderated_batch(
        records,
        known,
        sightings,
        StoredModeration::default(),
        [],
        InForce { rules, windows, decays },
    )
}

/// Applies `records` to the `known` videos. `sightings` are the identities among [`Batch::event_identities`] that the
/// archive remembers, with the log's time of their first sighting. `moderated` is what it holds of what moderators
/// change: counts and numbers do not depend on it. `marks` are those among [`Batch::affected_marks`] that are set.
pub fn apply_moderated_batch(
    records: &[LogRecord],
    known: impl IntoIterator<Item = VideoState>,
    sightings: impl IntoIterator<Item = (String, Millis)>,
    moderated: StoredModeration,
    marks: impl IntoIterator<Item = (MarkKey, UniqueMark)>,
    in_force: InForce<'_>,
) -> BatchEffects {
    let mut counting = EventCounting::by(in_force);
    let mut moderating = Moderating::new(records, moderated);
    let mut marks = Marks::of(marks);
    let mut videos = BatchVideos::of(known);
    let mut sightings: HashMap<String, Millis> = sightings.into_iter().collect();
    let mut effects = BatchEffects::default();
    for record in records {
        let event = &record.event;
        if let Some(identity) = identity_of_event(event) {
            let is_recent = |first: &Millis| record.broker_time - first < REPEAT_WINDOW_MS;
            if event_identities(event).any(|name| sightings.get(&name).is_some_and(is_recent)) {
                effects.repeated_events += 1;
                continue;
            }
            sightings.insert(identity.clone(), record.broker_time);
            effects.new_identities.push((identity, record.broker_time));
        }
        if event.kind == Kind::Moderation {
            // Of a video that nothing has happened to there is nothing to delete.
            let known = videos.is_known(&event.video_id) || moderating::makes_known(event);
            let video = if known { Some(videos.video_to_restate(event)) } else { None };
            moderating.apply(record, video, &mut effects);
            for key in moderating::forgotten_marks(event) {
                marks.remove(&key);
            }
            effects.counted_events += 1;
            continue;
        }
        let mark = mark_key(event, in_force.rules.unique);
        if let Some(kind) = event.kind.takes_back() {
            match mark.and_then(|key| marks.remove(&key)) {
                Some(mark) => {
                    counting.take_back(videos.video_to_change(event), record, kind, &mark);
                    effects.counted_events += 1;
                }
                None => effects.repeated_events += 1,
            }
            continue;
        }
        if mark.is_some_and(|key| marks.is_set(&key)) {
            effects.repeated_events += 1;
            continue;
        }
        let video = videos.video_to_count(event);
        let counted = counting.count(video, record);
        if let Some(key) = mark {
            marks.set(key, counted);
        }
        if let Some(body) = &event.comment {
            video.last_seq += 1;
            let numbered = numbered_comment(record, body, video.last_seq);
            moderating.note(&numbered.comment, effects.comments.len());
            effects.comments.push(numbered);
        }
        effects.counted_events += 1;
    }
    if !in_force.windows.is_empty() {
        effects.restated = videos.restated();
        effects.windows = counting.windows.changes();
    }
    effects.videos = videos.into_changed(in_force.decays);
    effects.mark_changes = marks.changes();
    effects.changed_reports = moderating.reports();
    effects
}

/// Counts the events of a batch.
struct EventCounting<'a> {
    rules: &'a CountingRules,
    windows: WindowCounting<'a>,
    decays: &'a CountedDecays,
    worths: Log2Worths,
}

impl<'a> EventCounting<'a> {
    fn by(InForce { rules, windows, decays }: InForce<'a>) -> Self {
        Self { rules, windows: WindowCounting::of(windows), decays, worths: Log2Worths::default() }
    }

    /// Counts an event, and returns what its mark says of it.
    fn count(&mut self, video: &mut VideoState, record: &LogRecord) -> UniqueMark {
        let log2 = count_event(video, record, self.rules, &mut self.worths);
        let decayed = self.decays.count(&mut video.decayed, record, self.rules, &mut self.worths);
        UniqueMark { log2, at: self.windows.add(record, &self.rules.weights), decayed }
    }

    /// Takes back an event of this type, of which this is the mark.
    fn take_back(&mut self, video: &mut VideoState, record: &LogRecord, kind: Kind, mark: &UniqueMark) {
        video.take_back_event(kind, mark.log2, self.rules);
        self.decays.take_back(&mut video.decayed, &mark.decayed);
        self.windows.take_back(record, kind, mark.at);
    }
}

fn numbered_comment(record: &LogRecord, body: &CommentBody, seq: u64) -> NumberedComment {
    let event = &record.event;
    let comment = Comment {
        id: body.comment_id.clone(),
        user_id: event.user_id.clone(),
        video_id: event.video_id.clone(),
        text: body.text.clone(),
        timestamp: event.timestamp,
        seq,
        entry: EntryKind::Comment,
        reply_to: body.reply_to.clone(),
    };
    NumberedComment { comment, partition: record.partition, offset: record.offset }
}

/// The videos of a batch. An event of a known one costs one look-up and no copy of its id.
struct BatchVideos {
    states: Vec<(VideoState, bool)>,
    places: VideoPlaces,
    /// The places of those of which more changed than counts.
    restated: BTreeSet<usize>,
}

impl BatchVideos {
    fn of(known: impl IntoIterator<Item = VideoState>) -> Self {
        let states: Vec<_> = known.into_iter().map(|state| (state, false)).collect();
        let places = VideoPlaces::of(states.iter().map(|(state, _)| &state.video_id));
        Self { states, places, restated: BTreeSet::new() }
    }

    fn is_known(&self, id: &VideoId) -> bool {
        self.places.is_known(id)
    }

    fn video_to_change(&mut self, event: &Interaction) -> &mut VideoState {
        let place = self.place(event);
        self.change(place)
    }

    /// One of which more changes than counts.
    fn video_to_restate(&mut self, event: &Interaction) -> &mut VideoState {
        let place = self.place(event);
        self.restated.insert(place);
        self.change(place)
    }

    /// One of which the event is counted.
    fn video_to_count(&mut self, event: &Interaction) -> &mut VideoState {
        let place = self.place(event);
        if event.owner_id.is_some() && !self.states[place].0.owner_given {
            self.restated.insert(place);
        }
        self.change(place)
    }

    fn place(&mut self, event: &Interaction) -> usize {
        let place = self.places.place_or(&event.video_id, self.states.len());
        if place == self.states.len() {
            self.states.push((VideoState::from_first_event(event), false));
        }
        place
    }

    fn change(&mut self, place: usize) -> &mut VideoState {
        let (state, changed) = &mut self.states[place];
        *changed = true;
        state
    }

    fn restated(&self) -> Vec<VideoId> {
        self.restated.iter().map(|place| self.states[*place].0.video_id.clone()).collect()
    }

    /// Those that changed, with the decayed scores that are counted alone.
    fn into_changed(self, decays: &CountedDecays) -> Vec<VideoState> {
        let changed = self.states.into_iter().filter_map(|(state, changed)| changed.then_some(state));
        let mut changed: Vec<_> = changed.collect();
        for state in &mut changed {
            state.decayed.keep(decays);
        }
        changed.sort_unstable_by(|a, b| a.video_id.cmp(&b.video_id));
        changed
    }
}

/// Counts an event, and returns what it added to the decayed score, as a logarithm.
fn count_event(
    video: &mut VideoState,
    record: &LogRecord,
    rules: &CountingRules,
    worths: &mut Log2Worths,
) -> f64 {
    let event = &record.event;
    if let (false, Some(owner)) = (video.owner_given, &event.owner_id) {
        video.owner = owner.clone();
        video.owner_given = true;
    }
    video.counters.count_event(event, &rules.weights);
    let worth = thousandths_added(event, &rules.weights);
    let log2 = worths.log2_worth(worth, event.timestamp, record.broker_time, rules.half_life_ms);
    let log2 = log2.unwrap_or(f64::NEG_INFINITY);
    video.trending = log2_sum(video.trending, log2);
    log2
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn record(offset: u64, value: &Value) -> LogRecord {
        let broker_time = 1_700_000_000_000 + offset as Millis;
        LogRecord {
            partition: 0,
            offset,
            broker_time,
            event: Interaction::parse(value, broker_time).unwrap(),
        }
    }

    fn comment_record(offset: u64, video: &str, id: &str) -> LogRecord {
        let value =
            json!({"video_id": video, "user_id": "u", "type": "comment", "comment_id": id, "comment": "hi"});
        record(offset, &value)
    }

    fn no_sightings() -> Vec<(String, Millis)> {
        Vec::new()
    }

    #[test]
    fn a_repeat_counts_once_within_the_window_and_again_after_it() {
        let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
        let mut late = record(2, &view);
        late.broker_time += REPEAT_WINDOW_MS;
        let records = [record(0, &view), record(1, &view), late];
        let effects = apply_batch(&records, [], no_sightings(), &CountingRules::default());
        assert_eq!((effects.counted_events, effects.repeated_events), (2, 1));
        assert_eq!(effects.videos[0].counters.views, 2);
        for name in event_identities(&records[0].event) {
            let seen = [(name, records[0].broker_time)];
            assert_eq!(apply_batch(&records[..2], [], seen, &CountingRules::default()).counted_events, 0);
        }
    }

    #[test]
    fn an_event_id_is_scoped_to_its_user_and_video() {
        let of = |video: &str, user: &str| json!({"video_id": video, "user_id": user, "type": "view", "event_id": "e"});
        let records = [of("v", "ana"), of("v", "ben"), of("w", "ana"), of("v", "ana")];
        let records: Vec<_> = records.iter().enumerate().map(|(at, it)| record(at as u64, it)).collect();
        let effects = apply_batch(&records, [], no_sightings(), &CountingRules::default());
        assert_eq!(
            (effects.counted_events, effects.repeated_events, effects.new_identities.len()),
            (3, 1, 3)
        );
    }

    #[test]
    fn identities_of_an_earlier_release_are_recognised_within_their_window() {
        let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
        let (now, mut later) = (record(0, &view), record(1, &view));
        later.broker_time = now.broker_time + REPEAT_WINDOW_MS;
        let seen = || [("e:e".to_owned(), now.broker_time)];
        assert_eq!(
            apply_batch(std::slice::from_ref(&now), [], seen(), &CountingRules::default()).repeated_events,
            1
        );
        let effects = apply_batch(std::slice::from_ref(&later), [], seen(), &CountingRules::default());
        assert_eq!(effects.counted_events, 1);
        assert_eq!(effects.new_identities[0].0, "e:v\nu\ne", "remembered under the new name");
        let batch = Batch { records: vec![now], ..Batch::default() };
        assert!(batch.event_identities().contains("e:e"), "the archive is asked for it");
    }

    #[test]
    fn comments_are_numbered_after_the_last_one_of_the_video() {
        let first = apply_batch(
            &[comment_record(0, "v", "a"), comment_record(1, "w", "b")],
            [],
            no_sightings(),
            &CountingRules::default(),
        );
        assert_eq!(first.comments.iter().map(|c| c.comment.seq).collect::<Vec<_>>(), [1, 1]);
        let again = [comment_record(2, "v", "c"), comment_record(3, "v", "c"), comment_record(4, "v", "d")];
        let second = apply_batch(&again, first.videos, no_sightings(), &CountingRules::default());
        assert_eq!(second.comments.iter().map(|c| c.comment.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((second.videos.len(), second.videos[0].counters.comments), (1, 3));
    }

    #[test]
    fn the_first_body_of_a_comment_wins() {
        let mut other = comment_record(1, "v", "a");
        other.event.comment.as_mut().unwrap().text = "later".into();
        let effects =
            apply_batch(&[comment_record(0, "v", "a"), other], [], no_sightings(), &CountingRules::default());
        assert_eq!(effects.comments.len(), 1);
        assert_eq!(effects.comments[0].comment.text, "hi");
    }

    #[test]
    fn the_owner_is_the_first_given_else_the_first_user() {
        let by = |user: &str, owner: Option<&str>| json!({"video_id": "v", "user_id": user, "type": "view", "owner_id": owner});
        let run = |values: &[Value]| {
            let records: Vec<_> =
                values.iter().enumerate().map(|(at, value)| record(at as u64, value)).collect();
            apply_batch(&records, [], no_sightings(), &CountingRules::default()).videos[0].owner.to_string()
        };
        assert_eq!(run(&[by("a", None), by("b", None)]), "a");
        assert_eq!(run(&[by("a", None), by("b", Some("o"))]), "o");
        assert_eq!(run(&[by("a", Some("o")), by("b", Some("p"))]), "o");
    }

    #[test]
    fn the_canary_is_counted_and_published_but_not_archived() {
        let own = |kind: &str| json!({"video_id": canary::CANARY_ID, "user_id": canary::CANARY_ID, "type": kind, "comment_id": "a", "comment": "hi"});
        let mut view = own("view");
        view.as_object_mut().unwrap().remove("comment_id");
        let mut view = record(0, &view);
        // Whoever reads records refuses this one; here it would not matter either.
        (view.event.user_id, view.event.owner_id) = ("mallory".parse().unwrap(), "mallory".parse().ok());
        let records = [view, record(1, &own("comment")), comment_record(2, "v", "b")];
        let effects = apply_batch(&records, [], no_sightings(), &CountingRules::default());
        let [own, other] = effects.videos.as_slice() else { panic!("{:?}", effects.videos) };
        assert_eq!((own.owner.as_str(), own.counters.views, own.last_seq), (canary::CANARY_ID, 1, 1));
        assert!(own.is_off_boards() && !other.is_off_boards());
        assert_eq!(effects.comments.len(), 2, "both are published");
        let archived: Vec<_> = effects.archived_comments().map(|it| it.comment.id.as_str()).collect();
        assert_eq!(archived, ["b"]);
    }

    #[test]
    fn an_event_and_a_comment_with_the_same_id_both_count() {
        let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "x"});
        let effects = apply_batch(
            &[record(0, &view), comment_record(1, "v", "x")],
            [],
            no_sightings(),
            &CountingRules::default(),
        );
        assert_eq!(effects.counted_events, 2);
    }

    #[test]
    fn a_batch_continues_from_the_state_of_the_batch_before() {
        let view = json!({"video_id": "v", "user_id": "u", "type": "view"});
        let mark = |digest| Some(RecordFingerprint { broker_time: 1, digest });
        let span =
            |partition, from, next, last| OffsetRange { partition, first: from, next, last_record: last };
        let mut batch =
            Batch { offset_ranges: vec![span(0, 3, 5, mark(1))], records: vec![record(3, &view)] };
        let next = vec![span(0, 5, 9, mark(2)), span(7, 0, 1, mark(3))];
        batch.append(Batch { offset_ranges: next, records: vec![record(6, &view)] });
        batch.append(Batch { offset_ranges: vec![span(0, 9, 9, None)], records: Vec::new() });
        assert_eq!(batch.offset_ranges, [span(0, 3, 9, mark(2)), span(7, 0, 1, mark(3))]);
        assert_eq!(batch.records.len(), 2);
        batch.drop_partitions(&[0]);
        assert_eq!((batch.offset_ranges, batch.records.len()), (vec![span(7, 0, 1, mark(3))], 0));
    }

    proptest! {
        /// However a log is cut into batches, the result is the same.
        #[test]
        fn splitting_the_log_into_other_batches_gives_the_same_result(
            events in proptest::collection::vec((0..3usize, 0..crate::Kind::ALL.len(), proptest::option::of(0..6u8)), 1..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let records: Vec<_> = events.iter().enumerate().map(|(at, (video, kind, id))| {
                let kind = crate::Kind::ALL[*kind].name();
                let mut value = json!({"video_id": format!("v{video}"), "user_id": "u", "type": kind,
                    "watch_time": 1.5, "event_id": id.map(|id| format!("e{id}"))});
                if kind == "comment" {
                    value["comment_id"] = json!(format!("c{}", id.unwrap_or(at as u8 + 10)));
                    value["comment"] = json!("text");
                }
                record(at as u64, &value)
            }).collect();
            let rules = CountingRules::default();
            let whole = apply_batch(&records, [], no_sightings(), &rules);
            let (head, tail) = records.split_at(cut.index(records.len()));
            let first = apply_batch(head, [], no_sightings(), &rules);
            let second = apply_batch(tail, first.videos.clone(), first.new_identities.clone(), &rules);
            let mut merged: BTreeMap<_, _> = first.videos.into_iter().map(|v| (v.video_id.clone(), v)).collect();
            merged.extend(second.videos.into_iter().map(|v| (v.video_id.clone(), v)));
            prop_assert_eq!(merged.into_values().collect::<Vec<_>>(), whole.videos);
            let comments: Vec<_> = first.comments.into_iter().chain(second.comments).collect();
            prop_assert_eq!(comments, whole.comments);
            prop_assert_eq!(first.counted_events + second.counted_events, whole.counted_events);
        }
    }
}
