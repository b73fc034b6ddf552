//! Queries of restrictions, comment rules, held comments and the audit log. Batches write them in
//! [`super::moderation_writing`]; reports are in [`super::reports`].

use std::ops::Bound;

use async_trait::async_trait;
use liverank_core::moderation::{ChangedRule, HeldComment, ReportedComment, RuleChange};
use liverank_core::{Comment, CommentId, UserId, VideoId};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::super::{
    AuditPosition, ENTRIES_READ_PER_CALL, EntryPosition, ModerationArchive, ReportPosition, ReportQueue,
    StoredAuditEntry, UserEntries,
};
use super::moderation_rows::{StoredRule, decode_held};
use super::rows::{damaged_row, decode_comment};
use super::tables::{LogKey, Tables};
use super::{EmbeddedArchive, reports};
use crate::StoreError;
use crate::redb_file::FileFailure;

/// Reads the rule changes after a revision: all, or with `of_comments` only comment rules in force.
fn rules_since(
    database: &Database,
    tables: &Tables,
    revision: u64,
    limit: usize,
    of_comments: bool,
) -> Result<Vec<RuleChange>, FileFailure> {
    let table = database.begin_read()?.open_table(tables.restrictions)?;
    let since = (Bound::Excluded(revision), Bound::Unbounded);
    let changes = table.range::<u64>(since)?.map(|entry| {
        let (revision, bytes) = entry?;
        StoredRule::decode_rule(revision.value(), bytes.value())
    });
    let is_asked = |change: &Result<RuleChange, FileFailure>| match change {
        Ok(change) => {
            !of_comments || matches!(change.changed_rule, ChangedRule::CommentRules { rules: Some(_), .. })
        }
        Err(_) => true,
    };
    changes.filter(is_asked).take(limit).collect()
}

fn read_held_comments(
    database: &Database,
    tables: &Tables,
    after: Option<AuditPosition>,
    limit: usize,
) -> Result<Vec<HeldComment>, FileFailure> {
    let table = database.begin_read()?.open_table(tables.held_comments)?;
    let after =
        after.map_or(Bound::Unbounded, |place| Bound::Excluded((place.time, place.partition, place.offset)));
    let found = table.range::<LogKey>((after, Bound::Unbounded))?.take(limit);
    found.map(|entry| decode_held(entry?.1.value())).collect()
}

fn read_held_comment(
    database: &Database,
    tables: &Tables,
    video: &VideoId,
    id: &CommentId,
) -> Result<Option<HeldComment>, FileFailure> {
    let transaction = database.begin_read()?;
    let places = transaction.open_table(tables.held_keys_by_comment)?;
    let Some(place) = places.get((video.as_str(), id.as_str()))?.map(|place| place.value()) else {
        return Ok(None);
    };
    let table = transaction.open_table(tables.held_comments)?;
    let bytes = table.get(place)?;
    bytes.map(|bytes| decode_held(bytes.value())).transpose()
}

fn last_pin(database: &Database, tables: &Tables, video: &VideoId) -> Result<Option<Comment>, FileFailure> {
    let transaction = database.begin_read()?;
    let pins = transaction.open_table(tables.pins)?;
    let Some(seq) = pins.get(video.as_str())?.map(|seq| seq.value()) else { return Ok(None) };
    let comments = transaction.open_table(tables.comments)?;
    let bytes = comments.get((video.as_str(), seq))?;
    bytes.map(|bytes| decode_comment(video.as_str(), seq, bytes.value())).transpose()
}

/// Finds a user's entries among the [`ENTRIES_READ_PER_CALL`] entries after a key, which is a video and a sequence
/// number.
fn find_entries_of_user(
    database: &Database,
    tables: &Tables,
    user: &UserId,
    after: Option<&str>,
) -> Result<UserEntries, FileFailure> {
    let wrong = || damaged_row("where to go on", "it is no place");
    let after = after.map(|place| {
        let (video, seq) = place.rsplit_once('\n').ok_or_else(wrong)?;
        Ok::<_, FileFailure>((video, seq.parse::<u64>().map_err(|_| wrong())?))
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

fn read_audit_log(
    database: &Database,
    tables: &Tables,
    before: Option<AuditPosition>,
    limit: usize,
) -> Result<Vec<StoredAuditEntry>, FileFailure> {
    let table = database.begin_read()?.open_table(tables.audit)?;
    let before =
        before.map_or(Bound::Unbounded, |place| Bound::Excluded((place.time, place.partition, place.offset)));
    let entries = table.range::<LogKey>((Bound::Unbounded, before))?.rev().take(limit).map(|entry| {
        let (place, bytes) = entry?;
        let (time, partition, offset) = place.value();
        Ok(StoredAuditEntry::decode(AuditPosition { time, partition, offset }, bytes.value()))
    });
    entries.collect()
}

/// Reads a partition's rows from an offset on. Scans the whole table, which is ordered by time: only tests call this.
fn read_rows_from_offset<T>(
    table: &impl ReadableTable<LogKey, &'static [u8]>,
    (partition, offset): (u32, u64),
    limit: usize,
    read: impl Fn(AuditPosition, &[u8]) -> Result<T, FileFailure>,
) -> Result<Vec<T>, FileFailure> {
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
        self.read_blocking(move |database, tables| read_held_comments(database, tables, after, limit)).await
    }

    async fn held_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<HeldComment>, StoreError> {
        let (video, id) = (video.clone(), id.clone());
        self.read_blocking(move |database, tables| read_held_comment(database, tables, &video, &id)).await
    }

    async fn count_held_comments(&self) -> Result<u64, StoreError> {
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
        self.read_blocking(move |database, tables| {
            reports::read_report_queue(database, tables, queue, after, limit)
        })
        .await
    }

    async fn reports_of_comment(
        &self,
        video: &VideoId,
        id: &CommentId,
    ) -> Result<Option<ReportedComment>, StoreError> {
        let (video, id) = (video.clone(), id.clone());
        self.read_blocking(move |database, tables| {
            reports::read_reports_of_comment(database, tables, &video, &id)
        })
        .await
    }

    async fn count_open_reports(&self, video: Option<&VideoId>, most: u64) -> Result<u64, StoreError> {
        let video = video.cloned();
        self.read_blocking(move |database, tables| {
            reports::count_open_reports(database, tables, video.as_ref(), most)
        })
        .await
    }

    async fn last_pin(&self, video: &VideoId) -> Result<Option<Comment>, StoreError> {
        let video = video.clone();
        self.read_blocking(move |database, tables| last_pin(database, tables, &video)).await
    }

    async fn entries_of_user(&self, user: &UserId, from: Option<&str>) -> Result<UserEntries, StoreError> {
        let (user, from) = (user.clone(), from.map(str::to_owned));
        self.read_blocking(move |database, tables| {
            find_entries_of_user(database, tables, &user, from.as_deref())
        })
        .await
    }

    async fn audit_log(
        &self,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<StoredAuditEntry>, StoreError> {
        self.read_blocking(move |database, tables| read_audit_log(database, tables, before, limit)).await
    }

    async fn audit_entries_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<StoredAuditEntry>, StoreError> {
        self.read_blocking(move |database, tables| {
            let table = database.begin_read()?.open_table(tables.audit)?;
            read_rows_from_offset(&table, (partition, offset), limit, |place, bytes| {
                Ok(StoredAuditEntry::decode(place, bytes))
            })
        })
        .await
    }

    async fn held_comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError> {
        self.read_blocking(move |database, tables| {
            let table = database.begin_read()?.open_table(tables.held_comments)?;
            read_rows_from_offset(&table, (partition, offset), limit, |_, bytes| decode_held(bytes))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::comment::EntryKind;

    use super::super::super::{Archive, CommentPage, UnknownRecord};
    use super::super::moderation_rows::encode_held;
    use super::super::rows::encode_comment;
    use super::*;
    use crate::fixtures::{
        LATER_RELEASE_RECORD, fixture_audit_entry, fixture_comment, fixture_held, parse_json,
        with_unknown_member,
    };

    fn json_bytes(value: &serde_json::Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    #[tokio::test]
    async fn an_unknown_record_does_not_fail_the_rest_of_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let archive = EmbeddedArchive::open(directory.path()).unwrap();
        let known = fixture_audit_entry().record;
        let (record, waits) = (known.to_json(), encode_held(&fixture_held()));
        let told = encode_comment(&fixture_comment());
        let written = archive.write_blocking(move |database, tables| {
            let transaction = database.begin_write()?;
            let mut audit = transaction.open_table(tables.audit)?;
            let mut held = transaction.open_table(tables.held_comments)?;
            let mut comments = transaction.open_table(tables.comments)?;
            let later = [
                LATER_RELEASE_RECORD.as_bytes().to_vec(),
                json_bytes(&with_unknown_member("rule", &parse_json(&waits))),
                json_bytes(&with_unknown_member("entry", &parse_json(&told))),
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
