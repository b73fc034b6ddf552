//! Quantities in the notation in which the API server stores them: it reads `1000m` and stores `1`. A value in another
//! notation would look as if somebody had edited it, for ever.
//!
//! The rules are those of apimachinery's `resource.Quantity` (`CanonicalizeBytes`): the largest suffix without a
//! fraction, binary suffixes only for whole numbers of at least 1024, no finer than nano.

/// Number of nanos in one unit.
const NANOS_IN_ONE: i128 = 1_000_000_000;
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY_SUFFIXES: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum SuffixFormat {
    Decimal,
    Binary,
    Exponent,
}

/// Returns `text` in the API server's notation; unchanged if it is no quantity (the API server then refuses the object
/// and names the field).
pub fn canonical(text: &str) -> String {
    parse_quantity(text).map_or_else(|| text.to_owned(), |(nanos, format)| write_quantity(nanos, format))
}

/// Returns the amount of `text` in nanos; `None` if it is no quantity.
pub(crate) fn parse_nanos(text: &str) -> Option<i128> {
    parse_quantity(text).map(|(nanos, _)| nanos)
}

/// Parses `text` to its amount in nanos, rounded away from zero, and the format of its suffix; `None` if it is no
/// quantity.
fn parse_quantity(text: &str) -> Option<(i128, SuffixFormat)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (factor, tens, format) = suffix_factor(suffix)?;
    let value = digits.checked_mul(factor)?;
    let nanos = times_power_of_ten(value, tens - places + 9)?;
    Some((if text.starts_with('-') { -nanos } else { nanos }, format))
}

/// Returns the multiplier of a suffix as a factor and a power of ten, with its format; `None` if the suffix is unknown.
fn suffix_factor(suffix: &str) -> Option<(i128, i32, SuffixFormat)> {
    if let Some((_, tens)) = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Some((1, *tens, SuffixFormat::Decimal));
    }
    if let Some(at) = BINARY_SUFFIXES.iter().position(|name| *name == suffix) {
        return Some((1 << (10 * (at + 1)), 0, SuffixFormat::Binary));
    }
    let tens: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-18..=18).contains(&tens).then_some((1, tens, SuffixFormat::Exponent))
}

/// Returns `value` times ten to the power of `tens`, rounded up; `None` on overflow.
fn times_power_of_ten(value: i128, tens: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(tens.unsigned_abs())?;
    if tens >= 0 { value.checked_mul(power) } else { Some(value / power + i128::from(value % power != 0)) }
}

fn write_quantity(nanos: i128, format: SuffixFormat) -> String {
    let whole = nanos % NANOS_IN_ONE == 0;
    match format {
        _ if nanos == 0 => "0".to_owned(),
        SuffixFormat::Binary if whole && (nanos / NANOS_IN_ONE).abs() >= 1024 => {
            let mut value = nanos / NANOS_IN_ONE;
            let mut at = 0;
            while value % 1024 == 0 && at < BINARY_SUFFIXES.len() {
                value /= 1024;
                at += 1;
            }
            format!("{value}{}", at.checked_sub(1).map_or("", |at| BINARY_SUFFIXES[at]))
        }
        SuffixFormat::Binary | SuffixFormat::Decimal | SuffixFormat::Exponent => {
            let mut value = nanos;
            let mut at = 0;
            while value % 1000 == 0 && at + 1 < DECIMAL_SUFFIXES.len() {
                value /= 1000;
                at += 1;
            }
            let (suffix, tens) = DECIMAL_SUFFIXES[at];
            match (format, tens) {
                (SuffixFormat::Exponent, 0) => value.to_string(),
                (SuffixFormat::Exponent, tens) => format!("{value}e{tens}"),
                _ => format!("{value}{suffix}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn quantities_are_written_as_the_api_server_does() {
        // From apimachinery's own table (quantity_test.go), and from the output of `kubectl get` for applied objects.
        for (written, stored) in [
            ("1000m", "1"),
            ("1", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1500m", "1500m"),
            ("100m", "100m"),
            ("0", "0"),
            ("0Mi", "0"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1Ki", "1Ki"),
            ("512", "512"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("1.5Gi", "1536Mi"),
            ("0.001Ki", "1024m"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("100e2", "10e3"),
            ("0.0000000001", "1n"),
            ("+5", "5"),
            ("-1000m", "-1"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("123Mi", "123Mi"),
            ("2048E", "2048E"),
        ] {
            assert_eq!(canonical(written), stored, "{written}");
            assert_eq!(canonical(stored), stored, "{stored} is stable");
        }
    }

    #[test]
    fn an_invalid_quantity_is_left_unchanged() {
        for text in
            ["", "m", "1..2", "1 Gi", "one", "1KiB", "1e99", ".", "99999999999999999999999999999999999999999"]
        {
            assert_eq!(canonical(text), text);
        }
    }
}
