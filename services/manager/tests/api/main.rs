//! Managers over real sockets, on an embedded store, with readers that beat, answer probes and can be killed.

mod endpoints;
mod replacing;
mod support;
