//! Whose comments are refused: the bans and mutes that moderators gave, followed in the archive.
//!
//! What changed is asked for four times a second, so a ban is in force here within a second of its acknowledgement: the
//! consumer has it in some ten milliseconds. A service that has not read them yet says that it is not ready. While the
//! archive is away, what was read last is in force.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use axum::http::StatusCode;
use liverank_adapters::StoreError;
use liverank_core::moderation::{Refusal, RuleBook, Scope};
use liverank_core::{Millis, UserId, VideoId};
use liverank_runtime::{Problem, ServiceContext, comment_json, now_ms};
use tokio::time::{MissedTickBehavior, interval};

use crate::CommentService;

/// What readiness calls it.
pub(crate) const PART: &str = "restrictions";
/// How often changes are asked for.
const EVERY: Duration = Duration::from_millis(250);
/// How long the archive may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Changes read at once: some hundred kilobytes.
const PAGE: usize = 1000;
/// Between two looks whether the archive was rebuilt, in rounds; ended restrictions are forgotten then, too.
const LOOK_EVERY: u64 = 20;
/// How long the archive may take to say whose a video is. Where it does not say, a restriction is taken to hold.
const OWNER_TIMEOUT: Duration = Duration::from_millis(300);

/// The restrictions as far as they were read.
#[derive(Default)]
pub(crate) struct Restrictions(RwLock<RuleBook>);

impl Restrictions {
    fn read(&self) -> RwLockReadGuard<'_, RuleBook> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, RuleBook> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the restrictions until shutdown.
pub(crate) async fn follow(service: Arc<CommentService>, shell: ServiceContext) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut generation = None;
    for round in 0_u64.. {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if round.is_multiple_of(LOOK_EVERY) {
            service.restrictions.write().expire(now_ms());
            if let Ok(Some(meta)) =
                service.archive.ask(PATIENCE, |archive| async move { archive.meta().await }).await
                && generation.replace(meta.generation).is_some_and(|before| before != meta.generation)
            {
                // Counted anew, from a log that may not have all of them any more: what it says is in force.
                *service.restrictions.write() = RuleBook::default();
            }
        }
        // Where the archive is away its health says so.
        if service.read_changes().await.is_ok() {
            shell.health.started(PART);
            service.metrics.restrictions.set(service.restrictions.read().len() as i64);
        }
    }
}

impl CommentService {
    async fn read_changes(&self) -> Result<(), StoreError> {
        loop {
            let since = self.restrictions.read().revision();
            let changes = self
                .archive
                .ask(PATIENCE, |archive| async move { archive.moderation().rules_since(since, PAGE).await })
                .await?;
            let whole = changes.len() < PAGE;
            if !changes.is_empty() {
                let mut book = self.restrictions.write();
                for change in changes {
                    book.take(change);
                }
            }
            if whole {
                return Ok(());
            }
        }
    }

    /// Whether a user may comment on a video now.
    ///
    /// # Errors
    /// 403, which names the rule and until when it is in force.
    pub(crate) async fn expect_allowed(&self, user: &UserId, video: &VideoId) -> Result<(), Problem> {
        let now = now_ms();
        let owner = if self.restrictions.read().needs_owner(user, now) {
            let videos = std::slice::from_ref(video);
            let owners =
                self.archive.ask(OWNER_TIMEOUT, |archive| async move { archive.owners(videos).await });
            match owners.await {
                // Nothing has happened to it yet: this comment makes its user the owner.
                Ok(owners) => owners.into_iter().next().flatten().or_else(|| Some(user.clone())),
                Err(_) => None,
            }
        } else {
            None
        };
        let refusal = self.restrictions.read().refusal(user, video, owner.as_ref(), now);
        refusal.map_or(Ok(()), |refusal| {
            self.metrics.restricted.inc();
            Err(problem(&refusal, now))
        })
    }
}

fn problem(refusal: &Refusal, now: Millis) -> Problem {
    let Refusal { kind, scope, until } = refusal;
    let (how_long, again) = match until {
        Some(until) => {
            let left = Duration::from_millis((until - now).max(0) as u64);
            (format!("until {}", comment_json::time(*until)), Some(left + Duration::from_millis(999)))
        }
        None => ("for good".to_owned(), None),
    };
    let scope_name = match scope {
        Scope::Everywhere => "everywhere",
        Scope::Owner(_) => "owner",
        Scope::Video(_) => "video",
    };
    let detail = format!("a moderator refuses this user's comments {scope}, {how_long} ({kind})");
    let problem = Problem::new(StatusCode::FORBIDDEN, detail)
        .with("rule", kind.name())
        .with("scope", scope_name)
        .with("until", until.map(comment_json::time));
    match again {
        Some(again) => problem.retry_after(again),
        None => problem,
    }
}
