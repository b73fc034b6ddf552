//! What a manager does by itself: probes readers that fell silent, has others take over what they served, gives watched
//! videos that the store has lost back to their readers, and lets go of what nobody watches.
//!
//! Every manager does this, and none waits for another: what they do is decided from the same reports and takes effect
//! by compare-and-set, so doing it twice does it once.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use liverank_core::{ReaderId, VideoId};
use liverank_runtime::client::{Client, ConnectionSettings, MAX_SHORT_ANSWER_BYTES};
use liverank_runtime::peer::join_path;
use liverank_runtime::{PeerTls, now_ms};
use reqwest::Url;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Manager;
use crate::liveness::{HoldReason, ProbeOutcome, ReaderStatus};
use crate::metrics::ManagerMetrics;

/// The interval of sweeps: a fraction of the time in which a reader is to be replaced.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// How long a silent reader may take to answer a probe: it is next door, and it has been silent for seconds. A manager that
/// is late itself waits longer.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a manager waits for an answer that may have come already when a probe's time was over: it may have stood still itself,
/// and what came meanwhile has to be read.
const LAST_LOOK: Duration = Duration::from_millis(50);
/// Probes at once.
const MAX_PROBES_AT_ONCE: usize = 64;
/// Videos moved in one sweep: with the pause between sweeps, 30,000 are moved within 8 s, and the store is left room.
const MAX_MOVES_A_SWEEP: usize = 1_000;
/// Compare-and-sets at once.
const MAX_SWAPS_AT_ONCE: usize = 16;
/// Sweeps between two looks for videos that the store has lost: 2 s.
const SWEEPS_BETWEEN_ADOPTIONS: u64 = 8;
/// Sweeps between two looks for videos that nobody watches: 10 s.
const SWEEPS_BETWEEN_REMOVALS: u64 = 40;
/// Sweeps between two samples of the readers' viewers: 5 s.
const SWEEPS_BETWEEN_SAMPLES: u64 = 20;
/// How long a video may be unwatched and not registered again before its assignment is let go.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// The same time limit when there are so many assignments that most must be of no use.
const IDLE_WHEN_CROWDED: Duration = Duration::from_mins(1);
/// The number of assignments from which on the shorter limit holds.
const CROWDED_FROM: usize = crate::cluster::MAX_ASSIGNMENTS / 2;
/// Assignments let go at one look: 2,000 in 10 s keeps up with 200 new videos a second.
const MAX_REMOVED_AT_ONCE: usize = 2_000;
/// Assignments let go in one sweep when there are more than [`CROWDED_FROM`].
const MAX_REMOVED_WHEN_CROWDED: usize = 10 * MAX_REMOVED_AT_ONCE;

/// Sweeps. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut held, mut unreachable) = (None, BTreeSet::new());
    for sweep in 0u64.. {
        ticks.tick().await;
        probe_readers(&manager).await;
        note_unreachable(&manager, &mut unreachable);
        note_hold(&manager, &mut held);
        relocate_videos(&manager, sweep.is_multiple_of(SWEEPS_BETWEEN_ADOPTIONS)).await;
        if sweep.is_multiple_of(SWEEPS_BETWEEN_REMOVALS) {
            remove_unwatched(&manager).await;
        }
        forget_gone_readers(&manager).await;
        update_metrics(&manager.metrics, &manager);
        if sweep.is_multiple_of(SWEEPS_BETWEEN_SAMPLES) {
            take_sample(&manager);
        }
    }
}

/// Asks readers directly: those that fell silent, and those to which viewers are sent.
async fn probe_readers(manager: &Manager) {
    let client = &manager.probe_client;
    let sent = Instant::now();
    let within = manager.cluster().reader_watch.stretched_wait(PROBE_TIMEOUT);
    let due: Vec<(ReaderId, u64, bool, String)> = manager
        .cluster()
        .reader_watch
        .readers_to_probe(sent)
        .into_iter()
        .map(|sighting| &sighting.last_record)
        .map(|record| {
            // It said that it leaves, and has nobody left.
            let done = record.draining && record.viewers == 0;
            (record.id.clone(), record.beat, done, record.internal_url.clone())
        })
        .collect();
    let probes = due.into_iter().map(|(reader, beat, done, url)| async move {
        let outcome = probe_reader(client, &reader, &url, within).await;
        (reader, beat, done, outcome)
    });
    let mut probes = stream::iter(probes).buffer_unordered(MAX_PROBES_AT_ONCE);
    while let Some((reader, beat, done, outcome)) = probes.next().await {
        let mut cluster = manager.cluster();
        let before = cluster.reader_watch.reader_status(&reader);
        cluster.reader_watch.note_probe(sent, &reader, beat, outcome);
        let after = cluster.reader_watch.reader_status(&reader);
        drop(cluster);
        if before == after || after != Some(ReaderStatus::Gone) {
            continue;
        }
        if done {
            tracing::info!(%reader, "a reader has left");
        } else {
            tracing::warn!(%reader, "a reader is gone: it is silent and does not answer");
        }
    }
}

/// Whether the reader itself answers at its address; another one that took the address over does not count.
async fn probe_reader(client: &Client, reader: &ReaderId, url: &str, within: Duration) -> ProbeOutcome {
    answer_within(ask_health(client, reader, url, within + 2 * LAST_LOOK), within)
        .await
        .unwrap_or(ProbeOutcome::Late)
}

/// The answer to a question that has `within`; what has come when that is over counts.
async fn answer_within<T>(question: impl Future<Output = T>, within: Duration) -> Option<T> {
    let mut question = pin!(question);
    if let Ok(answer) = timeout(within, &mut question).await {
        return Some(answer);
    }
    timeout(LAST_LOOK, question).await.ok()
}

/// What a probe looks at in a reader's answer ([`liverank_protocol::ReaderHealth`]): readers of other releases, and the seed's, may
/// say the rest otherwise.
#[derive(serde::Deserialize)]
struct ProbedHealth {
    #[serde(rename = "instanceId", default)]
    instance_id: Option<serde_json::Value>,
}

async fn ask_health(client: &Client, reader: &ReaderId, url: &str, within: Duration) -> ProbeOutcome {
    let Ok(base) = url.parse::<Url>() else { return ProbeOutcome::Unreachable };
    let answer = match client.get(join_path(&base, &["health"])).timeout(within).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_refused() => return ProbeOutcome::Unreachable,
        Err(_) => return ProbeOutcome::Late,
    };
    let health = match answer.json_within::<ProbedHealth>(MAX_SHORT_ANSWER_BYTES).await {
        Ok(health) => health,
        Err(error) if error.is_decode() => return ProbeOutcome::Unreachable,
        Err(_) => return ProbeOutcome::Late,
    };
    if health.instance_id.is_none_or(|instance| instance.as_str().is_none_or(|it| it == reader.as_str())) {
        ProbeOutcome::Answered
    } else {
        ProbeOutcome::Unreachable
    }
}

/// The client that probes: each probe finds the way anew, for a connection that is kept says nothing about whether a
/// reader's name still leads there.
pub fn new_probe_client(tls: &PeerTls) -> Client {
    Client::new(tls, ConnectionSettings::default())
}

/// Tells of readers that cannot be reached, and of those among `known` that can be again.
fn note_unreachable(manager: &Manager, known: &mut BTreeSet<ReaderId>) {
    let (lost, found) = {
        let cluster = manager.cluster();
        let lost = cluster.reader_watch.all_sightings().filter(|sighting| sighting.is_unreachable());
        let lost: BTreeSet<ReaderId> = lost.map(|sighting| sighting.last_record.id.clone()).collect();
        // One that was forgotten was not reached.
        let found = known.difference(&lost).filter(|reader| cluster.reader_watch.get(reader).is_some());
        let found: Vec<ReaderId> = found.cloned().collect();
        (lost, found)
    };
    for reader in lost.difference(known) {
        tracing::warn!(%reader, "a reader reports itself and cannot be reached");
    }
    for reader in found {
        tracing::info!(%reader, "a reader can be reached again");
    }
    *known = lost;
}

/// Tells of a hold when it begins and when it ends.
fn note_hold(manager: &Manager, held: &mut Option<HoldReason>) {
    let reason = manager.cluster().judge_readers(Instant::now());
    manager.metrics.moves_suspended.set(i64::from(reason.is_some()));
    match (held.is_some(), reason) {
        (false, Some(reason)) => tracing::warn!(?reason, "nothing is moved for now"),
        (true, None) => tracing::info!("videos are moved again"),
        _ => {}
    }
    *held = reason;
}

/// Has others take over what leaving readers serve, and gives lost videos back. Each decision is made anew just before
/// it takes effect, so that a view which grew stale meanwhile stops it.
async fn relocate_videos(manager: &Manager, adopt: bool) {
    let (moving, lost) = {
        let (cluster, now) = (manager.cluster(), Instant::now());
        let moving = cluster.videos_to_move(now, MAX_MOVES_A_SWEEP);
        let lost =
            if adopt { cluster.videos_to_adopt(now, MAX_MOVES_A_SWEEP - moving.len()) } else { Vec::new() };
        (moving, lost)
    };
    if moving.is_empty() && lost.is_empty() {
        return;
    }
    let (moves, adoptions) = (moving.len(), lost.len());
    ensure_readers(manager, moving.into_iter().chain(lost).collect()).await;
    tracing::info!(moves, adoptions, "gave videos to other readers");
}

async fn ensure_readers(manager: &Manager, videos: Vec<VideoId>) {
    stream::iter(videos)
        .for_each_concurrent(MAX_SWAPS_AT_ONCE, |video| async move {
            // What did not work is found again by the next sweep.
            let _ = manager.ensure_assigned(&video, 0).await;
        })
        .await;
}

async fn remove_unwatched(manager: &Manager) {
    let unused = {
        let mut cluster = manager.cluster();
        let (idle, most) = if cluster.assignment_view.len() >= CROWDED_FROM {
            (IDLE_WHEN_CROWDED, MAX_REMOVED_WHEN_CROWDED)
        } else {
            (FORGET_AFTER, MAX_REMOVED_AT_ONCE)
        };
        cluster.videos_to_remove(Instant::now(), idle, most)
    };
    stream::iter(unused)
        .for_each_concurrent(MAX_SWAPS_AT_ONCE, |(video, epoch)| async move {
            manager.remove_unused(&video, epoch).await;
        })
        .await;
}

async fn forget_gone_readers(manager: &Manager) {
    let long_gone = manager.cluster().readers_to_forget(Instant::now());
    for (reader, beat) in long_gone {
        if manager.ask_store(manager.assignment_store.forget_reader(&reader, beat)).await.is_ok() {
            manager.cluster().reader_watch.forget_reader(&reader);
            tracing::info!(%reader, "a reader that is gone is forgotten");
        }
    }
}

/// Takes a sample of the readers' viewers.
fn take_sample(manager: &Manager) {
    let viewers: Vec<(ReaderId, u64)> = {
        let cluster = manager.cluster();
        let alive = cluster
            .reader_watch
            .all_sightings()
            .filter(|it| cluster.reader_watch.status_of(it) != ReaderStatus::Gone);
        alive.map(|sighting| (sighting.last_record.id.clone(), sighting.last_record.viewers)).collect()
    };
    manager
        .viewer_history
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .add_sample(now_ms(), viewers);
}

fn update_metrics(metrics: &ManagerMetrics, manager: &Manager) {
    let cluster = manager.cluster();
    let silent = cluster.reader_watch.all_sightings().filter(|sighting| {
        matches!(cluster.reader_watch.status_of(sighting), ReaderStatus::Suspect | ReaderStatus::Gone)
    });
    let unreachable = cluster.reader_watch.all_sightings().filter(|sighting| sighting.is_unreachable());
    metrics.readers_unreachable.set(unreachable.count() as i64);
    metrics.videos.set(cluster.assignment_view.len() as i64);
    metrics.readers_silent.set(silent.count() as i64);
    metrics.readers_open.set(cluster.open_readers().count() as i64);
    metrics.in_flight.set(cluster.pending_hand_overs.viewers as i64);
    metrics.drains_overdue.set(cluster.overdue_drains(Instant::now()).len() as i64);
    metrics.heartbeat_age.set(cluster.reader_watch.longest_silence().as_secs_f64());
    drop(cluster);
    for ended in manager.carrying().take_ended() {
        metrics.moves.get_or_create(&ended).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_come_when_the_time_is_over_counts() {
        let answered = |after: Duration| async move {
            answer_within(tokio::time::sleep(after), PROBE_TIMEOUT).await.is_some()
        };
        let moment = Duration::from_millis(10);
        assert!(
            answered(PROBE_TIMEOUT.saturating_sub(moment)).await && answered(PROBE_TIMEOUT + moment).await
        );
        assert!(!answered(PROBE_TIMEOUT + LAST_LOOK + moment).await);
    }
}
