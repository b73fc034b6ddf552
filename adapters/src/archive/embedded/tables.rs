//! The tables of the archive's file, and the encoding of their rows.

use liverank_core::comment::CommentEpoch;
use liverank_core::counting::{CountingRules, MarkKey, RecordFingerprint, UniqueKinds, VideoState};
use liverank_core::decays::{CountedDecay, Decay, DecayedScore, DecayedScores, RunPart};
use liverank_core::moderation::ActorRole;
use liverank_core::score::{Counters, Weights};
use liverank_core::windows::{CountedKind, WindowKind};
use liverank_core::{Comment, Metadata, Millis, UserId, VideoId};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::super::{ArchiveMeta, ArchivePosition};
use super::PART_NAME;
use super::moderation::LogKey;
use crate::redb_file::{Failure, Purpose};

/// A partition's position as stored: the next offset, and time and digest of the record before it.
pub type StoredPosition = (u64, Option<(Millis, u64)>);

/// The tables of an archive, each with its key and value.
pub struct Tables {
    /// The meta data as JSON, under the one key.
    pub meta: TableDefinition<'static, (), &'static str>,
    /// The position in each partition.
    pub offsets: TableDefinition<'static, u32, StoredPosition>,
    /// The claimant id of each partition's owner.
    pub owners: TableDefinition<'static, u32, u64>,
    /// The state of each video, by video.
    pub videos: TableDefinition<'static, &'static str, &'static [u8]>,
    /// The log's time of an identity's last sighting that counted, by identity.
    pub identities: TableDefinition<'static, &'static str, Millis>,
    /// The times and identities of `identities`, ordered by time, for forgetting the oldest.
    pub sightings: TableDefinition<'static, (Millis, &'static str), ()>,
    /// Comments and other channel entries, by video and sequence number.
    pub comments: TableDefinition<'static, (&'static str, u64), &'static [u8]>,
    /// The video and sequence number of each entry, by partition and offset of its record.
    pub comment_places: TableDefinition<'static, (u32, u64), (&'static str, u64)>,
    /// The sequence number of the newest comment, by video and comment id.
    pub newest_by_id: TableDefinition<'static, (&'static str, &'static str), u64>,
    /// The number of comments, under the one key.
    pub comment_count: TableDefinition<'static, (), u64>,
    /// Restrictions and comment rules, by the revision of their last change.
    pub restrictions: TableDefinition<'static, u64, &'static [u8]>,
    /// The revision of each restriction or comment rule, by its key.
    pub rule_revisions: TableDefinition<'static, &'static str, u64>,
    /// The sequence number of the last entry that says which comment is pinned, by video.
    pub pins: TableDefinition<'static, &'static str, u64>,
    /// Comments that wait for a moderator, by time, partition and offset of their record.
    pub held_comments: TableDefinition<'static, LogKey, &'static [u8]>,
    /// The key in `held_comments` of each comment that waits, by video and comment.
    pub held_places: TableDefinition<'static, (&'static str, &'static str), LogKey>,
    /// Reports of comments, by video and comment.
    pub reports: TableDefinition<'static, (&'static str, &'static str), &'static [u8]>,
    /// The video and comment of each reported comment, by queue and sort key in it.
    pub report_queues: TableDefinition<'static, (&'static str, &'static str), (&'static str, &'static str)>,
    /// Moderators' records (the audit log), by time, partition and offset of the record.
    pub audit: TableDefinition<'static, LogKey, &'static [u8]>,
    /// The bits of the number that an event that counts once per user added to the decayed score, by its mark's key.
    pub marks: TableDefinition<'static, MarkKey, u64>,
    /// The time at which an event that counts once per user counts as having happened, by its mark's key, if windows
    /// are counted.
    pub mark_times: TableDefinition<'static, MarkKey, Millis>,
    /// The parts that an event that counts once per user added to the decayed scores of boards with a decay of their
    /// own, as JSON, by its mark's key.
    pub mark_parts: TableDefinition<'static, MarkKey, &'static [u8]>,
    /// The counts of a video in a window, by kind and start of the window and by video.
    pub windows: TableDefinition<'static, (&'static str, Millis, &'static str), &'static [u8]>,
    /// The offset up to which each partition is counted in windows and by decays, too.
    pub window_offsets: TableDefinition<'static, u32, u64>,
}

/// The tables of the archive that serves.
pub static LIVE: Tables = Tables {
    meta: TableDefinition::new("meta"),
    offsets: TableDefinition::new("offsets"),
    owners: TableDefinition::new("owners"),
    videos: TableDefinition::new("videos"),
    identities: TableDefinition::new("identities"),
    sightings: TableDefinition::new("sightings"),
    comments: TableDefinition::new("comments"),
    comment_places: TableDefinition::new("comment_places"),
    newest_by_id: TableDefinition::new("comment_names"),
    comment_count: TableDefinition::new("comment_count"),
    restrictions: TableDefinition::new("rules"),
    rule_revisions: TableDefinition::new("rule_revisions"),
    pins: TableDefinition::new("pins"),
    held_comments: TableDefinition::new("held"),
    held_places: TableDefinition::new("held_places"),
    reports: TableDefinition::new("reports"),
    report_queues: TableDefinition::new("report_queues"),
    audit: TableDefinition::new("moderation"),
    marks: TableDefinition::new("marks"),
    mark_times: TableDefinition::new("mark_times"),
    mark_parts: TableDefinition::new("mark_parts"),
    windows: TableDefinition::new("windows"),
    window_offsets: TableDefinition::new("window_offsets"),
};

/// The tables of the archive that a replay counts into.
pub static NEXT: Tables = Tables {
    meta: TableDefinition::new("next_meta"),
    offsets: TableDefinition::new("next_offsets"),
    owners: TableDefinition::new("next_owners"),
    videos: TableDefinition::new("next_videos"),
    identities: TableDefinition::new("next_identities"),
    sightings: TableDefinition::new("next_sightings"),
    comments: TableDefinition::new("next_comments"),
    comment_places: TableDefinition::new("next_comment_places"),
    newest_by_id: TableDefinition::new("next_comment_names"),
    comment_count: TableDefinition::new("next_comment_count"),
    restrictions: TableDefinition::new("next_rules"),
    rule_revisions: TableDefinition::new("next_rule_revisions"),
    pins: TableDefinition::new("next_pins"),
    held_comments: TableDefinition::new("next_held"),
    held_places: TableDefinition::new("next_held_places"),
    reports: TableDefinition::new("next_reports"),
    report_queues: TableDefinition::new("next_report_queues"),
    audit: TableDefinition::new("next_moderation"),
    marks: TableDefinition::new("next_marks"),
    mark_times: TableDefinition::new("next_mark_times"),
    mark_parts: TableDefinition::new("next_mark_parts"),
    windows: TableDefinition::new("next_windows"),
    window_offsets: TableDefinition::new("next_window_offsets"),
};

pub const ARCHIVE_PURPOSE: Purpose = Purpose {
    store_name: PART_NAME,
    version: 1,
    create_tables: |transaction| LIVE.create_absent(transaction),
};

impl Tables {
    /// Creates those of these tables that are absent.
    pub fn create_absent(&self, transaction: &WriteTransaction) -> Result<(), Failure> {
        transaction.open_table(self.meta)?;
        transaction.open_table(self.offsets)?;
        transaction.open_table(self.owners)?;
        transaction.open_table(self.videos)?;
        transaction.open_table(self.identities)?;
        transaction.open_table(self.sightings)?;
        transaction.open_table(self.comments)?;
        transaction.open_table(self.comment_places)?;
        transaction.open_table(self.newest_by_id)?;
        transaction.open_table(self.comment_count)?;
        transaction.open_table(self.restrictions)?;
        transaction.open_table(self.rule_revisions)?;
        transaction.open_table(self.pins)?;
        transaction.open_table(self.held_comments)?;
        transaction.open_table(self.held_places)?;
        transaction.open_table(self.reports)?;
        transaction.open_table(self.report_queues)?;
        transaction.open_table(self.audit)?;
        transaction.open_table(self.marks)?;
        transaction.open_table(self.mark_times)?;
        transaction.open_table(self.mark_parts)?;
        transaction.open_table(self.windows)?;
        transaction.open_table(self.window_offsets)?;
        Ok(())
    }

    /// Drops all of these tables.
    pub fn drop_all(&self, transaction: &WriteTransaction) -> Result<(), Failure> {
        transaction.delete_table(self.meta)?;
        transaction.delete_table(self.offsets)?;
        transaction.delete_table(self.owners)?;
        transaction.delete_table(self.videos)?;
        transaction.delete_table(self.identities)?;
        transaction.delete_table(self.sightings)?;
        transaction.delete_table(self.comments)?;
        transaction.delete_table(self.comment_places)?;
        transaction.delete_table(self.newest_by_id)?;
        transaction.delete_table(self.comment_count)?;
        transaction.delete_table(self.restrictions)?;
        transaction.delete_table(self.rule_revisions)?;
        transaction.delete_table(self.pins)?;
        transaction.delete_table(self.held_comments)?;
        transaction.delete_table(self.held_places)?;
        transaction.delete_table(self.reports)?;
        transaction.delete_table(self.report_queues)?;
        transaction.delete_table(self.audit)?;
        transaction.delete_table(self.marks)?;
        transaction.delete_table(self.mark_times)?;
        transaction.delete_table(self.mark_parts)?;
        transaction.delete_table(self.windows)?;
        transaction.delete_table(self.window_offsets)?;
        Ok(())
    }

    /// Renames these tables to the names of `others`, which must not exist.
    pub fn put_in_place_of(&self, transaction: &WriteTransaction, others: &Self) -> Result<(), Failure> {
        transaction.rename_table(self.meta, others.meta)?;
        transaction.rename_table(self.offsets, others.offsets)?;
        transaction.rename_table(self.owners, others.owners)?;
        transaction.rename_table(self.videos, others.videos)?;
        transaction.rename_table(self.identities, others.identities)?;
        transaction.rename_table(self.sightings, others.sightings)?;
        transaction.rename_table(self.comments, others.comments)?;
        transaction.rename_table(self.comment_places, others.comment_places)?;
        transaction.rename_table(self.newest_by_id, others.newest_by_id)?;
        transaction.rename_table(self.comment_count, others.comment_count)?;
        transaction.rename_table(self.restrictions, others.restrictions)?;
        transaction.rename_table(self.rule_revisions, others.rule_revisions)?;
        transaction.rename_table(self.pins, others.pins)?;
        transaction.rename_table(self.held_comments, others.held_comments)?;
        transaction.rename_table(self.held_places, others.held_places)?;
        transaction.rename_table(self.reports, others.reports)?;
        transaction.rename_table(self.report_queues, others.report_queues)?;
        transaction.rename_table(self.audit, others.audit)?;
        transaction.rename_table(self.marks, others.marks)?;
        transaction.rename_table(self.mark_times, others.mark_times)?;
        transaction.rename_table(self.mark_parts, others.mark_parts)?;
        transaction.rename_table(self.windows, others.windows)?;
        transaction.rename_table(self.window_offsets, others.window_offsets)?;
        Ok(())
    }
}

/// Reads the positions in these partitions, in the order of `partitions`.
pub fn read_positions(
    table: &impl ReadableTable<u32, StoredPosition>,
    partitions: &[u32],
) -> Result<Vec<ArchivePosition>, Failure> {
    let stored = partitions.iter().map(|partition| table.get(partition));
    stored
        .map(|found| Ok(found?.map_or_else(ArchivePosition::default, |found| decode_position(found.value()))))
        .collect()
}

/// Converts a stored position into the core's type.
pub fn decode_position((next, last): StoredPosition) -> ArchivePosition {
    ArchivePosition {
        next_offset: next,
        last_record: last.map(|(broker_time, digest)| RecordFingerprint { broker_time, digest }),
    }
}

fn damaged_row(what: &str, error: &serde_json::Error) -> Failure {
    Failure::Damaged(format!("{what}: {error}"))
}

#[derive(Serialize, Deserialize)]
struct StoredMeta {
    numbering: CommentEpoch,
    generation: u64,
    weights: Weights,
    half_life_ms: u64,
    /// The types that count once per user. This field is absent if no type counts once, and in files of earlier
    /// releases.
    #[serde(default, skip_serializing_if = "is_no_kind")]
    unique: UniqueKinds,
    /// The windows that are counted. Absent if no windows are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<StoredWindows>,
    /// The decays that are counted. Absent if no decays are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decays: Vec<StoredDecay>,
}

/// A decay that is counted, as stored.
#[derive(Serialize, Deserialize)]
struct StoredDecay {
    decay: String,
    run: u32,
    /// The time after which the scores are complete; absent if they contain everything that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

/// A kind of windows that is counted, as stored.
#[derive(Serialize, Deserialize)]
struct StoredWindows {
    kind: String,
    /// The time after which windows are complete; absent if all windows are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_no_kind(unique: &UniqueKinds) -> bool {
    unique.is_empty()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Reads the meta data; `None` if the archive was never opened.
pub fn read_meta(table: &impl ReadableTable<(), &'static str>) -> Result<Option<ArchiveMeta>, Failure> {
    table.get(())?.map(|text| decode_meta(text.value())).transpose()
}

fn decode_meta(text: &str) -> Result<ArchiveMeta, Failure> {
    let stored: StoredMeta = serde_json::from_str(text).map_err(|error| damaged_row("meta", &error))?;
    let StoredMeta { weights, half_life_ms, unique, windows, decays, .. } = stored;
    let rules = CountingRules { weights, half_life_ms, unique };
    let counted = |StoredWindows { kind, whole_after }: StoredWindows| {
        let kind = WindowKind::parse(&kind).map_err(|error| Failure::Damaged(error.to_string()))?;
        Ok(CountedKind { kind, whole_after })
    };
    let windows = windows.into_iter().map(counted).collect::<Result<_, Failure>>()?;
    let counted = |StoredDecay { decay, run, whole_after }: StoredDecay| {
        Ok(CountedDecay { decay: parse_decay(&decay)?, run, whole_after })
    };
    let decays = decays.into_iter().map(counted).collect::<Result<_, Failure>>()?;
    Ok(ArchiveMeta {
        comment_epoch: stored.numbering,
        generation: stored.generation,
        counting_rules: rules,
        windows,
        decays,
    })
}

fn parse_decay(text: &str) -> Result<Decay, Failure> {
    Decay::parse(text).map_err(|error| Failure::Damaged(error.to_string()))
}

pub fn encode_meta(meta: &ArchiveMeta) -> String {
    let ArchiveMeta { comment_epoch: numbering, generation, counting_rules: rules, windows, decays } =
        meta.clone();
    let CountingRules { weights, half_life_ms, unique } = rules;
    let stored = |counted: &CountedKind| StoredWindows {
        kind: counted.kind.to_string(),
        whole_after: counted.whole_after,
    };
    let windows = windows.iter().map(stored).collect();
    let stored = |counted: &CountedDecay| StoredDecay {
        decay: counted.decay.to_string(),
        run: counted.run,
        whole_after: counted.whole_after,
    };
    let decays = decays.iter().map(stored).collect();
    let stored = StoredMeta { numbering, generation, weights, half_life_ms, unique, windows, decays };
    serde_json::to_string(&stored).expect("text and numbers always serialise")
}

#[derive(Serialize, Deserialize)]
struct StoredVideo {
    owner: UserId,
    owner_given: bool,
    counters: Counters,
    last_seq: u64,
    /// The bits of the trending score: JSON knows no infinity, and parsing decimal text does not give back every bit.
    trending: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decayed: Vec<StoredScore>,
    #[serde(default, skip_serializing_if = "is_zero")]
    corrections: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<ActorRole>,
}

/// The score of a video by the decay of a board with a decay of its own.
#[derive(Serialize, Deserialize)]
struct StoredScore {
    decay: String,
    /// The bits of the score's logarithm.
    log2: u64,
    events: u64,
}

fn stored_scores(scores: &DecayedScores) -> Vec<StoredScore> {
    let of = |DecayedScore { decay, log2, events }: &DecayedScore| StoredScore {
        decay: decay.to_string(),
        log2: log2.to_bits(),
        events: *events,
    };
    scores.iter().map(of).collect()
}

fn scores(stored: Vec<StoredScore>) -> Result<DecayedScores, Failure> {
    let of = |StoredScore { decay, log2, events }: StoredScore| {
        Ok(DecayedScore { decay: parse_decay(&decay)?, log2: f64::from_bits(log2), events })
    };
    stored.into_iter().map(of).collect()
}

/// The part that an event added to the score in one run of a decay, as stored in the event's mark.
#[derive(Serialize, Deserialize)]
struct StoredPart {
    run: u32,
    /// The bits of the part's logarithm.
    log2: u64,
}

pub fn encode_parts(parts: &[RunPart]) -> Vec<u8> {
    let of = |RunPart { run, log2 }: &RunPart| StoredPart { run: *run, log2: log2.to_bits() };
    let stored: Vec<StoredPart> = parts.iter().map(of).collect();
    serde_json::to_vec(&stored).expect("numbers always serialise")
}

pub fn decode_parts(bytes: &[u8]) -> Result<Vec<RunPart>, Failure> {
    let stored: Vec<StoredPart> =
        serde_json::from_slice(bytes).map_err(|error| damaged_row("a mark", &error))?;
    Ok(stored
        .into_iter()
        .map(|StoredPart { run, log2 }| RunPart { run, log2: f64::from_bits(log2) })
        .collect())
}

pub fn encode_video(state: &VideoState) -> Vec<u8> {
    let stored = StoredVideo {
        owner: state.owner.clone(),
        owner_given: state.owner_given,
        counters: state.counters,
        last_seq: state.last_seq,
        trending: state.trending.to_bits(),
        decayed: stored_scores(&state.decayed),
        corrections: state.corrections,
        metadata: state.metadata.clone(),
        removed: state.removed_by,
    };
    serde_json::to_vec(&stored).expect("text and numbers always serialise")
}

pub fn decode_video(id: &str, bytes: &[u8]) -> Result<VideoState, Failure> {
    let wrong = |error| damaged_row(&format!("video {id:?}"), &error);
    let stored: StoredVideo = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(VideoState {
        video_id: VideoId::parse(id).map_err(|error| Failure::Damaged(error.to_string()))?,
        owner: stored.owner,
        owner_given: stored.owner_given,
        counters: stored.counters,
        last_seq: stored.last_seq,
        trending: f64::from_bits(stored.trending),
        decayed: scores(stored.decayed)?,
        corrections: stored.corrections,
        metadata: stored.metadata,
        removed_by: stored.removed,
    })
}

pub fn encode_comment(comment: &Comment) -> Vec<u8> {
    serde_json::to_vec(comment).expect("text and numbers always serialise")
}

pub fn decode_comment(video: &str, seq: u64, bytes: &[u8]) -> Result<Comment, Failure> {
    serde_json::from_slice(bytes).map_err(|error| damaged_row(&format!("comment {seq} of {video:?}"), &error))
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{
        DISTINCT_WEIGHTS, check_json_fixture, decays, fixture_comment, fixture_deletion, fixture_pin,
        fixture_shadowed, json, video, windows,
    };

    #[test]
    fn stored_videos_have_fixtures() {
        let write = |state: &VideoState| json(&encode_video(state));
        check_json_fixture("embedded-video", &video(), write, |value| {
            decode_video("cats", value.to_string().as_bytes())
        });
    }

    #[test]
    fn stored_comments_have_fixtures() {
        for (name, today) in [
            ("embedded-comment", fixture_comment()),
            ("embedded-deletion", fixture_deletion()),
            ("embedded-pin", fixture_pin()),
            ("embedded-shadowed", fixture_shadowed()),
        ] {
            let write = |comment: &Comment| json(&encode_comment(comment));
            check_json_fixture(name, &today, write, |value| {
                decode_comment("cats", 12, value.to_string().as_bytes())
            });
        }
    }

    #[test]
    fn stored_meta_has_fixtures() {
        let unique = "like,share".parse().expect("types");
        let rules = CountingRules { weights: DISTINCT_WEIGHTS, half_life_ms: 60_000, unique };
        let (windows, decays) = (windows(), decays());
        let today = ArchiveMeta {
            comment_epoch: CommentEpoch::from_bits(7),
            generation: 5,
            counting_rules: rules,
            windows,
            decays,
        };
        let write = |meta: &ArchiveMeta| json(encode_meta(meta).as_bytes());
        check_json_fixture("embedded-meta", &today, write, |value| decode_meta(&value.to_string()));
    }
}
