//! The regular work of a manager that needs no order: it probes readers that fell silent, gives the videos of dead
//! readers to other readers, assigns watched videos that the store has lost to their readers again, and removes the
//! assignments of videos that nobody watches.
//!
//! Every manager does this work, and none waits for another: all of them decide from the same reports, and each change
//! takes effect by compare-and-set, so that it happens once even if two managers try it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use liverank_core::ReaderId;
use liverank_runtime::client::{Client, ConnectionSettings, MAX_SHORT_ANSWER_BYTES};
use liverank_runtime::peer::join_path;
use liverank_runtime::{PeerTls, now_ms};
use reqwest::Url;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Manager;
use crate::adoptions::AdoptionBudgets;
use crate::cluster::load::viewers_without_canary;
use crate::cluster::report::hold_text;
use crate::liveness::{HoldReason, LATE_ANSWER_TIMEOUT, PROBE_TIMEOUT, ProbeOutcome, ReaderStatus};
use crate::metrics::ManagerMetrics;

/// The interval of sweeps: a fraction of the time in which a reader is to be replaced.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// The maximum number of probes at the same time.
const MAX_PROBES_AT_ONCE: usize = 64;
/// The maximum number of videos moved in one sweep. With the pause between sweeps, 30,000 videos are moved within 8 s,
/// and the store has capacity left for other requests.
const MAX_MOVES_A_SWEEP: usize = 1_000;
/// The maximum number of compare-and-sets at the same time.
const MAX_SWAPS_AT_ONCE: usize = 16;
/// The number of sweeps between two looks for videos that the store has lost, which take 2 s.
const SWEEPS_BETWEEN_ADOPTIONS: u64 = 8;
/// The number of sweeps between two looks for videos that nobody watches, which take 10 s.
const SWEEPS_BETWEEN_REMOVALS: u64 = 40;
/// The number of sweeps between two samples of the readers' viewers, which take 5 s.
const SWEEPS_BETWEEN_SAMPLES: u64 = 20;
/// The time after which a video that nobody watches or registers loses its assignment.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// The time after which a video that nobody watches or registers loses its assignment if there are so many assignments
/// that most must be of no use.
const FORGET_AFTER_WHEN_CROWDED: Duration = Duration::from_mins(1);
/// The number of assignments from which on unused ones are removed after [`FORGET_AFTER_WHEN_CROWDED`].
const CROWDED_ASSIGNMENT_COUNT: usize = crate::cluster::MAX_ASSIGNMENTS / 2;
/// The maximum number of unused assignments that one look removes: 2,000 in 10 s keep up with 200 new videos a second.
const MAX_REMOVED_AT_ONCE: usize = 2_000;
/// The maximum number of unused assignments that one look removes when there are at least [`CROWDED_ASSIGNMENT_COUNT`]
/// assignments.
const MAX_REMOVED_WHEN_CROWDED: usize = 10 * MAX_REMOVED_AT_ONCE;

/// Runs the sweeps, which probe silent readers, move the videos of readers that are gone, and remove unused
/// assignments. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut held, mut unreachable) = (None, BTreeSet::new());
    let mut budgets = AdoptionBudgets::new(Instant::now());
    for sweep in 0u64.. {
        ticks.tick().await;
        probe_readers(&manager).await;
        log_unreachable_readers(&manager, &mut unreachable);
        note_hold(&manager, &mut held);
        let adoptions = sweep.is_multiple_of(SWEEPS_BETWEEN_ADOPTIONS).then_some(&mut budgets);
        relocate_videos(&manager, adoptions).await;
        if sweep.is_multiple_of(SWEEPS_BETWEEN_REMOVALS) {
            remove_unwatched(&manager).await;
        }
        forget_gone_readers(&manager).await;
        update_metrics(&manager.metrics, &manager);
        if sweep.is_multiple_of(SWEEPS_BETWEEN_SAMPLES) {
            add_viewer_sample(&manager);
        }
    }
}

/// Probes readers: those that fell silent, and those to which viewers are sent.
async fn probe_readers(manager: &Manager) {
    let client = &manager.probe_client;
    let sent = Instant::now();
    let within = manager.cluster().reader_watch.scaled_wait(PROBE_TIMEOUT);
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

/// Probes a reader at its address. The answer of another reader that has the address now does not count.
async fn probe_reader(client: &Client, reader: &ReaderId, url: &str, within: Duration) -> ProbeOutcome {
    answer_within(ask_health(client, reader, url, within + 2 * LATE_ANSWER_TIMEOUT), within)
        .await
        .unwrap_or(ProbeOutcome::Late)
}

/// Returns the result of `question` if it comes within the time `within`, or has come already when that time is over;
/// otherwise `None`.
async fn answer_within<T>(question: impl Future<Output = T>, within: Duration) -> Option<T> {
    let mut question = pin!(question);
    if let Ok(answer) = timeout(within, &mut question).await {
        return Some(answer);
    }
    timeout(LATE_ANSWER_TIMEOUT, question).await.ok()
}

/// The fields of a reader's answer ([`liverank_protocol::ReaderHealth`]) that a probe uses. The other fields may differ
/// in readers of other releases.
#[derive(serde::Deserialize)]
struct ProbedHealth {
    #[serde(rename = "instanceId", default)]
    instance_id: Option<serde_json::Value>,
}

async fn ask_health(client: &Client, reader: &ReaderId, url: &str, within: Duration) -> ProbeOutcome {
    let Ok(base) = url.parse::<Url>() else { return ProbeOutcome::Unreachable };
    let answer = match client.get(join_path(&base, &["health"])).timeout(within).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_immediate_connect_failure() => return ProbeOutcome::Unreachable,
        Err(_) => return ProbeOutcome::Late,
    };
    let health = match answer.json_within::<ProbedHealth>(MAX_SHORT_ANSWER_BYTES).await {
        Ok(health) => health,
        Err(error) if error.is_unreadable_answer() => return ProbeOutcome::Unreachable,
        Err(_) => return ProbeOutcome::Late,
    };
    if health.instance_id.is_none_or(|instance| instance.as_str().is_none_or(|it| it == reader.as_str())) {
        ProbeOutcome::Answered
    } else {
        ProbeOutcome::Unreachable
    }
}

/// Returns the HTTP client for probes. Each probe opens a new connection, because a kept connection does not show
/// whether a reader's name still leads to the reader.
pub fn new_probe_client(tls: &PeerTls) -> Client {
    Client::new(tls, ConnectionSettings::default())
}

/// Logs the readers that cannot be reached now, and those among `known` that can be reached again.
fn log_unreachable_readers(manager: &Manager, known: &mut BTreeSet<ReaderId>) {
    let (lost, found) = {
        let cluster = manager.cluster();
        let lost = cluster.reader_watch.all_readers().filter(|sighting| sighting.is_unreachable());
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

/// Returns the reason of a hold that is logged: `None` for a stale view before the first poll of the store has
/// succeeded (`polled`). A store that has never answered is reported as an unavailable dependency instead.
const fn reported_hold_reason(reason: Option<HoldReason>, polled: bool) -> Option<HoldReason> {
    match reason {
        Some(HoldReason::Stale) if !polled => None,
        reason => reason,
    }
}

/// Logs when this manager stops moving videos for a [`HoldReason`], and when it moves them again.
fn note_hold(manager: &Manager, held: &mut Option<HoldReason>) {
    let (reason, polled) = {
        let mut cluster = manager.cluster();
        (cluster.decide_about_readers(Instant::now()), cluster.reader_watch.was_polled())
    };
    manager.metrics.moves_suspended.set(i64::from(reason.is_some()));
    let reason = reported_hold_reason(reason, polled);
    match (held.is_some(), reason) {
        (false, Some(reason)) => {
            tracing::warn!(reason = hold_text(reason), "nothing is moved for now");
        }
        (true, None) => tracing::info!("videos are moved again"),
        _ => {}
    }
    *held = reason;
}

/// Gives the videos of readers that are gone to other readers and, with `budgets`, gives readers to watched videos that
/// the store has lost. Each decision is made anew just before it takes effect, so that a view which grew stale
/// meanwhile stops it.
async fn relocate_videos(manager: &Manager, mut budgets: Option<&mut AdoptionBudgets>) {
    if let Some(budgets) = &mut budgets {
        budgets.refill(Instant::now());
    }
    let (moving, lost) = {
        let (cluster, now) = (manager.cluster(), Instant::now());
        let moving = cluster.videos_to_move(now, MAX_MOVES_A_SWEEP);
        let most = MAX_MOVES_A_SWEEP - moving.len();
        let lost = budgets.as_deref().map(|budgets| cluster.videos_to_adopt(now, most, budgets));
        (moving, lost.unwrap_or_default())
    };
    if moving.is_empty() && lost.is_empty() {
        return;
    }
    let (move_count, adoption_count) = (moving.len(), lost.len());
    // What does not work is found again by the next sweep.
    let moved = moving.into_iter().map(|video| (video, None));
    let adopted = lost.into_iter().map(|(video, reader)| (video, Some(reader)));
    let mut ensured = stream::iter(moved.chain(adopted))
        .map(|(video, reader)| async move {
            let ensured = manager.ensure_assigned(&video, 0).await;
            reader.filter(|_| ensured.is_ok_and(|ensured| ensured.is_new))
        })
        .buffer_unordered(MAX_SWAPS_AT_ONCE);
    while let Some(adopted_for) = ensured.next().await {
        if let (Some(reader), Some(budgets)) = (adopted_for, budgets.as_deref_mut()) {
            budgets.count_adopted(reader);
        }
    }
    tracing::info!(moves = move_count, adoptions = adoption_count, "gave videos to other readers");
}

async fn remove_unwatched(manager: &Manager) {
    let unused = {
        let mut cluster = manager.cluster();
        let (idle, most) = if cluster.assignment_view.len() >= CROWDED_ASSIGNMENT_COUNT {
            (FORGET_AFTER_WHEN_CROWDED, MAX_REMOVED_WHEN_CROWDED)
        } else {
            (FORGET_AFTER, MAX_REMOVED_AT_ONCE)
        };
        cluster.videos_to_remove(Instant::now(), idle, most)
    };
    stream::iter(unused)
        .for_each_concurrent(MAX_SWAPS_AT_ONCE, |(video, epoch)| async move {
            manager.remove_unused_assignment(&video, epoch).await;
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

/// Takes a sample of the readers' viewers, without the canary's.
fn add_viewer_sample(manager: &Manager) {
    let viewers: Vec<(ReaderId, u64)> = {
        let cluster = manager.cluster();
        let alive = cluster
            .reader_watch
            .all_readers()
            .filter(|it| cluster.reader_watch.status_of(it) != ReaderStatus::Gone);
        alive.map(|sighting| (sighting.last_record.id.clone(), viewers_without_canary(sighting))).collect()
    };
    manager
        .viewer_history
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .add_sample(now_ms(), viewers);
}

fn update_metrics(metrics: &ManagerMetrics, manager: &Manager) {
    let cluster = manager.cluster();
    let silent = cluster.reader_watch.all_readers().filter(|sighting| {
        matches!(cluster.reader_watch.status_of(sighting), ReaderStatus::Suspect | ReaderStatus::Gone)
    });
    let unreachable = cluster.reader_watch.all_readers().filter(|sighting| sighting.is_unreachable());
    metrics.readers_unreachable.set(unreachable.count() as i64);
    metrics.videos.set(cluster.assignment_view.len() as i64);
    metrics.readers_silent.set(silent.count() as i64);
    metrics.readers_open.set(cluster.open_readers().count() as i64);
    metrics.viewers_to_hand_over.set(cluster.pending_hand_overs.viewers as i64);
    metrics.drains_overdue.set(cluster.overdue_drains(Instant::now()).len() as i64);
    metrics.heartbeat_age.set(cluster.reader_watch.longest_silence().as_secs_f64());
    drop(cluster);
    for ended in manager.move_executor().take_ended_move_labels() {
        metrics.moves.get_or_create(&ended).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_has_just_begun_tells_of_no_hold_before_its_first_view() {
        let (stale, many) = (HoldReason::Stale, HoldReason::TooManyGone { missing: 3, readers: 4 });
        assert_eq!(reported_hold_reason(Some(stale), false), None);
        assert_eq!(reported_hold_reason(Some(stale), true), Some(stale));
        assert_eq!(
            (reported_hold_reason(Some(many), false), reported_hold_reason(None, true)),
            (Some(many), None)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_come_when_the_time_is_over_counts() {
        let answered = |after: Duration| async move {
            answer_within(tokio::time::sleep(after), PROBE_TIMEOUT).await.is_some()
        };
        let moment = Duration::from_millis(10);
        assert!(
            answered(PROBE_TIMEOUT.saturating_sub(moment)).await && answered(PROBE_TIMEOUT + moment).await
        );
        assert!(!answered(PROBE_TIMEOUT + LATE_ANSWER_TIMEOUT + moment).await);
    }
}
