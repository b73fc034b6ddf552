//! Decides which readers are added, which begin to be emptied, and which drains are cancelled.

use liverank_core::Millis;

use super::decision::{DecisionAction, DecisionEvent};
use super::fleet::{FleetReader, ReaderFleet};
use super::memory::ReaderMemory;
use super::phase::UpgradePhase;
use super::scale::{self, WantedReaders};
use super::seen::{DrainReason, ReaderDrain, RoundInput};
use super::view::LoadView;

/// The part of a reader's capacity, in thousandths, up to which it is filled with the viewers of a leaving reader:
/// viewers move by whole videos, and the space beyond the limit is too small for a video.
const MAX_FILL_THOUSANDTHS: u64 = 900;

/// The state of a round of decisions, to which changes of readers are added.
pub(super) struct ReaderChanges<'a> {
    pub round_input: &'a RoundInput,
    pub view: &'a LoadView<'a>,
    pub wanted_readers: &'a WantedReaders,
    pub upgrade_phase: &'a UpgradePhase,
    pub fleet: &'a mut ReaderFleet,
    pub memory: &'a mut ReaderMemory,
    pub events: &'a mut Vec<DecisionEvent>,
}

impl ReaderChanges<'_> {
    /// Makes all changes of the round. Afterwards, `super::memory::PendingWrites` has the writes that the changes need,
    /// until the writes are observed to be done.
    pub fn make_all(&mut self) {
        self.call_off_drains();
        self.create_readers();
        if self.upgrade_phase.is_running() {
            self.drain_old_readers();
        } else {
            self.drain_unwanted_readers();
        }
    }

    /// Cancels the drains of readers that are needed again, that are not removed because removing is paused, or that
    /// are not to be replaced now.
    fn call_off_drains(&mut self) {
        let missing = self.wanted_readers.reader_count.saturating_sub(self.fleet.active_count());
        let is_down = |member: &&FleetReader| member.drains_for(DrainReason::ScaleDown);
        let mut leaving: Vec<&FleetReader> = self.fleet.members.iter().filter(is_down).collect();
        // Readers that are the most expensive to lose come first.
        leaving.sort_by_key(|member| std::cmp::Reverse(member.removal_cost()));
        let keep = if self.round_input.settings.scale_in { missing as usize } else { leaving.len() };
        let kept: Vec<String> = leaving.iter().take(keep).map(|member| member.name.clone()).collect();
        let why = if self.round_input.settings.scale_in {
            format!("{} readers are wanted", self.wanted_readers.reader_count)
        } else {
            "taking readers away is paused".to_owned()
        };
        self.stop_draining(&kept, &why);
        let halt = self.upgrade_phase.halt_reason().map(|why| format!("replacing readers halts: {why}"));
        let is_off = |member: &&FleetReader| {
            member.drains_for(DrainReason::Upgrade) && (member.has_wanted_template || halt.is_some())
        };
        let kept: Vec<String> =
            self.fleet.members.iter().filter(is_off).map(|member| member.name.clone()).collect();
        self.stop_draining(&kept, halt.as_deref().unwrap_or("it has the wanted template"));
    }

    fn stop_draining(&mut self, names: &[String], why: &str) {
        for name in names {
            let Some(words) = self.request_drain_annotation(name, None) else { continue };
            self.events.push(
                DecisionEvent::new(DecisionAction::Keep, format!("{name} stays: {why}")).with_chosen([words]),
            );
        }
    }

    /// Creates readers that are wanted and missing, and readers that are to replace old ones.
    fn create_readers(&mut self) {
        let (wanted, fleet) = (self.wanted_readers.reader_count, &self.fleet);
        let replaced =
            fleet.members.iter().filter(|member| member.drains_for(DrainReason::Upgrade)).count() as u32;
        let all = fleet.active_count() + replaced;
        let surges = self.upgrade_phase.is_running() && self.view.trouble.is_none();
        let stand_ins = self.replacements_needed();
        let surge = if surges || stand_ins.is_some() { self.round_input.settings.max_surge } else { 0 };
        let new = fleet.active_readers().filter(|member| member.has_wanted_template).count() as u32;
        let lacking = wanted.saturating_sub(if surges { new } else { fleet.active_count() });
        let lacking = lacking.max(stand_ins.unwrap_or(0));
        let count = lacking.min((wanted + surge).saturating_sub(all));
        let surplus = fleet.active_count().saturating_sub(wanted + surge);
        for name in fleet
            .active_readers()
            .filter(|member| member.uid.is_none())
            .map(|member| member.name.clone())
            .take(surplus as usize)
            .collect::<Vec<_>>()
        {
            // The reader was requested and is not wanted any more. If it is created all the same, it is surplus and is
            // removed as such.
            self.memory.pending_writes.readers_to_create.remove(&name);
            self.fleet.members.retain(|member| member.name != name);
        }
        if count == 0 {
            return;
        }
        let names = self.fleet.free_names(self.round_input, self.view, count as usize);
        let here = self.fleet.active_count();
        let words = match &self.wanted_readers.decision {
            Some(decision)
                if here < wanted && decision.action == liverank_core::scaling::ScalingAction::Up =>
            {
                decision.explain()
            }
            _ if here < wanted => format!("{here} of {wanted} readers are there"),
            _ if stand_ins.is_some() => {
                "a reader leaves by itself, and the others have no room for its viewers".to_owned()
            }
            _ => format!("{here} readers, {wanted} wanted: a new one is to take the place of an old one"),
        };
        let decision = self.wanted_readers.decision.as_ref();
        let tale = DecisionEvent::new(DecisionAction::ScaleUp, words)
            .with_chosen(names.iter().map(|name| format!("create {name}")))
            .with_bound_by(decision.map(scale::bound_names).unwrap_or_default())
            .with_rejected(decision.map(scale::rejected_texts).unwrap_or_default());
        self.events.push(tale);
        for name in names {
            self.fleet.add_requested(self.round_input, &name);
            self.memory.pending_writes.readers_to_create.insert(name);
        }
    }

    /// Returns how many readers have to be added before a reader that ends by itself (its pod was evicted) can hand its
    /// viewers over: the others have no room for them, and its next pod waits until this one has ended. `None` if no
    /// such reader has viewers, or their number is unknown. A stand-in that is not needed any more is removed as
    /// surplus.
    fn replacements_needed(&self) -> Option<u32> {
        let known = self.view.trouble.is_none();
        let leaving =
            self.fleet.active_readers().filter(|member| member.ends_by_itself).map(|member| member.viewers);
        let viewers = Some(leaving.sum()).filter(|viewers: &u64| known && *viewers > 0)?;
        let takes = (self.round_input.settings.viewers_per_reader * MAX_FILL_THOUSANDTHS / 1000).max(1);
        let others = self.fleet.active_readers().filter(|member| !member.ends_by_itself);
        let room: u64 = others.map(|member| takes.saturating_sub(member.viewers)).sum();
        let missing = viewers.saturating_sub(room).div_ceil(takes);
        Some(u32::try_from(missing).unwrap_or(u32::MAX).min(self.round_input.settings.max_surge))
    }

    /// Returns whether no reader may begin to be emptied now: the load is unknown, a reader leaves by itself, moved
    /// viewers have not arrived yet, or too many of them failed to reconnect.
    fn must_not_drain(&self) -> bool {
        let percent = self.round_input.settings.max_reconnect_error_percent;
        self.view.trouble.is_some()
            || self.fleet.reader_leaving_by_itself().is_some()
            || self.memory.viewers_are_on_their_way(self.round_input.now)
            || self.view.excess_reconnect_errors(percent).is_some()
    }

    /// Begins to empty readers with an old template, as many at a time as serve beyond the wanted number. The viewers
    /// of these readers move to readers with the new template only.
    fn drain_old_readers(&mut self) {
        if self.must_not_drain() {
            return;
        }
        // Readers started by an upgrade that a newer one has overtaken take the places of new readers. If there is no
        // new reader, they are emptied first, into any other reader.
        let stuck = !self.fleet.active_readers().any(|member| member.has_wanted_template);
        let ready =
            stuck || self.fleet.active_readers().any(|member| member.has_wanted_template && member.serving);
        loop {
            let Some(old) = self
                .fleet
                .active_readers()
                .filter(|member| !member.has_wanted_template)
                .min_by_key(|member| member.removal_cost())
            else {
                return;
            };
            let spare = self.fleet.active_count() > self.wanted_readers.reader_count;
            let carried = old.is_dead
                || (ready && (!old.serving || self.fleet.serving_count() > self.wanted_readers.reader_count));
            if !spare || !carried {
                return;
            }
            self.begin_drain(
                &old.name.clone(),
                DrainReason::Upgrade,
                DecisionAction::Upgrade,
                "it has an old template",
                &[],
            );
        }
    }

    /// Begins to empty readers that are not wanted.
    fn drain_unwanted_readers(&mut self) {
        if self.must_not_drain() || !self.round_input.settings.scale_in {
            return;
        }
        // While replacing readers is halted, the readers that were started for it are kept, too.
        let upgrading = *self.upgrade_phase != UpgradePhase::Done;
        let surge = if upgrading { self.round_input.settings.max_surge } else { 0 };
        let waiting =
            self.fleet.active_readers().filter(|member| upgrading && member.has_wanted_template).count()
                as u32;
        let keep = self.wanted_readers.reader_count + surge.min(waiting);
        let count = self.fleet.active_count().saturating_sub(keep) as usize;
        // No reader is removed while the load of another one is unknown.
        let known = |member: &FleetReader| member.is_dead || member.is_report_fresh;
        if count == 0 || !self.fleet.active_readers().all(known) {
            return;
        }
        let mut order: Vec<&FleetReader> =
            self.fleet.active_readers().filter(|member| !upgrading || !member.has_wanted_template).collect();
        order.sort_by_key(|member| member.removal_cost());
        let going: Vec<String> = order.iter().take(count).map(|member| member.name.clone()).collect();
        let others: Vec<String> = order
            .iter()
            .skip(count)
            .map(|member| format!("{}: costs more to empty", member.describe()))
            .collect();
        if !self.fleet.active_readers().any(|member| member.serving && !going.contains(&member.name)) {
            return;
        }
        let why = match &self.wanted_readers.decision {
            Some(decision) => format!(
                "the cheapest to empty; {} wanted, the scaler: {}",
                self.wanted_readers.reader_count,
                decision.explain()
            ),
            None => format!("the cheapest to empty; {} are wanted", self.wanted_readers.reader_count),
        };
        for name in going {
            self.begin_drain(&name, DrainReason::ScaleDown, DecisionAction::ScaleDown, &why, &others);
        }
    }

    fn begin_drain(
        &mut self,
        name: &str,
        why: DrainReason,
        action: DecisionAction,
        words: &str,
        rejected: &[String],
    ) {
        let drain = ReaderDrain { why, since: Some(self.round_input.now) };
        let Some(chosen) = self.request_drain_annotation(name, Some(drain)) else { return };
        let bound = self.wanted_readers.decision.as_ref().map(scale::bound_names).unwrap_or_default();
        let bound = if action == DecisionAction::ScaleDown { bound } else { Vec::new() };
        let tale = DecisionEvent::new(action, format!("{name} is to be emptied and to go: {words}"));
        self.events
            .push(tale.with_chosen([chosen]).with_bound_by(bound).with_rejected(rejected.iter().cloned()));
    }

    /// Requests that `drain` is written to a reader's annotations, or removed from them (`None`). Returns the
    /// description of the reader if its drain changes; `None` otherwise.
    fn request_drain_annotation(&mut self, name: &str, drain: Option<ReaderDrain>) -> Option<String> {
        let member = self.fleet.members.iter_mut().find(|member| member.name == name)?;
        member.drain = drain;
        let words = member.describe();
        match (&member.uid, member.annotated_drain.map(|it| it.why) == drain.map(|it| it.why)) {
            (Some(uid), false) => {
                self.memory.pending_writes.drains_to_annotate.insert(name.to_owned(), (uid.clone(), drain));
                Some(words)
            }
            // The annotations are as wanted: the opposite was requested before and need not be written.
            (Some(_), true) => {
                member.drain = member.annotated_drain;
                self.memory.pending_writes.drains_to_annotate.remove(name).map(|_| words)
            }
            // The reader does not exist yet, so it need not be created at all.
            (None, _) => {
                self.memory.pending_writes.readers_to_create.remove(name);
                self.fleet.members.retain(|member| member.name != name);
                None
            }
        }
    }
}

/// Returns for how long a reader has been emptied, in milliseconds; 0 if the beginning is unknown.
pub(super) fn drained_millis(drain: ReaderDrain, now: Millis) -> Millis {
    drain.since.map_or(0, |since| now - since)
}
