//! The order of a board.

/// The order of the videos on a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BoardOrder {
    /// The videos are ordered by points.
    #[default]
    Points,
    /// The videos are ordered by the decayed score, as on the board `trending`.
    Trending,
}

impl BoardOrder {
    /// Returns the order's name in declarations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Points => "points",
            Self::Trending => "trending",
        }
    }
}
