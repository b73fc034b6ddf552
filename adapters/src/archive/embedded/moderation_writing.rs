//! Reads the data that the moderation records of a batch need, and writes the effects of these records.

use liverank_core::comment::EntryKind;
use liverank_core::counting::{Batch, BatchEffects, NumberedComment, StoredModeration};
use redb::{ReadableTable, WriteTransaction};

use super::moderation_rows::{StoredRule, encode_held};
use super::reports;
use super::rows::{decode_comment, encode_comment};
use super::tables::{LogKey, Tables};
use crate::redb_file::FileFailure;

/// Reads the stored comments, reports and rules that a batch's moderation records refer to.
pub fn read_moderation(
    transaction: &WriteTransaction,
    tables: &Tables,
    batch: &Batch,
) -> Result<StoredModeration, FileFailure> {
    let reports = reports::read_reports(transaction, tables, &batch.reported_comments())?;
    let mut moderated = StoredModeration { stored_reports: reports, ..StoredModeration::default() };
    let targets = batch.moderation_targets();
    if !targets.is_empty() {
        let names = transaction.open_table(tables.newest_by_id)?;
        let comments = transaction.open_table(tables.comments)?;
        let mut places = batch.moderation_targets_by_seq();
        for (video, id) in targets {
            places.extend(names.get((video.as_str(), id.as_str()))?.map(|seq| (video, seq.value())));
        }
        for (video, seq) in places {
            if let Some(bytes) = comments.get((video.as_str(), seq))? {
                moderated.target_entries.push(decode_comment(video.as_str(), seq, bytes.value())?);
            }
        }
    }
    if batch.changes_rules() {
        let rules = transaction.open_table(tables.restrictions)?;
        moderated.rules_revision = rules.last()?.map_or(0, |(revision, _)| revision.value());
    }
    Ok(moderated)
}

/// Writes the effects of a batch's moderation records: removed entries, pins, rules, held comments, reports and the
/// audit log.
pub fn write_moderation(
    transaction: &WriteTransaction,
    tables: &Tables,
    effects: &BatchEffects,
) -> Result<(), FileFailure> {
    if !effects.removals.is_empty() {
        let mut comments = transaction.open_table(tables.comments)?;
        for removal in &effects.removals {
            let key = (removal.video.as_str(), removal.seq);
            let comment = match comments.get(key)? {
                Some(bytes) => decode_comment(key.0, key.1, bytes.value())?,
                None => continue,
            };
            comments.insert(key, encode_comment(&removal.apply_to(comment)).as_slice())?;
        }
    }
    let is_pin = |comment: &&NumberedComment| matches!(comment.comment.entry, EntryKind::Pinned { .. });
    let mut pinned = effects.comments.iter().filter(is_pin).peekable();
    if pinned.peek().is_some() {
        let mut pins = transaction.open_table(tables.pins)?;
        for NumberedComment { comment, .. } in pinned {
            pins.insert(comment.video_id.as_str(), comment.seq)?;
        }
    }
    if !effects.rule_changes.is_empty() {
        let mut rules = transaction.open_table(tables.restrictions)?;
        let mut revisions = transaction.open_table(tables.rule_revisions)?;
        for change in &effects.rule_changes {
            let before = revisions.insert(change.key.as_str(), change.revision)?.map(|before| before.value());
            if let Some(before) = before {
                rules.remove(before)?;
            }
            rules.insert(change.revision, StoredRule::from_change(change).encode().as_slice())?;
        }
    }
    if !effects.held_comment_changes.is_empty() {
        let mut held = transaction.open_table(tables.held_comments)?;
        let mut places = transaction.open_table(tables.held_keys_by_comment)?;
        for change in &effects.held_comment_changes {
            let key = (change.video.as_str(), change.id.as_str());
            let before = places.remove(key)?.map(|place| place.value());
            if let Some(before) = before {
                held.remove(before)?;
            }
            if let Some(waits) = &change.held {
                held.insert(waits.place, encode_held(waits).as_slice())?;
                places.insert(key, waits.place)?;
            }
        }
    }
    reports::write_reports(transaction, tables, &effects.changed_reports)?;
    if !effects.audit_entries.is_empty() {
        let mut audit = transaction.open_table(tables.audit)?;
        for entry in &effects.audit_entries {
            let place: LogKey = (entry.time, entry.partition, entry.offset);
            audit.insert(place, entry.record.to_json().as_slice())?;
        }
    }
    Ok(())
}
