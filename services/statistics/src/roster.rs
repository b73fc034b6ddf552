//! The roster: the last report of each of many reporters, with bounds on their number, size and age.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The bounds of a roster.
#[derive(Debug, Clone, Copy)]
pub struct RosterLimits {
    /// Maximum number of reporters that are kept. Beyond it, the reporter that has been silent for longest is removed.
    pub max_reporters: usize,
    /// Maximum number of bytes that the kept reports take in memory ([`crate::reports::KeptReport`]). Beyond it, the
    /// reporter that has been silent for longest is removed.
    pub max_bytes: usize,
    /// Time of silence after which a reporter is removed.
    pub silence_timeout: Duration,
}

/// The last report of each reporter, by the reporter's name.
#[derive(Debug)]
pub struct ReportRoster<T> {
    bounds: RosterLimits,
    reports: BTreeMap<String, RosterEntry<T>>,
    /// The names of the reporters, by the turn of their last report: the longest silent one first.
    order: BTreeMap<u64, String>,
    last_turn: u64,
    bytes: usize,
}

#[derive(Debug)]
struct RosterEntry<T> {
    report: T,
    bytes: usize,
    entry_turn: u64,
    heard_at: Instant,
}

impl<T> ReportRoster<T> {
    /// Returns an empty roster.
    pub const fn new(bounds: RosterLimits) -> Self {
        Self { bounds, reports: BTreeMap::new(), order: BTreeMap::new(), last_turn: 0, bytes: 0 }
    }

    /// Keeps a report of `bytes` bytes, instead of the reporter's last one. Returns the reports that were removed for
    /// it.
    pub fn keep_report(&mut self, now: Instant, name: String, report: T, bytes: usize) -> Vec<T> {
        let mut gone: Vec<T> = self.remove(&name).into_iter().collect();
        self.last_turn += 1;
        self.order.insert(self.last_turn, name.clone());
        self.reports.insert(name, RosterEntry { report, bytes, entry_turn: self.last_turn, heard_at: now });
        self.bytes += bytes;
        while self.reports.len() > 1
            && (self.reports.len() > self.bounds.max_reporters || self.bytes > self.bounds.max_bytes)
        {
            gone.extend(self.remove_oldest());
        }
        gone
    }

    /// Removes the reports of reporters that have been silent for too long, and returns these reports.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut gone = Vec::new();
        while let Some(name) = self.order.values().next() {
            let silent = now.saturating_duration_since(self.reports[name].heard_at);
            if silent < self.bounds.silence_timeout {
                break;
            }
            gone.extend(self.remove_oldest());
        }
        gone
    }

    /// The reports, in the order of their reporters' names.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.reports.values().map(|entry| &entry.report)
    }

    /// Returns the number of reports, which is also the number of reporters.
    pub fn len(&self) -> usize {
        self.reports.len()
    }

    /// Returns whether the roster has no reports.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    fn remove_oldest(&mut self) -> Option<T> {
        let name = self.order.values().next()?.clone();
        self.remove(&name)
    }

    fn remove(&mut self, name: &str) -> Option<T> {
        let entry = self.reports.remove(name)?;
        self.order.remove(&entry.entry_turn);
        self.bytes -= entry.bytes;
        Some(entry.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST_BOUNDS: RosterLimits =
        RosterLimits { max_reporters: 3, max_bytes: 100, silence_timeout: Duration::from_secs(15) };

    fn reporter_names(roster: &ReportRoster<&'static str>) -> Vec<&'static str> {
        roster.iter().copied().collect()
    }

    #[test]
    fn the_last_report_of_a_reporter_counts() {
        let (mut roster, now) = (ReportRoster::new(TEST_BOUNDS), Instant::now());
        assert!(roster.keep_report(now, "a".into(), "first", 1).is_empty());
        assert_eq!(roster.keep_report(now, "a".into(), "second", 1), ["first"]);
        assert_eq!(reporter_names(&roster), ["second"]);
        assert_eq!(roster.bytes, 1);
    }

    #[test]
    fn beyond_the_number_the_oldest_report_is_removed() {
        let (mut roster, now) = (ReportRoster::new(TEST_BOUNDS), Instant::now());
        for name in ["a", "b", "c", "a"] {
            roster.keep_report(now, name.into(), name, 1);
        }
        assert_eq!(roster.keep_report(now, "d".into(), "d", 1), ["b"]);
        assert_eq!(reporter_names(&roster), ["a", "c", "d"]);
    }

    #[test]
    fn beyond_the_size_the_oldest_reports_are_removed() {
        let (mut roster, now) = (ReportRoster::new(TEST_BOUNDS), Instant::now());
        roster.keep_report(now, "a".into(), "a", 50);
        roster.keep_report(now, "b".into(), "b", 50);
        assert_eq!(roster.keep_report(now, "c".into(), "c", 1), ["a"]);
        assert_eq!(roster.keep_report(now, "d".into(), "d", 1_000), ["b", "c"]);
        assert_eq!((reporter_names(&roster), roster.bytes), (vec!["d"], 1_000));
    }

    #[test]
    fn silent_reporters_are_removed() {
        let (mut roster, start) = (ReportRoster::new(TEST_BOUNDS), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        roster.keep_report(start, "a".into(), "a", 1);
        roster.keep_report(start, "b".into(), "b", 1);
        roster.keep_report(after(10), "a".into(), "a", 1);
        assert!(roster.expire(after(14)).is_empty());
        assert_eq!(roster.expire(after(15)), ["b"]);
        assert_eq!(reporter_names(&roster), ["a"]);
        assert_eq!(roster.expire(after(25)), ["a"]);
        assert!(roster.is_empty() && roster.order.is_empty() && roster.bytes == 0);
    }
}
