//! The addresses that readers may have. A reader reports its own addresses, and gateways and managers connect to them.
//! So a reported address is accepted only if the configuration permits it for this reader. A rule with `{reader}` in it
//! permits only the address that follows from the name by which the reader is known.

use std::str::FromStr;

use liverank_core::ReaderId;
use reqwest::Url;

/// The placeholder for the reader's name in a rule.
const READER_PLACEHOLDER: &str = "{reader}";

/// One rule of `--reader-urls`: an address that readers may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRule {
    /// The only reader to which the rule applies; `None`: all readers.
    reader: Option<String>,
    /// The scheme, host and port that the rule permits; without a port if `any_port` is set.
    origin: String,
    any_port: bool,
}

impl FromStr for AddressRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (reader, origin) = match text.split_once('=') {
            Some((reader, origin)) => (Some(reader.trim().to_owned()), origin),
            None => (None, text),
        };
        let origin = origin.trim().trim_end_matches('/');
        let (origin, any_port) = match origin.strip_suffix(":*") {
            Some(origin) => (origin, true),
            None => (origin, false),
        };
        // A name of one letter stands for any reader's name in this check.
        let is_origin =
            split_address(&origin.replace(READER_PLACEHOLDER, "r")).is_some_and(|it| it.path.is_empty());
        if !is_origin || reader.as_ref().is_some_and(String::is_empty) {
            return Err("must be scheme://host:port, with NAME= in front where it is for one reader only");
        }
        Ok(Self { reader, origin: origin.to_owned(), any_port })
    }
}

impl AddressRule {
    /// Returns the rules that permit any port of this machine.
    pub fn any_port_of_this_machine() -> Vec<Self> {
        let plain = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let encrypted = ["https://127.0.0.1", "https://localhost", "https://[::1]"];
        [plain, encrypted]
            .concat()
            .into_iter()
            .map(|origin| Self { reader: None, origin: origin.to_owned(), any_port: true })
            .collect()
    }

    fn allows(&self, reader: &ReaderId, address: &AddressParts) -> bool {
        if self.reader.as_ref().is_some_and(|only| only != reader.as_str()) {
            return false;
        }
        // A reader's name with other characters could change the parts of the address before or after it, so it matches
        // no rule.
        if self.origin.contains(READER_PLACEHOLDER) && !reader.as_str().bytes().all(is_plain_byte) {
            return false;
        }
        split_address(&self.origin.replace(READER_PLACEHOLDER, reader.as_str())).is_some_and(|rule| {
            rule.scheme == address.scheme
                && rule.host == address.host
                && (self.any_port || rule.port == address.port)
        })
    }
}

const fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_'
}

/// The parts of an address that are compared with a rule.
struct AddressParts {
    scheme: String,
    host: String,
    port: Option<u16>,
    path: String,
}

/// Splits an http or https address into its parts; `None` if the address has a user, a password, a query or a fragment.
fn split_address(text: &str) -> Option<AddressParts> {
    let url: Url = text.parse().ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then(|| AddressParts {
        scheme: url.scheme().to_owned(),
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default(),
        path: url.path().trim_end_matches('/').to_owned(),
    })
}

/// All rules of `--reader-urls`.
#[derive(Debug, Clone)]
pub struct ReaderAddresses(Vec<AddressRule>);

impl ReaderAddresses {
    /// Creates the set of the addresses that `rules` permit.
    pub const fn new(rules: Vec<AddressRule>) -> Self {
        Self(rules)
    }

    /// Returns true if a rule permits `reader` to have the address `url`.
    pub fn may_be_at(&self, reader: &ReaderId, url: &str) -> bool {
        split_address(url).is_some_and(|address| {
            address.path.is_empty() && self.0.iter().any(|rule| rule.allows(reader, &address))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed_by(rules: &[&str], reader: &str, url: &str) -> bool {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        ReaderAddresses::new(rules).may_be_at(&ReaderId::parse(reader).unwrap(), url)
    }

    #[test]
    fn a_reader_may_be_only_at_the_address_of_its_name() {
        let rules = ["http://{reader}.tv.svc:4001", "https://{reader}.live.example"];
        assert!(is_allowed_by(&rules, "live-reader-0", "http://live-reader-0.tv.svc:4001"));
        assert!(is_allowed_by(&rules, "live-reader-0", "https://live-reader-0.live.example/"));
        assert!(is_allowed_by(&rules, "live-reader-0", "https://live-reader-0.live.example:443"));
        for other in [
            "http://live-reader-1.tv.svc:4001",
            "http://live-reader-0.tv.svc:4002",
            "http://live-reader-0.tv.svc",
            "https://live-reader-0.tv.svc:4001",
            "http://live-reader-0.tv.svc.evil.example:4001",
            "http://live-reader-0.tv.svc:4001@evil.example",
            "http://evil.example#live-reader-0.tv.svc:4001",
            "http://ann@live-reader-0.tv.svc:4001",
            "http://live-reader-0.tv.svc:4001/elsewhere",
            "http://live-reader-0.tv.svc:4001?x",
            "http://10.0.0.1:4001",
            "",
        ] {
            assert!(!is_allowed_by(&rules, "live-reader-0", other), "{other}");
        }
        // A name that contains parts of an address.
        assert!(!is_allowed_by(
            &["http://{reader}.tv.svc:4001"],
            "evil.example/",
            "http://evil.example/.tv.svc:4001"
        ));
        assert!(!is_allowed_by(&["http://{reader}:*"], "a@evil.example", "http://a@evil.example:1"));
    }

    #[test]
    fn a_rule_may_be_for_one_reader_and_for_any_port() {
        let rules = ["reader-1=http://localhost:4001", "http://127.0.0.1:*"];
        assert!(is_allowed_by(&rules, "reader-1", "http://localhost:4001"));
        assert!(!is_allowed_by(&rules, "reader-2", "http://localhost:4001"));
        assert!(is_allowed_by(&rules, "reader-2", "http://127.0.0.1:39999"));
        assert!(!is_allowed_by(&rules, "reader-2", "http://127.0.0.2:39999"));
        assert!(!is_allowed_by(&[], "reader-1", "http://localhost:4001"));
    }

    #[test]
    fn an_address_rule_must_be_an_origin() {
        for wrong in [
            "",
            "localhost:4001",
            "ftp://a",
            "http://a/b",
            "=http://a",
            "http://",
            "http://a?b",
            "http://u@a",
        ] {
            assert!(wrong.parse::<AddressRule>().is_err(), "{wrong}");
        }
        assert_eq!(AddressRule::any_port_of_this_machine()[2], "http://[::1]:*".parse().unwrap());
    }
}
