//! Rebuilds of the embedded archive: each change of the meta data is one transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::{CountingRules, MarkKey, UniqueMark, VideoState};
use liverank_core::score::points_of_thousandths;
use liverank_core::{Millis, VideoId};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, Value, WriteTransaction,
};
use tokio::sync::Mutex;

use super::super::{
    Archive, ArchiveCut, ArchiveMeta, ArchivePosition, ArchiveRebuild, ArchiveReplay, CommentTally, Progress,
    RebuildError, ReplayFinish, StoredVideo, numbering,
};
use super::tables::{
    LIVE, NEXT, StoredPosition, Tables, decode_position, decode_video, encode_meta, encode_video, read_meta,
};
use super::writing::read_marks;
use super::{ARCHIVE_FILE_NAME, EmbeddedArchive, PART_NAME, windows};
use crate::StoreError;
use crate::redb_file::{Failure, begin_durable};

#[async_trait]
impl ArchiveRebuild for EmbeddedArchive {
    async fn bump_generation(&self) -> Result<ArchiveMeta, StoreError> {
        self.write_blocking(|database, tables| {
            change_meta(database, tables, |_, before| {
                Ok(ArchiveMeta { generation: before.generation + 1, ..before.clone() })
            })
        })
        .await
    }

    async fn rescore_videos(
        &self,
        rules: &CountingRules,
        progress: Progress<'_>,
    ) -> Result<ArchiveMeta, RebuildError> {
        let before = self.archive_meta().await?.ok_or_else(never_opened_error)?;
        before.counting_rules.check_rescore(rules).map_err(RebuildError::Refused)?;
        let rules = *rules;
        let after = self
            .write_blocking(move |database, tables| {
                change_meta(database, tables, |transaction, before| {
                    // Scores are not stored in this archive: they are computed from counts and rules.
                    if before.counting_rules.half_life_ms != rules.half_life_ms {
                        forget_trending(transaction, tables)?;
                    }
                    Ok(ArchiveMeta {
                        generation: before.generation + 1,
                        counting_rules: rules,
                        ..before.clone()
                    })
                })
            })
            .await?;
        progress(1, 1);
        Ok(after)
    }

    async fn begin_replay(
        &self,
        rules: &CountingRules,
        from: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Box<dyn ArchiveReplay>, RebuildError> {
        let source = match from {
            Some(path) => Some(SourceArchive::open_source(path, rules).await?),
            None => None,
        };
        let rules = *rules;
        self.write_blocking(move |database, tables| {
            let transaction = begin_durable(database)?;
            let before = read_meta(&transaction.open_table(tables.meta)?)?.ok_or_else(not_opened_failure)?;
            NEXT.drop_all(&transaction)?;
            NEXT.create_absent(&transaction)?;
            // The source was counted without these windows and decays, up to its positions.
            let counted = source.as_ref().map(SourceArchive::last_counted).transpose()?.flatten();
            let kinds: Vec<_> = before.windows.iter().map(|counted| counted.kind.clone()).collect();
            let of_source = source.as_ref().map(|source| source.meta.windows.clone()).unwrap_or_default();
            let windows = of_source.changed_to(&kinds, counted);
            let wanted: Vec<_> = before.decays.iter().map(|counted| counted.decay).collect();
            let of_source = source.as_ref().map(|source| source.meta.decays.clone()).unwrap_or_default();
            let decays = of_source.changed_to(&wanted, counted, rand::random);
            let next = ArchiveMeta {
                generation: before.generation + 1,
                counting_rules: rules,
                windows,
                decays,
                ..before
            };
            transaction.open_table(NEXT.meta)?.insert((), encode_meta(&next).as_str())?;
            if let Some(source) = source {
                source.copy_into(&transaction)?;
                if source.meta.counting_rules.half_life_ms != rules.half_life_ms {
                    forget_trending(&transaction, &NEXT)?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await?;
        progress(1, 1);
        let (live, next) =
            (self.as_owner(self.claimant_id, self.tables), self.as_owner(rand::random(), &NEXT));
        Ok(Box::new(EmbeddedReplay { live, replayed_archive: next, checked: Mutex::default() }))
    }

    async fn read_cut(&self, of: Option<&str>) -> Result<ArchiveCut, StoreError> {
        match of {
            Some(path) => open_other(path)?.read_blocking(cut).await,
            None => self.read_blocking(cut).await,
        }
    }

    async fn known_identities(
        &self,
        of: Option<&str>,
        identities: &[String],
    ) -> Result<Vec<(String, Millis)>, StoreError> {
        let identities = identities.to_vec();
        let look = move |database: &Database, tables: &Tables| {
            let table = database.begin_read()?.open_table(tables.identities)?;
            let found = identities.into_iter().filter_map(|identity| {
                let time = table.get(identity.as_str()).transpose()?;
                Some(time.map(|time| (identity, time.value())).map_err(Failure::from))
            });
            found.collect()
        };
        match of {
            Some(path) => open_other(path)?.read_blocking(look).await,
            None => self.read_blocking(look).await,
        }
    }

    async fn set_marks(
        &self,
        of: Option<&str>,
        keys: &[MarkKey],
    ) -> Result<Vec<(MarkKey, UniqueMark)>, StoreError> {
        let keys = keys.to_vec();
        let look = move |database: &Database, tables: &Tables| {
            let transaction = database.begin_read()?;
            let times = transaction.open_table(tables.mark_times)?;
            let parts = transaction.open_table(tables.mark_parts)?;
            read_marks(&transaction.open_table(tables.marks)?, &times, &parts, keys)
        };
        match of {
            Some(path) => open_other(path)?.read_blocking(look).await,
            None => self.read_blocking(look).await,
        }
    }
}

/// Another archive, to which nobody writes.
struct SourceArchive {
    transaction: ReadTransaction,
    meta: ArchiveMeta,
    /// Keeps the file open for as long as `transaction` reads from it.
    _archive: EmbeddedArchive,
}

fn open_other(directory: &str) -> Result<EmbeddedArchive, StoreError> {
    let directory = Path::new(directory);
    let file: PathBuf = directory.join(ARCHIVE_FILE_NAME);
    if !file.is_file() {
        return Err(StoreError::unusable(
            PART_NAME,
            format!("there is no archive: {} is not there", file.display()),
        ));
    }
    EmbeddedArchive::open(directory)
}

impl SourceArchive {
    async fn open_source(directory: &str, rules: &CountingRules) -> Result<Self, RebuildError> {
        let archive = open_other(directory)?;
        let meta = archive.archive_meta().await?.ok_or_else(never_opened_error)?;
        meta.counting_rules.check_rescore(rules).map_err(|why| {
            RebuildError::Refused(format!("the archive in {directory} cannot be begun with: {why}"))
        })?;
        let transaction = archive.read_blocking(|database, _| Ok(database.begin_read()?)).await?;
        Ok(Self { transaction, meta, _archive: archive })
    }

    fn copy_into(&self, to: &WriteTransaction) -> Result<(), Failure> {
        let from = &self.transaction;
        copy_table(from, LIVE.offsets, to, NEXT.offsets)?;
        copy_table(from, LIVE.videos, to, NEXT.videos)?;
        copy_table(from, LIVE.identities, to, NEXT.identities)?;
        copy_table(from, LIVE.sightings, to, NEXT.sightings)?;
        copy_table(from, LIVE.comments, to, NEXT.comments)?;
        copy_table(from, LIVE.comment_places, to, NEXT.comment_places)?;
        copy_table(from, LIVE.newest_by_id, to, NEXT.newest_by_id)?;
        copy_table(from, LIVE.comment_count, to, NEXT.comment_count)?;
        copy_table(from, LIVE.restrictions, to, NEXT.restrictions)?;
        copy_table(from, LIVE.rule_revisions, to, NEXT.rule_revisions)?;
        copy_table(from, LIVE.pins, to, NEXT.pins)?;
        copy_table(from, LIVE.held_comments, to, NEXT.held_comments)?;
        copy_table(from, LIVE.held_places, to, NEXT.held_places)?;
        copy_table(from, LIVE.reports, to, NEXT.reports)?;
        copy_table(from, LIVE.report_queues, to, NEXT.report_queues)?;
        copy_table(from, LIVE.audit, to, NEXT.audit)?;
        copy_table(from, LIVE.marks, to, NEXT.marks)?;
        copy_table(from, LIVE.mark_times, to, NEXT.mark_times)?;
        copy_table(from, LIVE.mark_parts, to, NEXT.mark_parts)?;
        copy_table(from, LIVE.windows, to, NEXT.windows)?;
        copy_table(from, LIVE.window_offsets, to, NEXT.window_offsets)
    }

    /// Returns the time at which the log appended the last record that the source has counted.
    fn last_counted(&self) -> Result<Option<Millis>, Failure> {
        let positions = partition_positions(&self.transaction.open_table(LIVE.offsets)?)?;
        Ok(positions.iter().filter_map(|(_, position)| Some(position.last_record?.broker_time)).max())
    }
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    source: TableDefinition<K, V>,
    to: &WriteTransaction,
    target: TableDefinition<K, V>,
) -> Result<(), Failure> {
    let mut target = to.open_table(target)?;
    for entry in from.open_table(source)?.iter()? {
        let (key, value) = entry?;
        target.insert(key.value(), value.value())?;
    }
    Ok(())
}

fn not_opened_failure() -> Failure {
    Failure::Damaged("it was never opened as an archive".to_owned())
}

fn never_opened_error() -> StoreError {
    StoreError::unusable(PART_NAME, "the archive was never opened")
}

pub(super) fn change_meta(
    database: &Database,
    tables: &Tables,
    change: impl FnOnce(&WriteTransaction, &ArchiveMeta) -> Result<ArchiveMeta, Failure>,
) -> Result<ArchiveMeta, Failure> {
    let transaction = begin_durable(database)?;
    let before = read_meta(&transaction.open_table(tables.meta)?)?.ok_or_else(not_opened_failure)?;
    let after = change(&transaction, &before)?;
    transaction.open_table(tables.meta)?.insert((), encode_meta(&after).as_str())?;
    transaction.commit()?;
    Ok(after)
}

/// Resets the trending scores of all videos: scores by another half-life cannot be computed from the stored ones.
fn forget_trending(transaction: &WriteTransaction, tables: &Tables) -> Result<(), Failure> {
    let mut table = transaction.open_table(tables.videos)?;
    let states: Vec<VideoState> = states(&table)?;
    for state in states {
        let state = VideoState { trending: f64::NEG_INFINITY, ..state };
        table.insert(state.video_id.as_str(), encode_video(&state).as_slice())?;
    }
    Ok(())
}

fn states(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<VideoState>, Failure> {
    let decoded = table.iter()?.map(|entry| {
        let (id, bytes) = entry?;
        decode_video(id.value(), bytes.value())
    });
    decoded.collect()
}

fn cut(database: &Database, tables: &Tables) -> Result<ArchiveCut, Failure> {
    let transaction = database.begin_read()?;
    let meta = read_meta(&transaction.open_table(tables.meta)?)?.ok_or_else(not_opened_failure)?;
    let positions = partition_positions(&transaction.open_table(tables.offsets)?)?;
    let scored = |state: VideoState| {
        let score = points_of_thousandths(state.counters.score(&meta.counting_rules.weights));
        StoredVideo { state, score }
    };
    let videos = states(&transaction.open_table(tables.videos)?)?.into_iter().map(scored).collect();
    let mut comments: Vec<CommentTally> = Vec::new();
    for entry in transaction.open_table(tables.comments)?.iter()? {
        let (key, _) = entry?;
        let (id, seq) = key.value();
        match comments.last_mut() {
            Some(tally) if tally.video_id.as_str() == id => {
                tally.comment_count += 1;
                tally.highest_seq = seq;
            }
            _ => {
                let video_id = VideoId::parse(id).map_err(|error| Failure::Damaged(error.to_string()))?;
                comments.push(CommentTally { video_id, comment_count: 1, highest_seq: seq });
            }
        }
    }
    let windows = windows::all(&transaction.open_table(tables.windows)?)?;
    Ok(ArchiveCut { meta, positions, videos, comments, windows })
}

/// A replay under way, in tables beside those of the archive that serves.
struct EmbeddedReplay {
    live: EmbeddedArchive,
    replayed_archive: EmbeddedArchive,
    checked: Mutex<numbering::Checked>,
}

#[async_trait]
impl ArchiveReplay for EmbeddedReplay {
    fn archive(&self) -> &dyn Archive {
        &self.replayed_archive
    }

    async fn put_in_place(&self, anyway: bool, progress: Progress<'_>) -> Result<ReplayFinish, StoreError> {
        loop {
            let live = self.live.read_blocking(partition_offsets).await?;
            let next: HashMap<u32, u64> =
                self.replayed_archive.read_blocking(partition_offsets).await?.into_iter().collect();
            let stand = |partition| next.get(&partition).copied().unwrap_or(0);
            let behind: Vec<(u32, u64)> =
                live.iter().copied().filter(|(partition, offset)| stand(*partition) < *offset).collect();
            if !behind.is_empty() && !anyway {
                return Ok(ReplayFinish::Behind(behind));
            }
            let mut checked = self.checked.lock().await;
            checked.go_on(&self.live, &self.replayed_archive, &live, progress).await?;
            let renumbered = checked.differ();
            drop(checked);
            let minted = renumbered.then(|| CommentEpoch::from_bits(rand::random()));
            let swapped = self.live.write_blocking(move |database, tables| {
                swap_in_next(database, tables, &live, minted.as_ref())
            });
            if let Some(meta) = swapped.await? {
                return Ok(ReplayFinish::Done { meta, renumbered });
            }
        }
    }

    async fn discard_replay(&self) -> Result<(), StoreError> {
        self.replayed_archive
            .write_blocking(|database, tables| {
                let transaction = begin_durable(database)?;
                tables.drop_all(&transaction)?;
                transaction.commit()?;
                Ok(())
            })
            .await
    }
}

fn partition_offsets(database: &Database, tables: &Tables) -> Result<Vec<(u32, u64)>, Failure> {
    let found = partition_positions(&database.begin_read()?.open_table(tables.offsets)?)?;
    Ok(found.into_iter().map(|(partition, position)| (partition, position.next_offset)).collect())
}

/// Reads the positions of all partitions that the archive knows.
fn partition_positions(
    table: &impl ReadableTable<u32, StoredPosition>,
) -> Result<Vec<(u32, ArchivePosition)>, Failure> {
    let found = table.iter()?.map(|entry| {
        let (partition, found) = entry?;
        Ok((partition.value(), decode_position(found.value())))
    });
    found.collect()
}

/// Puts the next archive in place; returns `None`, without a change, if the live archive's offsets are no longer
/// `checked`.
fn swap_in_next(
    database: &Database,
    tables: &Tables,
    checked: &[(u32, u64)],
    minted: Option<&CommentEpoch>,
) -> Result<Option<ArchiveMeta>, Failure> {
    let transaction = begin_durable(database)?;
    let live = partition_positions(&transaction.open_table(tables.offsets)?)?;
    if !live
        .iter()
        .map(|(partition, position)| (*partition, position.next_offset))
        .eq(checked.iter().copied())
    {
        return Ok(None);
    }
    let before = read_meta(&transaction.open_table(tables.meta)?)?.ok_or_else(not_opened_failure)?;
    let counted = read_meta(&transaction.open_table(NEXT.meta)?)?.ok_or_else(not_opened_failure)?;
    let numbering = minted.cloned().unwrap_or(before.comment_epoch);
    let ArchiveMeta { counting_rules: rules, windows, decays, .. } = counted;
    let after = ArchiveMeta {
        comment_epoch: numbering,
        generation: before.generation + 1,
        counting_rules: rules,
        windows,
        decays,
    };
    transaction.open_table(NEXT.meta)?.insert((), encode_meta(&after).as_str())?;
    // Partitions stay with their owners.
    transaction.delete_table(NEXT.owners)?;
    transaction.rename_table(tables.owners, NEXT.owners)?;
    tables.drop_all(&transaction)?;
    NEXT.put_in_place_of(&transaction, tables)?;
    transaction.commit()?;
    Ok(Some(after))
}
