//! The planner's treatment of readers that could not be emptied in time: the same as the operator's, with the same
//! messages.

use std::collections::BTreeSet;
use std::time::Instant;

use liverank_adapters::assignment_store::{CordonLevel, ReaderCordon};
use liverank_core::ReaderId;

use crate::cluster::overdue::OverdueDrain;
use crate::{Manager, OnTimeout};

/// Removes readers that could not be emptied in time, if that is configured. Returns a line of text about each overdue
/// reader that is left as it is.
///
/// Removes no reader if this manager's view of the cluster is stale, or if too many readers seem gone. `told`: the
/// readers about which a warning was logged.
pub async fn handle_overdue_drains(
    manager: &Manager,
    term: u64,
    told: &mut BTreeSet<ReaderId>,
) -> Vec<String> {
    let now = Instant::now();
    let overdue = {
        let cluster = manager.cluster();
        if !cluster.reader_watch.is_settled(now) || cluster.hold_reason(now).is_some() {
            return Vec::new();
        }
        cluster.overdue_drains(now)
    };
    told.retain(|reader| overdue.iter().any(|drain| drain.reader == *reader));
    let mut lines = Vec::new();
    for drain in overdue {
        let limit = manager.config.drain_timeout_seconds;
        if manager.config.drain_on_timeout == OnTimeout::Force {
            remove_reader(manager, term, &drain, limit).await;
            continue;
        }
        let line = hold_description(&drain, limit);
        if told.insert(drain.reader) {
            tracing::warn!("{line}");
        }
        lines.push(line);
    }
    lines
}

async fn remove_reader(manager: &Manager, term: u64, drain: &OverdueDrain, limit: u32) {
    let why = removal_description(drain, limit);
    let cordon = ReaderCordon { reader: drain.reader.clone(), closing: CordonLevel::Removed, why };
    // A removal that failed because the store is unavailable, or a later term has begun, is tried again by whoever
    // plans then.
    if let Ok(None) =
        manager.ask_store(manager.assignment_store.set_cordon(term, &drain.reader, Some(&cordon))).await
    {
        tracing::warn!(term, "{}", cordon.why);
        manager.cluster().note_cordon(&drain.reader, Some(cordon));
    }
}

fn hold_description(drain: &OverdueDrain, limit: u32) -> String {
    let OverdueDrain { reader, viewers, .. } = drain;
    format!(
        "{reader} still has {viewers} viewers after {limit} s: it waits for them (--drain-on-timeout hold)"
    )
}

fn removal_description(drain: &OverdueDrain, limit: u32) -> String {
    let (OverdueDrain { reader, viewers, .. }, seconds) = (drain, drain.drained_for.as_secs());
    format!("{reader} goes with {viewers} viewers: it is not empty after {seconds} s, {limit} s are allowed")
}
