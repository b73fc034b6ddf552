//! Small scenes: readers that serve, and two managers that agree.

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, ReaderShare};
use liverank_core::{Millis, ReaderId, VideoId};
use liverank_protocol::{AssignedVideoState, ClusterLoad, CordonRequest, ReaderState, ZonedViewers};

use crate::readers::{
    Decision, DrainReason, ManagerReport, ObservedReader, ReaderDrain, ReaderMemory, ReaderPod,
    ReaderSelfReport, ReaderSettings, ReaderStep, RoundInput, RoundOutcome, ScalingSetting, decide_round,
};

pub const NOW: Millis = 1_800_000_000_000;

pub fn reader_name(at: usize) -> String {
    format!("x-reader-{at}")
}

pub fn settings() -> ReaderSettings {
    let replicas = 3;
    ReaderSettings {
        scaling: ScalingSetting::Manual,
        replicas,
        viewers_per_reader: 1_000,
        ..ReaderSettings::default()
    }
}

pub fn reader(at: usize) -> ObservedReader {
    let pod = ReaderPod {
        ready: true,
        since: NOW - 500_000,
        terminating: false,
        unschedulable: false,
        node: None,
        zone: None,
        reason: None,
    };
    ObservedReader {
        name: reader_name(at),
        uid: format!("uid-{at}"),
        template: "t1".to_owned(),
        created: NOW - 600_000,
        deleting: false,
        drain: None,
        pod: Some(pod),
        own: None,
    }
}

pub fn state(at: usize, viewers: u64) -> ReaderState {
    ReaderState {
        id: ReaderId::parse(&reader_name(at)).unwrap(),
        public_url: String::new(),
        internal_url: String::new(),
        state: ReaderStatus::Alive.into(),
        cordon: None,
        silent_ms: 300,
        fresh: true,
        unreachable: false,
        drain_overdue: false,
        grace_ms: 0,
        viewers,
        zone: None,
        viewers_by_zone: ZonedViewers::default(),
        capacity: 1_000,
        assigned: viewers / 10,
        highest_epoch: 1,
        reconnects: 0,
        reconnect_errors: 0,
        videos: vec![(VideoId::parse(&format!("v{at}")).unwrap(), viewers)],
    }
}

/// Returns an input with one reader for each number of viewers, all of whose viewers watch one video.
pub fn input_with_viewers(settings: ReaderSettings, viewers: &[u64]) -> RoundInput {
    let assigned = viewers.iter().enumerate().map(|(at, viewers)| AssignedVideoState {
        videoid: VideoId::parse(&format!("v{at}")).unwrap(),
        epoch: 7,
        readers: vec![ReaderShare { reader: ReaderId::parse(&reader_name(at)).unwrap(), weight: 1 }],
        viewers: *viewers,
        changed_ms: 100_000,
        moving: false,
    });
    let load = ClusterLoad {
        readers: viewers.iter().enumerate().map(|(at, viewers)| state(at, *viewers)).collect(),
        assignments: Some(assigned.collect()),
        fresh: true,
        ..ClusterLoad::default()
    };
    let heard =
        |manager: &str| ManagerReport { manager: manager.to_owned(), at: NOW - 100, load: load.clone() };
    RoundInput {
        now: NOW,
        cluster: "x".to_owned(),
        settings,
        template: "t1".to_owned(),
        held: None,
        readers: (0..viewers.len()).map(reader).collect(),
        orphans: std::collections::BTreeMap::new(),
        approved: std::collections::BTreeSet::new(),
        managers: vec![heard("a"), heard("b")],
    }
}

impl RoundInput {
    /// Changes what every manager reports about a reader.
    pub(super) fn change_state(&mut self, at: usize, change: impl Fn(&mut ReaderState)) {
        for heard in &mut self.managers {
            heard
                .load
                .readers
                .iter_mut()
                .filter(|state| state.id.as_str() == reader_name(at))
                .for_each(&change);
        }
    }

    /// Marks a reader as being emptied since `ago` milliseconds, which the managers know.
    pub(super) fn set_drain(&mut self, at: usize, why: DrainReason, ago: Millis) {
        self.readers[at].drain = Some(ReaderDrain { why, since: Some(NOW - ago) });
        self.set_cordon(at, CordonLevel::Draining);
    }

    pub(super) fn set_cordon(&mut self, at: usize, closing: CordonLevel) {
        let reader = ReaderId::parse(&reader_name(at)).unwrap();
        for heard in &mut self.managers {
            let cordon = Some(closing.into());
            heard.load.cordons.push(CordonRequest { reader: reader.clone(), cordon, why: String::new() });
        }
    }

    /// Makes the managers know that a reader which was being emptied is removed.
    pub(super) fn set_removed(&mut self, at: usize) {
        for heard in &mut self.managers {
            heard.load.cordons.retain(|cordon| cordon.reader.as_str() != reader_name(at));
        }
        self.set_cordon(at, CordonLevel::Removed);
    }

    /// Makes a reader empty, by the managers' reports and by its own.
    pub(super) fn set_empty(&mut self, at: usize) {
        self.change_state(at, |state| (state.viewers, state.assigned) = (0, 0));
        self.readers[at].own = Some(ReaderSelfReport { viewers: 0, at: self.now - 200 });
    }

    /// Advances the time by `ms` milliseconds; all reports are that much newer, too.
    pub(super) fn advance(&mut self, ms: Millis) {
        self.now += ms;
        self.managers.iter_mut().for_each(|heard| heard.at += ms);
        self.readers.iter_mut().filter_map(|reader| reader.own.as_mut()).for_each(|own| own.at += ms);
    }

    pub(super) fn first_round(&self) -> RoundOutcome {
        decide_round(self, &mut memory())
    }

    /// Runs two rounds, further apart than a reader has to be empty, and returns the second result.
    pub(super) fn second_round(&self) -> RoundOutcome {
        let mut memory = memory();
        decide_round(self, &mut memory);
        let mut seen = self.clone();
        seen.advance(4_000);
        decide_round(&seen, &mut memory)
    }
}

pub fn memory() -> ReaderMemory {
    ReaderMemory::new(NOW - 60_000, None, None)
}

/// Describes the steps of a round in few words.
pub fn steps_in_words(outcome: &RoundOutcome) -> Vec<String> {
    outcome.steps.iter().map(ReaderStep::describe).collect()
}

pub fn decided_actions(outcome: &RoundOutcome) -> Vec<&'static str> {
    outcome.decisions.iter().map(|decision: &Decision| decision.action.as_str()).collect()
}

/// Returns settings with a fixed number of readers, whatever the load.
pub fn fixed_replicas(replicas: u32) -> ReaderSettings {
    ReaderSettings { replicas, ..settings() }
}
