//! Decayed scores of boards with a decay of their own: the decays that are counted, and the gaps in which events were
//! counted without them.
//!
//! A score is a part of its video's document, so it costs no further read or write. If a release that knows neither
//! decays nor windows has counted records, `windowed` in `offsets` shows it. This gap is noted by a barrier: no commit
//! that began before the barrier goes on after it by the earlier settings.

use liverank_core::decays::{CountedDecays, Decay};
use liverank_core::windows::CountedWindows;
use mongodb::bson::{Document, doc};

use super::super::ArchiveMeta;
use super::barrier::{self, MetaChange};
use super::documents::decay::CountedDecayDoc;
use super::documents::meta::MetaDoc;
use super::documents::offset::OffsetDoc;
use super::documents::windows::CountedWindowsDoc;
use super::transaction::never_opened_error;
use super::windows::{counting_start_statements, last_counted_time};
use super::{MongoArchive, swapping};
use crate::StoreError;

/// Makes the archive count these decays from now on, and no others. The change is made by a barrier, so no commit
/// overlaps it.
pub(super) async fn set_counted_decays(
    archive: &MongoArchive,
    wanted: &[Decay],
) -> Result<ArchiveMeta, StoreError> {
    let decide = |meta: &MetaDoc, offsets: &[OffsetDoc]| {
        if meta.is_swapping() {
            return Ok(None);
        }
        let before = meta.clone().into_meta()?;
        let last = last_counted_time(offsets);
        let known = if meta.has_lost_decays() {
            before.decays.with_counting_gap(last, rand::random)
        } else {
            before.decays.clone()
        };
        let change = decays_update(meta, &known.with_wanted_decays(wanted, last, rand::random))?;
        Ok(Some(MetaChange {
            meta_update: change,
            other_updates: vec![("offsets".to_owned(), counting_start_statements(&before, offsets))],
        }))
    };
    while !barrier::change_meta(archive, &decide).await? {
        swapping::finish_pending_swap(archive).await?;
    }
    archive.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()
}

/// Returns the update of the meta document that makes these decays the counted ones.
fn decays_update(meta: &MetaDoc, decays: &CountedDecays) -> Result<Document, StoreError> {
    if decays.is_empty() {
        return Ok(doc! { "$unset": { "decays": "", "decays_of": "" } });
    }
    let stored = CountedDecayDoc::to_bson(&CountedDecayDoc::from_decays(decays))?;
    Ok(doc! { "$set": { "decays": stored, "decays_of": meta.generation } })
}

/// Notes in the meta document that records of some partition were counted without windows and decays.
pub(super) async fn note_gap(archive: &MongoArchive) -> Result<(), StoreError> {
    let decide = |meta: &MetaDoc, offsets: &[OffsetDoc]| {
        let gaps: Vec<&OffsetDoc> = offsets.iter().filter(|found| found.has_gap()).collect();
        if meta.is_swapping() || (gaps.is_empty() && !meta.has_lost_decays()) {
            return Ok(None);
        }
        let before = meta.clone().into_meta()?;
        let until = if meta.has_lost_decays() {
            last_counted_time(offsets)
        } else {
            last_counted_time(gaps.iter().copied())
        };
        let mut change = if before.decays.is_empty() {
            doc! { "$set": {} }
        } else {
            decays_update(meta, &before.decays.with_counting_gap(until, rand::random))?
        };
        if !before.windows.is_empty() {
            let windows: CountedWindows =
                before.windows.with_counting_gap(last_counted_time(gaps.iter().copied()));
            let windows = CountedWindowsDoc::to_bson(&CountedWindowsDoc::from_windows(&windows))?;
            change.get_document_mut("$set").expect("it is there").insert("windows", windows);
        }
        let here = gaps.iter().map(|found| found.end_gap_statement()).collect();
        Ok(Some(MetaChange { meta_update: change, other_updates: vec![("offsets".to_owned(), here)] }))
    };
    // If there is no gap any more, another process has noted it.
    barrier::change_meta(archive, &decide).await.map(drop)
}

/// Returns the decays that a replay counts, for an archive that counts `decays`. A replay that starts as a copy of
/// `source` has complete scores only for the decays that `source` counted.
pub(super) async fn replay_decays(
    decays: &CountedDecays,
    source: Option<&MongoArchive>,
) -> Result<CountedDecays, StoreError> {
    let wanted: Vec<Decay> = decays.iter().map(|counted| counted.decay).collect();
    let Some(source) = source else {
        return Ok(CountedDecays::default().with_wanted_decays(&wanted, None, rand::random));
    };
    // A source that has lost scores cannot be continued from.
    let found = source.read_meta_doc().await?.filter(|meta| !meta.has_lost_decays());
    let known = found.map(MetaDoc::into_meta).transpose()?.map(|meta| meta.decays).unwrap_or_default();
    let offsets: Vec<OffsetDoc> = source.find_documents("offsets", doc! {}, doc! {}, usize::MAX).await?;
    Ok(known.with_wanted_decays(&wanted, last_counted_time(&offsets), rand::random))
}
