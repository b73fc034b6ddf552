//! Builds a store anew from another one while the old store still serves, and then replaces the old store as a whole.
//!
//! | from | to | when |
//! |---|---|---|
//! | archive | boards (`redis`) | boards that `verify` found wrong, or that are ahead of an archive from a backup |
//! | counters | scores (`scores`) | other weights, another half-life |
//! | log | archive (`mongodb`) | an archive that `verify` found wrong or that is lost, another watch threshold |
//!
//! Each rebuild begins a new generation of scores. The consumers learn of the generation from the answers to their
//! commits, and fill the boards, too. Entries are absolute, so whoever finishes first replaces the boards, and the
//! others change nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use liverank_adapters::archive::{
    Archive, ArchiveMeta, ArchivePosition, ArchiveReplay, CommitError, RebuildError, ReplayFinish,
};
use liverank_adapters::event_log::{RawRecord, ReadRange};
use liverank_adapters::{Backends, StoreError};
use liverank_consumer::RuleArgs;
use liverank_consumer::batches::{ClassifiedRecords, WaitingPartition, classify_records};
use liverank_consumer::repair::{RepairError, RepairResult, no_archive_error, repair_boards};
use liverank_core::counting::{Batch, CountingRules, OffsetRange};

use crate::CommandVerdict;
use crate::progress::CommandProgress;

/// The number of events in one transaction of a replay: more than a consumer takes, because nobody waits for a single
/// event.
const BATCH_EVENTS: usize = 10_000;
/// The number of tries of a step while a store does not answer.
const MAX_TRIES: u32 = 6;
/// The base of the wait before a new try; each wait is twice the one before.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The number of times that a replay reads up to the end of the log before the consumers are asked to wait.
const MAX_CATCH_UP_ROUNDS: usize = 20;
/// If fewer records than this remain to be counted, the consumers are asked to wait: counting the rest then delays
/// nobody for long.
const NEAR_END_RECORDS: u64 = 5000;
/// The number of times that a replay may learn that the consumers have counted further; they wait in the meantime.
const MAX_FINISH_TRIES: usize = 20;

/// The arguments of `liverank rebuild scores`.
#[derive(Debug, Clone, clap::Args)]
pub struct ScoresArgs {
    /// The weights to bring into force.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// The arguments of `liverank rebuild mongodb`.
#[derive(Debug, Clone, clap::Args)]
pub struct MongodbArgs {
    /// Start from this database (`MongoDB`) or directory (embedded storage), which holds an older state of the archive
    /// that was right, instead of from nothing. It is only read.
    #[arg(long, value_name = "DATABASE")]
    snapshot: Option<String>,
    /// Count by the weights given here. Otherwise those in force remain.
    #[arg(long)]
    new_weights: bool,
    /// The log is not the one that was counted (its topic was created anew, or lost records): drop what only the
    /// archive knows, and count the log as it is, from its first record.
    #[arg(long)]
    log_as_it_is: bool,
    /// The weights that --new-weights brings into force.
    #[command(flatten)]
    rules: RuleArgs,
}

/// The stores and outputs that a rebuild works with.
pub struct RebuildWork<'a, W: Write> {
    /// The stores of the system.
    pub backends: &'a Backends,
    /// Shows the progress of the rebuild.
    pub progress: &'a CommandProgress,
    /// The output to which the rebuild describes its steps.
    pub output: W,
}

impl<W: Write + Send> RebuildWork<'_, W> {
    /// Rebuilds the boards from the archive.
    pub async fn rebuild_redis(&mut self) -> anyhow::Result<CommandVerdict> {
        self.archive_meta().await?;
        let boards = self.boards_generation().await?;
        let rebuilding = self.backends.archive.rebuild_archive();
        loop {
            let meta = retry_step(|| rebuilding.bump_generation(), classify_store_error).await;
            let meta = meta.context("beginning a generation")?;
            // The boards may be of a later generation than the archive if the archive was put back to an older state.
            if boards.is_none_or(|boards| boards < meta.generation) {
                return self.fill_boards(meta.generation).await;
            }
        }
    }

    /// Brings other weights or another half-life into force by scoring all videos again.
    pub async fn rebuild_scores(&mut self, options: &ScoresArgs) -> anyhow::Result<CommandVerdict> {
        let (wanted, meta) = (options.rules.counting_rules(), self.archive_meta().await?);
        if meta.counting_rules == wanted {
            writeln!(self.output, "these weights are in force already")?;
            if self.boards_generation().await? == Some(meta.generation) {
                return Ok(CommandVerdict::AllGood);
            }
            return self.fill_boards(meta.generation).await;
        }
        writeln!(
            self.output,
            "in force so far: {}\nfrom now on:     {}",
            describe_rules(&meta.counting_rules),
            describe_rules(&wanted)
        )?;
        let rebuilding = self.backends.archive.rebuild_archive();
        let progress = |done, of| self.progress.show_progress("scoring the videos", done, of);
        let rescored =
            retry_step(|| rebuilding.rescore_videos(&wanted, &progress), RebuildFailure::from_rebuild_error)
                .await;
        match rescored {
            Ok(meta) => self.fill_boards(meta.generation).await,
            Err(RebuildFailure::Refused(reason)) => self.report_refused(&reason),
            Err(RebuildFailure::Store(error)) => Err(anyhow!(error).context("scoring the videos")),
        }
    }

    /// Rebuilds the archive by counting the log again.
    pub async fn rebuild_mongodb(&mut self, options: &MongodbArgs) -> anyhow::Result<CommandVerdict> {
        let meta = self.archive_meta().await?;
        let rules = if options.new_weights { options.rules.counting_rules() } else { meta.counting_rules };
        if rules != meta.counting_rules {
            writeln!(
                self.output,
                "in force so far: {}\nfrom now on:     {}",
                describe_rules(&meta.counting_rules),
                describe_rules(&rules)
            )?;
        }
        let beginnings = self.backends.log.first_offsets().await.context("asking the log where it begins")?;
        if options.snapshot.is_none()
            && let Some(reason) = late_start_refusal(&beginnings, &BTreeMap::new(), options.log_as_it_is)
        {
            return self.report_refused(&reason);
        }
        let progress = |done, of| self.progress.show_progress("copying the snapshot", done, of);
        let rebuilding = self.backends.archive.rebuild_archive();
        let replay = match rebuilding.begin_replay(&rules, options.snapshot.as_deref(), &progress).await {
            Ok(replay) => replay,
            Err(RebuildError::Refused(reason)) => return self.report_refused(&reason),
            Err(RebuildError::Store(error)) => return Err(anyhow!(error).context("beginning the replay")),
        };
        let replayed = self.replay_log(&*replay, &beginnings, options).await;
        let (meta, renumbered) = match replayed {
            Ok(LogReplayOutcome::Done { meta, renumbered }) => (meta, renumbered),
            Ok(LogReplayOutcome::Refused(reason)) => {
                replay.discard_replay().await.context("throwing away what was counted")?;
                return self.report_refused(&reason);
            }
            Err(error) => {
                // What this replay has left behind is removed by the next rebuild.
                let _ = replay.discard_replay().await;
                return Err(error);
            }
        };
        if renumbered {
            writeln!(self.output, "comments are numbered anew: viewers who come back are told of a gap")?;
        }
        self.fill_boards(meta.generation).await
    }

    async fn archive_meta(&self) -> anyhow::Result<ArchiveMeta> {
        let meta = self.backends.archive.archive_meta().await.context("reading the archive")?;
        Ok(meta.ok_or_else(no_archive_error)?)
    }

    async fn boards_generation(&self) -> anyhow::Result<Option<u64>> {
        Ok(self.backends.ranking.checkpoint().await.context("reading the boards")?.generation)
    }

    fn report_refused(&mut self, reason: &str) -> anyhow::Result<CommandVerdict> {
        self.progress.remove_bar();
        writeln!(self.output, "refused: {reason}")?;
        Ok(CommandVerdict::FoundFault)
    }

    /// Fills the boards from the archive's current generation, which is `generation` or a later one.
    async fn fill_boards(&mut self, generation: u64) -> anyhow::Result<CommandVerdict> {
        let boards =
            self.backends.ranking.boards_snapshot().await.map_or(0, |boards| boards.entries.len() as u64);
        let partitions =
            self.backends.log.end_offsets().await.context("asking the log for its partitions")?;
        let progress = |done| self.progress.show_progress("filling the boards", done as u64, boards);
        let filled = retry_step(
            || repair_boards(self.backends, &[], partitions.len() as u32, &progress),
            |error| match error {
                RepairError::Store(error) if error.is_transient() => Err(error),
                other => Ok(other),
            },
        );
        let RepairResult { archive_meta: meta, video_count, .. } = filled.await.with_context(|| {
            format!(
                "the archive is of generation {generation}; the consumers fill the boards as soon as they can"
            )
        })?;
        self.progress.remove_bar();
        writeln!(self.output, "{video_count} videos, generation {}", meta.generation)?;
        Ok(CommandVerdict::AllGood)
    }

    async fn replay_log(
        &self,
        replay: &dyn ArchiveReplay,
        first_offsets: &[u64],
        options: &MongodbArgs,
    ) -> anyhow::Result<LogReplayOutcome> {
        let partitions: Vec<u32> = (0..first_offsets.len() as u32).collect();
        let positions =
            replay.archive().claim_partitions(&partitions).await.context("beginning the replay")?;
        let positions: BTreeMap<u32, ArchivePosition> = partitions.into_iter().zip(positions).collect();
        if let Some(reason) = late_start_refusal(first_offsets, &positions, options.log_as_it_is) {
            return Ok(LogReplayOutcome::Refused(reason));
        }
        let partitions: Vec<u32> = positions.keys().copied().collect();
        let counted =
            self.backends.archive.partition_positions(&partitions).await.context("reading the archive")?;
        let mut recount = LogRecount {
            replaced_offsets: partitions
                .into_iter()
                .zip(counted.iter().map(|position| position.next_offset))
                .collect(),
            backends: self.backends,
            archive: replay.archive(),
            progress: self.progress,
            positions,
            records_counted: 0,
            first_offsets,
        };
        for _ in 0..MAX_CATCH_UP_ROUNDS {
            let ends = self.backends.log.end_offsets().await.context("asking the log where it ends")?;
            let ends: Vec<(u32, u64)> = (0..).zip(ends).collect();
            if recount.remaining_records(&ends) < NEAR_END_RECORDS {
                break;
            }
            recount.count_to(&ends).await?;
        }
        let progress = |done, of| self.progress.show_progress("putting the new archive in place", done, of);
        for _ in 0..MAX_FINISH_TRIES {
            let finished =
                retry_step(|| replay.swap_in(options.log_as_it_is, &progress), classify_store_error);
            match finished.await.context("putting the new archive in place")? {
                ReplayFinish::Done { meta, renumbered } => {
                    return Ok(LogReplayOutcome::Done { meta, renumbered });
                }
                ReplayFinish::Behind(to) => {
                    let ends =
                        self.backends.log.end_offsets().await.context("asking the log where it ends")?;
                    let end = |partition: u32| ends.get(partition as usize).copied().unwrap_or(0);
                    if let Some((partition, to)) = to.iter().find(|(partition, to)| *to > end(*partition)) {
                        return Ok(LogReplayOutcome::Refused(format!(
                            "the archive has counted partition {partition} up to offset {to}, and the log ends at {}: \
                             its topic was created anew, or lost records. With --log-as-it-is what only the archive \
                             knows is dropped",
                            end(*partition)
                        )));
                    }
                    recount.count_to(&to).await?;
                }
            }
        }
        bail!(
            "the consumers count faster than this can follow, although they were asked to wait; try again when it is calmer"
        )
    }
}

enum LogReplayOutcome {
    Done { meta: ArchiveMeta, renumbered: bool },
    Refused(String),
}

/// Returns the reason why the log cannot be counted from these positions (0 where there is none); `None` if it can.
fn late_start_refusal(
    beginnings: &[u64],
    from: &BTreeMap<u32, ArchivePosition>,
    as_it_is: bool,
) -> Option<String> {
    let late = (0..).zip(beginnings).find_map(|(partition, beginning)| {
        let next = from.get(&partition).map_or(0, |position| position.next_offset);
        (*beginning > next).then_some((partition, *beginning, next))
    });
    let (partition, beginning, next) = late.filter(|_| !as_it_is)?;
    Some(format!(
        "the log no longer reaches back to offset {next} of partition {partition}: it begins at {beginning}, and what \
         was before could not be counted. Give an older state of the archive, which stands at {beginning} or later, \
         with --snapshot"
    ))
}

/// The counting of the log into a new archive.
struct LogRecount<'a> {
    backends: &'a Backends,
    archive: &'a dyn Archive,
    progress: &'a CommandProgress,
    positions: BTreeMap<u32, ArchivePosition>,
    /// The offsets of the archive that is replaced. Records before them that a later release wrote have already become
    /// dead letters.
    replaced_offsets: BTreeMap<u32, u64>,
    records_counted: u64,
    first_offsets: &'a [u64],
}

impl LogRecount<'_> {
    fn next_offset(&self, partition: u32) -> u64 {
        self.positions.get(&partition).map_or(0, |position| position.next_offset)
    }

    fn remaining_records(&self, ends: &[(u32, u64)]) -> u64 {
        ends.iter().map(|(partition, end)| end.saturating_sub(self.next_offset(*partition))).sum()
    }

    /// Counts each partition up to its offset, and tries again if a store fails for a moment.
    async fn count_to(&mut self, ends: &[(u32, u64)]) -> anyhow::Result<()> {
        let total = self.records_counted + self.remaining_records(ends);
        let mut failures = 0;
        while let Err(error) = self.try_count_to(ends, total).await {
            failures += 1;
            let transient = error.downcast_ref::<StoreError>().is_some_and(StoreError::is_transient);
            if !transient || failures == MAX_TRIES {
                return Err(error);
            }
            tokio::time::sleep(FIRST_RETRY_PAUSE * (1 << failures)).await;
            // The last batch may have been committed although the call failed.
            let partitions: Vec<u32> = self.positions.keys().copied().collect();
            let positions = self.archive.partition_positions(&partitions).await?;
            self.positions = partitions.into_iter().zip(positions).collect();
        }
        Ok(())
    }

    async fn try_count_to(&mut self, ends: &[(u32, u64)], total: u64) -> anyhow::Result<()> {
        let stretch = |(partition, to): &(u32, u64)| {
            let position = self.positions.get(partition).copied().unwrap_or_default();
            // Offsets that are gone from the log are skipped; that they may be gone was checked before.
            let beginning = self.first_offsets.get(*partition as usize).copied().unwrap_or(0);
            let (from, after) = if beginning > position.next_offset {
                (beginning, None)
            } else {
                (position.next_offset, position.last_record)
            };
            (from < *to).then_some(ReadRange {
                partition: *partition,
                first_offset: from,
                end_offset: *to,
                previous_record: after,
            })
        };
        let stretches: Vec<ReadRange> = ends.iter().filter_map(stretch).collect();
        let mut reader = self.backends.log.read_ranges(&stretches).await?;
        loop {
            let records = reader.next_records(BATCH_EVENTS).await?;
            if records.is_empty() {
                break;
            }
            // A record that cannot be read is already among the dead letters.
            let waits = |record: &RawRecord| {
                self.replaced_offsets.get(&record.partition).is_none_or(|counted| record.offset >= *counted)
            };
            let ClassifiedRecords { batch, waiting_partitions: waiting, .. } =
                classify_records(&records, &self.positions, waits);
            if let Some(WaitingPartition { partition, offset, format }) = waiting.first() {
                bail!(
                    "offset {offset} of partition {partition} is of format {format}, which a later release of liverank \
                     wrote: rebuild with that release"
                );
            }
            if !batch.offset_ranges.is_empty() {
                self.commit_with_retry(batch).await?;
                self.progress.show_progress("counting the log", self.records_counted, total);
            }
        }
        // A partition may end with offsets that have no record, which are skipped.
        let rest = |(partition, to): &(u32, u64)| {
            let from = self.next_offset(*partition);
            (from < *to).then_some(OffsetRange {
                partition: *partition,
                first: from,
                next: *to,
                last_record: None,
            })
        };
        let spans: Vec<OffsetRange> = ends.iter().filter_map(rest).collect();
        if spans.is_empty() {
            Ok(())
        } else {
            self.commit_with_retry(Batch { offset_ranges: spans, records: Vec::new() }).await
        }
    }

    async fn commit_with_retry(&mut self, batch: Batch) -> anyhow::Result<()> {
        match self.archive.commit_batch(&batch).await {
            Ok(_) => {
                for span in &batch.offset_ranges {
                    self.records_counted += span.next - span.first;
                    self.positions.insert(
                        span.partition,
                        ArchivePosition { next_offset: span.next, last_record: span.last_record },
                    );
                }
                Ok(())
            }
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error @ (CommitError::PositionMismatch { .. } | CommitError::TakenOver { .. })) => {
                Err(anyhow!(error).context("another rebuild is under way"))
            }
        }
    }
}

/// An error of a rebuild that will not go away by trying again.
enum RebuildFailure {
    Refused(String),
    Store(StoreError),
}

impl RebuildFailure {
    /// Returns `Err` for an error that may go away, and `Ok` with the failure for any other.
    fn from_rebuild_error(error: RebuildError) -> Result<Self, StoreError> {
        match error {
            RebuildError::Refused(reason) => Ok(Self::Refused(reason)),
            RebuildError::Store(error) if error.is_transient() => Err(error),
            RebuildError::Store(error) => Ok(Self::Store(error)),
        }
    }
}

impl From<StoreError> for RebuildFailure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn classify_store_error(error: StoreError) -> Result<StoreError, StoreError> {
    if error.is_transient() { Err(error) } else { Ok(error) }
}

/// Calls `attempt` until it succeeds, at most `MAX_TRIES` times. `split` returns `Err` for an error that may go away,
/// and `Ok` for any other.
async fn retry_step<T, E, F: From<StoreError>, Doing: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> Doing,
    split: impl Fn(E) -> Result<F, StoreError>,
) -> Result<T, F> {
    let mut failures = 0;
    loop {
        let passing = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => match split(error) {
                Ok(lasting) => return Err(lasting),
                Err(passing) => passing,
            },
        };
        failures += 1;
        if failures == MAX_TRIES {
            return Err(passing.into());
        }
        tracing::warn!(error = %passing, "trying again");
        tokio::time::sleep(FIRST_RETRY_PAUSE * (1 << failures)).await;
    }
}

/// Returns the weights and the half-life of `rules` as text.
fn describe_rules(rules: &CountingRules) -> String {
    use liverank_core::score::{Weights, points_of_thousandths};

    // Every weight is named, so that the compiler finds one that is not described.
    let Weights { view, like, comment, share, watch_short, watch_long, watch_threshold_ms } = rules.weights;
    format!(
        "view {}, like {}, comment {}, share {}, watch {} and {} from {} ms, half-life {} min",
        points_of_thousandths(view),
        points_of_thousandths(like),
        points_of_thousandths(comment),
        points_of_thousandths(share),
        points_of_thousandths(watch_short),
        points_of_thousandths(watch_long),
        watch_threshold_ms,
        rules.half_life_ms / 60_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_begins_late_is_refused_unless_asked_for() {
        let at = |next| ArchivePosition { next_offset: next, last_record: None };
        assert_eq!(late_start_refusal(&[0, 0], &BTreeMap::new(), false), None);
        let late = late_start_refusal(&[0, 7], &BTreeMap::new(), false).unwrap();
        assert!(late.contains("partition 1") && late.contains("begins at 7"), "{late}");
        assert_eq!(late_start_refusal(&[0, 7], &BTreeMap::from([(1, at(7))]), false), None);
        assert!(late_start_refusal(&[0, 7], &BTreeMap::from([(1, at(6))]), false).is_some());
        assert_eq!(late_start_refusal(&[0, 7], &BTreeMap::new(), true), None);
    }
}
