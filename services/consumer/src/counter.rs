//! From the log into the archive: the one place where an event counts.
//!
//! While one commit is under way, what comes meanwhile is read and parsed into the next batch. So batches grow with the
//! load, and a calm log is committed at once. Nothing is decided by what was read ahead: when a commit is refused or its
//! fate is unknown, what was read after it is dropped and read again from where the archive stands.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use liverank_adapters::archive::{CommitError, Committed, Position};
use liverank_adapters::event_log::{ConsumerEvent, DeadLetter, LogConsumer, RawRecord, Start};
use liverank_adapters::{Backends, StoreError};
use liverank_core::counting::{Batch, LogRecord, OffsetRange};
use liverank_core::event::FORMAT;
use liverank_core::{Interaction, Unreadable};
use liverank_runtime::ServiceContext;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::ConsumerMetrics;
use crate::pace::until_done;
use crate::projector::{CommittedBatch, ProjectionQueue};
use crate::{Config, RETRY};

/// How long to wait for records before looking at the shutdown again; a record ends the wait at once.
const IDLE: Duration = Duration::from_millis(250);
/// Who finds that a partition was taken up by another waits this long before taking it up again. By then the log has
/// told one of the two that it is not theirs: a member of the group that was away learns so with its next heartbeat.
const CONTESTED: Duration = Duration::from_secs(1);
/// Records parsed at a time: a few milliseconds, in which nothing else is looked at.
const AT_ONCE: usize = 5_000;
/// Bytes that the records of a batch may take of the archive's memory while it is committed, by [`taken`]. A MongoDB with
/// the least cache that we run on (512 MiB) refuses a transaction that changes some 75 MiB, and slows down all others
/// before that. Here the records take less; there are two batches: one under way, one that is gathered.
const MOST_TAKEN: usize = 48 << 20;

/// Counts until shutdown, feeding the projector. A commit that is under way then is waited for; what was read after it
/// is the next consumer's.
pub async fn run(
    config: &Config,
    backends: &Backends,
    shell: &ServiceContext,
    feed: ProjectionQueue,
    metrics: &ConsumerMetrics,
) -> anyhow::Result<()> {
    let Some(log) = until_done(shell, "joining the consumers", || backends.log.consume()).await? else {
        return Ok(());
    };
    let mut counter = Counter {
        log,
        backends,
        shell,
        feed,
        metrics,
        most: config.batch as usize,
        batch: config.batch as usize,
        owned: BTreeMap::new(),
        read: BTreeMap::new(),
        gathered: Gathered::default(),
        under_way: None,
        due: BTreeMap::new(),
        waiting: BTreeMap::new(),
        bury_newer: config.bury_newer_formats,
        failures: 0,
        away: None,
    };
    while !shell.shutdown.is_cancelled() {
        counter.step().await?;
    }
    if let Some(commit) = counter.under_way.take() {
        counter.settle(ended(commit).await?).await?;
    }
    Ok(())
}

/// What was read and is not being committed yet.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    /// What of it could not be read, to be buried before its offsets are committed.
    poison: Vec<DeadLetter>,
    /// What the records take, by [`taken`].
    taken: usize,
}

/// A commit that has ended.
struct Ended {
    batch: Batch,
    /// `None` where shutdown came first: nothing of the batch has counted.
    outcome: Option<Result<Committed, CommitError>>,
    buried: usize,
    took: Duration,
}

struct Counter<'a> {
    log: Box<dyn LogConsumer>,
    backends: &'a Backends,
    shell: &'a ServiceContext,
    feed: ProjectionQueue,
    metrics: &'a ConsumerMetrics,
    /// Events of a batch at most, as configured.
    most: usize,
    /// Events of the next batch at most: halved when the archive fails, for it may be the batch's size that it cannot
    /// take, and doubled again when it works.
    batch: usize,
    /// Where each partition stands that we count.
    owned: BTreeMap<u32, Position>,
    /// Where each will stand when all that was read is committed.
    read: BTreeMap<u32, Position>,
    gathered: Gathered,
    under_way: Option<AbortOnDropHandle<anyhow::Result<Ended>>>,
    /// Partitions that the log gave us and that are not taken up yet, and when to do it.
    due: BTreeMap<u32, Instant>,
    /// Partitions that are not read any further, and the record at which each waits for another release of this program.
    /// What comes of them meanwhile is dropped: whoever goes on with them reads it again.
    waiting: BTreeMap<u32, Waiting>,
    /// Whether such records are buried instead.
    bury_newer: bool,
    /// Failures in a row, for the pace of trying again.
    failures: u32,
    /// The store that failed last and has not worked since.
    away: Option<&'static str>,
}

impl Counter<'_> {
    async fn step(&mut self) -> anyhow::Result<()> {
        if self.under_way.is_none() {
            self.take_up().await?;
            self.begin_commit();
        }
        let room = self.batch.saturating_sub(self.gathered.batch.records.len()).min(AT_ONCE);
        let room = if self.gathered.taken < MOST_TAKEN { room } else { 0 };
        tokio::select! {
            ended = finished(&mut self.under_way) => {
                self.under_way = None;
                self.settle(ended?).await
            }
            polled = self.log.poll(room, IDLE), if room > 0 => self.polled(polled).await,
        }
    }

    async fn polled(&mut self, polled: Result<ConsumerEvent, StoreError>) -> anyhow::Result<()> {
        match polled {
            Ok(ConsumerEvent::Idle) => {}
            Ok(ConsumerEvent::Assigned(partitions)) => {
                self.due.extend(partitions.into_iter().map(|partition| (partition, Instant::now())));
            }
            Ok(ConsumerEvent::Revoked(partitions)) => {
                self.drop_read(&partitions);
                self.owned.retain(|partition, _| !partitions.contains(partition));
                self.due.retain(|partition, _| !partitions.contains(partition));
                self.owned_changed();
            }
            Ok(ConsumerEvent::Records(records)) => self.gather(records),
            Err(error) => self.failed(error).await?,
        }
        Ok(())
    }

    fn gather(&mut self, mut records: Vec<RawRecord>) {
        records.retain(|record| !self.waiting.contains_key(&record.partition));
        let taken: usize = records.iter().map(taken).sum();
        let waits = !self.bury_newer;
        let Sorted { batch, poison, waiting } = batch_of(records, &self.read, |_| waits);
        self.read.extend(batch.spans.iter().map(after));
        self.gathered.batch.append(batch);
        self.gathered.poison.extend(poison);
        self.gathered.taken += taken;
        for waiting in waiting {
            let Waiting { partition, offset, format } = waiting;
            tracing::error!(
                partition,
                offset,
                format,
                "this partition waits: a record of a later release is next, and this release reads formats up to \
                 {FORMAT}; start consumers of the release that wrote it"
            );
            self.waiting.insert(partition, waiting);
        }
        self.metrics.waiting_partitions.set(self.waiting.len() as i64);
    }

    /// Forgets what was read of these partitions and is not being committed.
    fn drop_read(&mut self, partitions: &[u32]) {
        self.read.retain(|partition, _| !partitions.contains(partition));
        self.gathered.batch.forget(partitions);
        self.gathered.poison.retain(|letter| !partitions.contains(&letter.record.partition));
        self.waiting.retain(|partition, _| !partitions.contains(partition));
        self.metrics.waiting_partitions.set(self.waiting.len() as i64);
    }

    /// Commits what was gathered, if anything was.
    fn begin_commit(&mut self) {
        let Gathered { batch, poison, .. } = std::mem::take(&mut self.gathered);
        if batch.spans.is_empty() {
            return;
        }
        let (backends, shell) = (self.backends.clone(), self.shell.clone());
        let commit = tokio::spawn(async move {
            for letter in &poison {
                if until_done(&shell, "burying a record", || backends.log.bury(letter)).await?.is_none() {
                    return Ok(Ended { batch, outcome: None, buried: 0, took: Duration::ZERO });
                }
            }
            let started = Instant::now();
            let outcome = Some(backends.archive.commit(&batch).await);
            Ok(Ended { batch, outcome, buried: poison.len(), took: started.elapsed() })
        });
        self.under_way = Some(AbortOnDropHandle::new(commit));
    }

    /// Makes the partitions that are due ours in the archive, too, and goes on where it stands, whatever the log thinks
    /// of this group's progress.
    async fn take_up(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<u32> =
            self.due.iter().filter(|(_, when)| **when <= now).map(|(partition, _)| *partition).collect();
        if due.is_empty() {
            return Ok(());
        }
        let archive = &self.backends.archive;
        let taken = until_done(self.shell, "taking partitions up", || archive.take_up(&due)).await?;
        let Some(positions) = taken else { return Ok(()) };
        self.begin(due.into_iter().zip(positions).collect()).await
    }

    /// Reads these partitions from these positions on.
    async fn begin(&mut self, positions: Vec<(u32, Position)>) -> anyhow::Result<()> {
        let partitions: Vec<u32> = positions.iter().map(|(partition, _)| *partition).collect();
        self.drop_read(&partitions);
        let starts: Vec<Start> = positions
            .iter()
            .map(|(partition, position)| Start {
                partition: *partition,
                offset: position.next,
                after: position.last,
            })
            .collect();
        let started = if starts.is_empty() { Ok(()) } else { self.log.start(&starts).await };
        match started {
            Ok(()) => {
                self.due.retain(|partition, _| !positions.iter().any(|(started, _)| started == partition));
                self.read.extend(positions.iter().copied());
                self.owned.extend(positions);
            }
            Err(error) => {
                for (partition, _) in positions {
                    self.owned.remove(&partition);
                    self.due.insert(partition, Instant::now());
                }
                self.failed(error).await?;
            }
        }
        self.owned_changed();
        Ok(())
    }

    fn owned_changed(&self) {
        let owned: Vec<u32> = self.owned.keys().copied().collect();
        self.metrics.partitions.set(owned.len() as i64);
        if self.feed.owned(owned.clone()) {
            tracing::info!(partitions = ?owned, "partitions owned");
        }
    }

    async fn settle(&mut self, ended: Ended) -> anyhow::Result<()> {
        let Ended { batch, outcome, buried, took } = ended;
        self.metrics.poison.inc_by(buried as u64);
        match outcome {
            None => Ok(()),
            Some(Ok(committed)) => {
                self.metrics.commit_seconds.observe(took.as_secs_f64());
                self.counted(batch, committed).await;
                Ok(())
            }
            Some(Err(CommitError::Fenced { partition, expected, actual })) => {
                self.metrics.fenced.inc();
                tracing::warn!(
                    partition,
                    "offset fence mismatch: expected {expected}, found {actual}; going on from there"
                );
                self.look_again(&batch).await
            }
            Some(Err(CommitError::TakenOver { partition })) => {
                self.metrics.fenced.inc();
                tracing::warn!(partition, "another consumer took this partition up");
                self.contested(&batch, partition).await
            }
            Some(Err(CommitError::Store(error))) => {
                self.failed(error).await?;
                self.batch = (self.batch / 2).max(1);
                // The batch may be in: the archive's offsets tell, and the boards' offsets tell the projector.
                self.feed.missed();
                self.look_again(&batch).await
            }
        }
    }

    async fn counted(&mut self, batch: Batch, committed: Committed) {
        self.worked();
        let Committed { effects, meta } = committed;
        self.metrics.batch_events.observe(batch.records.len() as f64);
        self.metrics.counted.inc_by(effects.counted);
        self.metrics.repeated.inc_by(effects.repeated);
        let next: Vec<(u32, u64)> = batch.spans.iter().map(|span| (span.partition, span.next)).collect();
        for (partition, position) in batch.spans.iter().map(after) {
            // One that was revoked meanwhile is not ours again by this.
            if let Some(stands) = self.owned.get_mut(&partition) {
                *stands = position;
            }
        }
        self.feed.done(CommittedBatch { spans: batch.spans, effects, meta, committed: Instant::now() }).await;
        self.log.report(&next).await;
    }

    /// Goes on where the archive stands in the partitions of the batch and of what was read after it: nobody knows
    /// whether the batch is in.
    async fn look_again(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let partitions = self.in_doubt(batch);
        let archive = &self.backends.archive;
        let positions = until_done(self.shell, "reading offsets", || archive.offsets(&partitions)).await?;
        let Some(positions) = positions else { return Ok(()) };
        self.begin(partitions.into_iter().zip(positions).collect()).await
    }

    /// Lets go of a partition until the log has said whose it is, and goes back to where the others stood.
    async fn contested(&mut self, batch: &Batch, partition: u32) -> anyhow::Result<()> {
        let others = self.in_doubt(batch).into_iter().filter(|other| *other != partition);
        let others: Vec<_> = others.filter_map(|other| Some((other, *self.owned.get(&other)?))).collect();
        self.drop_read(&[partition]);
        if self.owned.remove(&partition).is_some() {
            self.due.insert(partition, Instant::now() + CONTESTED);
        }
        self.begin(others).await
    }

    /// The partitions that a batch covers, or what was read after it, and that are still ours.
    fn in_doubt(&self, batch: &Batch) -> Vec<u32> {
        let spans = batch.spans.iter().chain(&self.gathered.batch.spans);
        let mut partitions: Vec<u32> = spans.map(|span| span.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.retain(|partition| self.owned.contains_key(partition));
        partitions
    }

    async fn failed(&mut self, error: StoreError) -> anyhow::Result<()> {
        if !error.is_transient() {
            return Err(error.into());
        }
        self.away = Some(error.part());
        self.shell.health.dependency(error.part(), Err(error.to_string()));
        RETRY.pause(self.failures, self.shell).await;
        self.failures = self.failures.saturating_add(1);
        Ok(())
    }

    fn worked(&mut self) {
        self.failures = 0;
        self.batch = (self.batch * 2).min(self.most);
        if let Some(part) = self.away.take() {
            self.shell.health.dependency(part, Ok(()));
        }
    }
}

/// What a record takes of the archive's memory at most, roughly: what it says stands in a document, in that document's
/// indexes and in the log of operations; a video's counters and the bookkeeping come to 600 bytes.
const fn taken(record: &RawRecord) -> usize {
    600 + 3 * record.value.len()
}

/// Where a partition stands after this.
fn after(span: &OffsetRange) -> (u32, Position) {
    (span.partition, Position { next: span.next, last: span.last })
}

/// The end of a commit that is under way; for ever away where none is.
async fn finished(under_way: &mut Option<AbortOnDropHandle<anyhow::Result<Ended>>>) -> anyhow::Result<Ended> {
    match under_way {
        Some(commit) => ended(commit).await,
        None => std::future::pending().await,
    }
}

/// A panic of the commit is one of its owner.
async fn ended(
    commit: impl Future<Output = Result<anyhow::Result<Ended>, tokio::task::JoinError>>,
) -> anyhow::Result<Ended> {
    match commit.await {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(error.into()),
    }
}

/// What a record says, or what is wrong with it.
pub fn read(record: &RawRecord) -> Result<LogRecord, Unreadable> {
    let RawRecord { partition, offset, broker_time, .. } = *record;
    let event = Interaction::from_log(&record.value, broker_time)?;
    Ok(LogRecord { partition, offset, broker_time, event })
}

/// A record of a later release, before which its partition stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Its format.
    pub format: u64,
}

/// Records by what is to be done with them.
#[derive(Debug, Default)]
pub struct Sorted {
    /// The readable ones, as a batch that starts where we stand. It has no spans where nothing is left of them, because
    /// they belong to partitions that were given up, or were counted already, or wait.
    pub batch: Batch,
    /// The unreadable ones.
    pub poison: Vec<DeadLetter>,
    /// Where partitions wait for a later release. Nothing behind that is in the batch, or unreadable.
    pub waiting: Vec<Waiting>,
}

/// Sorts what was read. A record of a later release is waited for where `waits` says so, and is unreadable otherwise.
pub fn batch_of(
    mut records: Vec<RawRecord>,
    owned: &BTreeMap<u32, Position>,
    waits: impl Fn(&RawRecord) -> bool,
) -> Sorted {
    records.retain(|record| owned.get(&record.partition).is_some_and(|stands| record.offset >= stands.next));
    let mut sorted = Sorted::default();
    let mut taken = Vec::with_capacity(records.len());
    for record in records {
        if sorted.waiting.iter().any(|waiting| waiting.partition == record.partition) {
            continue;
        }
        match read(&record) {
            Err(Unreadable::Newer { format }) if waits(&record) => {
                let (partition, offset) = (record.partition, record.offset);
                sorted.waiting.push(Waiting { partition, offset, format });
            }
            outcome => taken.push((record, outcome)),
        }
    }
    // They are in the order of their offsets: what stays in the map is each partition's last.
    let last: BTreeMap<u32, &RawRecord> =
        taken.iter().map(|(record, _)| (record.partition, record)).collect();
    let span = |(&partition, last): (&u32, &&RawRecord)| {
        let from = owned.get(&partition)?.next;
        Some(OffsetRange { partition, from, next: last.offset + 1, last: Some(last.mark()) })
    };
    sorted.batch.spans = last.iter().filter_map(span).collect();
    for (record, outcome) in taken {
        match outcome {
            Ok(record) => sorted.batch.records.push(record),
            Err(error) => sorted.poison.push(DeadLetter { record, reason: error.to_string() }),
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::RecordFingerprint;

    use super::*;

    fn owned(next: &[(u32, u64)]) -> BTreeMap<u32, Position> {
        next.iter().map(|(partition, next)| (*partition, Position { next: *next, last: None })).collect()
    }

    fn raw(partition: u32, offset: u64, value: &str) -> RawRecord {
        let value = value.as_bytes().to_vec().into();
        RawRecord { partition, offset, broker_time: 1_700_000_000_000, key: None, value }
    }

    const VIEW: &str = r#"{"video_id":"v","user_id":"u","type":"view"}"#;

    #[test]
    fn a_batch_starts_where_we_stand_and_steps_over_holes_and_poison() {
        let owned = owned(&[(0, 5), (1, 0)]);
        let records = vec![raw(0, 7, VIEW), raw(1, 0, "{"), raw(0, 9, VIEW), raw(1, 1, "{}")];
        let mark = RecordFingerprint::of(1_700_000_000_000, VIEW.as_bytes());
        let mark_of_poison = RecordFingerprint::of(1_700_000_000_000, b"{}");
        let Sorted { batch, poison, waiting } = batch_of(records, &owned, |_| true);
        assert_eq!(waiting, []);
        assert_eq!(
            batch.spans,
            [
                OffsetRange { partition: 0, from: 5, next: 10, last: Some(mark) },
                OffsetRange { partition: 1, from: 0, next: 2, last: Some(mark_of_poison) }
            ]
        );
        assert_eq!(batch.records.len(), 2);
        assert_eq!(poison.len(), 2);
        assert!(poison[1].reason.starts_with("type: is required"), "{}", poison[1].reason);
    }

    #[test]
    fn what_is_not_ours_or_was_counted_is_passed_over() {
        let sorted = batch_of(vec![raw(3, 0, VIEW), raw(0, 4, VIEW)], &owned(&[(0, 5)]), |_| true);
        assert_eq!((sorted.batch.spans.len(), sorted.batch.records.len(), sorted.poison.len()), (0, 0, 0));
    }

    const NEWER: &str = r#"{"video_id":"v","user_id":"u","type":"save","format":99}"#;

    #[test]
    fn a_partition_stops_before_a_record_of_a_later_release_and_the_others_go_on() {
        let records = || {
            let of_two =
                [raw(0, 5, VIEW), raw(1, 0, NEWER), raw(0, 6, "{"), raw(0, 8, NEWER), raw(1, 1, VIEW)];
            [of_two.as_slice(), &[raw(0, 9, VIEW), raw(0, 10, "{"), raw(2, 3, VIEW)]].concat()
        };
        let owned = owned(&[(0, 5), (1, 0), (2, 3)]);
        let Sorted { batch, poison, waiting } = batch_of(records(), &owned, |_| true);
        let spans: Vec<_> = batch.spans.iter().map(|span| (span.partition, span.from, span.next)).collect();
        assert_eq!(spans, [(0, 5, 7), (2, 3, 4)]);
        assert_eq!((batch.records.len(), poison.len()), (2, 1));
        let at = |partition, offset| Waiting { partition, offset, format: 99 };
        assert_eq!(waiting, [at(1, 0), at(0, 8)]);

        let Sorted { batch, poison, waiting } = batch_of(records(), &owned, |record| record.partition == 1);
        let next: Vec<_> = batch.spans.iter().map(|span| (span.partition, span.next)).collect();
        assert_eq!((next, waiting), (vec![(0, 11), (2, 4)], vec![at(1, 0)]));
        assert!(poison[1].reason.contains("format 99"), "{}", poison[1].reason);
    }
}
