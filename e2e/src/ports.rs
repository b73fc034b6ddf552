//! Ports that belong to this process as long as it lives.
//!
//! A server that a test kills must find its port free when it restarts, and no other server may answer there
//! meanwhile: a client would take the other server's answers for those of its own system, and what that server
//! acknowledges would be counted nowhere. So ports come from blocks. The process that listens on the first port of a
//! block owns the block's other ports, in whatever language it is written (`e2e/browser/server.mjs` does the same),
//! and the operating system releases the block when the process ends. All ports are below those that the operating
//! system uses for outgoing connections.

use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// The first port of the first block.
pub const FIRST_PORT: u16 = 20_000;
/// The number of ports of a block, with the port that holds the block: a system with two processes of each role needs
/// some thirty.
pub const PORTS_A_BLOCK: u16 = 50;
/// The number of blocks: they end at port 26,299, below the ports of the testbed's stores, which tests kill too. One
/// test program needs twenty blocks at most.
pub const BLOCK_COUNT: u16 = 126;

/// The blocks that this process holds.
struct HeldBlocks {
    /// The listeners on the first ports of the held blocks.
    held_listeners: Vec<TcpListener>,
    /// The next port to give out.
    next_port: u16,
    end: u16,
}

static BLOCKS: Mutex<HeldBlocks> =
    Mutex::new(HeldBlocks { held_listeners: Vec::new(), next_port: 0, end: 0 });

/// Returns a port of 127.0.0.1 on which nobody listens and that no other test gets while this process lives. Panics if
/// all blocks are held.
pub fn free_port() -> u16 {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner).next_free_port()
}

impl HeldBlocks {
    fn next_free_port(&mut self) -> u16 {
        loop {
            if self.next_port == self.end {
                self.hold_another_block();
            }
            let port = self.next_port;
            self.next_port += 1;
            // A program that does not use blocks may listen on the port, such as a store of the testbed.
            if listen(port).is_some() {
                return port;
            }
        }
    }

    /// Holds another block. The search begins at a block that depends on the process id, so that two processes that
    /// start together seldom try the same one.
    fn hold_another_block(&mut self) {
        let begin = (std::process::id() % u32::from(BLOCK_COUNT)) as u16;
        let mut blocks = (0..BLOCK_COUNT).map(|nth| FIRST_PORT + (begin + nth) % BLOCK_COUNT * PORTS_A_BLOCK);
        let (first, holder) = blocks
            .find_map(|first| Some((first, listen(first)?)))
            .expect("one of the blocks of ports is free");
        self.held_listeners.push(holder);
        (self.next_port, self.end) = (first + 1, first + PORTS_A_BLOCK);
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
        HeldBlocks { held_listeners: Vec::new(), next_port: 0, end: 0 }
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
        // Another test may take the block in between.
        let again = (0..10).any(|_| {
            let mut one = no_blocks();
            let port = one.next_free_port();
            drop(one);
            no_blocks().next_free_port() == port
        });
        assert!(again, "what was dropped is given again");
    }
}
