//! Which windows an archive counts, and what a batch adds to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Window, WindowKind, counted_at};
use crate::counting::LogRecord;
use crate::score::{Counters, Weights};
use crate::{Kind, Millis, VideoId, canary};

/// The most kinds of windows: each is one more document for each video that something happens to.
pub const MAX_KINDS: usize = 4;

/// A kind of windows that an archive counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedKind {
    /// The kind of the windows.
    pub kind: WindowKind,
    /// Windows that begin after this time have all that happened in them: what was counted before it was counted without them.
    /// `None`: all windows have.
    pub whole_after: Option<Millis>,
}

impl CountedKind {
    /// Whether the window that begins then has all that happened in it.
    pub fn is_whole(&self, start: Millis) -> bool {
        self.whole_after.is_none_or(|after| start > after)
    }
}

/// The kinds of windows that an archive counts. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedWindows(Arc<[CountedKind]>);

impl FromIterator<CountedKind> for CountedWindows {
    fn from_iter<T: IntoIterator<Item = CountedKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a CountedWindows {
    type Item = &'a CountedKind;
    type IntoIter = std::slice::Iter<'a, CountedKind>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl CountedWindows {
    /// The kinds.
    pub fn iter(&self) -> std::slice::Iter<'_, CountedKind> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said of this kind, if it is counted.
    pub fn of(&self, kind: &WindowKind) -> Option<&CountedKind> {
        self.iter().find(|counted| counted.kind == *kind)
    }

    /// These kinds: those that are counted already as they are, the others from here on, where the last record that is counted was
    /// taken by the log at `counted`.
    #[must_use]
    pub fn changed_to(&self, wanted: &[WindowKind], counted: Option<Millis>) -> Self {
        let of = |kind: &WindowKind| {
            let fresh = || CountedKind { kind: kind.clone(), whole_after: counted };
            self.of(kind).cloned().unwrap_or_else(fresh)
        };
        wanted.iter().map(of).collect()
    }

    /// After a stretch of the log that was counted without windows, of which the last record was taken by the log at `until`.
    #[must_use]
    pub fn with_gap(&self, until: Option<Millis>) -> Self {
        let later = |counted: &CountedKind| CountedKind {
            kind: counted.kind.clone(),
            whole_after: counted.whole_after.max(until),
        };
        self.iter().map(later).collect()
    }
}

/// A window of a kind, as counts are stored by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowKey {
    /// The kind of the window.
    pub kind: WindowKind,
    /// When it begins.
    pub start: Millis,
}

/// What a batch adds to the counts of a video in a window. A number is less than zero where more was taken back than came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowChange {
    /// The window.
    pub window: WindowKey,
    /// The video.
    pub video: VideoId,
    /// The counts to add.
    pub counters: Counters,
}

/// The counts by window of a batch.
pub(crate) struct WindowCounting<'a> {
    counted: &'a CountedWindows,
    /// The window that was met last, by kind. Most records are in it.
    last: Vec<Option<Window>>,
    changes: BTreeMap<(usize, Millis, VideoId), Counters>,
}

impl<'a> WindowCounting<'a> {
    pub(crate) fn of(counted: &'a CountedWindows) -> Self {
        Self { counted, last: vec![None; counted.0.len()], changes: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// Counts an event, and returns when it counts as having happened; `None` where there are no windows.
    pub(crate) fn add(&mut self, record: &LogRecord, weights: &Weights) -> Option<Millis> {
        let event = &record.event;
        if self.is_empty() || canary::is_canary(&event.video_id) {
            return None;
        }
        let at = counted_at(event.timestamp, record.broker_time);
        for kind in 0..self.last.len() {
            let start = self.window_of(kind, at).start;
            self.changes
                .entry((kind, start, event.video_id.clone()))
                .or_default()
                .count_event(event, weights);
        }
        Some(at)
    }

    /// Takes back an event of this type that counted as of `counted`, in each window that has not ended since: results stay.
    pub(crate) fn take_back(&mut self, record: &LogRecord, kind: Kind, counted: Option<Millis>) {
        let Some(counted) = counted else { return };
        let event = &record.event;
        let at = counted_at(event.timestamp, record.broker_time);
        for place in 0..self.last.len() {
            // What was counted without this kind is not in it.
            let is_in = self.counted.0[place].whole_after.is_none_or(|after| counted > after);
            let window = self.window_of(place, at);
            if is_in && window.contains(counted) {
                let key = (place, window.start, event.video_id.clone());
                self.changes.entry(key).or_default().uncount_event(kind);
            }
        }
    }

    fn window_of(&mut self, kind: usize, at: Millis) -> Window {
        match self.last[kind] {
            Some(window) if window.contains(at) => window,
            _ => *self.last[kind].insert(self.counted.0[kind].kind.window_of(at)),
        }
    }

    /// What the batch adds, by kind, window and video.
    pub(crate) fn changes(self) -> Vec<WindowChange> {
        let change = |((kind, start, video), counters): ((usize, Millis, VideoId), Counters)| {
            let kind = self.counted.0[kind].kind.clone();
            WindowChange { window: WindowKey { kind, start }, video, counters }
        };
        let changes = self.changes.into_iter().filter(|(_, counters)| *counters != Counters::default());
        changes.map(change).collect()
    }
}
