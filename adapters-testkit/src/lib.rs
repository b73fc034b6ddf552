//! The checks that every implementation of a port must pass: one suite for each port, whose checks panic with the
//! promise and with what the implementation did instead. The promises are in the docs of the traits, in
//! `liverank_adapters`.
//!
//! The real stores and the embedded ones run the same suite: `adapters/tests` runs it on the real ones and those in
//! files, and this crate's own tests run it on those in memory. No crate that runs in production depends on this one.

pub mod archive;
pub mod assignment_store;
pub mod comment_bus;
#[cfg(test)]
mod embedded;
pub mod event_log;
pub mod ranking_store;
#[cfg(test)]
mod suites_are_run;
