//! Parses lengths of time on the command line and in settings: `30s`, `5m`, `2h`, `500ms`.
//!
//! A number without a unit is in the unit that the name of the setting has (`--drain-seconds 20`), as settings files of
//! earlier releases and of the operator write it; where the name has none, the number is seconds.

use std::time::Duration;

/// The units of a duration with their length in seconds, shortest first. `ms` comes before `s`, because each `ms` also
/// ends with `s`.
const DURATION_UNITS: [(&str, f64); 5] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];

/// Returns a `value_parser` for a flag that accepts durations from `least` to `most`.
pub fn parser_of_range(
    least: Duration,
    most: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let read = parse_duration(text).filter(|read| (least..=most).contains(read));
        let wrong = || {
            let (least, most) = (format_duration(least), format_duration(most));
            format!("must be a number with ms, s, m, h or d, or seconds, from {least} to {most}")
        };
        read.ok_or_else(wrong)
    }
}

/// The unit of a setting: the unit of a plain number, and of the value that the program gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingUnit {
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
}

impl SettingUnit {
    const fn millis(self) -> u64 {
        match self {
            Self::Millis => 1,
            Self::Seconds => 1_000,
            Self::Minutes => 60_000,
        }
    }
}

/// Returns a `value_parser` for a setting that is from `least` to `most` of its unit: a plain number is in this unit,
/// and any other duration has to be a whole number of it.
pub fn parser_in_unit<T: TryFrom<u64> + 'static>(
    unit: SettingUnit,
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    let one = Duration::from_millis(unit.millis());
    move |text| {
        let read = parse_with_unit(text, one.as_secs_f64()).map(|read| read.as_nanos());
        let whole = read.filter(|read| read.is_multiple_of(one.as_nanos())).map(|read| read / one.as_nanos());
        let number = whole
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| (least..=most).contains(number));
        let wrong = || {
            let at =
                |number: u64| format_duration(Duration::from_millis(number.saturating_mul(unit.millis())));
            format!(
                "must be a duration like 30s or 5m, a multiple of {}, from {} to {}",
                at(1),
                at(least),
                at(most)
            )
        };
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)
    }
}

/// Parses a duration; returns `None` if the text is not one.
fn parse_duration(text: &str) -> Option<Duration> {
    parse_with_unit(text, 1.0)
}

/// Parses a duration; a number without a unit is in the unit of this many seconds.
fn parse_with_unit(text: &str, plain: f64) -> Option<Duration> {
    let unit = DURATION_UNITS.iter().find_map(|(name, seconds)| Some((text.strip_suffix(name)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, plain));
    let seconds = number.trim().parse::<f64>().ok()? * seconds;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Writes a duration as a person types it: in the longest unit in which it is a whole number.
fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit =
        DURATION_UNITS.iter().rev().find(|(_, seconds)| millis.is_multiple_of((seconds * 1_000.0) as u128));
    let (name, seconds) = unit.filter(|_| millis > 0).unwrap_or(&("s", 1.0));
    format!("{}{name}", millis / (seconds * 1_000.0) as u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_takes_a_plain_number_of_its_unit_and_any_whole_duration() {
        let seconds = parser_in_unit::<u16>(SettingUnit::Seconds, 1, 600);
        for (text, read) in [("20", 20), ("20s", 20), ("2m", 120), ("3000ms", 3), ("1.5m", 90)] {
            assert_eq!(seconds(text), Ok(read), "{text}");
        }
        for bad in ["0", "601", "11m", "1500ms", "", "s", "-1", "1h", "1e99d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert!(
            seconds("0").unwrap_err().ends_with("a multiple of 1s, from 1s to 10m"),
            "{:?}",
            seconds("0")
        );
        let millis = parser_in_unit::<u64>(SettingUnit::Millis, 0, 86_400_000);
        assert_eq!((millis("2000"), millis("2s"), millis("1d")), (Ok(2_000), Ok(2_000), Ok(86_400_000)));
        let minutes = parser_in_unit::<u64>(SettingUnit::Minutes, 1, 525_600);
        assert_eq!((minutes("360"), minutes("6h")), (Ok(360), Ok(360)));
        assert!(minutes("90s").is_err(), "no whole number of minutes");
    }

    #[test]
    fn durations_are_parsed_with_a_unit_or_as_seconds() {
        let day = Duration::from_hours(24);
        let read = parser_of_range(Duration::ZERO, day);
        for (text, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("500ms", 500),
            ("1d", 86_400_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1", "1x", "25h", "NaN", "inf", "1e99d", "1 day"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let narrow = parser_of_range(Duration::from_secs(1), Duration::from_mins(90));
        assert!(narrow("0").unwrap_err().ends_with("from 1s to 90m"));
    }
}
