//! Restrictions and the audit log, in their collections; and comments that were removed.

use std::collections::HashSet;

use async_trait::async_trait;
use liverank_core::counting::{AuditEntry, Batch, Effects, Moderated};
use liverank_core::moderation::{Rule, RuleChange};
use liverank_core::{CommentId, Interaction, Invalid, UserId, VideoId};
use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::super::{AuditPlace, ModerationArchive};
use super::MongoArchive;
use super::documents::{CommentDoc, damaged};
use super::transaction::{Stop, Transaction, raw};
use crate::StoreError;

/// A restriction as it was changed last.
#[derive(Debug, Deserialize)]
struct RuleDoc {
    #[serde(rename = "_id")]
    key: String,
    userid: String,
    revision: i64,
    /// The rule as JSON; absent where it was lifted.
    #[serde(default)]
    rule: Option<String>,
}

impl RuleDoc {
    fn into_change(self) -> Result<RuleChange, StoreError> {
        let wrong = |error: serde_json::Error| damaged("rules", &Invalid::new("rule", error.to_string()));
        let rule = self.rule.map(|json| serde_json::from_str::<Rule>(&json)).transpose().map_err(wrong)?;
        Ok(RuleChange {
            userid: UserId::parse(&self.userid).map_err(|error| damaged("rules", &error))?,
            key: self.key,
            revision: self.revision as u64,
            rule,
        })
    }
}

/// One thing that a moderator did.
#[derive(Debug, Serialize, Deserialize)]
struct AuditDoc {
    /// An [`AuditPlace`], as text.
    #[serde(rename = "_id")]
    place: String,
    /// The record, as the log has it.
    record: String,
}

impl AuditDoc {
    fn into_entry(self) -> Result<AuditEntry, StoreError> {
        let damaged = |error: Invalid| damaged("moderation", &error);
        let AuditPlace { time, partition, offset } = AuditPlace::parse(&self.place).map_err(damaged)?;
        let record = Interaction::from_log(self.record.as_bytes(), time)
            .map_err(|error| damaged(Invalid::new("record", error.to_string())))?;
        Ok(AuditEntry { time, partition, offset, record })
    }
}

impl Transaction<'_> {
    /// What a batch's moderation records are about.
    pub(super) async fn moderated(&mut self, batch: &Batch) -> Result<Moderated, Stop> {
        let mut moderated = Moderated::default();
        let targets = batch.targets().into_iter().map(|(video, id)| (video.clone(), id.clone()));
        let mut targets: HashSet<(VideoId, CommentId)> = targets.collect();
        if !targets.is_empty() {
            let ids = targets.iter().map(|(_, id)| id.as_str().into()).collect();
            let mut found: Vec<CommentDoc> = self.find_each("comments", "comment_id", ids).await?;
            found.sort_by_key(|found| std::cmp::Reverse(found.seq()));
            for found in found {
                let comment = found.into_numbered()?.comment;
                if targets.remove(&(comment.video_id.clone(), comment.id.clone())) {
                    moderated.targets.push(comment);
                }
            }
        }
        if batch.changes_rules() {
            let latest = doc! { "revision": { "$gt": 0_i64 } };
            let newest = self.newest::<RuleDoc>("rules", latest, doc! { "revision": -1 }).await?;
            moderated.revision = newest.map_or(0, |newest| newest.revision as u64);
        }
        Ok(moderated)
    }

    /// Writes what a batch's moderation records did.
    pub(super) async fn moderate(&mut self, effects: &Effects) -> Result<(), Stop> {
        let removed = effects.removed.iter().map(|(video, seq)| {
            let gone = doc! { "comment": "", "entry": { "kind": "removed" } };
            doc! { "q": { "video_id": video.as_str(), "seq": *seq as i64 }, "u": { "$set": gone } }
        });
        self.update("comments", raw(removed)?).await?;
        let changed = effects.rules.iter().map(|change| {
            let rule = change.rule.as_ref().map_or(Bson::Null, |rule| {
                serde_json::to_string(rule).expect("text and numbers always serialise").into()
            });
            let (userid, revision) = (change.userid.as_str(), change.revision as i64);
            let fields = doc! { "userid": userid, "revision": revision, "rule": rule };
            doc! { "q": { "_id": &change.key }, "u": { "$set": fields }, "upsert": true }
        });
        self.update("rules", raw(changed)?).await?;
        let done = effects.audit.iter().map(|entry| {
            let record = String::from_utf8_lossy(&entry.record.to_json()).into_owned();
            let place = AuditPlace::of(entry).to_string();
            doc! { "q": { "_id": place }, "u": { "$set": { "record": record } }, "upsert": true }
        });
        self.update("moderation", raw(done)?).await
    }
}

#[async_trait]
impl ModerationArchive for MongoArchive {
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError> {
        let since = doc! { "revision": { "$gt": i64::try_from(revision).unwrap_or(i64::MAX) } };
        let found: Vec<RuleDoc> = self.find("rules", since, doc! { "revision": 1 }, limit).await?;
        found.into_iter().map(RuleDoc::into_change).collect()
    }

    async fn audit(&self, before: Option<AuditPlace>, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let filter = before.map_or_else(Document::new, |place| doc! { "_id": { "$lt": place.to_string() } });
        let found: Vec<AuditDoc> = self.find("moderation", filter, doc! { "_id": -1 }, limit).await?;
        found.into_iter().map(AuditDoc::into_entry).collect()
    }
}
