//! Restrictions and the audit log, in their tables; and comments that were removed.

use std::ops::Bound;

use async_trait::async_trait;
use liverank_core::counting::{AuditEntry, Batch, Effects, Moderated};
use liverank_core::moderation::{Rule, RuleChange};
use liverank_core::{Interaction, Millis, UserId};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::super::{AuditPlace, ModerationArchive};
use super::EmbeddedArchive;
use super::tables::{Tables, decode_comment, encode_comment};
use crate::StoreError;
use crate::redb_file::Failure;

/// Where an audit entry is: time, partition, offset.
pub type Place = (Millis, u32, u64);

#[derive(Serialize, Deserialize)]
struct StoredRule {
    key: String,
    userid: UserId,
    rule: Option<Rule>,
}

fn damaged(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Damaged(format!("{what}: {error}"))
}

/// What a batch's moderation records are about.
pub fn moderated(
    transaction: &WriteTransaction,
    tables: &Tables,
    batch: &Batch,
) -> Result<Moderated, Failure> {
    let mut moderated = Moderated::default();
    let targets = batch.targets();
    if !targets.is_empty() {
        let names = transaction.open_table(tables.names)?;
        let comments = transaction.open_table(tables.comments)?;
        for (video, id) in targets {
            let Some(seq) = names.get((video.as_str(), id.as_str()))?.map(|seq| seq.value()) else {
                continue;
            };
            if let Some(bytes) = comments.get((video.as_str(), seq))? {
                moderated.targets.push(decode_comment(video.as_str(), seq, bytes.value())?);
            }
        }
    }
    if batch.changes_rules() {
        let rules = transaction.open_table(tables.rules)?;
        moderated.revision = rules.last()?.map_or(0, |(revision, _)| revision.value());
    }
    Ok(moderated)
}

/// Writes what a batch's moderation records did.
pub fn put(transaction: &WriteTransaction, tables: &Tables, effects: &Effects) -> Result<(), Failure> {
    if !effects.removed.is_empty() {
        let mut comments = transaction.open_table(tables.comments)?;
        for (video, seq) in &effects.removed {
            let key = (video.as_str(), *seq);
            let comment = match comments.get(key)? {
                Some(bytes) => decode_comment(key.0, key.1, bytes.value())?,
                None => continue,
            };
            comments.insert(key, encode_comment(&comment.removed()).as_slice())?;
        }
    }
    if !effects.rules.is_empty() {
        let mut rules = transaction.open_table(tables.rules)?;
        let mut revisions = transaction.open_table(tables.rule_revisions)?;
        for change in &effects.rules {
            let before = revisions.insert(change.key.as_str(), change.revision)?.map(|before| before.value());
            if let Some(before) = before {
                rules.remove(before)?;
            }
            let RuleChange { key, userid, rule, .. } = change.clone();
            let stored = serde_json::to_vec(&StoredRule { key, userid, rule });
            let stored = stored.expect("text and numbers always serialise");
            rules.insert(change.revision, stored.as_slice())?;
        }
    }
    if !effects.audit.is_empty() {
        let mut audit = transaction.open_table(tables.audit)?;
        for entry in &effects.audit {
            let place: Place = (entry.time, entry.partition, entry.offset);
            audit.insert(place, entry.record.to_json().as_slice())?;
        }
    }
    Ok(())
}

fn rules_since(
    database: &Database,
    tables: &Tables,
    revision: u64,
    limit: usize,
) -> Result<Vec<RuleChange>, Failure> {
    let table = database.begin_read()?.open_table(tables.rules)?;
    let since = (Bound::Excluded(revision), Bound::Unbounded);
    let changes = table.range::<u64>(since)?.take(limit).map(|entry| {
        let (revision, bytes) = entry?;
        let StoredRule { key, userid, rule } =
            serde_json::from_slice(bytes.value()).map_err(|error| damaged("a restriction", error))?;
        Ok(RuleChange { key, userid, revision: revision.value(), rule })
    });
    changes.collect()
}

fn audit(
    database: &Database,
    tables: &Tables,
    before: Option<AuditPlace>,
    limit: usize,
) -> Result<Vec<AuditEntry>, Failure> {
    let table = database.begin_read()?.open_table(tables.audit)?;
    let before =
        before.map_or(Bound::Unbounded, |place| Bound::Excluded((place.time, place.partition, place.offset)));
    let entries = table.range::<Place>((Bound::Unbounded, before))?.rev().take(limit).map(|entry| {
        let (place, bytes) = entry?;
        let (time, partition, offset) = place.value();
        let record = Interaction::from_log(bytes.value(), time);
        let record = record.map_err(|error| damaged("an entry of the audit log", error))?;
        Ok(AuditEntry { time, partition, offset, record })
    });
    entries.collect()
}

#[async_trait]
impl ModerationArchive for EmbeddedArchive {
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError> {
        self.read(move |database, tables| rules_since(database, tables, revision, limit)).await
    }

    async fn audit(&self, before: Option<AuditPlace>, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |database, tables| audit(database, tables, before, limit)).await
    }
}
