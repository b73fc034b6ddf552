//! Tests of each rule of the reader decisions on small scenes, and of all rules together in a simulation.

mod invariants;
mod proposals;
mod removal;
mod rules;
mod scene;
mod simulation;
mod stand_ins;
mod upgrades;
mod world;
