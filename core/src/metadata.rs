//! Metadata of videos, given by an app: title, thumbnail, category, and further members that it wants to have in
//! lists.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::Invalid;

/// The most bytes of a video's metadata, as JSON without blanks: a list of a thousand videos then has at most 4 MB of
/// metadata.
pub const MAX_METADATA_BYTES: usize = 4096;
/// The longest title, in characters.
pub const MAX_TITLE_CHARS: usize = 300;
/// The longest address of a thumbnail, in bytes: longer ones do not work in every browser.
pub const MAX_THUMBNAIL_BYTES: usize = 2048;
/// The longest name of a category, in characters.
pub const MAX_CATEGORY_CHARS: usize = 64;

/// The metadata of a video: a JSON object. Equal metadata have the same text, whatever the order of their members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Metadata(Arc<str>);

impl Metadata {
    /// Reads metadata. `title`, `thumbnail` and `category` must be strings if they are given; a null member counts as
    /// absent; other members are the app's own.
    ///
    /// # Errors
    /// The error names the wrong member, or `body` if the value as a whole is wrong.
    pub fn from_value(value: &Value) -> Result<Self, Invalid> {
        let Value::Object(given) = value else { return Err(Invalid::new("body", "must be a JSON object")) };
        check_text(given, "title", MAX_TITLE_CHARS)?;
        check_text(given, "category", MAX_CATEGORY_CHARS)?;
        check_thumbnail(given)?;
        let members: Map<String, Value> =
            given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let text = normalise_text(Value::Object(members).to_string())?;
        if text.len() > MAX_METADATA_BYTES {
            let wrong = format!("must be at most {MAX_METADATA_BYTES} bytes of JSON, is {}", text.len());
            return Err(Invalid::new("body", wrong));
        }
        Ok(Self(text.into()))
    }

    /// Reads the text that [`Metadata::as_str`] returned.
    ///
    /// # Errors
    /// Returns an error for any text that is not valid metadata.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::from_value(&crate::json::parse(text.as_bytes())?)
    }

    /// Returns the metadata as JSON text without blanks.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the metadata as a JSON value.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The most rounds of reading and writing a text, until it no longer changes.
const MAX_NORMALISING_ROUNDS: usize = 8;

/// Reads and writes the text until it no longer changes: a number of seventeen digits may become its neighbour when it
/// is read and written. So the stored text is returned unchanged for ever.
fn normalise_text(mut text: String) -> Result<String, Invalid> {
    for _ in 0..MAX_NORMALISING_ROUNDS {
        let again = crate::json::parse(text.as_bytes())?.to_string();
        if again == text {
            return Ok(text);
        }
        text = again;
    }
    Err(Invalid::new("body", "has a number that cannot be kept as it is: write it with fewer digits"))
}

fn text_member<'a>(members: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Invalid> {
    match members.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::new(field, "must be a string")),
    }
}

fn check_text(members: &Map<String, Value>, field: &'static str, most: usize) -> Result<(), Invalid> {
    let Some(text) = text_member(members, field)? else { return Ok(()) };
    let chars = text.chars().count();
    if chars == 0 || chars > most || text.chars().any(char::is_control) || text.trim().is_empty() {
        let wrong = format!("must be 1 to {most} characters, not only blanks, and no control characters");
        return Err(Invalid::new(field, wrong));
    }
    Ok(())
}

/// Checks the address of a thumbnail. Pages show it as an image, so no other scheme may get into a page that way.
fn check_thumbnail(members: &Map<String, Value>) -> Result<(), Invalid> {
    let Some(address) = text_member(members, "thumbnail")? else { return Ok(()) };
    let is_known = ["https://", "http://", "/"].iter().any(|start| address.starts_with(start));
    let is_clean = !address.chars().any(|c| c.is_control() || c.is_whitespace());
    if !is_known || !is_clean || address.len() > MAX_THUMBNAIL_BYTES {
        let wrong = format!(
            "must begin with https://, http:// or /, without blanks, and have at most {MAX_THUMBNAIL_BYTES} bytes"
        );
        return Err(Invalid::new("thumbnail", wrong));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_kept_without_null_members() {
        let value = json!({"title": "Cats", "thumbnail": "https://cdn.test/c.jpg", "category": "pets", "x": [1, {"y": 2.5}],
            "none": null});
        let metadata = Metadata::from_value(&value).unwrap();
        let kept = json!({"title": "Cats", "thumbnail": "https://cdn.test/c.jpg", "category": "pets", "x": [1, {"y": 2.5}]});
        assert_eq!(metadata.to_value(), kept);
        assert_eq!(serde_json::to_value(&metadata).unwrap(), kept);
        assert_eq!(serde_json::from_value::<Metadata>(kept).unwrap(), metadata);
        assert_eq!(Metadata::from_value(&json!({"title": null})).unwrap().as_str(), "{}");
    }

    #[test]
    fn every_wrong_member_is_named() {
        for (field, value) in [
            ("body", json!([])),
            ("body", json!({"x": "é".repeat(2050)})),
            ("title", json!({"title": 7})),
            ("title", json!({"title": "  "})),
            ("title", json!({"title": "a\nb"})),
            ("title", json!({"title": "t".repeat(301)})),
            ("category", json!({"category": ""})),
            ("category", json!({"category": "c".repeat(65)})),
            ("thumbnail", json!({"thumbnail": "javascript:alert(1)"})),
            ("thumbnail", json!({"thumbnail": "https://a b"})),
            ("thumbnail", json!({"thumbnail": format!("/{}", "x".repeat(2048))})),
        ] {
            assert_eq!(Metadata::from_value(&value).unwrap_err().field, field, "{value}");
        }
        let long = Metadata::from_value(&json!({"x": "é".repeat(2043)})).unwrap();
        assert!(long.as_str().len() <= MAX_METADATA_BYTES);
    }

    proptest! {
        #[test]
        fn metadata_round_trips(title in "\\PC{1,20}", other in "\\PC{0,20}", number: i64, float: f64) {
            let Ok(metadata) = Metadata::from_value(&json!({"title": title, "o": other, "n": number, "f": float})) else { return Ok(()) };
            prop_assert_eq!(Metadata::parse(metadata.as_str()).unwrap(), metadata);
        }
    }
}
