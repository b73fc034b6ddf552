//! The managers' reports merged into one view of the load, and whether decisions can be based on that load.
//!
//! Managers see the same readers through the same store, a moment apart. What they agree on is known. If they differ by
//! more than a moment explains, or none of them answers, nothing is known, and unknown is not zero.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::handover::CordonLevel;
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::scaling::{ReaderLoadReport, ScalingPolicy};
use liverank_core::{Millis, ReaderId, ZoneId};
use liverank_protocol::{ReaderState, UnservedRequests};

use super::seen::{ManagerReport, RoundInput};

/// Number of reconnects in a minute below which their errors are ignored: one failure of three is chance.
const MIN_RECONNECTS: u64 = 20;

/// The reason why decisions cannot be based on the managers' load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadTrouble {
    /// No manager answered recently.
    Missing,
    /// The managers that answer do not see the store.
    StoreUnreachable,
    /// A manager has suspended moves; with its reason.
    MovesSuspended(String),
    /// Managers contradict each other about the named readers.
    Contradictory(Vec<String>),
}

impl LoadTrouble {
    /// Returns the name of the problem, for the reason of a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing | Self::StoreUnreachable => "LoadMissing",
            Self::MovesSuspended(_) => "MovesSuspended",
            Self::Contradictory(_) => "LoadContradictory",
        }
    }

    /// Describes the problem in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Missing => "no manager has said of late what load there is".to_owned(),
            Self::StoreUnreachable => "the managers that answer do not see the store".to_owned(),
            Self::MovesSuspended(why) => format!("a manager holds: {why}"),
            Self::Contradictory(readers) => {
                format!("managers contradict each other about {}", readers.join(", "))
            }
        }
    }
}

/// A reader as the managers report it.
#[expect(clippy::struct_excessive_bools, reason = "independent things that managers say of a reader")]
#[derive(Debug, Clone, Default)]
pub struct KnownReader {
    /// Number of viewers, by the manager that counts most.
    pub viewers: u64,
    /// Number of viewers that the reader can hold.
    pub capacity: u64,
    /// Number of videos assigned to the reader, by the manager that counts most.
    pub assigned_videos: u64,
    /// Whether every manager hears the reader.
    pub alive: bool,
    /// Whether every manager considers the reader gone.
    pub is_gone: bool,
    /// Whether a manager has heard from the reader that it is draining.
    pub leaving: bool,
    /// Whether every manager's report on the reader is recent, whatever it says.
    pub is_report_fresh: bool,
    /// The zone that the reader reports; `None` if it is not known.
    pub zone: Option<ZoneId>,
    /// Number of viewers who came by a gateway in another zone than the reader's, by the manager that counts most.
    pub other_zone_viewers: u64,
    /// The number of viewers who were to reconnect to this reader from another one in the last minute, and the number
    /// of those viewers who failed.
    pub reconnects: (u64, u64),
}

/// The readers and their load, merged from the managers' answers that are recent enough.
#[derive(Debug)]
pub struct LoadView<'a> {
    /// The reason why decisions cannot be based on the load; `None` if they can.
    pub trouble: Option<LoadTrouble>,
    /// The time at which the oldest answer in this view was requested; `None` if there is no answer.
    pub as_of: Option<Millis>,
    readers: BTreeMap<&'a str, KnownReader>,
    /// The answers of managers that see the store and are recent enough.
    usable_reports: Vec<&'a ManagerReport>,
}

impl<'a> LoadView<'a> {
    /// Merges the managers' answers that are no older than permitted.
    pub fn of(seen: &'a RoundInput) -> Self {
        let settings = &seen.settings;
        let young = |heard: &&ManagerReport| (0..=settings.load_max_age_ms).contains(&(seen.now - heard.at));
        let young: Vec<&ManagerReport> = seen.managers.iter().filter(young).collect();
        let any = !young.is_empty();
        let usable_reports: Vec<&ManagerReport> =
            young.into_iter().filter(|heard| heard.load.fresh).collect();
        let mut view = LoadView {
            trouble: None,
            as_of: usable_reports.iter().map(|heard| heard.at).min(),
            readers: merge_reports(&usable_reports),
            usable_reports,
        };
        let held = view.usable_reports.iter().find_map(|heard| heard.load.hold.clone());
        let contradicted = view.contradicted_reports(&settings.scaling_policy());
        view.trouble = match () {
            () if view.usable_reports.is_empty() && any => Some(LoadTrouble::StoreUnreachable),
            () if view.usable_reports.is_empty() => Some(LoadTrouble::Missing),
            () => held.map(LoadTrouble::MovesSuspended),
        };
        if view.trouble.is_none() && !contradicted.is_empty() {
            view.trouble = Some(LoadTrouble::Contradictory(contradicted));
        }
        view
    }

    /// Returns a reader as the managers report it; `None` if no manager knows it.
    pub fn known_reader(&self, name: &str) -> Option<&KnownReader> {
        self.readers.get(name)
    }

    /// Returns the names of all readers that a manager knows.
    pub fn reader_names(&self) -> impl Iterator<Item = &'a str> {
        self.readers.keys().copied()
    }

    /// Returns the usable answers of managers, the latest first.
    pub fn latest_reports(&self) -> impl Iterator<Item = &'a ManagerReport> {
        let mut usable = self.usable_reports.clone();
        usable.sort_by_key(|heard| std::cmp::Reverse(heard.at));
        usable.into_iter()
    }

    /// Returns whether every manager has this cordon on the reader.
    pub fn has_cordon(&self, name: &str, cordon: Option<CordonLevel>) -> bool {
        self.usable_reports.iter().all(|heard| cordon_in_report(heard, name) == cordon)
    }

    /// Returns whether every manager is moving the reader's viewers to other readers.
    pub fn is_drained_by_all_managers(&self, name: &str) -> bool {
        let emptied = [Some(CordonLevel::Draining), Some(CordonLevel::Removed)];
        self.usable_reports.iter().all(|heard| emptied.contains(&cordon_in_report(heard, name)))
    }

    /// Returns whether some manager has the cordon *removed* on the reader.
    pub fn is_removed(&self, name: &str) -> bool {
        self.usable_reports.iter().any(|heard| cordon_in_report(heard, name) == Some(CordonLevel::Removed))
    }

    /// Returns the names of all readers that have a cordon at some manager.
    pub fn cordoned_readers(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for heard in &self.usable_reports {
            let readers = heard.load.readers.iter().filter(|reader| reader.cordon.is_some());
            names.extend(readers.map(|reader| reader.id.as_str()));
            names.extend(heard.load.cordons.iter().map(|cordon| cordon.reader.as_str()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the requests of viewers without a reader, by the manager that has seen them for longest; `None` if there
    /// are none.
    pub fn unserved_requests(&self) -> Option<&UnservedRequests> {
        let told = self.usable_reports.iter().filter_map(|heard| heard.load.unserved.as_ref());
        told.max_by_key(|unserved| unserved.since_ms)
    }

    /// Returns the readers that send reports and cannot be reached.
    pub fn unreachable_readers(&self) -> BTreeSet<&'a str> {
        let readers = self.usable_reports.iter().flat_map(|heard| &heard.load.readers);
        readers.filter(|reader| reader.unreachable).map(|reader| reader.id.as_str()).collect()
    }

    /// Returns the scaler's input: the reports in every answer, with the time of each report.
    pub fn reader_load_reports(seen: &RoundInput) -> Vec<ReaderLoadReport> {
        let of = |heard: &ManagerReport| {
            let believed = heard.load.fresh;
            let stale = heard.at - seen.settings.load_max_age_ms - 1;
            let report = |reader: &ReaderState| ReaderLoadReport {
                reader: reader.id.clone(),
                viewers: reader.viewers,
                at: if believed && reader.fresh { heard.at - reader.silent_ms as Millis } else { stale },
            };
            heard
                .load
                .readers
                .iter()
                .filter(|reader| reader.state != ReaderStatus::Gone)
                .map(report)
                .collect::<Vec<_>>()
        };
        seen.managers.iter().flat_map(of).collect()
    }

    /// Returns the number of failures and of attempts if more than `percent` of the viewers moved within the last
    /// minute failed; `None` otherwise.
    pub fn excess_reconnect_errors(&self, percent: u32) -> Option<(u64, u64)> {
        let sum = |(all, failed): (u64, u64), known: &KnownReader| {
            (all + known.reconnects.0, failed + known.reconnects.1)
        };
        let (all, failed) = self.readers.values().filter(|known| known.is_report_fresh).fold((0, 0), sum);
        let bad = all >= MIN_RECONNECTS && failed * 100 > all * u64::from(percent);
        bad.then_some((failed, all))
    }

    fn contradicted_reports(&self, policy: &ScalingPolicy) -> Vec<String> {
        let states = |name: &str| {
            let of = self.usable_reports.iter().flat_map(|heard| &heard.load.readers);
            of.filter(|state| state.id.as_str() == name).collect::<Vec<_>>()
        };
        let at_odds = |name: &&str| {
            let states = states(name);
            let fresh = || states.iter().filter(|state| state.fresh && state.state != ReaderStatus::Gone);
            let counts = || fresh().map(|state| state.viewers);
            let apart = counts().min().zip(counts().max()).is_some_and(|(a, b)| policy.contradicts(a, b));
            apart
                || (fresh().next().is_some() && states.iter().any(|state| state.state == ReaderStatus::Gone))
        };
        if self.usable_reports.len() < 2 {
            return Vec::new();
        }
        self.readers.keys().copied().filter(at_odds).map(str::to_owned).collect()
    }
}

fn merge_reports<'a>(usable: &[&'a ManagerReport]) -> BTreeMap<&'a str, KnownReader> {
    let mut readers: BTreeMap<&str, (usize, KnownReader)> = BTreeMap::new();
    for heard in usable {
        for state in &heard.load.readers {
            let first =
                KnownReader { alive: true, is_gone: true, is_report_fresh: true, ..KnownReader::default() };
            let (times, known) = readers.entry(state.id.as_str()).or_insert((0, first));
            *times += 1;
            let gone = state.state == ReaderStatus::Gone;
            // A gone reader has no viewers: its former viewers are counted where they went.
            known.viewers = known.viewers.max(if gone { 0 } else { state.viewers });
            known.capacity = known.capacity.max(state.capacity);
            if !gone {
                known.zone = known.zone.take().or_else(|| state.zone.clone());
                known.other_zone_viewers = known.other_zone_viewers.max(state.viewers_by_zone.other);
            }
            known.assigned_videos = known.assigned_videos.max(state.assigned);
            known.alive &= state.state == ReaderStatus::Alive && state.fresh;
            known.is_report_fresh &= state.fresh && !gone;
            known.is_gone &= gone;
            known.leaving |= state.state == ReaderStatus::Draining;
            known.reconnects.0 = known.reconnects.0.max(state.reconnects);
            known.reconnects.1 = known.reconnects.1.max(state.reconnect_errors);
        }
    }
    let everywhere = |(name, (times, mut known)): (&'a str, (usize, KnownReader))| {
        // A manager that has not heard of the reader yet sends nobody there.
        known.alive &= times == usable.len();
        (name, known)
    };
    readers.into_iter().map(everywhere).collect()
}

fn cordon_in_report(heard: &ManagerReport, name: &str) -> Option<CordonLevel> {
    let listed = heard.load.cordons.iter().find(|cordon| cordon.reader.as_str() == name);
    let listed = listed.and_then(|cordon| cordon.cordon.as_ref());
    let reader = || heard.load.readers.iter().find(|reader| reader.id.as_str() == name);
    listed.or_else(|| reader()?.cordon.as_ref())?.known_value()
}

/// Returns a reader's name as the managers' type.
pub fn reader_id(name: &str) -> ReaderId {
    ReaderId::parse(name).expect("an object's name is an identifier")
}
