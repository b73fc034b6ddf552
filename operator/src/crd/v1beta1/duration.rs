//! Durations as v1beta1 writes them: `30s`, `5m`, `1h30m`, `500ms`. Pure.

/// The unit of a number in v1alpha1 that is a duration in v1beta1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
}

/// The units of durations, the longest first, with their lengths in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Unit {
    /// Returns the length of the unit in milliseconds.
    const fn milliseconds(self) -> u64 {
        match self {
            Self::Milliseconds => 1,
            Self::Seconds => 1000,
            Self::Minutes => 60_000,
        }
    }

    /// Returns the regular expression of durations that are a whole number of this unit.
    pub const fn pattern(self) -> &'static str {
        match self {
            Self::Milliseconds => "^([0-9]{1,7}(h|m|s|ms)){1,4}$",
            Self::Seconds => "^([0-9]{1,7}(h|m|s)){1,3}$",
            Self::Minutes => "^([0-9]{1,7}(h|m)){1,2}$",
        }
    }

    /// Returns the unit's name, in the plural.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
        }
    }
}

/// Returns the shortest text of a duration of `count` units: hours, minutes, seconds and milliseconds occur at most
/// once each, the longest first.
pub fn write_duration(count: u64, unit: Unit) -> String {
    let mut left = count.saturating_mul(unit.milliseconds());
    let mut text = String::new();
    for (name, length) in UNITS {
        if left >= length {
            text.push_str(&(left / length).to_string());
            text.push_str(name);
            left %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Parses a duration and returns its length as a number of `unit`; an error message if `text` is no duration, or not a
/// whole number of the unit.
pub fn read_duration(text: &str, unit: Unit) -> Result<u64, String> {
    let not_one = || format!("{text:?} is not a duration: write one such as 30s, 5m or 1h30m");
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let (number, name) = rest[..digits + letters].split_at(digits);
        let number: u64 = number.parse().map_err(|_| not_one())?;
        let length = UNITS.iter().find(|(known, _)| *known == name).ok_or_else(not_one)?.1;
        total = number.checked_mul(length).and_then(|more| total.checked_add(more)).ok_or_else(not_one)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() {
        return Err(not_one());
    }
    if !total.is_multiple_of(unit.milliseconds()) {
        return Err(format!("{text:?} is not a whole number of {}", unit.name()));
    }
    Ok(total / unit.milliseconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_one_way_only() {
        let written = |count, unit| write_duration(count, unit);
        assert_eq!(written(0, Unit::Minutes), "0s");
        assert_eq!(written(30, Unit::Seconds), "30s");
        assert_eq!(written(300, Unit::Seconds), "5m");
        assert_eq!(written(90, Unit::Minutes), "1h30m");
        assert_eq!(written(1500, Unit::Milliseconds), "1s500ms");
        assert_eq!(written(525_600, Unit::Minutes), "8760h");
    }

    #[test]
    fn durations_are_read_however_they_are_written() {
        let read = |text, unit| read_duration(text, unit);
        for text in ["90s", "1m30s", "30s1m", "60s30s", "0h90s"] {
            assert_eq!(read(text, Unit::Seconds), Ok(90), "{text}");
        }
        assert_eq!(read("1h30m", Unit::Minutes), Ok(90));
        assert_eq!(read("2s", Unit::Milliseconds), Ok(2000));
        assert_eq!(read("1500ms", Unit::Seconds).unwrap_err(), "\"1500ms\" is not a whole number of seconds");
        for text in ["", "30", "s", "-5s", "5 s", "1.5s", "5d", "5S", "5é", "99999999999999999999s"] {
            let refused = read(text, Unit::Seconds).unwrap_err();
            assert!(refused.contains("is not a duration"), "{text}: {refused}");
        }
    }

    #[test]
    fn each_number_comes_back() {
        for unit in [Unit::Milliseconds, Unit::Seconds, Unit::Minutes] {
            for count in (0..4000).chain([86_400, 525_600]) {
                assert_eq!(read_duration(&write_duration(count, unit), unit), Ok(count));
            }
        }
    }
}
