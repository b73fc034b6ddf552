//! The cordons that the managers should have. They are levels, not edges: the wanted cordons follow from annotations
//! and templates, and are requested whenever a manager has other ones, for whatever reason.
//!
//! A reader's process outlives its Deployment: pods are told to end some seconds later, and may take minutes. As long
//! as anything of the reader is left (a pod, or an entry at a manager) it has the cordon *removed*: managers send
//! nobody there, whatever the process still reports, even a manager that has just begun. The cordon is in the store
//! that managers share, and is set before the Deployment is deleted ([`super::remove`]).

use std::collections::BTreeSet;

use liverank_core::handover::CordonLevel;

use super::fleet::{FleetReader, ReaderFleet, reader_name_prefix};
use super::phase::UpgradePhase;
use super::seen::RoundInput;
use super::step::ReaderStep;
use super::view::{LoadView, reader_id};

/// Returns the steps that set and lift cordons.
pub(super) fn cordon_changes(
    seen: &RoundInput,
    view: &LoadView<'_>,
    fleet: &ReaderFleet,
    phase: &UpgradePhase,
) -> Vec<ReaderStep> {
    if view.trouble.is_some() {
        return Vec::new();
    }
    // Old readers get no new videos as soon as a new reader is requested, so that viewers are moved into new readers
    // only, and nobody is moved between old ones. Until the new reader serves, managers give new videos to closed
    // readers, because there are no others.
    let closes = phase.is_running() && fleet.active_readers().any(|member| member.has_wanted_template);
    let wanted = |member: &FleetReader| match member.annotated_drain {
        // A reader that is about to be deleted keeps the cordon.
        Some(drain) if view.is_removed(&member.name) => {
            Some((CordonLevel::Removed, format!("it goes: {}", drain.why.as_str())))
        }
        Some(drain) => Some((CordonLevel::Draining, format!("it is to go: {}", drain.why.as_str()))),
        None if closes && !member.has_wanted_template => {
            Some((CordonLevel::Closed, "it is being replaced".to_owned()))
        }
        None => None,
    };
    let mut steps = Vec::new();
    for member in fleet.members.iter().filter(|member| member.uid.is_some() && !member.deleting) {
        let wanted = wanted(member);
        let cordon = wanted.as_ref().map(|(cordon, _)| *cordon);
        if !view.has_cordon(&member.name, cordon) {
            let why = wanted.map_or_else(|| "it stays".to_owned(), |(_, why)| why);
            steps.push(ReaderStep::Cordon { reader: reader_id(&member.name), cordon, why });
        }
    }
    let is_ours =
        |name: &&str| name.strip_prefix(&reader_name_prefix(seen)).is_some_and(|n| n.parse::<u32>().is_ok());
    let is_gone = |name: &&str| fleet.members.iter().all(|member| member.name != *name);
    let orphans = seen.orphans.keys().map(String::as_str);
    let names: BTreeSet<&str> = view.reader_names().chain(view.cordoned_readers()).chain(orphans).collect();
    for name in names.into_iter().filter(is_ours).filter(is_gone) {
        let (cordon, why) = match seen.orphans.get(name) {
            // Somebody edited the labels of the reader's Deployment: they are restored, and nothing is known until
            // then.
            Some(true) => continue,
            Some(false) => (Some(CordonLevel::Removed), "its Deployment is gone, its pod is ending"),
            None if view.known_reader(name).is_some() => {
                (Some(CordonLevel::Removed), "its Deployment is gone, a manager remembers it")
            }
            None => (None, "there is no such reader any more"),
        };
        if !view.has_cordon(name, cordon) {
            steps.push(ReaderStep::Cordon { reader: reader_id(name), cordon, why: why.to_owned() });
        }
    }
    steps
}
