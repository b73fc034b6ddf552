//! The hook: an HTTP service of the app's own that is asked before a comment is accepted. This module has the
//! questions and answers, and decides when the hook is not asked for a while; the comment service makes the requests.
//!
//! [`question_body`] writes a batch of comments as JSON, [`parse_answers`] reads the response. A response that does
//! not answer for each comment is refused as a whole.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::comment::{UnnumberedComment, check_text};
use crate::{CommentId, Invalid, Millis};

/// The version of the format in which the hook is asked about comments.
pub const HOOK_VERSION: u64 = 1;
/// The longest reason that a hook may give, in characters: the comment's author is shown it.
pub const MAX_HOOK_REASON_CHARS: usize = 200;

/// The answer of a hook for one comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// The comment is accepted as it is.
    Accept,
    /// The comment is refused; its author is told why.
    Refuse {
        /// The reason, if the hook gave one.
        reason: Option<String>,
    },
    /// The comment waits for a moderator.
    Hold,
    /// The comment is accepted with this text in place of its own.
    Mask {
        /// The text that replaces the comment's own.
        comment: String,
    },
}

/// Returns the JSON body of the request that asks the hook about these comments.
pub fn question_body<'a>(comments: impl IntoIterator<Item = &'a UnnumberedComment>) -> Vec<u8> {
    let ask = |comment: &UnnumberedComment| {
        json!({
            "id": comment.id,
            "videoid": comment.video_id,
            "userid": comment.user_id,
            "comment": comment.text,
            "reply_to": comment.reply_to,
            "timestamp": comment.timestamp,
        })
    };
    let comments: Vec<Value> = comments.into_iter().map(ask).collect();
    let body = json!({ "version": HOOK_VERSION, "comments": comments });
    serde_json::to_vec(&body).expect("text and numbers always serialise")
}

#[derive(Deserialize)]
struct HookAnswers {
    answers: Vec<RawHookAnswer>,
}

/// One answer as it is written in JSON. Further members are ignored, and take no memory.
#[derive(Deserialize)]
struct RawHookAnswer {
    id: CommentId,
    outcome: Outcome,
    reason: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Accept,
    Refuse,
    Hold,
    Mask,
}

impl RawHookAnswer {
    fn into_checked_answer(self) -> Result<(CommentId, HookAnswer), Invalid> {
        let answer = match self.outcome {
            Outcome::Accept => HookAnswer::Accept,
            Outcome::Hold => HookAnswer::Hold,
            Outcome::Refuse => HookAnswer::Refuse { reason: self.reason },
            Outcome::Mask => {
                let comment = self.comment.ok_or_else(|| Invalid::new("comment", "is missing"))?;
                check_text("comment", &comment)?;
                HookAnswer::Mask { comment }
            }
        };
        match &answer {
            HookAnswer::Refuse { reason: Some(reason) } if reason.chars().count() > MAX_HOOK_REASON_CHARS => {
                Err(Invalid::new("reason", format!("must be at most {MAX_HOOK_REASON_CHARS} characters")))
            }
            _ => Ok((self.id, answer)),
        }
    }
}

/// Reads the answers to a question about the comments `asked`.
///
/// # Errors
/// Returns an error for a body that is not JSON, that lacks an answer or has several answers for a comment, or in which
/// an answer is malformed.
pub fn parse_answers(body: &[u8], asked: &[CommentId]) -> Result<HashMap<CommentId, HookAnswer>, Invalid> {
    let read: HookAnswers =
        serde_json::from_slice(body).map_err(|error| Invalid::new("answers", error.to_string()))?;
    let mut answers = HashMap::new();
    for answered in read.answers {
        let (id, answer) = answered.into_checked_answer()?;
        if answers.insert(id.clone(), answer).is_some() {
            return Err(Invalid::new("answers", format!("has several for {id}")));
        }
    }
    match asked.iter().find(|id| !answers.contains_key(*id)) {
        Some(id) => Err(Invalid::new("answers", format!("has none for {id}"))),
        None => Ok(answers),
    }
}

/// The number of failures in a row after which the hook is not asked for a while. Fewer failures do not show that the
/// hook is down.
pub const MAX_FAILURES_IN_A_ROW: u32 = 3;
/// The time for which a failing hook is not asked, in milliseconds.
pub const PAUSE_MS: Millis = 5_000;

/// A circuit breaker for the hook: a failing hook is not asked for a while, so that it seldom slows comments down.
/// After that time, one question tries whether the hook is back.
#[derive(Debug, Default)]
pub struct HookBreaker {
    failures_in_a_row: u32,
    /// The time until which the hook is not asked; `None` while it works.
    paused_until: Option<Millis>,
    /// Whether the one trial question is under way.
    is_trial_under_way: bool,
}

impl HookBreaker {
    /// Whether the hook must not be asked now, because it failed or because a trial question is under way.
    pub fn is_open(&self, now: Millis) -> bool {
        self.paused_until.is_some_and(|until| now < until || self.is_trial_under_way)
    }

    /// Whether the hook is taken to be down, because its last [`MAX_FAILURES_IN_A_ROW`] questions or more have failed.
    pub const fn is_down(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Returns whether a question may be asked now; the first one after a pause is the trial question. After a
    /// question, [`Self::note_answer`] or [`Self::note_failure`] must be called.
    pub fn may_ask(&mut self, now: Millis) -> bool {
        let admits = !self.is_open(now);
        self.is_trial_under_way |= admits && self.is_down();
        admits
    }

    /// Notes that a question was answered.
    pub const fn note_answer(&mut self) {
        *self = Self { failures_in_a_row: 0, paused_until: None, is_trial_under_way: false };
    }

    /// Notes that a question was not answered.
    pub fn note_failure(&mut self, now: Millis) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.is_trial_under_way = false;
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW {
            self.paused_until = Some(now + PAUSE_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(ids: &[&str]) -> Vec<CommentId> {
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    #[test]
    fn each_comment_has_its_answer() {
        let body = json!({"answers": [
            {"id": "a", "outcome": "accept", "score": 0.1},
            {"id": "b", "outcome": "refuse", "reason": "no ads here"},
            {"id": "c", "outcome": "hold"},
            {"id": "d", "outcome": "mask", "comment": "****"},
            {"id": "e", "outcome": "refuse"},
        ]});
        let answers = parse_answers(body.to_string().as_bytes(), &ids(&["a", "b", "c", "d", "e"])).unwrap();
        let of = |id: &str| answers[id].clone();
        assert_eq!(of("a"), HookAnswer::Accept);
        assert_eq!(of("b"), HookAnswer::Refuse { reason: Some("no ads here".into()) });
        assert_eq!(of("c"), HookAnswer::Hold);
        assert_eq!(of("d"), HookAnswer::Mask { comment: "****".into() });
        assert_eq!(of("e"), HookAnswer::Refuse { reason: None });
    }

    #[test]
    fn an_answer_that_is_not_whole_is_none() {
        let one = |answer: Value| json!({ "answers": [answer] }).to_string();
        for body in [
            String::new(),
            "[]".into(),
            "{}".into(),
            json!({"answers": []}).to_string(),
            one(json!({"id": "a"})),
            one(json!({"id": "a", "outcome": "praise"})),
            one(json!({"outcome": "accept"})),
            one(json!({"id": "b", "outcome": "accept"})),
            one(json!({"id": "a", "outcome": "mask"})),
            one(json!({"id": "a", "outcome": "mask", "comment": ""})),
            one(json!({"id": "a", "outcome": "mask", "comment": "x".repeat(4097)})),
            one(json!({"id": "a", "outcome": "refuse", "reason": "x".repeat(201)})),
            json!({"answers": [{"id": "a", "outcome": "accept"}, {"id": "a", "outcome": "hold"}]})
                .to_string(),
        ] {
            assert!(parse_answers(body.as_bytes(), &ids(&["a"])).is_err(), "{body}");
        }
    }

    #[test]
    fn after_some_failures_it_is_left_alone_and_tried_by_one() {
        let mut breaker = HookBreaker::default();
        for _ in 1..MAX_FAILURES_IN_A_ROW {
            assert!(breaker.may_ask(0));
            breaker.note_failure(0);
        }
        assert!(breaker.may_ask(0) && !breaker.is_down());
        breaker.note_failure(0);
        assert!(breaker.is_down() && !breaker.may_ask(PAUSE_MS - 1));
        assert!(breaker.may_ask(PAUSE_MS), "one tries");
        assert!(!breaker.may_ask(PAUSE_MS), "and no other meanwhile");
        breaker.note_failure(PAUSE_MS);
        assert!(!breaker.may_ask(2 * PAUSE_MS - 1), "a failure of that one is enough");
        assert!(breaker.may_ask(2 * PAUSE_MS));
        breaker.note_answer();
        assert!(!breaker.is_down() && breaker.may_ask(2 * PAUSE_MS) && breaker.may_ask(2 * PAUSE_MS));
    }

    proptest! {
        /// No response makes the reader panic, and a response that is accepted answers each question.
        #[test]
        fn no_answer_makes_it_panic(body in prop_oneof!["\\PC{0,60}", r#"\{"answers":\[\{"id":"a","outcome":"(accept|hold|refuse|mask)"\}\]\}"#]) {
            if let Ok(answers) = parse_answers(body.as_bytes(), &ids(&["a"])) {
                prop_assert!(answers.contains_key(&ids(&["a"])[0]));
            }
        }
    }
}
