//! Reads the end of a certificate's validity, the one field of X.509 that is needed here and that rustls does not give.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const SEQUENCE_TAG: u8 = 0x30;
/// The tag of the certificate's version, which is optional.
const VERSION_TAG: u8 = 0xa0;
const UTC_TIME_TAG: u8 = 0x17;
const GENERALIZED_TIME_TAG: u8 = 0x18;

/// Returns the end of the validity of the first certificate in a PEM text, in seconds since the Unix epoch; `None` if
/// the text has no certificate.
pub fn first_certificate_end(pem: &[u8]) -> Option<i64> {
    certificate_end(&CertificateDer::from_pem_slice(pem).ok()?)
}

/// Returns the end of the validity of a certificate in DER, in seconds since the Unix epoch
/// (`tbsCertificate.validity.notAfter`, RFC 5280 4.1.2.5). Returns `None` if `der` is no certificate.
pub fn certificate_end(der: &[u8]) -> Option<i64> {
    let mut certificate = DerElements(der);
    let mut certificate = DerElements(certificate.expect_tag(SEQUENCE_TAG)?);
    let mut fields = DerElements(certificate.expect_tag(SEQUENCE_TAG)?);
    if fields.0.first() == Some(&VERSION_TAG) {
        fields.next_element()?;
    }
    // Skips the serial number, the algorithm of the signature and the issuer.
    for _ in 0..3 {
        fields.next_element()?;
    }
    let mut validity = DerElements(fields.expect_tag(SEQUENCE_TAG)?);
    validity.next_element()?;
    let (tag, text) = validity.next_element()?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        GENERALIZED_TIME_TAG => text.to_owned(),
        // Two-digit years from 50 on are in the 20th century.
        UTC_TIME_TAG if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME_TAG => format!("20{text}"),
        _ => return None,
    };
    parse_time(&text)
}

/// Parses `YYYYMMDDHHMMSSZ` to seconds since the Unix epoch.
fn parse_time(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (date, time) = digits.split_at(8);
    format!("{date}T{time}Z").parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// A sequence of DER elements that is read from its start.
struct DerElements<'a>(&'a [u8]);

impl<'a> DerElements<'a> {
    /// Reads the next element; returns its tag and contents, or `None` at the end or if it is malformed.
    fn next_element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No certificate has a length of more than four bytes, or an indefinite length.
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
