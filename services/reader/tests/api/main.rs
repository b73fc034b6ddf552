//! Tests of the reader over real sockets, on embedded stores.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod crowd;
mod deletions;
mod faults;
mod moderated;
mod moves;
mod resume;
mod streams;
mod world;
