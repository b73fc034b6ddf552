//! The system's edges: one folder a port, each with the trait and its promise, the real implementation, the embedded
//! one. Both pass one conformance suite, which is in `adapters-testkit`.
//!
//! | port | real | embedded | what it holds |
//! |---|---|---|---|
//! | [`event_log`] | Kafka | redb file | the log: the one source of truth |
//! | [`export_topics`] | Kafka | – | what happened, for other systems; optional |
//! | [`archive`] | MongoDB | redb file | counts, comments and the offsets they stand at, atomically |
//! | [`ranking_store`] | Redis | memory | the boards: a projection of the archive |
//! | [`comment_bus`] | Redis | memory | comments on their way to readers, and the last ones of each video |
//! | [`assignment_store`] | Redis | memory and a redb file | which reader serves which video, and the readers' heartbeats |
//!
//! Each embedded implementation is a separate store with its own transaction, so that the windows between the real
//! ones exist in it too. Those in memory only come back empty after a restart, as a Redis may, and are repaired the same
//! way.

pub mod archive;
pub mod assignment_store;
pub mod clock;
pub mod comment_bus;
pub mod error;
pub mod event_log;
pub mod export_topics;
#[cfg(test)]
mod fixtures;
pub mod inspect;
pub mod lag;
mod lossy_channel;
pub mod ranking_store;
mod redb_file;
pub mod redis_link;
pub mod window_progress;

use std::sync::Arc;

pub use archive::Archive;
pub use assignment_store::AssignmentStore;
pub use clock::Clock;
pub use comment_bus::CommentBus;
pub use error::StoreError;
pub use event_log::EventLog;
pub use export_topics::ExportTopics;
pub use ranking_store::RankingStore;
pub use redb_file::catches_panics_here;

/// All that a service may be given. Cheap to clone; every clone speaks to the same stores.
#[derive(Clone)]
pub struct Backends {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// Counts and comments.
    pub archive: Arc<dyn Archive>,
    /// The boards.
    pub ranking: Arc<dyn RankingStore>,
    /// Comments on their way.
    pub comments: Arc<dyn CommentBus>,
    /// Who serves what.
    pub assignments: Arc<dyn AssignmentStore>,
    /// The time, for what begins and ends by it.
    pub clock: Clock,
}
