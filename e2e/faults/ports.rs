//! Ports of our own. What is killed must find its port free when it comes back, so nobody else may be given it
//! meanwhile: not by the system (they are below those of outgoing connections), and not by the other tests (they are
//! below theirs).

use std::sync::atomic::{AtomicU16, Ordering};

/// Where the ranges begin.
const FIRST_PORT: u16 = 10_000;
/// Ports of one run, and some: each is given once.
const PORTS_A_RANGE: u16 = 80;
/// Ranges: up to where the other tests' ports begin.
const RANGE_COUNT: u32 = 130;

/// The next port of this process's range that is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = FIRST_PORT + (std::process::id() % RANGE_COUNT) as u16 * PORTS_A_RANGE;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < first + PORTS_A_RANGE, "the ports {first} to {port} are used up");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
