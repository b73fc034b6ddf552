//! The tables of the archive's file.

use liverank_core::Millis;
use liverank_core::counting::MarkKey;
use redb::{TableDefinition, WriteTransaction};

use crate::redb_file::{FileFailure, FileKind};

/// The archive's name in errors.
pub const PART_NAME: &str = "archive";

/// The position of a moderation record in the log: time, partition and offset.
pub type LogKey = (Millis, u32, u64);

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
    pub entries_by_log_position: TableDefinition<'static, (u32, u64), (&'static str, u64)>,
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
    pub held_keys_by_comment: TableDefinition<'static, (&'static str, &'static str), LogKey>,
    /// Reports of comments, by video and comment.
    pub reports: TableDefinition<'static, (&'static str, &'static str), &'static [u8]>,
    /// The video and comment of each reported comment, by queue and sort key in it.
    pub report_queues: TableDefinition<'static, (&'static str, &'static str), (&'static str, &'static str)>,
    /// The audit log: the records of moderators' actions and of reports, by time, partition and offset of the record.
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
pub static LIVE_TABLES: Tables = Tables {
    meta: TableDefinition::new("meta"),
    offsets: TableDefinition::new("offsets"),
    owners: TableDefinition::new("owners"),
    videos: TableDefinition::new("videos"),
    identities: TableDefinition::new("identities"),
    sightings: TableDefinition::new("sightings"),
    comments: TableDefinition::new("comments"),
    entries_by_log_position: TableDefinition::new("comment_places"),
    newest_by_id: TableDefinition::new("comment_names"),
    comment_count: TableDefinition::new("comment_count"),
    restrictions: TableDefinition::new("rules"),
    rule_revisions: TableDefinition::new("rule_revisions"),
    pins: TableDefinition::new("pins"),
    held_comments: TableDefinition::new("held"),
    held_keys_by_comment: TableDefinition::new("held_places"),
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
pub static REPLAY_TABLES: Tables = Tables {
    meta: TableDefinition::new("next_meta"),
    offsets: TableDefinition::new("next_offsets"),
    owners: TableDefinition::new("next_owners"),
    videos: TableDefinition::new("next_videos"),
    identities: TableDefinition::new("next_identities"),
    sightings: TableDefinition::new("next_sightings"),
    comments: TableDefinition::new("next_comments"),
    entries_by_log_position: TableDefinition::new("next_comment_places"),
    newest_by_id: TableDefinition::new("next_comment_names"),
    comment_count: TableDefinition::new("next_comment_count"),
    restrictions: TableDefinition::new("next_rules"),
    rule_revisions: TableDefinition::new("next_rule_revisions"),
    pins: TableDefinition::new("next_pins"),
    held_comments: TableDefinition::new("next_held"),
    held_keys_by_comment: TableDefinition::new("next_held_places"),
    reports: TableDefinition::new("next_reports"),
    report_queues: TableDefinition::new("next_report_queues"),
    audit: TableDefinition::new("next_moderation"),
    marks: TableDefinition::new("next_marks"),
    mark_times: TableDefinition::new("next_mark_times"),
    mark_parts: TableDefinition::new("next_mark_parts"),
    windows: TableDefinition::new("next_windows"),
    window_offsets: TableDefinition::new("next_window_offsets"),
};

pub const ARCHIVE_FILE_KIND: FileKind = FileKind {
    store_name: PART_NAME,
    version: 1,
    create_tables: |transaction| LIVE_TABLES.create_absent(transaction),
};

impl Tables {
    /// Creates those of these tables that are absent.
    pub fn create_absent(&self, transaction: &WriteTransaction) -> Result<(), FileFailure> {
        transaction.open_table(self.meta)?;
        transaction.open_table(self.offsets)?;
        transaction.open_table(self.owners)?;
        transaction.open_table(self.videos)?;
        transaction.open_table(self.identities)?;
        transaction.open_table(self.sightings)?;
        transaction.open_table(self.comments)?;
        transaction.open_table(self.entries_by_log_position)?;
        transaction.open_table(self.newest_by_id)?;
        transaction.open_table(self.comment_count)?;
        transaction.open_table(self.restrictions)?;
        transaction.open_table(self.rule_revisions)?;
        transaction.open_table(self.pins)?;
        transaction.open_table(self.held_comments)?;
        transaction.open_table(self.held_keys_by_comment)?;
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
    pub fn drop_all(&self, transaction: &WriteTransaction) -> Result<(), FileFailure> {
        transaction.delete_table(self.meta)?;
        transaction.delete_table(self.offsets)?;
        transaction.delete_table(self.owners)?;
        transaction.delete_table(self.videos)?;
        transaction.delete_table(self.identities)?;
        transaction.delete_table(self.sightings)?;
        transaction.delete_table(self.comments)?;
        transaction.delete_table(self.entries_by_log_position)?;
        transaction.delete_table(self.newest_by_id)?;
        transaction.delete_table(self.comment_count)?;
        transaction.delete_table(self.restrictions)?;
        transaction.delete_table(self.rule_revisions)?;
        transaction.delete_table(self.pins)?;
        transaction.delete_table(self.held_comments)?;
        transaction.delete_table(self.held_keys_by_comment)?;
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
    pub fn rename_to_names_of(
        &self,
        transaction: &WriteTransaction,
        others: &Self,
    ) -> Result<(), FileFailure> {
        transaction.rename_table(self.meta, others.meta)?;
        transaction.rename_table(self.offsets, others.offsets)?;
        transaction.rename_table(self.owners, others.owners)?;
        transaction.rename_table(self.videos, others.videos)?;
        transaction.rename_table(self.identities, others.identities)?;
        transaction.rename_table(self.sightings, others.sightings)?;
        transaction.rename_table(self.comments, others.comments)?;
        transaction.rename_table(self.entries_by_log_position, others.entries_by_log_position)?;
        transaction.rename_table(self.newest_by_id, others.newest_by_id)?;
        transaction.rename_table(self.comment_count, others.comment_count)?;
        transaction.rename_table(self.restrictions, others.restrictions)?;
        transaction.rename_table(self.rule_revisions, others.rule_revisions)?;
        transaction.rename_table(self.pins, others.pins)?;
        transaction.rename_table(self.held_comments, others.held_comments)?;
        transaction.rename_table(self.held_keys_by_comment, others.held_keys_by_comment)?;
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
