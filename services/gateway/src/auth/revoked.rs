//! The revoked tokens in a file: tokens that are not accepted any more although they have not expired, by token
//! (`jti`) or by user (`sub`).
//!
//! ```json
//! {"revoked": [{"jti": "7f3a"}, {"sub": "ana"}, {"sub": "ben", "issued_before": 1760000000}]}
//! ```
//!
//! A `sub` alone shuts the user out until the entry is removed. With `issued_before` (Unix seconds) it revokes tokens
//! that were issued before that time, and tokens without `iat`. The file is checked each second. Streams of tokens
//! that the file revokes end within a second.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use liverank_core::ids;
use liverank_runtime::Health;
use serde::Deserialize;
use tokio::sync::watch;

use super::Viewer;
use super::revocations::ArchiveRevocations;
use crate::Gateway;

/// Interval of checking whether the file was replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of the file in bytes: it fits the maximum number of entries with the longest names.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Maximum number of entries in the file. Tokens live for hours, so older entries can be removed. Each entry takes
/// about 100 bytes of memory, names included.
const MAX_ENTRIES: usize = 100_000;
/// The name of the file among the process's dependencies in its health.
const PART_NAME: &str = "revoked-tokens";

/// The tokens and users that the file revokes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RevokedList {
    tokens: HashSet<String>,
    /// For each revoked user, the time before which issued tokens are revoked, in Unix seconds.
    users_revoked_before: HashMap<String, u64>,
}

#[derive(Deserialize)]
struct RevokedTokensFile {
    revoked: Vec<RevokedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedEntry {
    jti: Option<String>,
    sub: Option<String>,
    issued_before: Option<u64>,
}

impl RevokedList {
    fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let RevokedTokensFile { revoked } =
            serde_json::from_slice(json).context("is no list of revoked tokens")?;
        ensure!(revoked.len() <= MAX_ENTRIES, "has more than {MAX_ENTRIES} entries");
        let mut list = Self::default();
        for (at, entry) in revoked.into_iter().enumerate() {
            list.add_entry(entry).with_context(|| format!("revoked[{at}]"))?;
        }
        Ok(list)
    }

    fn add_entry(&mut self, entry: RevokedEntry) -> anyhow::Result<()> {
        match entry {
            RevokedEntry { jti: Some(jti), sub: None, issued_before: None } => {
                ids::check_id("jti", &jti)?;
                self.tokens.insert(jti);
            }
            RevokedEntry { jti: None, sub: Some(sub), issued_before } => {
                ids::check_id("sub", &sub)?;
                let since = self.users_revoked_before.entry(sub).or_default();
                *since = issued_before.unwrap_or(u64::MAX).max(*since);
            }
            _ => anyhow::bail!("must have a jti, or a sub and perhaps an issued_before"),
        }
        Ok(())
    }

    /// Returns true if the file revokes this viewer's token.
    pub(super) fn is_revoked(&self, viewer: &Viewer) -> bool {
        let is_listed = viewer.token_id.as_ref().is_some_and(|token| self.tokens.contains(token));
        let issued = viewer.issued_at.unwrap_or(0);
        is_listed || self.users_revoked_before.get(&viewer.user_id).is_some_and(|since| issued < *since)
    }
}

/// All revocations: the list that was last read from the file, and those that the archive has.
pub(crate) struct TokenRevocations {
    file: Option<PathBuf>,
    current_list: watch::Sender<Arc<RevokedList>>,
    /// The revocations by moderators and services, from the archive.
    archive_revocations: ArchiveRevocations,
    health: Health,
}

/// The inode, size and modification time of the file. Whoever replaces the file changes one of these.
type FileStamp = (u64, u64, i64, i64);

fn file_stamp(metadata: &Metadata) -> FileStamp {
    (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

impl TokenRevocations {
    /// Reads the list in `file`; without a file the list is empty.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a list of revoked tokens. The gateway does not start
    /// then, so that nobody believes that tokens are revoked when they are not.
    pub(super) fn new(file: Option<PathBuf>, health: Health) -> anyhow::Result<Self> {
        let list = match &file {
            Some(file) => read_list(file).with_context(|| invalid_file_message(file))?,
            None => RevokedList::default(),
        };
        Ok(Self {
            file,
            current_list: watch::Sender::new(Arc::new(list)),
            archive_revocations: ArchiveRevocations::default(),
            health,
        })
    }

    /// Returns true if this viewer's token is revoked now.
    pub(super) fn is_revoked(&self, viewer: &Viewer) -> bool {
        self.current_list.borrow().is_revoked(viewer) || self.archive_revocations.is_revoked(viewer)
    }

    /// Completes when this viewer's token is revoked.
    pub(super) async fn wait_until_revoked(&self, viewer: &Viewer) {
        let mut list = self.current_list.subscribe();
        tokio::select! {
            // The sender is a part of `self`, so this never fails.
            _ = list.wait_for(|list| list.is_revoked(viewer)) => {}
            () = self.archive_revocations.wait_until_revoked(viewer) => {}
        }
    }

    /// Keeps the revocations of the file and of the archive up to date. Never returns.
    pub(crate) async fn keep_current(&self, gateway: &Gateway) {
        tokio::join!(self.keep_file_current(), self.archive_revocations.follow_archive(gateway));
    }

    async fn keep_file_current(&self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let mut read_last = None;
        loop {
            let now = tokio::fs::metadata(file).await.ok().as_ref().map(file_stamp);
            if now.is_none() || now != read_last {
                read_last = now;
                self.reread_file(file.clone()).await;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Reads the file of revoked tokens again. If the file cannot be read, the list stays as it is, and the process's
    /// health tells the error.
    async fn reread_file(&self, file: PathBuf) {
        let path = file.clone();
        let list = match tokio::task::spawn_blocking(move || read_list(&file)).await {
            Ok(read) => read,
            Err(failed) => Err(failed.into()),
        };
        match list {
            Ok(list) => {
                self.health.note_dependency(PART_NAME, Ok(()));
                self.current_list.send_if_modified(|known| {
                    let is_other = **known != list;
                    if is_other {
                        *known = Arc::new(list);
                    }
                    is_other
                });
            }
            Err(error) => {
                self.health
                    .note_dependency(PART_NAME, Err(format!("{}: {error:#}", invalid_file_message(&path))));
            }
        }
    }
}

/// Returns the number of entries in a list of revoked tokens.
///
/// # Errors
/// Returns an error if `json` is not such a list.
pub fn count_entries(json: &[u8]) -> anyhow::Result<usize> {
    RevokedList::parse(json).map(|list| list.tokens.len() + list.users_revoked_before.len())
}

fn invalid_file_message(file: &Path) -> String {
    format!("the list of revoked tokens {}", file.display())
}

fn read_list(file: &Path) -> anyhow::Result<RevokedList> {
    let size = std::fs::metadata(file)?.len();
    ensure!(size <= MAX_BYTES, "is longer than {MAX_BYTES} bytes");
    RevokedList::parse(&std::fs::read(file)?)
}

#[cfg(test)]
mod tests {
    use liverank_core::viewer_role::ViewerRoles;
    use serde_json::json;

    use super::*;

    fn viewer(subject: &str, token: Option<&str>, issued_at: Option<u64>) -> Viewer {
        let token_id = token.map(str::to_owned);
        Viewer {
            user_id: subject.to_owned(),
            roles: ViewerRoles::default(),
            expires_at: 0,
            token_id,
            issued_at,
        }
    }

    #[test]
    fn a_token_is_revoked_by_its_name_its_user_or_its_age() {
        let list = json!({"revoked": [
            {"jti": "t"}, {"sub": "ana"}, {"sub": "ben", "issued_before": 100}, {"sub": "ben", "issued_before": 50},
        ]});
        let list = RevokedList::parse(list.to_string().as_bytes()).unwrap();
        for (viewer, is_revoked) in [
            (viewer("eve", Some("t"), Some(1)), true),
            (viewer("eve", Some("u"), Some(1)), false),
            (viewer("eve", None, None), false),
            (viewer("ana", Some("u"), Some(u64::MAX - 1)), true),
            (viewer("ben", None, Some(99)), true),
            (viewer("ben", None, Some(100)), false),
            (viewer("ben", None, None), true),
            (viewer("t", None, None), false),
        ] {
            assert_eq!(list.is_revoked(&viewer), is_revoked, "{viewer:?}");
        }
    }

    #[test]
    fn an_invalid_revocation_list_is_refused() {
        for wrong in [
            json!({}),
            json!([]),
            json!({"revoked": [{}]}),
            json!({"revoked": [{"jti": ""}]}),
            json!({"revoked": [{"jti": "a", "sub": "b"}]}),
            json!({"revoked": [{"issued_before": 1}]}),
            json!({"revoked": [{"sub": "a", "before": 1}]}),
            json!({"revoked": vec![json!({"jti": "a"}); MAX_ENTRIES + 1]}),
        ] {
            assert!(RevokedList::parse(wrong.to_string().as_bytes()).is_err());
        }
        let error = RevokedList::parse(br#"{"revoked": [{"jti": "a"}, {"sub": 7}]}"#).unwrap_err();
        assert!(format!("{error:#}").contains("string"), "{error:#}");
        assert_eq!(RevokedList::parse(br#"{"revoked": []}"#).unwrap(), RevokedList::default());
    }
}
