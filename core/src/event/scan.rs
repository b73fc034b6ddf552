//! The fastest parser of a usual event: one pass over its bytes.
//!
//! It reads an object of known members, each at most once: strings without escapes, and numbers of up to 15 digits
//! without an exponent. For anything else it returns `None`, and [`serde_json`] reads the bytes. So it refuses no
//! event by itself.

use super::fields::{Members, TimeMember};

/// The most digits of a number that this parser reads: an integer of 15 digits is exact as an `f64`.
const MAX_DIGITS: usize = 15;
/// The powers of ten by which the digits of such a number are divided.
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
    let mut scanner = Scanner { text, at: 0 };
    scanner.members(members)?;
    scanner.skip_spaces();
    (scanner.at == text.len()).then_some(())
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
    places: usize,
}

impl DecimalNumber {
    /// Returns the number that [`serde_json`] makes of the same text.
    fn value(&self) -> f64 {
        if self.places == 0 { self.digits as f64 } else { self.digits as f64 / POWERS_OF_TEN[self.places] }
    }
}

/// A cursor in a text that has no escapes and no control characters.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn next_byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.next_byte() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Skips spaces and then this byte; `None` if another byte follows.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_spaces();
        (self.next_byte()? == byte).then(|| self.at += 1)
    }

    /// Reads a string in quotation marks, after any spaces.
    fn quoted(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let rest = self.text.get(self.at..)?;
        let length = first_quote(rest.as_bytes())?;
        self.at += length + 1;
        rest.get(..length)
    }

    /// Reads a number. The caller checks what follows it.
    fn number(&mut self) -> Option<DecimalNumber> {
        self.skip_spaces();
        let start = self.at;
        let mut digits = self.add_digits(0)?;
        let whole = self.at - start;
        if whole > 1 && self.text.as_bytes()[start] == b'0' {
            return None;
        }
        let mut places = 0;
        if self.next_byte() == Some(b'.') {
            self.at += 1;
            let start = self.at;
            digits = self.add_digits(digits)?;
            places = self.at - start;
        }
        (whole + places <= MAX_DIGITS).then_some(DecimalNumber { digits, places })
    }

    /// Appends the digits that follow to `number`. `None` if there is no digit, if there are more than [`MAX_DIGITS`],
    /// or on overflow.
    fn add_digits(&mut self, mut number: u64) -> Option<u64> {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.next_byte() {
            if self.at - start == MAX_DIGITS {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        (self.at > start).then_some(number)
    }

    fn members(&mut self, members: &mut Members<'a>) -> Option<()> {
        self.expect(b'{')?;
        loop {
            let name = self.quoted()?;
            self.expect(b':')?;
            self.member(name, members)?;
            self.skip_spaces();
            match self.next_byte()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Reads the value of the member `name`; `None` if it is unknown or was there before.
    fn member(&mut self, name: &str, members: &mut Members<'a>) -> Option<()> {
        match name {
            "video_id" => set(&mut members.video_id, self.quoted()?),
            "user_id" => set(&mut members.user_id, self.quoted()?),
            "type" => set(&mut members.kind, self.quoted()?),
            "watch_time" => set(&mut members.watch_seconds, self.number()?.value()),
            "timestamp" => {
                self.skip_spaces();
                let time = if self.next_byte()? == b'"' {
                    TimeMember::Text(self.quoted()?)
                } else {
                    TimeMember::Seconds(self.number()?.value())
                };
                set(&mut members.timestamp, time)
            }
            "event_id" => set(&mut members.event_id, self.quoted()?),
            "owner_id" => set(&mut members.owner_id, self.quoted()?),
            "comment_id" => set(&mut members.comment_id, self.quoted()?),
            "comment" => set(&mut members.comment, self.quoted()?),
            "reply_to" => set(&mut members.reply_to, self.quoted()?),
            "format" => {
                let number = self.number()?;
                (number.places == 0).then_some(())?;
                set(&mut members.format, number.digits)
            }
            _ => None,
        }
    }
}

/// Sets a member; `None` if it was set before.
fn set<T>(member: &mut Option<T>, value: T) -> Option<()> {
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
            let mut scanner = Scanner { text: &number, at: 0 };
            let scanned = scanner.number().map(|number| number.value().to_bits());
            let digits = number.bytes().filter(u8::is_ascii_digit).count();
            prop_assert_eq!(scanned.is_some(), digits <= MAX_DIGITS);
            let read: f64 = serde_json::from_str(&number).unwrap();
            prop_assert!(scanned.is_none_or(|scanned| scanned == read.to_bits()), "{}", number);
        }
    }
}
