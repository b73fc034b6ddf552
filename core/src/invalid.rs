//! The error with which input is refused: it names the field that is wrong.

/// Input that cannot be accepted: the field that is wrong and the reason, in words for the sender of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field as the sender spells it (`video_id`, `videoid`, `limit`), or `body` for the input as a whole.
    pub field: &'static str,
    /// The reason, as a clause that reads after the field's name: `is required`, `must be 1 to 256 bytes`.
    pub reason: String,
}

impl Invalid {
    /// Makes the error for a `field` that is wrong, with its `reason`.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }

    /// Makes the error for a required field that is absent or null.
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is required")
    }
}
