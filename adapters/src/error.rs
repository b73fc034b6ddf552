//! What a caller can do about a store that did not do as asked.

/// A store's failure, by what the caller should do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store is away, slow or full: nothing is wrong with the request, try again later. The text names the part
    /// (`kafka`, `mongodb`, `redis`, `log file …`) and what it said.
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
        /// What is wrong with the store, and what somebody has to do.
        reason: String,
    },
}

impl StoreError {
    /// A store that is away for now.
    pub fn unavailable(part: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { part, reason: reason.to_string() }
    }

    /// A store that somebody has to look at.
    pub fn unusable(part: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Unusable { part, reason: reason.to_string() }
    }

    /// Whether trying again may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The store that failed.
    pub const fn part(&self) -> &'static str {
        match self {
            Self::Unavailable { part, .. } | Self::Unusable { part, .. } => part,
        }
    }
}
