//! Clocks that jump: libfaketime in our processes, each with a file of its own that says how far its clock is off.

use std::path::{Path, PathBuf};

/// How far clocks jump, in seconds: a step of a time daemon, and days.
pub const JUMPS: [i64; 8] = [2, -2, 90, -90, 3_600, -3_600, 90_000, -90_000];

/// The clock of one process.
pub struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    /// A clock that is right.
    pub fn new(directory: &Path, name: &str, library: &str) -> anyhow::Result<Self> {
        let clock = Self { file: directory.join(format!("{name}.clock")), library: library.to_owned() };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock off by so many seconds.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // By a rename, for a file half-written is read as well.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(fresh, &self.file)?)
    }

    /// What the process has to have in its environment. The monotonic clock is left alone, as a real jump leaves it.
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

/// The library leaves these behind when its process is killed, and the next process of that id would trip over them.
pub fn sweep(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // It may not be there: a process that ended by itself has removed it.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}
