//! The times by which a manager judges readers.

use std::time::Duration;

/// The time between two polls of the readers' heartbeats in the store: two polls a heartbeat.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two heartbeats of a reader: a reader gives up a heartbeat that took longer.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// The silence after which a reader is suspect: three heartbeats. A manager that is late itself waits longer.
pub const SUSPECT_AFTER_SILENCE: Duration = Duration::from_secs(3);
/// The silence after which a reader counts among those that seem gone. Readers that a network failure cuts off together
/// fall silent up to a heartbeat apart: the manager must not act on the first before the others show.
pub const MISSING_AFTER_SILENCE: Duration = Duration::from_secs(2);
/// The longest time that one poll may take: the store may take its full timeout for the orders and again for the
/// readers.
pub const MAX_POLL_TIME: Duration = Duration::from_secs(4);
/// The age from which a view is too old to act on: three polls.
pub const VIEW_STALE_AFTER: Duration = Duration::from_millis(1_500);
/// The time between two probes of a suspect reader.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit of a probe: the reader is close in the network and has been silent for seconds. A manager that is
/// late itself waits longer.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The time for which a manager still waits for an answer when a probe's time is over. The manager may have been
/// suspended itself, and the answer may have arrived meanwhile and have to be read.
pub const LATE_ANSWER_TIMEOUT: Duration = Duration::from_millis(50);
/// The time for which a reader that is gone is remembered, for people to see.
pub const FORGET_GONE_READER_AFTER: Duration = Duration::from_mins(1);
/// The time after its last heartbeat for which a removed reader is remembered: several heartbeats are missing by then.
pub const FORGET_REMOVED_READER_AFTER: Duration = Duration::from_secs(5);
/// The time for which a manager must have polled without a break before it takes a reader that it never saw for one
/// that does not exist: as long as a silent reader takes to be suspect.
pub const SETTLED_AFTER_WATCHING: Duration = SUSPECT_AFTER_SILENCE;
