//! The names under which `/readyz` shows the stores of a consumer. All roles use the same names, whatever product a
//! store is.

/// The log of all events.
pub const LOG: &str = "log";
/// The archive of what is counted.
pub const ARCHIVE: &str = "archive";
/// The store of the boards.
pub const RANKING: &str = "ranking";
