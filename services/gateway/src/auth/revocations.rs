//! What moderators and services revoked, followed in the archive: the log is the way to it, as it is for bans.
//!
//! While the archive is away, what was read last is in force; a gateway that starts meanwhile knows what the file says, and no more.

use std::time::Duration;

use liverank_core::moderation::Revocations;
use liverank_runtime::follow::{CHANGES_A_PAGE, FollowedList, follow};
use liverank_runtime::now_ms;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Viewer;
use crate::Gateway;

/// How often changes are asked for: streams end within a second. An index answers that there are none.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the archive may take to answer.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The revocations as far as they were read.
pub(super) struct Followed(watch::Sender<Revocations>);

impl Default for Followed {
    fn default() -> Self {
        Self(watch::Sender::new(Revocations::default()))
    }
}

impl Followed {
    pub(super) fn has(&self, viewer: &Viewer) -> bool {
        is_revoked_by(&self.0.borrow(), viewer)
    }

    /// Completes when this viewer's token is revoked.
    pub(super) async fn revoked(&self, viewer: &Viewer) {
        // The sender is here, so that this never fails.
        let _ = self.0.subscribe().wait_for(|known| is_revoked_by(known, viewer)).await;
    }

    /// Follows the revocations that the log brings. Never returns.
    pub(super) async fn follow(&self, gateway: &Gateway) {
        follow(FollowedRevocations { followed: self, gateway }).await;
    }

    /// A change that ends no stream.
    fn change_without_notice(&self, change: impl FnOnce(&mut Revocations)) {
        self.0.send_if_modified(|known| {
            change(known);
            false
        });
    }
}

/// The revocations as a list that is followed.
struct FollowedRevocations<'a> {
    followed: &'a Followed,
    gateway: &'a Gateway,
}

impl FollowedList for FollowedRevocations<'_> {
    /// Requests that need the archive tell its trouble.
    type Error = ();

    async fn read_page(&mut self) -> Result<usize, ()> {
        let since = self.followed.0.borrow().revision();
        let asked = self.gateway.backends.archive.moderation_archive().rules_since(since, CHANGES_A_PAGE);
        let Ok(Ok(changes)) = timeout(ARCHIVE_TIMEOUT, asked).await else { return Err(()) };
        let take = |known: &mut Revocations| {
            changes.iter().filter(|change| known.take_over_change(change)).count() > 0
        };
        self.followed.0.send_if_modified(take);
        Ok(changes.len())
    }

    async fn generation(&mut self) -> Option<u64> {
        let asked = timeout(ARCHIVE_TIMEOUT, self.gateway.backends.archive.archive_meta());
        asked.await.ok()?.ok()?.map(|meta| meta.generation)
    }

    fn begin_anew(&mut self) {
        self.followed.change_without_notice(|known| *known = Revocations::default());
    }

    fn forget_ended(&mut self) {
        self.followed.change_without_notice(|known| known.expire(now_ms()));
    }

    fn pause_after(&mut self, _look: Result<(), ()>) -> Duration {
        LOOK_INTERVAL
    }
}

fn is_revoked_by(known: &Revocations, viewer: &Viewer) -> bool {
    known.is_revoked(&viewer.user_name, viewer.token.as_deref(), viewer.issued, now_ms())
}
