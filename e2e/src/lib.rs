//! Helpers for tests of the whole system: processes of the binary on ports of their own, requests, and waits.
//!
//! The tested binary is named by `LIVERANK_BIN`; the default is the release build of this checkout.

pub mod cluster;
pub mod collector;
pub mod floods;
pub mod identity;
pub mod moderation;
pub mod patient;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod ruled;
pub mod up;
pub mod wait;

use std::path::PathBuf;

pub use ports::free_port;

/// Returns the path of the binary under test; panics if the file does not exist.
pub fn binary() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/liverank");
    let path = std::env::var_os("LIVERANK_BIN").map_or_else(|| built.into(), PathBuf::from);
    assert!(path.is_file(), "{} is not there: run `make build`", path.display());
    path
}
