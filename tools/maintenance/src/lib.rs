//! Looking after the stores while the system serves: do they agree (`verify`), make one anew from another (`rebuild`),
//! what could not be read (`dlq`), and users who are to be forgotten (`erase`).
//!
//! | module | does |
//! |---|---|
//! | [`verify`] | reads log, archive and boards at one cut, and says in what they differ |
//! | [`tally`] | counts the log in memory (pure) |
//! | [`compare`] | finds differences (pure) |
//! | [`boards`] | compares the boards, which move meanwhile, with the archive |
//! | [`described`] | compares what stands of videos beside the boards with the archive |
//! | [`report`] | says what was found |
//! | [`rebuild`] | a new generation of scores, boards, or the whole archive |
//! | [`dlq`] | dead letters |
//! | [`erase`] | everything that names a user goes |
//! | [`progress`] | how far a command is |

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
pub mod verify;

/// A time as commands tell it; one that no calendar has, in milliseconds.
fn time_text(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandVerdict {
    /// All is as it should be: exit code 0.
    AllGood,
    /// Something differs, or was refused, and the output says what: exit code 1.
    FoundFault,
}
