//! The reader over real sockets, on embedded stores.

mod crowd;
mod faults;
mod moves;
mod resume;
mod streams;
mod world;
