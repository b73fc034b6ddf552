//! Counting: what a batch of the log does to an archive: counters, owners, scores and numbered comments, each event
//! exactly once.
//!
//! The archive stores, in one transaction, the next offset of every partition and everything counted up to it. A batch
//! names the offsets it starts from; an archive that is at other offsets refuses it. So this module need not remember
//! what was applied: it only computes what a batch does to the state it is given.

use std::collections::HashMap;

use crate::comment::{Comment, EntryKind};
use crate::decays::CountedDecays;
use crate::event::CommentBody;
use crate::moderation::reports::MAX_REPORTS_BYTES;
use crate::score::thousandths_added;
use crate::trending::{Log2Worths, log2_sum};
use crate::windows::{CountedWindows, WindowCounter};
use crate::{Interaction, Kind, Millis};

mod audit;
mod batch;
mod batch_videos;
mod effects;
mod identity;
mod identity_table;
mod marks;
mod moderating;
mod places;
pub(crate) mod record;
mod reporting;
pub(crate) mod rules;
mod unique;
pub(crate) mod video;

pub use audit::AuditEntry;
pub use batch::{Batch, OffsetRange};
use batch_videos::BatchVideos;
pub use effects::{BatchEffects, EntryRemoval, NumberedComment};
pub use identity::{event_identities, has_effects_beyond_counts, identity_of_event};
pub use identity_table::{IdentityTable, Sighting, may_be_merged, merge_sorted, segments_to_merge};
use marks::BatchMarks;
pub use marks::{MarkChange, MarkKey, UniqueMark, mark_key, mark_keys};
use moderating::BatchModeration;
pub use moderating::StoredModeration;
pub use record::{LogRecord, RecordFingerprint};
pub use rules::CountingRules;
pub use unique::UniqueKinds;
pub use video::VideoState;

/// The time for which a repeat of an `event_id` is recognised, in milliseconds by the log's clock: one day.
pub const REPEAT_WINDOW_MS: Millis = 24 * 3600 * 1000;

/// Returns the bytes that an archive may have to write for this event beside its own text: all reports of a comment
/// are one document, which is written anew for each report.
pub fn extra_written_bytes(event: &Interaction) -> usize {
    if reporting::reported_comment(event).is_some() { MAX_REPORTS_BYTES } else { 0 }
}

/// The things that an archive counts, and the rules by which it counts them.
#[derive(Debug, Clone, Copy)]
pub struct CountingSetup<'a> {
    /// The rules by which events count.
    pub rules: &'a CountingRules,
    /// The kinds of windows that are counted.
    pub windows: &'a CountedWindows,
    /// The decays that are counted beside the decay in `rules`.
    pub decays: &'a CountedDecays,
}

/// Computes the effects of a batch as [`apply_moderated_batch`] does, for an archive without stored moderation, marks,
/// windows and decays.
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
        CountingSetup { rules, windows, decays },
    )
}

/// Computes the effects of `records` on the `known` videos. `sightings` are the identities among
/// [`Batch::event_identities`] that the archive remembers, with the log's time of their first sighting. `moderated` is
/// the stored state that moderation records change; counters and sequence numbers do not depend on it. `marks` are the
/// marks among [`Batch::affected_marks`] that are set. `in_force` says what is counted and by which rules.
pub fn apply_moderated_batch(
    records: &[LogRecord],
    known: impl IntoIterator<Item = VideoState>,
    sightings: impl IntoIterator<Item = (String, Millis)>,
    moderated: StoredModeration,
    marks: impl IntoIterator<Item = (MarkKey, UniqueMark)>,
    in_force: CountingSetup<'_>,
) -> BatchEffects {
    let mut counting = EventCounter::new(in_force);
    let mut moderating = BatchModeration::new(records, moderated);
    let mut marks = BatchMarks::from_stored(marks);
    let mut videos = BatchVideos::from_known(known);
    let mut sightings: HashMap<String, Millis> = sightings.into_iter().collect();
    let mut effects = BatchEffects::default();
    for record in records {
        let event = &record.event;
        if let Some(identity) = identity_of_event(event) {
            let is_recent = |first: &Millis| record.broker_time - first < REPEAT_WINDOW_MS;
            if event_identities(event).any(|name| sightings.get(&name).is_some_and(is_recent)) {
                effects.repeated_event_count += 1;
                continue;
            }
            sightings.insert(identity.clone(), record.broker_time);
            effects.new_identities.push((identity, record.broker_time));
        }
        if event.kind == Kind::Moderation {
            // A video without any earlier event has nothing that could be deleted.
            let known = videos.is_known(&event.video_id) || moderating::makes_video_known(event);
            let video = if known { Some(videos.video_to_change_beyond_counters(event)) } else { None };
            moderating.apply(record, video, &mut effects);
            for key in moderating::keys_of_removed_marks(event) {
                marks.remove(&key);
            }
            effects.counted_event_count += 1;
            continue;
        }
        let mark = mark_key(event, in_force.rules.unique);
        if let Some(kind) = event.kind.kind_taken_back() {
            match mark.and_then(|key| marks.remove(&key)) {
                Some(mark) => {
                    counting.uncount_event(videos.video_to_change(event), record, kind, &mark);
                    effects.counted_event_count += 1;
                }
                None => effects.repeated_event_count += 1,
            }
            continue;
        }
        if mark.is_some_and(|key| marks.is_set(&key)) {
            effects.repeated_event_count += 1;
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
            moderating.note_comment(&numbered.comment, effects.comments.len());
            effects.comments.push(numbered);
        }
        effects.counted_event_count += 1;
    }
    if !in_force.windows.is_empty() {
        effects.videos_changed_beyond_counters = videos.videos_changed_beyond_counters();
        effects.window_changes = counting.window_counter.into_changes();
    }
    effects.videos = videos.into_changed_videos(in_force.decays);
    effects.mark_changes = marks.into_changes();
    effects.changed_reports = moderating.into_changed_reports();
    effects
}

/// Counts the events of a batch in videos, windows and decays.
struct EventCounter<'a> {
    rules: &'a CountingRules,
    window_counter: WindowCounter<'a>,
    decays: &'a CountedDecays,
    log2_worths: Log2Worths,
}

impl<'a> EventCounter<'a> {
    fn new(CountingSetup { rules, windows, decays }: CountingSetup<'a>) -> Self {
        Self {
            rules,
            window_counter: WindowCounter::new(windows),
            decays,
            log2_worths: Log2Worths::default(),
        }
    }

    /// Counts an event, and returns the value of its mark.
    fn count(&mut self, video: &mut VideoState, record: &LogRecord) -> UniqueMark {
        let trending_log2 = count_event(video, record, self.rules, &mut self.log2_worths);
        let decay_contributions =
            self.decays.count_event(&mut video.decayed_scores, record, self.rules, &mut self.log2_worths);
        UniqueMark {
            trending_log2,
            counted_at: self.window_counter.count_event(record, &self.rules.weights),
            decay_contributions,
        }
    }

    /// Subtracts what the event with the mark `mark` had added to the video's counters, scores and windows; `kind` is
    /// the type of that event.
    fn uncount_event(&mut self, video: &mut VideoState, record: &LogRecord, kind: Kind, mark: &UniqueMark) {
        video.uncount_event(kind, mark.trending_log2, self.rules);
        self.decays.subtract_contributions(&mut video.decayed_scores, &mark.decay_contributions);
        self.window_counter.uncount_event(record, kind, mark.counted_at);
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

/// Counts an event in a video's counters and decayed score, and returns what it added to the decayed score, as a
/// logarithm.
fn count_event(
    video: &mut VideoState,
    record: &LogRecord,
    rules: &CountingRules,
    worths: &mut Log2Worths,
) -> f64 {
    let event = &record.event;
    if let (false, Some(owner)) = (video.is_owner_given, &event.owner_id) {
        video.owner = owner.clone();
        video.is_owner_given = true;
    }
    video.counters.count_event(event, &rules.weights);
    let worth = thousandths_added(event, &rules.weights);
    let log2 = worths.log2_worth(worth, event.timestamp, record.broker_time, rules.half_life_ms);
    let log2 = log2.unwrap_or(f64::NEG_INFINITY);
    video.trending_log2 = log2_sum(video.trending_log2, log2);
    log2
}

#[cfg(test)]
mod tests;
