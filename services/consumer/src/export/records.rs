//! The records of the exported topic of comments, made from a part of a partition. No I/O.
//!
//! A record is an envelope: `version`, `type`, the record's position in the log, and `data`, which is the JSON that
//! the API has for the same thing (`docs/export.md`).

use liverank_adapters::archive::{AuditPosition, StoredAuditEntry, UnknownRecord};
use liverank_adapters::export_topics::ExportRecord;
use liverank_core::comment::{Comment, CommentEpoch, EntryKind};
use liverank_core::counting::NumberedComment;
use liverank_core::moderation::{HeldComment, RECORDS_KEY};
use liverank_runtime::comment_json::{self, format_time};
use liverank_runtime::moderation_json::{self, ActionJson};
use serde_json::{Value, json};

/// The version of the exported records. The version is raised when a reader of the version before would misread a
/// record; new members and types do not raise it.
pub const VERSION: u32 = 1;

/// What the archive holds of a partition from an offset on: at most a given number of each kind, in log order.
#[derive(Debug, Clone, Default)]
pub struct ArchiveEntries {
    /// Entries of the channels of comments.
    pub entries: Vec<NumberedComment>,
    /// Entries of the audit log of moderation.
    pub audit: Vec<StoredAuditEntry>,
    /// Comments that are held back for a moderator.
    pub held_comments: Vec<HeldComment>,
}

/// A page of exported records. No record before its `next` offset is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The records, in log order.
    pub records: Vec<ExportRecord>,
    /// The offset at which the next page begins.
    pub next: u64,
}

/// Returns the records of what was found before the offset `to`. `limit` is the number of entries of each kind that
/// were asked for: if that many were found, there may be more, and the page ends behind the last of them.
pub fn build_page(epoch: &CommentEpoch, found: ArchiveEntries, limit: usize, to: u64) -> Page {
    let mut records: Vec<(u64, ExportRecord)> = Vec::new();
    let mut next = to;
    let mut complete = |offsets: &mut dyn Iterator<Item = u64>| {
        let offsets: Vec<u64> = offsets.collect();
        if let Some(last) = offsets.last().filter(|_| offsets.len() >= limit) {
            next = next.min(last + 1);
        }
    };
    complete(&mut found.entries.iter().map(|entry| entry.offset));
    complete(&mut found.held_comments.iter().map(|held| held.place.2));
    complete(&mut found.audit.iter().map(|line| line.position.offset));
    records.extend(found.entries.iter().map(|entry| (entry.offset, entry_record(epoch, entry))));
    records.extend(found.held_comments.into_iter().map(|held| (held.place.2, held_record(held))));
    records.extend(found.audit.into_iter().map(|line| (line.position.offset, action_record(line))));
    records.retain(|(offset, _)| *offset < next);
    // The sort is stable: for one log record, the entry that viewers see comes before the entry that moderators see.
    records.sort_by_key(|(offset, _)| *offset);
    Page { records: records.into_iter().map(|(_, record)| record).collect(), next }
}

fn export_record(key: &str, kind: &str, (partition, offset): (u32, u64), mut more: Value) -> ExportRecord {
    more["version"] = VERSION.into();
    more["type"] = kind.into();
    more["partition"] = partition.into();
    more["offset"] = offset.into();
    ExportRecord { key: key.to_owned(), value: more.to_string() }
}

/// Returns the record of a channel's entry in its current state: a comment that was removed since has no text. The
/// record's id is the id of the server-sent event.
fn entry_record(epoch: &CommentEpoch, numbered: &NumberedComment) -> ExportRecord {
    let NumberedComment { comment: entry, partition, offset } = numbered;
    let (kind, data) = match &entry.entry {
        EntryKind::Comment => ("comment", json!(comment_json::with_seq(entry))),
        EntryKind::Shadowed => ("shadowed", json!(comment_json::with_seq(entry))),
        EntryKind::Removed | EntryKind::Unknown => ("removed", removed_json(entry)),
        EntryKind::Deleted { comment_id, of, role } => {
            ("deleted", comment_json::deletion_message(entry, comment_id, *of, *role))
        }
        EntryKind::Pinned { comment_id, of } => {
            ("pinned", comment_json::pin_message(entry, comment_id.as_ref(), *of))
        }
    };
    let id = format!("{epoch}-{}", entry.seq);
    export_record(entry.video_id.as_str(), kind, (*partition, *offset), json!({ "id": id, "data": data }))
}

/// Returns the data of a comment that was removed before it was exported, or of an action that had no effect.
fn removed_json(entry: &Comment) -> Value {
    json!({ "id": entry.id, "videoid": entry.video_id, "seq": entry.seq, "timestamp": format_time(entry.timestamp) })
}

fn held_record(held: HeldComment) -> ExportRecord {
    let (_, partition, offset) = held.place;
    let key = held.video.as_str().to_owned();
    export_record(
        &key,
        "held",
        (partition, offset),
        json!({ "data": moderation_json::held_comment_json(held) }),
    )
}

/// Returns the record of a moderation action. An action that this release cannot read is exported with its version
/// only, as in the audit log.
fn action_record(line: StoredAuditEntry) -> ExportRecord {
    let AuditPosition { time: at, partition, offset } = line.position;
    let (key, data) = match line.record {
        Ok(done) => (done.video_id.as_str().to_owned(), json!(ActionJson::of(at, done))),
        Err(UnknownRecord { version }) => {
            (RECORDS_KEY.to_owned(), json!({ "timestamp": format_time(at), "unknown_version": version }))
        }
    };
    export_record(&key, "moderation", (partition, offset), json!({ "data": data }))
}

#[cfg(test)]
mod tests;
