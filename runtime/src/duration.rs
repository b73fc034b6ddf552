//! Parses lengths of time on the command line: `30s`, `5m`, `2h`, `500ms`; a number without a unit is seconds.
//!
//! A setting of a role is different: it has its unit in its name and is a plain number, so that a file of settings
//! reads the same everywhere. This parser is for durations that a person types for one command.

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

/// Parses a duration; returns `None` if the text is not one.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = DURATION_UNITS.iter().find_map(|(name, seconds)| Some((text.strip_suffix(name)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1.0));
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
