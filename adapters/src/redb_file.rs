//! One redb file: opened, checked, and kept usable through failures of the disk.
//!
//! After an I/O error redb refuses everything until the database is opened again. The next caller opens the database
//! again, at most once in [`RETRY_INTERVAL`]; meanwhile every caller gets the error of the failure at once.

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

pub(crate) use failure::FileFailure;
use failure::explain_failure;

/// The shortest time between two attempts to open a broken file again: short enough for a person who just freed some
/// space, and long enough to add no load to a full disk.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The size in bytes of redb's cache for a file: the newest part of a log and the videos in use fit; redb's default is
/// 1 GiB.
const CACHE_BYTES: usize = 64 << 20;
/// The number of bytes that must fit on the disk before a broken file counts as usable again: the largest single
/// append. Without this check a file on a full disk would become usable and break again once a second.
const PROBE_SIZE_BYTES: usize = 1 << 20;

const FORMAT_TABLE: TableDefinition<&str, u64> = TableDefinition::new("format");
const PROBE_TABLE: TableDefinition<(), &[u8]> = TableDefinition::new("probe");

/// Opens the medium. The argument is true if the medium may be created: false if it has existed before.
pub(crate) type DatabaseOpener = Box<dyn Fn(bool) -> Result<Database, FileFailure> + Send + Sync>;

/// The name and the format of a file.
pub(crate) struct FileKind {
    /// The name of the store in errors (`event log`).
    pub store_name: &'static str,
    /// The version of the file's format that this program reads and writes.
    pub version: u64,
    /// Creates the file's tables if they are absent.
    pub create_tables: fn(&WriteTransaction) -> Result<(), FileFailure>,
}

pub(crate) struct RedbFile {
    kind: FileKind,
    /// The file's name in errors: its path, or the name that it was opened with.
    name: String,
    medium_opener: DatabaseOpener,
    state: RwLock<FileState>,
    /// Held by the thread that opens the file again, so that no other thread waits for a long repair.
    reopen_lock: Mutex<()>,
    /// The error after which the file cannot be used, if there was one.
    breaking_error: Mutex<Option<StoreError>>,
}

struct FileState {
    database: Option<Database>,
    /// The number of times that the file was opened: a change tells a caller that what it remembers of the contents
    /// may be wrong.
    generation: u64,
    /// The time of the next attempt to open the file, while there is no database.
    retry_at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static CATCHES_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Returns true if a panic on this thread, now, would only fail one call of an embedded store. For panic hooks, which
/// run before a panic is caught.
pub fn catches_panics_here() -> bool {
    CATCHES_PANICS.get()
}

/// Restores the value of [`CATCHES_PANICS`] on drop, also after a panic.
struct CatchingGuard(bool);

impl Drop for CatchingGuard {
    fn drop(&mut self) {
        CATCHES_PANICS.set(self.0);
    }
}

/// Runs `work` and turns a panic into [`FileFailure::Panicked`]: redb may panic on a file that another program wrote
/// into, and that must fail one call, not the thread.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, FileFailure>) -> Result<T, FileFailure> {
    let _catching = CatchingGuard(CATCHES_PANICS.replace(true));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(FileFailure::Panicked(text.unwrap_or_default()))
    })
}

/// Begins a write transaction whose commit returns only once the data are on the disk.
pub(crate) fn begin_durable(database: &Database) -> Result<WriteTransaction, FileFailure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

impl RedbFile {
    /// Opens the file `name` in `dir`; creates both if they are absent.
    pub fn open(purpose: FileKind, dir: &Path, name: &str) -> Result<Self, StoreError> {
        let path = dir.join(name);
        let shown = path.display().to_string();
        let dir = dir.to_owned();
        let open = move |may_create: bool| {
            let present = path.exists();
            if !present && !may_create {
                return Err(FileFailure::Io(io::ErrorKind::NotFound.into()));
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

    /// Opens the database that `open` returns; errors call it `name`.
    pub fn open_with(kind: FileKind, name: String, open: DatabaseOpener) -> Result<Self, StoreError> {
        let file = Self {
            kind,
            name,
            medium_opener: open,
            state: RwLock::new(FileState { database: None, generation: 0, retry_at: Instant::now() }),
            reopen_lock: Mutex::new(()),
            breaking_error: Mutex::new(None),
        };
        let database =
            catch_panics(|| file.open_database(true)).map_err(|failure| file.explain_failure(&failure))?;
        file.install_database(database);
        Ok(file)
    }

    fn open_database(&self, first: bool) -> Result<Database, FileFailure> {
        let database = (self.medium_opener)(first)?;
        let transaction = begin_durable(&database)?;
        {
            let mut format = transaction.open_table(FORMAT_TABLE)?;
            let found = format.get("version")?.map(|version| version.value());
            match found {
                Some(version) if version != self.kind.version => {
                    return Err(FileFailure::Format { found: version, known: self.kind.version });
                }
                _ => format.insert("version", self.kind.version)?,
            };
        }
        (self.kind.create_tables)(&transaction)?;
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
        *lock(&self.breaking_error) = None;
    }

    fn explain_failure(&self, failure: &FileFailure) -> StoreError {
        explain_failure(self.kind.store_name, &self.name, failure)
    }

    /// Returns the error because of which the file cannot be used, if there is one. Does not access the file.
    pub fn file_health(&self) -> Result<(), StoreError> {
        lock(&self.breaking_error).clone().map_or(Ok(()), Err)
    }

    fn broken_error(&self) -> StoreError {
        let mended =
            || StoreError::unavailable(self.kind.store_name, format!("{}: is being opened again", self.name));
        lock(&self.breaking_error).clone().unwrap_or_else(mended)
    }

    /// Runs `work` on the database, after an attempt to open it again if that is due. The second argument of `work` is
    /// a number that changes whenever the database was opened again. The call blocks the thread, because it reads and
    /// writes files.
    pub fn with_database<T>(
        &self,
        work: impl FnOnce(&Database, u64) -> Result<T, FileFailure>,
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
        tracing::error!(part = self.kind.store_name, file = self.name, %error, "the file cannot be used");
        *lock(&self.breaking_error) = Some(error.clone());
        state.retry_at = Instant::now() + RETRY_INTERVAL;
        let database = state.database.take();
        // Closing the database writes, too, and may fail as everything did before.
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
        let _only_one = match self.reopen_lock.try_lock() {
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
                tracing::info!(part = self.kind.store_name, file = self.name, "the file can be used again");
                Ok(())
            }
            Err(failure) => {
                let error = self.explain_failure(&failure);
                *lock(&self.breaking_error) = Some(error.clone());
                self.state.write().unwrap_or_else(PoisonError::into_inner).retry_at =
                    Instant::now() + RETRY_INTERVAL;
                Err(error)
            }
        }
    }
}
