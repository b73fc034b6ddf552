//! What comments must be like, by the rules of the system (a file), of everywhere, of the video's owner and of the video
//! (moderators). A comment keeps all of them; a moderator's need not.
//!
//! What must keep a distance in time is remembered here, by this process alone: with several comment services a user can
//! comment once at each. While the archive is away, an owner's rules are in force on the videos whose owner is known here.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::StatusCode;
use liverank_core::comment::UnnumberedComment;
use liverank_core::moderation::screening::{RuleName, ScreeningResult, TextScreen};
use liverank_core::moderation::spacing::{CommentSpacing, SpacingClaim};
use liverank_core::moderation::{CommentRules, RuleScope, RulesInForce, ScopeRules};
use liverank_core::viewer_role::ViewerRole;
use liverank_core::{Millis, UserId, VideoId};
use liverank_runtime::identity::sent::RequestSender;
use liverank_runtime::{Problem, comment_json, now_ms};

use crate::CommentService;
use crate::hook::Judged;
use crate::recent::RecentEntries;

/// Claims remembered: some 20 MB. Those that end first make room, so only a flood of more users than this in one slow
/// mode's time passes it.
const CLAIMS: usize = 200_000;
/// Places whose rules are ready for looking: a few megabytes each at the very most, a few kilobytes as a rule.
const SCREENS: usize = 64;
const SCREENS_KEEP: Duration = Duration::from_hours(1);
/// Videos whose owner is remembered, and how long: an owner that is given later is known by then.
const OWNERS: usize = 10_000;
const OWNERS_KEEP: Duration = Duration::from_secs(10);

/// Comments that wait for moderators, in all: 160 MB of the longest ones in the archive. One more is refused; those that
/// come at once at several services may pass it by their number.
const MAX_HELD: u64 = 10_000;
/// How long the archive may take to say how many wait.
const HELD_TIMEOUT: Duration = Duration::from_millis(500);
/// When to try again where too many wait: moderators are people.
const HELD_RETRY: Duration = Duration::from_mins(1);

/// The rules of comments at this service, beside those that moderators set.
pub(crate) struct Rules {
    system: Option<RulesInForce>,
    screens: Mutex<RecentEntries<u64, Arc<TextScreen>>>,
    spacing: Mutex<CommentSpacing>,
    owners: Mutex<RecentEntries<VideoId, UserId>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rules {
    /// Makes the cache of rules. `file` has the rules of the whole system, if there is one.
    pub(crate) fn new(file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            system: file.map(read).transpose()?,
            screens: Mutex::new(RecentEntries::new(SCREENS, SCREENS_KEEP)),
            spacing: Mutex::new(CommentSpacing::new(CLAIMS)),
            owners: Mutex::new(RecentEntries::new(OWNERS, OWNERS_KEEP)),
        })
    }

    /// Other rules may have the revisions of those that it has: the archive was counted anew.
    pub(crate) fn forget_screens(&self) {
        *lock(&self.screens) = RecentEntries::new(SCREENS, SCREENS_KEEP);
    }

    /// The text rules of a place, made ready.
    fn screen(&self, rules: &RulesInForce) -> Arc<TextScreen> {
        let now = Instant::now();
        if let Some(screen) = lock(&self.screens).get(now, &rules.revision) {
            return Arc::clone(screen);
        }
        let screen = TextScreen::compile(&rules.rules.rules).unwrap_or_else(|error| {
            // They were checked when they were set, by a release that knew more.
            tracing::error!(scope = %rules.scope, %error, "the rules of comments cannot be read: they are passed over");
            TextScreen::default()
        });
        let screen = Arc::new(screen);
        lock(&self.screens).insert(now, rules.revision, Arc::clone(&screen));
        screen
    }
}

/// The rules in a file. No moderator's have their revision.
fn read(file: &Path) -> anyhow::Result<RulesInForce> {
    let json =
        std::fs::read(file).with_context(|| format!("reading --comment-rules-file {}", file.display()))?;
    let rules = CommentRules::from_json(&json);
    let rules = rules.with_context(|| format!("--comment-rules-file {}", file.display()))?;
    let by = UserId::parse("settings").context("a user")?;
    let rules = Arc::new(ScopeRules { rules, reason: None, by, at: 0 });
    Ok(RulesInForce { scope: RuleScope::Everywhere, revision: 0, rules })
}

/// What the rules say of a comment that is taken.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What it has claimed. It is given back where the comment does not come into the log.
    claims: Vec<SpacingClaim>,
    /// The rule by which it waits for a moderator.
    pub(crate) held_by_rule: Option<RuleName>,
}

impl CommentService {
    /// The text as it is taken: masked, where the rules say so.
    ///
    /// # Errors
    /// 403 or 429, which names the rule, where it is in force, and when to try again.
    pub(crate) async fn expect_kept(
        &self,
        sent_by: &RequestSender,
        user: &UserId,
        video: &VideoId,
        text: &mut String,
    ) -> Result<Kept, Problem> {
        if sent_by.has_role(ViewerRole::Moderator) {
            return Ok(Kept::default());
        }
        let rules = self.comment_rules(user, video).await;
        let refused = |problem: Problem, rule: RuleName| {
            self.metrics.ruled(rule);
            problem
        };
        let is_member = sent_by.has_role(ViewerRole::Member) || sent_by.has_role(ViewerRole::Service);
        if let Some(of) = rules.iter().find(|of| of.rules.rules.members_only && !is_member) {
            return Err(refused(forbidden(RuleName::MembersOnly, &of.scope), RuleName::MembersOnly));
        }
        let (said, mut claims, mut held) = (text.clone(), Vec::new(), None);
        for of in &rules {
            match self.rules.screen(of).screen_text(text) {
                ScreeningResult::Taken(masked) => *text = masked,
                ScreeningResult::Held(masked, rule) => {
                    *text = masked;
                    held = held.or(Some(rule));
                }
                ScreeningResult::Refused(rule) => return Err(refused(forbidden(rule, &of.scope), rule)),
            }
            claims.extend(SpacingClaim::claims_of_comment(&of.rules.rules, &of.scope, user, &said));
        }
        if *text != said {
            self.metrics.comments_masked.inc();
        }
        let now = now_ms();
        let taken = lock(&self.rules.spacing)
            .claim_all(&claims, now)
            .map_err(|(claim, until)| refused(too_soon(claim, until, now), claim.rule));
        taken.map(|()| Kept { claims, held_by_rule: held })
    }

    /// Has the hook judge a comment, where there is one: its text may be another then, and it may have to wait. Nobody judges
    /// what a moderator says, and what its author alone is shown.
    ///
    /// # Errors
    /// 403, 429 or 503, which name the rule `hook`.
    pub(crate) async fn expect_judged(
        &self,
        sent_by: &RequestSender,
        comment: &mut UnnumberedComment,
        held: &mut Option<RuleName>,
    ) -> Result<(), Problem> {
        let Some(hook) = self.hook.as_ref().filter(|_| comment.entry.is_comment()) else { return Ok(()) };
        if sent_by.has_role(ViewerRole::Moderator) {
            return Ok(());
        }
        let judged = hook.judge(comment).await;
        match judged.inspect_err(|_| self.metrics.ruled(RuleName::Hook))? {
            Judged::Taken(text) if text == comment.text => {}
            Judged::Taken(text) => {
                comment.text = text;
                self.metrics.comments_masked.inc();
            }
            Judged::Held => *held = held.or(Some(RuleName::Hook)),
        }
        Ok(())
    }

    /// Gives back what a comment claimed that was not acknowledged: it may be sent again at once.
    pub(crate) fn give_back(&self, kept: &Kept) {
        lock(&self.rules.spacing).give_back(&kept.claims);
    }

    /// Refuses a comment that is to wait where too many do, and where nobody knows.
    pub(crate) async fn expect_room_to_wait(&self) -> Result<(), Problem> {
        let count = self
            .archive
            .ask(HELD_TIMEOUT, |archive| async move { archive.moderation_archive().count_held().await });
        match count.await {
            Ok(count) if count < MAX_HELD => Ok(()),
            Ok(_) => {
                let detail = "comments here wait for a moderator, and too many wait already: try again later";
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_member("rule", "hold");
                Err(problem.retry_after(HELD_RETRY))
            }
            Err(_) => Err(Problem::part_unavailable(
                "comments here wait for a moderator, and the archive is away: not acknowledged, try again",
            )),
        }
    }

    /// All rules that a comment has to keep.
    async fn comment_rules(&self, user: &UserId, video: &VideoId) -> Vec<RulesInForce> {
        let owner =
            if self.restrictions.has_rules_of_owners() { self.known_owner(user, video).await } else { None };
        let system = self.rules.system.iter().cloned();
        system.chain(self.restrictions.comment_rules(video, owner.as_ref())).collect()
    }

    async fn known_owner(&self, user: &UserId, video: &VideoId) -> Option<UserId> {
        if let Some(owner) = lock(&self.rules.owners).get(Instant::now(), video) {
            return Some(owner.clone());
        }
        match self.owner(video).await {
            Ok(Some(owner)) => {
                lock(&self.rules.owners).insert(Instant::now(), video.clone(), owner.clone());
                Some(owner)
            }
            // Nothing has happened to it yet: this comment makes its user the owner.
            Ok(None) => Some(user.clone()),
            Err(_) => None,
        }
    }
}

fn forbidden(rule: RuleName, scope: &RuleScope) -> Problem {
    let what = match rule {
        RuleName::MembersOnly => "only members may comment",
        RuleName::Length => "the comment is longer than is allowed",
        RuleName::Links => "the comment has a link that is not allowed",
        RuleName::Words => "the comment has a word that is not allowed",
        RuleName::Patterns | RuleName::SlowMode | RuleName::Repeat | RuleName::HoldAll | RuleName::Hook => {
            "the comment is of a kind that is not allowed"
        }
    };
    let problem = Problem::new(StatusCode::FORBIDDEN, format!("{what} {scope} ({rule})"));
    named(problem, rule, scope).with_member("until", None::<String>)
}

fn too_soon(claim: &SpacingClaim, until: Millis, now: Millis) -> Problem {
    let left = (until - now).max(0) as u64;
    let seconds = left.div_ceil(1000).max(1);
    let what = if claim.rule == RuleName::SlowMode {
        format!("slow mode: a user may comment once in {} s {}", claim.duration_ms / 1000, claim.scope)
    } else {
        format!("the same was said {} less than {} s ago", claim.scope, claim.duration_ms / 1000)
    };
    let problem = Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        format!("{what}; try again in {seconds} s ({})", claim.rule),
    );
    named(problem, claim.rule, &claim.scope)
        .with_member("until", comment_json::format_time(until))
        .retry_after(Duration::from_secs(seconds))
}

fn named(problem: Problem, rule: RuleName, scope: &RuleScope) -> Problem {
    problem.with_member("rule", rule.name()).with_member("scope", crate::restrictions::scope_name(scope))
}
