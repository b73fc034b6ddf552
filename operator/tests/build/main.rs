//! Tests the builder, from YAML to objects: reviewed snapshots, properties of every cluster, and the table of restarts.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure there is a failed test")]

mod fields;
mod fixtures;
mod frozen;
mod network;
mod pods;
mod properties;
mod rollouts;
mod settings;
mod snapshots;
mod tls;
mod workloads;
