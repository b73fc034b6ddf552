//! Checks comments against the rules of the system (a file), of everywhere, of the video's owner and of the video (all
//! set by moderators). A comment has to meet all these rules; a moderator's comment need not.
//!
//! The times of a user's last comments are remembered by this process alone: with several comment services a user can
//! comment once at each. While the archive is unavailable, an owner's rules are in force only on videos whose owner is
//! cached here.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::StatusCode;
use liverank_core::comment::UnnumberedComment;
use liverank_core::moderation::RuleName;
use liverank_core::moderation::screening::{ScreeningResult, TextScreen};
use liverank_core::moderation::spacing::{CommentSpacing, SpacingClaim};
use liverank_core::moderation::{CommentRules, RuleScope, RulesInForce, ScopeRules};
use liverank_core::viewer_role::ViewerRole;
use liverank_core::{Millis, UserId, VideoId};
use liverank_runtime::identity::sent::ForwardedUser;
use liverank_runtime::{Problem, comment_json, now_ms};

use crate::CommentService;
use crate::hook::CommentTreatment;
use crate::recent::RecentEntries;

/// The maximum number of claims (a user's last comment under a rule of slow mode or repetition): some 20 MB. Claims
/// that end first are evicted first, so only more users than this within one slow-mode period get past the limit.
const MAX_CLAIMS: usize = 200_000;
/// The maximum number of scopes whose text rules are kept compiled: at the very most a few megabytes each, usually a
/// few kilobytes.
const MAX_SCREENS: usize = 64;
/// The time for which a scope's compiled text rules are kept.
const SCREENS_KEPT_FOR: Duration = Duration::from_hours(1);
/// The maximum number of videos whose owner is cached.
const MAX_OWNERS: usize = 10_000;
/// The time for which a video's owner is cached: a new owner is known after this time at the latest.
const OWNERS_KEPT_FOR: Duration = Duration::from_secs(10);

/// The maximum number of comments that wait for moderators, in all: 160 MB of the longest ones in the archive. Further
/// comments are refused; comments that arrive at several services at the same time may exceed the limit by their
/// number.
const MAX_HELD_COMMENTS: u64 = 10_000;
/// The time that the archive may take to count the comments that wait for moderators.
const COUNT_HELD_TIMEOUT: Duration = Duration::from_millis(500);
/// The time after which clients may try again if too many comments wait: moderators are people.
const RETRY_AFTER_TOO_MANY_HELD: Duration = Duration::from_mins(1);

/// The system's rules of comments, and the caches with which this service checks the moderators' rules.
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
    /// Makes the caches, and reads the rules of the whole system from `file`, if there is one.
    pub(crate) fn new(file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            system: file.map(read_rules_file).transpose()?,
            screens: Mutex::new(RecentEntries::new(MAX_SCREENS, SCREENS_KEPT_FOR)),
            spacing: Mutex::new(CommentSpacing::new(MAX_CLAIMS)),
            owners: Mutex::new(RecentEntries::new(MAX_OWNERS, OWNERS_KEPT_FOR)),
        })
    }

    /// Drops the compiled rules, because new rules may have the same revisions after the archive was made anew.
    pub(crate) fn forget_screens(&self) {
        *lock(&self.screens) = RecentEntries::new(MAX_SCREENS, SCREENS_KEPT_FOR);
    }

    /// Returns the compiled text rules of a scope.
    fn screen(&self, rules: &RulesInForce) -> Arc<TextScreen> {
        let now = Instant::now();
        if let Some(screen) = lock(&self.screens).get(now, &rules.revision) {
            return Arc::clone(screen);
        }
        let screen = TextScreen::compile(&rules.rules.rules).unwrap_or_else(|error| {
            // A newer release, which knew more kinds of rules, checked them when they were set.
            tracing::error!(scope = %rules.scope, %error, "the rules of comments cannot be read: they are passed over");
            TextScreen::default()
        });
        let screen = Arc::new(screen);
        lock(&self.screens).insert(now, rules.revision, Arc::clone(&screen));
        screen
    }
}

/// Reads the system's rules from a file. The system's rules get revision 0, which no moderator's rules have.
fn read_rules_file(file: &Path) -> anyhow::Result<RulesInForce> {
    let json =
        std::fs::read(file).with_context(|| format!("reading --comment-rules-file {}", file.display()))?;
    let rules = CommentRules::from_json(&json);
    let rules = rules.with_context(|| format!("--comment-rules-file {}", file.display()))?;
    let by = UserId::parse("settings").context("a user")?;
    let rules = Arc::new(ScopeRules { rules, reason: None, by, at: 0 });
    Ok(RulesInForce { scope: RuleScope::Everywhere, revision: 0, rules })
}

/// The result of checking an accepted comment against the rules.
#[derive(Debug, Default)]
pub(crate) struct RulesOutcome {
    /// The comment's claims under rules of slow mode and repetition; they are removed if the comment is not written to
    /// the log.
    claims: Vec<SpacingClaim>,
    /// The rule by which the comment waits for a moderator; `None` if it does not wait.
    pub(crate) held_by_rule: Option<RuleName>,
}

impl CommentService {
    /// Checks a comment against all rules, and masks parts of `text` if the rules require it.
    ///
    /// # Errors
    /// 403 or 429 with the name of the rule, its scope, and the time of the next try.
    pub(crate) async fn apply_rules(
        &self,
        sent_by: &ForwardedUser,
        user: &UserId,
        video: &VideoId,
        text: &mut String,
    ) -> Result<RulesOutcome, Problem> {
        if sent_by.has_role(ViewerRole::Moderator) {
            return Ok(RulesOutcome::default());
        }
        let rules = self.comment_rules(user, video).await;
        let refused = |problem: Problem, rule: RuleName| {
            self.metrics.count_refusal(rule);
            problem
        };
        let is_member = sent_by.has_role(ViewerRole::Member) || sent_by.has_role(ViewerRole::Service);
        if let Some(of) = rules.iter().find(|of| of.rules.rules.members_only && !is_member) {
            return Err(refused(forbidden_problem(RuleName::MembersOnly, &of.scope), RuleName::MembersOnly));
        }
        let (said, mut claims, mut held) = (text.clone(), Vec::new(), None);
        for of in &rules {
            match self.rules.screen(of).screen_text(text) {
                ScreeningResult::Accepted(masked) => *text = masked,
                ScreeningResult::Held(masked, rule) => {
                    *text = masked;
                    held = held.or(Some(rule));
                }
                ScreeningResult::Refused(rule) => {
                    return Err(refused(forbidden_problem(rule, &of.scope), rule));
                }
            }
            claims.extend(SpacingClaim::claims_of_comment(&of.rules.rules, &of.scope, user, &said));
        }
        if *text != said {
            self.metrics.comments_masked.inc();
        }
        let now = now_ms();
        let taken = lock(&self.rules.spacing)
            .claim_all_or_none(&claims, now)
            .map_err(|(claim, until)| refused(too_soon_problem(claim, until, now), claim.rule));
        taken.map(|()| RulesOutcome { claims, held_by_rule: held })
    }

    /// Asks the hook about a comment, if there is a hook: the comment may get another text, or may have to wait for a
    /// moderator. The hook is not asked about moderators' comments, nor about shadowed ones.
    ///
    /// # Errors
    /// 403, 429 or 503 with `hook` as the name of the rule.
    pub(crate) async fn apply_hook(
        &self,
        sent_by: &ForwardedUser,
        comment: &mut UnnumberedComment,
        held: &mut Option<RuleName>,
    ) -> Result<(), Problem> {
        let Some(hook) = self.hook.as_ref().filter(|_| comment.entry.is_comment()) else { return Ok(()) };
        if sent_by.has_role(ViewerRole::Moderator) {
            return Ok(());
        }
        let judged = hook.decide(comment).await;
        match judged.inspect_err(|_| self.metrics.count_refusal(RuleName::Hook))? {
            CommentTreatment::Accepted(text) if text == comment.text => {}
            CommentTreatment::Accepted(text) => {
                comment.text = text;
                self.metrics.comments_masked.inc();
            }
            CommentTreatment::Held => *held = held.or(Some(RuleName::Hook)),
        }
        Ok(())
    }

    /// Removes the claims of a comment that was not acknowledged, so that the user may send the comment again at once.
    pub(crate) fn release_claims(&self, kept: &RulesOutcome) {
        lock(&self.rules.spacing).release_claims(&kept.claims);
    }

    /// Refuses a comment that would have to wait for a moderator, if too many wait already or the archive cannot tell
    /// how many.
    pub(crate) async fn expect_room_to_wait(&self) -> Result<(), Problem> {
        let count = self.archive.query(COUNT_HELD_TIMEOUT, |archive| async move {
            archive.moderation_archive().count_held_comments().await
        });
        match count.await {
            Ok(count) if count < MAX_HELD_COMMENTS => Ok(()),
            Ok(_) => {
                let detail = "comments here wait for a moderator, and too many wait already: try again later";
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_member("rule", "hold");
                Err(problem.with_retry_after(RETRY_AFTER_TOO_MANY_HELD))
            }
            Err(_) => Err(Problem::part_unavailable(
                "comments here wait for a moderator, and the archive is away: not acknowledged, try again",
            )),
        }
    }

    /// Returns the comment rules of the system and of moderators for `video`; those of the video's owner are left out
    /// if the archive does not say who that is. `user` counts as the owner of a video that has no events yet.
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
        match self.fetch_video_owner(video).await {
            Ok(Some(owner)) => {
                lock(&self.rules.owners).insert(Instant::now(), video.clone(), owner.clone());
                Some(owner)
            }
            // The video has no events yet: this comment makes its user the owner.
            Ok(None) => Some(user.clone()),
            Err(_) => None,
        }
    }
}

fn forbidden_problem(rule: RuleName, scope: &RuleScope) -> Problem {
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
    with_rule(problem, rule, scope).with_member("until", None::<String>)
}

fn too_soon_problem(claim: &SpacingClaim, until: Millis, now: Millis) -> Problem {
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
    with_rule(problem, claim.rule, &claim.scope)
        .with_member("until", comment_json::format_time(until))
        .with_retry_after(Duration::from_secs(seconds))
}

fn with_rule(problem: Problem, rule: RuleName, scope: &RuleScope) -> Problem {
    problem.with_member("rule", rule.name()).with_member("scope", crate::restrictions::scope_name(scope))
}
