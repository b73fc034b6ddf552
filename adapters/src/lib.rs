//! The adapters to external stores: one folder a port, each with the trait and its promises, the real
//! implementation and the embedded one. Both implementations pass the same conformance suite, which is in
//! `adapters-testkit`.
//!
//! | port | real | embedded | what it holds |
//! |---|---|---|---|
//! | [`event_log`] | Kafka | redb file | the log: the one source of truth |
//! | [`export_topics`] | Kafka | – | what happened, for other systems; optional |
//! | [`archive`] | MongoDB | redb file | counts, comments and the offsets up to which they are counted, atomically |
//! | [`ranking_store`] | Redis | memory | the boards: a projection of the archive |
//! | [`comment_bus`] | Redis | memory | comments on their way to readers, and the last ones of each video |
//! | [`assignment_store`] | Redis | memory and a redb file | which reader serves which video, and the readers' heartbeats |
//!
//! Each embedded implementation is a separate store with its own transactions, so it can crash between two
//! stores at the same points as the real stores. An embedded store that is in memory only is empty after a
//! restart, as a Redis may be, and is repaired in the same way.

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
pub mod secret_source;
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
pub use secret_source::SecretSource;

/// The stores and the clock that a service may be given. Cheap to clone: all clones share the same stores.
#[derive(Clone)]
pub struct Backends {
    /// The log of interactions.
    pub log: Arc<dyn EventLog>,
    /// The archive: counts and comments.
    pub archive: Arc<dyn Archive>,
    /// The boards (rankings).
    pub ranking: Arc<dyn RankingStore>,
    /// The comment bus, which brings published comments to the readers.
    pub comments: Arc<dyn CommentBus>,
    /// The store of assignments: which reader serves which video.
    pub assignments: Arc<dyn AssignmentStore>,
    /// The clock by which windows, terms and other periods begin and end.
    pub clock: Clock,
}
