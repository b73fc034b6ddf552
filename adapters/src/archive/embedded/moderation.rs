//! Restrictions, comment rules and the audit log in their tables, and the removal of comments. Reports are in
//! [`super::reports`].

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use liverank_core::comment::EntryKind;
use liverank_core::counting::{Batch, BatchEffects, NumberedComment, StoredModeration};
use liverank_core::moderation::{
    ChangedRule, HeldComment, ReportedComment, RuleChange, RuleScope, ScopeRules, UserRestriction,
};
use liverank_core::{Comment, CommentId, Millis, UserId, VideoId};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::super::{
    AuditLine, AuditPosition, ENTRIES_READ_PER_CALL, EntryPosition, ModerationArchive, ReportPosition,
    ReportQueue, UserEntries,
};
use super::tables::{Tables, decode_comment, encode_comment};
use super::{EmbeddedArchive, reports};
use crate::StoreError;
use crate::redb_file::Failure;

/// The position of a moderation record in the log: time, partition and offset.
pub type LogKey = (Millis, u32, u64);

#[derive(Serialize, Deserialize)]
struct StoredRule {
    key: String,
    /// The user whom the restriction is for; absent for comment rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    userid: Option<UserId>,
    /// The restriction; absent if it was lifted.
    #[serde(default)]
    rule: Option<UserRestriction>,
    /// The scope of the comment rules (a video, an owner or all); absent for a restriction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<RuleScope>,
    /// The comment rules; absent if they were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comments: Option<Arc<ScopeRules>>,
}

impl StoredRule {
    fn from_change(change: &RuleChange) -> Self {
        let key = change.key.clone();
        match change.changed_rule.clone() {
            ChangedRule::Restriction { userid, rule } => {
                Self { key, userid: Some(userid), rule, scope: None, comments: None }
            }
            ChangedRule::CommentRules { scope, rules } => {
                Self { key, userid: None, rule: None, scope: Some(scope), comments: rules }
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers always serialise")
    }

    fn decode_rule(revision: u64, bytes: &[u8]) -> Result<RuleChange, Failure> {
        let stored: Self = serde_json::from_slice(bytes).map_err(|error| damaged("a restriction", error))?;
        let what = match (stored.scope, stored.userid) {
            (Some(scope), _) => ChangedRule::CommentRules { scope, rules: stored.comments },
            (None, Some(userid)) => ChangedRule::Restriction { userid, rule: stored.rule },
            (None, None) => return Err(damaged("a restriction", "it is nobody's")),
        };
        Ok(RuleChange { key: stored.key, revision, changed_rule: what })
    }
}

pub(super) fn damaged(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Damaged(format!("{what}: {error}"))
}

/// Reads the stored comments, reports and rules that a batch's moderation records refer to.
pub fn read_moderation(
    transaction: &WriteTransaction,
    tables: &Tables,
    batch: &Batch,
) -> Result<StoredModeration, Failure> {
    let reports = reports::known(transaction, tables, &batch.reported_comments())?;
    let mut moderated = StoredModeration { stored_reports: reports, ..StoredModeration::default() };
    let targets = batch.moderation_targets();
    if !targets.is_empty() {
        let names = transaction.open_table(tables.newest_by_id)?;
        let comments = transaction.open_table(tables.comments)?;
        let mut places = batch.targets_by_seq();
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
) -> Result<(), Failure> {
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
    if !effects.held_changes.is_empty() {
        let mut held = transaction.open_table(tables.held_comments)?;
        let mut places = transaction.open_table(tables.held_places)?;
        for change in &effects.held_changes {
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
    reports::put(transaction, tables, &effects.changed_reports)?;
    if !effects.audit_entries.is_empty() {
        let mut audit = transaction.open_table(tables.audit)?;
        for entry in &effects.audit_entries {
            let place: LogKey = (entry.time, entry.partition, entry.offset);
            audit.insert(place, entry.record.to_json().as_slice())?;
        }
    }
    Ok(())
}

/// Reads the rule changes after a revision: all, or with `of_comments` only comment rules in force.
fn rules_since(
    database: &Database,
    tables: &Tables,
    revision: u64,
    limit: usize,
    of_comments: bool,
) -> Result<Vec<RuleChange>, Failure> {
    let table = database.begin_read()?.open_table(tables.restrictions)?;
    let since = (Bound::Excluded(revision), Bound::Unbounded);
    let changes = table.range::<u64>(since)?.map(|entry| {
        let (revision, bytes) = entry?;
        StoredRule::decode_rule(revision.value(), bytes.value())
    });
    let is_asked = |change: &Result<RuleChange, Failure>| match change {
        Ok(change) => {
            !of_comments || matches!(change.changed_rule, ChangedRule::CommentRules { rules: Some(_), .. })
        }
        Err(_) => true,
    };
    changes.filter(is_asked).take(limit).collect()
}

fn encode_held(held: &HeldComment) -> Vec<u8> {
    serde_json::to_vec(held).expect("text and numbers always serialise")
}

fn decode_held(bytes: &[u8]) -> Result<HeldComment, Failure> {
    serde_json::from_slice(bytes).map_err(|error| damaged("a held comment", error))
}

fn held(
    database: &Database,
    tables: &Tables,
    after: Option<AuditPosition>,
    limit: usize,
) -> Result<Vec<HeldComment>, Failure> {
    let table = database.begin_read()?.open_table(tables.held_comments)?;
    let after =
        after.map_or(Bound::Unbounded, |place| Bound::Excluded((place.time, place.partition, place.offset)));
    let found = table.range::<LogKey>((after, Bound::Unbounded))?.take(limit);
    found.map(|entry| decode_held(entry?.1.value())).collect()
}

fn held_comment(
    database: &Database,
    tables: &Tables,
    video: &VideoId,
    id: &CommentId,
) -> Result<Option<HeldComment>, Failure> {
    let transaction = database.begin_read()?;
    let places = transaction.open_table(tables.held_places)?;
    let Some(place) = places.get((video.as_str(), id.as_str()))?.map(|place| place.value()) else {
        return Ok(None);
    };
    let table = transaction.open_table(tables.held_comments)?;
    let bytes = table.get(place)?;
    bytes.map(|bytes| decode_held(bytes.value())).transpose()
}

fn last_pin(database: &Database, tables: &Tables, video: &VideoId) -> Result<Option<Comment>, Failure> {
    let transaction = database.begin_read()?;
    let pins = transaction.open_table(tables.pins)?;
    let Some(seq) = pins.get(video.as_str())?.map(|seq| seq.value()) else { return Ok(None) };
    let comments = transaction.open_table(tables.comments)?;
    let bytes = comments.get((video.as_str(), seq))?;
    bytes.map(|bytes| decode_comment(video.as_str(), seq, bytes.value())).transpose()
}

/// Finds a user's entries among the [`ENTRIES_READ_PER_CALL`] entries after a key, which is a video and a sequence
/// number.
fn entries_of(
    database: &Database,
    tables: &Tables,
    user: &UserId,
    after: Option<&str>,
) -> Result<UserEntries, Failure> {
    let wrong = || damaged("where to go on", "it is no place");
    let after = after.map(|place| {
        let (video, seq) = place.rsplit_once('\n').ok_or_else(wrong)?;
        Ok::<_, Failure>((video, seq.parse::<u64>().map_err(|_| wrong())?))
    });
    let table = database.begin_read()?.open_table(tables.comments)?;
    let from = after.transpose()?.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut found, mut last, mut looked_at) = (Vec::new(), None, 0);
    for entry in table.range::<(&str, u64)>((from, Bound::Unbounded))?.take(ENTRIES_READ_PER_CALL) {
        let (key, bytes) = entry?;
        let (video, seq) = key.value();
        looked_at += 1;
        last = Some(format!("{video}\n{seq}"));
        let Comment { video_id, user_id, id, .. } = decode_comment(video, seq, bytes.value())?;
        if user_id == *user {
            found.push(EntryPosition { video: video_id, seq, id });
        }
    }
    Ok(UserEntries { entries: found, next_part: last.filter(|_| looked_at == ENTRIES_READ_PER_CALL) })
}

fn audit(
    database: &Database,
    tables: &Tables,
    before: Option<AuditPosition>,
    limit: usize,
) -> Result<Vec<AuditLine>, Failure> {
    let table = database.begin_read()?.open_table(tables.audit)?;
    let before =
        before.map_or(Bound::Unbounded, |place| Bound::Excluded((place.time, place.partition, place.offset)));
    let entries = table.range::<LogKey>((Bound::Unbounded, before))?.rev().take(limit).map(|entry| {
        let (place, bytes) = entry?;
        let (time, partition, offset) = place.value();
        Ok(AuditLine::read(AuditPosition { time, partition, offset }, bytes.value()))
    });
    entries.collect()
}

/// Reads a partition's rows from an offset on. Scans the whole table, which is ordered by time: only tests call this.
fn from_offset<T>(
    table: &impl ReadableTable<LogKey, &'static [u8]>,
    (partition, offset): (u32, u64),
    limit: usize,
    read: impl Fn(AuditPosition, &[u8]) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    for entry in table.range::<LogKey>(..)? {
        let (place, bytes) = entry?;
        let (time, of, at) = place.value();
        if of == partition && at >= offset {
            found.push((at, read(AuditPosition { time, partition, offset: at }, bytes.value())?));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().take(limit).map(|(_, read)| read).collect())
}

#[async_trait]
impl ModerationArchive for EmbeddedArchive {
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError> {
        self.read_blocking(move |database, tables| rules_since(database, tables, revision, limit, false))
            .await
    }

    async fn comment_rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError> {
        self.read_blocking(move |database, tables| rules_since(database, tables, revision, limit, true)).await
    }

    async fn count_comment_rules(&self) -> Result<u64, StoreError> {
        let all =
            self.read_blocking(|database, tables| rules_since(database, tables, 0, usize::MAX, true)).await?;
        Ok(all.len() as u64)
    }

    async fn held_comments(
        &self,
        after: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError> {
        self.read_blocking(move |database, tables| held(database, tables, after, limit)).await
    }

    async fn held_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<HeldComment>, StoreError> {
        let (video, id) = (video.clone(), id.clone());
        self.read_blocking(move |database, tables| held_comment(database, tables, &video, &id)).await
    }

    async fn count_held(&self) -> Result<u64, StoreError> {
        self.read_blocking(|database, tables| {
            Ok(database.begin_read()?.open_table(tables.held_comments)?.len()?)
        })
        .await
    }

    async fn report_queue(
        &self,
        queue: ReportQueue,
        after: Option<ReportPosition>,
        limit: usize,
    ) -> Result<Vec<ReportedComment>, StoreError> {
        self.read_blocking(move |database, tables| reports::of_queue(database, tables, queue, after, limit))
            .await
    }

    async fn reports_of_comment(
        &self,
        video: &VideoId,
        id: &CommentId,
    ) -> Result<Option<ReportedComment>, StoreError> {
        let (video, id) = (video.clone(), id.clone());
        self.read_blocking(move |database, tables| reports::of_comment(database, tables, &video, &id)).await
    }

    async fn count_open_reports(&self, video: Option<&VideoId>, most: u64) -> Result<u64, StoreError> {
        let video = video.cloned();
        self.read_blocking(move |database, tables| reports::count(database, tables, video.as_ref(), most))
            .await
    }

    async fn last_pin(&self, video: &VideoId) -> Result<Option<Comment>, StoreError> {
        let video = video.clone();
        self.read_blocking(move |database, tables| last_pin(database, tables, &video)).await
    }

    async fn entries_of(&self, user: &UserId, from: Option<&str>) -> Result<UserEntries, StoreError> {
        let (user, from) = (user.clone(), from.map(str::to_owned));
        self.read_blocking(move |database, tables| entries_of(database, tables, &user, from.as_deref())).await
    }

    async fn audit_log(
        &self,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<AuditLine>, StoreError> {
        self.read_blocking(move |database, tables| audit(database, tables, before, limit)).await
    }

    async fn audit_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<AuditLine>, StoreError> {
        self.read_blocking(move |database, tables| {
            let table = database.begin_read()?.open_table(tables.audit)?;
            from_offset(&table, (partition, offset), limit, |place, bytes| Ok(AuditLine::read(place, bytes)))
        })
        .await
    }

    async fn held_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError> {
        self.read_blocking(move |database, tables| {
            let table = database.begin_read()?.open_table(tables.held_comments)?;
            from_offset(&table, (partition, offset), limit, |_, bytes| decode_held(bytes))
        })
        .await
    }
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{check_json_fixture, comment_rules, fixture_held, fixture_mute, json};

    #[test]
    fn stored_restrictions_and_comment_rules_have_fixtures() {
        for (name, today) in [("embedded-rule", fixture_mute()), ("embedded-comment-rules", comment_rules())]
        {
            let write = |change: &RuleChange| json(&StoredRule::from_change(change).encode());
            check_json_fixture(name, &today, write, |value| {
                StoredRule::decode_rule(8, value.to_string().as_bytes())
            });
        }
    }

    #[test]
    fn stored_held_comments_have_fixtures() {
        let write = |held: &HeldComment| json(&encode_held(held));
        check_json_fixture("embedded-held", &fixture_held(), write, |value| {
            decode_held(value.to_string().as_bytes())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Archive, CommentPage, UnknownRecord};
    use super::*;
    use crate::fixtures::{
        LATER_RELEASE_RECORD, deleted_by_a_moderator, fixture_comment, fixture_held, json,
        with_unknown_member,
    };

    fn json_bytes(value: &serde_json::Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    #[tokio::test]
    async fn an_unknown_record_does_not_fail_the_rest_of_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let archive = EmbeddedArchive::open(directory.path()).unwrap();
        let known = deleted_by_a_moderator().record;
        let (record, waits) = (known.to_json(), encode_held(&fixture_held()));
        let told = encode_comment(&fixture_comment());
        let written = archive.write_blocking(move |database, tables| {
            let transaction = database.begin_write()?;
            let mut audit = transaction.open_table(tables.audit)?;
            let mut held = transaction.open_table(tables.held_comments)?;
            let mut comments = transaction.open_table(tables.comments)?;
            let later = [
                LATER_RELEASE_RECORD.as_bytes().to_vec(),
                json_bytes(&with_unknown_member("rule", &json(&waits))),
                json_bytes(&with_unknown_member("entry", &json(&told))),
            ];
            for (at, [record, waits, told]) in
                [(1, [&record, &waits, &told]), (2, later.each_ref()), (3, [&record, &waits, &told])]
            {
                audit.insert((at, 0, 0), record.as_slice())?;
                held.insert((at, 0, 0), waits.as_slice())?;
                comments.insert(("cats", at as u64), told.as_slice())?;
            }
            drop((audit, held, comments));
            transaction.commit()?;
            Ok(())
        });
        written.await.unwrap();
        let records: Vec<_> =
            archive.audit_log(None, 9).await.unwrap().into_iter().map(|line| line.record).collect();
        assert_eq!(records, [Ok(known.clone()), Err(UnknownRecord { version: Some(9) }), Ok(known)]);
        let rules =
            archive.held_comments(None, 9).await.unwrap().into_iter().map(|held| held.rule.to_string());
        assert_eq!(rules.collect::<Vec<_>>(), ["words", "of_a_later_release", "words"]);
        let told = archive.comments(&fixture_comment().video_id, CommentPage::After(0), 9).await.unwrap();
        let kinds: Vec<_> = told.into_iter().map(|told| told.entry).collect();
        assert_eq!(kinds, [EntryKind::Comment, EntryKind::Unknown, EntryKind::Comment]);
    }
}
