//! The bans and mutes by which comments are refused: set by moderators, and read from the archive as they change. The
//! rules of comments that moderators set are read in the same way.
//!
//! Changes are polled so often that a ban is in force here within a second of its acknowledgement: four times a second
//! while moderators are active, less often otherwise. The consumer writes a ban to the archive within some ten
//! milliseconds. A service that has not yet read the restrictions reports that it is not ready. While the archive is
//! unavailable, the restrictions read last stay in force.
//!
//! A poll that finds no changes is one query that an index answers. A change stream would not be cheaper: the server
//! reads all of its oplog for each open stream, and counting writes thousands of entries a second to the oplog.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use liverank_adapters::StoreError;
use liverank_core::comment::EntryKind;
use liverank_core::moderation::{CommentRefusal, RuleBook, RuleScope, RulesInForce};
use liverank_core::{Millis, UserId, VideoId};
use liverank_runtime::follow::{FollowedList, MAX_CHANGES_PER_PAGE, follow_list};
use liverank_runtime::{Health, Problem, ServiceContext, comment_json, now_ms};

use crate::CommentService;

/// The name of the restrictions in the readiness report.
pub(crate) const PART: &str = "restrictions";
/// The time between two polls for changes while moderators are active.
const ACTIVE_INTERVAL: Duration = Duration::from_millis(250);
/// The time between two polls while moderators are not active. The rest of a second is for the consumer, which has to
/// write the ban first.
const QUIET_INTERVAL: Duration = Duration::from_millis(700);
/// The time for which moderators count as active after a change.
const ACTIVE_FOR: Duration = Duration::from_mins(1);
/// The time that the archive may take to answer a poll.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time that the archive may take to name a video's owner. If the archive does not answer, an owner's restriction
/// is assumed to apply.
const OWNER_TIMEOUT: Duration = Duration::from_millis(300);

/// The restrictions and rules that were read from the archive so far.
#[derive(Default)]
pub(crate) struct Restrictions(RwLock<RuleBook>);

impl Restrictions {
    fn read(&self) -> RwLockReadGuard<'_, RuleBook> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the rules of comments that moderators set for a video: everywhere, for its owner, and for the video
    /// itself.
    pub(crate) fn comment_rules(&self, video: &VideoId, owner: Option<&UserId>) -> Vec<RulesInForce> {
        self.read().comment_rules(video, owner)
    }

    /// Returns whether moderators have set rules of comments for any video owner: then a video's owner has to be looked
    /// up.
    pub(crate) fn has_rules_of_owners(&self) -> bool {
        self.read().has_rules_of_owners()
    }

    fn write(&self) -> RwLockWriteGuard<'_, RuleBook> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the pause before the next poll. `last_change` is the time since the last change; `None` if nothing has
/// changed since the start.
fn pause_before_next_look(last_change: Option<Duration>) -> Duration {
    if last_change.is_some_and(|ago| ago < ACTIVE_FOR) { ACTIVE_INTERVAL } else { QUIET_INTERVAL }
}

/// Polls the archive for changes of the restrictions until shutdown.
pub(crate) async fn follow_restrictions(service: Arc<CommentService>, shell: ServiceContext) {
    let list = FollowedRestrictions {
        service,
        health: shell.health.clone(),
        read_revision: 0,
        last_change_at: None,
        ready: false,
    };
    tokio::select! {
        () = shell.shutdown.cancelled() => {}
        () = follow_list(list) => {}
    }
}

/// The restrictions as a list that is kept up to date by polling.
struct FollowedRestrictions {
    service: Arc<CommentService>,
    health: Health,
    /// The revision up to which the restrictions were read before the current poll.
    read_revision: u64,
    /// The time of the last change since the start.
    last_change_at: Option<Instant>,
    /// Whether the restrictions have been read completely once.
    ready: bool,
}

impl FollowedList for FollowedRestrictions {
    type Error = StoreError;

    async fn read_page(&mut self) -> Result<usize, StoreError> {
        let since = self.service.restrictions.read().revision();
        let asked = self.service.archive.query(ARCHIVE_TIMEOUT, |archive| async move {
            archive.moderation_archive().rules_since(since, MAX_CHANGES_PER_PAGE).await
        });
        let changes = asked.await?;
        let count = changes.len();
        if !changes.is_empty() {
            let mut book = self.service.restrictions.write();
            for change in changes {
                book.apply_change(change);
            }
        }
        Ok(count)
    }

    async fn generation(&mut self) -> Option<u64> {
        let asked = self
            .service
            .archive
            .query(ARCHIVE_TIMEOUT, |archive| async move { archive.archive_meta().await });
        asked.await.ok().flatten().map(|meta| meta.generation)
    }

    fn forget_all(&mut self) {
        *self.service.restrictions.write() = RuleBook::default();
        self.service.rules.forget_screens();
        self.read_revision = 0;
    }

    fn forget_ended(&mut self) {
        self.service.restrictions.write().expire(now_ms());
    }

    fn pause_after_poll(&mut self, look: Result<(), StoreError>) -> Duration {
        let before = std::mem::replace(&mut self.read_revision, self.service.restrictions.read().revision());
        // The health report already says that the archive is unavailable.
        if look.is_err() {
            return ACTIVE_INTERVAL;
        }
        // What is read at the start is no sign that moderators are active now.
        if self.ready && self.read_revision != before {
            self.last_change_at = Some(Instant::now());
        }
        self.ready = true;
        self.health.note_started(PART);
        self.service.update_restriction_count();
        pause_before_next_look(self.last_change_at.map(|changed| changed.elapsed()))
    }
}

impl CommentService {
    fn update_restriction_count(&self) {
        let book = self.restrictions.read();
        self.metrics.restrictions_in_force.set(book.len() as i64);
        self.metrics.ruled_scopes.set(book.ruled_scope_count() as i64);
    }

    /// Returns the owner of a video; `None` if the video has none yet.
    pub(crate) async fn fetch_video_owner(&self, video: &VideoId) -> Result<Option<UserId>, StoreError> {
        let videos = std::slice::from_ref(video);
        let owners =
            self.archive.query(OWNER_TIMEOUT, |archive| async move { archive.video_owners(videos).await });
        Ok(owners.await?.into_iter().next().flatten())
    }

    /// Returns the kind of entry that a user's comment on a video becomes now: a public comment, or one that is shown
    /// to its author only.
    ///
    /// # Errors
    /// 403 with the name of the restriction, and the time until which it is in force.
    pub(crate) async fn expect_allowed(&self, user: &UserId, video: &VideoId) -> Result<EntryKind, Problem> {
        let now = now_ms();
        let owner = if self.restrictions.read().needs_owner(user, now) {
            // A video without an owner has no events yet: this comment makes its user the owner.
            self.fetch_video_owner(video).await.ok().map(|owner| owner.unwrap_or_else(|| user.clone()))
        } else {
            None
        };
        let book = self.restrictions.read();
        if let Some(refusal) = book.refusal_of_comment(user, video, owner.as_ref(), now) {
            self.metrics.comments_restricted.inc();
            return Err(refusal_problem(&refusal, now));
        }
        let shadowed = book.is_shadowed(user, video, owner.as_ref(), now);
        Ok(if shadowed { EntryKind::Shadowed } else { EntryKind::Comment })
    }
}

fn refusal_problem(refusal: &CommentRefusal, now: Millis) -> Problem {
    let CommentRefusal { kind, scope, refused_until: until } = refusal;
    let (how_long, again) = match until {
        Some(until) => {
            let left = Duration::from_millis((until - now).max(0) as u64);
            (format!("until {}", comment_json::format_time(*until)), Some(left + Duration::from_millis(999)))
        }
        None => ("for good".to_owned(), None),
    };
    let detail = format!("a moderator refuses this user's comments {scope}, {how_long} ({kind})");
    let problem = Problem::new(StatusCode::FORBIDDEN, detail)
        .with_member("rule", kind.name())
        .with_member("scope", scope_name(scope))
        .with_member("until", until.map(comment_json::format_time));
    match again {
        Some(again) => problem.with_retry_after(again),
        None => problem,
    }
}

/// Returns the name of a rule's scope, as problem documents have it.
pub(crate) const fn scope_name(scope: &RuleScope) -> &'static str {
    match scope {
        RuleScope::Everywhere => "everywhere",
        RuleScope::Owner(_) => "owner",
        RuleScope::Video(_) => "video",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_polled_more_often_while_moderators_are_active() {
        assert_eq!(pause_before_next_look(None), QUIET_INTERVAL);
        assert_eq!(pause_before_next_look(Some(Duration::ZERO)), ACTIVE_INTERVAL);
        assert_eq!(pause_before_next_look(Some(ACTIVE_FOR)), QUIET_INTERVAL);
        let second = Duration::from_secs(1);
        assert!(
            ACTIVE_INTERVAL < QUIET_INTERVAL && QUIET_INTERVAL + Duration::from_millis(250) < second,
            "in force within a second"
        );
    }
}
