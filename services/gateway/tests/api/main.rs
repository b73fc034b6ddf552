//! The gateway over real sockets, with embedded stores and small fake services behind it.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure there is a failed test")]

mod auth;
mod bad_input;
mod comment_rules;
mod document;
mod edge;
mod front_door;
mod interactions;
mod moderation;
mod new_videos;
mod operate;
mod page;
mod proxy;
mod reports;
mod sessions;
mod shares;
mod support;
mod videos;
