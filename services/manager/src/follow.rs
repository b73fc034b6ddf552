//! Keeps this manager's view up to date: assignments by subscribing to the store's changes, readers by polling their
//! heartbeats in the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{AssignmentChange, TermGrant};
use liverank_core::backoff::wait_after_failures;
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior, interval, sleep};

use crate::Manager;
use crate::liveness::LOOK_INTERVAL;
use crate::view::ApplyOutcome;

/// The time between two comparisons of this manager's version with the store's, in case a change was missed without a
/// sign.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// The time that a change may take from the store to this manager: a change that has not arrived by then was missed.
const CHANGE_DELAY: Duration = Duration::from_secs(2);
/// The pause before the store is asked again after it did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The longest pause between two loads of all assignments that fail. A load that breaks off half-way costs the store as
/// much as one that succeeds, and what this manager knows goes on being served.
const MAX_PAUSE_BETWEEN_LOADS: Duration = Duration::from_secs(10);
/// The time limit for loading all assignments from the store: they come in pieces, a million in some seconds.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum number of changes that are kept while all assignments are being loaded. If there are more changes, all
/// assignments are loaded once more, as after a gap.
const MAX_CHANGES_KEPT: usize = 100_000;

/// Keeps the assignments up to date. Never returns.
pub async fn follow_assignments(manager: Arc<Manager>) {
    let mut pauses = LoadPauses::default();
    loop {
        match manager.ask_store(manager.assignment_store.subscribe_changes()).await {
            Ok(changes) => follow_changes(&manager, changes, &mut pauses).await,
            Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// Applies changes until the subscription ends. Loads all assignments only if changes are missing: at the beginning,
/// after a gap in the versions, and if the store is ahead of this manager for longer than a change takes. After loads that
/// failed there is a pause, however many changes come.
async fn follow_changes(
    manager: &Manager,
    mut changes: mpsc::Receiver<AssignmentChange>,
    pauses: &mut LoadPauses,
) {
    let mut compare = interval(COMPARE_EVERY);
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The store's version when it was ahead of this manager's at the last comparison.
    let mut awaited = None;
    loop {
        let applied = tokio::select! {
            change = changes.recv() => match change {
                Some(change) => manager.cluster().assignment_view.apply_change(Instant::now(), change),
                None => return,
            },
            _ = compare.tick() => match compare_versions(manager, awaited).await {
                Some(VersionVerdict::Same) => {
                    awaited = None;
                    ApplyOutcome::Applied
                }
                Some(VersionVerdict::Behind(version)) => {
                    awaited = Some(version);
                    compare.reset_after(CHANGE_DELAY);
                    ApplyOutcome::Applied
                }
                Some(VersionVerdict::Missed) => ApplyOutcome::ReloadNeeded,
                None => {
                    compare.reset_after(RETRY_AFTER);
                    ApplyOutcome::Applied
                }
            },
        };
        if applied == ApplyOutcome::ReloadNeeded {
            awaited = None;
            let pause = match pauses.pause_at(time::Instant::now()) {
                None => {
                    let is_loaded = catch_up(manager, &mut changes).await;
                    pauses.note_outcome(time::Instant::now(), is_loaded)
                }
                pause => pause,
            };
            if let Some(pause) = pause {
                // This is tried again then, not only at the next change: the versions still differ.
                compare.reset_after(pause);
            }
        }
    }
}

/// The pauses after loads that failed, which double.
///
/// Pure: time is an argument.
#[derive(Debug, Default)]
struct LoadPauses {
    /// The number of loads that failed since the last one that succeeded.
    failures: u32,
    /// The time before which nothing is loaded; `None` if there may be a load now.
    next_load: Option<time::Instant>,
}

impl LoadPauses {
    /// Returns the time until there may be a load; `None` if there may be one now.
    fn pause_at(&self, now: time::Instant) -> Option<Duration> {
        self.next_load.map(|at| at.saturating_duration_since(now)).filter(|pause| !pause.is_zero())
    }

    /// Notes whether a load succeeded; returns the pause after a failure.
    fn note_outcome(&mut self, now: time::Instant, is_loaded: bool) -> Option<Duration> {
        if is_loaded {
            *self = Self::default();
            return None;
        }
        let pause = wait_after_failures(self.failures, RETRY_AFTER, MAX_PAUSE_BETWEEN_LOADS);
        self.failures = self.failures.saturating_add(1);
        self.next_load = Some(now + pause);
        Some(pause)
    }
}

/// Loads all assignments, unless nothing was missed: a subscription that was renewed may have been away for a moment in
/// which nothing changed. Returns true if this manager knows all assignments afterwards.
async fn catch_up(manager: &Manager, changes: &mut mpsc::Receiver<AssignmentChange>) -> bool {
    let compared = compare_versions(manager, None).await;
    compared == Some(VersionVerdict::Same) || load_assignments(manager, changes).await
}

/// Compares this manager's version of the assignments with the store's; `None` if the store does not answer.
async fn compare_versions(manager: &Manager, awaited: Option<u64>) -> Option<VersionVerdict> {
    let store = manager.ask_store(manager.assignment_store.assignments_version()).await.ok()?;
    let own = manager.cluster().assignment_view.version();
    Some(judge_versions(own, store, awaited))
}

/// How this manager's version of the assignments compares with the store's.
#[derive(Debug, PartialEq, Eq)]
enum VersionVerdict {
    /// This manager's assignments are as new as the store's.
    Same,
    /// The store is ahead, at this version: its changes may be on their way.
    Behind(u64),
    /// Changes were missed, or the store is another one: all assignments have to be loaded.
    Missed,
}

/// Judges this manager's version `own` and the store's. `awaited` is the version at which the store was when it was
/// last found ahead, long enough ago that its changes should have come.
fn judge_versions(own: Option<u64>, store: u64, awaited: Option<u64>) -> VersionVerdict {
    match own {
        Some(own) if own == store => VersionVerdict::Same,
        Some(own) if own < store && awaited.is_none_or(|awaited| awaited <= own) => {
            VersionVerdict::Behind(store)
        }
        _ => VersionVerdict::Missed,
    }
}

/// Loads all assignments from the store, and applies the changes that come meanwhile. Returns true if this manager
/// knows all assignments afterwards.
async fn load_assignments(manager: &Manager, changes: &mut mpsc::Receiver<AssignmentChange>) -> bool {
    let loading = manager.ask_store_within(LOAD_TIMEOUT, manager.assignment_store.load_assignments());
    tokio::pin!(loading);
    let mut kept = Vec::new();
    let state = loop {
        tokio::select! {
            state = &mut loading => break state,
            Some(change) = changes.recv(), if kept.len() <= MAX_CHANGES_KEPT => kept.push(change),
        }
    };
    let Ok(state) = state else { return false };
    manager.metrics.assignment_loads.inc();
    let mut cluster = manager.cluster();
    cluster.assignment_view.replace_all(Instant::now(), state);
    let applied = kept.into_iter().map(|change| cluster.assignment_view.apply_change(Instant::now(), change));
    applied.filter(|applied| *applied == ApplyOutcome::ReloadNeeded).count() == 0
}

/// Polls the readers' heartbeats and the planners' orders. Never returns.
pub async fn follow_readers(manager: Arc<Manager>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        manager.cluster().reader_watch.note_poll_begun(Instant::now());
        poll_readers(&manager).await;
        manager.cluster().reader_watch.note_poll_ended(Instant::now());
    }
}

async fn poll_readers(manager: &Manager) {
    // The planners' orders are read first: a manager that has just started must not send viewers to a reader before it
    // knows that a planner removed it.
    if !sync_orders(manager).await {
        return;
    }
    // The time is taken before the query, so that a process that was suspended meanwhile does not count the answer as
    // new.
    let asked = Instant::now();
    if let Ok(records) = manager.ask_store(manager.assignment_store.reader_records()).await {
        manager.cluster().note_records(asked, records);
    }
}

/// Reads the planner's term and the cordons from the store. If the store has lost the term or the cordons (it came back
/// empty or old), writes this manager's copy back: the highest term that is known stays in force, and cordons stay in
/// force. Returns true if the store answered.
async fn sync_orders(manager: &Manager) -> bool {
    let Ok(orders) = manager.ask_store(manager.assignment_store.planner_orders()).await else { return false };
    let Some(lost) = manager.take_over_orders(orders) else { return true };
    let Some(term) = lost.planner_term else { return true };
    tracing::warn!(
        term = term.term,
        cordons = lost.cordons.len(),
        "the store has lost its orders: telling it again"
    );
    // Refused if a later term has begun meanwhile: then the later planner sets the cordons.
    let told = manager.ask_store(manager.assignment_store.renew_term(&term)).await;
    if !matches!(told, Ok(TermGrant::Held(_))) {
        return true;
    }
    for cordon in &lost.cordons {
        let _ = manager
            .ask_store(manager.assignment_store.set_cordon(term.term, &cordon.reader, Some(cordon)))
            .await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_that_fail_are_tried_less_and_less_often() {
        let (mut pauses, start) = (LoadPauses::default(), time::Instant::now());
        let mut loads = Vec::new();
        // Something asks for a load ten times a second.
        for tenth in 0..600 {
            let now = start + Duration::from_millis(tenth * 100);
            if pauses.pause_at(now).is_none() {
                loads.push(tenth);
                pauses.note_outcome(now, false);
            }
        }
        assert_eq!(loads, [0, 5, 15, 35, 75, 155, 255, 355, 455, 555]);
        let now = start + Duration::from_mins(1);
        assert_eq!(pauses.pause_at(now), Some(Duration::from_millis(5_500)));
        pauses.note_outcome(now, true);
        assert_eq!((pauses.pause_at(now), pauses.note_outcome(now, false)), (None, Some(RETRY_AFTER)));
    }

    #[test]
    fn changes_that_may_be_on_their_way_are_waited_for_once() {
        assert_eq!(judge_versions(Some(7), 7, None), VersionVerdict::Same);
        assert_eq!(judge_versions(Some(7), 9, None), VersionVerdict::Behind(9));
        assert_eq!(judge_versions(Some(8), 9, Some(9)), VersionVerdict::Missed, "they should have come");
        assert_eq!(
            judge_versions(Some(9), 12, Some(9)),
            VersionVerdict::Behind(12),
            "they came, and others follow"
        );
        assert_eq!(judge_versions(Some(7), 6, None), VersionVerdict::Missed, "the store went back");
        assert_eq!(judge_versions(None, 7, None), VersionVerdict::Missed, "nothing is known yet");
    }
}
