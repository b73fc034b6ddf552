//! Tests of managers over real sockets, on an embedded store, with readers that send heartbeats, answer probes and can
//! be killed.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without ends it, in its helpers too")]

mod access;
mod autopilot;
mod endpoints;
mod following;
mod moving;
mod orders;
mod overview;
mod replacing;
mod support;
