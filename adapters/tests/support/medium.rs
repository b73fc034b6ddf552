//! A disk that can be full, slow, or lose its power, for databases under test.
//!
//! Writes are volatile until `sync_data`; a power cut leaves what was synced and, if asked to, a random part of what
//! was not, sector by sector, as a disk with a cache may.

use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::{Builder, Database, DatabaseError, StorageBackend};

/// The number of bytes that a disk writes in one piece.
const SECTOR_BYTES: usize = 512;

/// A disk between two power cuts. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Medium {
    disk: Arc<SharedDisk>,
    life: u64,
}

#[derive(Debug, Default)]
struct SharedDisk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct DiskState {
    /// The contents that survive a cut.
    durable: Vec<u8>,
    /// The contents that are read.
    volatile: Vec<u8>,
    /// The changes that make `durable` equal to `volatile`, in order.
    unsynced: Vec<PendingChange>,
    /// A number that grows with every cut; a user of an earlier life gets errors.
    life: u64,
    /// The number of changes and syncs until the power fails.
    power_left: Option<u64>,
    full: bool,
    stalling: bool,
    stalled: bool,
    lying: bool,
    openings: u64,
}

#[derive(Debug)]
enum PendingChange {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl PendingChange {
    fn apply_to(&self, image: &mut Vec<u8>) {
        match self {
            Self::Length(length) => image.resize(*length, 0),
            Self::Write(offset, data) => {
                if image.len() < offset + data.len() {
                    image.resize(offset + data.len(), 0);
                }
                image[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }

    /// Applies some sectors of the change, chosen at random.
    fn apply_some_sectors(&self, image: &mut Vec<u8>, dice: &mut StdRng) {
        match self {
            Self::Length(_) if dice.random() => self.apply_to(image),
            Self::Length(_) => {}
            Self::Write(offset, data) => {
                for (at, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    if dice.random() {
                        Self::Write(offset + at * SECTOR_BYTES, sector.to_vec()).apply_to(image);
                    }
                }
            }
        }
    }
}

impl DiskState {
    fn use_power(&mut self, life: u64, cost: u64) -> Result<()> {
        let left = self.power_left.get_or_insert(u64::MAX);
        if self.life != life || *left == 0 {
            return Err(Error::other("the power is off"));
        }
        *left -= cost;
        Ok(())
    }

    fn make_change(&mut self, change: PendingChange) -> Result<()> {
        if self.full {
            return Err(ErrorKind::StorageFull.into());
        }
        change.apply_to(&mut self.volatile);
        self.unsynced.push(change);
        Ok(())
    }
}

impl Medium {
    /// Returns a disk that reports syncs and does not do them.
    pub fn lying() -> Self {
        let medium = Self::default();
        medium.state().lying = true;
        medium
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.disk.state.lock().unwrap()
    }

    fn set_state(&self, set: impl FnOnce(&mut DiskState)) {
        set(&mut self.state());
        self.disk.changed.notify_all();
    }

    /// Opens, or creates, the database on the disk.
    pub fn database(&self) -> std::result::Result<Database, DatabaseError> {
        self.state().openings += 1;
        Builder::new().create_with_backend(self.clone())
    }

    /// Returns how often a database was opened on the disk.
    pub fn openings(&self) -> u64 {
        self.state().openings
    }

    /// Makes every write fail because the disk is full.
    pub fn fill(&self) {
        self.set_state(|state| state.full = true);
    }

    /// Ends the state in which the disk is full.
    pub fn empty(&self) {
        self.set_state(|state| state.full = false);
    }

    /// Makes every sync wait until the returned value is dropped; also if the test fails meanwhile.
    pub fn stall(&self) -> Stall {
        self.set_state(|state| state.stalling = true);
        Stall(self.clone())
    }

    /// Returns true if a sync waits.
    pub fn stalled(&self) -> bool {
        self.state().stalled
    }

    /// Makes the power fail after this many more writes and syncs.
    pub fn power_for(&self, operations: u64) {
        self.set_state(|state| state.power_left = Some(operations));
    }

    /// Cuts the power, and returns the disk as it is when the power is back: what was synced, and with `survivors` (a
    /// seed) a random part of what was not.
    pub fn cut_power(&self, survivors: Option<u64>) -> Self {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(seed) = survivors {
            let mut dice = StdRng::seed_from_u64(seed);
            for change in &state.unsynced {
                change.apply_some_sectors(&mut state.durable, &mut dice);
            }
        }
        state.unsynced.clear();
        state.volatile.clone_from(&state.durable);
        state.life += 1;
        state.power_left = None;
        Self { disk: Arc::clone(&self.disk), life: state.life }
    }
}

/// A guard that lets syncs go on when it is dropped.
pub struct Stall(Medium);

impl Drop for Stall {
    fn drop(&mut self) {
        self.0.set_state(|state| state.stalling = false);
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> Result<u64> {
        let mut state = self.state();
        state.use_power(self.life, 0)?;
        Ok(state.volatile.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        state.use_power(self.life, 0)?;
        let offset = offset as usize;
        let held = state.volatile.get(offset..offset + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(held);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.state();
        state.use_power(self.life, 1)?;
        state.make_change(PendingChange::Length(len as usize))
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.state();
        while state.stalling {
            state.stalled = true;
            state = self.disk.changed.wait(state).unwrap();
        }
        state.stalled = false;
        state.use_power(self.life, 1)?;
        if state.full {
            return Err(ErrorKind::StorageFull.into());
        }
        if !state.lying {
            let state = &mut *state;
            for change in state.unsynced.drain(..) {
                change.apply_to(&mut state.durable);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.use_power(self.life, 1)?;
        state.make_change(PendingChange::Write(offset as usize, data.to_vec()))
    }
}
