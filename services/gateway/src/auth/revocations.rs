//! What moderators and services revoked, followed in the archive: the log is the way to it, as it is for bans.
//!
//! While the archive is away, what was read last is in force; a gateway that starts meanwhile knows what the file says, and no more.

use std::time::{Duration, Instant};

use liverank_core::moderation::Revocations;
use liverank_runtime::now_ms;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Viewer;
use crate::Gateway;

/// How often changes are asked for: streams end within a second. An index answers that there are none.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the archive may take to answer.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Changes read at once: some hundred kilobytes.
const CHANGES_A_PAGE: usize = 1000;
/// Between two looks whether the archive was rebuilt; revocations whose time is over are forgotten then, too.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

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

    /// Never returns.
    pub(super) async fn follow(&self, gateway: &Gateway) {
        let (mut generation, mut tidied) = (None, None::<Instant>);
        loop {
            if tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY_INTERVAL) {
                tidied = Some(Instant::now());
                self.change_without_notice(|known| known.expire(now_ms()));
                if let Ok(Ok(Some(meta))) = timeout(ARCHIVE_TIMEOUT, gateway.backends.archive.meta()).await
                    && generation.replace(meta.generation).is_some_and(|before| before != meta.generation)
                {
                    // Counted anew, from a log that may not have all of them any more: what it says is in force.
                    self.change_without_notice(|known| *known = Revocations::default());
                }
            }
            while self.read_page(gateway).await {}
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether there may be more.
    async fn read_page(&self, gateway: &Gateway) -> bool {
        let since = self.0.borrow().revision();
        let asked = gateway.backends.archive.moderation().rules_since(since, CHANGES_A_PAGE);
        // Requests that need the archive tell its trouble.
        let Ok(Ok(changes)) = timeout(ARCHIVE_TIMEOUT, asked).await else { return false };
        self.0.send_if_modified(|known| changes.iter().filter(|change| known.take(change)).count() > 0);
        changes.len() == CHANGES_A_PAGE
    }

    /// A change that ends no stream.
    fn change_without_notice(&self, change: impl FnOnce(&mut Revocations)) {
        self.0.send_if_modified(|known| {
            change(known);
            false
        });
    }
}

fn is_revoked_by(known: &Revocations, viewer: &Viewer) -> bool {
    known.has(&viewer.subject, viewer.token.as_deref(), viewer.issued, now_ms())
}
