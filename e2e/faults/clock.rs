//! Jumps of the system clock: libfaketime is loaded into our processes, and each process has a file with its clock's
//! offset.

use std::path::{Path, PathBuf};

/// The offsets by which clocks jump, in seconds: steps of a time daemon, and up to 25 hours.
pub const JUMPS: [i64; 8] = [2, -2, 90, -90, 3_600, -3_600, 90_000, -90_000];

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
pub fn sweep(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // The files may be missing: a process that ends by itself removes them.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}
