//! What an archive holds of moderation beside comments: the restrictions in force, and the audit log. Both are written
//! by [`super::Archive::commit`], in the transaction of the batch.

use std::fmt;

use async_trait::async_trait;
use liverank_core::comment::EntryKind;
use liverank_core::counting::AuditEntry;
use liverank_core::moderation::{HeldComment, RuleChange};
use liverank_core::{Comment, CommentId, Interaction, Invalid, Millis, UserId, VideoId};
use serde_json::Value;

use super::{Archive, Page};
use crate::StoreError;

/// Where an action stands in the audit log: by the log's time, and by partition and offset among those of one
/// millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// When the log took the record.
    pub time: Millis,
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

impl AuditPlace {
    /// The place of a comment that waits for a moderator.
    pub const fn of_held(held: &HeldComment) -> Self {
        let (time, partition, offset) = held.place;
        Self { time, partition, offset }
    }

    /// The place of an entry.
    pub const fn of(entry: &AuditEntry) -> Self {
        Self { time: entry.time, partition: entry.partition, offset: entry.offset }
    }

    /// Reads what [`fmt::Display`] writes, as the field `before`.
    ///
    /// # Errors
    /// As [`AuditPlace::parse_field`].
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

impl fmt::Display for AuditPlace {
    /// Text of one length, in the order of the places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:016x}", self.time.max(0), self.partition, self.offset)
    }
}

/// An entry of the audit log, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Where it is.
    pub place: AuditPlace,
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
    pub(super) fn read(place: AuditPlace, record: &[u8]) -> Self {
        let record = Interaction::from_log(record, place.time).map_err(|_| {
            let value = serde_json::from_slice::<Value>(record).unwrap_or_default();
            UnknownRecord { version: value["version"].as_u64() }
        });
        Self { place, record }
    }
}

/// An entry of a video's channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryPlace {
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
    pub entries: Vec<EntryPlace>,
    /// Where the next part begins; `None`: this was the last one.
    pub next: Option<String>,
}

/// Entries that [`ModerationArchive::entries_of`] looks at in one call: some ten milliseconds of work.
pub const ENTRIES_LOOKED_AT: usize = 5_000;

/// What [`super::Archive::moderation`] gives.
#[async_trait]
pub trait ModerationArchive: Send + Sync {
    /// Up to `limit` restrictions and rules of comments that changed after `revision`, each as it is now, in the order of
    /// their revisions. What was lifted or taken away is among them.
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError>;

    /// Up to `limit` places whose rules of comments changed after `revision` and are in force, in the order of their
    /// revisions.
    async fn comment_rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError>;

    /// How many places have rules of comments in force.
    async fn comment_rules_count(&self) -> Result<u64, StoreError>;

    /// The last entry of a video's channel that says which comment is pinned.
    async fn last_pin(&self, video: &VideoId) -> Result<Option<Comment>, StoreError>;

    /// Up to `limit` comments that wait for a moderator, from after a place (`None`: the first), oldest first.
    async fn held(&self, after: Option<AuditPlace>, limit: usize) -> Result<Vec<HeldComment>, StoreError>;

    /// A comment that waits for a moderator.
    async fn held_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<HeldComment>, StoreError>;

    /// How many comments wait for a moderator, roughly.
    async fn held_count(&self) -> Result<u64, StoreError>;

    /// The entries of all channels that name this user as their author, removed ones included, part by part: each call looks
    /// at [`ENTRIES_LOOKED_AT`] entries from a place on (`None`: the first). No index answers this, for it is seldom asked.
    /// What was archived before the first call is found by the last one.
    async fn entries_of(&self, user: &UserId, from: Option<&str>) -> Result<UserEntries, StoreError>;

    /// Up to `limit` entries of the audit log from before a place (`None`: the latest), newest first. What another release
    /// wrote is among them ([`UnknownRecord`]).
    async fn audit(&self, before: Option<AuditPlace>, limit: usize) -> Result<Vec<AuditLine>, StoreError>;
}

/// The comment that is pinned on a video, unless it was removed since.
pub async fn pinned(archive: &dyn Archive, video: &VideoId) -> Result<Option<Comment>, StoreError> {
    let entry = archive.moderation().last_pin(video).await?.map(|pin| pin.entry);
    let Some(EntryKind::Pinned { comment_id: Some(id), of }) = entry else { return Ok(None) };
    let found = archive.comments(video, Page::After(of.saturating_sub(1)), 1).await?.pop();
    Ok(found.filter(|comment| comment.id == id && comment.entry.is_comment()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_written_and_keep_their_order() {
        let places = [(0, 0, 0), (1, 0, 9), (1, 2, 3), (1, 11, 1), (1 << 50, 0, 0)]
            .map(|(time, partition, offset)| AuditPlace { time, partition, offset });
        let texts = places.map(|place| place.to_string());
        assert!(texts.is_sorted() && places.is_sorted());
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(AuditPlace::parse(text), Ok(*place));
        }
        for wrong in
            ["", "1-2-3", "x", &texts[0][1..], &format!("{}-", texts[0]), &format!("+{}", &texts[0][1..])]
        {
            assert_eq!(AuditPlace::parse(wrong).unwrap_err().field, "before", "{wrong}");
        }
    }
}
