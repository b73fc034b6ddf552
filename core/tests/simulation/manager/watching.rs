//! How a simulated manager polls the store for the readers, probes them, and replaces those that are gone: the order of
//! `follow_readers` in `services/manager/src/follow.rs` and of `run` in `services/manager/src/sweep.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liverank_core::ReaderId;
use liverank_core::handover::ReaderShare;
use liverank_core::handover::coordinator::{ClusterView, ReaderStatus};
use liverank_core::liveness::{
    LATE_ANSWER_TIMEOUT, LOOK_INTERVAL, PROBE_TIMEOUT, ProbeOutcome, SUSPECT_AFTER_SILENCE,
};

use super::Manager;
use crate::net::{Ms, Msg, Net, Node, Record, Timer, index};

const SWEEP_EVERY: Ms = 250;
/// The longest time that a manager waits for the store's answer to a poll, in milliseconds.
const POLL_WITHIN: Ms = 2_000;
/// The time for which a reader must have been up to count as one that lives, in milliseconds.
const WELL_AFTER: Ms = 2 * to_ms(SUSPECT_AFTER_SILENCE);

const fn to_ms(time: Duration) -> Ms {
    time.as_millis() as Ms
}

/// What a manager waits for while it watches the readers. It asks the store one question after the other, and a sweep
/// goes on when all of its probes have an outcome.
#[derive(Default)]
pub struct Watching {
    /// The time at which the poll that has no answer yet was sent.
    poll: Option<Ms>,
    /// The probes of the present sweep that have no outcome yet, by number.
    probes: BTreeMap<u64, PendingProbe>,
    /// The time at which the present sweep began.
    sweep_began: Ms,
}

struct PendingProbe {
    reader: ReaderId,
    /// The reader's beat when the probe was sent.
    beat: u64,
    sent: Ms,
}

impl Manager {
    /// Asks the store for the readers' records.
    pub(super) fn poll(&mut self, net: &mut Net) {
        self.view.watch.note_poll_begun(self.view.now);
        self.watching.poll = Some(net.now);
        net.send(self.node, Node::Store, Msg::Poll { sent: net.now });
        net.timer(self.node, POLL_WITHIN, Timer::PollOver(net.now));
    }

    /// Takes the store's answer to the poll that was sent at `sent`; an answer that comes too late or twice is none.
    pub(super) fn note_poll_answer(
        &mut self,
        net: &mut Net,
        sent: Ms,
        records: Vec<Record>,
        removed: BTreeSet<usize>,
    ) {
        if self.watching.poll == Some(sent) {
            self.view.observe((net.instant(sent), sent), records, removed);
            self.end_poll(net, sent);
        }
    }

    /// Ends the poll that was sent at `sent`, if it has not ended already. The next poll is due one interval after it
    /// was sent, or at once.
    pub(super) fn end_poll(&mut self, net: &mut Net, sent: Ms) {
        if self.watching.poll.take_if(|poll| *poll == sent).is_some() {
            self.view.watch.note_poll_ended(self.view.now);
            let due = (sent + to_ms(LOOK_INTERVAL)).max(net.now);
            net.timer(self.node, due - net.now, Timer::Poll);
        }
    }

    /// Probes the readers that are to be probed. An address that leads nowhere is found out at once.
    pub(super) fn begin_sweep(&mut self, net: &mut Net) {
        self.watching.sweep_began = net.now;
        let within = to_ms(self.view.watch.scaled_wait(PROBE_TIMEOUT));
        let due = self.view.watch.readers_to_probe(self.view.now).into_iter();
        let due: Vec<(ReaderId, u64)> =
            due.map(|it| (it.last_record.id.clone(), it.last_record.beat)).collect();
        for (reader, beat) in due {
            let node = Node::Reader(index(reader.as_str()));
            if !net.leads_to(node) {
                self.view.watch.note_probe(self.view.now, &reader, beat, ProbeOutcome::Unreachable);
                continue;
            }
            let rid = net.unused_number();
            net.send(self.node, node, Msg::Probe { rid });
            net.timer(self.node, within, Timer::ProbeOver(rid));
            self.watching.probes.insert(rid, PendingProbe { reader, beat, sent: net.now });
        }
        self.go_on_with_sweep(net);
    }

    /// Waits a moment longer for a probe whose time is over: the manager may have been paused itself, and the answer
    /// may have arrived (`answer_within` in `services/manager/src/sweep.rs`).
    pub(super) fn look_once_more(&self, net: &mut Net, rid: u64) {
        if self.watching.probes.contains_key(&rid) {
            net.timer(self.node, to_ms(LATE_ANSWER_TIMEOUT), Timer::LastLook(rid));
        }
    }

    /// Notes the outcome of a probe, if it has none yet.
    pub(super) fn end_probe(&mut self, net: &mut Net, rid: u64, outcome: ProbeOutcome) {
        let Some(PendingProbe { reader, beat, sent }) = self.watching.probes.remove(&rid) else { return };
        self.view.watch.note_probe(net.instant(sent), &reader, beat, outcome);
        self.go_on_with_sweep(net);
    }

    /// Gives the videos of readers that are gone to others when all probes have an outcome, and begins the next sweep
    /// when it is due.
    fn go_on_with_sweep(&mut self, net: &mut Net) {
        if !self.watching.probes.is_empty() {
            return;
        }
        self.view.decide_about_readers();
        for video in 0..net.videos.len() {
            let Some(assigned) = self.view.assigned.get(&net.videos[video]) else { continue };
            let is_gone =
                |share: &&ReaderShare| self.view.reader_status(&share.reader) == Some(ReaderStatus::Gone);
            if let Some(share) = assigned.readers.iter().find(is_gone) {
                self.check_gone_is_true(net, index(share.reader.as_str()));
                self.ensure_readers(net, video, Vec::new());
            }
        }
        let due = (self.watching.sweep_began + SWEEP_EVERY).max(net.now);
        net.timer(self.node, due - net.now, Timer::Sweep);
    }

    /// Checks that no reader is taken for gone that is alive and can be reached: a manager's own delays say nothing
    /// about readers.
    fn check_gone_is_true(&self, net: &mut Net, reader: usize) {
        let node = Node::Reader(reader);
        let is_well = net.is_up_for(node, WELL_AFTER) && net.leads_to(node) && net.carries_probes(reader);
        let is_removed = self.view.removed.contains(&reader);
        let leaves = self.view.record(&net.readers[reader]).is_some_and(|record| record.draining);
        net.checks.require(!is_well || is_removed || leaves, || {
            format!("{:?} takes r{reader} for gone, which lives", self.node)
        });
    }
}
