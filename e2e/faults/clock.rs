//! Clocks. libfaketime is loaded into our processes, and each process has a file with its clock's offset, by which it
//! jumps. All of them and the broker are ahead of this machine, so that an hour ends while the load is on.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::recount::HOUR_MS;

/// The offsets by which clocks jump, in seconds: steps of a time daemon, and up to 25 hours.
pub const JUMPS: [i64; 8] = [2, -2, 90, -90, 3_600, -3_600, 90_000, -90_000];

/// The time by which the clocks of the broker and of our processes are ahead of this machine's clock.
pub struct WorldClock {
    /// The file in which the broker finds it, as a number of 64 bits.
    file: PathBuf,
    ahead_seconds: AtomicI64,
}

impl WorldClock {
    /// Creates a clock that is not ahead.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        let clock = Self { file: directory.join("broker.clock"), ahead_seconds: AtomicI64::new(0) };
        std::fs::write(&clock.file, 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// Returns the variable by which the testbed starts a broker with this clock.
    pub fn variable(&self) -> (String, String) {
        ("LIVERANK_TESTBED_KAFKA_CLOCK".to_owned(), self.file.display().to_string())
    }

    /// Sets the broker's clock ahead, so that the hour ends after this time.
    pub fn end_hour_after(&self, time: Duration) -> anyhow::Result<()> {
        let left = HOUR_MS - liverank_runtime::now_ms().rem_euclid(HOUR_MS);
        let ahead = (left - time.as_millis() as i64).rem_euclid(HOUR_MS) / 1000;
        // The file is written in its place and at its length, because the broker has it in its memory.
        std::fs::File::options().write(true).open(&self.file)?.write_all_at(&ahead.to_ne_bytes(), 0)?;
        self.ahead_seconds.store(ahead, Relaxed);
        Ok(())
    }

    /// Returns the seconds by which the clocks are ahead.
    pub fn ahead_seconds(&self) -> i64 {
        self.ahead_seconds.load(Relaxed)
    }

    /// Returns the broker's time, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        liverank_runtime::now_ms() + 1000 * self.ahead_seconds()
    }
}

/// The system clock of one process.
pub struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    /// Creates a clock without an offset; `library` is the path of libfaketime.
    pub fn new(directory: &Path, name: &str, library: &str) -> anyhow::Result<Self> {
        let clock = Self { file: directory.join(format!("{name}.clock")), library: library.to_owned() };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the offset of the process's clock, in seconds.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // The file is replaced by a rename, because libfaketime would also read a half-written file.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(fresh, &self.file)?)
    }

    /// Returns the environment variables that the process needs. The monotonic clock is not changed, because a jump of
    /// a real system clock does not change it.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Removes the shared memory that libfaketime leaves when its process is killed: the next process with the same id
/// would fail on it.
pub fn remove_shared_memory(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // The files may be missing: a process that ends by itself removes them.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}
