//! Restrictions, comment rules and the audit log in their collections, and the removal of comments. Reports are in
//! [`super::reports`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use liverank_core::comment::NOBODY_ID;
use liverank_core::counting::{AuditEntry, Batch, BatchEffects, EntryRemoval, StoredModeration};
use liverank_core::moderation::{
    ChangedRule, HeldComment, ReportedComment, RuleChange, RuleScope, ScopeRules, UserRestriction,
};
use liverank_core::{Comment, CommentId, UserId, VideoId};
use mongodb::IndexModel;
use mongodb::bson::oid::{self, ObjectId};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::IndexOptions;
use serde::{Deserialize, Serialize};

use super::super::{
    AuditPosition, ENTRIES_READ_PER_CALL, EntryPosition, ModerationArchive, ReportPosition, ReportQueue,
    StoredAuditEntry, UserEntries,
};
use super::documents::comment::CommentDoc;
use super::documents::damaged_document;
use super::documents::moderated::{comment_key, parse_json, to_json};
use super::transaction::{AttemptEnd, Transaction, to_raw_documents};
use super::{MongoArchive, QUERY_TIMEOUT, reports};
use crate::StoreError;

/// The document of a restriction, or of the comment rules of a scope, as changed last.
#[derive(Debug, Deserialize)]
struct RuleDoc {
    #[serde(rename = "_id")]
    key: String,
    revision: i64,
    /// The user whom the restriction is for; absent for comment rules.
    #[serde(default)]
    userid: Option<String>,
    /// The restriction as JSON; absent if it was lifted.
    #[serde(default)]
    rule: Option<String>,
    /// The scope of the comment rules (a video, an owner or all), as JSON; absent for a restriction.
    #[serde(default)]
    scope: Option<String>,
    /// The comment rules as JSON; absent if they were removed.
    #[serde(default)]
    comments: Option<String>,
}

/// The name of the member with the revision of comment rules that are in force. The member has an index of its own.
const IN_FORCE_MEMBER: &str = "comments_in_force";

impl RuleDoc {
    fn into_change(self) -> Result<RuleChange, StoreError> {
        let what = if let Some(scope) = self.scope {
            let rules = self.comments.map(|rules| parse_json::<ScopeRules>(&rules)).transpose()?;
            ChangedRule::CommentRules { scope: parse_json::<RuleScope>(&scope)?, rules: rules.map(Arc::new) }
        } else {
            let userid = UserId::parse(&self.userid.unwrap_or_default());
            ChangedRule::Restriction {
                userid: userid.map_err(|error| damaged_document("rules", &error))?,
                rule: self.rule.map(|rule| parse_json::<UserRestriction>(&rule)).transpose()?,
            }
        };
        Ok(RuleChange { key: self.key, revision: self.revision as u64, changed_rule: what })
    }

    fn update_statement(change: &RuleChange) -> Document {
        let revision = change.revision as i64;
        let fields = match &change.changed_rule {
            ChangedRule::Restriction { userid, rule } => {
                let rule = rule.as_ref().map_or(Bson::Null, |rule| to_json(rule).into());
                doc! { "$set": { "userid": userid.as_str(), "revision": revision, "rule": rule } }
            }
            ChangedRule::CommentRules { scope, rules: Some(rules) } => doc! { "$set": {
                "scope": to_json(scope), "revision": revision, "comments": to_json(rules), IN_FORCE_MEMBER: revision,
            } },
            ChangedRule::CommentRules { scope, rules: None } => doc! {
                "$set": { "scope": to_json(scope), "revision": revision, "comments": Bson::Null },
                "$unset": { IN_FORCE_MEMBER: "" },
            },
        };
        doc! { "q": { "_id": &change.key }, "u": fields, "upsert": true }
    }
}

/// The `_id` of a comment's document.
#[derive(Debug, Deserialize)]
struct CommentIdDoc {
    #[serde(rename = "_id")]
    id: ObjectId,
}

/// The filter for entries that say which comment is pinned: member and value. Entries of this kind have an index of
/// their own.
const PINNED_ENTRY_FILTER: (&str, &str) = ("entry.kind", "pinned");

/// Returns the index of entries that say which comment is pinned.
pub(super) fn pins_index() -> IndexModel {
    let options = IndexOptions::builder()
        .name("pins".to_owned())
        .partial_filter_expression(doc! { PINNED_ENTRY_FILTER.0: PINNED_ENTRY_FILTER.1 })
        .build();
    IndexModel::builder().keys(doc! { "video_id": 1, "seq": -1 }).options(options).build()
}

/// Returns the index of comment rules in force.
pub(super) fn rules_in_force_index() -> IndexModel {
    let options = IndexOptions::builder().sparse(true).build();
    IndexModel::builder().keys(doc! { IN_FORCE_MEMBER: 1 }).options(options).build()
}

/// The document of a comment that waits for a moderator.
#[derive(Debug, Serialize, Deserialize)]
struct HeldDoc {
    /// The video and the comment, separated by a line break, which no id contains.
    #[serde(rename = "_id")]
    key: String,
    /// The comment's [`AuditPosition`], as text. Partition and offset are stored in members of their own as well
    /// ([`log_order_members`]).
    place: String,
    /// The held comment as JSON.
    held: String,
}

impl HeldDoc {
    fn held_key(video: &VideoId, id: &CommentId) -> String {
        comment_key(video, id)
    }

    fn update_statement(video: &VideoId, id: &CommentId, held: &HeldComment) -> Document {
        let place = AuditPosition::of_held_comment(held);
        let mut fields = doc! { "place": place.to_string(), "held": to_json(held) };
        fields.extend(log_order_members(place));
        doc! { "q": { "_id": Self::held_key(video, id) }, "u": { "$set": fields }, "upsert": true }
    }
}

/// Returns the index of comments that wait for a moderator, in their order.
pub(super) fn held_index() -> IndexModel {
    IndexModel::builder().keys(doc! { "place": 1 }).build()
}

/// Returns the members by which documents are read in the order of a partition: partition and offset. The members have
/// an index, and are absent in documents of earlier releases.
fn log_order_members(place: AuditPosition) -> Document {
    doc! { "partition": i64::from(place.partition), "offset": place.offset as i64 }
}

/// Returns the index of the members by which documents are read in the order of a partition. A document without these
/// members takes no space in the index.
pub(super) fn log_order_index() -> IndexModel {
    let options = IndexOptions::builder().sparse(true).build();
    IndexModel::builder().keys(doc! { "partition": 1, "offset": 1 }).options(options).build()
}

/// Returns the filter for documents of a partition from an offset on.
fn from_offset_filter(partition: u32, offset: u64) -> Document {
    doc! { "partition": i64::from(partition), "offset": { "$gte": i64::try_from(offset).unwrap_or(i64::MAX) } }
}

/// The document of an audit entry: an action of a moderator, or the report of a comment.
#[derive(Debug, Serialize, Deserialize)]
struct AuditDoc {
    /// The entry's [`AuditPosition`], as text. Partition and offset are stored in members of their own as well
    /// ([`log_order_members`]).
    #[serde(rename = "_id")]
    place: String,
    /// The record of the action, as the log has it.
    record: String,
}

impl AuditDoc {
    fn audit_doc_of(entry: &AuditEntry) -> Self {
        let record = String::from_utf8_lossy(&entry.record.to_json()).into_owned();
        Self { place: AuditPosition::of(entry).to_string(), record }
    }

    fn update_statement(entry: &AuditEntry) -> Document {
        let Self { place, record } = Self::audit_doc_of(entry);
        let mut fields = doc! { "record": record };
        fields.extend(log_order_members(AuditPosition::of(entry)));
        doc! { "q": { "_id": place }, "u": { "$set": fields }, "upsert": true }
    }

    fn into_entry(self) -> Result<StoredAuditEntry, StoreError> {
        let place =
            AuditPosition::parse(&self.place).map_err(|error| damaged_document("moderation", &error))?;
        Ok(StoredAuditEntry::decode(place, self.record.as_bytes()))
    }
}

impl Transaction<'_> {
    /// Reads the stored comments, reports and rules that a batch's moderation records refer to.
    pub(super) async fn read_moderation(&mut self, batch: &Batch) -> Result<StoredModeration, AttemptEnd> {
        let reports = self.read_reports(&batch.reported_comments()).await?;
        let mut moderated = StoredModeration { stored_reports: reports, ..StoredModeration::default() };
        let targets: HashSet<(&VideoId, &CommentId)> = batch.moderation_targets();
        if !targets.is_empty() {
            // Entries that are named by their sequence numbers are found, too, because each has its id.
            let ids = targets.iter().map(|(_, id)| id.as_str().into()).collect();
            let found: Vec<CommentDoc> = self.find_each("comments", "comment_id", ids).await?;
            for found in found {
                let comment = found.into_numbered()?.comment;
                if targets.contains(&(&comment.video_id, &comment.id)) {
                    moderated.target_entries.push(comment);
                }
            }
        }
        if batch.changes_rules() {
            let latest = doc! { "revision": { "$gt": 0_i64 } };
            let newest = self.find_first::<RuleDoc>("rules", latest, doc! { "revision": -1 }).await?;
            moderated.rules_revision = newest.map_or(0, |newest| newest.revision as u64);
        }
        Ok(moderated)
    }

    /// Writes the effects of a batch's moderation records: removed entries, rules, held comments, reports and the
    /// audit log.
    pub(super) async fn write_moderation(&mut self, effects: &BatchEffects) -> Result<(), AttemptEnd> {
        let removed = effects.removals.iter().map(
            |EntryRemoval { video, seq, removes_text: text, removes_author: author }| {
                let mut gone = Document::new();
                if *text {
                    gone.extend(doc! { "comment": "", "entry": { "kind": "removed" } });
                }
                if *author {
                    gone.insert("user_id", NOBODY_ID);
                }
                doc! { "q": { "video_id": video.as_str(), "seq": *seq as i64 }, "u": { "$set": gone } }
            },
        );
        self.update("comments", to_raw_documents(removed)?).await?;
        let changed = effects.rule_changes.iter().map(RuleDoc::update_statement);
        self.update("rules", to_raw_documents(changed)?).await?;
        // Only the last change of each comment is written: a comment may be held and released in one batch.
        let last: HashMap<_, _> = effects
            .held_comment_changes
            .iter()
            .map(|change| ((&change.video, &change.id), &change.held))
            .collect();
        let waiting = last
            .iter()
            .filter_map(|((video, id), held)| Some(HeldDoc::update_statement(video, id, held.as_ref()?)));
        self.update("held", to_raw_documents(waiting)?).await?;
        let ended = last.iter().filter(|(_, held)| held.is_none());
        let ended: Vec<Bson> = ended.map(|((video, id), _)| HeldDoc::held_key(video, id).into()).collect();
        if !ended.is_empty() {
            // Two moderators may have ended the same one; and a comment held and released in one batch was never
            // stored.
            let there: Vec<HeldDoc> = self.find_each("held", "_id", ended).await?;
            self.delete("held", there.into_iter().map(|held| held.key.into()).collect()).await?;
        }
        self.write_reports(&effects.changed_reports).await?;
        let done = effects.audit_entries.iter().map(AuditDoc::update_statement);
        self.update("moderation", to_raw_documents(done)?).await
    }
}

#[async_trait]
impl ModerationArchive for MongoArchive {
    async fn rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError> {
        let since = doc! { "revision": { "$gt": i64::try_from(revision).unwrap_or(i64::MAX) } };
        let found: Vec<RuleDoc> = self.find_documents("rules", since, doc! { "revision": 1 }, limit).await?;
        found.into_iter().map(RuleDoc::into_change).collect()
    }

    async fn comment_rules_since(&self, revision: u64, limit: usize) -> Result<Vec<RuleChange>, StoreError> {
        let since = doc! { IN_FORCE_MEMBER: { "$gt": i64::try_from(revision).unwrap_or(i64::MAX) } };
        let found: Vec<RuleDoc> =
            self.find_documents("rules", since, doc! { IN_FORCE_MEMBER: 1 }, limit).await?;
        found.into_iter().map(RuleDoc::into_change).collect()
    }

    async fn count_comment_rules(&self) -> Result<u64, StoreError> {
        self.with_timeout(QUERY_TIMEOUT, "counting rules of comments", async {
            let in_force = doc! { IN_FORCE_MEMBER: { "$gt": 0_i64 } };
            self.collection::<Document>("rules").count_documents(in_force).await
        })
        .await
    }

    async fn held_comments(
        &self,
        after: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError> {
        let filter = after.map_or_else(Document::new, |place| doc! { "place": { "$gt": place.to_string() } });
        let found: Vec<HeldDoc> = self.find_documents("held", filter, doc! { "place": 1 }, limit).await?;
        found.iter().map(|found| parse_json(&found.held)).collect()
    }

    async fn held_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<HeldComment>, StoreError> {
        let key = doc! { "_id": HeldDoc::held_key(video, id) };
        let found: Vec<HeldDoc> = self.find_documents("held", key, doc! {}, 1).await?;
        found.first().map(|found| parse_json(&found.held)).transpose()
    }

    async fn count_held_comments(&self) -> Result<u64, StoreError> {
        self.with_timeout(QUERY_TIMEOUT, "counting held comments", async {
            self.collection::<Document>("held").estimated_document_count().await
        })
        .await
    }

    async fn report_queue(
        &self,
        queue: ReportQueue,
        after: Option<ReportPosition>,
        limit: usize,
    ) -> Result<Vec<ReportedComment>, StoreError> {
        reports::read_report_queue(self, queue, after, limit).await
    }

    async fn reports_of_comment(
        &self,
        video: &VideoId,
        id: &CommentId,
    ) -> Result<Option<ReportedComment>, StoreError> {
        reports::read_reports_of_comment(self, video, id).await
    }

    async fn count_open_reports(&self, video: Option<&VideoId>, most: u64) -> Result<u64, StoreError> {
        reports::count_open_reports(self, video, most).await
    }

    async fn last_pin(&self, video: &VideoId) -> Result<Option<Comment>, StoreError> {
        let pins = doc! { "video_id": video.as_str(), PINNED_ENTRY_FILTER.0: PINNED_ENTRY_FILTER.1 };
        let found: Vec<CommentDoc> = self.find_documents("comments", pins, doc! { "seq": -1 }, 1).await?;
        found.into_iter().next().map(|found| Ok(found.into_numbered()?.comment)).transpose()
    }

    async fn entries_of_user(&self, user: &UserId, from: Option<&str>) -> Result<UserEntries, StoreError> {
        let wrong = |error: oid::Error| StoreError::unusable(super::PART_NAME, error.to_string());
        let mut part = Document::new();
        if let Some(from) = from {
            part.insert("$gt", ObjectId::parse_str(from).map_err(wrong)?);
        }
        let of_part = |part: &Document| {
            if part.is_empty() {
                Document::new()
            } else {
                doc! { "_id": part.clone() }
            }
        };
        let last: Option<CommentIdDoc> = self
            .with_timeout(QUERY_TIMEOUT, "looking for a user's entries", async {
                let comments = self.collection::<CommentIdDoc>("comments");
                let found = comments.find_one(of_part(&part)).sort(doc! { "_id": 1 });
                found.skip(ENTRIES_READ_PER_CALL as u64 - 1).projection(doc! { "_id": 1 }).await
            })
            .await?;
        if let Some(last) = &last {
            part.insert("$lte", last.id);
        }
        let mut own = of_part(&part);
        own.insert("user_id", user.as_str());
        let found: Vec<CommentDoc> =
            self.find_documents("comments", own, doc! { "_id": 1 }, ENTRIES_READ_PER_CALL).await?;
        let places = found.into_iter().map(|found| {
            let Comment { video_id: video, seq, id, .. } = found.into_numbered()?.comment;
            Ok(EntryPosition { video, seq, id })
        });
        let entries = places.collect::<Result<_, StoreError>>()?;
        Ok(UserEntries { entries, next_part: last.map(|last| last.id.to_hex()) })
    }

    async fn audit_log(
        &self,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<StoredAuditEntry>, StoreError> {
        let filter = before.map_or_else(Document::new, |place| doc! { "_id": { "$lt": place.to_string() } });
        let found: Vec<AuditDoc> =
            self.find_documents("moderation", filter, doc! { "_id": -1 }, limit).await?;
        found.into_iter().map(AuditDoc::into_entry).collect()
    }

    async fn audit_entries_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<StoredAuditEntry>, StoreError> {
        let (filter, order) = (from_offset_filter(partition, offset), doc! { "offset": 1 });
        let found: Vec<AuditDoc> = self.find_documents("moderation", filter, order, limit).await?;
        found.into_iter().map(AuditDoc::into_entry).collect()
    }

    async fn held_comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<HeldComment>, StoreError> {
        let (filter, order) = (from_offset_filter(partition, offset), doc! { "offset": 1 });
        let found: Vec<HeldDoc> = self.find_documents("held", filter, order, limit).await?;
        found.iter().map(|found| parse_json(&found.held)).collect()
    }
}

#[cfg(test)]
mod fixtures {
    use mongodb::bson::{from_bson, to_bson};
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use liverank_core::comment::EntryKind;
    use liverank_core::counting::NumberedComment;

    use super::super::super::UnknownRecord;
    use super::*;
    use crate::fixtures::{
        LATER_RELEASE_RECORD, check_json_fixture, comment_rules, fixture_audit_entry, fixture_comment,
        fixture_held, fixture_mute, with_unknown_member,
    };

    fn check_document<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
        from_bson(Bson::try_from(json.clone()).map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())
    }

    /// Returns the document that an update creates if there is none.
    fn document_made_by(update: &Document) -> Value {
        let part = |of: &Document, name: &str| of.get_document(name).expect("a part of an update").clone();
        let mut document = part(update, "q");
        document.extend(part(&part(update, "u"), "$set"));
        Bson::Document(document).into_canonical_extjson()
    }

    #[test]
    fn rule_documents_have_fixtures() {
        for (name, today) in [("mongodb-rule", fixture_mute()), ("mongodb-comment-rules", comment_rules())] {
            let write = |change: &RuleChange| document_made_by(&RuleDoc::update_statement(change));
            let read = |json: &Value| {
                check_document::<RuleDoc>(json)?.into_change().map_err(|error| error.to_string())
            };
            check_json_fixture(name, &today, write, read);
        }
    }

    #[test]
    fn held_documents_have_fixtures() {
        let write =
            |held: &HeldComment| document_made_by(&HeldDoc::update_statement(&held.video, &held.id, held));
        let read = |value: &Value| {
            let HeldDoc { key, place, held } = check_document(value)?;
            let held: HeldComment = parse_json(&held).map_err(|error| error.to_string())?;
            let expected =
                (HeldDoc::held_key(&held.video, &held.id), AuditPosition::of_held_comment(&held).to_string());
            if (key, place) == expected { Ok(held) } else { Err("is somewhere else".to_owned()) }
        };
        check_json_fixture("mongodb-held", &fixture_held(), write, read);
    }

    #[test]
    fn audit_documents_have_fixtures() {
        let entry = fixture_audit_entry();
        let today =
            StoredAuditEntry { position: AuditPosition::of(&entry), record: Ok(entry.record.clone()) };
        let write = |_: &StoredAuditEntry| document_made_by(&AuditDoc::update_statement(&entry));
        let read =
            |json: &Value| check_document::<AuditDoc>(json)?.into_entry().map_err(|error| error.to_string());
        check_json_fixture("mongodb-moderation", &today, write, read);
    }

    #[test]
    fn an_audit_record_of_a_later_release_is_read_as_unknown() {
        let told = NumberedComment { comment: fixture_comment(), partition: 4, offset: 99 };
        let told = to_bson(&CommentDoc::of(&told)).expect("a document serialises").into_canonical_extjson();
        let told: CommentDoc = check_document(&with_unknown_member("entry", &told)).expect("a document");
        assert_eq!(told.into_numbered().expect("an entry").comment.entry, EntryKind::Unknown);
        let waits = document_made_by(&HeldDoc::update_statement(
            &fixture_held().video,
            &fixture_held().id,
            &fixture_held(),
        ));
        let waits = with_unknown_member(
            "rule",
            &serde_json::from_str(waits["held"].as_str().expect("text")).expect("JSON"),
        );
        let waits: HeldComment = parse_json(&waits.to_string()).expect("one that waits");
        assert_eq!(waits.rule.to_string(), "of_a_later_release");
        let done = AuditDoc {
            record: LATER_RELEASE_RECORD.to_owned(),
            ..AuditDoc::audit_doc_of(&fixture_audit_entry())
        };
        assert_eq!(done.into_entry().expect("a line").record, Err(UnknownRecord { version: Some(9) }));
    }
}
