//! The errors of stores, divided by what a caller can do about them.

/// A store's failure, divided by what the caller should do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store is unreachable, slow or full. Nothing is wrong with the request: try again later. The text
    /// names the store (`kafka`, `mongodb`, `redis`, `log file …`) and the store's own error.
    #[error("{part} is unavailable: {reason}")]
    Unavailable {
        /// The store that failed.
        part: &'static str,
        /// The reason that the store gave.
        reason: String,
    },
    /// The store holds something that this program cannot work with (another format version, a standalone MongoDB,
    /// a damaged file): trying again does not help, and a person has to look at it.
    #[error("{part}: {reason}")]
    Unusable {
        /// The store that failed.
        part: &'static str,
        /// The fault of the store, and what a person has to do.
        reason: String,
    },
}

impl StoreError {
    /// Returns the error of a store that is unavailable for now.
    pub fn unavailable(part: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { part, reason: reason.to_string() }
    }

    /// Returns the error of a store that a person has to repair.
    pub fn unusable(part: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Unusable { part, reason: reason.to_string() }
    }

    /// Returns true if trying again may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns the name of the store that failed.
    pub const fn store_name(&self) -> &'static str {
        match self {
            Self::Unavailable { part, .. } | Self::Unusable { part, .. } => part,
        }
    }
}
