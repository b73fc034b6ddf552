//! The counter: reads events from the log and commits them to the archive. This commit is the only place at which an
//! event counts.
//!
//! While one commit is under way, the records that arrive are read and parsed into the next batch. So batches grow
//! with the load, and a log with few records is committed at once. No decision depends on records that were read
//! ahead: if a commit is refused or its outcome is unknown, everything read after it is dropped, and reading restarts
//! at the archive's offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::archive::{ArchivePosition, CommitError, CommitResult};
use liverank_adapters::event_log::{ConsumerEvent, LogConsumer, RawRecord, ReadStart};
use liverank_adapters::{Backends, StoreError};
use liverank_core::VideoId;
use liverank_core::counting::{Batch, LogRecord, OffsetRange, UniqueKinds};
use liverank_core::event::NEWEST_RECORD_FORMAT;
use liverank_core::moderation::ModerationAction;
use liverank_runtime::ServiceContext;
use tokio_util::task::AbortOnDropHandle;

use crate::batches::{GatheredBatch, OptionalCounting, WaitingPartition};
use crate::committed::{BoardChanges, CommittedBatch};
use crate::metrics::ConsumerMetrics;
use crate::pace::retry_until_done;
use crate::projector::ProjectionQueue;
use crate::stores::{ARCHIVE, LOG};
use crate::traces::{FoundTraces, TracedRecord};
use crate::{Config, STORE_RETRY_BACKOFF, traces};

/// Maximum time to wait for records before shutdown is checked again; a record ends the wait at once.
const POLL_TIMEOUT: Duration = Duration::from_millis(250);
/// Pause before a partition is claimed again after another consumer claimed it. Within the pause the log tells one of
/// the two consumers that the partition is not theirs: a group member that was away learns this with its next
/// heartbeat.
const CONTESTED_PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of records parsed at a time: parsing them takes a few milliseconds, in which the task does nothing
/// else.
const MAX_RECORDS_A_POLL: usize = 5_000;
/// Duration of a commit above which the next batch is made smaller: everything behind a commit, comments too, waits as
/// long. This duration is a fifth of the archive's time limit for a batch, so that a store that becomes slower does
/// not refuse a batch of the size that it accepted before.
const SLOW_COMMIT_TIME: Duration = Duration::from_secs(2);

/// Counts events until shutdown and passes committed batches to the projector. At shutdown, the function waits for the
/// commit that is running; records that were read later are left to the next consumer.
pub async fn run(
    config: &Config,
    backends: &Backends,
    shell: &ServiceContext,
    projection_queue: ProjectionQueue,
    metrics: &ConsumerMetrics,
) -> anyhow::Result<()> {
    let Some(log) =
        retry_until_done(shell, LOG, "joining the consumers", || backends.log.join_consumer_group()).await?
    else {
        return Ok(());
    };
    let mut counter = LogCounter {
        log,
        backends,
        shell,
        projection_queue,
        metrics,
        max_batch_events: config.batch as usize,
        next_batch_limit: config.batch as usize,
        unique_kinds: UniqueKinds::ALL,
        optional_counting: OptionalCounting::MAXIMUM,
        owned_positions: BTreeMap::new(),
        read_positions: BTreeMap::new(),
        gathered: GatheredBatch::default(),
        traced_records: Vec::new(),
        running_commit: None,
        claims_due: BTreeMap::new(),
        waiting_partitions: BTreeMap::new(),
        dead_letters_newer_formats: config.dead_letter_newer_formats,
        failures_in_a_row: 0,
        failed_stores: BTreeSet::new(),
    };
    while !shell.shutdown.is_cancelled() {
        counter.poll_or_finish_commit().await?;
    }
    if let Some(commit) = counter.running_commit.take() {
        counter.handle_commit_end(join_commit(commit).await?).await?;
    }
    Ok(())
}

/// A commit that has ended, with its batch and its outcome.
struct EndedCommit {
    batch: Batch,
    traced_records: Vec<TracedRecord>,
    /// The result of the commit; `None` if shutdown came first, in which case nothing of the batch has counted.
    outcome: Option<Result<CommitResult, CommitError>>,
    dead_letter_count: usize,
    duration: Duration,
}

struct LogCounter<'a> {
    log: Box<dyn LogConsumer>,
    backends: &'a Backends,
    shell: &'a ServiceContext,
    projection_queue: ProjectionQueue,
    metrics: &'a ConsumerMetrics,
    /// Maximum number of events in a batch, as configured.
    max_batch_events: usize,
    /// Maximum number of events in the next batch. The number is halved when the archive fails, because the batch may
    /// be too large for the archive; after a success it follows [`next_batch_size`].
    next_batch_limit: usize,
    /// The types of which each event leaves a mark in the archive; all types until the first commit returns the real
    /// ones.
    unique_kinds: UniqueKinds,
    /// The optional state that the archive counts; the largest possible until the first commit returns the real one.
    optional_counting: OptionalCounting,
    /// The archive's position in each partition that this consumer owns.
    owned_positions: BTreeMap<u32, ArchivePosition>,
    /// The position in each partition once all records that were read are committed.
    read_positions: BTreeMap<u32, ArchivePosition>,
    gathered: GatheredBatch,
    /// The records of the gathered batch for which spans are recorded.
    traced_records: Vec<TracedRecord>,
    running_commit: Option<AbortOnDropHandle<anyhow::Result<EndedCommit>>>,
    /// Partitions that the log assigned to this consumer and that are not claimed in the archive yet, with the time at
    /// which to claim each.
    claims_due: BTreeMap<u32, Instant>,
    /// Partitions that are not read any further, with the record at which each waits for a later release of this
    /// program. Records of these partitions that still arrive are dropped; the consumer that continues a partition
    /// reads them again.
    waiting_partitions: BTreeMap<u32, WaitingPartition>,
    /// Whether records of a later release become dead letters, instead of being waited for.
    dead_letters_newer_formats: bool,
    /// Number of failures in a row, for the backoff of the next try.
    failures_in_a_row: u32,
    /// The stores that failed since the last success.
    failed_stores: BTreeSet<&'static str>,
}

impl LogCounter<'_> {
    async fn poll_or_finish_commit(&mut self) -> anyhow::Result<()> {
        if self.running_commit.is_none() {
            self.claim_due_partitions().await?;
            self.begin_commit();
        }
        let room =
            self.next_batch_limit.saturating_sub(self.gathered.batch.records.len()).min(MAX_RECORDS_A_POLL);
        let room = if self.gathered.has_room() { room } else { 0 };
        tokio::select! {
            ended = wait_for_commit_end(&mut self.running_commit) => {
                self.running_commit = None;
                self.handle_commit_end(ended?).await
            }
            polled = self.log.next_event(room, POLL_TIMEOUT), if room > 0 => self.handle_poll_result(polled).await,
        }
    }

    async fn handle_poll_result(&mut self, polled: Result<ConsumerEvent, StoreError>) -> anyhow::Result<()> {
        match polled {
            Ok(ConsumerEvent::Idle) => {}
            Ok(ConsumerEvent::Assigned(partitions)) => {
                self.claims_due.extend(partitions.into_iter().map(|partition| (partition, Instant::now())));
            }
            Ok(ConsumerEvent::Revoked(partitions)) => {
                self.drop_uncommitted_records(&partitions);
                self.owned_positions.retain(|partition, _| !partitions.contains(partition));
                self.claims_due.retain(|partition, _| !partitions.contains(partition));
                self.publish_owned_partitions();
            }
            Ok(ConsumerEvent::Records(records)) => self.gather_records(records),
            Err(error) => self.handle_store_error(LOG, error).await?,
        }
        Ok(())
    }

    fn gather_records(&mut self, mut records: Vec<RawRecord>) {
        if !self.waiting_partitions.is_empty() {
            records.retain(|record| !self.waiting_partitions.contains_key(&record.partition));
        }
        let waits = !self.dead_letters_newer_formats;
        let tracer = &self.shell.tracer;
        let found = FoundTraces::find_among(&records, self.traced_records.len(), tracer);
        let sorted = self.gathered.classify(&records, &self.read_positions, |_| waits);
        self.read_positions.extend(sorted.batch.offset_ranges.iter().map(position_after));
        self.traced_records.extend(found.begin_spans(&sorted.batch.offset_ranges, tracer));
        for waiting in &sorted.waiting_partitions {
            let WaitingPartition { partition, offset, format } = *waiting;
            tracing::error!(
                partition,
                offset,
                format,
                "this partition waits: a record of a later release is next, and this release reads formats up to \
                 {NEWEST_RECORD_FORMAT}; start consumers of the release that wrote it"
            );
            self.waiting_partitions.insert(partition, *waiting);
        }
        self.gathered.append_classified(sorted, self.unique_kinds, self.optional_counting);
        self.metrics.waiting_partitions.set(self.waiting_partitions.len() as i64);
    }

    /// Drops the records of these partitions that were read and whose commit has not begun.
    fn drop_uncommitted_records(&mut self, partitions: &[u32]) {
        self.read_positions.retain(|partition, _| !partitions.contains(partition));
        self.gathered.drop_partitions(partitions);
        traces::drop_partitions(&mut self.traced_records, partitions);
        self.waiting_partitions.retain(|partition, _| !partitions.contains(partition));
        self.metrics.waiting_partitions.set(self.waiting_partitions.len() as i64);
    }

    /// Starts the commit of the gathered batch, if it covers any records.
    fn begin_commit(&mut self) {
        let GatheredBatch { batch, unreadable_records: poison, .. } = std::mem::take(&mut self.gathered);
        if batch.offset_ranges.is_empty() {
            return;
        }
        let traced_records = std::mem::take(&mut self.traced_records);
        let (backends, shell) = (self.backends.clone(), self.shell.clone());
        let commit = tokio::spawn(async move {
            for letter in &poison {
                if retry_until_done(&shell, LOG, "writing a dead letter", || {
                    backends.log.append_dead_letter(letter)
                })
                .await?
                .is_none()
                {
                    return Ok(EndedCommit {
                        batch,
                        traced_records,
                        outcome: None,
                        dead_letter_count: 0,
                        duration: Duration::ZERO,
                    });
                }
            }
            let started = Instant::now();
            let outcome = Some(backends.archive.commit_batch(&batch).await);
            Ok(EndedCommit {
                batch,
                traced_records,
                outcome,
                dead_letter_count: poison.len(),
                duration: started.elapsed(),
            })
        });
        self.running_commit = Some(AbortOnDropHandle::new(commit));
    }

    /// Claims the partitions that are due in the archive, and reads them from the archive's offset on, whatever offset
    /// the log has noted for this consumer group.
    async fn claim_due_partitions(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<u32> = self
            .claims_due
            .iter()
            .filter(|(_, when)| **when <= now)
            .map(|(partition, _)| *partition)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let archive = &self.backends.archive;
        let taken =
            retry_until_done(self.shell, ARCHIVE, "taking partitions up", || archive.claim_partitions(&due))
                .await?;
        let Some(positions) = taken else { return Ok(()) };
        self.begin_partitions(due.into_iter().zip(positions).collect()).await
    }

    /// Starts reading these partitions at these positions.
    async fn begin_partitions(&mut self, positions: Vec<(u32, ArchivePosition)>) -> anyhow::Result<()> {
        let partitions: Vec<u32> = positions.iter().map(|(partition, _)| *partition).collect();
        self.drop_uncommitted_records(&partitions);
        let starts: Vec<ReadStart> = positions
            .iter()
            .map(|(partition, position)| ReadStart {
                partition: *partition,
                offset: position.next_offset,
                previous_record: position.last_record,
            })
            .collect();
        let started = if starts.is_empty() { Ok(()) } else { self.log.start_partitions(&starts).await };
        match started {
            Ok(()) => {
                self.claims_due
                    .retain(|partition, _| !positions.iter().any(|(started, _)| started == partition));
                self.read_positions.extend(positions.iter().copied());
                self.owned_positions.extend(positions);
            }
            Err(error) => {
                for (partition, _) in positions {
                    self.owned_positions.remove(&partition);
                    self.claims_due.insert(partition, Instant::now());
                }
                self.handle_store_error(LOG, error).await?;
            }
        }
        self.publish_owned_partitions();
        Ok(())
    }

    fn publish_owned_partitions(&self) {
        let owned: Vec<u32> = self.owned_positions.keys().copied().collect();
        self.metrics.owned_partitions.set(owned.len() as i64);
        if self.projection_queue.set_owned_partitions(owned.clone()) {
            tracing::info!(partitions = ?owned, "partitions owned");
        }
    }

    async fn handle_commit_end(&mut self, ended: EndedCommit) -> anyhow::Result<()> {
        let EndedCommit { batch, traced_records: mut traced, outcome, dead_letter_count, duration } = ended;
        if !matches!(outcome, Some(Ok(_))) {
            traces::mark_failed(&mut traced);
        }
        self.metrics.unreadable_records.inc_by(dead_letter_count as u64);
        match outcome {
            None => Ok(()),
            Some(Ok(committed)) => {
                self.metrics.commit_seconds.observe(duration.as_secs_f64());
                self.next_batch_limit = next_batch_size(
                    self.next_batch_limit,
                    self.max_batch_events,
                    batch.records.len(),
                    duration,
                );
                self.pass_to_projector(batch, traced, committed).await;
                Ok(())
            }
            Some(Err(CommitError::PositionMismatch { partition, expected, actual })) => {
                self.metrics.batches_fenced.inc();
                tracing::warn!(
                    partition,
                    "offset fence mismatch: expected {expected}, found {actual}; going on from there"
                );
                self.return_to_archive_position(&batch).await
            }
            Some(Err(CommitError::TakenOver { partition })) => {
                self.metrics.batches_fenced.inc();
                tracing::warn!(partition, "another consumer took this partition up");
                self.release_contested(&batch, partition).await
            }
            Some(Err(CommitError::Store(error))) => {
                self.handle_store_error(ARCHIVE, error).await?;
                self.next_batch_limit = (self.next_batch_limit / 2).max(1);
                // The batch may be committed or not: the archive's offsets tell, and the offsets on the boards tell
                // the projector.
                self.projection_queue.note_missed_batch();
                self.return_to_archive_position(&batch).await
            }
        }
    }

    async fn pass_to_projector(&mut self, batch: Batch, traced: Vec<TracedRecord>, committed: CommitResult) {
        self.note_success();
        let CommitResult { batch_effects: effects, meta_in_force: meta, stores_identity_documents } =
            committed;
        self.unique_kinds = meta.counting_rules.unique;
        let (window_kind_count, half_life_count) = (meta.windows.iter().len(), meta.decays.iter().len());
        self.optional_counting = OptionalCounting {
            window_kind_count,
            half_life_count,
            identity_documents: stores_identity_documents,
        };
        self.metrics.batch_events.observe(batch.records.len() as f64);
        self.metrics.events_counted.inc_by(effects.counted_event_count);
        self.metrics.events_repeated.inc_by(effects.repeated_event_count);
        let next: Vec<(u32, u64)> =
            batch.offset_ranges.iter().map(|span| (span.partition, span.next)).collect();
        for (partition, position) in batch.offset_ranges.iter().map(position_after) {
            // A partition that was revoked meanwhile does not become owned again by this commit.
            if let Some(stands) = self.owned_positions.get_mut(&partition) {
                *stands = position;
            }
        }
        let traced = traces::end_counting_spans(traced, batch.records.len());
        let described = described_videos(&batch.records);
        let (spans, committed) = (batch.offset_ranges, Instant::now());
        if !(effects.comments.is_empty()
            && effects.audit_entries.is_empty()
            && effects.held_comment_changes.is_empty())
        {
            self.projection_queue.note_exportable();
        }
        let (changed, new_comments) = BoardChanges::of(effects);
        let board_changes = Arc::new(changed);
        let done = CommittedBatch {
            offset_ranges: spans,
            board_changes,
            new_comments,
            described_videos: described,
            archive_meta: meta,
            committed_at: committed,
            traced_records: traced,
        };
        self.projection_queue.send_batch(done).await;
        self.log.report_offsets(&next).await;
    }

    /// Restarts at the archive's offset all partitions of the batch and of the records read after it, because it is
    /// unknown whether the batch was committed.
    async fn return_to_archive_position(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let partitions = self.partitions_in_doubt(batch);
        let archive = &self.backends.archive;
        let positions = retry_until_done(self.shell, ARCHIVE, "reading offsets", || {
            archive.partition_positions(&partitions)
        })
        .await?;
        let Some(positions) = positions else { return Ok(()) };
        self.begin_partitions(partitions.into_iter().zip(positions).collect()).await
    }

    /// Releases a partition until the log has said who owns it, and restarts the other partitions of the batch at
    /// their last committed position.
    async fn release_contested(&mut self, batch: &Batch, partition: u32) -> anyhow::Result<()> {
        let others = self.partitions_in_doubt(batch).into_iter().filter(|other| *other != partition);
        let others: Vec<_> =
            others.filter_map(|other| Some((other, *self.owned_positions.get(&other)?))).collect();
        self.drop_uncommitted_records(&[partition]);
        if self.owned_positions.remove(&partition).is_some() {
            self.claims_due.insert(partition, Instant::now() + CONTESTED_PAUSE);
        }
        self.begin_partitions(others).await
    }

    /// Returns the partitions that are still owned and that the batch, or the records read after it, cover.
    fn partitions_in_doubt(&self, batch: &Batch) -> Vec<u32> {
        let spans = batch.offset_ranges.iter().chain(&self.gathered.batch.offset_ranges);
        let mut partitions: Vec<u32> = spans.map(|span| span.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.retain(|partition| self.owned_positions.contains_key(partition));
        partitions
    }

    async fn handle_store_error(&mut self, store: &'static str, error: StoreError) -> anyhow::Result<()> {
        if !error.is_transient() {
            return Err(error.into());
        }
        self.failed_stores.insert(store);
        self.shell.health.note_dependency(store, Err(error.to_string()));
        STORE_RETRY_BACKOFF.pause_after(self.failures_in_a_row, self.shell).await;
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        Ok(())
    }

    fn note_success(&mut self) {
        self.failures_in_a_row = 0;
        for store in std::mem::take(&mut self.failed_stores) {
            self.shell.health.note_dependency(store, Ok(()));
        }
    }
}

/// Returns the maximum number of events of the next batch, after a batch of `events` events took the time `took` to
/// commit. `size` was the maximum of that batch, `most` is the configured maximum.
fn next_batch_size(size: usize, most: usize, events: usize, took: Duration) -> usize {
    if took > SLOW_COMMIT_TIME {
        // A batch that is already small is not slow because of its size.
        let fitting = events as f64 * SLOW_COMMIT_TIME.as_secs_f64() / took.as_secs_f64();
        return (fitting as usize).max(MAX_RECORDS_A_POLL).min(size);
    }
    if took > SLOW_COMMIT_TIME / 2 { size } else { (size * 2).min(most) }
}

/// Returns the videos whose metadata these records set, or which they remove from the boards. An action may have been
/// without permission; the state of the video after the batch tells whether it had an effect.
fn described_videos(records: &[LogRecord]) -> Vec<VideoId> {
    let describes = |record: &&LogRecord| {
        let moderation = record.event.moderation.as_deref();
        moderation.is_some_and(|it| {
            matches!(it.action, ModerationAction::PutVideo { .. } | ModerationAction::RemoveVideo)
        })
    };
    records.iter().filter(describes).map(|record| record.event.video_id.clone()).collect()
}

/// Returns the partition of an offset range and the archive's position after the range.
fn position_after(span: &OffsetRange) -> (u32, ArchivePosition) {
    (span.partition, ArchivePosition { next_offset: span.next, last_record: span.last_record })
}

/// Waits for the end of the commit that is under way; waits for ever if there is none.
async fn wait_for_commit_end(
    under_way: &mut Option<AbortOnDropHandle<anyhow::Result<EndedCommit>>>,
) -> anyhow::Result<EndedCommit> {
    match under_way {
        Some(commit) => join_commit(commit).await,
        None => std::future::pending().await,
    }
}

/// Waits for a commit's task. A panic of the task continues as a panic of the caller.
async fn join_commit(
    commit: impl Future<Output = Result<anyhow::Result<EndedCommit>, tokio::task::JoinError>>,
) -> anyhow::Result<EndedCommit> {
    match commit.await {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_takes_long_makes_the_next_one_smaller() {
        let next = |size, events, ms| next_batch_size(size, 200_000, events, Duration::from_millis(ms));
        assert_eq!(next(200_000, 200_000, 4_000), 100_000);
        assert_eq!(next(100_000, 100_000, 1_999), 100_000, "as long as it may");
        assert_eq!(next(100_000, 100_000, 900), 200_000);
        assert_eq!(next(200_000, 200_000, 900), 200_000, "as configured");
        assert_eq!(next(200_000, 3, 9_000), MAX_RECORDS_A_POLL, "something else was slow");
        assert_eq!(next(1, 1, 9_000), 1, "one that was made small is not made larger by slowness");
    }
}
