//! Until when a certificate is good: the one field of X.509 that is looked at here and that rustls does not tell.

use jiff::Timestamp;

const SEQUENCE_TAG: u8 = 0x30;
/// The version, where it is written.
const VERSION_TAG: u8 = 0xa0;
const UTC_TIME_TAG: u8 = 0x17;
const GENERALIZED_TIME_TAG: u8 = 0x18;

/// When a certificate in DER ends, in seconds since the Unix epoch (`tbsCertificate.validity.notAfter`, RFC 5280 4.1.2.5).
/// `None` where it is no certificate.
pub fn certificate_end(der: &[u8]) -> Option<i64> {
    let mut certificate = DerElements(der);
    let mut certificate = DerElements(certificate.expect_tag(SEQUENCE_TAG)?);
    let mut fields = DerElements(certificate.expect_tag(SEQUENCE_TAG)?);
    if fields.0.first() == Some(&VERSION_TAG) {
        fields.next_element()?;
    }
    // The serial number, the algorithm of the signature, the issuer.
    for _ in 0..3 {
        fields.next_element()?;
    }
    let mut validity = DerElements(fields.expect_tag(SEQUENCE_TAG)?);
    validity.next_element()?;
    let (tag, text) = validity.next_element()?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        GENERALIZED_TIME_TAG => text.to_owned(),
        // Years from 50 on are of the last century.
        UTC_TIME_TAG if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME_TAG => format!("20{text}"),
        _ => return None,
    };
    parse_time(&text)
}

/// `YYYYMMDDHHMMSSZ` in seconds since the Unix epoch.
fn parse_time(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (date, time) = digits.split_at(8);
    format!("{date}T{time}Z").parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// Elements of DER, one after the other.
struct DerElements<'a>(&'a [u8]);

impl<'a> DerElements<'a> {
    /// The next element's tag and contents.
    fn next_element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Longer lengths than of four bytes no certificate has, and none without an end.
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    fn expect_tag(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next_element().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }
}
