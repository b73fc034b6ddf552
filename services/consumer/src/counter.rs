//! From the log into the archive: the one place where an event counts.
//!
//! While one commit is under way, what comes meanwhile is read and parsed into the next batch. So batches grow with the
//! load, and a calm log is committed at once. Nothing is decided by what was read ahead: when a commit is refused or its
//! fate is unknown, what was read after it is dropped and read again from where the archive stands.

use std::collections::BTreeMap;
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

use crate::batches::{CountedBesides, GatheredBatch, WaitingPartition};
use crate::metrics::ConsumerMetrics;
use crate::pace::retry_until_done;
use crate::projector::{Changed, CommittedBatch, ProjectionQueue};
use crate::traces::{FoundTraces, TracedRecord};
use crate::{Config, STORE_RETRY_BACKOFF, traces};

/// How long to wait for records before looking at the shutdown again; a record ends the wait at once.
const POLL_TIMEOUT: Duration = Duration::from_millis(250);
/// Who finds that a partition was taken up by another waits this long before taking it up again. By then the log has
/// told one of the two that it is not theirs: a member of the group that was away learns so with its next heartbeat.
const CONTESTED_PAUSE: Duration = Duration::from_secs(1);
/// Records parsed at a time: a few milliseconds, in which nothing else is looked at.
const MAX_RECORDS_A_POLL: usize = 5_000;
/// How long a commit may take before the next one is made smaller: what comes behind it waits as long, comments, too. It is a
/// fifth of what the archive gives a batch, so that a store that becomes slower does not refuse what it took before.
const SLOW_COMMIT_TIME: Duration = Duration::from_secs(2);

/// Counts until shutdown, feeding the projector. A commit that is under way then is waited for; what was read after it
/// is the next consumer's.
pub async fn run(
    config: &Config,
    backends: &Backends,
    shell: &ServiceContext,
    feed: ProjectionQueue,
    metrics: &ConsumerMetrics,
) -> anyhow::Result<()> {
    let Some(log) =
        retry_until_done(shell, "joining the consumers", || backends.log.join_consumers()).await?
    else {
        return Ok(());
    };
    let mut counter = LogCounter {
        log,
        backends,
        shell,
        feed,
        metrics,
        max_batch_events: config.batch as usize,
        batch: config.batch as usize,
        unique: UniqueKinds::ALL,
        besides: CountedBesides::MOST,
        owned: BTreeMap::new(),
        read: BTreeMap::new(),
        gathered: GatheredBatch::default(),
        traced: Vec::new(),
        under_way: None,
        claims_due: BTreeMap::new(),
        waiting: BTreeMap::new(),
        dead_letter_newer: config.dead_letter_newer_formats,
        failures: 0,
        failed_store: None,
    };
    while !shell.shutdown.is_cancelled() {
        counter.poll_or_settle().await?;
    }
    if let Some(commit) = counter.under_way.take() {
        counter.handle_commit_end(ended(commit).await?).await?;
    }
    Ok(())
}

/// A commit that has ended.
struct EndedCommit {
    batch: Batch,
    traced: Vec<TracedRecord>,
    /// `None` where shutdown came first: nothing of the batch has counted.
    outcome: Option<Result<CommitResult, CommitError>>,
    dead_letters: usize,
    took: Duration,
}

struct LogCounter<'a> {
    log: Box<dyn LogConsumer>,
    backends: &'a Backends,
    shell: &'a ServiceContext,
    feed: ProjectionQueue,
    metrics: &'a ConsumerMetrics,
    /// Events of a batch at most, as configured.
    max_batch_events: usize,
    /// Events of the next batch at most: halved when the archive fails, for it may be the batch's size that it cannot
    /// take; by [`next_batch_size`] when it works.
    batch: usize,
    /// The types of which each event leaves a mark in the archive: any, until a commit has told.
    unique: UniqueKinds,
    /// How much is counted besides: as much as may be, until a commit has told.
    besides: CountedBesides,
    /// Where each partition stands that we count.
    owned: BTreeMap<u32, ArchivePosition>,
    /// Where each will stand when all that was read is committed.
    read: BTreeMap<u32, ArchivePosition>,
    gathered: GatheredBatch,
    /// Of what was gathered, the records of which spans are recorded.
    traced: Vec<TracedRecord>,
    under_way: Option<AbortOnDropHandle<anyhow::Result<EndedCommit>>>,
    /// Partitions that the log gave us and that are not taken up yet, and when to do it.
    claims_due: BTreeMap<u32, Instant>,
    /// Partitions that are not read any further, and the record at which each waits for another release of this program.
    /// What comes of them meanwhile is dropped: whoever goes on with them reads it again.
    waiting: BTreeMap<u32, WaitingPartition>,
    /// Whether such records become dead letters instead.
    dead_letter_newer: bool,
    /// Failures in a row, for the pace of trying again.
    failures: u32,
    /// The store that failed last and has not worked since.
    failed_store: Option<&'static str>,
}

impl LogCounter<'_> {
    async fn poll_or_settle(&mut self) -> anyhow::Result<()> {
        if self.under_way.is_none() {
            self.claim_due_partitions().await?;
            self.begin_commit();
        }
        let room = self.batch.saturating_sub(self.gathered.batch.records.len()).min(MAX_RECORDS_A_POLL);
        let room = if self.gathered.has_room() { room } else { 0 };
        tokio::select! {
            ended = commit_end(&mut self.under_way) => {
                self.under_way = None;
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
                self.drop_read(&partitions);
                self.owned.retain(|partition, _| !partitions.contains(partition));
                self.claims_due.retain(|partition, _| !partitions.contains(partition));
                self.tell_owned_changed();
            }
            Ok(ConsumerEvent::Records(records)) => self.gather_records(records),
            Err(error) => self.handle_store_error(error).await?,
        }
        Ok(())
    }

    fn gather_records(&mut self, mut records: Vec<RawRecord>) {
        if !self.waiting.is_empty() {
            records.retain(|record| !self.waiting.contains_key(&record.partition));
        }
        let waits = !self.dead_letter_newer;
        let tracer = &self.shell.tracer;
        let found = FoundTraces::find_among(&records, self.traced.len(), tracer);
        let sorted = self.gathered.sort(&records, &self.read, |_| waits);
        self.read.extend(sorted.batch.offset_ranges.iter().map(position_after));
        self.traced.extend(found.begin_spans(&sorted.batch.offset_ranges, tracer));
        for waiting in &sorted.waiting_partitions {
            let WaitingPartition { partition, offset, format } = *waiting;
            tracing::error!(
                partition,
                offset,
                format,
                "this partition waits: a record of a later release is next, and this release reads formats up to \
                 {NEWEST_RECORD_FORMAT}; start consumers of the release that wrote it"
            );
            self.waiting.insert(partition, *waiting);
        }
        self.gathered.append_sorted(sorted, self.unique, self.besides);
        self.metrics.waiting_partitions.set(self.waiting.len() as i64);
    }

    /// Forgets what was read of these partitions and is not being committed.
    fn drop_read(&mut self, partitions: &[u32]) {
        self.read.retain(|partition, _| !partitions.contains(partition));
        self.gathered.drop_partitions(partitions);
        traces::drop_partitions(&mut self.traced, partitions);
        self.waiting.retain(|partition, _| !partitions.contains(partition));
        self.metrics.waiting_partitions.set(self.waiting.len() as i64);
    }

    /// Commits what was gathered, if anything was.
    fn begin_commit(&mut self) {
        let GatheredBatch { batch, unreadable_records: poison, .. } = std::mem::take(&mut self.gathered);
        if batch.offset_ranges.is_empty() {
            return;
        }
        let traced = std::mem::take(&mut self.traced);
        let (backends, shell) = (self.backends.clone(), self.shell.clone());
        let commit = tokio::spawn(async move {
            for letter in &poison {
                if retry_until_done(&shell, "writing a dead letter", || {
                    backends.log.append_dead_letter(letter)
                })
                .await?
                .is_none()
                {
                    return Ok(EndedCommit {
                        batch,
                        traced,
                        outcome: None,
                        dead_letters: 0,
                        took: Duration::ZERO,
                    });
                }
            }
            let started = Instant::now();
            let outcome = Some(backends.archive.commit_batch(&batch).await);
            Ok(EndedCommit { batch, traced, outcome, dead_letters: poison.len(), took: started.elapsed() })
        });
        self.under_way = Some(AbortOnDropHandle::new(commit));
    }

    /// Makes the partitions that are due ours in the archive, too, and goes on where it stands, whatever the log thinks
    /// of this group's progress.
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
            retry_until_done(self.shell, "taking partitions up", || archive.claim_partitions(&due)).await?;
        let Some(positions) = taken else { return Ok(()) };
        self.begin_partitions(due.into_iter().zip(positions).collect()).await
    }

    /// Reads these partitions from these positions on.
    async fn begin_partitions(&mut self, positions: Vec<(u32, ArchivePosition)>) -> anyhow::Result<()> {
        let partitions: Vec<u32> = positions.iter().map(|(partition, _)| *partition).collect();
        self.drop_read(&partitions);
        let starts: Vec<ReadStart> = positions
            .iter()
            .map(|(partition, position)| ReadStart {
                partition: *partition,
                offset: position.next_offset,
                previous_record: position.last_record,
            })
            .collect();
        let started = if starts.is_empty() { Ok(()) } else { self.log.start(&starts).await };
        match started {
            Ok(()) => {
                self.claims_due
                    .retain(|partition, _| !positions.iter().any(|(started, _)| started == partition));
                self.read.extend(positions.iter().copied());
                self.owned.extend(positions);
            }
            Err(error) => {
                for (partition, _) in positions {
                    self.owned.remove(&partition);
                    self.claims_due.insert(partition, Instant::now());
                }
                self.handle_store_error(error).await?;
            }
        }
        self.tell_owned_changed();
        Ok(())
    }

    fn tell_owned_changed(&self) {
        let owned: Vec<u32> = self.owned.keys().copied().collect();
        self.metrics.owned_partitions.set(owned.len() as i64);
        if self.feed.owned(owned.clone()) {
            tracing::info!(partitions = ?owned, "partitions owned");
        }
    }

    async fn handle_commit_end(&mut self, ended: EndedCommit) -> anyhow::Result<()> {
        let EndedCommit { batch, mut traced, outcome, dead_letters, took } = ended;
        if !matches!(outcome, Some(Ok(_))) {
            traces::mark_failed(&mut traced);
        }
        self.metrics.unreadable_records.inc_by(dead_letters as u64);
        match outcome {
            None => Ok(()),
            Some(Ok(committed)) => {
                self.metrics.commit_seconds.observe(took.as_secs_f64());
                self.batch = next_batch_size(self.batch, self.max_batch_events, batch.records.len(), took);
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
                self.handle_store_error(error).await?;
                self.batch = (self.batch / 2).max(1);
                // The batch may be in: the archive's offsets tell, and the boards' offsets tell the projector.
                self.feed.missed();
                self.return_to_archive_position(&batch).await
            }
        }
    }

    async fn pass_to_projector(&mut self, batch: Batch, traced: Vec<TracedRecord>, committed: CommitResult) {
        self.note_success();
        let CommitResult { batch_effects: effects, meta_in_force: meta, identity_documents } = committed;
        self.unique = meta.counting_rules.unique;
        let (windows, decays) = (meta.windows.iter().len(), meta.decays.iter().len());
        self.besides = CountedBesides { windows, decays, identity_documents };
        self.metrics.batch_events.observe(batch.records.len() as f64);
        self.metrics.events_counted.inc_by(effects.counted_events);
        self.metrics.events_repeated.inc_by(effects.repeated_events);
        let next: Vec<(u32, u64)> =
            batch.offset_ranges.iter().map(|span| (span.partition, span.next)).collect();
        for (partition, position) in batch.offset_ranges.iter().map(position_after) {
            // One that was revoked meanwhile is not ours again by this.
            if let Some(stands) = self.owned.get_mut(&partition) {
                *stands = position;
            }
        }
        let traced = traces::end_counting(traced, batch.records.len());
        let described = described_videos(&batch.records);
        let (spans, committed) = (batch.offset_ranges, Instant::now());
        if !(effects.comments.is_empty()
            && effects.audit_entries.is_empty()
            && effects.held_changes.is_empty())
        {
            self.feed.note_exportable();
        }
        let (changed, comments) = Changed::of(effects);
        let changed = Arc::new(changed);
        let done = CommittedBatch {
            offset_ranges: spans,
            changed,
            comments,
            described,
            archive_meta: meta,
            committed_at: committed,
            traced_records: traced,
        };
        self.feed.hand_over_batch(done).await;
        self.log.report_offsets(&next).await;
    }

    /// Goes on where the archive stands in the partitions of the batch and of what was read after it: nobody knows
    /// whether the batch is in.
    async fn return_to_archive_position(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let partitions = self.partitions_in_doubt(batch);
        let archive = &self.backends.archive;
        let positions =
            retry_until_done(self.shell, "reading offsets", || archive.partition_positions(&partitions))
                .await?;
        let Some(positions) = positions else { return Ok(()) };
        self.begin_partitions(partitions.into_iter().zip(positions).collect()).await
    }

    /// Lets go of a partition until the log has said whose it is, and goes back to where the others stood.
    async fn release_contested(&mut self, batch: &Batch, partition: u32) -> anyhow::Result<()> {
        let others = self.partitions_in_doubt(batch).into_iter().filter(|other| *other != partition);
        let others: Vec<_> = others.filter_map(|other| Some((other, *self.owned.get(&other)?))).collect();
        self.drop_read(&[partition]);
        if self.owned.remove(&partition).is_some() {
            self.claims_due.insert(partition, Instant::now() + CONTESTED_PAUSE);
        }
        self.begin_partitions(others).await
    }

    /// The partitions that a batch covers, or what was read after it, and that are still ours.
    fn partitions_in_doubt(&self, batch: &Batch) -> Vec<u32> {
        let spans = batch.offset_ranges.iter().chain(&self.gathered.batch.offset_ranges);
        let mut partitions: Vec<u32> = spans.map(|span| span.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.retain(|partition| self.owned.contains_key(partition));
        partitions
    }

    async fn handle_store_error(&mut self, error: StoreError) -> anyhow::Result<()> {
        if !error.is_transient() {
            return Err(error.into());
        }
        self.failed_store = Some(error.part());
        self.shell.health.note_dependency(error.part(), Err(error.to_string()));
        STORE_RETRY_BACKOFF.pause_after(self.failures, self.shell).await;
        self.failures = self.failures.saturating_add(1);
        Ok(())
    }

    fn note_success(&mut self) {
        self.failures = 0;
        if let Some(part) = self.failed_store.take() {
            self.shell.health.note_dependency(part, Ok(()));
        }
    }
}

/// How many events the next batch may have, after one of `events`, of `size` at most, took so long to commit.
fn next_batch_size(size: usize, most: usize, events: usize, took: Duration) -> usize {
    if took > SLOW_COMMIT_TIME {
        // It is not the size that makes a small one slow.
        let fitting = events as f64 * SLOW_COMMIT_TIME.as_secs_f64() / took.as_secs_f64();
        return (fitting as usize).max(MAX_RECORDS_A_POLL).min(size);
    }
    if took > SLOW_COMMIT_TIME / 2 { size } else { (size * 2).min(most) }
}

/// The videos of which these records say what they are, or that they are on no board. Whether each was one to say so, the state
/// that it leads to tells.
fn described_videos(records: &[LogRecord]) -> Vec<VideoId> {
    let describes = |record: &&LogRecord| {
        let moderation = record.event.moderation.as_deref();
        moderation.is_some_and(|it| {
            matches!(it.action, ModerationAction::PutVideo { .. } | ModerationAction::RemoveVideo)
        })
    };
    records.iter().filter(describes).map(|record| record.event.video_id.clone()).collect()
}

/// Where a partition stands after this.
fn position_after(span: &OffsetRange) -> (u32, ArchivePosition) {
    (span.partition, ArchivePosition { next_offset: span.next, last_record: span.last_record })
}

/// The end of a commit that is under way; for ever away where none is.
async fn commit_end(
    under_way: &mut Option<AbortOnDropHandle<anyhow::Result<EndedCommit>>>,
) -> anyhow::Result<EndedCommit> {
    match under_way {
        Some(commit) => ended(commit).await,
        None => std::future::pending().await,
    }
}

/// A panic of the commit is one of its owner.
async fn ended(
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
