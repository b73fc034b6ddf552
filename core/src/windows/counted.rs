//! The windows that an archive counts, and what a batch adds to their counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Window, WindowKind, counted_at};
use crate::counting::LogRecord;
use crate::score::{Counters, Weights};
use crate::{Kind, Millis, VideoId, canary};

/// The most kinds of windows: each is one more document for each video to which something happens.
pub const MAX_KINDS: usize = 4;

/// A kind of windows that an archive counts, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedKind {
    /// The unit and time zone of the windows.
    pub kind: WindowKind,
    /// The time after which a window must begin to be complete: what was counted up to this time was counted without
    /// this kind. `None` if all windows are complete.
    pub whole_after: Option<Millis>,
}

impl CountedKind {
    /// Whether the window that begins at `start` contains everything that happened in it.
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
    /// Returns the counted kinds.
    pub fn iter(&self) -> std::slice::Iter<'_, CountedKind> {
        self.0.iter()
    }

    /// Whether no kind of windows is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entry of this kind; `None` if the kind is not counted.
    pub fn of(&self, kind: &WindowKind) -> Option<&CountedKind> {
        self.iter().find(|counted| counted.kind == *kind)
    }

    /// Returns the entries for the `wanted` kinds: known ones unchanged, new ones as counted from here on. `counted`
    /// is the log's time of the last record that has been counted.
    #[must_use]
    pub fn changed_to(&self, wanted: &[WindowKind], counted: Option<Millis>) -> Self {
        let of = |kind: &WindowKind| {
            let fresh = || CountedKind { kind: kind.clone(), whole_after: counted };
            self.of(kind).cloned().unwrap_or_else(fresh)
        };
        wanted.iter().map(of).collect()
    }

    /// Returns the entries after a part of the log was counted without windows. `until` is the log's time of the last
    /// record of that part.
    #[must_use]
    pub fn with_gap(&self, until: Option<Millis>) -> Self {
        let later = |counted: &CountedKind| CountedKind {
            kind: counted.kind.clone(),
            whole_after: counted.whole_after.max(until),
        };
        self.iter().map(later).collect()
    }
}

/// The key under which the counters of a window are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowKey {
    /// The unit and time zone of the window.
    pub kind: WindowKind,
    /// The begin of the window, in milliseconds since the Unix epoch.
    pub start: Millis,
}

/// What a batch adds to the counters of one video in one window. A number is negative if more was taken back than was
/// counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowChange {
    /// The window whose counters change.
    pub window: WindowKey,
    /// The video whose counters change.
    pub video: VideoId,
    /// The amounts to add to the counters.
    pub counters: Counters,
}

/// Counts the events of a batch by window.
pub(crate) struct WindowCounting<'a> {
    counted: &'a CountedWindows,
    /// The window of the previous record, by kind: most records are in the same one.
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

    /// Counts an event, and returns the time at which it counts as having happened; `None` if no windows are counted.
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

    /// Takes back an event of type `kind` that counted as of `counted`, in each window that also contains the time of
    /// the taking back. Windows that ended in between keep their results.
    pub(crate) fn take_back(&mut self, record: &LogRecord, kind: Kind, counted: Option<Millis>) {
        let Some(counted) = counted else { return };
        let event = &record.event;
        let at = counted_at(event.timestamp, record.broker_time);
        for place in 0..self.last.len() {
            // An event that was counted without this kind is not in its windows.
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

    /// Returns what the batch adds, sorted by kind, window and video.
    pub(crate) fn changes(self) -> Vec<WindowChange> {
        let change = |((kind, start, video), counters): ((usize, Millis, VideoId), Counters)| {
            let kind = self.counted.0[kind].kind.clone();
            WindowChange { window: WindowKey { kind, start }, video, counters }
        };
        let changes = self.changes.into_iter().filter(|(_, counters)| *counters != Counters::default());
        changes.map(change).collect()
    }
}
