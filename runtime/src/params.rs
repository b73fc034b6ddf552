//! Query strings and path parameters, with errors that name the wrong parameter.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use liverank_core::{Invalid, VideoId, canary};
use percent_encoding::percent_decode_str;

use crate::Problem;

/// The query parameter that carries a viewer's token if the client cannot set a header. Every public endpoint accepts
/// it, because a client with a token need not know which systems ask for one.
pub const TOKEN_PARAMETER: &str = "access_token";

/// The number of characters of an unknown name that an error repeats: enough to recognise a typing error.
const MAX_NAME_CHARS_SHOWN: usize = 64;

/// The decoded query parameters of a request. If a parameter is repeated, its first value counts. Public endpoints
/// refuse unknown parameters ([`QueryParams::expect_only`]).
#[derive(Debug, Clone, Default)]
pub struct QueryParams(Vec<QueryParam>);

#[derive(Debug, Clone)]
struct QueryParam {
    name: String,
    /// The decoded value. Bytes that are not UTF-8 are replaced in it.
    value: String,
    /// Whether the whole value was valid percent-encoded UTF-8.
    is_valid_utf8: bool,
}

/// Returns the 400 for a name that is not in `known`; `what` is what it would have to be, as "parameter of this path".
pub(crate) fn unknown_name(what: &str, name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().take(MAX_NAME_CHARS_SHOWN).collect();
    let takes =
        if known.is_empty() { "takes none".to_owned() } else { format!("takes {}", known.join(", ")) };
    let detail = format!("{name}: is not a {what}, which {takes}");
    Problem::new(StatusCode::BAD_REQUEST, detail).with_member("field", name)
}

impl QueryParams {
    /// Reads the query parameters of an address.
    pub fn from_uri(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(QueryParam::parse_pair).collect())
    }

    fn find(&self, name: &str) -> Option<&QueryParam> {
        self.0.iter().find(|param| param.name == name)
    }

    /// Returns a parameter's text, with bytes that are not UTF-8 replaced; `None` if the parameter is absent. For
    /// values that are checked by other means. A value that names a video or a user is read by
    /// [`QueryParams::optional_text`].
    pub fn lossy_text(&self, name: &str) -> Option<&str> {
        self.find(name).map(|param| param.value.as_str())
    }

    /// Refuses parameters that are not in `known`, with 400 and the parameter's name. Otherwise a misspelt `limit`
    /// would silently be ignored.
    pub fn expect_only(&self, known: &[&str]) -> Result<(), Problem> {
        let unknown = |name: &&str| *name != TOKEN_PARAMETER && !known.contains(name);
        let unknown = self.0.iter().map(|param| param.name.as_str()).find(unknown);
        unknown.map_or(Ok(()), |name| Err(unknown_name("parameter of this path", name, known)))
    }

    /// Returns a parameter's text; `None` if the parameter is absent.
    ///
    /// # Errors
    /// The text has wrong escapes, or its bytes are not UTF-8. Such bytes are not replaced, because the request would
    /// then be answered for another video.
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&str>, Invalid> {
        match self.find(name) {
            None => Ok(None),
            Some(param) if param.is_valid_utf8 => Ok(Some(&param.value)),
            Some(_) => Err(Invalid::new(name, "must be UTF-8, percent-encoded")),
        }
    }

    /// Returns the text of a required parameter, as [`QueryParams::optional_text`] does, or an error if the parameter
    /// is absent.
    pub fn required_text(&self, name: &'static str) -> Result<&str, Invalid> {
        self.optional_text(name)?.ok_or_else(|| Invalid::missing(name))
    }

    /// Returns a parameter that must be a whole number within `range`; `None` if it is absent.
    pub fn optional_number(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Invalid> {
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        // `u64::from_str` accepts a leading plus sign, which the API does not.
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Invalid::new(
                name,
                format!("must be a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// Returns a parameter that must be `true` or `false`; false if it is absent.
    pub fn optional_flag(&self, name: &'static str) -> Result<bool, Invalid> {
        match self.optional_text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Invalid::new(name, "must be true or false")),
        }
    }
}

impl QueryParam {
    fn parse_pair(pair: &str) -> Self {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (value, is_valid_utf8) = decode_form(value);
        Self { name: decode_form(name).0, value, is_valid_utf8 }
    }
}

/// Decodes form-encoded text. Returns the text, and whether all of it was valid percent-encoded UTF-8.
fn decode_form(text: &str) -> (String, bool) {
    let plain = text.replace('+', " ");
    let escaped = plain.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let bytes: Vec<u8> = percent_decode_str(&plain).collect();
    match String::from_utf8(bytes) {
        Ok(text) => (text, escaped),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), false),
    }
}

/// Returns the id of the last event that a client received, from the header or the query, unparsed; `None` for a client
/// that has received no event.
///
/// A browser that reconnects sends the header, and the address with which it first connected. Replacements of its
/// `EventSource` cannot send the header and write the id into the address, under one of two other names.
pub fn last_event_id(headers: &HeaderMap, params: &QueryParams) -> Option<String> {
    let header = headers.get("last-event-id").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let header = header.filter(|id| !id.is_empty()).map(Cow::into_owned);
    header.or_else(|| {
        let mut named = ["last_event_id", "lastEventId", "lastEventID"].into_iter();
        named.find_map(|name| params.lossy_text(name).filter(|id| !id.is_empty())).map(str::to_owned)
    })
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from_uri(&parts.uri))
    }
}

/// An extractor: the video id in the path of the comments seed's endpoints, which call it `videoid`. Refuses the
/// reserved video of the system itself.
#[derive(Debug, Clone)]
pub struct PathVideo(pub VideoId);

impl<S: Send + Sync> FromRequestParts<S> for PathVideo {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(canary::parse_outside_id("videoid", &text)?)),
            Err(_) => Err(Invalid::new("videoid", "must be UTF-8").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> QueryParams {
        QueryParams::from_uri(&format!("/path?{query}").parse().unwrap())
    }

    #[test]
    fn parameter_values_are_decoded_and_the_first_counts() {
        let params = params("a=x%20y+z&b=%C3%BC&a=2&c");
        assert_eq!(params.lossy_text("a"), Some("x y z"));
        assert_eq!(params.lossy_text("b"), Some("ü"));
        assert_eq!(params.lossy_text("c"), Some(""));
        assert_eq!(params.lossy_text("d"), None);
    }

    #[test]
    fn an_undecodable_parameter_is_refused_by_name() {
        for bad in ["caf%E9", "%ff", "100%", "%z1", "%1", "a%", "%c3%28", "%+1"] {
            let params = params(&format!("videoid={bad}&limit={bad}&full={bad}"));
            assert_eq!(params.optional_text("videoid").unwrap_err().field, "videoid", "{bad}");
            assert_eq!(params.required_text("videoid").unwrap_err().field, "videoid", "{bad}");
            assert_eq!(params.optional_number("limit", 0..=9).unwrap_err().field, "limit", "{bad}");
            assert_eq!(params.optional_flag("full").unwrap_err().field, "full", "{bad}");
            assert!(params.lossy_text("videoid").is_some());
        }
        let good = params("videoid=caf%C3%A9+1%25&x=%ff");
        assert_eq!(good.optional_text("videoid").unwrap(), Some("café 1%"));
        assert_eq!(good.required_text("userid").unwrap_err().reason, "is required");
    }

    #[test]
    fn the_last_event_id_is_read_from_the_header_first_then_parameters() {
        let headers = |id: &'static str| {
            HeaderMap::from_iter([("last-event-id".parse().unwrap(), id.parse().unwrap())])
        };
        let none = HeaderMap::new();
        for name in ["last_event_id", "lastEventId", "lastEventID"] {
            let params = params(&format!("{name}=n-1"));
            assert_eq!(last_event_id(&none, &params).as_deref(), Some("n-1"), "{name}");
            assert_eq!(last_event_id(&headers("n-2"), &params).as_deref(), Some("n-2"), "{name}");
            assert_eq!(last_event_id(&headers(""), &params).as_deref(), Some("n-1"), "{name}");
        }
        assert_eq!(last_event_id(&none, &params("last_event_id=&lastEventId=n-3")).as_deref(), Some("n-3"));
        assert_eq!(last_event_id(&none, &params("last_event_id=")), None);
    }

    #[test]
    fn number_parameters_must_be_within_their_range() {
        assert_eq!(params("limit=10").optional_number("limit", 1..=10).unwrap(), Some(10));
        assert_eq!(params("").optional_number("limit", 1..=10).unwrap(), None);
        for bad in ["0", "11", "", "-1", "+1", "1.5", "1e1", "ten", "99999999999999999999"] {
            let refused = params(&format!("limit={bad}")).optional_number("limit", 1..=10).unwrap_err();
            assert_eq!(refused.field, "limit", "{bad}");
        }
    }

    #[test]
    fn unknown_parameters_are_refused_and_the_token_parameter_is_not() {
        assert!(params("limit=1&access_token=t").expect_only(&["limit", "board"]).is_ok());
        assert!(params("").expect_only(&[]).is_ok());
        let refused = params("limit=1&limt=2").expect_only(&["limit", "board"]).unwrap_err();
        assert_eq!(refused.body()["field"], "limt");
        assert!(refused.detail().ends_with("which takes limit, board"), "{}", refused.detail());
        let long = params(&"x".repeat(500)).expect_only(&[]).unwrap_err();
        assert_eq!(long.body()["field"], "x".repeat(MAX_NAME_CHARS_SHOWN));
    }

    #[test]
    fn flag_parameters_are_true_or_false() {
        assert!(params("full=true").optional_flag("full").unwrap());
        assert!(!params("full=false").optional_flag("full").unwrap());
        assert!(!params("").optional_flag("full").unwrap());
        assert!(params("full=1").optional_flag("full").is_err());
    }
}
