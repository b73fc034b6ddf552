//! Which readers are alive and which are gone, as one manager sees it, and whether the manager may act on that view.
//!
//! A reader is alive as long as its beat changes, as seen on the manager's own monotonic clock. A reader whose beat
//! has not changed for [`SUSPECT_AFTER_SILENCE`] is suspect and gets no new viewers; it is gone once a direct probe
//! fails as well.
//!
//! A heartbeat shows that a reader can reach the managers, and not that anybody can reach the reader. So a reader to
//! which viewers are sent is probed as well. If, twice in a row, its name does not resolve, its address refuses the
//! connection, or another process answers there, the reader is unreachable, and its videos are given to other readers
//! like those of a reader that is gone. A reader that merely answers late is not unreachable: it may be overloaded. A
//! reader that a manager found in the store at its start is probed at once. An unreachable reader need not be silent
//! for as long as a suspect one: two probes, a second apart, prove more than missing heartbeats.
//!
//! Four rules keep a manager from taking its own failures for the readers':
//!
//! 1. Silence is counted only while the manager polls: time in which it did not reach the store (the store was
//!    unavailable, or the process was suspended) counts as nobody's silence. The same holds for a failed probe: it
//!    counts once the store was reached after it.
//! 2. The manager acts only on a view younger than [`VIEW_STALE_AFTER`].
//! 3. The more often the manager is late itself, the longer it waits for readers
//!    ([`LocalHealth`](crate::handover::local_health::LocalHealth), ADR 022).
//! 4. The manager does not act while more than max(1, a third) of the readers seem gone: then it is more likely cut off
//!    itself. Readers that stay gone are forgotten after [`FORGET_GONE_READER_AFTER`], so that this cannot last for
//!    ever.
//!
//! Time is an [`Instant`](std::time::Instant) that the caller gives: only differences of times count. The caller also
//! asks the store and sends the probes. The managers and the simulation in `tests/simulation` both run this module.
//!
//! | module | decides |
//! |---|---|
//! | `report` | what a reader's record has to say, and which of two records is the later one |
//! | `reader` | what is known of one reader |
//! | `watch` | what polls, heartbeats and probes show of all readers |
//! | `refusal` | which heartbeats are refused |
//! | `verdict` | which readers are replaced, and the status of a reader that the manager may act on |
//! | `probe`, `time_limits` | the outcomes of probes, and the times that all of it takes |

mod probe;
mod reader;
mod refusal;
mod report;
mod time_limits;
mod verdict;
mod watch;

pub use probe::ProbeOutcome;
pub use reader::ReaderLiveness;
pub use refusal::NameRefusal;
pub use report::ReaderReport;
pub use time_limits::{
    FORGET_GONE_READER_AFTER, FORGET_REMOVED_READER_AFTER, HEARTBEAT_EVERY, LATE_ANSWER_TIMEOUT,
    LOOK_INTERVAL, MAX_POLL_TIME, MISSING_AFTER_SILENCE, PROBE_INTERVAL, PROBE_TIMEOUT,
    SETTLED_AFTER_WATCHING, SUSPECT_AFTER_SILENCE, VIEW_STALE_AFTER,
};
pub use verdict::{HoldReason, ReadersVerdict};
pub use watch::ReaderWatch;

#[cfg(test)]
mod tests;
