//! Ports of our own, for as long as this process lives.
//!
//! A server that a test kills must find its port free when it comes back, and nobody else may answer there meanwhile: a
//! client would take the stranger's answers for those of its own system, and what it acknowledges would be counted
//! nowhere. So ports come from blocks. Whoever listens on the first port of a block has the others, in whatever language
//! it is written (`e2e/browser/server.mjs` does the same), and the system gives the block back when the process ends.
//! All are below the ports that the system hands to outgoing connections.

use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Where the blocks begin.
pub const FIRST_PORT: u16 = 20_000;
/// Ports of a block, with the one that holds it: a system of two of everything takes some thirty.
pub const PORTS_A_BLOCK: u16 = 50;
/// Blocks: up to port 26,299, below the stores of the test bed, which are killed, too. One test program takes twenty at most.
pub const BLOCK_COUNT: u16 = 126;

/// The blocks of this process.
struct HeldBlocks {
    /// What holds them.
    held: Vec<TcpListener>,
    /// The next port, and where its block ends.
    next: u16,
    end: u16,
}

static BLOCKS: Mutex<HeldBlocks> = Mutex::new(HeldBlocks { held: Vec::new(), next: 0, end: 0 });

/// A port of 127.0.0.1 that nobody listens on and that no other test is given while this process lives. Panics where all
/// blocks are held.
pub fn free_port() -> u16 {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner).next_free_port()
}

impl HeldBlocks {
    fn next_free_port(&mut self) -> u16 {
        loop {
            if self.next == self.end {
                self.hold_another_block();
            }
            let port = self.next;
            self.next += 1;
            // Something that knows nothing of blocks may listen there: a store of the test bed.
            if listen(port).is_some() {
                return port;
            }
        }
    }

    /// Begins at a block that depends on the process, so that two that start together seldom meet.
    fn hold_another_block(&mut self) {
        let begin = (std::process::id() % u32::from(BLOCK_COUNT)) as u16;
        let mut blocks = (0..BLOCK_COUNT).map(|nth| FIRST_PORT + (begin + nth) % BLOCK_COUNT * PORTS_A_BLOCK);
        let (first, holder) = blocks
            .find_map(|first| Some((first, listen(first)?)))
            .expect("one of the blocks of ports is free");
        self.held.push(holder);
        (self.next, self.end) = (first + 1, first + PORTS_A_BLOCK);
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn no_blocks() -> HeldBlocks {
        HeldBlocks { held: Vec::new(), next: 0, end: 0 }
    }

    #[test]
    fn two_holders_are_never_given_the_same_port() {
        let (mut one, mut other) = (no_blocks(), no_blocks());
        let count = 3 * usize::from(PORTS_A_BLOCK);
        let mut given = BTreeSet::new();
        for _ in 0..count {
            given.insert(one.next_free_port());
            given.insert(other.next_free_port());
        }
        assert_eq!(given.len(), 2 * count);
    }

    #[test]
    fn a_dropped_holder_gives_its_block_back() {
        let mut one = no_blocks();
        let port = one.next_free_port();
        let mut held: Vec<HeldBlocks> = Vec::new();
        drop(one);
        // As many as there are blocks at most, and none fails: the block is free again.
        let again = (0..BLOCK_COUNT).any(|_| {
            let mut next = no_blocks();
            let given = next.next_free_port();
            held.push(next);
            given == port
        });
        assert!(again, "{port} is given again");
    }
}
