//! Decayed scores of boards with a decay of their own: the decays that are counted, and the gaps in which events were
//! counted without them.
//!
//! A score is a part of its video's document, so it costs no further read or write. If a release that knows neither
//! decays nor windows has counted records, `windowed` in `offsets` shows it. This gap is noted by a barrier: no commit
//! that began before the barrier goes on after it by the earlier settings.

use liverank_core::Millis;
use liverank_core::decays::{CountedDecay, CountedDecays, Decay, DecayedScore, DecayedScores, RunPart};
use liverank_core::windows::CountedWindows;
use mongodb::bson::{self, Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::super::ArchiveMeta;
use super::barrier::{self, Change};
use super::documents::{MetaDoc, OffsetDoc, damaged};
use super::transaction::never_opened;
use super::windows::{CountedDoc, begin_here, last_counted};
use super::{MongoArchive, PART_NAME, swapping};
use crate::StoreError;

/// A decay that is counted, as stored in the meta document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CountedDecayDoc {
    decay: String,
    run: i64,
    /// The time after which the scores are complete; absent if they contain everything that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

impl CountedDecayDoc {
    pub(super) fn all(decays: &CountedDecays) -> Vec<Self> {
        let of = |CountedDecay { decay, run, whole_after }: &CountedDecay| Self {
            decay: decay.to_string(),
            run: i64::from(*run),
            whole_after: *whole_after,
        };
        decays.iter().map(of).collect()
    }

    pub(super) fn read(stored: &[Self]) -> Result<CountedDecays, StoreError> {
        let of = |Self { decay, run, whole_after }: &Self| {
            Ok(CountedDecay { decay: parse(decay, "meta")?, run: *run as u32, whole_after: *whole_after })
        };
        stored.iter().map(of).collect()
    }

    pub(super) fn to_bson(stored: &[Self]) -> Result<Bson, StoreError> {
        bson::to_bson(stored).map_err(|error| StoreError::unusable(PART_NAME, error))
    }
}

fn parse(decay: &str, collection: &str) -> Result<Decay, StoreError> {
    Decay::parse(decay).map_err(|error| damaged(collection, &error))
}

/// The score of a video by one decay, as stored in the video's document.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DecayedDoc {
    decay: String,
    log2: f64,
    events: i64,
}

impl DecayedDoc {
    pub(super) fn read(stored: &[Self]) -> Result<DecayedScores, StoreError> {
        let of = |Self { decay, log2, events }: &Self| {
            Ok(DecayedScore { decay: parse(decay, "videos")?, log2: *log2, events: *events as u64 })
        };
        stored.iter().map(of).collect()
    }
}

/// Returns decayed scores in the form in which a video's document stores them.
pub(super) fn stored_scores(scores: &DecayedScores) -> bson::RawArrayBuf {
    let of = |DecayedScore { decay, log2, events }: &DecayedScore| {
        bson::rawdoc! { "decay": decay.to_string(), "log2": *log2, "events": *events as i64 }
    };
    scores.iter().map(of).collect()
}

/// The part that an event added to the score in one run of a decay, as stored in the event's mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunPartDoc {
    run: i64,
    log2: f64,
}

impl RunPartDoc {
    pub(super) fn all(parts: &[RunPart]) -> Vec<Self> {
        parts.iter().map(|RunPart { run, log2 }| Self { run: i64::from(*run), log2: *log2 }).collect()
    }

    pub(super) fn read(stored: &[Self]) -> Vec<RunPart> {
        stored.iter().map(|Self { run, log2 }| RunPart { run: *run as u32, log2: *log2 }).collect()
    }
}

/// Counts these decays from now on, and no others. The change is made by a barrier, so no commit overlaps it.
pub(super) async fn count(archive: &MongoArchive, wanted: &[Decay]) -> Result<ArchiveMeta, StoreError> {
    let decide = |meta: &MetaDoc, offsets: &[OffsetDoc]| {
        if meta.is_swapping() {
            return Ok(None);
        }
        let before = meta.clone().into_meta()?;
        let last = last_counted(offsets);
        let known = if meta.lost_decays() {
            before.decays.with_gap(last, rand::random)
        } else {
            before.decays.clone()
        };
        let change = change_of(meta, &known.changed_to(wanted, last, rand::random))?;
        Ok(Some(Change {
            meta_update: change,
            other_updates: vec![("offsets".to_owned(), begin_here(&before, offsets))],
        }))
    };
    while !barrier::change_meta(archive, &decide).await? {
        swapping::finish_any(archive).await?;
    }
    archive.read_meta_doc().await?.ok_or_else(never_opened)?.into_meta()
}

/// Returns the update of the meta document that makes these decays the counted ones.
fn change_of(meta: &MetaDoc, decays: &CountedDecays) -> Result<Document, StoreError> {
    if decays.is_empty() {
        return Ok(doc! { "$unset": { "decays": "", "decays_of": "" } });
    }
    let stored = CountedDecayDoc::to_bson(&CountedDecayDoc::all(decays))?;
    Ok(doc! { "$set": { "decays": stored, "decays_of": meta.generation } })
}

/// Notes in the meta document that records were counted without windows and decays, in whatever partition.
pub(super) async fn note_gap(archive: &MongoArchive) -> Result<(), StoreError> {
    let decide = |meta: &MetaDoc, offsets: &[OffsetDoc]| {
        let gaps: Vec<&OffsetDoc> = offsets.iter().filter(|found| found.has_gap()).collect();
        if meta.is_swapping() || (gaps.is_empty() && !meta.lost_decays()) {
            return Ok(None);
        }
        let before = meta.clone().into_meta()?;
        let until =
            if meta.lost_decays() { last_counted(offsets) } else { last_counted(gaps.iter().copied()) };
        let mut change = if before.decays.is_empty() {
            doc! { "$set": {} }
        } else {
            change_of(meta, &before.decays.with_gap(until, rand::random))?
        };
        if !before.windows.is_empty() {
            let windows: CountedWindows = before.windows.with_gap(last_counted(gaps.iter().copied()));
            let windows = CountedDoc::to_bson(&CountedDoc::all(&windows))?;
            change.get_document_mut("$set").expect("it is there").insert("windows", windows);
        }
        let here = gaps.iter().map(|found| found.counted_to_here()).collect();
        Ok(Some(Change { meta_update: change, other_updates: vec![("offsets".to_owned(), here)] }))
    };
    // If there is no gap any more, another process has noted it.
    barrier::change_meta(archive, &decide).await.map(drop)
}

/// Returns the decays that a replay counts, for an archive that counts `decays`. A replay that starts as a copy of
/// `source` has complete scores only for the decays that `source` counted.
pub(super) async fn of_replay(
    decays: &CountedDecays,
    source: Option<&MongoArchive>,
) -> Result<CountedDecays, StoreError> {
    let wanted: Vec<Decay> = decays.iter().map(|counted| counted.decay).collect();
    let Some(source) = source else {
        return Ok(CountedDecays::default().changed_to(&wanted, None, rand::random));
    };
    // A source that has lost scores cannot be continued from.
    let found = source.read_meta_doc().await?.filter(|meta| !meta.lost_decays());
    let known = found.map(MetaDoc::into_meta).transpose()?.map(|meta| meta.decays).unwrap_or_default();
    let offsets: Vec<OffsetDoc> = source.find_documents("offsets", doc! {}, doc! {}, usize::MAX).await?;
    Ok(known.changed_to(&wanted, last_counted(&offsets), rand::random))
}
