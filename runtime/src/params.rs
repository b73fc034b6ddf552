//! Query strings and path parameters, with the error that names the one that is wrong.

use std::convert::Infallible;
use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use liverank_core::{Invalid, VideoId};

use crate::Problem;

/// The parameter that carries a viewer's token where no header can be set. Every public address takes it: who has a token
/// need not know which systems ask for one.
pub const TOKEN_PARAMETER: &str = "access_token";

/// Characters of an unknown parameter's name that an error repeats: enough to recognise a slip of the pen.
const NAME_SHOWN: usize = 64;

/// A request's query parameters, decoded. Of a repeated one the first counts. Public endpoints refuse unknown ones
/// ([`Params::only`]).
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Those of an address.
    pub fn of(uri: &Uri) -> Self {
        // What cannot be decoded is replaced, not refused: the parameter's own check tells of it by name.
        Self(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    /// Refuses parameters that the endpoint does not know, by name: a misspelt `limit` would otherwise be answered as if
    /// it were not there.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let unknown = |name: &&str| *name != TOKEN_PARAMETER && !known.contains(name);
        let Some(name) = self.0.iter().map(|(name, _)| name.as_str()).find(unknown) else { return Ok(()) };
        let name: String = name.chars().take(NAME_SHOWN).collect();
        let takes =
            if known.is_empty() { "takes none".to_owned() } else { format!("takes {}", known.join(", ")) };
        let detail = format!("{name}: is not a parameter of this path, which {takes}");
        Err(Problem::new(StatusCode::BAD_REQUEST, detail).with("field", name))
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
    fn an_unknown_name_is_refused_and_a_token_never_is() {
        assert!(params("limit=1&access_token=t").only(&["limit", "board"]).is_ok());
        assert!(params("").only(&[]).is_ok());
        let refused = params("limit=1&limt=2").only(&["limit", "board"]).unwrap_err();
        assert_eq!(refused.body()["field"], "limt");
        assert!(refused.detail().ends_with("which takes limit, board"), "{}", refused.detail());
        let long = params(&"x".repeat(500)).only(&[]).unwrap_err();
        assert_eq!(long.body()["field"], "x".repeat(NAME_SHOWN));
    }

    #[test]
    fn flags_are_true_or_false() {
        assert!(params("full=true").flag("full").unwrap());
        assert!(!params("full=false").flag("full").unwrap());
        assert!(!params("").flag("full").unwrap());
        assert!(params("full=1").flag("full").is_err());
    }
}
