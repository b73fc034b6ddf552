//! Whose comments are refused: the bans and mutes that moderators gave, followed in the archive. The rules of comments that
//! they set come the same way.
//!
//! What changed is asked for so often that a ban is in force here within a second of its acknowledgement: four times a
//! second while moderators are at work, and less often at rest. The consumer has a ban in some ten milliseconds. A service
//! that has not read them yet says that it is not ready. While the archive is away, what was read last is in force.
//!
//! A look that finds nothing is one question that an index answers. A change stream would be no less work: the server reads
//! all of its oplog for each one that is open, and counting writes thousands of entries a second there.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use liverank_adapters::StoreError;
use liverank_core::comment::EntryKind;
use liverank_core::moderation::{CommentRefusal, RuleBook, RuleScope, RulesInForce};
use liverank_core::{Millis, UserId, VideoId};
use liverank_runtime::follow::{CHANGES_A_PAGE, FollowedList, follow};
use liverank_runtime::{Health, Problem, ServiceContext, comment_json, now_ms};

use crate::CommentService;

/// The name that readiness has for the restrictions.
pub(crate) const PART: &str = "restrictions";
/// How often changes are asked for while moderators are at work.
const ACTIVE_INTERVAL: Duration = Duration::from_millis(250);
/// How often they are at rest. The rest of a second is for the consumer, which has to have the ban first.
const QUIET_INTERVAL: Duration = Duration::from_millis(700);
/// How long moderators are taken to be at work after a change.
const ACTIVE_FOR: Duration = Duration::from_mins(1);
/// How long the archive may take to answer.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the archive may take to say whose a video is. Where it does not say, a restriction is taken to hold.
const OWNER_TIMEOUT: Duration = Duration::from_millis(300);

/// The restrictions as far as they were read.
#[derive(Default)]
pub(crate) struct Restrictions(RwLock<RuleBook>);

impl Restrictions {
    fn read(&self) -> RwLockReadGuard<'_, RuleBook> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules of comments on a video that moderators set.
    pub(crate) fn comment_rules(&self, video: &VideoId, owner: Option<&UserId>) -> Vec<RulesInForce> {
        self.read().comment_rules(video, owner)
    }

    /// Whether the rules of a video depend on whose it is.
    pub(crate) fn has_rules_of_owners(&self) -> bool {
        self.read().has_rules_of_owners()
    }

    fn write(&self) -> RwLockWriteGuard<'_, RuleBook> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait before the next look; the last change was so long ago, if there was one since the start.
fn pause_before_next_look(last_change: Option<Duration>) -> Duration {
    if last_change.is_some_and(|ago| ago < ACTIVE_FOR) { ACTIVE_INTERVAL } else { QUIET_INTERVAL }
}

/// Follows the restrictions until shutdown.
pub(crate) async fn follow_restrictions(service: Arc<CommentService>, shell: ServiceContext) {
    let list =
        FollowedRestrictions { service, health: shell.health.clone(), seen: 0, changed: None, ready: false };
    tokio::select! {
        () = shell.shutdown.cancelled() => {}
        () = follow(list) => {}
    }
}

/// The restrictions as a list that is followed.
struct FollowedRestrictions {
    service: Arc<CommentService>,
    health: Health,
    /// The revision up to which they were read before the look that goes on.
    seen: u64,
    /// When something changed last, since the start.
    changed: Option<Instant>,
    /// Whether they were read to the end once.
    ready: bool,
}

impl FollowedList for FollowedRestrictions {
    type Error = StoreError;

    async fn read_page(&mut self) -> Result<usize, StoreError> {
        let since = self.service.restrictions.read().revision();
        let asked = self.service.archive.ask(ARCHIVE_TIMEOUT, |archive| async move {
            archive.moderation_archive().rules_since(since, CHANGES_A_PAGE).await
        });
        let changes = asked.await?;
        let count = changes.len();
        if !changes.is_empty() {
            let mut book = self.service.restrictions.write();
            for change in changes {
                book.take_over_change(change);
            }
        }
        Ok(count)
    }

    async fn generation(&mut self) -> Option<u64> {
        let asked =
            self.service.archive.ask(ARCHIVE_TIMEOUT, |archive| async move { archive.archive_meta().await });
        asked.await.ok().flatten().map(|meta| meta.generation)
    }

    fn begin_anew(&mut self) {
        *self.service.restrictions.write() = RuleBook::default();
        self.service.rules.forget_screens();
        self.seen = 0;
    }

    fn forget_ended(&mut self) {
        self.service.restrictions.write().expire(now_ms());
    }

    fn pause_after(&mut self, look: Result<(), StoreError>) -> Duration {
        let before = std::mem::replace(&mut self.seen, self.service.restrictions.read().revision());
        // Where the archive is away its health says so.
        if look.is_err() {
            return ACTIVE_INTERVAL;
        }
        // What is there at the start is no work of now.
        if self.ready && self.seen != before {
            self.changed = Some(Instant::now());
        }
        self.ready = true;
        self.health.note_started(PART);
        self.service.update_restriction_count();
        pause_before_next_look(self.changed.map(|changed| changed.elapsed()))
    }
}

impl CommentService {
    fn update_restriction_count(&self) {
        let book = self.restrictions.read();
        self.metrics.restrictions_in_force.set(book.len() as i64);
        self.metrics.ruled_scopes.set(book.ruled_scopes() as i64);
    }

    /// Returns the owner of a video.
    pub(crate) async fn owner(&self, video: &VideoId) -> Result<Option<UserId>, StoreError> {
        let videos = std::slice::from_ref(video);
        let owners =
            self.archive.ask(OWNER_TIMEOUT, |archive| async move { archive.video_owners(videos).await });
        Ok(owners.await?.into_iter().next().flatten())
    }

    /// What a comment of a user on a video becomes now: a comment, or one that its author alone is shown.
    ///
    /// # Errors
    /// 403, which names the rule and until when it is in force.
    pub(crate) async fn expect_allowed(&self, user: &UserId, video: &VideoId) -> Result<EntryKind, Problem> {
        let now = now_ms();
        let owner = if self.restrictions.read().needs_owner(user, now) {
            // Nothing has happened to one without: this comment makes its user the owner.
            self.owner(video).await.ok().map(|owner| owner.unwrap_or_else(|| user.clone()))
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
        Some(again) => problem.retry_after(again),
        None => problem,
    }
}

/// What a problem calls the place where a rule is in force.
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
