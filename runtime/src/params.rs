//! Query strings and path parameters, with the error that names the one that is wrong.

use std::convert::Infallible;
use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use liverank_core::{Invalid, VideoId};

use crate::Problem;

/// A request's query parameters, decoded. Of a repeated one the first counts; unknown ones are passed over.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Those of an address.
    pub fn of(uri: &Uri) -> Self {
        // What cannot be decoded is replaced, not refused: the parameter's own check tells of it by name.
        Self(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    /// A parameter's text; `None` where it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a whole number within `range`.
    pub fn number(&self, name: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, Invalid> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // `u64::from_str` takes a leading plus, which nobody else would call a number here.
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Invalid::new(
                name,
                format!("must be a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A parameter that is `true` or `false`; false where it is absent.
    pub fn flag(&self, name: &'static str) -> Result<bool, Invalid> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Invalid::new(name, "must be true or false")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri))
    }
}

/// The video in a path, at the comments seed's endpoints, which call it `videoid`.
#[derive(Debug, Clone)]
pub struct PathVideo(pub VideoId);

impl<S: Send + Sync> FromRequestParts<S> for PathVideo {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(VideoId::parse_field("videoid", &text)?)),
            Err(_) => Err(Invalid::new("videoid", "must be UTF-8").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/path?{query}").parse().unwrap())
    }

    #[test]
    fn values_are_decoded_and_the_first_counts() {
        let params = params("a=x%20y+z&b=%C3%BC&a=2&c");
        assert_eq!(params.get("a"), Some("x y z"));
        assert_eq!(params.get("b"), Some("ü"));
        assert_eq!(params.get("c"), Some(""));
        assert_eq!(params.get("d"), None);
    }

    #[test]
    fn numbers_keep_to_their_range() {
        assert_eq!(params("limit=10").number("limit", 1..=10).unwrap(), Some(10));
        assert_eq!(params("").number("limit", 1..=10).unwrap(), None);
        for bad in ["0", "11", "", "-1", "+1", "1.5", "1e1", "ten", "99999999999999999999"] {
            let refused = params(&format!("limit={bad}")).number("limit", 1..=10).unwrap_err();
            assert_eq!(refused.field, "limit", "{bad}");
        }
    }

    #[test]
    fn flags_are_true_or_false() {
        assert!(params("full=true").flag("full").unwrap());
        assert!(!params("full=false").flag("full").unwrap());
        assert!(!params("").flag("full").unwrap());
        assert!(params("full=1").flag("full").is_err());
    }
}
