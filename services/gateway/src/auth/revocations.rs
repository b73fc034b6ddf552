//! The revocations by moderators and services, read from the archive. Like bans, revocations are written to the log
//! and reach the gateway through the archive.
//!
//! While the archive is away, the revocations that were read last are in force. A gateway that starts while the
//! archive is away knows only the revocations in the file.

use std::time::Duration;

use liverank_core::moderation::Revocations;
use liverank_runtime::follow::{FollowedList, MAX_CHANGES_PER_PAGE, follow_list};
use liverank_runtime::now_ms;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Viewer;
use crate::Gateway;

/// Interval of asking the archive for changes: streams of revoked tokens end within a second. If there are no changes,
/// the query reads an index only.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum time for the archive to answer.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The revocations that were read from the archive so far.
pub(super) struct ArchiveRevocations(watch::Sender<Revocations>);

impl Default for ArchiveRevocations {
    fn default() -> Self {
        Self(watch::Sender::new(Revocations::default()))
    }
}

impl ArchiveRevocations {
    pub(super) fn is_revoked(&self, viewer: &Viewer) -> bool {
        is_revoked_by(&self.0.borrow(), viewer)
    }

    /// Completes when this viewer's token is revoked.
    pub(super) async fn wait_until_revoked(&self, viewer: &Viewer) {
        // The sender is a part of `self`, so this never fails.
        let _ = self.0.subscribe().wait_for(|known| is_revoked_by(known, viewer)).await;
    }

    /// Reads revocations from the archive as they appear. Never returns.
    pub(super) async fn follow_archive(&self, gateway: &Gateway) {
        follow_list(FollowedRevocations { known_revocations: self, gateway }).await;
    }

    /// Changes the known revocations without waking the streams that wait: the change revokes no token.
    fn change_without_notice(&self, change: impl FnOnce(&mut Revocations)) {
        self.0.send_if_modified(|known| {
            change(known);
            false
        });
    }
}

/// The revocations, as a list of changes that `follow_archive` reads.
struct FollowedRevocations<'a> {
    known_revocations: &'a ArchiveRevocations,
    gateway: &'a Gateway,
}

impl FollowedList for FollowedRevocations<'_> {
    /// The error has no content, because requests that need the archive report that it is away.
    type Error = ();

    async fn read_page(&mut self) -> Result<usize, ()> {
        let since = self.known_revocations.0.borrow().revision();
        let asked =
            self.gateway.backends.archive.moderation_archive().rules_since(since, MAX_CHANGES_PER_PAGE);
        let Ok(Ok(changes)) = timeout(ARCHIVE_TIMEOUT, asked).await else { return Err(()) };
        let take =
            |known: &mut Revocations| changes.iter().filter(|change| known.apply_change(change)).count() > 0;
        self.known_revocations.0.send_if_modified(take);
        Ok(changes.len())
    }

    async fn generation(&mut self) -> Option<u64> {
        let asked = timeout(ARCHIVE_TIMEOUT, self.gateway.backends.archive.archive_meta());
        asked.await.ok()?.ok()?.map(|meta| meta.generation)
    }

    fn forget_all(&mut self) {
        self.known_revocations.change_without_notice(|known| *known = Revocations::default());
    }

    fn forget_ended(&mut self) {
        self.known_revocations.change_without_notice(|known| known.expire(now_ms()));
    }

    fn pause_after_poll(&mut self, _look: Result<(), ()>) -> Duration {
        LOOK_INTERVAL
    }
}

fn is_revoked_by(known: &Revocations, viewer: &Viewer) -> bool {
    known.is_revoked(&viewer.user_id, viewer.token_id.as_deref(), viewer.issued_at, now_ms())
}
