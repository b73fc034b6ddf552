//! The removal of readers that are being emptied.
//!
//! A reader is removed after its managers and the reader itself have reported for a while that it has no viewers. The
//! reports must be from after all managers know that the reader accepts nobody, because a viewer sent there just before
//! may still arrive. A reader without a report is not taken for empty, unless it does not run. And before its
//! Deployment is deleted, all managers have to know that it is removed: its Service ends with the Deployment, and its
//! process runs on for a while.

use liverank_core::Millis;
use liverank_core::handover::CordonLevel;

use super::change::drained_millis;
use super::decision::{DecisionAction, DecisionEvent};
use super::fleet::{FleetReader, ReaderFleet};
use super::memory::ReaderMemory;
use super::seen::{ObservedReader, ReaderDrain, RoundInput};
use super::step::ReaderStep;
use super::view::{LoadView, reader_id};

/// The time in milliseconds for which a reader has to be empty before it is removed. Within that time a viewer who was
/// sent to the reader before its cordon was known has arrived, and the reader has reported the viewer (it reports every
/// second).
const EMPTY_FOR_MS: Millis = 3_000;

/// Readers that take too long to empty, each with its number of viewers.
pub(super) type OverdueReaders = Vec<(String, u64)>;

/// Deletes readers that are empty, and overdue readers if the resource says so; returns the steps and the overdue
/// readers.
pub(super) fn remove_drained_readers(
    seen: &RoundInput,
    view: &LoadView<'_>,
    fleet: &ReaderFleet,
    memory: &mut ReaderMemory,
    tales: &mut Vec<DecisionEvent>,
) -> (Vec<ReaderStep>, OverdueReaders) {
    let (mut steps, mut overdue) = (Vec::new(), Vec::new());
    let drains = seen.readers.iter().filter(|reader| reader.drain.is_some());
    let since = |uid: &String| memory.draining_since.get(uid).copied().unwrap_or(seen.now);
    memory.draining_since = drains.map(|reader| (reader.uid.clone(), since(&reader.uid))).collect();
    let mut empty = std::mem::take(&mut memory.empty_since);
    for reader in &seen.readers {
        let Some(member) = fleet.members.iter().find(|member| member.name == reader.name) else { continue };
        let Some(drain) = member.drain.filter(|_| !reader.deleting) else { continue };
        if reader.drain.is_some_and(|drain| drain.since.is_none()) {
            // The drain begins now.
            let now = ReaderDrain { since: Some(seen.now), ..drain };
            memory
                .pending_writes
                .drains_to_annotate
                .entry(reader.name.clone())
                .or_insert((reader.uid.clone(), Some(now)));
            continue;
        }
        if reader.drain.is_none() || view.trouble.is_some() {
            continue;
        }
        let late = drained_millis(drain, seen.now) > seen.settings.drain_timeout_ms;
        let since = memory.draining_since.get(&reader.uid).copied().unwrap_or(seen.now);
        let waited = seen.now - since > seen.settings.drain_timeout_ms;
        let since = drain.since.map_or(since, |told| told.min(since));
        let forced = if is_safely_empty(seen, view, reader, member, since) {
            let since = empty.remove(&reader.name).unwrap_or(seen.now);
            memory.empty_since.insert(reader.name.clone(), since);
            if seen.now - since < EMPTY_FOR_MS {
                continue;
            }
            false
        } else if waited && seen.settings.force {
            true
        } else {
            if late {
                overdue.push((reader.name.clone(), remaining_viewers(member, reader)));
            }
            continue;
        };
        if memory.pending_writes.deployments_to_delete.insert(reader.uid.clone()) {
            tales.push(removal_event(seen, member, reader, drain, forced));
        }
        if !view.has_cordon(&reader.name, Some(CordonLevel::Removed)) {
            // If one manager knows, the others are told with the other cordons.
            if !view.is_removed(&reader.name) {
                let why = format!("it goes: {}", drain.why.as_str());
                steps.push(ReaderStep::Cordon {
                    reader: reader_id(&reader.name),
                    cordon: Some(CordonLevel::Removed),
                    why,
                });
            }
            continue;
        }
        steps.push(ReaderStep::DeleteReader { name: reader.name.clone(), uid: reader.uid.clone(), forced });
    }
    (steps, overdue)
}

/// Returns whether a reader is certainly empty. `since` is the beginning of its drain, never later than this leader saw
/// the drain by its own clock.
fn is_safely_empty(
    seen: &RoundInput,
    view: &LoadView<'_>,
    reader: &ObservedReader,
    member: &FleetReader,
    since: Millis,
) -> bool {
    if !view.is_drained_by_all_managers(&reader.name) {
        return false;
    }
    let known = view.known_reader(&reader.name);
    if known.is_some_and(|known| known.viewers > 0 || known.assigned_videos > 0) {
        return false;
    }
    // There is no process to query: the reader does not run, and the managers know that.
    if !member.pod_ready && known.is_none_or(|known| known.is_gone) {
        return true;
    }
    let young = |at: Millis| at >= since && (0..=seen.settings.load_max_age_ms).contains(&(seen.now - at));
    let own = reader.own.is_some_and(|own| own.viewers == 0 && young(own.at));
    own && known.is_none_or(|known| known.is_report_fresh)
}

fn remaining_viewers(member: &FleetReader, reader: &ObservedReader) -> u64 {
    member.viewers.max(reader.own.map_or(0, |own| own.viewers))
}

fn removal_event(
    seen: &RoundInput,
    member: &FleetReader,
    reader: &ObservedReader,
    drain: ReaderDrain,
    forced: bool,
) -> DecisionEvent {
    let (name, seconds) = (&reader.name, drained_millis(drain, seen.now) / 1000);
    let why = drain.why.as_str();
    if forced {
        let limit = seen.settings.drain_timeout_ms / 1000;
        let viewers = remaining_viewers(member, reader);
        let words = format!(
            "{name} goes with {viewers} viewers: it is not empty after {seconds} s, {limit} s are allowed ({why})"
        );
        return DecisionEvent::new(DecisionAction::Force, words)
            .with_bound_by(["DrainTimeout".to_owned()])
            .with_chosen([format!("remove {name}")]);
    }
    let words = format!(
        "{name} is empty after {seconds} s and goes ({why}): its managers and the reader itself say so"
    );
    DecisionEvent::new(DecisionAction::Remove, words).with_chosen([format!("remove {name}")])
}

/// Reports readers that cannot be emptied in time.
pub(super) fn report_overdue(
    seen: &RoundInput,
    overdue: &OverdueReaders,
    memory: &mut ReaderMemory,
    tales: &mut Vec<DecisionEvent>,
) {
    for (name, viewers) in overdue {
        let limit = seen.settings.drain_timeout_ms / 1000;
        let words = format!(
            "{name} still has {viewers} viewers after {limit} s: it waits for them (drain.onTimeout: Hold)"
        );
        let tale = DecisionEvent::new(DecisionAction::Hold, words).with_bound_by(["DrainTimeout".to_owned()]);
        if memory.announced_states.is_news(seen.now, &format!("overdue {name}"), Some(("overdue", &tale))) {
            tales.push(tale);
        }
    }
}
