//! Maintains the stores while the system serves: checks that they agree (`verify`), rebuilds one from another
//! (`rebuild`), shows and replays dead letters (`dlq`), and erases users (`erase`).
//!
//! | module | does |
//! |---|---|
//! | [`verify`] | reads log, archive and boards up to the same offsets, and reports where they differ |
//! | [`tally`] | counts the log in memory (pure) |
//! | [`compare`] | finds differences (pure) |
//! | [`boards`] | compares the boards, which change meanwhile, with the archive |
//! | [`untold`] | finds boards that are declared to the consumers and not to the command (pure) |
//! | [`described`] | compares the metadata beside the boards with the archive |
//! | [`report`] | the result of `verify` as text and JSON |
//! | [`rebuild`] | makes a new generation of scores, boards, or the whole archive |
//! | [`dlq`] | lists and replays dead letters |
//! | [`erase`] | removes everything that names a user |
//! | [`progress`] | shows how far a command is |

use jiff::Timestamp;
use liverank_core::Millis;

pub mod boards;
pub mod compare;
pub mod described;
pub mod dlq;
pub mod erase;
pub mod progress;
pub mod rebuild;
pub mod report;
pub mod tally;
pub mod untold;
pub mod verify;

/// Returns a time as text; a time outside the calendar is written as its number of milliseconds.
fn time_text(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

/// The verdict of a command that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandVerdict {
    /// Everything is as it should be: exit code 0.
    AllGood,
    /// Something differs, or was refused, and the output says what: exit code 1.
    FoundFault,
}
