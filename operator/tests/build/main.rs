//! The builder, from YAML to objects: reviewed snapshots, what holds for every cluster, and the table of what restarts.

mod fixtures;
mod properties;
mod rollouts;
mod snapshots;
