//! The archive's data of moderation beside comments: the restrictions in force, and the audit log. Both are
//! written by [`super::Archive::commit_batch`], in the transaction of the batch.

use std::fmt;

use async_trait::async_trait;
use liverank_core::comment::EntryKind;
use liverank_core::counting::AuditEntry;
use liverank_core::moderation::reports::LogPlace;
use liverank_core::moderation::{HeldComment, ReportedComment, RuleChange};
use liverank_core::{Comment, CommentId, Interaction, Invalid, Millis, UserId, VideoId};
use serde_json::Value;

use super::{Archive, CommentPage};
use crate::StoreError;

/// The position of an action in the audit log: ordered by the log's time, and by partition and offset among
/// the actions of one millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPosition {
    /// The time at which the log appended the record, in milliseconds since 1970.
    pub time: Millis,
    /// The partition of the record.
    pub partition: u32,
    /// The offset of the record in its partition.
    pub offset: u64,
}

impl AuditPosition {
    /// Returns the position of a comment that is held for a moderator.
    pub const fn of_held_comment(held: &HeldComment) -> Self {
        Self::from_log_order(held.place)
    }

    const fn from_log_order((time, partition, offset): LogPlace) -> Self {
        Self { time, partition, offset }
    }

    /// Returns the position of an audit entry.
    pub const fn of(entry: &AuditEntry) -> Self {
        Self { time: entry.time, partition: entry.partition, offset: entry.offset }
    }

    /// Parses the text that [`fmt::Display`] writes; errors name the field `before`.
    ///
    /// # Errors
    /// The same errors as [`AuditPosition::parse_field`] returns.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::parse_field("before", text)
    }

    /// Parses the text that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// Returns [`Invalid`] with the name `field` if `text` is not what [`fmt::Display`] writes for some position.
    pub fn parse_field(field: &'static str, text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(field, "must be the `next` of a page of this list");
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits);
            let part = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            part.and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or_else(wrong)
        };
        let (time, partition, offset) = (number(16)?, number(8)?, number(16)?);
        if parts.next().is_some() {
            return Err(wrong());
        }
        let time = Millis::try_from(time).map_err(|_| wrong())?;
        Ok(Self { time, partition: partition as u32, offset })
    }
}

impl fmt::Display for AuditPosition {
    /// Writes text of a fixed length that sorts in the order of the positions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:016x}", self.time.max(0), self.partition, self.offset)
    }
}

/// An entry of the audit log as a caller reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAuditEntry {
    /// The position of the entry in the audit log.
    pub position: AuditPosition,
    /// The moderation record of the entry; [`UnknownRecord`] if this release cannot read it.
    pub record: Result<Interaction, UnknownRecord>,
}

/// A record that this release cannot read: another release wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRecord {
    /// The version that the record gives for itself; `None` if it gives none.
    pub version: Option<u64>,
}

impl StoredAuditEntry {
    /// Parses the record at a position of the audit log. A record that cannot be read does not affect the
    /// other ones.
    pub(super) fn decode(position: AuditPosition, record: &[u8]) -> Self {
        let record = Interaction::from_log(record, position.time).map_err(|_| {
            let value = serde_json::from_slice::<Value>(record).unwrap_or_default();
            UnknownRecord { version: value["version"].as_u64() }
        });
        Self { position, record }
    }
}

/// The list of reported comments to read, and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportQueue {
    /// The comments whose reports wait for a decision, the one with the latest report first.
    OpenNewest,
    /// The comments whose reports wait for a decision, the one with the most reports first.
    OpenMost,
    /// The comments whose reports were decided on, the latest decision first.
    Closed,
}

impl ReportQueue {
    /// All queues of reported comments.
    pub const ALL: [Self; 3] = [Self::OpenNewest, Self::OpenMost, Self::Closed];

    /// Returns the name of the queue in a store.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OpenNewest => "open_newest",
            Self::OpenMost => "open_most",
            Self::Closed => "closed",
        }
    }

    /// Returns the sort key of a comment in this queue, or `None` if the comment is not in it. The queue is
    /// read in descending order of the keys.
    pub(super) fn sort_key(self, comment: &ReportedComment) -> Option<String> {
        if (self == Self::Closed) == comment.is_open() {
            return None;
        }
        Some(self.sort_key_of(ReportPosition::of(comment)))
    }

    /// Returns the sort key of a position in this queue.
    pub(super) fn sort_key_of(self, place: ReportPosition) -> String {
        match self {
            Self::OpenMost => place.to_string(),
            Self::OpenNewest | Self::Closed => place.last_report.to_string(),
        }
    }
}

/// The position of a reported comment in the queues: each queue sorts by a part of the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportPosition {
    report_count: u32,
    last_report: AuditPosition,
}

impl ReportPosition {
    /// Returns the position of a reported comment.
    pub fn of(comment: &ReportedComment) -> Self {
        let report_count = u32::try_from(comment.reports.len()).unwrap_or(u32::MAX);
        Self { report_count, last_report: AuditPosition::from_log_order(comment.place) }
    }

    /// Parses the text that [`fmt::Display`] writes; errors name the field `after`.
    ///
    /// # Errors
    /// Returns [`Invalid`] with the name `after` if `text` is not what [`fmt::Display`] writes for some position.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (count, last) = text.split_once('-').unwrap_or_default();
        let last_report = AuditPosition::parse_field("after", last)?;
        let is_hex = count.len() == 8 && count.bytes().all(|byte| byte.is_ascii_hexdigit());
        let count = u32::from_str_radix(count, 16).ok().filter(|_| is_hex);
        let report_count =
            count.ok_or_else(|| Invalid::new("after", "must be the `next` of a page of this list"))?;
        Ok(Self { report_count, last_report })
    }
}

impl fmt::Display for ReportPosition {
    /// Writes text of a fixed length that sorts in the order of the positions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.report_count, self.last_report)
    }
}

/// The position of an entry in a video's channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryPosition {
    /// The video of the entry.
    pub video: VideoId,
    /// The sequence number of the entry.
    pub seq: u64,
    /// The identity of the entry's comment.
    pub id: CommentId,
}

/// The channel entries of one user that were found in one part of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntries {
    /// The user's entries in this part.
    pub entries: Vec<EntryPosition>,
    /// The key at which the next part of the archive begins; `None` if this was the last part.
    pub next_part: Option<String>,
}

/// The number of entries that [`ModerationArchive::entries_of_user`] examines in one call: some ten milliseconds
/// of work.
pub const ENTRIES_READ_PER_CALL: usize = 5_000;

/// The part of an archive that holds restrictions, comment rules, held and reported comments, and the audit
/// log; see [`super::Archive::moderation_archive`].
#[async_trait]
pub trait ModerationArchive: Send + Sync {
    /// Reads up to `limit` restrictions and comment rules that changed after `revision`, each as it is now,
    /// in the order of their revisions. Restrictions that were lifted and rules that were removed are among
    /// them.
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError>;

    /// Reads the comment rules of up to `limit` scopes whose rules changed after `revision` and are in force,
    /// in the order of their revisions.
    async fn comment_rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError>;

    /// Counts the scopes that have comment rules in force.
    async fn count_comment_rules(&self) -> Result<u64, StoreError>;

    /// Reads the last entry of a video's channel that says which comment is pinned; `None` if there is none.
    async fn last_pin(&self, video: &VideoId) -> Result<Option<Comment>, StoreError>;

    /// Reads up to `limit` comments that wait for a moderator, from after a position (`None`: from the first
    /// one), oldest first.
    async fn held_comments(
        &self,
        after: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError>;

    /// Reads one comment that waits for a moderator; `None` if it does not wait.
    async fn held_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<HeldComment>, StoreError>;

    /// Counts the comments that wait for a moderator, approximately.
    async fn count_held_comments(&self) -> Result<u64, StoreError>;

    /// Reads up to `limit` comments of a queue of reports, from after a position (`None`: from the first
    /// one).
    async fn report_queue(
        &self,
        queue: ReportQueue,
        after: Option<ReportPosition>,
        limit: usize,
    ) -> Result<Vec<ReportedComment>, StoreError>;

    /// Reads the reports of a comment; `None` if it has none.
    async fn reports_of_comment(
        &self,
        video: &VideoId,
        id: &CommentId,
    ) -> Result<Option<ReportedComment>, StoreError>;

    /// Counts the reported comments, of this video or of all, that wait for a decision. Counting ends at
    /// `most`.
    async fn count_open_reports(&self, video: Option<&VideoId>, most: u64) -> Result<u64, StoreError>;

    /// Finds the entries of all channels that name this user as their author, removed ones included, part by part: each
    /// call examines [`ENTRIES_READ_PER_CALL`] entries from the key `from` on (`None`: the first). No index serves this
    /// query, because the query is rare. Entries that were archived before the first call are found by the end of the
    /// last one.
    async fn entries_of_user(&self, user: &UserId, from: Option<&str>) -> Result<UserEntries, StoreError>;

    /// Reads up to `limit` entries of the audit log from before a position (`None`: from the latest one),
    /// newest first. Entries that another release wrote are among them ([`UnknownRecord`]).
    async fn audit_log(
        &self,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<StoredAuditEntry>, StoreError>;

    /// Reads up to `limit` entries of the audit log that came from `partition` at `offset` or later, in log
    /// order, like [`Archive::comments_from`]. Entries that earlier releases wrote are not among them.
    async fn audit_entries_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<StoredAuditEntry>, StoreError>;

    /// Reads up to `limit` comments held for a moderator that came from `partition` at `offset` or later, in
    /// log order.
    async fn held_comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError>;
}

/// Reads the comment that is pinned on a video; `None` if none is, or if the pinned one was removed since.
pub async fn pinned_comment(archive: &dyn Archive, video: &VideoId) -> Result<Option<Comment>, StoreError> {
    let entry = archive.moderation_archive().last_pin(video).await?.map(|pin| pin.entry);
    let Some(EntryKind::Pinned { comment_id: Some(id), of }) = entry else { return Ok(None) };
    let found = archive.comments(video, CommentPage::After(of.saturating_sub(1)), 1).await?.pop();
    Ok(found.filter(|comment| comment.id == id && comment.entry.is_comment()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_places_round_trip_and_keep_their_order() {
        let place = |report_count, time| ReportPosition {
            report_count,
            last_report: AuditPosition { time, partition: 1, offset: 2 },
        };
        let places = [place(1, 9), place(2, 3), place(2, 4), place(17, 0)];
        let texts = places.map(|place| place.to_string());
        assert!(texts.is_sorted());
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(ReportPosition::parse(text), Ok(*place));
        }
        for wrong in ["", "-", "x", &texts[0][1..], &texts[0][9..], &format!("+{}", &texts[0][1..])] {
            assert_eq!(ReportPosition::parse(wrong).unwrap_err().field, "after", "{wrong}");
        }
    }

    #[test]
    fn audit_places_round_trip_and_keep_their_order() {
        let places = [(0, 0, 0), (1, 0, 9), (1, 2, 3), (1, 11, 1), (1 << 50, 0, 0)]
            .map(|(time, partition, offset)| AuditPosition { time, partition, offset });
        let texts = places.map(|place| place.to_string());
        assert!(texts.is_sorted() && places.is_sorted());
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(AuditPosition::parse(text), Ok(*place));
        }
        for wrong in
            ["", "1-2-3", "x", &texts[0][1..], &format!("{}-", texts[0]), &format!("+{}", &texts[0][1..])]
        {
            assert_eq!(AuditPosition::parse(wrong).unwrap_err().field, "before", "{wrong}");
        }
    }
}
