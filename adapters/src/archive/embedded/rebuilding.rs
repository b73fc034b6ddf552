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
    Archive, ArchiveMeta, ArchivePosition, ArchiveRebuild, ArchiveReplay, ArchiveSnapshot, CommentTally,
    Progress, RebuildError, ReplayFinish, StoredVideo, numbering,
};
use super::meta::{change_meta, encode_meta, not_opened_failure, read_meta};
use super::rows::{decode_position, decode_video, encode_video};
use super::tables::{LIVE_TABLES, PART_NAME, REPLAY_TABLES, StoredPosition, Tables};
use super::writing::read_marks;
use super::{ARCHIVE_FILE_NAME, EmbeddedArchive, windows};
use crate::StoreError;
use crate::redb_file::{FileFailure, begin_durable};

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
                        reset_trending_scores(transaction, tables)?;
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
            REPLAY_TABLES.drop_all(&transaction)?;
            REPLAY_TABLES.create_absent(&transaction)?;
            // The source was counted without these windows and decays, up to its positions.
            let counted = source.as_ref().map(SourceArchive::last_counted_time).transpose()?.flatten();
            let kinds: Vec<_> = before.windows.iter().map(|counted| counted.kind.clone()).collect();
            let of_source = source.as_ref().map(|source| source.meta.windows.clone()).unwrap_or_default();
            let windows = of_source.with_wanted_kinds(&kinds, counted);
            let wanted: Vec<_> = before.decays.iter().map(|counted| counted.decay).collect();
            let of_source = source.as_ref().map(|source| source.meta.decays.clone()).unwrap_or_default();
            let decays = of_source.with_wanted_decays(&wanted, counted, rand::random);
            let next = ArchiveMeta {
                generation: before.generation + 1,
                counting_rules: rules,
                windows,
                decays,
                ..before
            };
            transaction.open_table(REPLAY_TABLES.meta)?.insert((), encode_meta(&next).as_str())?;
            if let Some(source) = source {
                source.copy_into(&transaction)?;
                if source.meta.counting_rules.half_life_ms != rules.half_life_ms {
                    reset_trending_scores(&transaction, &REPLAY_TABLES)?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await?;
        progress(1, 1);
        let (live_archive, next) = (
            self.with_claimant_and_tables(self.claimant_id, self.tables),
            self.with_claimant_and_tables(rand::random(), &REPLAY_TABLES),
        );
        Ok(Box::new(EmbeddedReplay {
            live_archive,
            replayed_archive: next,
            numbering_comparison: Mutex::default(),
        }))
    }

    async fn read_snapshot(&self, of: Option<&str>) -> Result<ArchiveSnapshot, StoreError> {
        match of {
            Some(path) => open_source_archive(path)?.read_blocking(read_archive_snapshot).await,
            None => self.read_blocking(read_archive_snapshot).await,
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
                Some(time.map(|time| (identity, time.value())).map_err(FileFailure::from))
            });
            found.collect()
        };
        match of {
            Some(path) => open_source_archive(path)?.read_blocking(look).await,
            None => self.read_blocking(look).await,
        }
    }

    async fn read_marks(
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
            Some(path) => open_source_archive(path)?.read_blocking(look).await,
            None => self.read_blocking(look).await,
        }
    }
}

/// The archive file that a rebuild reads from, to which nobody writes.
struct SourceArchive {
    transaction: ReadTransaction,
    meta: ArchiveMeta,
    /// Keeps the file open for as long as `transaction` reads from it.
    _archive: EmbeddedArchive,
}

fn open_source_archive(directory: &str) -> Result<EmbeddedArchive, StoreError> {
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
        let archive = open_source_archive(directory)?;
        let meta = archive.archive_meta().await?.ok_or_else(never_opened_error)?;
        meta.counting_rules.check_rescore(rules).map_err(|why| {
            RebuildError::Refused(format!("the archive in {directory} cannot be begun with: {why}"))
        })?;
        let transaction = archive.read_blocking(|database, _| Ok(database.begin_read()?)).await?;
        Ok(Self { transaction, meta, _archive: archive })
    }

    fn copy_into(&self, to: &WriteTransaction) -> Result<(), FileFailure> {
        let from = &self.transaction;
        copy_table(from, LIVE_TABLES.offsets, to, REPLAY_TABLES.offsets)?;
        copy_table(from, LIVE_TABLES.videos, to, REPLAY_TABLES.videos)?;
        copy_table(from, LIVE_TABLES.identities, to, REPLAY_TABLES.identities)?;
        copy_table(from, LIVE_TABLES.sightings, to, REPLAY_TABLES.sightings)?;
        copy_table(from, LIVE_TABLES.comments, to, REPLAY_TABLES.comments)?;
        copy_table(from, LIVE_TABLES.entries_by_log_position, to, REPLAY_TABLES.entries_by_log_position)?;
        copy_table(from, LIVE_TABLES.newest_by_id, to, REPLAY_TABLES.newest_by_id)?;
        copy_table(from, LIVE_TABLES.comment_count, to, REPLAY_TABLES.comment_count)?;
        copy_table(from, LIVE_TABLES.restrictions, to, REPLAY_TABLES.restrictions)?;
        copy_table(from, LIVE_TABLES.rule_revisions, to, REPLAY_TABLES.rule_revisions)?;
        copy_table(from, LIVE_TABLES.pins, to, REPLAY_TABLES.pins)?;
        copy_table(from, LIVE_TABLES.held_comments, to, REPLAY_TABLES.held_comments)?;
        copy_table(from, LIVE_TABLES.held_keys_by_comment, to, REPLAY_TABLES.held_keys_by_comment)?;
        copy_table(from, LIVE_TABLES.reports, to, REPLAY_TABLES.reports)?;
        copy_table(from, LIVE_TABLES.report_queues, to, REPLAY_TABLES.report_queues)?;
        copy_table(from, LIVE_TABLES.audit, to, REPLAY_TABLES.audit)?;
        copy_table(from, LIVE_TABLES.marks, to, REPLAY_TABLES.marks)?;
        copy_table(from, LIVE_TABLES.mark_times, to, REPLAY_TABLES.mark_times)?;
        copy_table(from, LIVE_TABLES.mark_parts, to, REPLAY_TABLES.mark_parts)?;
        copy_table(from, LIVE_TABLES.windows, to, REPLAY_TABLES.windows)?;
        copy_table(from, LIVE_TABLES.window_offsets, to, REPLAY_TABLES.window_offsets)
    }

    /// Returns the time at which the log appended the last record that the source has counted.
    fn last_counted_time(&self) -> Result<Option<Millis>, FileFailure> {
        let positions = partition_positions(&self.transaction.open_table(LIVE_TABLES.offsets)?)?;
        Ok(positions.iter().filter_map(|(_, position)| Some(position.last_record?.broker_time)).max())
    }
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    source: TableDefinition<K, V>,
    to: &WriteTransaction,
    target: TableDefinition<K, V>,
) -> Result<(), FileFailure> {
    let mut target = to.open_table(target)?;
    for entry in from.open_table(source)?.iter()? {
        let (key, value) = entry?;
        target.insert(key.value(), value.value())?;
    }
    Ok(())
}

fn never_opened_error() -> StoreError {
    StoreError::unusable(PART_NAME, "the archive was never opened")
}

/// Resets the trending scores of all videos: scores by another half-life cannot be computed from the stored ones.
fn reset_trending_scores(transaction: &WriteTransaction, tables: &Tables) -> Result<(), FileFailure> {
    let mut table = transaction.open_table(tables.videos)?;
    let states: Vec<VideoState> = read_video_states(&table)?;
    for state in states {
        let state = VideoState { trending_log2: f64::NEG_INFINITY, ..state };
        table.insert(state.video_id.as_str(), encode_video(&state).as_slice())?;
    }
    Ok(())
}

fn read_video_states(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<VideoState>, FileFailure> {
    let decoded = table.iter()?.map(|entry| {
        let (id, bytes) = entry?;
        decode_video(id.value(), bytes.value())
    });
    decoded.collect()
}

fn read_archive_snapshot(database: &Database, tables: &Tables) -> Result<ArchiveSnapshot, FileFailure> {
    let transaction = database.begin_read()?;
    let meta = read_meta(&transaction.open_table(tables.meta)?)?.ok_or_else(not_opened_failure)?;
    let positions = partition_positions(&transaction.open_table(tables.offsets)?)?;
    let scored = |state: VideoState| {
        let score = points_of_thousandths(state.counters.score(&meta.counting_rules.weights));
        StoredVideo { state, score }
    };
    let videos =
        read_video_states(&transaction.open_table(tables.videos)?)?.into_iter().map(scored).collect();
    let mut comment_tallies: Vec<CommentTally> = Vec::new();
    for entry in transaction.open_table(tables.comments)?.iter()? {
        let (key, _) = entry?;
        let (id, seq) = key.value();
        match comment_tallies.last_mut() {
            Some(tally) if tally.video_id.as_str() == id => {
                tally.comment_count += 1;
                tally.highest_seq = seq;
            }
            _ => {
                let video_id = VideoId::parse(id).map_err(|error| FileFailure::Damaged(error.to_string()))?;
                comment_tallies.push(CommentTally { video_id, comment_count: 1, highest_seq: seq });
            }
        }
    }
    let window_counts = windows::read_all_window_counts(&transaction.open_table(tables.windows)?)?;
    Ok(ArchiveSnapshot { meta, positions, videos, comment_tallies, window_counts })
}

/// A replay under way, in tables beside those of the archive that serves.
struct EmbeddedReplay {
    live_archive: EmbeddedArchive,
    replayed_archive: EmbeddedArchive,
    numbering_comparison: Mutex<numbering::NumberingComparison>,
}

#[async_trait]
impl ArchiveReplay for EmbeddedReplay {
    fn archive(&self) -> &dyn Archive {
        &self.replayed_archive
    }

    async fn swap_in(&self, anyway: bool, progress: Progress<'_>) -> Result<ReplayFinish, StoreError> {
        loop {
            let live = self.live_archive.read_blocking(partition_offsets).await?;
            let next: HashMap<u32, u64> =
                self.replayed_archive.read_blocking(partition_offsets).await?.into_iter().collect();
            let stand = |partition| next.get(&partition).copied().unwrap_or(0);
            let behind: Vec<(u32, u64)> =
                live.iter().copied().filter(|(partition, offset)| stand(*partition) < *offset).collect();
            if !behind.is_empty() && !anyway {
                return Ok(ReplayFinish::Behind(behind));
            }
            let mut checked = self.numbering_comparison.lock().await;
            checked.compare_up_to(&self.live_archive, &self.replayed_archive, &live, progress).await?;
            let renumbered = checked.found_difference();
            drop(checked);
            let minted = renumbered.then(|| CommentEpoch::from_bits(rand::random()));
            let swapped = self.live_archive.write_blocking(move |database, tables| {
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

fn partition_offsets(database: &Database, tables: &Tables) -> Result<Vec<(u32, u64)>, FileFailure> {
    let found = partition_positions(&database.begin_read()?.open_table(tables.offsets)?)?;
    Ok(found.into_iter().map(|(partition, position)| (partition, position.next_offset)).collect())
}

/// Reads the positions of all partitions that the archive knows.
fn partition_positions(
    table: &impl ReadableTable<u32, StoredPosition>,
) -> Result<Vec<(u32, ArchivePosition)>, FileFailure> {
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
) -> Result<Option<ArchiveMeta>, FileFailure> {
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
    let counted = read_meta(&transaction.open_table(REPLAY_TABLES.meta)?)?.ok_or_else(not_opened_failure)?;
    let numbering = minted.cloned().unwrap_or(before.comment_epoch);
    let ArchiveMeta { counting_rules: rules, windows, decays, .. } = counted;
    let after = ArchiveMeta {
        comment_epoch: numbering,
        generation: before.generation + 1,
        counting_rules: rules,
        windows,
        decays,
    };
    transaction.open_table(REPLAY_TABLES.meta)?.insert((), encode_meta(&after).as_str())?;
    // Partitions stay with their owners.
    transaction.delete_table(REPLAY_TABLES.owners)?;
    transaction.rename_table(tables.owners, REPLAY_TABLES.owners)?;
    tables.drop_all(&transaction)?;
    REPLAY_TABLES.rename_to_names_of(&transaction, tables)?;
    transaction.commit()?;
    Ok(Some(after))
}
