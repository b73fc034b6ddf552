//! What a store says of itself, for whoever looks after it: its version, its clock, and which of its settings we would have
//! made otherwise. Nothing here changes anything.

use liverank_core::Millis;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Its version, where it says so.
    pub version: Option<String>,
    /// Its clock.
    pub clock: Option<Millis>,
    /// What is there, in words.
    pub found: String,
    /// Settings that we would have made otherwise.
    pub remarks: Vec<Remark>,
}

/// A setting that we would have made otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What is wrong with it.
    pub wrong: String,
    /// The line that mends it.
    pub mend: String,
}

impl Remark {
    pub(crate) fn new(wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), mend: mend.into() }
    }
}
