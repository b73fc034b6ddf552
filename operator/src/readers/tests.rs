//! The rules one by one, on small scenes; and all of them together, in a simulation.

mod invariants;
mod proposals;
mod removal;
mod rules;
mod scene;
mod simulation;
mod stand_ins;
mod upgrades;
mod world;
