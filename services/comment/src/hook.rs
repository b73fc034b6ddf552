//! The hook: an HTTP service of your own that is asked before a comment is accepted.
//!
//! | module | does |
//! |---|---|
//! | this one | asks the hook about a comment, and decides what happens if the hook does not answer |
//! | `batches` | asks about many comments in one request, a few requests at a time |
//! | `client` | sends one request, signed, and reads the answer |
//! | `key` | the keys that requests are signed with |
//! | `shares` | limits how many comments of one user and of one video may wait |
//!
//! The request and the answer are defined in `liverank_core::moderation::hook`. A comment gets its answer within twice
//! the configured timeout: it waits at most one timeout for its turn, and the hook may take another. "The hook is away"
//! and "too many comments wait" are separate outcomes: a flood of comments must not trigger the behaviour that is
//! configured for an unavailable hook.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use axum::http::StatusCode;
use liverank_core::comment::UnnumberedComment;
use liverank_core::moderation::hook::{HookAnswer, HookBreaker};
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
use liverank_runtime::{Problem, Tasks, now_ms};
use reqwest::Url;
use tokio::sync::{mpsc, oneshot};

mod batches;
mod client;
mod key;
pub(crate) mod metrics;
mod shares;

use batches::HookBatcher;
use client::HookClient;
use metrics::HookMetrics;
use shares::{WaitingLimits, WaitingPermit};

use crate::post::is_visible;

/// The maximum number of comments that wait for their turn: some sixteen requests. More comments than these would not
/// be answered in time.
const MAX_WAITING_COMMENTS: usize = 1_024;
/// The time added to twice the configured timeout, for delays of this process.
const SLACK: Duration = Duration::from_millis(250);

/// The configured treatment of comments while the hook fails or does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HookFailureAction {
    /// Accept the comments.
    Accept,
    /// Hold the comments until a moderator decides.
    #[default]
    Hold,
    /// Refuse the comments; clients may send them again.
    Refuse,
}

/// The settings of the hook.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "The hook")]
pub struct HookArgs {
    /// URL of the hook: an HTTP service of your own that is asked before a comment is taken (docs/moderation.md). http
    /// or https.
    #[arg(long, env = "LIVERANK_COMMENT_HOOK_URL", value_name = "URL")]
    pub comment_hook_url: Option<Url>,
    /// A file with the key that requests to the hook are signed with: `whsec_` and 24 to 64 bytes in base64.
    ///
    /// A second line may have a second key: requests are signed with both while they are changed. It is read again when it changes.
    #[arg(long, env = "LIVERANK_COMMENT_HOOK_KEY_FILE", value_name = "FILE")]
    pub comment_hook_key_file: Option<PathBuf>,
    /// The time that the hook may take. A comment waits for it twice as long at most.
    #[arg(long, env = "LIVERANK_COMMENT_HOOK_TIMEOUT_MS", value_name = "DURATION", default_value = "500ms",
          value_parser = parser_in_unit::<u16>(SettingUnit::Millis, 50, 2_000))]
    pub comment_hook_timeout_ms: u16,
    /// What happens to comments while the hook is away.
    #[arg(long, env = "LIVERANK_COMMENT_HOOK_WHEN_AWAY", value_enum, default_value_t = HookFailureAction::Hold)]
    pub comment_hook_when_away: HookFailureAction,
}

impl Default for HookArgs {
    /// Returns the settings without a hook.
    fn default() -> Self {
        Self {
            comment_hook_url: None,
            comment_hook_key_file: None,
            comment_hook_timeout_ms: 500,
            comment_hook_when_away: HookFailureAction::default(),
        }
    }
}

impl HookArgs {
    /// Checks that the settings are consistent.
    ///
    /// # Errors
    /// Returns an error that names the settings that contradict each other.
    pub fn check(&self) -> anyhow::Result<()> {
        self.url_and_key_file().map(drop)
    }

    /// Returns the hook's URL and the file with its key; `None` if no hook is set.
    fn url_and_key_file(&self) -> anyhow::Result<Option<(&Url, &Path)>> {
        let (url, key) = match (&self.comment_hook_url, &self.comment_hook_key_file) {
            (None, None) => return Ok(None),
            (Some(url), Some(key)) => (url, key),
            _ => bail!("--comment-hook-url and --comment-hook-key-file go together"),
        };
        ensure!(
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none(),
            "--comment-hook-url must be http or https, and must name no user: requests are signed"
        );
        Ok(Some((url, key)))
    }
}

/// The outcome of asking the hook about a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HookVerdict {
    /// The hook decided.
    Answer(HookAnswer),
    /// There is no decision, because the hook fails or does not answer.
    Unavailable,
    /// There is no decision, because too many comments wait for the hook.
    Busy,
}

/// A comment that waits for the hook's decision.
struct PendingComment {
    comment: UnnumberedComment,
    waiting_since: Instant,
    answer: oneshot::Sender<HookVerdict>,
    /// Held until the comment is answered, whether or not somebody still waits for the answer.
    _permit: WaitingPermit,
}

/// The treatment of a comment after the hook was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommentTreatment {
    /// The comment is accepted with this text.
    Accepted(String),
    /// The comment waits for a moderator.
    Held,
}

/// A handle for asking the hook about comments.
pub(crate) struct Hook {
    pending_comments: mpsc::Sender<PendingComment>,
    waiting_limits: WaitingLimits,
    breaker: Arc<Mutex<HookBreaker>>,
    when_away: HookFailureAction,
    answer_timeout: Duration,
    metrics: HookMetrics,
}

fn lock(breaker: &Mutex<HookBreaker>) -> std::sync::MutexGuard<'_, HookBreaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hook {
    /// Starts the task that sends the requests to the hook; returns `None` if no hook is set.
    ///
    /// # Errors
    /// Fails if the settings contradict each other, or the key cannot be read.
    pub(crate) fn start(
        args: &HookArgs,
        metrics: HookMetrics,
        tasks: &mut Tasks,
    ) -> anyhow::Result<Option<Self>> {
        let Some((url, key)) = args.url_and_key_file()? else { return Ok(None) };
        let timeout = Duration::from_millis(args.comment_hook_timeout_ms.into());
        let client = HookClient::new(url, key).context("--comment-hook-key-file")?;
        let breaker = Arc::<Mutex<HookBreaker>>::default();
        let (pending_comments, waiting) = mpsc::channel(MAX_WAITING_COMMENTS);
        let asker = HookBatcher { client, timeout, breaker: Arc::clone(&breaker), metrics: metrics.clone() };
        tasks.spawn("ask_hook", async move { asker.run(waiting).await });
        let (when_away, answer_timeout) = (args.comment_hook_when_away, 2 * timeout + SLACK);
        Ok(Some(Self {
            pending_comments,
            waiting_limits: WaitingLimits::default(),
            breaker,
            when_away,
            answer_timeout,
            metrics,
        }))
    }

    /// Asks the hook about a comment. Returns the text to accept, or that the comment waits for a moderator.
    ///
    /// # Errors
    /// 403 if the hook refuses the comment, 503 if the hook fails and the settings refuse comments then, 429 if too
    /// many comments wait for the hook.
    pub(crate) async fn decide(&self, comment: &UnnumberedComment) -> Result<CommentTreatment, Problem> {
        let said = self.queue_and_wait(comment.clone()).await;
        self.metrics.count_outcome(&said);
        match said {
            HookVerdict::Answer(HookAnswer::Accept) => Ok(CommentTreatment::Accepted(comment.text.clone())),
            // A comment whose masked text has no visible character is refused.
            HookVerdict::Answer(HookAnswer::Mask { comment }) if !is_visible(&comment) => {
                Err(refusal_problem(None))
            }
            HookVerdict::Answer(HookAnswer::Mask { comment }) => Ok(CommentTreatment::Accepted(comment)),
            HookVerdict::Answer(HookAnswer::Hold) => Ok(CommentTreatment::Held),
            HookVerdict::Answer(HookAnswer::Refuse { reason }) => Err(refusal_problem(reason)),
            HookVerdict::Unavailable => match self.when_away {
                HookFailureAction::Accept => Ok(CommentTreatment::Accepted(comment.text.clone())),
                HookFailureAction::Hold => Ok(CommentTreatment::Held),
                HookFailureAction::Refuse => Err(with_rule_hook(Problem::part_unavailable(
                    "comments are judged before they are taken, and what judges them is away: not acknowledged, try again",
                ))),
            },
            HookVerdict::Busy => {
                let detail = "too many comments wait to be judged: not acknowledged, try again";
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
                Err(with_rule_hook(problem.with_retry_after(liverank_runtime::problem::STORE_RETRY_AFTER)))
            }
        }
    }

    async fn queue_and_wait(&self, comment: UnnumberedComment) -> HookVerdict {
        if lock(&self.breaker).is_open(now_ms()) {
            return HookVerdict::Unavailable;
        }
        let Some(place) = self.waiting_limits.acquire(&comment) else { return HookVerdict::Busy };
        let (answer, said) = oneshot::channel();
        let question = PendingComment { comment, waiting_since: Instant::now(), answer, _permit: place };
        if self.pending_comments.try_send(question).is_err() {
            return HookVerdict::Busy;
        }
        match tokio::time::timeout(self.answer_timeout, said).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) | Err(_) => HookVerdict::Busy,
        }
    }
}

fn refusal_problem(reason: Option<String>) -> Problem {
    let detail = reason.unwrap_or_else(|| "the comment is of a kind that is not allowed".to_owned());
    with_rule_hook(Problem::new(StatusCode::FORBIDDEN, detail)).with_member("until", None::<String>)
}

fn with_rule_hook(problem: Problem) -> Problem {
    problem.with_member("rule", "hook")
}
