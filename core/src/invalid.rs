//! The one way in which input is refused: by the name of its field.

/// Input that cannot be accepted, with the field that is wrong and why, in words for the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field as the sender spells it (`video_id`, `videoid`, `limit`), or `body` for the whole.
    pub field: &'static str,
    /// Why, as a clause that reads after the field: `is required`, `must be 1 to 256 bytes`.
    pub reason: String,
}

impl Invalid {
    /// Input whose `field` is wrong for `reason`.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }

    /// A required field that is absent or null.
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is required")
    }
}
