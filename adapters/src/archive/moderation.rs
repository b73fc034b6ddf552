//! What an archive holds of moderation beside comments: the restrictions in force, and the audit log. Both are written
//! by [`super::Archive::commit_batch`], in the transaction of the batch.

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

/// Where an action stands in the audit log: by the log's time, and by partition and offset among those of one
/// millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPosition {
    /// When the log took the record.
    pub time: Millis,
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

impl AuditPosition {
    /// The place of a comment that waits for a moderator.
    pub const fn of_held(held: &HeldComment) -> Self {
        Self::from_log_order(held.place)
    }

    const fn from_log_order((time, partition, offset): LogPlace) -> Self {
        Self { time, partition, offset }
    }

    /// The place of an entry.
    pub const fn of(entry: &AuditEntry) -> Self {
        Self { time: entry.time, partition: entry.partition, offset: entry.offset }
    }

    /// Reads what [`fmt::Display`] writes, as the field `before`.
    ///
    /// # Errors
    /// As [`AuditPosition::parse_field`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::parse_field("before", text)
    }

    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// Any other text, as the error of `field`.
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
    /// Text of one length, in the order of the places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:016x}", self.time.max(0), self.partition, self.offset)
    }
}

/// An entry of the audit log, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Where it is.
    pub place: AuditPosition,
    /// What was done.
    pub record: Result<Interaction, UnknownRecord>,
}

/// A record that this release does not know: another one wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRecord {
    /// The version that it says it has; `None` where it says none.
    pub version: Option<u64>,
}

impl AuditLine {
    /// Reads the record at a place. One that cannot be read takes no other one with it.
    pub(super) fn read(place: AuditPosition, record: &[u8]) -> Self {
        let record = Interaction::from_log(record, place.time).map_err(|_| {
            let value = serde_json::from_slice::<Value>(record).unwrap_or_default();
            UnknownRecord { version: value["version"].as_u64() }
        });
        Self { place, record }
    }
}

/// Which reported comments, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportQueue {
    /// Those that wait for a decision, the one that was reported last first.
    OpenNewest,
    /// Those that wait for a decision, the one with most reports first.
    OpenMost,
    /// Those that were decided on, the last one first.
    Closed,
}

impl ReportQueue {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenNewest, Self::OpenMost, Self::Closed];

    /// Its name in a store.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OpenNewest => "open_newest",
            Self::OpenMost => "open_most",
            Self::Closed => "closed",
        }
    }

    /// Where a comment is in this queue, if it is: text in the order of the queue, read backwards.
    pub(super) fn place(self, comment: &ReportedComment) -> Option<String> {
        if (self == Self::Closed) == comment.is_open() {
            return None;
        }
        Some(self.place_of(ReportPosition::of(comment)))
    }

    /// The text of a place in this queue.
    pub(super) fn place_of(self, place: ReportPosition) -> String {
        match self {
            Self::OpenMost => place.to_string(),
            Self::OpenNewest | Self::Closed => place.last.to_string(),
        }
    }
}

/// Where a reported comment stands: in each queue by its own part of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportPosition {
    count: u32,
    last: AuditPosition,
}

impl ReportPosition {
    /// The place of a comment.
    pub fn of(comment: &ReportedComment) -> Self {
        let count = u32::try_from(comment.reports.len()).unwrap_or(u32::MAX);
        Self { count, last: AuditPosition::from_log_order(comment.place) }
    }

    /// Reads what [`fmt::Display`] writes, as the field `after`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (count, last) = text.split_once('-').unwrap_or_default();
        let last = AuditPosition::parse_field("after", last)?;
        let is_hex = count.len() == 8 && count.bytes().all(|byte| byte.is_ascii_hexdigit());
        let count = u32::from_str_radix(count, 16).ok().filter(|_| is_hex);
        let count =
            count.ok_or_else(|| Invalid::new("after", "must be the `next` of a page of this list"))?;
        Ok(Self { count, last })
    }
}

impl fmt::Display for ReportPosition {
    /// Text of one length, in the order of the places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.count, self.last)
    }
}

/// An entry of a video's channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryPosition {
    /// Its video.
    pub video: VideoId,
    /// Its number.
    pub seq: u64,
    /// Its identity.
    pub id: CommentId,
}

/// Entries of a user, among those of a part of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntries {
    /// The user's entries in this part.
    pub entries: Vec<EntryPosition>,
    /// Where the next part begins; `None`: this was the last one.
    pub next_part: Option<String>,
}

/// Entries that [`ModerationArchive::entries_of`] looks at in one call: some ten milliseconds of work.
pub const ENTRIES_READ_PER_CALL: usize = 5_000;

/// What [`super::Archive::moderation_archive`] gives.
#[async_trait]
pub trait ModerationArchive: Send + Sync {
    /// Up to `limit` restrictions and rules of comments that changed after `revision`, each as it is now, in the order of
    /// their revisions. What was lifted or taken away is among them.
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError>;

    /// Up to `limit` places whose rules of comments changed after `revision` and are in force, in the order of their
    /// revisions.
    async fn comment_rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError>;

    /// How many places have rules of comments in force.
    async fn count_comment_rules(&self) -> Result<u64, StoreError>;

    /// The last entry of a video's channel that says which comment is pinned.
    async fn last_pin(&self, video: &VideoId) -> Result<Option<Comment>, StoreError>;

    /// Up to `limit` comments that wait for a moderator, from after a place (`None`: the first), oldest first.
    async fn held_comments(
        &self,
        after: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError>;

    /// A comment that waits for a moderator.
    async fn held_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<HeldComment>, StoreError>;

    /// How many comments wait for a moderator, roughly.
    async fn count_held(&self) -> Result<u64, StoreError>;

    /// Up to `limit` comments of a queue, from after a place (`None`: the first).
    async fn report_queue(
        &self,
        queue: ReportQueue,
        after: Option<ReportPosition>,
        limit: usize,
    ) -> Result<Vec<ReportedComment>, StoreError>;

    /// The reports of a comment, if there are any.
    async fn reports_of_comment(
        &self,
        video: &VideoId,
        id: &CommentId,
    ) -> Result<Option<ReportedComment>, StoreError>;

    /// How many comments, of this video or of all, wait for a decision. Counting ends at `most`.
    async fn count_open_reports(&self, video: Option<&VideoId>, most: u64) -> Result<u64, StoreError>;

    /// The entries of all channels that name this user as their author, removed ones included, part by part: each call looks
    /// at [`ENTRIES_READ_PER_CALL`] entries from a place on (`None`: the first). No index answers this, for it is seldom asked.
    /// What was archived before the first call is found by the last one.
    async fn entries_of(&self, user: &UserId, from: Option<&str>) -> Result<UserEntries, StoreError>;

    /// Up to `limit` entries of the audit log from before a place (`None`: the latest), newest first. What another release
    /// wrote is among them ([`UnknownRecord`]).
    async fn audit_log(
        &self,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<AuditLine>, StoreError>;

    /// Up to `limit` entries of the audit log that came from `partition` at `offset` or later, in log order: as
    /// [`Archive::comments_from`]. What releases before this one wrote is not among them.
    async fn audit_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<AuditLine>, StoreError>;

    /// The same, of comments that wait for a moderator.
    async fn held_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError>;
}

/// The comment that is pinned on a video, unless it was removed since.
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
        let place =
            |count, time| ReportPosition { count, last: AuditPosition { time, partition: 1, offset: 2 } };
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
