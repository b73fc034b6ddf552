//! One redb file: opened, checked, and kept usable through failures of the disk.
//!
//! After an I/O error redb refuses everything until the database is opened again. That is done here, by whoever comes
//! next and at most once in [`RETRY_PACE`]; meanwhile every caller gets the error of the failure at once.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use redb::{Builder, Database, Durability, ReadableTable, TableDefinition, WriteTransaction};

use crate::StoreError;

mod failure;

pub(crate) use failure::Failure;
use failure::explain;

/// How often a broken file is tried again: soon enough for a person who just freed some space, and rare enough to
/// cost a full disk nothing.
pub(crate) const RETRY_PACE: Duration = Duration::from_secs(1);
/// What redb may keep in memory of a file: the newest part of a log and the videos in use fit; its default is 1 GiB.
const CACHE_BYTES: usize = 64 << 20;
/// What must fit on the disk before a broken file counts as mended: the largest single append. Without it a full disk
/// would mend and break once a second.
const PROBE_SIZE_BYTES: usize = 1 << 20;

const FORMAT_TABLE: TableDefinition<&str, u64> = TableDefinition::new("format");
const PROBE_TABLE: TableDefinition<(), &[u8]> = TableDefinition::new("probe");

/// Opens the medium. The argument says whether it may be created; it must not be where it was there before.
pub(crate) type Opener = Box<dyn Fn(bool) -> Result<Database, Failure> + Send + Sync>;

/// The name and the format of a file.
pub(crate) struct Purpose {
    /// Its name in errors (`event log`).
    pub store_name: &'static str,
    /// The version of its format that this program reads and writes.
    pub version: u64,
    /// Creates its tables where they are absent.
    pub create_tables: fn(&WriteTransaction) -> Result<(), Failure>,
}

pub(crate) struct RedbFile {
    purpose: Purpose,
    /// What errors call the file: its path, or the name that it was opened with.
    name: String,
    medium_opener: Opener,
    state: RwLock<FileState>,
    /// Held by the one who opens again, so that nobody waits for a long repair.
    reopening: Mutex<()>,
    /// The error after which the file cannot be used, if there was one.
    broken: Mutex<Option<StoreError>>,
}

struct FileState {
    database: Option<Database>,
    /// How often it has been opened: tells a caller that what it remembers of the contents may be wrong.
    generation: u64,
    /// When to try again, while there is no database.
    retry_at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static CATCHES_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread, now, costs one call of an embedded store and nothing else. For panic hooks, which run
/// before a panic is caught.
pub fn catches_panics_here() -> bool {
    CATCHES_PANICS.get()
}

/// Puts back what [`CATCHES_PANICS`] was, also where a panic passes by.
struct CatchingGuard(bool);

impl Drop for CatchingGuard {
    fn drop(&mut self) {
        CATCHES_PANICS.set(self.0);
    }
}

/// redb may panic on a file that somebody else wrote into; that must cost one call, not the thread.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let _catching = CatchingGuard(CATCHES_PANICS.replace(true));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure::Panicked(text.unwrap_or_default()))
    })
}

/// A write transaction whose commit answers only once the data is on the disk.
pub(crate) fn begin_durable(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

impl RedbFile {
    /// Opens `name` in `dir`; creates both where they are absent.
    pub fn open(purpose: Purpose, dir: &Path, name: &str) -> Result<Self, StoreError> {
        let path = dir.join(name);
        let shown = path.display().to_string();
        let dir = dir.to_owned();
        let open = move |may_create: bool| {
            let present = path.exists();
            if !present && !may_create {
                return Err(Failure::Io(io::ErrorKind::NotFound.into()));
            }
            if !present {
                fs::create_dir_all(&dir)?;
            }
            let database = Builder::new().set_cache_size(CACHE_BYTES).create(&path)?;
            if !present {
                // A new file is lost with its directory's entry, however well its contents were written.
                File::open(&dir)?.sync_all()?;
                if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    File::open(parent)?.sync_all()?;
                }
            }
            Ok(database)
        };
        Self::open_with(purpose, shown, Box::new(open))
    }

    /// Opens whatever `open` gives; `name` stands for it in errors.
    pub fn open_with(purpose: Purpose, name: String, open: Opener) -> Result<Self, StoreError> {
        let file = Self {
            purpose,
            name,
            medium_opener: open,
            state: RwLock::new(FileState { database: None, generation: 0, retry_at: Instant::now() }),
            reopening: Mutex::new(()),
            broken: Mutex::new(None),
        };
        let database =
            catch_panics(|| file.open_database(true)).map_err(|failure| file.explain_failure(&failure))?;
        file.install_database(database);
        Ok(file)
    }

    fn open_database(&self, first: bool) -> Result<Database, Failure> {
        let database = (self.medium_opener)(first)?;
        let transaction = begin_durable(&database)?;
        {
            let mut format = transaction.open_table(FORMAT_TABLE)?;
            let found = format.get("version")?.map(|version| version.value());
            match found {
                Some(version) if version != self.purpose.version => {
                    return Err(Failure::Format { found: version, known: self.purpose.version });
                }
                _ => format.insert("version", self.purpose.version)?,
            };
        }
        (self.purpose.create_tables)(&transaction)?;
        if !first {
            transaction.open_table(PROBE_TABLE)?.insert((), vec![0xA5; PROBE_SIZE_BYTES].as_slice())?;
        }
        transaction.commit()?;
        if !first {
            let transaction = begin_durable(&database)?;
            transaction.open_table(PROBE_TABLE)?.remove(())?;
            transaction.commit()?;
        }
        Ok(database)
    }

    fn install_database(&self, database: Database) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.database = Some(database);
        state.generation += 1;
        *lock(&self.broken) = None;
    }

    fn explain_failure(&self, failure: &Failure) -> StoreError {
        explain(self.purpose.store_name, &self.name, failure)
    }

    /// Why it cannot be used, if so. Asks nobody.
    pub fn file_health(&self) -> Result<(), StoreError> {
        lock(&self.broken).clone().map_or(Ok(()), Err)
    }

    fn broken_error(&self) -> StoreError {
        let mended = || {
            StoreError::unavailable(self.purpose.store_name, format!("{}: is being opened again", self.name))
        };
        lock(&self.broken).clone().unwrap_or_else(mended)
    }

    /// Does `work` on the database; the second argument changes whenever it had to be opened again. Blocks: reads and
    /// writes files.
    pub fn with_database<T>(
        &self,
        work: impl FnOnce(&Database, u64) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.reopen_if_due()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &state.database else { return Err(self.broken_error()) };
        let generation = state.generation;
        let result = catch_panics(|| work(database, generation));
        drop(state);
        result.map_err(|failure| {
            let error = self.explain_failure(&failure);
            if failure.breaks_the_file() {
                self.note_failure(generation, &error);
            }
            error
        })
    }

    fn note_failure(&self, generation: u64, error: &StoreError) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation || state.database.is_none() {
            return;
        }
        tracing::error!(part = self.purpose.store_name, file = self.name, %error, "the file cannot be used");
        *lock(&self.broken) = Some(error.clone());
        state.retry_at = Instant::now() + RETRY_PACE;
        let database = state.database.take();
        // Closing writes, too, and may fail as everything did before.
        let _closed = catch_panics(|| {
            drop(database);
            Ok(())
        });
    }

    fn reopen_if_due(&self) -> Result<(), StoreError> {
        let due = || {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.database.is_none(), Instant::now() >= state.retry_at)
        };
        match due() {
            (false, _) => return Ok(()),
            (true, false) => return Err(self.broken_error()),
            (true, true) => {}
        }
        let _only_one = match self.reopening.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(self.broken_error()),
        };
        if due() != (true, true) {
            return self.file_health();
        }
        match catch_panics(|| self.open_database(false)) {
            Ok(database) => {
                self.install_database(database);
                tracing::info!(
                    part = self.purpose.store_name,
                    file = self.name,
                    "the file can be used again"
                );
                Ok(())
            }
            Err(failure) => {
                let error = self.explain_failure(&failure);
                *lock(&self.broken) = Some(error.clone());
                self.state.write().unwrap_or_else(PoisonError::into_inner).retry_at =
                    Instant::now() + RETRY_PACE;
                Err(error)
            }
        }
    }
}
