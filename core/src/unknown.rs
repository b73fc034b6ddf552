//! Values of a fixed set, and values that a newer release has added to it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value of the fixed set `T`, or the text of a value that this release does not know. A message with such a value
/// keeps its other fields: one new value must not make a whole answer unreadable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MaybeUnknown<T> {
    /// A value that this release knows.
    Known(T),
    /// The text of a value that this release does not know. Nothing may be concluded from it: the value equals none of
    /// the known values.
    Unknown(String),
}

impl<T: Copy> MaybeUnknown<T> {
    /// Returns the value if this release knows it, otherwise `None`.
    pub const fn known_value(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> From<T> for MaybeUnknown<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: PartialEq> PartialEq<T> for MaybeUnknown<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(value) if value == other)
    }
}

impl<T: fmt::Display> fmt::Display for MaybeUnknown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}
