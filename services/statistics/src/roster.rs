//! The roster: the last report of each of many reporters, with bounds on their number, size and age.
//!
//! No report goes to make room for another one before its reporter has been silent for too long: a name is quickly
//! invented, and whoever invents many must not push out those who report. Instead every *source* of reports, an address
//! or one of our processes, has a share of the room ([`UnitAllocator`]), and what is beyond it is refused. Only a
//! process that has proved its identity by a token takes the place of reporters that have not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use liverank_protocol::access::KnownCaller;
use liverank_runtime::free_shares::UnitAllocator;
use liverank_runtime::network::rate_limit_address;

/// The bounds of a roster.
#[derive(Debug, Clone, Copy)]
pub struct RosterLimits {
    /// Maximum number of reporters that are kept.
    pub max_reporters: usize,
    /// Maximum number of bytes that the kept reports take in memory ([`crate::reports::KeptReport`]).
    pub max_bytes: usize,
    /// Time of silence after which a reporter is removed.
    pub silence_timeout: Duration,
}

/// The sender of a report: the memory for reports is shared out among the senders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReportSource {
    /// A client at this address, which may report under any names.
    Address(IpAddr),
    /// A process that has proved its identity by a token. The process's reports are kept as long as the reports of
    /// other such processes leave memory.
    Known(KnownCaller),
}

impl ReportSource {
    /// Returns the source of reports that come from `address`: an IPv6 host has a whole network.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(rate_limit_address(address))
    }

    const fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

/// The reason for which a report is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefusal {
    /// The reporter's name belongs to a process that has proved its identity by a token.
    #[error("one of our processes reports under this name")]
    NameTaken,
    /// The kept reports of this source already take all that one source may take.
    #[error("too many or too large reports from this address: those that end are forgotten first")]
    NoRoom,
}

/// The last report of each reporter, by the reporter's name.
#[derive(Debug)]
pub struct ReportRoster<T> {
    limits: RosterLimits,
    reports: BTreeMap<String, RosterEntry<T>>,
    /// The names of the reporters, by the number of their last report: the longest silent one first.
    names_by_last_report: BTreeMap<u64, String>,
    last_report_number: u64,
    /// The number of reporters of each source.
    reporter_shares: UnitAllocator<ReportSource>,
    /// The bytes of memory that the reports of each source take.
    byte_shares: UnitAllocator<ReportSource>,
}

#[derive(Debug)]
struct RosterEntry<T> {
    report: T,
    source: ReportSource,
    bytes: usize,
    report_number: u64,
    heard_at: Instant,
}

impl<T> ReportRoster<T> {
    /// Returns an empty roster.
    pub fn new(limits: RosterLimits) -> Self {
        Self {
            limits,
            reports: BTreeMap::new(),
            names_by_last_report: BTreeMap::new(),
            last_report_number: 0,
            reporter_shares: UnitAllocator::new(limits.max_reporters),
            byte_shares: UnitAllocator::new(limits.max_bytes),
        }
    }

    /// Keeps a report of `bytes` bytes, instead of the reporter's last one. Returns the reports that were removed to
    /// make room for this one.
    ///
    /// # Errors
    /// The name belongs to another process, or the source may keep no more reports; nothing is changed then.
    pub fn keep_report(
        &mut self,
        now: Instant,
        source: ReportSource,
        name: &str,
        report: T,
        bytes: usize,
    ) -> Result<Vec<T>, ReportRefusal> {
        let before = self.reports.get(name).map(|entry| (entry.source.clone(), entry.bytes));
        if before.as_ref().is_some_and(|(before, _)| before.is_known() && *before != source) {
            return Err(ReportRefusal::NameTaken);
        }
        let mut gone = Vec::new();
        if source.is_known() {
            gone.extend(self.make_room(name, bytes)?);
        } else if before.is_none_or(|(before, had)| before != source || had < bytes) {
            self.check_room(&source, name, bytes)?;
        }
        gone.extend(self.remove(name));
        self.last_report_number += 1;
        self.names_by_last_report.insert(self.last_report_number, name.to_owned());
        self.reporter_shares.give_units(&source, 1);
        self.byte_shares.give_units(&source, bytes);
        let entry =
            RosterEntry { report, source, bytes, report_number: self.last_report_number, heard_at: now };
        self.reports.insert(name.to_owned(), entry);
        Ok(gone)
    }

    /// Checks that a report of this source may be kept after the reporter's last report is removed.
    fn check_room(&mut self, source: &ReportSource, name: &str, bytes: usize) -> Result<(), ReportRefusal> {
        let before = self.reports.get(name).map(|entry| (entry.source.clone(), entry.bytes));
        if let Some((before, had)) = &before {
            self.reporter_shares.return_units(before, 1);
            self.byte_shares.return_units(before, *had);
        }
        let has_room = self.reporter_shares.may_take(source, 1) && self.byte_shares.may_take(source, bytes);
        if let Some((before, had)) = &before {
            self.reporter_shares.give_units(before, 1);
            self.byte_shares.give_units(before, *had);
        }
        if has_room { Ok(()) } else { Err(ReportRefusal::NoRoom) }
    }

    /// Makes room for a report of a known process: removes reports of addresses, the longest silent ones first.
    fn make_room(&mut self, name: &str, bytes: usize) -> Result<Vec<T>, ReportRefusal> {
        let (mut places, mut room) = (self.reporter_shares.free_units(), self.byte_shares.free_units());
        if let Some(before) = self.reports.get(name) {
            (places, room) = (places + 1, room + before.bytes);
        }
        let mut leaving = Vec::new();
        let mut oldest = self.names_by_last_report.values();
        while places < 1 || room < bytes {
            let name_of_oldest = oldest.next().ok_or(ReportRefusal::NoRoom)?;
            let entry = &self.reports[name_of_oldest];
            if name_of_oldest != name && !entry.source.is_known() {
                (places, room) = (places + 1, room + entry.bytes);
                leaving.push(name_of_oldest.clone());
            }
        }
        Ok(leaving.iter().filter_map(|name| self.remove(name)).collect())
    }

    /// Removes the reports of reporters that have been silent for too long, and returns these reports.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut gone = Vec::new();
        while let Some(name) = self.names_by_last_report.values().next() {
            let silent = now.saturating_duration_since(self.reports[name].heard_at);
            if silent < self.limits.silence_timeout {
                break;
            }
            let name = name.clone();
            gone.extend(self.remove(&name));
        }
        gone
    }

    /// Returns the report of the reporter with this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.reports.get(name).map(|entry| &entry.report)
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

    fn remove(&mut self, name: &str) -> Option<T> {
        let entry = self.reports.remove(name)?;
        self.names_by_last_report.remove(&entry.report_number);
        self.reporter_shares.return_units(&entry.source, 1);
        self.byte_shares.return_units(&entry.source, entry.bytes);
        Some(entry.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST_BOUNDS: RosterLimits =
        RosterLimits { max_reporters: 4, max_bytes: 100, silence_timeout: Duration::from_secs(15) };

    fn host(last: u8) -> ReportSource {
        ReportSource::at([192, 0, 2, last].into())
    }

    fn known(reader: &str) -> ReportSource {
        ReportSource::Known(format!("reader/{reader}").parse().unwrap())
    }

    fn reporter_names(roster: &ReportRoster<&'static str>) -> Vec<&'static str> {
        roster.iter().copied().collect()
    }

    struct TestRoster(ReportRoster<&'static str>, Instant);

    impl TestRoster {
        fn new() -> Self {
            Self(ReportRoster::new(TEST_BOUNDS), Instant::now())
        }

        fn keep(
            &mut self,
            source: ReportSource,
            name: &'static str,
            bytes: usize,
        ) -> Result<Vec<&'static str>, ReportRefusal> {
            self.0.keep_report(self.1, source, name, name, bytes)
        }
    }

    #[test]
    fn the_last_report_of_a_reporter_counts() {
        let (mut roster, now) = (ReportRoster::new(TEST_BOUNDS), Instant::now());
        assert_eq!(roster.keep_report(now, host(1), "a", "first", 1), Ok(vec![]));
        assert_eq!(roster.keep_report(now, host(1), "a", "second", 2), Ok(vec!["first"]));
        assert_eq!((roster.get("a"), roster.len()), (Some(&"second"), 1));
        assert_eq!((roster.byte_shares.free_units(), roster.reporter_shares.free_units()), (98, 3));
    }

    #[test]
    fn invented_names_push_nobody_out_and_leave_room_for_other_addresses() {
        let mut roster = TestRoster::new();
        roster.keep(host(1), "real", 10).unwrap();
        let invented = ["x1", "x2", "x3", "x4"];
        let kept = invented.iter().filter(|name| roster.keep(host(6), name, 1).is_ok()).count();
        assert_eq!(kept, 1, "its share, whatever names it takes");
        assert_eq!(reporter_names(&roster.0), ["real", "x1"]);
        assert_eq!(roster.keep(host(1), "real", 10), Ok(vec!["real"]), "it goes on reporting");
        assert_eq!(roster.keep(host(2), "other", 1), Ok(vec![]), "and others have room");
        assert_eq!(roster.keep(host(6), "x1", 1), Ok(vec!["x1"]), "what is kept already may be renewed");
    }

    #[test]
    fn one_address_has_a_share_of_the_bytes() {
        let mut roster = TestRoster::new();
        roster.keep(host(1), "a", 50).unwrap();
        assert_eq!(roster.keep(host(1), "b", 1), Err(ReportRefusal::NoRoom));
        assert_eq!(roster.keep(host(2), "c", 20), Ok(vec![]));
        assert_eq!(
            roster.keep(host(1), "a", 50),
            Ok(vec!["a"]),
            "as large as before, though it is above its share"
        );
        assert_eq!(roster.keep(host(1), "a", 60), Err(ReportRefusal::NoRoom));
        assert_eq!(roster.keep(host(1), "a", 1_000), Err(ReportRefusal::NoRoom));
        assert_eq!((reporter_names(&roster.0), roster.0.byte_shares.free_units()), (vec!["a", "c"], 30));
    }

    #[test]
    fn a_process_that_has_shown_who_it_is_has_its_name_and_room() {
        let mut roster = TestRoster::new();
        for (source, name) in [(host(1), "x"), (host(2), "y"), (host(3), "r1"), (host(4), "z")] {
            roster.keep(source, name, 10).unwrap();
        }
        assert_eq!(roster.keep(known("r1"), "r1", 70), Ok(vec!["r1"]), "the name was invented before");
        assert_eq!(roster.keep(known("r2"), "r2", 10), Ok(vec!["x"]), "the longest silent invention goes");
        assert_eq!(roster.keep(host(3), "r1", 1), Err(ReportRefusal::NameTaken));
        assert_eq!(roster.keep(known("r1"), "r1", 80), Ok(vec!["y", "r1"]));
        assert_eq!(
            roster.keep(known("r3"), "r3", 20),
            Err(ReportRefusal::NoRoom),
            "known ones do not push each other"
        );
        assert_eq!(reporter_names(&roster.0), ["r1", "r2", "z"]);
    }

    #[test]
    fn silent_reporters_are_removed() {
        let (mut roster, start) = (ReportRoster::new(TEST_BOUNDS), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        roster.keep_report(start, host(1), "a", "a", 1).unwrap();
        roster.keep_report(start, host(2), "b", "b", 1).unwrap();
        roster.keep_report(after(10), host(1), "a", "a", 1).unwrap();
        assert!(roster.expire(after(14)).is_empty());
        assert_eq!(roster.expire(after(15)), ["b"]);
        assert_eq!(reporter_names(&roster), ["a"]);
        assert_eq!(roster.expire(after(25)), ["a"]);
        assert!(roster.is_empty() && roster.names_by_last_report.is_empty());
        assert_eq!((roster.byte_shares.free_units(), roster.reporter_shares.free_units()), (100, 4));
    }
}
