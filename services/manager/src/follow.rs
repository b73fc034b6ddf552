//! Keeps this manager's view up to date: assignments by subscribing to the store's changes, readers by polling their
//! heartbeats in the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{AssignmentChange, TermGrant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Manager;
use crate::liveness::LOOK_INTERVAL;
use crate::view::ApplyOutcome;

/// The time between two comparisons of the version of all assignments, in case a change was missed without a sign.
const RELOAD_EVERY: Duration = Duration::from_secs(30);
/// The pause before a store is asked again that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Keeps the assignments up to date. Never returns.
pub async fn follow_assignments(manager: Arc<Manager>) {
    loop {
        match manager.ask_store(manager.assignment_store.subscribe_changes()).await {
            Ok(changes) => follow_changes(&manager, changes).await,
            Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// Applies changes until the subscription ends.
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
            // Loading is tried again soon, not only at the next change.
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

/// Polls the readers' heartbeats and the planners' orders. Never returns.
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
    // The planners' orders are read first: a manager that has just started must not send viewers to a reader before it
    // knows that a planner removed it.
    if !follow_orders(manager).await {
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
/// force. Returns whether the store answered.
async fn follow_orders(manager: &Manager) -> bool {
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
