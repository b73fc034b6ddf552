//! From the log into the archive: the one place where an event counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use liverank_adapters::archive::CommitError;
use liverank_adapters::event_log::{DeadLetter, LogConsumer, Polled, RawRecord};
use liverank_adapters::{Backends, StoreError};
use liverank_core::counting::{Batch, LogRecord, Mark, REPEAT_WINDOW_MS, Span};
use liverank_core::{Interaction, Millis};
use liverank_shell::Shell;

use crate::metrics::ConsumerMetrics;
use crate::pace::until_done;
use crate::projector::{Done, Feed};
use crate::{Config, RETRY};

/// How long to wait for records before looking at the shutdown again; a record ends the wait at once.
const IDLE: Duration = Duration::from_millis(250);
/// How often identities that are too old to matter are forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);
/// Identities are kept twice as long as repeats are recognised, so that a partition may lag a whole window behind.
const KEEP_IDENTITIES_MS: Millis = 2 * REPEAT_WINDOW_MS;

/// Counts until shutdown, feeding the projector.
pub async fn run(
    config: &Config,
    backends: &Backends,
    shell: &Shell,
    feed: Feed,
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
        newest: 0,
        forgotten_at: Instant::now(),
        failures: 0,
        away: None,
    };
    while !shell.shutdown.is_cancelled() {
        counter.step().await?;
    }
    Ok(())
}

struct Counter<'a> {
    log: Box<dyn LogConsumer>,
    backends: &'a Backends,
    shell: &'a Shell,
    feed: Feed,
    metrics: &'a ConsumerMetrics,
    /// Events of a batch at most, as configured.
    most: usize,
    /// Events of the next batch at most: halved when the archive fails, for it may be the batch's size that it cannot
    /// take, and doubled again when it works.
    batch: usize,
    /// The next offset of each partition that is ours.
    owned: BTreeMap<u32, u64>,
    /// The newest time of the log seen.
    newest: Millis,
    forgotten_at: Instant,
    /// Failures in a row, for the pace of trying again.
    failures: u32,
    /// The store that failed last and has not worked since.
    away: Option<&'static str>,
}

impl Counter<'_> {
    async fn step(&mut self) -> anyhow::Result<()> {
        match self.log.poll(self.batch, IDLE).await {
            Ok(Polled::Idle) => self.forget_old().await,
            Ok(Polled::Assigned(partitions)) => self.take_up(&partitions).await?,
            Ok(Polled::Revoked(partitions)) => {
                self.owned.retain(|partition, _| !partitions.contains(partition));
                self.owned_changed();
            }
            Ok(Polled::Records(records)) => {
                self.count(records).await?;
                self.forget_old().await;
            }
            Err(error) => self.failed(error).await?,
        }
        Ok(())
    }

    /// Goes on where the archive stands, whatever the log thinks of this group's progress.
    async fn take_up(&mut self, partitions: &[u32]) -> anyhow::Result<()> {
        let archive = &self.backends.archive;
        let taken = until_done(self.shell, "taking partitions up", || archive.take_up(partitions)).await?;
        let Some(positions) = taken else { return Ok(()) };
        let next = positions.iter().map(|position| position.next);
        let starts: Vec<(u32, u64)> = partitions.iter().copied().zip(next).collect();
        match self.log.start(&starts).await {
            Ok(()) => self.owned.extend(starts),
            Err(error) => self.failed(error).await?,
        }
        self.owned_changed();
        Ok(())
    }

    fn owned_changed(&self) {
        self.metrics.partitions.set(self.owned.len() as i64);
        self.feed.owned(self.owned.keys().copied().collect());
        tracing::info!(partitions = ?self.owned.keys().collect::<Vec<_>>(), "partitions owned");
    }

    async fn count(&mut self, records: Vec<RawRecord>) -> anyhow::Result<()> {
        let Some((batch, poison)) = batch_of(records, &self.owned) else { return Ok(()) };
        for letter in poison {
            let log = &self.backends.log;
            if until_done(self.shell, "burying a record", || log.bury(&letter)).await?.is_none() {
                return Ok(()); // Nothing of this batch has counted; the next consumer reads it again.
            }
            self.metrics.poison.inc();
        }
        let started = Instant::now();
        match self.backends.archive.commit(&batch).await {
            Ok(committed) => {
                self.worked();
                let effects = committed.effects;
                self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                self.metrics.batch_events.observe(batch.records.len() as f64);
                self.metrics.counted.inc_by(effects.counted);
                self.metrics.repeated.inc_by(effects.repeated);
                self.newest =
                    batch.records.iter().map(|record| record.broker_time).fold(self.newest, Millis::max);
                let next: Vec<(u32, u64)> =
                    batch.spans.iter().map(|span| (span.partition, span.next)).collect();
                self.owned.extend(next.iter().copied());
                self.feed.done(Done { spans: batch.spans, effects, committed: Instant::now() }).await;
                self.log.report(&next).await;
                Ok(())
            }
            Err(CommitError::Fenced { partition, expected, actual }) => {
                self.metrics.fenced.inc();
                tracing::warn!(
                    partition,
                    expected,
                    actual,
                    "another consumer was here: going on where the archive stands"
                );
                self.look_again(&batch).await
            }
            Err(CommitError::TakenOver { partition }) => {
                self.metrics.fenced.inc();
                tracing::warn!(partition, "another consumer took this partition up");
                self.look_again(&batch).await
            }
            Err(CommitError::Store(error)) => {
                self.failed(error).await?;
                self.batch = (self.batch / 2).max(1);
                // The batch may be in: the archive's offsets tell, and the boards' offsets tell the projector.
                self.feed.missed();
                self.look_again(&batch).await
            }
        }
    }

    /// Takes the batch's partitions up anew.
    async fn look_again(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let partitions: Vec<u32> = batch.spans.iter().map(|span| span.partition).collect();
        self.take_up(&partitions).await
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

    async fn forget_old(&mut self) {
        if self.newest == 0 || self.forgotten_at.elapsed() < FORGET_EVERY {
            return;
        }
        self.forgotten_at = Instant::now();
        // What could not be forgotten now is next time; a store that is away shows with the next commit.
        let _ = self.backends.archive.forget_before(self.newest - KEEP_IDENTITIES_MS).await;
    }
}

/// Readable records as a batch that starts where we stand, and the unreadable ones. `None` where nothing is left of
/// them, because they belong to partitions that were given up or were counted already.
fn batch_of(records: Vec<RawRecord>, owned: &BTreeMap<u32, u64>) -> Option<(Batch, Vec<DeadLetter>)> {
    let mut spans: BTreeMap<u32, Span> = BTreeMap::new();
    let mut batch = Batch::default();
    let mut poison = Vec::new();
    for record in records {
        let Some(&from) = owned.get(&record.partition) else { continue };
        if record.offset < from {
            continue;
        }
        let span = spans.entry(record.partition).or_insert(Span {
            partition: record.partition,
            from,
            next: from,
            last: None,
        });
        span.next = record.offset + 1;
        span.last = Some(Mark::of(record.broker_time, &record.value));
        match Interaction::from_json(&record.value, record.broker_time) {
            Ok(event) => batch.records.push(LogRecord {
                partition: record.partition,
                offset: record.offset,
                broker_time: record.broker_time,
                event,
            }),
            Err(invalid) => poison.push(DeadLetter { record, reason: invalid.to_string() }),
        }
    }
    batch.spans = spans.into_values().collect();
    (!batch.spans.is_empty()).then_some((batch, poison))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(partition: u32, offset: u64, value: &str) -> RawRecord {
        let value = value.as_bytes().to_vec().into();
        RawRecord { partition, offset, broker_time: 1_700_000_000_000, key: None, value }
    }

    const VIEW: &str = r#"{"video_id":"v","user_id":"u","type":"view"}"#;

    #[test]
    fn a_batch_starts_where_we_stand_and_steps_over_holes_and_poison() {
        let owned = BTreeMap::from([(0, 5), (1, 0)]);
        let records = vec![raw(0, 7, VIEW), raw(1, 0, "{"), raw(0, 9, VIEW), raw(1, 1, "{}")];
        let mark = Mark::of(1_700_000_000_000, VIEW.as_bytes());
        let mark_of_poison = Mark::of(1_700_000_000_000, b"{}");
        let (batch, poison) = batch_of(records, &owned).unwrap();
        assert_eq!(
            batch.spans,
            [
                Span { partition: 0, from: 5, next: 10, last: Some(mark) },
                Span { partition: 1, from: 0, next: 2, last: Some(mark_of_poison) }
            ]
        );
        assert_eq!(batch.records.len(), 2);
        assert_eq!(poison.len(), 2);
        assert!(poison[1].reason.starts_with("type: is required"), "{}", poison[1].reason);
    }

    #[test]
    fn what_is_not_ours_or_was_counted_is_passed_over() {
        assert!(batch_of(vec![raw(3, 0, VIEW), raw(0, 4, VIEW)], &BTreeMap::from([(0, 5)])).is_none());
    }
}
