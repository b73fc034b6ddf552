//! The readers of a cluster in one round of decisions, each with all facts about it, and with requests that are not
//! observed to be done yet.

use std::cmp::Reverse;

use liverank_core::Millis;

use super::memory::ReaderMemory;
use super::seen::{DrainReason, ObservedReader, ReaderDrain, RoundInput};
use super::view::LoadView;

/// A reader, with all facts that a round of decisions needs.
#[expect(clippy::struct_excessive_bools, reason = "independent things that are known of a reader")]
#[derive(Debug, Clone)]
pub(super) struct FleetReader {
    pub name: String,
    /// The uid of the reader's Deployment; `None` if the reader was requested and does not exist yet.
    pub uid: Option<String>,
    /// Whether the reader has the wanted template.
    pub has_wanted_template: bool,
    pub deleting: bool,
    /// The reader's drain, as its annotations say, or as they are to say by a pending write.
    pub drain: Option<ReaderDrain>,
    /// The drain in the annotations of the reader's Deployment, as observed.
    pub annotated_drain: Option<ReaderDrain>,
    /// Whether the reader's pod is ready, and all managers hear the reader.
    pub serving: bool,
    /// Whether the reader has not served for longer than permitted and the managers report that it has no viewers.
    pub is_dead: bool,
    /// The time for which the reader has not served, in milliseconds, if it is known and the reader's own fault.
    pub unready_ms: Option<Millis>,
    /// The reason why the reader does not serve, in words.
    pub unready_reason: String,
    pub viewers: u64,
    /// Whether the managers' report on the reader is recent.
    pub is_report_fresh: bool,
    /// Whether the reader ends by itself: its pod was told to end.
    pub ends_by_itself: bool,
    pub pod_ready: bool,
    ordinal: u32,
}

impl FleetReader {
    /// Returns whether the reader is neither being emptied nor deleted.
    pub fn is_active(&self) -> bool {
        !self.deleting && self.drain.is_none()
    }

    pub fn drains_for(&self, why: DrainReason) -> bool {
        !self.deleting && self.drain.is_some_and(|drain| drain.why == why)
    }

    /// Returns the sort key for removing readers, the cheapest first: those that do not serve, then those with an old
    /// template, then those with the fewest viewers, then the latest names.
    pub fn removal_cost(&self) -> impl Ord + use<> {
        (self.serving, self.has_wanted_template, self.viewers, Reverse(self.ordinal), self.name.clone())
    }

    pub fn describe(&self) -> String {
        let state = if self.serving { "" } else { ", does not serve" };
        let template = if self.has_wanted_template { "" } else { ", old template" };
        format!("{} ({} viewers{state}{template})", self.name, self.viewers)
    }
}

/// All readers of a cluster, including those that are being emptied.
#[derive(Debug, Clone, Default)]
pub(super) struct ReaderFleet {
    pub members: Vec<FleetReader>,
}

impl ReaderFleet {
    pub fn of(seen: &RoundInput, view: &LoadView<'_>, memory: &mut ReaderMemory) -> Self {
        memory.pending_writes.drop_settled(&seen.readers);
        let mut unheard = std::mem::take(&mut memory.unheard_since);
        let mut members: Vec<FleetReader> = Vec::new();
        for reader in &seen.readers {
            let mut member = observed_fleet_reader(seen, view, reader);
            if member.pod_ready && !member.serving && view.trouble.is_none() && !member.ends_by_itself {
                let since = unheard.remove(&reader.name).unwrap_or(seen.now);
                memory.unheard_since.insert(reader.name.clone(), since);
                member.unready_ms = Some(seen.now - since);
                "the managers do not hear it".clone_into(&mut member.unready_reason);
            }
            let known = view.known_reader(&reader.name);
            let gone = known.is_none_or(|known| known.is_gone && known.assigned_videos == 0);
            let overdue = member.unready_ms.is_some_and(|ms| ms > seen.settings.ready_timeout_ms);
            member.is_dead = overdue && gone && !member.pod_ready && view.trouble.is_none();
            if let Some((_, drain)) = memory.pending_writes.drains_to_annotate.get(&reader.name) {
                member.drain = *drain;
            }
            members.push(member);
        }
        let mut fleet = Self { members };
        for name in &memory.pending_writes.readers_to_create {
            fleet.add_requested(seen, name);
        }
        fleet.members.sort_by(|a, b| (a.ordinal, &a.name).cmp(&(b.ordinal, &b.name)));
        fleet
    }

    /// Adds a reader that was requested and does not exist yet.
    pub fn add_requested(&mut self, seen: &RoundInput, name: &str) {
        self.members.push(requested_reader(seen, name));
    }

    pub fn active_readers(&self) -> impl Iterator<Item = &FleetReader> {
        self.members.iter().filter(|member| member.is_active())
    }

    /// Returns the number of readers that are not being emptied.
    pub fn active_count(&self) -> u32 {
        self.active_readers().count() as u32
    }

    /// Returns the number of readers that serve and are not being emptied.
    pub fn serving_count(&self) -> u32 {
        self.active_readers().filter(|member| member.serving).count() as u32
    }

    /// Returns the names of readers that are being emptied and still have viewers.
    pub fn leaving_with_viewers(&self) -> impl Iterator<Item = String> {
        let leaving = self.members.iter().filter(|member| member.drain.is_some() && member.viewers > 0);
        leaving.map(|member| member.name.clone())
    }

    /// Returns whether any reader has an old template and is to be replaced.
    pub fn has_old_template(&self) -> bool {
        self.members.iter().any(|member| {
            !member.has_wanted_template && (member.is_active() || member.drains_for(DrainReason::Upgrade))
        })
    }

    /// Returns a reader that ends by itself; while there is one, no other reader is told to end.
    pub fn reader_leaving_by_itself(&self) -> Option<&FleetReader> {
        self.members.iter().find(|member| member.ends_by_itself && !member.deleting)
    }

    /// Returns `count` free names, the lowest number first: no reader has them, no pod is left of them, and no manager
    /// remembers them.
    pub fn free_names(&self, seen: &RoundInput, view: &LoadView<'_>, count: usize) -> Vec<String> {
        let taken: std::collections::BTreeSet<&str> = self
            .members
            .iter()
            .map(|member| member.name.as_str())
            .chain(view.reader_names())
            .chain(view.cordoned_readers())
            .chain(seen.orphans.keys().map(String::as_str))
            .collect();
        let names = (0_u32..).map(|number| format!("{}{number}", reader_name_prefix(seen)));
        names.filter(|name| !taken.contains(name.as_str())).take(count).collect()
    }
}

/// Returns the prefix of the names of the cluster's readers.
pub(super) fn reader_name_prefix(seen: &RoundInput) -> String {
    format!("{}-reader-", seen.cluster)
}

fn reader_number(seen: &RoundInput, name: &str) -> u32 {
    name.strip_prefix(&reader_name_prefix(seen)).and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}

fn observed_fleet_reader(seen: &RoundInput, view: &LoadView<'_>, reader: &ObservedReader) -> FleetReader {
    let known = view.known_reader(&reader.name);
    let pod = reader.pod.as_ref();
    let terminating = pod.is_some_and(|pod| pod.terminating);
    let pod_ready = pod.is_some_and(|pod| pod.ready && !pod.terminating);
    let ends_by_itself = known.is_some_and(|known| known.leaving) || terminating;
    let since = pod.map_or(reader.created, |pod| pod.since.max(reader.created));
    let why = match pod {
        None => "it has no pod".to_owned(),
        Some(pod) => {
            let reason = pod.reason.as_deref();
            let usual = if pod.unschedulable { "no node takes its pod" } else { "its pod is not ready" };
            reason.map_or_else(|| usual.to_owned(), |reason| format!("{usual}: {reason}"))
        }
    };
    FleetReader {
        name: reader.name.clone(),
        uid: Some(reader.uid.clone()),
        has_wanted_template: reader.template == seen.template,
        deleting: reader.deleting,
        drain: reader.drain,
        annotated_drain: reader.drain,
        serving: pod_ready && !reader.deleting && !ends_by_itself && known.is_some_and(|known| known.alive),
        is_dead: false,
        unready_ms: (!pod_ready && !terminating).then_some(seen.now - since),
        unready_reason: why,
        viewers: known.map_or(0, |known| known.viewers),
        is_report_fresh: known.is_some_and(|known| known.is_report_fresh),
        ends_by_itself,
        pod_ready,
        ordinal: reader_number(seen, &reader.name),
    }
}

fn requested_reader(seen: &RoundInput, name: &str) -> FleetReader {
    FleetReader {
        name: name.to_owned(),
        uid: None,
        has_wanted_template: true,
        deleting: false,
        drain: None,
        annotated_drain: None,
        serving: false,
        is_dead: false,
        unready_ms: None,
        unready_reason: String::new(),
        viewers: 0,
        is_report_fresh: false,
        ends_by_itself: false,
        pod_ready: false,
        ordinal: reader_number(seen, name),
    }
}
