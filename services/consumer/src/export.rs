//! The exporter of comments: writes the result of each record of the log to a topic for other systems ([ADR 037]).
//! Boards have an exporter of their own ([`boards`]).
//!
//! For each partition that this consumer owns, what the archive has behind the exported offset is written in one
//! transaction with the next offset. The exporter keeps no state of its own: when it begins, it asks the brokers where
//! to continue, and fences the process that exported the partition before.
//!
//! [ADR 037]: ../../../docs/adr/037-topics-for-other-systems.md

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use liverank_adapters::archive::ArchivePosition;
use liverank_adapters::export_topics::{ExportError, ExportRecord, ExportSource, ExportTopics, ExportWriter};
use liverank_adapters::{Backends, EventLog, StoreError};
use liverank_core::comment::CommentEpoch;
use liverank_runtime::ServiceContext;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::STORE_RETRY_BACKOFF;
use crate::pace::retry_until_done;
use crate::repair::no_archive_error;
use crate::stores::LOG;
use metrics::ExportMetrics;
use records::{ArchiveEntries, build_page};

pub mod boards;
#[cfg(test)]
#[path = "../../../core/tests/support/fixtures.rs"]
mod fixtures;
pub mod metrics;
pub mod records;

/// Maximum number of entries of each kind in one transaction: a thousand comments of the greatest length are 25 MB.
const PAGE_ENTRIES: usize = 500;
/// Maximum number of pages of one partition in one turn; after that the other partitions have their turn.
const PAGES_A_TURN: usize = 20;
/// Interval of looking for entries to export of which no notice came.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pause between two turns, so that entries that arrive meanwhile share a transaction.
const TURN_PAUSE: Duration = Duration::from_millis(50);
/// Interval of committing an offset that moved without any entry to export, for those who watch the consumer group's
/// lag.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// Interval of committing an offset that has not moved: far shorter than the time after which brokers forget it, which
/// is a day at least.
const RENEW_EVERY: Duration = Duration::from_hours(1);
/// Pause after this exporter was fenced, until the log has said who owns the partition; as long as the counter's.
const CONTESTED_PAUSE: Duration = Duration::from_secs(1);
/// Number of times fenced in a row from which it is an error. A change of owners, which takes some seconds, fences
/// fewer times.
const CONTESTED_OFTEN: u32 = 15;
const CONTESTED_REMEDY: &str = "do two systems export to one topic under one --kafka-group?";

/// The flags for the topics to which comments and boards are exported.
#[derive(Debug, Clone, Default, Args)]
pub struct ExportArgs {
    /// A Kafka topic for other systems, which gets the outcome of each comment and each action of moderators, exactly
    /// once. It is created if it does not exist. The name is used as given, without --prefix.
    #[arg(long, env = "LIVERANK_EXPORT_COMMENTS", value_name = "TOPIC", value_parser = parse_topic)]
    pub export_comments: Option<String>,
    /// A Kafka topic for other systems: the changes of the best hundred videos of each board, once a second.
    #[arg(long, env = "LIVERANK_EXPORT_BOARDS", value_name = "TOPIC", value_parser = parse_topic)]
    pub export_boards: Option<String>,
}

/// Parses the name of a topic; returns an error if Kafka does not accept it.
fn parse_topic(text: &str) -> Result<String, String> {
    let fits = (1..=249).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 249 of A-Z a-z 0-9 - _ .".into()) }
}

impl ExportArgs {
    /// The flags that are given, with their topics.
    fn given_topics(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("--export-comments", &self.export_comments), ("--export-boards", &self.export_boards)];
        all.into_iter().filter_map(|(flag, topic)| Some((flag, topic.as_deref()?)))
    }

    /// Checks that this log supports the exports that the flags ask for.
    ///
    /// # Errors
    /// Returns an error if the log is not on Kafka, or if both topics are the same.
    pub fn check(&self, log: &dyn EventLog) -> anyhow::Result<()> {
        for (flag, topic) in self.given_topics() {
            let on_kafka = log.export_topics().is_some();
            anyhow::ensure!(on_kafka, "{flag} needs --kafka: the embedded log has no other topics");
            let shared = self.given_topics().any(|(other, same)| other != flag && same == topic);
            anyhow::ensure!(!shared, "--export-comments and --export-boards need a topic each");
        }
        Ok(())
    }

    /// Creates and checks the topics, and retries for as long as the brokers are away.
    pub async fn prepare(&self, backends: &Backends, shell: &ServiceContext) -> anyhow::Result<()> {
        for (flag, topic) in self.given_topics() {
            let prepare = || async move { topics(backends)?.prepare_topic(topic).await };
            retry_until_done(shell, LOG, "preparing a topic of exports", prepare).await.context(flag)?;
        }
        Ok(())
    }
}

fn topics(backends: &Backends) -> Result<&dyn ExportTopics, StoreError> {
    let none = || StoreError::unusable("export", "this log has no topics for other systems");
    backends.log.export_topics().ok_or_else(none)
}

/// Exports comments of the owned partitions until shutdown. `told` changes when there is something to export.
pub async fn run(
    backends: Backends,
    topic: String,
    mut owned: watch::Receiver<Vec<u32>>,
    mut told: watch::Receiver<u64>,
    metrics: ExportMetrics,
    shell: ServiceContext,
) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut partitions: BTreeMap<u32, PartitionExporter> = BTreeMap::new();
    let mut is_behind = false;
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            // The sender of `owned` is the counter's, which ends with the service.
            Ok(()) = owned.changed() => {}
            Ok(()) = told.changed() => {}
            _ = look.tick() => {}
            () = tokio::time::sleep(TURN_PAUSE), if is_behind => {}
        }
        let ours = owned.borrow_and_update().clone();
        partitions.retain(|partition, _| ours.contains(partition));
        let turn = async {
            let (counted, epoch) = match ask_archive(&backends, &ours).await {
                Ok(answers) => answers,
                Err(error) => {
                    metrics.failed_turns.inc();
                    shell.health.note_dependency("export_comments", Err(error.to_string()));
                    return false;
                }
            };
            let mut turns = JoinSet::new();
            for (partition, position) in ours.iter().copied().zip(counted) {
                let exporter =
                    partitions.remove(&partition).unwrap_or_else(|| PartitionExporter::new(partition));
                let (backends, topic, metrics) = (backends.clone(), topic.clone(), metrics.clone());
                let turn = ExportTurn {
                    backends,
                    topic,
                    epoch: epoch.clone(),
                    end_offset: position.next_offset,
                    metrics,
                };
                turns.spawn(exporter.take_turn(turn));
            }
            collect_turns(turns, &mut partitions, &shell).await
        };
        is_behind = tokio::select! {
            () = shell.shutdown.cancelled() => return,
            is_behind = turn => is_behind,
        };
        metrics.lag.set(partitions.values().map(|exporter| exporter.lag as i64).sum());
        tokio::time::sleep(TURN_PAUSE).await;
    }
}

/// Returns, for all partitions at once since most have nothing new, the position up to which each is counted, and the
/// epoch under which comments are numbered.
async fn ask_archive(
    backends: &Backends,
    partitions: &[u32],
) -> Result<(Vec<ArchivePosition>, CommentEpoch), StoreError> {
    let counted = backends.archive.partition_positions(partitions).await?;
    Ok((counted, comment_epoch(backends).await?))
}

async fn comment_epoch(backends: &Backends) -> Result<CommentEpoch, StoreError> {
    Ok(backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?.comment_epoch)
}

/// Waits for the turns of all partitions. Returns whether some partition has more to export at once.
async fn collect_turns(
    mut turns: JoinSet<(PartitionExporter, Result<bool, ExportError>)>,
    partitions: &mut BTreeMap<u32, PartitionExporter>,
    shell: &ServiceContext,
) -> bool {
    let (mut is_behind, mut failure) = (false, None);
    while let Some(ended) = turns.join_next().await {
        let (exporter, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => continue,
        };
        match outcome {
            Ok(more) => is_behind |= more,
            Err(error @ ExportError::TakenOver) => {
                if exporter.failures >= CONTESTED_OFTEN {
                    let partition = exporter.partition;
                    failure =
                        Some(format!("{error} partition {partition} again and again: {CONTESTED_REMEDY}"));
                }
                tracing::info!(partition = exporter.partition, "another consumer exports this partition");
            }
            Err(ExportError::Store(error)) => failure = Some(error.to_string()),
        }
        partitions.insert(exporter.partition, exporter);
    }
    // A failure of the export does not stop counting.
    shell.health.note_dependency("export_comments", failure.map_or(Ok(()), Err));
    is_behind
}

/// The inputs of one export turn of a partition.
struct ExportTurn {
    backends: Backends,
    topic: String,
    /// The comment epoch when the turn began.
    epoch: CommentEpoch,
    /// The offset up to which the partition is counted; records from this offset on are not exported in this turn.
    end_offset: u64,
    metrics: ExportMetrics,
}

/// The exporter of one partition.
struct PartitionExporter {
    partition: u32,
    /// The writer to the topic; absent until the exporter has begun, and after the writer's own error. The writer
    /// stays open while the archive is away.
    writer: Option<Box<dyn ExportWriter>>,
    /// The first offset that is not exported yet.
    next_offset: u64,
    /// Number of counted records that were not exported when the archive was asked last.
    lag: u64,
    /// The offset that was committed last, and the time of the commit.
    last_commit: (u64, Instant),
    failures: u32,
    /// The earliest time of the next try.
    not_before: Instant,
}

impl PartitionExporter {
    fn new(partition: u32) -> Self {
        let now = Instant::now();
        Self {
            partition,
            writer: None,
            next_offset: 0,
            lag: 0,
            last_commit: (0, now),
            failures: 0,
            not_before: now,
        }
    }

    /// Exports the counted records of the partition, up to `PAGES_A_TURN` pages. Returns whether more are left.
    async fn take_turn(mut self, turn: ExportTurn) -> (Self, Result<bool, ExportError>) {
        // The lag is also known for an exporter that cannot begin, or that pauses.
        self.lag = turn.end_offset.saturating_sub(self.next_offset);
        if Instant::now() < self.not_before {
            return (self, Ok(false));
        }
        let outcome = self.export_pages(&turn).await;
        if let Err(error) = &outcome {
            turn.metrics.failed_turns.inc();
            let pause = match error {
                ExportError::TakenOver => CONTESTED_PAUSE,
                ExportError::Store(_) => STORE_RETRY_BACKOFF.wait_after(self.failures),
            };
            self.failures = self.failures.saturating_add(1);
            self.not_before = Instant::now() + pause;
        } else {
            self.failures = 0;
        }
        (self, outcome)
    }

    async fn export_pages(&mut self, turn: &ExportTurn) -> Result<bool, ExportError> {
        let to = turn.end_offset;
        if self.writer.is_none() {
            let source = ExportSource::Partition(self.partition);
            let writer = topics(&turn.backends)?.open_writer(&turn.topic, source).await?;
            self.next_offset = writer.position();
            self.last_commit = (self.next_offset, Instant::now());
            self.writer = Some(writer);
        }
        for _ in 0..PAGES_A_TURN {
            self.lag = to.saturating_sub(self.next_offset);
            if to <= self.next_offset {
                self.commit_offset_if_due().await?;
                return Ok(false);
            }
            self.export_page(turn).await?;
        }
        self.lag = to.saturating_sub(self.next_offset);
        Ok(self.lag > 0)
    }

    /// Exports one page of the counted records that the archive has.
    async fn export_page(&mut self, turn: &ExportTurn) -> Result<(), ExportError> {
        let (archive, partition, from) = (&turn.backends.archive, self.partition, self.next_offset);
        let found = ArchiveEntries {
            entries: archive.comments_from(partition, from, PAGE_ENTRIES).await?,
            audit: archive.moderation_archive().audit_entries_from(partition, from, PAGE_ENTRIES).await?,
            held_comments: archive
                .moderation_archive()
                .held_comments_from(partition, from, PAGE_ENTRIES)
                .await?,
        };
        if comment_epoch(&turn.backends).await? != turn.epoch {
            let what = "the comments were numbered anew while they were exported";
            return Err(StoreError::unavailable("archive", what).into());
        }
        let page = build_page(&turn.epoch, found, PAGE_ENTRIES, turn.end_offset);
        let exported = page.records.len() as u64;
        if exported > 0 {
            self.write(page.records, page.next).await?;
            turn.metrics.records.inc_by(exported);
        }
        self.next_offset = page.next;
        Ok(())
    }

    /// Commits the offset if it moved without any record to export, or if it was committed long ago.
    async fn commit_offset_if_due(&mut self) -> Result<(), ExportError> {
        let (offset, when) = self.last_commit;
        let every = if offset == self.next_offset { RENEW_EVERY } else { NOTE_EVERY };
        if when.elapsed() < every { Ok(()) } else { self.write(Vec::new(), self.next_offset).await }
    }

    async fn write(&mut self, records: Vec<ExportRecord>, next: u64) -> Result<(), ExportError> {
        // A writer cannot be used any more after an error of its own.
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        writer.write(records, Some(next)).await?;
        self.writer = Some(writer);
        self.last_commit = (next, Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_topics_are_those_that_kafka_takes() {
        for name in ["a", "liverank.comments_1-x", &"x".repeat(249)] {
            assert_eq!(parse_topic(name), Ok(name.to_owned()));
        }
        for wrong in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert!(parse_topic(wrong).is_err(), "{wrong}");
        }
    }
}
