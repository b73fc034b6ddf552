//! Fixtures of the documents in `adapters/tests/fixtures`, as MongoDB's extended JSON.

use std::fmt::Debug;

use liverank_core::Millis;
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::{
    CountingRules, MarkKey, NumberedComment, RecordFingerprint, Sighting, UniqueMark, VideoState,
};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc, from_bson, to_bson};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::super::{ArchiveMeta, ArchivePosition};
use super::super::identities::{SegmentDoc, SegmentId};
use super::comment::CommentDoc;
use super::identity::SeenDoc;
use super::mark::UniqueMarkDoc;
use super::meta::{MetaDoc, YieldRequestDoc};
use super::offset::{OffsetDoc, fingerprint_document};
use super::rebuild::RebuildDoc;
use super::video::{VideoDoc, video_document};
use crate::fixtures::{
    DISTINCT_WEIGHTS, check_json_fixture, decay_contributions, decays, fixture_comment, fixture_deletion,
    fixture_pin, fixture_shadowed_comment, video, windows,
};

fn to_extended_json(document: Document) -> Value {
    Bson::Document(document).into_canonical_extjson()
}

fn read_document<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    let bson = Bson::try_from(json.clone()).map_err(|error| error.to_string())?;
    from_bson(bson).map_err(|error| error.to_string())
}

/// Checks a document that is serialised by serde against its fixture.
fn check_document<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &'static str, today: &T) {
    let write = |it: &T| to_bson(it).expect("a document serialises").into_canonical_extjson();
    check_json_fixture(name, today, write, read_document);
}

fn example_session() -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] })
}

#[test]
fn video_documents_have_fixtures() {
    let write = |state: &VideoState| {
        to_extended_json(video_document(state, &DISTINCT_WEIGHTS, 3).to_document().expect("a document"))
    };
    check_json_fixture("mongodb-video", &video(), write, |json| {
        read_document::<VideoDoc>(json)?.into_state().map_err(|error| error.to_string())
    });
}

#[test]
fn a_video_of_the_release_before_has_no_home_and_an_id_of_the_server_s() {
    let previous = include_str!("../../../../tests/fixtures/previous/mongodb-video.json");
    let previous: VideoDoc = read_document(&serde_json::from_str(previous).expect("JSON")).expect("a video");
    assert_eq!(previous.home(), None);
    assert!(
        matches!(previous.earlier_document_id(), Some(Bson::ObjectId(id)) if id != ObjectId::from_bytes([0; 12]))
    );
}

#[test]
fn comment_documents_have_fixtures() {
    for (name, comment) in [
        ("mongodb-comment", fixture_comment()),
        ("mongodb-deletion", fixture_deletion()),
        ("mongodb-pin", fixture_pin()),
        ("mongodb-shadowed", fixture_shadowed_comment()),
    ] {
        let today = NumberedComment { comment, partition: 4, offset: 99 };
        let write = |it: &NumberedComment| {
            to_bson(&CommentDoc::of(it)).expect("a document serialises").into_canonical_extjson()
        };
        check_json_fixture(name, &today, write, |json| {
            read_document::<CommentDoc>(json)?.into_numbered().map_err(|error| error.to_string())
        });
    }
}

/// The expected document is what the statements of `commit.rs` and `ownership.rs` write together.
#[test]
fn offset_documents_have_fixtures() {
    type OffsetParts = (i64, ArchivePosition, Option<Bson>, Option<Bson>, i64);
    let last = RecordFingerprint { broker_time: 1_700_000_000_250, digest: u64::MAX - 6 };
    let position = ArchivePosition { next_offset: 100, last_record: Some(last) };
    let today: OffsetParts = (4, position, Some(example_session()), Some(example_session()), 3);
    let write = |(partition, position, session, keeper, outside): &OffsetParts| {
        let last = position.last_record.map(fingerprint_document);
        to_extended_json(doc! {
            "_id": partition, "next": position.next_offset as i64, "last": last, "session": session.clone(),
            "keeper": keeper.clone(), "windowed": 100_i64, "outside_writes": { "2": outside - 1 }, "uncounted": 1_i64,
            "segments": 12_i64, "segmented": 100_i64, "documents_until": 1_700_000_000_250_i64,
            "segment_keeper": session.clone(),
        })
    };
    check_json_fixture("mongodb-offset", &today, write, |json| {
        let read: OffsetDoc = read_document(json)?;
        let (position, outside) = (read.position(), read.outside_writes(2));
        Ok::<OffsetParts, String>((read.partition, position, read.session, read.keeper, outside))
    });
}

#[test]
fn identity_documents_have_fixtures() {
    let today = ([9_u8; 16], 1_700_000_000_250);
    let write = |(digest, time): &([u8; 16], Millis)| {
        to_bson(&SeenDoc::of(digest, *time)).expect("a document serialises").into_canonical_extjson()
    };
    check_json_fixture("mongodb-identity", &today, write, |json| {
        let read: SeenDoc = read_document(json)?;
        Ok::<_, String>((read.digest().ok_or("no digest")?, read.time))
    });
}

#[test]
fn segment_documents_have_fixtures() {
    let sightings = Sighting::from_digest(&[9; 16], 1_700_000_000_250).into_iter().collect::<Vec<_>>();
    check_document("mongodb-segment", &SegmentDoc::of(SegmentId { partition: 4, number: 12 }, &sightings));
}

/// An earlier release leaves a gap behind the records that are in segments, so the identities that it stored are
/// looked for in documents.
#[test]
fn an_offset_of_the_release_before_has_documents_until_its_last_record() {
    let previous = include_str!("../../../../tests/fixtures/previous/mongodb-offset.json");
    let previous: OffsetDoc =
        read_document(&serde_json::from_str(previous).expect("JSON")).expect("an offset");
    assert_eq!(previous.documents_until(), Some(1_700_000_000_250 + OffsetDoc::MAX_CLOCK_DIFFERENCE_MS));
    assert!(previous.is_of_a_release_without_segments());
}

#[test]
fn mark_documents_have_fixtures() {
    let today = (
        [9_u8; 16],
        UniqueMark {
            trending_log2: 81_234.5,
            counted_at: Some(1_700_000_000_250),
            decay_contributions: decay_contributions(),
        },
    );
    let write = |(key, mark): &(MarkKey, UniqueMark)| {
        to_bson(&UniqueMarkDoc::of(key, mark)).expect("a document serialises").into_canonical_extjson()
    };
    check_json_fixture("mongodb-mark", &today, write, |json| {
        read_document::<UniqueMarkDoc>(json)?.key_and_mark().ok_or("no key".to_owned())
    });
}

#[test]
fn the_meta_document_has_fixtures() {
    let numbering = CommentEpoch::from_bits(7);
    let unique = "like,share".parse().expect("types");
    let rules = CountingRules { weights: DISTINCT_WEIGHTS, half_life_ms: 60_000, unique };
    let meta = ArchiveMeta {
        comment_epoch: numbering,
        generation: 5,
        counting_rules: rules,
        windows: windows(),
        decays: decays(),
    };
    let mut today = MetaDoc::of(&meta);
    today.rebuild = Some(RebuildDoc::new("t0", &meta, RebuildDoc::FILLING, &["videos", "comments"]));
    today.make_way = Some(YieldRequestDoc { token: "t1".to_owned(), ms: 30_000 });
    today.identities_from = Some(1_700_000_000_000);
    check_document("mongodb-meta", &today);
    assert_eq!(today.into_meta().expect("of this format"), meta);
}
