//! Keeps what this manager knows up to date: assignments by the store's changes, readers by polling their heartbeats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{AssignmentChange, TermGrant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Manager;
use crate::liveness::LOOK_INTERVAL;
use crate::view::ApplyOutcome;

/// How often all assignments are compared by their version, should a change ever have been missed without a sign.
const RELOAD_EVERY: Duration = Duration::from_secs(30);
/// How long to wait before asking a store again that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Follows the assignments. Never returns.
pub async fn follow_assignments(manager: Arc<Manager>) {
    loop {
        match manager.ask_store(manager.assignment_store.subscribe_changes()).await {
            Ok(changes) => follow_changes(&manager, changes).await,
            Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// Follows until the subscription ends.
async fn follow_changes(manager: &Manager, mut changes: mpsc::Receiver<AssignmentChange>) {
    let mut reload = interval(RELOAD_EVERY);
    reload.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let applied = tokio::select! {
            change = changes.recv() => match change {
                Some(change) => manager.cluster().assignment_view.apply_change(Instant::now(), change),
                None => return,
            },
            _ = reload.tick() => ApplyOutcome::ReloadNeeded,
        };
        if applied == ApplyOutcome::ReloadNeeded && !load_assignments(manager).await {
            // Asked again soon, and not at the next change only.
            reload.reset_after(RETRY_AFTER);
        }
    }
}

/// Loads all assignments from the store. Returns whether the store answered.
async fn load_assignments(manager: &Manager) -> bool {
    let Ok(state) = manager.ask_store(manager.assignment_store.load_assignments()).await else {
        return false;
    };
    manager.metrics.assignment_loads.inc();
    manager.cluster().assignment_view.take_over_all(Instant::now(), state);
    true
}

/// Follows the readers. Never returns.
pub async fn follow_readers(manager: Arc<Manager>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        manager.cluster().reader_watch.note_asking(Instant::now());
        look_at_readers(&manager).await;
        manager.cluster().reader_watch.answered(Instant::now());
    }
}

async fn look_at_readers(manager: &Manager) {
    // First what planners ordered: a manager that has just begun must not take a reader for one that takes viewers
    // before it knows that it was taken away.
    if !follow_orders(manager).await {
        return;
    }
    // From before the question, so that a process that stands still in between does not take the answer for new.
    let asked = Instant::now();
    if let Ok(records) = manager.ask_store(manager.assignment_store.reader_records()).await {
        manager.cluster().note_records(asked, records);
    }
}

/// Hears who plans and which readers are closed. A store that has lost this (it came back empty, or old) is told again:
/// the highest term that anybody knows stays in force, and closed readers stay closed.
/// Returns whether the store said anything.
async fn follow_orders(manager: &Manager) -> bool {
    let Ok(orders) = manager.ask_store(manager.assignment_store.planner_orders()).await else { return false };
    let Some(lost) = manager.take_over_orders(orders) else { return true };
    let Some(term) = lost.planner_term else { return true };
    tracing::warn!(
        term = term.term,
        cordons = lost.cordons.len(),
        "the store has lost its orders: telling it again"
    );
    // Refused where a later term has begun meanwhile: its planner then says what is to be closed.
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
