//! The facts about readers in the resource's status. Messages name causes, and no number that changes with every
//! viewer.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use liverank_core::scaling::{self, ScalingLimit};
use liverank_core::{Millis, ZoneId};
use serde::{Deserialize, Serialize};

use super::decision::DecisionNumbers;
use super::fleet::{FleetReader, ReaderFleet, reader_name_prefix};
use super::phase::{UpgradePhase, describe_unready, readers_unready_too_long};
use super::remove::OverdueReaders;
use super::scale::WantedReaders;
use super::seen::RoundInput;
use super::settings::ScalingSetting;
use super::view::{KnownReader, LoadView};

/// The time in milliseconds after which viewers without a reader are reported: a dead reader is replaced within five
/// seconds.
const UNSERVED_AFTER_MS: u64 = 10_000;

/// The facts about readers that the resource's conditions are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderFacts {
    /// Number of readers wanted.
    pub desired: u32,
    /// Number of readers whose pods are ready and that the managers hear.
    pub ready: u32,
    /// Number of existing readers that have the wanted template.
    pub updated: u32,
    /// Number of readers that are being emptied.
    pub draining: u32,
    /// Number of all viewers; `None` while the load is unknown.
    pub viewers: Option<u64>,
    /// The amount by which the viewers of the fullest serving reader exceed its fair share, in percent of that share;
    /// `None` while the load is unknown.
    pub imbalance_percent: Option<u32>,
    /// The time at which the managers were queried for the load; `None` if it is unknown.
    pub load_as_of: Option<Millis>,
    /// The readers by zone, ordered by the zones' names; at most eight.
    pub zones: Vec<ZoneFacts>,
    /// The fact that the condition Autoscaling shows.
    pub autoscaling: ConditionFact,
    /// The facts that make the condition Degraded true.
    pub degraded: Vec<ConditionFact>,
    /// The facts that make the condition Reconciling true.
    pub progressing: Vec<ConditionFact>,
}

/// The readers of one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFacts {
    /// The name of the zone.
    pub name: ZoneId,
    /// Number of readers that managers know in the zone.
    pub readers: u32,
    /// Number of these readers' viewers.
    pub viewers: u64,
    /// Number of these viewers who came by a gateway in another zone.
    pub other_zone_viewers: u64,
}

/// Maximal number of zones in a status. A region of a cloud has three to six zones as a rule; zones come from flags of
/// processes, and a status must not grow with what somebody writes there.
const MAX_ZONES: usize = 8;

/// The content of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionFact {
    /// Whether the condition is true.
    pub ok: bool,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message.
    pub message: String,
}

fn condition_fact(ok: bool, reason: &str, message: impl Into<String>) -> ConditionFact {
    ConditionFact { ok, reason: reason.to_owned(), message: message.into() }
}

/// Rounds a number down to two significant digits: a status with exact numbers would have to be written with every
/// viewer.
pub const fn round_to_two_digits(number: u64) -> u64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    number / unit * unit
}

/// The findings of a round of decisions, from which the resource's conditions are made.
pub(super) struct StatusFindings<'a> {
    pub round_input: &'a RoundInput,
    pub view: &'a LoadView<'a>,
    pub fleet: &'a ReaderFleet,
    pub wanted_readers: &'a WantedReaders,
    pub upgrade_phase: &'a UpgradePhase,
    pub overdue_readers: &'a OverdueReaders,
    /// Whether the status reports that the load is missing: not in a leader's first seconds.
    pub reports_missing_load: bool,
}

impl StatusFindings<'_> {
    pub fn facts(&self) -> ReaderFacts {
        let there = || self.fleet.members.iter().filter(|member| member.uid.is_some() && !member.deleting);
        ReaderFacts {
            desired: self.wanted_readers.reader_count,
            ready: there().filter(|member| member.serving).count() as u32,
            updated: there().filter(|member| member.has_wanted_template).count() as u32,
            draining: there().filter(|member| member.drain.is_some()).count() as u32,
            viewers: self.total_viewers(),
            imbalance_percent: self.imbalance_percent(),
            load_as_of: self.view.as_of,
            zones: self.zones(),
            autoscaling: self.autoscaling_fact(),
            degraded: self.degraded_facts(),
            progressing: self.progressing_facts(),
        }
    }

    /// Returns the numbers that decisions of this round are based on.
    pub fn decision_numbers(&self) -> DecisionNumbers {
        let scaler = self.wanted_readers.decision.as_ref();
        let viewers = scaler.map_or_else(|| self.total_viewers().unwrap_or(0), |decision| decision.viewers);
        let fresh = || self.fleet.members.iter().filter(|member| member.is_report_fresh).count() as u32;
        let there = |member: &&FleetReader| !member.deleting && member.drain.is_some();
        DecisionNumbers {
            readers: self.fleet.active_count(),
            fresh: scaler.map_or_else(fresh, |decision| decision.fresh),
            draining: self.fleet.members.iter().filter(there).count() as u32,
            viewers,
            expected: scaler.map_or(viewers, |decision| decision.expected),
            raw: scaler.map_or(self.wanted_readers.reader_count, |decision| decision.raw),
            desired: self.wanted_readers.reader_count,
        }
    }

    fn total_viewers(&self) -> Option<u64> {
        self.view.as_of?;
        Some(
            self.view
                .reader_names()
                .filter_map(|name| self.view.known_reader(name))
                .map(|known| known.viewers)
                .sum(),
        )
    }

    fn zones(&self) -> Vec<ZoneFacts> {
        let known = self.view.reader_names().filter_map(|name| self.view.known_reader(name));
        readers_by_zone(known)
    }

    fn imbalance_percent(&self) -> Option<u32> {
        self.view.as_of?;
        let open = self.fleet.active_readers().filter(|member| member.serving);
        let open: Vec<_> = open.filter_map(|member| self.view.known_reader(&member.name)).collect();
        let viewers: u64 = open.iter().map(|known| known.viewers).sum();
        let capacity: u64 = open.iter().map(|known| known.capacity).sum();
        if viewers == 0 || capacity == 0 {
            return Some(0);
        }
        let over = open.iter().map(|known| {
            let fair = u128::from(viewers) * u128::from(known.capacity);
            (u128::from(known.viewers) * u128::from(capacity) * 100).checked_div(fair).unwrap_or(0)
        });
        Some(over.max().unwrap_or(0).saturating_sub(100) as u32)
    }

    fn autoscaling_fact(&self) -> ConditionFact {
        let settings = &self.round_input.settings;
        let n = self.wanted_readers.reader_count;
        match (settings.scaling, &self.wanted_readers.decision) {
            _ if settings.paused => condition_fact(false, "Paused", "the resource is paused"),
            _ if settings.hibernates => {
                condition_fact(false, "Hibernated", "spec.hibernate is set: there are no readers")
            }
            _ if !settings.enabled => {
                condition_fact(false, "CommentsDisabled", "comments are switched off, and readers with them")
            }
            (ScalingSetting::Manual, _) => {
                condition_fact(false, "Manual", format!("spec.readers.replicas decides: {n}"))
            }
            (ScalingSetting::DryRun, _) => condition_fact(
                false,
                "DryRun",
                format!("spec.readers.replicas decides: {n}; what the scaler would do is told as events"),
            ),
            (ScalingSetting::Proposal, _) if self.view.trouble.is_none() => condition_fact(
                false,
                "AwaitingApproval",
                format!("{n} readers stay until somebody approves what is proposed"),
            ),
            (ScalingSetting::Auto | ScalingSetting::Proposal, decision) => match &self.view.trouble {
                Some(trouble) => condition_fact(
                    false,
                    trouble.reason(),
                    format!("{n} readers stay: {}", trouble.describe()),
                ),
                None => decision
                    .as_ref()
                    .map_or_else(|| condition_fact(true, "Steady", ""), |decision| scaled_fact(decision, n)),
            },
        }
    }

    fn degraded_facts(&self) -> Vec<ConditionFact> {
        let mut facts = Vec::new();
        if let Some(trouble) = self.view.trouble.as_ref().filter(|_| self.reports_missing_load) {
            facts.push(condition_fact(
                true,
                trouble.reason(),
                format!("{}: no reader is taken away and nobody is moved", trouble.describe()),
            ));
        }
        facts.extend(self.unserved_fact());
        if let Some(why) = self.upgrade_phase.halt_reason() {
            facts.push(condition_fact(true, "UpgradeHalted", why));
        }
        let halted = |name: &str| self.upgrade_phase.halt_reason().is_some_and(|why| why.starts_with(name));
        let late: Vec<String> = readers_unready_too_long(self.round_input, self.fleet)
            .filter(|member| !halted(&member.name))
            .map(|member| describe_unready(self.round_input, member))
            .collect();
        if !late.is_empty() {
            facts.push(condition_fact(true, "ReadersUnready", late.join("; ")));
        }
        if !self.overdue_readers.is_empty() {
            let names: Vec<&str> = self.overdue_readers.iter().map(|(name, _)| name.as_str()).collect();
            let limit = self.round_input.settings.drain_timeout_ms / 1000;
            facts.push(condition_fact(true, "DrainOverdue", format!("{} could not be emptied within {limit} s; set drain.onTimeout to Force to let go of the viewers left", names.join(", "))));
        }
        let percent = self.round_input.settings.max_reconnect_error_percent;
        if self.upgrade_phase.halt_reason().is_none()
            && self.view.trouble.is_none()
            && self.view.excess_reconnect_errors(percent).is_some()
        {
            facts.push(condition_fact(true, "ReconnectErrors", format!("more than {percent} % of the viewers who were moved within a minute failed: nobody is moved")));
        }
        if let Some(decision) = self
            .wanted_readers
            .decision
            .as_ref()
            .filter(|decision| super::scale::lasting_bound(decision) == Some(ScalingLimit::Max))
        {
            let max = self.round_input.settings.max;
            if self.round_input.settings.scaling == ScalingSetting::Auto
                && decision.viewers
                    > u64::from(decision.desired) * self.round_input.settings.viewers_per_reader
            {
                facts.push(condition_fact(
                    true,
                    "AtMaximum",
                    format!("there are more viewers than {max} readers are to hold: raise maxReplicas"),
                ));
            }
        }
        facts
    }

    /// Returns the fact that viewers have had no stream for longer than it takes to replace a reader; `None` if there
    /// are no such viewers.
    fn unserved_fact(&self) -> Option<ConditionFact> {
        let unserved =
            self.view.unserved_requests().filter(|unserved| unserved.since_ms >= UNSERVED_AFTER_MS)?;
        let video = unserved.video.as_ref().map(|video| format!(", {video} among them")).unwrap_or_default();
        let unreachable: Vec<&str> = self.view.unreachable_readers().into_iter().collect();
        let why = if unreachable.is_empty() {
            String::new()
        } else {
            format!("; these report themselves and cannot be reached: {}", unreachable.join(", "))
        };
        let words = format!("viewers ask for videos that no reader serves{video}{why}");
        Some(condition_fact(true, "ViewersUnserved", words))
    }

    fn progressing_facts(&self) -> Vec<ConditionFact> {
        let mut facts = Vec::new();
        let names = |of: &dyn Fn(&FleetReader) -> bool| {
            self.fleet
                .members
                .iter()
                .filter(|member| of(member))
                .map(|member| member.name.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let coming = names(&|member| {
            member.is_active() && !member.serving && !member.is_dead && member.has_wanted_template
        });
        if !coming.is_empty() {
            facts.push(condition_fact(true, "ScalingUp", format!("to serve soon: {coming}")));
        }
        let going = names(&|member| !member.deleting && member.drain.is_some());
        if !going.is_empty() {
            facts.push(condition_fact(true, "Draining", format!("being emptied: {going}")));
        }
        match self.upgrade_phase {
            UpgradePhase::Waiting(why) => {
                facts.push(condition_fact(
                    true,
                    "UpgradeWaits",
                    format!("readers are replaced later: {why}"),
                ));
            }
            UpgradePhase::Running => {
                let old = names(&|member| !member.has_wanted_template && !member.deleting);
                facts.push(condition_fact(true, "Upgrading", format!("still to be replaced: {old}")));
            }
            UpgradePhase::Done | UpgradePhase::Unready(_) | UpgradePhase::ReconnectErrors(_) => {}
        }
        let deleting = names(&|member| {
            member.deleting && member.name.starts_with(&reader_name_prefix(self.round_input))
        });
        if !deleting.is_empty() {
            facts.push(condition_fact(true, "Removing", format!("going: {deleting}")));
        }
        facts
    }
}

/// Sums readers up by zone. Of more than [`MAX_ZONES`] zones, those with the most readers are returned. Readers whose zone
/// is not known are in no zone.
fn readers_by_zone<'a>(readers: impl Iterator<Item = &'a KnownReader>) -> Vec<ZoneFacts> {
    let mut zones: BTreeMap<&ZoneId, ZoneFacts> = BTreeMap::new();
    for reader in readers {
        let Some(name) = &reader.zone else { continue };
        let none = || ZoneFacts { name: name.clone(), readers: 0, viewers: 0, other_zone_viewers: 0 };
        let zone = zones.entry(name).or_insert_with(none);
        zone.readers += 1;
        zone.viewers += reader.viewers;
        zone.other_zone_viewers += reader.other_zone_viewers;
    }
    let mut zones: Vec<ZoneFacts> = zones.into_values().collect();
    zones.sort_by_key(|zone| Reverse(zone.readers));
    zones.truncate(MAX_ZONES);
    zones.sort_by(|one, other| one.name.cmp(&other.name));
    zones
}

fn scaled_fact(decision: &scaling::ScalingDecision, n: u32) -> ConditionFact {
    let about = round_to_two_digits(decision.viewers);
    let binds = |bound: ScalingLimit| decision.bound_by.contains(&bound);
    let (reason, words) = match () {
        () if decision.action == scaling::ScalingAction::Up => ("ScalingUp", String::new()),
        () if decision.action == scaling::ScalingAction::Down => ("ScalingDown", String::new()),
        () if super::scale::lasting_bound(decision) == Some(ScalingLimit::Max) => {
            ("AtMaximum", ScalingLimit::Max.describe().to_owned())
        }
        () if binds(ScalingLimit::ScaleInPaused) => {
            ("ScaleInPaused", ScalingLimit::ScaleInPaused.describe().to_owned())
        }
        () if binds(ScalingLimit::ScaleOutPaused) => {
            ("ScaleOutPaused", ScalingLimit::ScaleOutPaused.describe().to_owned())
        }
        () if binds(ScalingLimit::Stabilisation) || binds(ScalingLimit::ShortHistory) => {
            ("Stabilising", "fewer may do, and have not for long enough".to_owned())
        }
        () if binds(ScalingLimit::Stale) => ("AwaitingReports", ScalingLimit::Stale.describe().to_owned()),
        () if binds(ScalingLimit::Draining) => {
            ("AwaitingDrain", ScalingLimit::Draining.describe().to_owned())
        }
        () => ("Steady", String::new()),
    };
    let words = if words.is_empty() { String::new() } else { format!("; {words}") };
    condition_fact(true, reason, format!("{n} readers for about {about} viewers{words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(zone: Option<&str>, viewers: u64, other_zone_viewers: u64) -> KnownReader {
        let zone = zone.map(|zone| zone.parse().unwrap());
        KnownReader { viewers, zone, other_zone_viewers, ..KnownReader::default() }
    }

    fn lines(readers: &[KnownReader]) -> Vec<String> {
        let line =
            |it: &ZoneFacts| format!("{} {} {} {}", it.name, it.readers, it.viewers, it.other_zone_viewers);
        readers_by_zone(readers.iter()).iter().map(line).collect()
    }

    #[test]
    fn readers_are_summed_up_by_zone_and_zones_are_bounded() {
        let readers =
            [known(Some("b"), 30, 4), known(None, 5, 0), known(Some("a"), 20, 0), known(Some("b"), 10, 1)];
        assert_eq!(lines(&readers), ["a 1 20 0", "b 2 40 5"]);
        assert!(lines(&readers[1..2]).is_empty(), "a reader of an earlier release reports no zone");
        let names: Vec<String> = (0..MAX_ZONES + 2).map(|at| format!("z{at}")).collect();
        let mut many: Vec<KnownReader> = names.iter().map(|name| known(Some(name), 1, 0)).collect();
        many.push(known(Some("z9"), 1, 0));
        let lines = lines(&many);
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (MAX_ZONES, Some("z9 2 2 0")));
    }
}
