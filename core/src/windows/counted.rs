//! The kinds of windows that an archive counts, and what a batch adds to the counters of windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Window, WindowKind, counted_time};
use crate::counting::record::LogRecord;
use crate::score::{Counters, Weights};
use crate::{Kind, Millis, VideoId, canary};

/// The most kinds of windows: each is one more document for each video to which something happens.
pub const MAX_WINDOW_KINDS: usize = 4;

/// A kind of windows that an archive counts, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedWindowKind {
    /// The unit (hour, day or week) and the time zone of the windows.
    pub kind: WindowKind,
    /// The time after which a window must begin to be complete: what was counted up to this time was counted without
    /// this kind. `None` if all windows are complete.
    pub complete_after: Option<Millis>,
}

impl CountedWindowKind {
    /// Whether the window that begins at `start` contains everything that happened in it.
    pub fn is_complete(&self, start: Millis) -> bool {
        self.complete_after.is_none_or(|after| start > after)
    }
}

/// The kinds of windows that an archive counts. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedWindows(Arc<[CountedWindowKind]>);

impl FromIterator<CountedWindowKind> for CountedWindows {
    fn from_iter<T: IntoIterator<Item = CountedWindowKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a CountedWindows {
    type Item = &'a CountedWindowKind;
    type IntoIter = std::slice::Iter<'a, CountedWindowKind>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl CountedWindows {
    /// Returns the counted kinds.
    pub fn iter(&self) -> std::slice::Iter<'_, CountedWindowKind> {
        self.0.iter()
    }

    /// Whether no kind of windows is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entry of this kind; `None` if the kind is not counted.
    pub fn find(&self, kind: &WindowKind) -> Option<&CountedWindowKind> {
        self.iter().find(|counted| counted.kind == *kind)
    }

    /// Returns the entries for the `wanted` kinds: known ones unchanged, new ones as counted from here on. `counted`
    /// is the log's time of the last record that has been counted.
    #[must_use]
    pub fn with_wanted_kinds(&self, wanted: &[WindowKind], counted: Option<Millis>) -> Self {
        let of = |kind: &WindowKind| {
            let fresh = || CountedWindowKind { kind: kind.clone(), complete_after: counted };
            self.find(kind).cloned().unwrap_or_else(fresh)
        };
        wanted.iter().map(of).collect()
    }

    /// Returns the entries after a part of the log was counted without windows. `until` is the log's time of the last
    /// record of that part.
    #[must_use]
    pub fn with_counting_gap(&self, until: Option<Millis>) -> Self {
        let later = |counted: &CountedWindowKind| CountedWindowKind {
            kind: counted.kind.clone(),
            complete_after: counted.complete_after.max(until),
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

/// The amounts that a batch adds to the counters of one video in one window. A number is negative if more was taken
/// back than was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowChange {
    /// The window whose counters change.
    pub window: WindowKey,
    /// The video whose counters change.
    pub video: VideoId,
    /// The amounts to add to the counters.
    pub counters: Counters,
}

/// Collects the changes that the events of a batch make to the counters of windows.
pub(crate) struct WindowCounter<'a> {
    counted_windows: &'a CountedWindows,
    /// The window of the previous record, for each kind of windows: most records are in the same one.
    last_windows: Vec<Option<Window>>,
    changes: BTreeMap<(usize, Millis, VideoId), Counters>,
}

impl<'a> WindowCounter<'a> {
    pub(crate) fn new(counted_windows: &'a CountedWindows) -> Self {
        Self { counted_windows, last_windows: vec![None; counted_windows.0.len()], changes: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counted_windows.is_empty()
    }

    /// Counts an event, and returns the time at which it counts as having happened; `None` if no windows are counted.
    pub(crate) fn count_event(&mut self, record: &LogRecord, weights: &Weights) -> Option<Millis> {
        let event = &record.event;
        if self.is_empty() || canary::is_canary(&event.video_id) {
            return None;
        }
        let at = counted_time(event.timestamp, record.broker_time);
        for kind in 0..self.last_windows.len() {
            let start = self.window_of(kind, at).start;
            self.changes
                .entry((kind, start, event.video_id.clone()))
                .or_default()
                .count_event(event, weights);
        }
        Some(at)
    }

    /// Takes back an event of type `kind` that was counted at the time `counted`, in each window that also contains the
    /// time of the taking back. Windows that ended in between keep their results.
    pub(crate) fn uncount_event(&mut self, record: &LogRecord, kind: Kind, counted: Option<Millis>) {
        let Some(counted) = counted else { return };
        let event = &record.event;
        let at = counted_time(event.timestamp, record.broker_time);
        for place in 0..self.last_windows.len() {
            // An event that was counted without this kind is not in its windows.
            let is_in = self.counted_windows.0[place].complete_after.is_none_or(|after| counted > after);
            let window = self.window_of(place, at);
            if is_in && window.contains(counted) {
                let key = (place, window.start, event.video_id.clone());
                self.changes.entry(key).or_default().uncount_event(kind);
            }
        }
    }

    fn window_of(&mut self, kind: usize, at: Millis) -> Window {
        match self.last_windows[kind] {
            Some(window) if window.contains(at) => window,
            _ => *self.last_windows[kind].insert(self.counted_windows.0[kind].kind.window_of(at)),
        }
    }

    /// Returns what the batch adds, sorted by kind, window and video.
    pub(crate) fn into_changes(self) -> Vec<WindowChange> {
        let change = |((kind, start, video), counters): ((usize, Millis, VideoId), Counters)| {
            let kind = self.counted_windows.0[kind].kind.clone();
            WindowChange { window: WindowKey { kind, start }, video, counters }
        };
        let changes = self.changes.into_iter().filter(|(_, counters)| *counters != Counters::default());
        changes.map(change).collect()
    }
}
