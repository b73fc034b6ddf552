//! The documents in MongoDB, and their conversion into the core's types.
//!
//! The fields that clients of the database read (`score`, `watch_time_total`, …) are doubles, computed anew at each
//! write. The fields that counting continues from are integers, so that no sum is ever rounded.

use std::collections::HashMap;

use liverank_core::comment::{CommentEpoch, EntryKind};
use liverank_core::counting::{
    CountingRules, MarkKey, NumberedComment, RecordFingerprint, UniqueKinds, UniqueMark, VideoState, sha256,
};
use liverank_core::decays::{CountedDecays, DecayedScores};
use liverank_core::moderation::ActorRole;
use liverank_core::score::{Counters, Weights, points_of_thousandths};
use liverank_core::windows::CountedWindows;
use liverank_core::{Comment, CommentId, Invalid, Metadata, Millis, UserId, VideoId};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{self, Binary, Bson, Document, RawBson, RawDocumentBuf, doc, rawdoc};
use serde::{Deserialize, Serialize};

use super::super::{ArchiveMeta, ArchivePosition};
use super::PART_NAME;
use super::decays::{CountedDecayDoc, DecayedDoc, RunPartDoc, stored_scores};
use super::transaction::Stop;
use super::windows::CountedDoc;
use crate::StoreError;

/// The newest format version that this release writes and reads: a later one is refused.
pub(super) const FORMAT: i64 = 2;
/// The format version of an archive in which every event counts. Releases that know only this version would count each
/// event of the types that count once per user, so they must refuse an archive with such types.
const FORMAT_WITHOUT_MARKS: i64 = 1;

const fn format_for_rules(rules: &CountingRules) -> i64 {
    if rules.unique.is_empty() { FORMAT_WITHOUT_MARKS } else { FORMAT }
}

/// The length in bytes of the longest `video_id` that is used as the `_id`, too. A longer one would be in each
/// document and in each index once more, and a transaction has to fit into the server's cache.
const MAX_PLAIN_KEY_BYTES: usize = 64;

/// Returns the `_id` of a video's document: its `video_id`, or the SHA-256 of a long one.
fn video_key(video_id: &str) -> RawBson {
    if video_id.len() <= MAX_PLAIN_KEY_BYTES {
        return RawBson::String(video_id.to_owned());
    }
    RawBson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: sha256(video_id).to_vec() })
}

/// The fields of a video's document that are read.
#[derive(Debug, Deserialize)]
pub(super) struct VideoDoc {
    /// The document's [`video_key`]; an id of the server's if the release that wrote the document gave none.
    #[serde(rename = "_id")]
    id: Bson,
    video_id: String,
    user_id: String,
    owner_given: bool,
    views: i64,
    likes: i64,
    comments: i64,
    shares: i64,
    watch_ms: i64,
    watch_short: i64,
    watch_long: i64,
    last_seq: i64,
    pub(super) score: f64,
    /// The decayed score as a logarithm. Absent before the first event with a weight, because JSON and many clients
    /// know no negative infinity.
    trending: Option<f64>,
    /// The scores by the decays of boards with a decay of their own. Absent or null if no such scores are counted.
    #[serde(default)]
    decayed: Option<Vec<DecayedDoc>>,
    /// The part of the video's revision that is not in its counts (`VideoState::corrections`). Absent before something
    /// was taken back, put or removed.
    #[serde(default)]
    corrections: i64,
    /// The metadata as JSON; absent if the app gave none.
    #[serde(default)]
    metadata: Option<String>,
    /// The role that removed the video; absent if it was not removed.
    #[serde(default)]
    removed: Option<ActorRole>,
    /// The partition whose owner may cache the video's state ([`super::states`]).
    home: Option<i64>,
}

impl VideoDoc {
    pub(super) fn home(&self) -> Option<u32> {
        self.home.map(|home| home as u32)
    }

    /// Returns the document's `_id` if it is not the [`video_key`] of the video.
    pub(super) fn foreign_id(&self) -> Option<Bson> {
        (Bson::try_from(video_key(&self.video_id)).ok().as_ref() != Some(&self.id)).then(|| self.id.clone())
    }

    pub(super) fn into_state(self) -> Result<VideoState, StoreError> {
        Ok(VideoState {
            video_id: VideoId::parse(&self.video_id).map_err(|error| damaged("videos", &error))?,
            owner: user(&self.user_id)?,
            owner_given: self.owner_given,
            counters: Counters {
                views: self.views,
                likes: self.likes,
                comments: self.comments,
                shares: self.shares,
                watch_ms: self.watch_ms,
                watch_short: self.watch_short,
                watch_long: self.watch_long,
            },
            last_seq: self.last_seq as u64,
            trending: self.trending.unwrap_or(f64::NEG_INFINITY),
            decayed: DecayedDoc::read(self.decayed.as_deref().unwrap_or_default())?,
            corrections: self.corrections as u64,
            metadata: self.metadata.as_deref().map(metadata).transpose()?,
            removed_by: self.removed,
        })
    }
}

/// Returns the statement of an `update` command that makes the document of a video equal to `state`, whatever its
/// `_id`. A document that the statement creates has no home yet.
pub(super) fn video_update(state: &VideoState, weights: &Weights) -> RawDocumentBuf {
    let mut update = rawdoc! { "$setOnInsert": { "_id": video_key(state.video_id.as_str()) } };
    update.append("$set", video_fields(state, weights));
    if state.decayed.is_empty() {
        update.append("$unset", rawdoc! { "decayed": "" });
    }
    rawdoc! { "q": { "video_id": state.video_id.as_str() }, "u": update, "upsert": true }
}

/// Returns the document to insert for a video that has none yet.
pub(super) fn video_document(state: &VideoState, weights: &Weights, home: u32) -> RawDocumentBuf {
    let mut document =
        rawdoc! { "_id": video_key(state.video_id.as_str()), "video_id": state.video_id.as_str() };
    document.append("home", i64::from(home));
    append_members(&mut document, state, weights);
    document
}

/// Returns the statement that changes a video from `before` to `after`, for a document whose `_id` is its
/// [`video_key`]. The server finds a document by `_id` in half the time, and only changed members are set because the
/// server examines each member that is set.
pub(super) fn video_change(
    before: &VideoState,
    after: &VideoState,
    weights: &Weights,
    home: u32,
) -> RawDocumentBuf {
    let mut set = rawdoc! { "home": i64::from(home) };
    for ((_, old), (name, new)) in
        changing_members(before, weights).into_iter().zip(changing_members(after, weights))
    {
        if old != new {
            set.append(name, new);
        }
    }
    if before.decayed != after.decayed {
        append_decayed(&mut set, &after.decayed);
    }
    rawdoc! { "q": { "_id": video_key(after.video_id.as_str()) }, "u": { "$set": set } }
}

fn video_fields(state: &VideoState, weights: &Weights) -> RawDocumentBuf {
    let mut fields = RawDocumentBuf::new();
    append_members(&mut fields, state, weights);
    fields
}

fn append_decayed(document: &mut RawDocumentBuf, scores: &DecayedScores) {
    if scores.is_empty() {
        document.append("decayed", RawBson::Null);
    } else {
        document.append("decayed", stored_scores(scores));
    }
}

/// Appends all members; without the last ones if there is nothing to correct, as in most videos.
fn append_members(document: &mut RawDocumentBuf, state: &VideoState, weights: &Weights) {
    let members = changing_members(state, weights);
    let count =
        if state.corrections == 0 { members.len() - OPTIONAL_TRAILING_MEMBERS } else { members.len() };
    for (name, value) in members.into_iter().take(count) {
        document.append(name, value);
    }
    if !state.decayed.is_empty() {
        append_decayed(document, &state.decayed);
    }
}

/// The number of members at the end that a video has only if something was taken back, put or removed.
const OPTIONAL_TRAILING_MEMBERS: usize = 3;

/// The value of a member, borrowed because most values are only compared.
#[derive(Clone, Copy, PartialEq)]
enum MemberValue<'a> {
    Text(&'a str),
    Whole(i64),
    Real(f64),
    Flag(bool),
    Absent,
}

impl From<MemberValue<'_>> for RawBson {
    fn from(value: MemberValue<'_>) -> Self {
        match value {
            MemberValue::Text(text) => text.into(),
            MemberValue::Whole(number) => number.into(),
            MemberValue::Real(number) => number.into(),
            MemberValue::Flag(flag) => flag.into(),
            MemberValue::Absent => Self::Null,
        }
    }
}

/// Returns the members of a video's document that can change, always in the same order.
fn changing_members<'a>(state: &'a VideoState, weights: &Weights) -> [(&'static str, MemberValue<'a>); 17] {
    use MemberValue::{Absent, Flag, Real, Text, Whole};
    let counters = &state.counters;
    // The fields are named, so that the compiler finds a counter that is not stored.
    let Counters { views, likes, comments, shares, watch_ms, watch_short, watch_long } = *counters;
    let trending = state.trending.is_finite().then_some(state.trending);
    [
        ("user_id", Text(state.owner.as_str())),
        ("owner_given", Flag(state.owner_given)),
        ("score", Real(points_of_thousandths(counters.score(weights)))),
        ("views", Whole(views)),
        ("likes", Whole(likes)),
        ("comments", Whole(comments)),
        ("shares", Whole(shares)),
        ("watch_time_total", Real(watch_ms as f64 / 1000.0)),
        ("watch_time_score", Real(points_of_thousandths(counters.watch_score(weights)))),
        ("watch_ms", Whole(watch_ms)),
        ("watch_short", Whole(watch_short)),
        ("watch_long", Whole(watch_long)),
        ("last_seq", Whole(state.last_seq as i64)),
        ("trending", trending.map_or(Absent, Real)),
        ("corrections", Whole(state.corrections as i64)),
        ("metadata", state.metadata.as_ref().map_or(Absent, |metadata| Text(metadata.as_str()))),
        ("removed", state.removed_by.map_or(Absent, |by| Text(by.name()))),
    ]
}

/// The part of a video's document that holds its metadata.
#[derive(Debug, Deserialize)]
pub(super) struct MetadataDoc {
    pub video_id: String,
    #[serde(default)]
    pub metadata: Option<String>,
}

/// The part of a video's document that holds the sequence number of its last comment.
#[derive(Debug, Deserialize)]
pub(super) struct HeadDoc {
    pub video_id: String,
    pub last_seq: i64,
}

/// The part of a video's document that holds its owner.
#[derive(Debug, Deserialize)]
pub(super) struct OwnerDoc {
    pub video_id: String,
    pub user_id: String,
}

/// The document of a comment or another entry of a video's channel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommentDoc {
    video_id: String,
    seq: i64,
    comment_id: String,
    user_id: String,
    comment: String,
    /// The time of the comment, in milliseconds since the Unix epoch.
    timestamp: Millis,
    /// The comment that this one replies to; absent if there is none, and in documents of releases that knew no
    /// replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    partition: i64,
    offset: i64,
    /// The kind of the channel entry; absent for a comment.
    #[serde(default, skip_serializing_if = "EntryKind::is_comment")]
    entry: EntryKind,
}

impl CommentDoc {
    pub(super) fn of(numbered: &NumberedComment) -> Self {
        let comment = &numbered.comment;
        Self {
            video_id: comment.video_id.to_string(),
            seq: comment.seq as i64,
            comment_id: comment.id.to_string(),
            user_id: comment.user_id.to_string(),
            comment: comment.text.clone(),
            timestamp: comment.timestamp,
            reply_to: comment.reply_to.as_ref().map(CommentId::to_string),
            partition: i64::from(numbered.partition),
            offset: numbered.offset as i64,
            entry: comment.entry.clone(),
        }
    }

    pub(super) fn into_numbered(self) -> Result<NumberedComment, StoreError> {
        let damaged = |error: Invalid| damaged("comments", &error);
        let comment = Comment {
            id: CommentId::parse(&self.comment_id).map_err(damaged)?,
            user_id: UserId::parse(&self.user_id).map_err(damaged)?,
            video_id: VideoId::parse(&self.video_id).map_err(damaged)?,
            text: self.comment,
            timestamp: self.timestamp,
            seq: self.seq as u64,
            entry: self.entry,
            reply_to: self.reply_to.map(|id| CommentId::parse(&id)).transpose().map_err(damaged)?,
        };
        Ok(NumberedComment { comment, partition: self.partition as u32, offset: self.offset as u64 })
    }
}

/// The offset document of a partition: the next offset to count, the owner, and what older releases have counted.
#[derive(Debug, Deserialize)]
pub(super) struct OffsetDoc {
    #[serde(rename = "_id")]
    pub partition: i64,
    pub next: i64,
    /// The fingerprint of the record before `next`.
    last: Option<MarkDoc>,
    /// The session of the archive that claimed the partition last.
    pub session: Option<Bson>,
    /// The session of the archive that claimed the partition last, set only by releases that count outside writes.
    pub keeper: Option<Bson>,
    /// The number of this partition's batches that wrote videos whose home is another partition of which the batch had
    /// no record, by home partition. The map has at most as many entries as there are partitions.
    #[serde(default)]
    outside_writes: HashMap<String, i64>,
    /// The offset up to which the partition is counted in windows and by decays, too. A release that knows neither
    /// windows nor decays does not move this offset.
    #[serde(default)]
    pub windowed: i64,
    /// The number of times that this partition was claimed from an archive that did not count outside writes.
    #[serde(default)]
    uncounted: i64,
    /// The number of the partition's newest segment of identities.
    #[serde(default)]
    pub segments: i64,
    /// The offset up to which the partition is counted by releases that know segments. A release that knows no
    /// segments does not move this offset.
    #[serde(default)]
    segmented: i64,
    /// The time until which documents may hold identities of the partition's events, in milliseconds since 1970.
    #[serde(default)]
    documents_until: Option<Millis>,
    /// The session of the archive that claimed the partition last, set only by releases that read segments.
    #[serde(default)]
    pub segment_keeper: Option<Bson>,
}

impl OffsetDoc {
    /// Returns the name of the member that counts outside writes to videos of this home.
    pub(super) fn outside_writes_member(home: u32) -> String {
        format!("outside_writes.{home}")
    }

    /// Returns a number that grows whenever a batch of this partition may have written a video of this home without a
    /// record of the home partition.
    pub(super) fn outside_writes(&self, home: u32) -> i64 {
        self.uncounted + self.outside_writes.get(&home.to_string()).copied().unwrap_or_default()
    }

    /// Returns true if the partition's owner is an archive of a release that does not count its outside writes.
    pub(super) fn is_of_an_older_release(&self) -> bool {
        self.session.is_some() && self.session != self.keeper
    }

    /// The largest difference between the clocks of two partitions' brokers that is assumed, in milliseconds: one
    /// hour.
    pub(super) const CLOCKS_APART_MS: Millis = 3_600_000;

    /// Returns the time until which documents may hold identities of the partition's events; `None` if no document
    /// does. Identities that a release without segments counted are in documents; [`Millis::MAX`] if their age is
    /// unknown.
    pub(super) fn documents_until(&self) -> Option<Millis> {
        let until = |last: &MarkDoc| last.broker_time.saturating_add(Self::CLOCKS_APART_MS);
        let older = (self.segmented != self.next).then(|| self.last.as_ref().map_or(Millis::MAX, until));
        older.max(self.documents_until)
    }

    /// Returns true if the partition's owner is an archive that finds no identities in segments.
    pub(super) fn is_of_a_release_without_segments(&self) -> bool {
        self.session.is_some() && self.session != self.segment_keeper
    }

    /// Returns true if the last counted records were counted without windows and decays.
    pub(super) const fn has_gap(&self) -> bool {
        self.windowed != self.next
    }

    /// Returns the statement that ends such a gap: the records after `next` are counted with windows and decays.
    pub(super) fn counted_to_here(&self) -> Document {
        doc! { "q": { "_id": self.partition }, "u": { "$set": { "windowed": self.next } } }
    }

    pub(super) fn position(&self) -> ArchivePosition {
        let last = self.last.as_ref().map(|mark| mark.fingerprint());
        ArchivePosition { next_offset: self.next as u64, last_record: last }
    }
}

/// The fingerprint of a record as stored: its time and the digest of its content.
#[derive(Debug, Clone, Copy, Deserialize)]
struct MarkDoc {
    broker_time: Millis,
    /// The bits of the unsigned digest: BSON has no unsigned numbers.
    digest: i64,
}

impl MarkDoc {
    fn fingerprint(self) -> RecordFingerprint {
        RecordFingerprint { broker_time: self.broker_time, digest: self.digest as u64 }
    }
}

/// Returns a record's fingerprint in the form in which it is stored.
pub(super) fn mark_document(mark: RecordFingerprint) -> Document {
    doc! { "broker_time": mark.broker_time, "digest": mark.digest as i64 }
}

/// The document of an identity: its digest, and the time at which the log first had it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SeenDoc {
    #[serde(rename = "_id")]
    id: Binary,
    pub time: Millis,
}

impl SeenDoc {
    pub(super) fn of(digest: &[u8; 16], time: Millis) -> Self {
        Self { id: digest_binary(digest), time }
    }

    /// Returns the digest; `None` for a document that liverank did not write.
    pub(super) fn digest(&self) -> Option<[u8; 16]> {
        self.id.bytes.as_slice().try_into().ok()
    }
}

/// The document of a mark: an event of a type that counts once per user has counted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MarkedDoc {
    #[serde(rename = "_id")]
    id: Binary,
    /// The part that the event added to the decayed score, as a logarithm.
    pub log2: f64,
    /// The time at which the event counts as having happened; absent if the event was in no window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Millis>,
    /// The parts that the event added to decayed scores of boards with a decay of their own; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decayed: Vec<RunPartDoc>,
}

impl MarkedDoc {
    pub(super) fn of(key: &MarkKey, UniqueMark { log2, at, decayed }: &UniqueMark) -> Self {
        Self { id: digest_binary(key), log2: *log2, at: *at, decayed: RunPartDoc::all(decayed) }
    }

    /// Returns the statement that makes the stored mark equal to this one.
    pub(super) fn update(&self) -> Result<Document, StoreError> {
        let mut set = doc! { "log2": self.log2 };
        let mut unset = Document::new();
        match self.at {
            Some(at) => drop(set.insert("at", at)),
            None => drop(unset.insert("at", "")),
        }
        if self.decayed.is_empty() {
            unset.insert("decayed", "");
        } else {
            let parts = bson::to_bson(&self.decayed);
            set.insert("decayed", parts.map_err(|error| StoreError::unusable(PART_NAME, error))?);
        }
        let mut change = doc! { "$set": set };
        if !unset.is_empty() {
            change.insert("$unset", unset);
        }
        Ok(doc! { "q": { "_id": Bson::Binary(self.id.clone()) }, "u": change })
    }

    /// Returns the key and the mark; `None` for a document that liverank did not write.
    pub(super) fn entry(&self) -> Option<(MarkKey, UniqueMark)> {
        let mark = UniqueMark { log2: self.log2, at: self.at, decayed: RunPartDoc::read(&self.decayed) };
        Some((self.id.bytes.as_slice().try_into().ok()?, mark))
    }
}

fn digest_binary(digest: &[u8; 16]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: digest.to_vec() }
}

/// Returns a digest in the form in which it is stored.
pub(super) fn digest_bson(digest: &[u8; 16]) -> Bson {
    Bson::Binary(digest_binary(digest))
}

/// The `_id` of any document.
#[derive(Debug, Deserialize)]
pub(super) struct IdDoc {
    #[serde(rename = "_id")]
    pub id: Bson,
}

/// A request that consumers wait before they commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WayDoc {
    /// The token that tells this request from others.
    pub token: String,
    /// The longest time in milliseconds for which consumers wait, from when a consumer first sees the request.
    pub ms: i64,
}

/// A rebuild under way: its result, its phase and its collections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RebuildDoc {
    /// The part of the names of the rebuild's collections that no two rebuilds share.
    pub token: String,
    pub generation: i64,
    numbering: String,
    weights: WeightsDoc,
    half_life_ms: i64,
    #[serde(default)]
    unique: UniqueKinds,
    pub phase: String,
    /// The collections that the rebuild replaces.
    pub collections: Vec<String>,
    /// The windows that are counted in the new collections; absent if the rebuild does not replace the counts by
    /// window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<CountedDoc>>,
    /// The decays that are counted in the new collections; absent if the rebuild does not count anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decays: Option<Vec<CountedDecayDoc>>,
    /// True if the rebuild's videos have the decayed scores that are counted. A release that knows no decays does not
    /// set this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keeps_decayed: bool,
}

impl RebuildDoc {
    /// The phase in which commits write to the present and to the new collections.
    pub(super) const FILLING: &str = "filling";
    /// The phase in which the new collections are complete; nothing is committed until they are in place.
    pub(super) const SWAPPING: &str = "swapping";

    pub(super) fn new(token: &str, meta: &ArchiveMeta, phase: &str, collections: &[&str]) -> Self {
        Self {
            token: token.to_owned(),
            generation: meta.generation as i64,
            numbering: meta.comment_epoch.as_str().to_owned(),
            weights: WeightsDoc::of(&meta.counting_rules.weights),
            half_life_ms: meta.counting_rules.half_life_ms as i64,
            unique: meta.counting_rules.unique,
            phase: phase.to_owned(),
            collections: collections.iter().map(|&name| name.to_owned()).collect(),
            windows: None,
            decays: None,
            keeps_decayed: !meta.decays.is_empty(),
        }
    }

    /// Returns the fields of the meta document that change at the end of the rebuild.
    pub(super) fn outcome(&self) -> Result<Document, StoreError> {
        let weights = bson::to_bson(&self.weights).map_err(|error| StoreError::unusable(PART_NAME, error))?;
        let mut outcome = doc! {
            "generation": self.generation,
            "numbering": &self.numbering,
            "weights": weights,
            "half_life_ms": self.half_life_ms,
            "unique": self.unique.to_string(),
            "format": format_for_rules(&self.rules()),
        };
        if let Some(windows) = self.windows.as_ref().filter(|windows| !windows.is_empty()) {
            outcome.insert("windows", CountedDoc::to_bson(windows)?);
        }
        if let Some(decays) = self.decays.as_ref().filter(|decays| !decays.is_empty()) {
            outcome.insert("decays", CountedDecayDoc::to_bson(decays)?);
        }
        if self.keeps_decayed {
            outcome.insert("decays_of", self.generation);
        }
        Ok(outcome)
    }

    /// Returns the name of the new collection that will replace `collection`.
    pub(super) fn source(&self, collection: &str) -> String {
        format!("{collection}{}", suffix(&self.token))
    }

    pub(super) fn rules(&self) -> CountingRules {
        let half_life_ms = self.half_life_ms as u64;
        CountingRules { weights: self.weights.weights(), half_life_ms, unique: self.unique }
    }
}

/// Returns the suffix of the names of a rebuild's collections.
pub(super) fn suffix(token: &str) -> String {
    format!("{NEXT}{token}")
}

/// The text between a collection's name and the token of the rebuild that fills the collection.
pub(super) const NEXT: &str = "_next_";

/// The meta document: the settings that are fixed for the archive's life, or until a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MetaDoc {
    #[serde(rename = "_id")]
    id: String,
    format: i64,
    numbering: String,
    pub generation: i64,
    weights: WeightsDoc,
    half_life_ms: i64,
    /// The types that count once per user. This field is absent in documents of earlier releases.
    #[serde(default)]
    unique: UniqueKinds,
    /// The windows that are counted. Absent if no windows are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<CountedDoc>,
    /// The decays that are counted. Absent if no decays are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decays: Vec<CountedDecayDoc>,
    /// The generation whose videos have these decayed scores. A release that knows no decays begins generations
    /// without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decays_of: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub make_way: Option<WayDoc>,
    /// The identities that the log had before this time (in milliseconds since 1970) are forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities_from: Option<Millis>,
}

/// The weights in thousandths of a point: integers, as counting uses them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WeightsDoc {
    view: i64,
    like: i64,
    comment: i64,
    share: i64,
    watch_short: i64,
    watch_long: i64,
    watch_threshold_ms: i64,
}

impl WeightsDoc {
    const fn of(weights: &Weights) -> Self {
        Self {
            view: weights.view,
            like: weights.like,
            comment: weights.comment,
            share: weights.share,
            watch_short: weights.watch_short,
            watch_long: weights.watch_long,
            watch_threshold_ms: weights.watch_threshold_ms as i64,
        }
    }

    const fn weights(&self) -> Weights {
        Weights {
            view: self.view,
            like: self.like,
            comment: self.comment,
            share: self.share,
            watch_short: self.watch_short,
            watch_long: self.watch_long,
            watch_threshold_ms: self.watch_threshold_ms as u64,
        }
    }
}

impl MetaDoc {
    pub(super) const ID: &str = "archive";

    pub(super) fn of(meta: &ArchiveMeta) -> Self {
        Self {
            id: Self::ID.to_owned(),
            format: format_for_rules(&meta.counting_rules),
            numbering: meta.comment_epoch.as_str().to_owned(),
            generation: meta.generation as i64,
            weights: WeightsDoc::of(&meta.counting_rules.weights),
            half_life_ms: meta.counting_rules.half_life_ms as i64,
            unique: meta.counting_rules.unique,
            windows: CountedDoc::all(&meta.windows),
            decays: CountedDecayDoc::all(&meta.decays),
            decays_of: (!meta.decays.is_empty()).then_some(meta.generation as i64),
            rebuild: None,
            make_way: None,
            identities_from: None,
        }
    }

    pub(super) fn fresh(numbering: &CommentEpoch, rules: &CountingRules) -> Self {
        let (windows, decays) = (CountedWindows::default(), CountedDecays::default());
        Self::of(&ArchiveMeta {
            comment_epoch: numbering.clone(),
            generation: 1,
            counting_rules: *rules,
            windows,
            decays,
        })
    }

    /// Returns true if a release that knows no decays has begun this generation, so that scores may be absent in its
    /// videos.
    pub(super) fn lost_decays(&self) -> bool {
        !self.decays.is_empty() && self.decays_of != Some(self.generation)
    }

    pub(super) fn is_swapping(&self) -> bool {
        self.rebuild.as_ref().is_some_and(|rebuild| rebuild.phase == RebuildDoc::SWAPPING)
    }

    /// Returns the rebuild that is being filled, if any. A rebuild in the swapping phase is an error that tells the
    /// caller to finish it.
    pub(super) fn rebuilding(&self) -> Result<Option<RebuildDoc>, Stop> {
        match &self.rebuild {
            Some(rebuild) if self.is_swapping() => Err(Stop::FinishSwap(Box::new(rebuild.clone()))),
            other => Ok(other.clone()),
        }
    }

    pub(super) fn into_meta(self) -> Result<ArchiveMeta, StoreError> {
        if !(FORMAT_WITHOUT_MARKS..=FORMAT).contains(&self.format) {
            let what = format!(
                "the archive has format {}, and this release reads up to {FORMAT}: run a release that reads it, or \
                 give liverank another database",
                self.format
            );
            return Err(StoreError::unusable(PART_NAME, what));
        }
        Ok(ArchiveMeta {
            comment_epoch: CommentEpoch::parse(&self.numbering).map_err(|error| damaged("meta", &error))?,
            generation: self.generation as u64,
            counting_rules: CountingRules {
                weights: self.weights.weights(),
                half_life_ms: self.half_life_ms as u64,
                unique: self.unique,
            },
            windows: CountedDoc::read(&self.windows)?,
            decays: CountedDecayDoc::read(&self.decays)?,
        })
    }
}

/// Parses metadata as stored in a video's document.
pub(super) fn metadata(json: &str) -> Result<Metadata, StoreError> {
    Metadata::parse(json).map_err(|error| damaged("videos", &error))
}

/// Parses an owner's id as stored in a video's document.
pub(super) fn user(id: &str) -> Result<UserId, StoreError> {
    UserId::parse(id).map_err(|error| damaged("videos", &error))
}

/// Returns the error for a document that liverank would never write.
pub(super) fn damaged(collection: &str, error: &Invalid) -> StoreError {
    StoreError::unusable(
        PART_NAME,
        format!("collection {collection} has a document that is not ours: {error}"),
    )
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests {
    use liverank_core::counting::CountingRules;

    use super::*;

    fn state(trending: f64) -> VideoState {
        VideoState {
            video_id: VideoId::parse("v").unwrap(),
            owner: UserId::parse("o").unwrap(),
            owner_given: true,
            // Beyond the integers that a double holds exactly: 2^53 + 1.
            counters: Counters { views: (1 << 53) + 1, watch_ms: (1 << 53) + 1, ..Counters::default() },
            last_seq: (1 << 53) + 1,
            trending,
            decayed: DecayedScores::default(),
            corrections: 0,
            metadata: None,
            removed_by: None,
        }
    }

    #[test]
    fn a_stored_video_state_round_trips_exactly() {
        for trending in [f64::NEG_INFINITY, 81_234.567_890_123_45, f64::MIN_POSITIVE] {
            let corrections = if trending > 0.0 { 2 } else { 0 };
            let metadata = (corrections > 0).then(|| metadata(r#"{"title":"Cats"}"#).unwrap());
            let removed = metadata.as_ref().map(|_| ActorRole::Service);
            let state = VideoState { corrections, metadata, removed_by: removed, ..state(trending) };
            let stored = video_document(&state, &Weights::default(), 3).to_document().unwrap();
            let read: VideoDoc = mongodb::bson::from_document(stored).unwrap();
            assert_eq!(read.into_state().unwrap(), state);
        }
    }

    #[test]
    fn a_video_update_sets_only_changed_fields_and_the_home() {
        let before = state(0.5);
        let mut after = before.clone();
        after.counters.likes += 1;
        let weights = Weights { like: 0, ..Weights::default() };
        let statement = video_change(&before, &after, &weights, 7).to_document().unwrap();
        let expected = doc! { "q": { "_id": "v" }, "u": { "$set": { "home": 7_i64, "likes": 1_i64 } } };
        assert_eq!(statement, expected);
    }

    #[test]
    fn a_long_video_id_has_a_short_document_id() {
        let long = "x".repeat(MAX_PLAIN_KEY_BYTES + 1);
        let RawBson::Binary(short) = video_key(&long) else { panic!("{:?}", video_key(&long)) };
        assert_eq!(short.bytes.len(), 32);
        assert_eq!(video_key(&long[1..]), RawBson::String(long[1..].to_owned()));
    }

    #[test]
    fn a_meta_document_of_another_format_is_refused() {
        let rules = CountingRules::default();
        let numbering = CommentEpoch::from_bits(7);
        let meta = MetaDoc::fresh(&numbering, &rules).into_meta().unwrap();
        assert_eq!((meta.comment_epoch, meta.generation, meta.counting_rules), (numbering.clone(), 1, rules));
        let newer = MetaDoc { format: FORMAT + 1, ..MetaDoc::fresh(&numbering, &rules) };
        let error = newer.into_meta().unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("format 3"), "{error}");
    }

    #[test]
    fn only_an_archive_with_marks_has_the_format_that_former_releases_refuse() {
        let numbering = CommentEpoch::from_bits(7);
        let of = |unique: &str| {
            let rules = CountingRules { unique: unique.parse().unwrap(), ..CountingRules::default() };
            let document = MetaDoc::fresh(&numbering, &rules);
            assert_eq!(document.clone().into_meta().unwrap().counting_rules, rules);
            document.format
        };
        assert_eq!((of(""), of("like")), (1, 2));
    }
}
