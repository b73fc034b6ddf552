//! The origins whose pages may use the public endpoints: one list for cross-origin requests (CORS), `WebSockets` and
//! beacons.

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;
use axum::http::{HeaderMap, HeaderValue, header};
use reqwest::Url;

/// One entry of the list of allowed origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every origin, written `*`.
    Any,
    /// The origin `null`, which browsers send for pages from files and after a second redirect.
    Null,
    /// One origin as browsers send it: scheme, host, and the port if it is not the default one.
    Exactly(String),
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let url: Url = text.trim().parse().map_err(|_| "must be as https://example.org, null or *")?;
        let bare = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if bare {
            Ok(Self::Exactly(url.origin().ascii_serialization()))
        } else {
            Err("must be a scheme, a host and perhaps a port, as https://example.org".into())
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Null => "null",
            Self::Exactly(site) => site,
        })
    }
}

/// The list of allowed origins, and whether their pages may send credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedOrigins {
    /// The allowed origins as browsers send them; `None`: all origins are allowed.
    listed_origins: Option<Vec<String>>,
    allows_credentials: bool,
}

impl AllowedOrigins {
    /// Creates the list from its entries.
    ///
    /// # Errors
    /// Returns an error for credentials together with `*`, which browsers refuse and which would let any page act for
    /// its visitors.
    pub fn new(allowed: &[AllowedOrigin], credentials: bool) -> anyhow::Result<Self> {
        let any = allowed.contains(&AllowedOrigin::Any);
        ensure!(!(any && credentials), "--allow-credentials needs a list of origins in --allowed-origins");
        let listed_origins = (!any).then(|| allowed.iter().map(ToString::to_string).collect());
        Ok(Self { listed_origins, allows_credentials: credentials })
    }

    /// Returns true if every origin is allowed.
    pub const fn is_any(&self) -> bool {
        self.listed_origins.is_none()
    }

    /// Returns true if pages of allowed origins may send credentials (cookies, HTTP authentication).
    pub const fn allows_credentials(&self) -> bool {
        self.allows_credentials
    }

    /// Returns true if a page of this origin may use the public endpoints.
    pub fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let is_it = |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        self.listed_origins.as_ref().is_none_or(|listed| listed.iter().any(is_it))
    }

    /// Returns true if the request has an allowed `Origin`, or no `Origin`, which means that it is not from a page of
    /// another site.
    pub fn allows_request(&self, headers: &HeaderMap) -> bool {
        headers.get(header::ORIGIN).is_none_or(|origin| self.allows_origin(origin))
    }

    /// Returns true if the request has an `Origin` header and the origin is allowed.
    pub fn is_allowed_page(&self, headers: &HeaderMap) -> bool {
        headers.get(header::ORIGIN).is_some_and(|origin| self.allows_origin(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str], credentials: bool) -> anyhow::Result<AllowedOrigins> {
        let list: Vec<AllowedOrigin> = list.iter().map(|origin| origin.parse().unwrap()).collect();
        AllowedOrigins::new(&list, credentials)
    }

    #[test]
    fn origins_are_compared_as_browsers_send_them() {
        let origins = origins(&["https://Example.org:443/", "http://localhost:3000"], true).unwrap();
        for (origin, allowed) in [
            ("https://example.org", true),
            ("http://localhost:3000", true),
            ("http://example.org", false),
            ("https://example.org.evil.test", false),
            ("http://localhost", false),
            ("null", false),
        ] {
            assert_eq!(origins.allows_origin(&HeaderValue::from_static(origin)), allowed, "{origin}");
        }
        let none = HeaderMap::new();
        assert!(origins.allows_request(&none) && !origins.is_allowed_page(&none));
    }

    #[test]
    fn invalid_origins_and_credentials_for_any_origin_are_refused() {
        for bad in
            ["", "example.org", "https://example.org/path", "ftp://example.org", "https://u:p@example.org"]
        {
            assert!(bad.parse::<AllowedOrigin>().is_err(), "{bad}");
        }
        assert!(origins(&["*"], true).is_err());
        assert!(origins(&["*", "https://example.org"], false).unwrap().is_any());
        assert!(origins(&["null"], false).unwrap().allows_origin(&HeaderValue::from_static("null")));
    }
}
