//! The document of a video.

use liverank_core::counting::VideoState;
use liverank_core::decays::DecayedScores;
use liverank_core::digest::sha256;
use liverank_core::moderation::ActorRole;
use liverank_core::score::{Counters, Weights, points_of_thousandths};
use liverank_core::{Metadata, UserId, VideoId};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, RawBson, RawDocumentBuf, rawdoc};
use serde::Deserialize;

use super::damaged_document;
use super::decay::{DecayedDoc, stored_scores};
use crate::StoreError;

/// The length in bytes of the longest `video_id` that is used as the `_id`, too. A longer id as the `_id`, too, would
/// be in each document and in each index once more, and a transaction has to fit into the server's cache.
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
pub struct VideoDoc {
    /// The document's [`video_key`]; an id of the server's if the release that wrote the document gave none.
    #[serde(rename = "_id")]
    id: Bson,
    video_id: String,
    user_id: String,
    /// True if an event named the video's owner.
    owner_given: bool,
    views: i64,
    likes: i64,
    comments: i64,
    shares: i64,
    watch_ms: i64,
    watch_short: i64,
    watch_long: i64,
    last_seq: i64,
    pub score: f64,
    /// The decayed score as a logarithm. The field is absent before the first event with a weight, because JSON and
    /// many clients know no negative infinity.
    trending: Option<f64>,
    /// The scores by the decays of boards with a decay of their own. The field is absent or null if no scores by such
    /// decays are counted.
    #[serde(default)]
    decayed: Option<Vec<DecayedDoc>>,
    /// The part of the video's revision that is not in its counts (`VideoState::revision_corrections`). The field is
    /// absent as long as no event was taken back and the video was not put or removed.
    #[serde(default)]
    corrections: i64,
    /// The metadata as JSON; absent if the app gave none.
    #[serde(default)]
    metadata: Option<String>,
    /// The role that removed the video; absent if it was not removed.
    #[serde(default)]
    removed: Option<ActorRole>,
    /// The partition whose owner may cache the video's state ([`super::super::states`]).
    home: Option<i64>,
}

impl VideoDoc {
    pub fn home(&self) -> Option<u32> {
        self.home.map(|home| home as u32)
    }

    /// Returns the document's `_id` if it is not the [`video_key`] of the video.
    pub fn earlier_document_id(&self) -> Option<Bson> {
        (Bson::try_from(video_key(&self.video_id)).ok().as_ref() != Some(&self.id)).then(|| self.id.clone())
    }

    pub fn into_state(self) -> Result<VideoState, StoreError> {
        Ok(VideoState {
            video_id: VideoId::parse(&self.video_id).map_err(|error| damaged_document("videos", &error))?,
            owner: parse_owner(&self.user_id)?,
            is_owner_given: self.owner_given,
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
            trending_log2: self.trending.unwrap_or(f64::NEG_INFINITY),
            decayed_scores: DecayedDoc::decode_all(self.decayed.as_deref().unwrap_or_default())?,
            revision_corrections: self.corrections as u64,
            metadata: self.metadata.as_deref().map(parse_metadata).transpose()?,
            removed_by: self.removed,
        })
    }
}

/// Returns the statement of an `update` command that makes the document of a video equal to `state`, whatever its
/// `_id`. A document that the statement creates has no home yet.
pub fn video_update(state: &VideoState, weights: &Weights) -> RawDocumentBuf {
    let mut update = rawdoc! { "$setOnInsert": { "_id": video_key(state.video_id.as_str()) } };
    update.append("$set", video_fields(state, weights));
    if state.decayed_scores.is_empty() {
        update.append("$unset", rawdoc! { "decayed": "" });
    }
    rawdoc! { "q": { "video_id": state.video_id.as_str() }, "u": update, "upsert": true }
}

/// Returns the document to insert for a video that has none yet.
pub fn video_document(state: &VideoState, weights: &Weights, home: u32) -> RawDocumentBuf {
    let mut document =
        rawdoc! { "_id": video_key(state.video_id.as_str()), "video_id": state.video_id.as_str() };
    document.append("home", i64::from(home));
    append_members(&mut document, state, weights);
    document
}

/// Returns the statement that changes a video from `before` to `after`, for a document whose `_id` is its
/// [`video_key`]. The server finds a document by `_id` in half the time, and only changed members are set because the
/// server examines each member that is set.
pub fn video_change(before: &VideoState, after: &VideoState, weights: &Weights, home: u32) -> RawDocumentBuf {
    let mut set = rawdoc! { "home": i64::from(home) };
    for ((_, old), (name, new)) in
        changing_members(before, weights).into_iter().zip(changing_members(after, weights))
    {
        if old != new {
            set.append(name, new);
        }
    }
    if before.decayed_scores != after.decayed_scores {
        append_decayed(&mut set, &after.decayed_scores);
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

/// Appends all members of a video's document, but leaves out the last [`OPTIONAL_TRAILING_MEMBERS`] if nothing was
/// taken back, put or removed, as in most videos.
fn append_members(document: &mut RawDocumentBuf, state: &VideoState, weights: &Weights) {
    let members = changing_members(state, weights);
    let count = if state.revision_corrections == 0 {
        members.len() - OPTIONAL_TRAILING_MEMBERS
    } else {
        members.len()
    };
    for (name, value) in members.into_iter().take(count) {
        document.append(name, value);
    }
    if !state.decayed_scores.is_empty() {
        append_decayed(document, &state.decayed_scores);
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
    let trending = state.trending_log2.is_finite().then_some(state.trending_log2);
    [
        ("user_id", Text(state.owner.as_str())),
        ("owner_given", Flag(state.is_owner_given)),
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
        ("corrections", Whole(state.revision_corrections as i64)),
        ("metadata", state.metadata.as_ref().map_or(Absent, |metadata| Text(metadata.as_str()))),
        ("removed", state.removed_by.map_or(Absent, |by| Text(by.name()))),
    ]
}

/// The part of a video's document that holds its metadata.
#[derive(Debug, Deserialize)]
pub struct MetadataDoc {
    pub video_id: String,
    #[serde(default)]
    pub metadata: Option<String>,
}

/// The part of a video's document that holds how long it was watched.
#[derive(Debug, Deserialize)]
pub struct WatchDoc {
    pub video_id: String,
    pub watch_ms: i64,
}

/// The part of a video's document that holds the sequence number of its last comment.
#[derive(Debug, Deserialize)]
pub struct HeadDoc {
    pub video_id: String,
    pub last_seq: i64,
}

/// The part of a video's document that holds its owner.
#[derive(Debug, Deserialize)]
pub struct OwnerDoc {
    pub video_id: String,
    pub user_id: String,
}

/// Parses metadata as stored in a video's document.
pub fn parse_metadata(json: &str) -> Result<Metadata, StoreError> {
    Metadata::parse(json).map_err(|error| damaged_document("videos", &error))
}

/// Parses an owner's id as stored in a video's document.
pub fn parse_owner(id: &str) -> Result<UserId, StoreError> {
    UserId::parse(id).map_err(|error| damaged_document("videos", &error))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn state(trending_log2: f64) -> VideoState {
        VideoState {
            video_id: VideoId::parse("v").unwrap(),
            owner: UserId::parse("o").unwrap(),
            is_owner_given: true,
            // Beyond the integers that a double holds exactly: 2^53 + 1.
            counters: Counters { views: (1 << 53) + 1, watch_ms: (1 << 53) + 1, ..Counters::default() },
            last_seq: (1 << 53) + 1,
            trending_log2,
            decayed_scores: DecayedScores::default(),
            revision_corrections: 0,
            metadata: None,
            removed_by: None,
        }
    }

    #[test]
    fn a_stored_video_state_round_trips_exactly() {
        for trending in [f64::NEG_INFINITY, 81_234.567_890_123_45, f64::MIN_POSITIVE] {
            let revision_corrections = if trending > 0.0 { 2 } else { 0 };
            let metadata = (revision_corrections > 0).then(|| parse_metadata(r#"{"title":"Cats"}"#).unwrap());
            let removed = metadata.as_ref().map(|_| ActorRole::Service);
            let state = VideoState { revision_corrections, metadata, removed_by: removed, ..state(trending) };
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
}
