//! `POST /comment`: writes one comment to the log, and acknowledges it once the log has it durably.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use liverank_adapters::event_log::AppendError;
use liverank_core::comment::{
    EntryKind, UnnumberedComment, check_text, comment_id_of_key, random_comment_id,
};
use liverank_core::event::{CommentBody, optional_text, required_text};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, RuleName};
use liverank_core::{CommentId, EventId, Interaction, Invalid, Kind, Millis, UserId, VideoId, canary, ids};
use liverank_runtime::body::JsonObject;
use liverank_runtime::identity::sent::ForwardedUser;
use liverank_runtime::params::QueryParams;
use liverank_runtime::{Problem, comment_json, now_ms, traces};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::CommentService;

/// The time that an append to the log may take in all. The log's adapter gives up earlier; this limit holds whatever
/// the adapter does.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the archive may take to look up whether a comment was posted before. A quick answer matters more,
/// because the archive stores a repeated id only once in any case.
const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(300);
/// The time that the archive may take to find the comment that is replied to: a reply is not accepted without it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for which an idempotency key is valid, in ms: as long as the archive keeps ids.
const IDEMPOTENCY_KEY_VALID_MS: Millis = 24 * 60 * 60 * 1000;

/// Characters that Unicode does not count as white space but that are not visible: zero-width ones, the word joiner,
/// the byte order mark, Hangul fillers, the blank Braille pattern.
const INVISIBLE: [char; 9] = [
    '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{115f}', '\u{1160}', '\u{3164}',
    '\u{2800}',
];

/// Whether a text has a visible character.
pub(crate) fn is_visible(text: &str) -> bool {
    !text.chars().all(|c| c.is_whitespace() || c.is_control() || INVISIBLE.contains(&c))
}

/// A comment that a client posts.
#[derive(Debug, PartialEq, Eq)]
pub struct CommentDraft {
    user: UserId,
    video: VideoId,
    text: String,
    idempotency_key: Option<String>,
    reply_to: Option<CommentId>,
}

impl CommentDraft {
    /// Parses the body of a post.
    ///
    /// # Errors
    /// Names the field that is invalid.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let user = UserId::parse_field("userid", required_text(body, "userid")?)?;
        canary::refuse_canary_user("userid", user.as_str())?;
        let video = canary::parse_outside_id("videoid", required_text(body, "videoid")?)?;
        let text = required_text(body, "comment")?;
        check_text("comment", text)?;
        // Checked only here: logs already hold comments without a visible character, which are read as they are.
        if !is_visible(text) {
            return Err(Invalid::new("comment", "must have a visible character"));
        }
        let key = optional_text(body, "idempotency_key")?;
        if let Some(key) = key {
            ids::check_id("idempotency_key", key)?;
        }
        let reply_to = optional_text(body, "reply_to")?;
        let reply_to = reply_to.map(|id| CommentId::parse_field("reply_to", id)).transpose()?;
        Ok(Self { user, video, text: text.to_owned(), idempotency_key: key.map(str::to_owned), reply_to })
    }

    fn into_comment(self, id: CommentId, now: Millis, entry: EntryKind) -> UnnumberedComment {
        UnnumberedComment {
            id,
            user_id: self.user,
            video_id: self.video,
            text: self.text,
            timestamp: now,
            reply_to: self.reply_to,
            entry,
        }
    }
}

/// `POST /comment`.
pub(crate) async fn comment(
    State(service): State<Arc<CommentService>>,
    sent_by: ForwardedUser,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), Problem> {
    params.expect_only(&[])?;
    let mut draft = CommentDraft::parse(&body)?;
    sent_by.check_may_post_as("userid", &draft.user)?;
    let id = match &draft.idempotency_key {
        None => random_comment_id(rand::random()),
        Some(key) => {
            let id = comment_id_of_key(&draft.user, &draft.video, key);
            if let Some(first) = service.find_earlier_post(&draft.video, &id).await {
                if !first.entry.has_text() {
                    let detail = "this comment was posted with this key, and was deleted since";
                    return Err(Problem::new(StatusCode::GONE, detail).with_member("rule", "deleted"));
                }
                service.metrics.posts_repeated.inc();
                return Ok(created_answer(&first));
            }
            if let Some(first) = service.find_held_post(&draft.video, &id).await {
                service.metrics.posts_repeated.inc();
                return Ok(held_answer(&first));
            }
            id
        }
    };
    let entry = service.expect_allowed(&draft.user, &draft.video).await?;
    if let Some(reply_to) = &draft.reply_to {
        service.check_reply_target(&draft.user, &draft.video, reply_to).await?;
    }
    let kept = service.apply_rules(&sent_by, &draft.user, &draft.video, &mut draft.text).await?;
    let keyed = draft.idempotency_key.is_some();
    let mut comment = draft.into_comment(id, now_ms(), entry);
    // A shadowed comment is shown to its author only, so a moderator need not look at it.
    let mut held = kept.held_by_rule.filter(|_| comment.entry.is_comment());
    let judged = service.apply_hook(&sent_by, &mut comment, &mut held).await;
    judged.inspect_err(|_| service.release_claims(&kept))?;
    let written = service.write_comment(&comment, held).await;
    written.inspect_err(|_| service.release_claims(&kept))?;
    if held.is_some() {
        service.metrics.comments_held.inc();
        return Ok(held_answer(&comment));
    }
    service.note_acknowledged(&comment, keyed);
    Ok(created_answer(&comment))
}

/// Returns the answer to the author of a comment that waits for a moderator.
fn held_answer(comment: &UnnumberedComment) -> (StatusCode, Json<Value>) {
    let body = json!({"success": true, "held": true, "comment": comment_json::without_seq(comment)});
    (StatusCode::ACCEPTED, Json(body))
}

fn created_answer(comment: &UnnumberedComment) -> (StatusCode, Json<Value>) {
    let body = json!({"success": true, "comment": comment_json::without_seq(comment)});
    (StatusCode::CREATED, Json(body))
}

impl CommentService {
    /// Returns the comment of an earlier post with the same idempotency key, if it is found in a short time.
    async fn find_earlier_post(&self, video: &VideoId, id: &CommentId) -> Option<UnnumberedComment> {
        let now = Instant::now();
        if let Some(comment) = self.acknowledged().get(now, id) {
            return Some(comment.clone());
        }
        let archived = self
            .archive
            .query(LOOK_UP_TIMEOUT, |archive| async move { archive.newest_comment(video, id).await });
        let archived = archived.await.ok().flatten().map(UnnumberedComment::from);
        archived.filter(|comment| now_ms() - comment.timestamp < IDEMPOTENCY_KEY_VALID_MS)
    }

    /// Returns the comment of an earlier post with the same idempotency key, if it waits for a moderator.
    async fn find_held_post(&self, video: &VideoId, id: &CommentId) -> Option<UnnumberedComment> {
        let asked = self.archive.query(LOOK_UP_TIMEOUT, |archive| async move {
            archive.moderation_archive().held_comment(video, id).await
        });
        let held = asked.await.ok().flatten()?;
        Some(UnnumberedComment {
            id: held.id,
            user_id: held.user,
            video_id: held.video,
            text: held.text,
            timestamp: held.timestamp,
            reply_to: held.reply_to,
            entry: EntryKind::Comment,
        })
    }

    /// Writes a comment into the log: as a public comment, as one that the rule `held` makes wait for a moderator, or
    /// as one that only its author is shown.
    async fn write_comment(
        &self,
        comment: &UnnumberedComment,
        held: Option<RuleName>,
    ) -> Result<(), Problem> {
        let (id, text, reply_to) = (comment.id.clone(), comment.text.clone(), comment.reply_to.clone());
        let record = if let Some(rule) = held {
            self.expect_room_to_wait().await?;
            hidden_record(comment, ModerationAction::Hold { comment_id: id, text, reply_to, rule })?
        } else if comment.entry == EntryKind::Shadowed {
            hidden_record(comment, ModerationAction::Shadow { comment_id: id, text, reply_to })?
        } else {
            public_record(comment)
        };
        self.append(&record).await
    }

    /// Checks that a reply's target is a comment under this video that the user is shown. A comment is in the archive
    /// before any viewer sees it.
    async fn check_reply_target(
        &self,
        user: &UserId,
        video: &VideoId,
        id: &CommentId,
    ) -> Result<(), Problem> {
        let is_shown = |it: &UnnumberedComment| it.video_id == *video && it.is_shown_to(Some(user));
        let here = self.acknowledged().get(Instant::now(), id).is_some_and(is_shown);
        if here {
            return Ok(());
        }
        let archived = self
            .archive
            .query(REPLY_TIMEOUT, |archive| async move { archive.newest_comment(video, id).await });
        match archived.await {
            Ok(Some(found)) if found.is_shown_to(Some(user)) => Ok(()),
            Ok(_) => Err(Invalid::new("reply_to", "must be the id of a comment under the same video").into()),
            Err(_) => Err(Problem::part_unavailable(
                "the archive is away, which knows the comment that is replied to: not acknowledged, try again",
            )),
        }
    }

    /// Appends a record to the log and returns once the log has it durably.
    async fn append(&self, record: &Interaction) -> Result<(), Problem> {
        let started = Instant::now();
        let key = record.video_id.as_str().as_bytes();
        let append = self.log.append_traced(key, record.to_json(), traces::current_context());
        match timeout(APPEND_TIMEOUT, append).await {
            Ok(Ok(_)) => {
                self.metrics
                    .append_seconds
                    .observe(started.elapsed().as_secs_f64(), traces::current_context());
                Ok(())
            }
            Ok(Err(too_large @ AppendError::TooLarge { .. })) => {
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, too_large.to_string()))
            }
            Ok(Err(AppendError::Unavailable(_))) | Err(_) => {
                self.metrics.posts_unavailable.inc();
                Err(Problem::part_unavailable("the log is away: not acknowledged, try again"))
            }
        }
    }

    /// Counts and remembers a comment that was just acknowledged, and registers its video in the background.
    fn note_acknowledged(&self, comment: &UnnumberedComment, keyed: bool) {
        self.metrics.comments_acknowledged.inc();
        if comment.entry == EntryKind::Shadowed {
            self.metrics.comments_shadowed.inc();
        }
        self.lock_tally().count_comment(&comment.video_id);
        if keyed {
            self.acknowledged().insert(Instant::now(), comment.id.clone(), comment.clone());
        }
        self.registrar.register_soon(&comment.video_id);
    }
}

/// Returns the log record of a comment that everybody may see.
fn public_record(comment: &UnnumberedComment) -> Interaction {
    Interaction {
        video_id: comment.video_id.clone(),
        user_id: comment.user_id.clone(),
        kind: Kind::Comment,
        watch_ms: 0,
        timestamp: comment.timestamp,
        event_id: None,
        owner_id: None,
        comment: Some(CommentBody {
            comment_id: comment.id.clone(),
            text: comment.text.clone(),
            reply_to: comment.reply_to.clone(),
        }),
        moderation: None,
    }
}

/// Returns the log record of a comment that only its author sees, for good or until a moderator has decided.
fn hidden_record(comment: &UnnumberedComment, action: ModerationAction) -> Result<Interaction, Invalid> {
    let (user, video) = (comment.user_id.clone(), comment.video_id.clone());
    let id = EventId::parse(comment.id.as_str())?;
    let moderation = Moderation { action, role: ActorRole::Author, reason: None };
    Ok(moderation.into_record(user, Some(video), id, comment.timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(value: Value) -> Result<CommentDraft, Invalid> {
        match value {
            Value::Object(object) => CommentDraft::parse(&object),
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let good = json!({"userid": "u", "videoid": "v", "comment": "c"});
        assert!(draft(good.clone()).is_ok());
        let cases = [
            ("userid", json!(null)),
            ("userid", json!("u".repeat(257))),
            ("videoid", json!(5)),
            ("videoid", json!("a\nb")),
            ("comment", json!("")),
            ("comment", json!(" \t\n\u{a0}\u{3000}")),
            ("comment", json!("\u{200b} \u{feff}")),
            ("comment", json!("c".repeat(4097))),
            ("comment", json!(["c"])),
            ("idempotency_key", json!("")),
            ("idempotency_key", json!(1)),
            ("idempotency_key", json!("k".repeat(257))),
            ("idempotency_key", json!("k\u{7}")),
            ("reply_to", json!(5)),
            ("reply_to", json!("")),
            ("reply_to", json!("c".repeat(257))),
        ];
        for (field, value) in cases {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert_eq!(draft(bad).unwrap_err().field, field, "{value}");
        }
    }

    #[test]
    fn a_null_key_is_none() {
        let read = draft(json!({"userid": "u", "videoid": "v", "comment": "c", "idempotency_key": null}));
        assert_eq!(read.unwrap().idempotency_key, None);
    }
}
