//! The members of a declaration, each read by itself: the error names the member that is wrong.

use serde_json::{Map, Value};

use crate::Invalid;

/// The field of an error that is about a board as a whole. The text of the error does not mention this field.
pub(super) const WHOLE_BOARD_FIELD: &str = "all";

pub(super) fn check_known_members(
    given: &Map<String, Value>,
    field: &'static str,
    known: &[&str],
) -> Result<(), Invalid> {
    match given.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            let known = known.join(", ");
            Err(Invalid::new(field, format!("has the member {key:?}, which is none of {known}")))
        }
        None => Ok(()),
    }
}

pub(super) fn text_member<'a>(
    given: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, Invalid> {
    match given.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::new(field, "must be a string")),
    }
}

pub(super) fn number_member(given: &Map<String, Value>, field: &'static str) -> Result<Option<f64>, Invalid> {
    match given.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| Invalid::new(field, "must be a number")),
    }
}
