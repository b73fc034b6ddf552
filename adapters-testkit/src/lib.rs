//! What every implementation of a port must do: one suite of checks for each, which panic with what was promised and what was
//! seen instead. The promises stand at the traits, in `liverank_adapters`.
//!
//! The real stores and the embedded ones run the same suite: `adapters/tests` against the real ones and those on files, and
//! this crate's own tests against those in memory. No crate that runs in production depends on this one.

pub mod archive;
pub mod assignment_store;
pub mod comment_bus;
#[cfg(test)]
mod embedded;
pub mod event_log;
pub mod ranking_store;
