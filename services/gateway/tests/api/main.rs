//! The gateway over real sockets, with embedded stores and small fake services behind it.

mod bad_input;
mod document;
mod front_door;
mod interactions;
mod page;
mod proxy;
mod support;
mod videos;
