//! The fastest parser of a usual event: one pass over its bytes.
//!
//! It reads an object of known members, each at most once: strings without escapes, and numbers of up to 15 digits
//! without an exponent. For anything else it returns `None`, and [`serde_json`] reads the bytes. So it refuses no
//! event by itself.

use super::usual::{Members, TimeMember};

/// The most digits of a number that this parser reads: an integer of 15 digits is exact as an `f64`.
const MAX_DIGITS: usize = 15;
/// The powers of ten, from 1 to 10^[`MAX_DIGITS`], by which the digits of a decimal number are divided.
const POWERS_OF_TEN: [f64; MAX_DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Reads the members of an event; `None` if any part of it is unusual.
pub(super) fn scan_members<'a>(json: &'a [u8], members: &mut Members<'a>) -> Option<()> {
    let text = std::str::from_utf8(json).ok()?;
    #[allow(clippy::needless_bitwise_bool, reason = "without branches many bytes are looked at in one step")]
    let unusual = json.iter().fold(false, |unusual, byte| unusual | (*byte < b' ') | (*byte == b'\\'));
    if unusual {
        return None;
    }
    let mut scanner = Scanner { text, position: 0 };
    scanner.read_members(members)?;
    scanner.skip_spaces();
    (scanner.position == text.len()).then_some(())
}

/// Returns the index of the first quotation mark. Strings in events are short, so eight bytes are looked at in one
/// step.
fn first_quote(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (at, chunk) in chunks.iter().enumerate() {
        // A byte is zero here if it is a quotation mark. Subtracting one sets the high bit of a zero byte, and of no
        // byte before the first one.
        let others = u64::from_le_bytes(*chunk) ^ QUOTES;
        let found = others.wrapping_sub(ONES) & !others & HIGH_BITS;
        if found != 0 {
            return Some(at * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    let found = rest.iter().position(|byte| *byte == b'"')?;
    Some(bytes.len() - rest.len() + found)
}

/// A number that is not negative: its digits without the decimal point, and how many of them are behind the point.
struct DecimalNumber {
    digits: u64,
    decimal_places: usize,
}

impl DecimalNumber {
    /// Returns the number that [`serde_json`] makes of the same text.
    fn value(&self) -> f64 {
        if self.decimal_places == 0 {
            self.digits as f64
        } else {
            self.digits as f64 / POWERS_OF_TEN[self.decimal_places]
        }
    }
}

/// A cursor in a text that has no escapes and no control characters.
struct Scanner<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Scanner<'a> {
    fn peek_byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek_byte() == Some(b' ') {
            self.position += 1;
        }
    }

    /// Skips spaces and then this byte; `None` if another byte follows.
    fn expect_byte(&mut self, byte: u8) -> Option<()> {
        self.skip_spaces();
        (self.peek_byte()? == byte).then(|| self.position += 1)
    }

    /// Reads a string in quotation marks, after any spaces.
    fn read_quoted(&mut self) -> Option<&'a str> {
        self.expect_byte(b'"')?;
        let rest = self.text.get(self.position..)?;
        let length = first_quote(rest.as_bytes())?;
        self.position += length + 1;
        rest.get(..length)
    }

    /// Reads a number. The caller checks what follows it.
    fn read_number(&mut self) -> Option<DecimalNumber> {
        self.skip_spaces();
        let start = self.position;
        let mut digits = self.add_digits(0)?;
        let whole = self.position - start;
        if whole > 1 && self.text.as_bytes()[start] == b'0' {
            return None;
        }
        let mut decimal_places = 0;
        if self.peek_byte() == Some(b'.') {
            self.position += 1;
            let start = self.position;
            digits = self.add_digits(digits)?;
            decimal_places = self.position - start;
        }
        (whole + decimal_places <= MAX_DIGITS).then_some(DecimalNumber { digits, decimal_places })
    }

    /// Appends the digits that follow to `number`. `None` if there is no digit, if there are more than [`MAX_DIGITS`],
    /// or on overflow.
    fn add_digits(&mut self, mut number: u64) -> Option<u64> {
        let start = self.position;
        while let Some(digit @ b'0'..=b'9') = self.peek_byte() {
            if self.position - start == MAX_DIGITS {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.position += 1;
        }
        (self.position > start).then_some(number)
    }

    fn read_members(&mut self, members: &mut Members<'a>) -> Option<()> {
        self.expect_byte(b'{')?;
        loop {
            let name = self.read_quoted()?;
            self.expect_byte(b':')?;
            self.read_member(name, members)?;
            self.skip_spaces();
            match self.peek_byte()? {
                b',' => self.position += 1,
                b'}' => {
                    self.position += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Reads the value of the member `name`; `None` if it is unknown or was there before.
    fn read_member(&mut self, name: &str, members: &mut Members<'a>) -> Option<()> {
        match name {
            "video_id" => set_once(&mut members.video_id, self.read_quoted()?),
            "user_id" => set_once(&mut members.user_id, self.read_quoted()?),
            "type" => set_once(&mut members.kind, self.read_quoted()?),
            "watch_time" => set_once(&mut members.watch_seconds, self.read_number()?.value()),
            "timestamp" => {
                self.skip_spaces();
                let time = if self.peek_byte()? == b'"' {
                    TimeMember::Text(self.read_quoted()?)
                } else {
                    TimeMember::Seconds(self.read_number()?.value())
                };
                set_once(&mut members.timestamp, time)
            }
            "event_id" => set_once(&mut members.event_id, self.read_quoted()?),
            "owner_id" => set_once(&mut members.owner_id, self.read_quoted()?),
            "comment_id" => set_once(&mut members.comment_id, self.read_quoted()?),
            "comment" => set_once(&mut members.comment, self.read_quoted()?),
            "reply_to" => set_once(&mut members.reply_to, self.read_quoted()?),
            "format" => {
                let number = self.read_number()?;
                (number.decimal_places == 0).then_some(())?;
                set_once(&mut members.format, number.digits)
            }
            _ => None,
        }
    }
}

/// Sets a member; `None` if it was set before.
fn set_once<T>(member: &mut Option<T>, value: T) -> Option<()> {
    member.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_read(json: &str) -> bool {
        let mut members = Members::default();
        scan_members(json.as_bytes(), &mut members).is_some() && members.kind.is_some()
    }

    #[test]
    fn usual_events_are_scanned_and_all_others_are_left_to_serde() {
        let ids = r#""video_id":"v","user_id":"ü日","type":"view""#;
        for usual in
            ["", r#","timestamp":1700000000"#, r#", "timestamp" : 1700000000.25 "#, r#","comment":"{}[],:""#]
        {
            assert!(is_read(&format!(" {{ {ids}{usual}}} ")), "{usual}");
        }
        for unusual in [
            r#","video_id":"w""#,
            r#","other":1"#,
            r#","owner_id":null"#,
            r#","event_id":"a\n""#,
            r#","timestamp":1e3"#,
            r#","timestamp":01"#,
            r#","timestamp":-1"#,
            r#","timestamp":1."#,
            r#","timestamp":.5"#,
            ",",
            r#","format":1.0"#,
            r#","timestamp":1234567890123456"#,
            r#","timestamp":12345678901.23456"#,
            r#","timestamp":99999999999999999999"#,
            "}",
            "\u{1}",
            r#","event_id":"a"#,
            "\n",
        ] {
            assert!(!is_read(&format!("{{{ids}{unusual}}}")), "{unusual}");
        }
        for torn in ["", "{", "{}", "[]", r#"{"type":"view""#, r#"{"type":"view"}}"#, "{\"type\""] {
            assert!(!is_read(torn), "{torn}");
        }
        assert!(scan_members(b"{\"type\":\"\xff\"}", &mut Members::default()).is_none());
    }

    proptest! {
        #[test]
        fn the_first_quote_is_found(text in "[a\"#!\u{a2}]{0,40}") {
            prop_assert_eq!(first_quote(text.as_bytes()), text.find('"'));
        }

        #[test]
        fn a_scanned_number_is_the_one_that_serde_reads(number in "(0|[1-9][0-9]{0,15})(\\.[0-9]{1,15})?") {
            let mut scanner = Scanner { text: &number, position: 0 };
            let scanned = scanner.read_number().map(|number| number.value().to_bits());
            let digits = number.bytes().filter(u8::is_ascii_digit).count();
            prop_assert_eq!(scanned.is_some(), digits <= MAX_DIGITS);
            let read: f64 = serde_json::from_str(&number).unwrap();
            prop_assert!(scanned.is_none_or(|scanned| scanned == read.to_bits()), "{}", number);
        }
    }
}
