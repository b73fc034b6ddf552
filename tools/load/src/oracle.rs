//! Checks that what must have happened did happen. Pure: times are arguments, in microseconds since the start of the
//! run.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use liverank_core::Kind;
use liverank_core::comment::{CommentEpoch, StreamPosition};
use liverank_core::score::{Counters, Weights, points_of_thousandths};

use crate::plan::{PostAction, PostEvent};

/// The kind of a fault that the run found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OracleFaultKind {
    /// An event was acknowledged and is missing.
    Missing,
    /// An event is there more than once.
    Repeated,
    /// An event came after a later one.
    OutOfOrder,
    /// The system itself reported that it left out comments.
    Gap,
    /// A value differs from what it should be, or a post or an action was refused.
    Different,
}

/// A fault that the run found: its kind, the number of events and a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFault {
    /// The kind of the fault.
    pub kind: OracleFaultKind,
    /// The number of events that the fault concerns.
    pub event_count: u64,
    /// A description of the fault.
    pub description: String,
}

impl FoundFault {
    /// Creates a fault of `count` events.
    pub fn new(wrong: OracleFaultKind, count: u64, what: impl Into<String>) -> Self {
        Self { kind: wrong, event_count: count, description: what.into() }
    }
}

/// The expected comments of a run, by number: which were posted, acknowledged and shown.
#[derive(Debug, Default)]
pub struct CommentOracle(Vec<ExpectedComment>);

#[derive(Debug, Default)]
struct ExpectedComment {
    /// The number of the video plus one; 0 before the comment was posted.
    video: AtomicU64,
    posted_us: AtomicU64,
    acknowledged: AtomicBool,
    /// The sequence number with which the comment was first shown; 0 before that.
    seq: AtomicU64,
}

impl CommentOracle {
    /// Creates an oracle for `count` comments, none of them posted yet.
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| ExpectedComment::default()).collect())
    }

    /// Notes that comment `number` is now posted to `video` for the first time.
    pub fn note_posted(&self, number: usize, video: usize, now_us: u64) {
        let entry = &self.0[number];
        entry.posted_us.store(now_us, Relaxed);
        entry.video.store(video as u64 + 1, Relaxed);
    }

    /// Notes that comment `number` was acknowledged.
    pub fn note_acknowledged(&self, number: usize) {
        self.0[number].acknowledged.store(true, Relaxed);
    }

    /// Notes that comment `number` of `video` was shown with the sequence number `seq`. `None` as `number`: the text is
    /// none of this run's comments. Returns the time at which the comment was posted, in microseconds since the start;
    /// a fault if it is unknown, in the wrong video, or was shown with another `seq` before.
    pub fn note_shown(&self, number: Option<usize>, video: usize, seq: u64) -> Result<u64, FoundFault> {
        let different = |what: String| Err(FoundFault::new(OracleFaultKind::Different, 1, what));
        let Some((number, entry)) = number.and_then(|number| Some((number, self.0.get(number)?))) else {
            return different(format!("video {video} has a comment {seq} that nobody posted"));
        };
        if entry.video.load(Relaxed) != video as u64 + 1 {
            return different(format!("comment {number} shows up in video {video}, where it was not posted"));
        }
        match entry.seq.compare_exchange(0, seq, Relaxed, Relaxed) {
            Err(first) if first != seq => {
                let what = format!("comment {number} of video {video} is there as {first} and as {seq}");
                Err(FoundFault::new(OracleFaultKind::Repeated, 1, what))
            }
            _ => Ok(entry.posted_us.load(Relaxed)),
        }
    }

    /// Compares a video's whole history with what was posted. `history` has (seq, number of the comment) in ascending
    /// order of seq.
    pub fn check_history(&self, video: usize, history: &[(u64, Option<usize>)]) -> Vec<FoundFault> {
        let mut faults = Vec::new();
        let mut there = std::collections::HashSet::new();
        for (place, (seq, number)) in history.iter().enumerate() {
            let expected = place as u64 + 1;
            if *seq != expected {
                let what = format!("the history of video {video} has {seq} where {expected} should be");
                faults.push(FoundFault::new(OracleFaultKind::OutOfOrder, 1, what));
            }
            if let Err(fault) = self.note_shown(*number, video, *seq) {
                faults.push(fault);
            }
            if !number.is_none_or(|number| there.insert(number)) {
                let what = format!("the history of video {video} has comment {number:?} twice");
                faults.push(FoundFault::new(OracleFaultKind::Repeated, 1, what));
            }
        }
        for (number, entry) in self.0.iter().enumerate() {
            if entry.video.load(Relaxed) != video as u64 + 1 || there.contains(&number) {
                continue;
            }
            if entry.acknowledged.load(Relaxed) {
                let what =
                    format!("comment {number} of video {video} was acknowledged and is not in its history");
                faults.push(FoundFault::new(OracleFaultKind::Missing, 1, what));
            } else if entry.seq.load(Relaxed) > 0 {
                let what =
                    format!("comment {number} of video {video} was delivered and is not in its history");
                faults.push(FoundFault::new(OracleFaultKind::Different, 1, what));
            }
        }
        faults
    }
}

/// The comments and gaps that one viewer was sent.
#[derive(Debug)]
pub struct ViewerLog {
    name: String,
    /// True if the viewer reads slowly: such a viewer may be told of gaps.
    reads_slowly: bool,
    comment_epoch: Option<CommentEpoch>,
    /// The viewer's position: every comment up to this sequence number was sent, was before the viewer's time, or is in
    /// `holes`. `None` until the position is known.
    last_seq: Option<u64>,
    /// The sequence numbers that were skipped without a report of a gap.
    holes: Vec<RangeInclusive<u64>>,
    /// The number of comments that were sent.
    pub delivered_count: u64,
    /// The number of comments within the gaps that the system reported to this viewer.
    pub skipped_count: u64,
}

impl ViewerLog {
    /// Creates the log of a viewer that has been sent nothing yet.
    pub const fn new(name: String, reads_slowly: bool) -> Self {
        Self {
            name,
            reads_slowly,
            comment_epoch: None,
            last_seq: None,
            holes: Vec::new(),
            delivered_count: 0,
            skipped_count: 0,
        }
    }

    /// Notes that the viewer connected, and its position `at`. Only the first connection counts, because later ones
    /// resume at the viewer's position. If the connection names no position, the viewer is at the beginning if its
    /// video had no comment yet; otherwise the viewer's first comment gives the position.
    pub fn note_first_connection(&mut self, at: Option<&StreamPosition>, video_was_empty: bool) {
        if self.last_seq.is_some() {
            return;
        }
        match at {
            Some(at) => {
                self.comment_epoch = Some(at.comment_epoch.clone());
                self.last_seq = Some(at.seq);
            }
            None if video_was_empty => self.last_seq = Some(0),
            None => {}
        }
    }

    /// Returns true if the viewer's position is known.
    pub const fn has_position(&self) -> bool {
        self.last_seq.is_some()
    }

    /// Notes a comment that the viewer was sent. Returns a fault if it was repeated, out of order, or of another
    /// comment epoch.
    pub fn note_comment(&mut self, at: &StreamPosition) -> Option<FoundFault> {
        self.delivered_count += 1;
        if let Some(fault) = self.check_comment_epoch(at) {
            return Some(fault);
        }
        let last = *self.last_seq.get_or_insert(at.seq.saturating_sub(1));
        if at.seq > last {
            if at.seq > last + 1 {
                self.holes.push(last + 1..=at.seq - 1);
            }
            self.last_seq = Some(at.seq);
            return None;
        }
        let seq = at.seq;
        let late = self.note_filled(seq);
        let name = &self.name;
        if late {
            let what = format!("{name} was given comment {seq} after comment {last}");
            return Some(FoundFault::new(OracleFaultKind::OutOfOrder, 1, what));
        }
        Some(FoundFault::new(
            OracleFaultKind::Repeated,
            1,
            format!("{name} was given comment {seq} again, after {last}"),
        ))
    }

    /// Notes that the system reported a gap from `from` to `to`. Returns a fault, unless the viewer is slow.
    pub fn note_gap(&mut self, from: u64, to: u64) -> Option<FoundFault> {
        let last = self.last_seq.unwrap_or(from.saturating_sub(1));
        let count = to.saturating_sub(last);
        self.last_seq = Some(last.max(to));
        self.skipped_count += count;
        let what = format!("{} was told of a gap from {from} to {to}, standing at {last}", self.name);
        (!self.reads_slowly).then(|| FoundFault::new(OracleFaultKind::Gap, count.max(1), what))
    }

    fn check_comment_epoch(&mut self, at: &StreamPosition) -> Option<FoundFault> {
        let numbering = self.comment_epoch.get_or_insert_with(|| at.comment_epoch.clone());
        (*numbering != at.comment_epoch).then(|| {
            let what = format!("{} saw the numbering change from {numbering} to {at}", self.name);
            FoundFault::new(OracleFaultKind::Different, 1, what)
        })
    }

    fn note_filled(&mut self, seq: u64) -> bool {
        let Some(place) = self.holes.iter().position(|hole| hole.contains(&seq)) else { return false };
        let hole = self.holes.swap_remove(place);
        let parts = [*hole.start()..=seq - 1, seq + 1..=*hole.end()];
        self.holes.extend(parts.into_iter().filter(|part| !part.is_empty()));
        true
    }

    /// Returns true if the viewer was sent everything up to the sequence number `head`.
    pub fn has_everything_up_to(&self, head: u64) -> bool {
        self.holes.is_empty() && self.last_seq == Some(head)
    }

    /// Returns the faults in what the viewer was sent, if its video has `head` comments and no more will come.
    pub fn check(&self, head: u64) -> Vec<FoundFault> {
        let Some(last) = self.last_seq else {
            let what = format!("{} never learnt where it stands: it did not get connected", self.name);
            return vec![FoundFault::new(OracleFaultKind::Different, 1, what)];
        };
        let mut faults: Vec<FoundFault> = self
            .holes
            .iter()
            .map(|hole| {
                let what = format!("{} was never given comments {hole:?}", self.name);
                FoundFault::new(OracleFaultKind::Missing, hole.end() - hole.start() + 1, what)
            })
            .collect();
        if last < head {
            let what = format!("{} was given comments up to {last} of {head}", self.name);
            faults.push(FoundFault::new(OracleFaultKind::Missing, head - last, what));
        }
        if last > head {
            let what = format!("{} was given comments up to {last}, and there are {head}", self.name);
            faults.push(FoundFault::new(OracleFaultKind::Different, last - head, what));
        }
        faults
    }
}

/// The counts that a video must have: a lower bound, and events that may count or not.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountTally {
    /// The counts of acknowledged events, which must all be there.
    acknowledged: Counters,
    /// The counts of events that were posted and never acknowledged: they may count or not.
    unacknowledged: Counters,
}

impl CountTally {
    /// Adds an acknowledged event of the video.
    /// `watch_threshold_ms` is the duration from which a watch is long.
    pub fn note_acknowledged(&mut self, event: &PostEvent, watch_threshold_ms: u64) {
        add_event(&mut self.acknowledged, event, watch_threshold_ms);
    }

    /// Adds an event of the video that was given up without an acknowledgement.
    /// `watch_threshold_ms` as in [`CountTally::note_acknowledged`].
    pub fn note_unacknowledged(&mut self, event: &PostEvent, watch_threshold_ms: u64) {
        add_event(&mut self.unacknowledged, event, watch_threshold_ms);
    }

    /// Compares the system's counters of a video with what was acknowledged, and its score `points` with those counters
    /// by the weights in force; `None`: the weights are not known, and the score is not compared.
    pub fn check(
        &self,
        name: &str,
        counted: &Counters,
        points: f64,
        weights: Option<&Weights>,
    ) -> Vec<FoundFault> {
        let mut faults = Vec::new();
        for (field, counted, sure, open) in compared_fields(counted, &self.acknowledged, &self.unacknowledged)
        {
            let what = || format!("{name} has {field} = {counted}, of {sure} acknowledged (and {open} open)");
            // Milliseconds are not events, so a wrong sum of watch time is one fault.
            let events = |off: i64| if field == "watch_ms" { 1 } else { off as u64 };
            if counted < sure {
                faults.push(FoundFault::new(OracleFaultKind::Missing, events(sure - counted), what()));
            }
            if counted > sure + open {
                faults.push(FoundFault::new(
                    OracleFaultKind::Repeated,
                    events(counted - sure - open),
                    what(),
                ));
            }
        }
        let due = weights.map(|weights| points_of_thousandths(counted.score(weights)));
        if let Some(due) = due.filter(|due| (points - due).abs() > 1e-6 || !points.is_finite()) {
            let what = format!("{name} has a score of {points}, and its counts make {due}");
            faults.push(FoundFault::new(OracleFaultKind::Different, 1, what));
        }
        faults
    }
}

fn add_event(counters: &mut Counters, event: &PostEvent, watch_threshold_ms: u64) {
    match event.post_action {
        PostAction::Comment | PostAction::Interact(Kind::Comment, _) => counters.comments += 1,
        PostAction::Interact(Kind::View, _) => counters.views += 1,
        PostAction::Interact(Kind::Like, _) => counters.likes += 1,
        PostAction::Interact(Kind::Share, _) => counters.shares += 1,
        // No client sends moderation events, and the load sends no unlikes and unshares.
        PostAction::Interact(Kind::Moderation | Kind::Unlike | Kind::Unshare, _) => {}
        PostAction::Interact(Kind::WatchTime, ms) => {
            counters.watch_ms += ms as i64;
            if ms < watch_threshold_ms {
                counters.watch_short += 1;
            } else {
                counters.watch_long += 1;
            }
        }
    }
}

fn compared_fields(a: &Counters, b: &Counters, c: &Counters) -> [(&'static str, i64, i64, i64); 7] {
    // Every counter is named, so that the compiler finds one that is not compared.
    let Counters { views, likes, comments, shares, watch_ms, watch_short, watch_long } = *a;
    [
        ("views", views, b.views, c.views),
        ("likes", likes, b.likes, c.likes),
        ("comments", comments, b.comments, c.comments),
        ("shares", shares, b.shares, c.shares),
        ("watch_ms", watch_ms, b.watch_ms, c.watch_ms),
        ("watch_short", watch_short, b.watch_short, c.watch_short),
        ("watch_long", watch_long, b.watch_long, c.watch_long),
    ]
}

#[cfg(test)]
mod tests;
