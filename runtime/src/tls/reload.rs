//! Checks the certificate files for changes each second, and reloads them.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::material::NamedFile;
use crate::Metrics;

/// The time between two checks of the certificate files. Certificates are renewed days before their end, but somebody
/// who tries a renewal does not like to wait.
const CHECK_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

crate::label_values! {
    /// The side to which a certificate is shown.
    pub enum CertificateAudience {
        /// Clients that connect to a port of this process.
        Clients = "clients",
        /// Other liverank processes to which this one connects.
        Peers = "peers",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShownToLabel {
    shown_to: CertificateAudience,
}

/// Makes a value from the contents of files, in their order. Also returns the end of the certificate's validity in
/// seconds since the Unix epoch, if a certificate is among them.
pub(super) type Loader<T> =
    Box<dyn Fn(&[Vec<u8>], Timestamp) -> anyhow::Result<(T, Option<i64>)> + Send + Sync>;
/// Checks one set of files: reads them and reloads them if they have changed.
type ReloadCheck = Box<dyn FnMut(Timestamp) -> ReloadOutcome + Send>;

/// A set of files that are checked for changes.
pub struct WatchedFiles {
    shown_to: CertificateAudience,
    check: ReloadCheck,
    ends_at: Option<i64>,
}

/// The result of checking a set of files once.
enum ReloadOutcome {
    Unchanged,
    Renewed(Option<i64>),
    /// The changed files cannot be used, and were the same at the check before. Files that are just being written are
    /// not reported at their first check.
    Broken(anyhow::Error),
}

/// A digest of the contents of files (keys themselves are not kept), or the error with which they could not be read.
type ContentsDigest = Result<[u8; 32], String>;

/// Reads `files` and makes a value of them by `load`. Returns the value, shared, and the `WatchedFiles` that replace
/// it whenever the files change.
///
/// # Errors
/// A file cannot be used; the error names it.
pub(super) fn load_and_watch<T: Send + Sync + 'static>(
    shown_to: CertificateAudience,
    files: Vec<NamedFile>,
    load: Loader<T>,
) -> anyhow::Result<(Arc<RwLock<T>>, WatchedFiles)> {
    let contents = read_files(&files)?;
    let (first, ends_at) = load(&contents, Timestamp::now())?;
    let current = Arc::new(RwLock::new(first));
    let shared = Arc::clone(&current);
    let mut history = ContentsHistory::new(Ok(digest_of(&contents)));
    let look = move |now| {
        let contents = read_files(&files);
        let seen =
            contents.as_ref().map(|contents| digest_of(contents)).map_err(|error| format!("{error:#}"));
        if !history.should_load(&seen) {
            return ReloadOutcome::Unchanged;
        }
        match contents.and_then(|contents| load(&contents, now)) {
            Ok((new, ends_at)) => {
                *shared.write().unwrap_or_else(PoisonError::into_inner) = new;
                history.note_in_force(seen);
                ReloadOutcome::Renewed(ends_at)
            }
            Err(error) if history.note_broken(seen) => ReloadOutcome::Broken(error),
            Err(_) => ReloadOutcome::Unchanged,
        }
    };
    Ok((current, WatchedFiles { shown_to, check: Box::new(look), ends_at }))
}

fn read_files(files: &[NamedFile]) -> anyhow::Result<Vec<Vec<u8>>> {
    files.iter().map(NamedFile::read).collect()
}

fn digest_of(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for content in contents {
        digest.update((content.len() as u64).to_be_bytes());
        digest.update(content);
    }
    digest.finalize().into()
}

/// The digest of the files in force, and the digest of the last broken ones with the number of checks that found them.
struct ContentsHistory {
    in_force: ContentsDigest,
    last_broken: Option<(ContentsDigest, u32)>,
}

impl ContentsHistory {
    const fn new(in_force: ContentsDigest) -> Self {
        Self { in_force, last_broken: None }
    }

    /// Returns true if the files should be loaded: they differ from those in force, and have not already been reported
    /// as broken.
    fn should_load(&mut self, seen: &ContentsDigest) -> bool {
        if *seen == self.in_force {
            self.last_broken = None;
            return false;
        }
        !matches!(&self.last_broken, Some((broken, 2..)) if broken == seen)
    }

    fn note_in_force(&mut self, seen: ContentsDigest) {
        *self = Self::new(seen);
    }

    /// Notes that these files are broken. Returns true if this is the second check in a row that finds the same broken
    /// files, so that their error is reported once.
    fn note_broken(&mut self, seen: ContentsDigest) -> bool {
        let times = match &self.last_broken {
            Some((broken, times)) if *broken == seen => times + 1,
            _ => 1,
        };
        self.last_broken = Some((seen, times));
        times == 2
    }
}

/// Reloads the certificate files of a process whenever they change.
#[derive(Default)]
pub struct FileReloading {
    watched_files: Vec<WatchedFiles>,
    failed_handshakes: Counter,
}

impl std::fmt::Debug for FileReloading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloading")
    }
}

impl FileReloading {
    pub(super) fn watch(&mut self, watched: Option<WatchedFiles>) {
        self.watched_files.extend(watched);
    }

    pub(super) fn set_failed_handshakes_counter(&mut self, failures: Counter) {
        self.failed_handshakes = failures;
    }

    /// Checks the files each second, for ever.
    pub async fn reload_forever(mut self, metrics: &Metrics) -> Infallible {
        if self.watched_files.is_empty() {
            return std::future::pending().await;
        }
        let (ends, failed) = (Family::<ShownToLabel, Gauge>::default(), Counter::<u64>::default());
        metrics.register("tls", |registry| {
            let help = "When the certificate in force ends, in seconds since the Unix epoch";
            registry.register("certificate_expiry_timestamp_seconds", help, ends.clone());
            let help = "Changes of certificate files that could not be used: what was in force stays";
            registry.register("reload_failures", help, failed.clone());
            registry.register(
                "handshake_failures",
                "TLS handshakes of clients that failed",
                self.failed_handshakes.clone(),
            );
        });
        for watched in &self.watched_files {
            set_end_metric(&ends, watched.shown_to, watched.ends_at);
        }
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let watched = std::mem::take(&mut self.watched_files);
            // Reading may block, because a file may be on a network.
            let looked = spawn_blocking(move || check_all_files(watched)).await;
            let Ok((watched, seen)) = looked else { return std::future::pending().await };
            self.watched_files = watched;
            for (shown_to, seen) in seen {
                match seen {
                    ReloadOutcome::Unchanged => {}
                    ReloadOutcome::Renewed(ends_at) => {
                        set_end_metric(&ends, shown_to, ends_at);
                        tracing::info!(?shown_to, ends_at, "certificates were renewed");
                    }
                    ReloadOutcome::Broken(error) => {
                        failed.inc();
                        let error = format!("{error:#}");
                        tracing::warn!(
                            error,
                            "changed certificate files cannot be used: what was in force stays"
                        );
                    }
                }
            }
        }
    }
}

fn check_all_files(
    mut watched: Vec<WatchedFiles>,
) -> (Vec<WatchedFiles>, Vec<(CertificateAudience, ReloadOutcome)>) {
    let now = Timestamp::now();
    let seen = watched.iter_mut().map(|watched| (watched.shown_to, (watched.check)(now))).collect();
    (watched, seen)
}

fn set_end_metric(ends: &Family<ShownToLabel, Gauge>, shown_to: CertificateAudience, ends_at: Option<i64>) {
    if let Some(ends_at) = ends_at {
        ends.get_or_create(&ShownToLabel { shown_to }).set(ends_at);
    }
}
