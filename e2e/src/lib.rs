//! Helpers for tests of the whole system: the binary's processes on ports of their own, and how to look at them.
//!
//! The binary is `LIVERANK_BIN`, by default the release build of this checkout.

pub mod cluster;
pub mod collector;
pub mod floods;
pub mod identity;
pub mod moderation;
pub mod process;
pub mod raw;
pub mod ruled;
pub mod up;
pub mod wait;

use std::path::PathBuf;

/// The binary under test.
pub fn binary() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/liverank");
    let path = std::env::var_os("LIVERANK_BIN").map_or_else(|| built.into(), PathBuf::from);
    assert!(path.is_file(), "{} is not there: run `make build`", path.display());
    path
}

/// A free port of 127.0.0.1, below those that the system hands to outgoing connections, so that none of them takes it
/// between this answer and its use.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + (std::process::id() % 400) as u16 * 20;
    loop {
        let port = 21_000 + (first - 21_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
