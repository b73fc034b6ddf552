//! Moderation: what moderators and authors do about comments and users, as records of the one log.
//!
//! A record is an [`Interaction`] of [`Kind::Moderation`]. It counts for nothing. What it does follows from the log
//! alone, so a rebuild does it again:
//!
//! - [`Action::Delete`] is a record of the comment's video, so it comes after the comment. It takes the next number of
//!   the video's channel whether or not the comment is known. So the numbers of a video never depend on what is stored.
//! - [`Action::Pin`] takes a number in the same way; the last one of a video is in force. [`Action::Shadow`] takes one, too:
//!   it is a comment that counts for nothing, and that its author alone is shown.
//! - [`Action::Hold`] takes no number: the comment waits beside the channel. Who releases it writes the record of an ordinary
//!   comment, which is numbered and counted as any, and then [`Action::Review`], which ends the waiting.
//! - [`Action::Erase`] takes a number as a deletion does, and leaves no name either. It names the user by a digest, and what to
//!   remove by its place: [`erasure`] says why.
//! - [`Action::PutVideo`] and [`Action::RemoveVideo`] are records of their video, in one order with what happens to it.
//! - [`Action::Report`] takes no number: a viewer says that something is wrong with a comment. [`reports`] says how often that
//!   counts. [`Action::CloseReports`] is what a moderator decides; the comment's removal ends its reports, too.
//! - Actions on users belong to no video. All of them have the key [`KEY`], so they lie on one partition, in one order.
//!   Each changes one [`Rule`], under a revision that grows by one; comment services and gateways ask for what changed since.
//! - [`Action::SetRules`] is of the same kind: it changes the [`CommentRules`] of a place. What they say of a text is in
//!   [`screening`], how it is compared in [`folding`], and what must keep a distance in time in [`spacing`].
//!
//! Who may do what is decided at the gateway, by the caller's token. A deletion by an author is checked again where it
//! is applied: it removes the author's own comment, and no other. So is what an owner says of a video.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::{EnumCount, VariantArray};

use crate::comment::check_text;
use crate::event::{CommentBody, required_text};
use crate::unknown::MaybeUnknown;
use crate::{CommentId, EventId, Interaction, Invalid, Kind, Metadata, Millis, UserId, VideoId, canary};

pub mod comment_rules;
pub mod erasure;
pub mod folding;
pub mod hook;
pub mod reports;
pub mod revocations;
mod rules;
pub mod screening;
pub mod spacing;
mod version;

pub use comment_rules::CommentRules;
pub use erasure::Digest;
pub use reports::{ReportOutcome, ReportReason, ReportedComment};
pub use revocations::Revocations;
pub use rules::{Changed, Refusal, Rule, RuleBook, RuleChange, RulesInForce, ScopeRules, scope_holds};
pub use screening::RuleName;
pub(crate) use version::VERSION;

/// The key and `video_id` of records that belong to no video. No video has this name: the log's reader takes it for
/// moderation only.
pub const KEY: &str = "liverank:moderation";

/// The longest reason, in characters: a sentence or two.
pub const MAX_REASON_CHARS: usize = 500;

/// What somebody who moderates is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorRole {
    /// Wrote the comment.
    Author,
    /// Has the role `moderator`.
    Moderator,
    /// A service of the app, with the role `service`.
    Service,
    /// Owns the video.
    Owner,
    /// Watches.
    Viewer,
}

/// What is refused to a user.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, EnumCount, VariantArray,
)]
#[serde(rename_all = "snake_case")]
pub enum Restriction {
    /// Its comments are refused: it misbehaved, and is to notice.
    Ban,
    /// Its comments are refused: it is to be quiet for a while.
    Mute,
    /// Its comments are taken, and shown to itself alone: it is not to notice.
    Shadow,
    /// Its tokens that were issued until then are good no more. Of no matter for comments.
    Tokens,
    /// The token of this name (`jti`), which stands where others have the user, is good no more.
    Token,
}

impl ActorRole {
    /// Its name in records and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::Moderator => "moderator",
            Self::Service => "service",
            Self::Owner => "owner",
            Self::Viewer => "viewer",
        }
    }
}

impl Restriction {
    /// Those that are about comments.
    pub const OF_COMMENTS: [Self; 3] = [Self::Ban, Self::Mute, Self::Shadow];
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Whether it is about comments, not about tokens.
    pub const fn is_of_comments(self) -> bool {
        matches!(self, Self::Ban | Self::Mute | Self::Shadow)
    }

    /// Its name in requests, records and problems.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Mute => "mute",
            Self::Shadow => "shadow",
            Self::Tokens => "tokens",
            Self::Token => "token",
        }
    }

    /// Reads the name of one that is about comments.
    ///
    /// # Errors
    /// Another name, as the error of the field `kind`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let found = Self::OF_COMMENTS.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| Invalid::new("kind", "must be ban, mute or shadow"))
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where something is in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// On every video.
    Everywhere,
    /// On the videos of an owner.
    Owner(UserId),
    /// On one video.
    Video(VideoId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("everywhere"),
            Self::Owner(owner) => write!(f, "on the videos of {owner}"),
            Self::Video(video) => write!(f, "on the video {video}"),
        }
    }
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Removes a comment of the record's video.
    Delete {
        /// The comment.
        comment_id: CommentId,
    },
    /// Pins a comment of the record's video, in the place of the one that was; or none.
    Pin {
        /// The comment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment_id: Option<CommentId>,
    },
    /// A comment of a user who is shadow-banned on the record's video. No moderator's doing: the comment service writes it.
    Shadow {
        /// Its identity.
        comment_id: CommentId,
        /// Its text.
        text: String,
        /// The comment under the same video that it replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<CommentId>,
    },
    /// A comment that waits for a moderator. No moderator's doing: the comment service writes it. It has no number and no
    /// place in its video's channel.
    Hold {
        /// Its identity.
        comment_id: CommentId,
        /// Its text.
        text: String,
        /// The comment under the same video that it replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<CommentId>,
        /// By which rule it waits.
        rule: RuleName,
    },
    /// Ends the waiting of a comment. One that is released is in the log before this, as any comment.
    Review {
        /// The comment.
        comment_id: CommentId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Says that something is wrong with a comment of the record's video. It counts once for a user; the record's reason is
    /// what that user says beside it.
    Report {
        /// The comment.
        comment_id: CommentId,
        /// What is wrong.
        why: ReportReason,
    },
    /// Ends the reports of a comment of the record's video.
    CloseReports {
        /// The comment.
        comment_id: CommentId,
        /// What was decided.
        outcome: ReportOutcome,
    },
    /// Removes name and text of a report by a user who is erased.
    EraseReport {
        /// The comment that was reported.
        comment_id: CommentId,
        /// Who is erased: others' reports stay.
        user: Digest,
    },
    /// Says what the record's video is, in place of all that was said before; and puts it on the boards, also where it was
    /// removed. An owner does not put back what others removed.
    PutVideo {
        /// What it is.
        metadata: Metadata,
        /// Its owner. Passed over where the owner was given before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner_id: Option<UserId>,
    },
    /// Takes the record's video off all boards, until [`Action::PutVideo`]. Interactions with it are counted meanwhile, and do not
    /// bring it back.
    RemoveVideo,
    /// Refuses something to a user, until a time or without an end. A later one of the same kind and scope replaces it.
    Restrict {
        /// The user.
        userid: UserId,
        /// What is refused.
        kind: Restriction,
        /// Where.
        scope: Scope,
        /// Until when, in milliseconds since the Unix epoch; absent: it does not end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Millis>,
    },
    /// Ends a restriction.
    Lift {
        /// The user.
        userid: UserId,
        /// What was refused.
        kind: Restriction,
        /// Where.
        scope: Scope,
    },
    /// Removes one entry of a user who is erased from the record's video, and its author's name; or a comment that waits.
    Erase {
        /// The entry.
        comment_id: CommentId,
        /// Its number, where it has one. Where the comments were numbered anew since, the newest entry of this id is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// Who is erased: others' entries stay.
        user: Digest,
    },
    /// Forgets that a user who is erased owns the record's video, and what counted once for that user there.
    Forget {
        /// Who is erased: another owner stays.
        user: Digest,
        /// The keys of the marks, at most [`erasure::MAX_MARKS`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marks: Vec<Digest>,
    },
    /// Says in the audit log that a user is erased. What is done about it are the records of [`Action::Erase`] and
    /// [`Action::Forget`] that follow.
    EraseUser {
        /// Who is erased.
        user: Digest,
    },
    /// Says what comments in a place must be like. Later ones of the same place replace them.
    SetRules {
        /// Where.
        scope: Scope,
        /// The rules; absent: there are none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rules: Option<CommentRules>,
    },
}

impl Action {
    /// Whether it is about the record's video: the others are about users, and their records belong to no video.
    pub const fn is_on_a_video(&self) -> bool {
        match self {
            Self::Delete { .. }
            | Self::Pin { .. }
            | Self::Shadow { .. }
            | Self::Hold { .. }
            | Self::Review { .. }
            | Self::Report { .. }
            | Self::CloseReports { .. }
            | Self::EraseReport { .. }
            | Self::PutVideo { .. }
            | Self::RemoveVideo
            | Self::Erase { .. }
            | Self::Forget { .. } => true,
            Self::Restrict { .. } | Self::Lift { .. } | Self::SetRules { .. } | Self::EraseUser { .. } => {
                false
            }
        }
    }
}

/// What became of a comment that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Others are shown it.
    Release,
    /// Nobody is shown it.
    Reject,
}

/// A comment that waits for a moderator, or what ended that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldChange {
    /// Its video.
    pub video: VideoId,
    /// The comment.
    pub id: CommentId,
    /// The comment while it waits; absent: it waits no more.
    pub held: Option<HeldComment>,
}

/// A comment that waits for a moderator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldComment {
    /// Its identity.
    pub id: CommentId,
    /// Its video.
    pub video: VideoId,
    /// Who wrote it.
    pub user: UserId,
    /// What it says.
    pub text: String,
    /// The comment under the same video that it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<CommentId>,
    /// When it was posted, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// By which rule it waits. One that a later release has added is shown by its name.
    pub rule: MaybeUnknown<RuleName>,
    /// Where it stands among those that wait: when the log took it, its partition and its offset there.
    pub place: (Millis, u32, u64),
}

impl HeldComment {
    /// The record of the comment once it is released at `now`: that of any comment.
    pub fn released(&self, now: Millis) -> Interaction {
        Interaction {
            video_id: self.video.clone(),
            user_id: self.user.clone(),
            kind: Kind::Comment,
            watch_ms: 0,
            timestamp: now,
            event_id: None,
            owner_id: None,
            comment: Some(CommentBody {
                comment_id: self.id.clone(),
                text: self.text.clone(),
                reply_to: self.reply_to.clone(),
            }),
            moderation: None,
        }
    }
}

/// What a moderation record says beside who, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moderation {
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// What the one who does it is.
    pub role: ActorRole,
    /// Why, in that one's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Checks a reason: at most [`MAX_REASON_CHARS`] characters.
///
/// # Errors
/// A longer one, as the error of the field `reason`.
pub fn check_reason(reason: &str) -> Result<(), Invalid> {
    let chars = reason.chars().count();
    if chars > MAX_REASON_CHARS {
        let wrong = format!("must be at most {MAX_REASON_CHARS} characters, is {chars}");
        return Err(Invalid::new("reason", wrong));
    }
    Ok(())
}

impl Moderation {
    /// The record of this, done by `user` at `now`; `video` is the comment's, and none for an action on a user. Repeats
    /// of `id` count once.
    pub fn into_record(self, user: UserId, video: Option<VideoId>, id: EventId, now: Millis) -> Interaction {
        let key = || VideoId::parse(KEY).expect("the key is an identifier");
        Interaction {
            video_id: video.unwrap_or_else(key),
            user_id: user,
            kind: Kind::Moderation,
            watch_ms: 0,
            timestamp: now,
            event_id: Some(id),
            owner_id: None,
            comment: None,
            moderation: Some(Box::new(self)),
        }
    }
}

/// The JSON of a moderation record.
pub(crate) fn to_json(record: &Interaction, moderation: &Moderation) -> Vec<u8> {
    let wire = json!({
        "type": Kind::Moderation.name(),
        "version": moderation.version(),
        "video_id": record.video_id,
        "user_id": record.user_id,
        "timestamp": record.timestamp,
        "event_id": record.event_id,
        "moderation": moderation,
    });
    serde_json::to_vec(&wire).expect("text and numbers always serialise")
}

/// Whether this JSON is meant as a moderation record.
pub(crate) fn is_record(value: &Value) -> bool {
    value["type"] == Kind::Moderation.name()
}

/// Reads a moderation record.
pub(crate) fn parse(value: &Value) -> Result<Interaction, Invalid> {
    let Value::Object(object) = value else { return Err(Invalid::new("body", "must be a JSON object")) };
    if !value["version"].as_u64().is_some_and(|version| (1..=VERSION).contains(&version)) {
        return Err(Invalid::new("version", format!("must be a whole number from 1 to {VERSION}")));
    }
    let wrong = |field| move |error: serde_json::Error| Invalid::new(field, error.to_string());
    let moderation: Moderation =
        serde_json::from_value(value["moderation"].clone()).map_err(wrong("moderation"))?;
    if let Some(reason) = &moderation.reason {
        check_reason(reason)?;
        if matches!(moderation.action, Action::Report { .. }) {
            reports::check_report("reason", reason)?;
        }
    }
    if let Action::SetRules { rules: Some(rules), .. } = &moderation.action {
        rules.check()?;
    }
    if let Action::Forget { marks, .. } = &moderation.action {
        erasure::check_marks(marks)?;
    }
    let video = canary::named_outside("video_id", required_text(object, "video_id")?)?;
    if let Action::Shadow { text, .. } | Action::Hold { text, .. } = &moderation.action {
        check_text("text", text)?;
    }
    if moderation.action.is_on_a_video() == (video.as_str() == KEY) {
        return Err(Invalid::new("video_id", "does not go with this action"));
    }
    let timestamp = value["timestamp"].as_i64();
    let timestamp = timestamp.ok_or_else(|| Invalid::new("timestamp", "must be in milliseconds"))?;
    let user = UserId::parse(required_text(object, "user_id")?)?;
    let id = EventId::parse(required_text(object, "event_id")?)?;
    Ok(moderation.into_record(user, Some(video), id, timestamp))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id<T: std::str::FromStr<Err = Invalid>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn scope() -> impl Strategy<Value = Scope> {
        prop_oneof![
            Just(Scope::Everywhere),
            "\\PC{1,8}".prop_map(|text| Scope::Owner(id(&text))),
            "\\PC{1,8}".prop_map(|text| Scope::Video(id(&text))),
        ]
    }

    fn action() -> impl Strategy<Value = Action> {
        let kind = || (0..Restriction::ALL.len()).prop_map(|at| Restriction::ALL[at]);
        prop_oneof![
            "\\PC{1,8}".prop_map(|text| Action::Delete { comment_id: id(&text) }),
            proptest::option::of("\\PC{1,8}")
                .prop_map(|text| Action::Pin { comment_id: text.map(|text| id(&text)) }),
            ("\\PC{1,8}", "\\PC{1,8}", proptest::option::of("\\PC{1,8}")).prop_map(|(own, text, other)| {
                Action::Shadow { comment_id: id(&own), text, reply_to: other.map(|other| id(&other)) }
            }),
            Just(Action::RemoveVideo),
            ("[a-z]{1,8}", proptest::option::of("\\PC{1,8}")).prop_map(|(title, owner)| Action::PutVideo {
                metadata: Metadata::read(&json!({ "title": title })).unwrap(),
                owner_id: owner.map(|owner| id(&owner)),
            }),
            ("\\PC{1,8}", kind(), scope(), proptest::option::of(0_i64..1 << 50)).prop_map(
                |(user, kind, scope, until)| Action::Restrict { userid: id(&user), kind, scope, until }
            ),
            ("\\PC{1,8}", kind(), scope()).prop_map(|(user, kind, scope)| Action::Lift {
                userid: id(&user),
                kind,
                scope
            }),
            ("\\PC{1,8}", "\\PC{1,8}").prop_map(|(own, text)| Action::Hold {
                comment_id: id(&own),
                text,
                reply_to: None,
                rule: RuleName::Words
            }),
            ("\\PC{1,8}", proptest::option::of(0..1_u64 << 53)).prop_map(|(text, seq)| Action::Erase {
                comment_id: id(&text),
                seq,
                user: Digest::of_user(&id(&text))
            }),
            ("\\PC{1,8}", 0..=erasure::MAX_MARKS).prop_map(|(text, marks)| Action::Forget {
                user: Digest::of_user(&id(&text)),
                marks: vec![Digest::of_user(&id(&text)); marks]
            }),
            "\\PC{1,8}".prop_map(|text| Action::EraseUser { user: Digest::of_user(&id(&text)) }),
            "\\PC{1,8}".prop_map(|text| Action::Review { comment_id: id(&text), outcome: Outcome::Release }),
            ("\\PC{1,8}", 0..ReportReason::ALL.len())
                .prop_map(|(text, at)| Action::Report { comment_id: id(&text), why: ReportReason::ALL[at] }),
            "\\PC{1,8}".prop_map(|text| Action::CloseReports {
                comment_id: id(&text),
                outcome: ReportOutcome::Dismissed
            }),
            "\\PC{1,8}".prop_map(|text| Action::EraseReport {
                comment_id: id(&text),
                user: Digest::of_user(&id(&text))
            }),
            (scope(), proptest::option::of(1..100_u32)).prop_map(|(scope, slow)| Action::SetRules {
                scope,
                rules: slow.map(|slow| CommentRules { slow_seconds: Some(slow), ..CommentRules::default() }),
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            action in action(), user in "\\PC{1,8}", reason in proptest::option::of("\\PC{0,20}"), now in 0_i64..1 << 50,
        ) {
            let video = action.is_on_a_video().then(|| id("v"));
            let moderation = Moderation { action, role: ActorRole::Moderator, reason };
            let record = moderation.into_record(id(&user), video, id("m1"), now);
            prop_assert_eq!(Interaction::from_log(&record.to_json(), 0).unwrap(), record);
        }
    }

    #[test]
    fn nobody_moderates_by_way_of_an_interaction() {
        let moderation = Moderation {
            action: Action::Delete { comment_id: id("c") },
            role: ActorRole::Moderator,
            reason: None,
        };
        let json = moderation.into_record(id("m"), Some(id("v")), id("m1"), 5).to_json();
        let sent = serde_json::from_slice(&json).unwrap();
        assert_eq!(Interaction::parse(&sent, 0).unwrap_err().field, "type");
        assert!(Interaction::from_log(&json, 0).is_ok());
    }

    #[test]
    fn every_wrong_field_of_a_record_is_named() {
        let good = json!({"type": "moderation", "version": 1, "video_id": "v", "user_id": "m", "timestamp": 5,
            "event_id": "e", "moderation": {"action": "delete", "comment_id": "c", "role": "moderator"}});
        assert!(parse(&good).is_ok());
        let ban =
            json!({"action": "lift", "userid": "u", "kind": "ban", "scope": "everywhere", "role": "service"});
        for (field, value) in [
            ("version", json!(0)),
            ("version", json!(VERSION + 1)),
            ("video_id", json!(KEY)),
            ("video_id", json!(canary::ID)),
            ("user_id", json!("")),
            ("timestamp", json!("now")),
            ("event_id", json!(null)),
            ("moderation", json!({"action": "praise", "role": "moderator"})),
            ("moderation", json!({"action": "delete", "comment_id": "c", "role": "king"})),
            (
                "slow_seconds",
                json!({"action": "set_rules", "scope": "everywhere", "rules": {"slow_seconds": 0}, "role": "moderator"}),
            ),
            (
                "marks",
                json!({"action": "forget", "user": "0".repeat(32), "marks": vec!["0".repeat(32); 9], "role": "service"}),
            ),
            (
                "moderation",
                json!({"action": "erase", "comment_id": "c", "user": "not a digest", "role": "service"}),
            ),
            ("video_id", json!("v")),
        ] {
            let mut bad = good.clone();
            if field == "video_id" && value == "v" {
                bad["moderation"] = ban.clone();
            }
            bad[if matches!(field, "slow_seconds" | "marks") { "moderation" } else { field }] = value.clone();
            assert_eq!(parse(&bad).unwrap_err().field, field, "{value}");
        }
        let report = json!({"action": "report", "comment_id": "c", "why": "spam", "role": "viewer"});
        for (moderation, chars) in
            [(good["moderation"].clone(), MAX_REASON_CHARS), (report, reports::MAX_REPORT_CHARS)]
        {
            let mut long = good.clone();
            long["moderation"] = moderation;
            long["moderation"]["reason"] = json!("é".repeat(chars));
            assert!(parse(&long).is_ok());
            long["moderation"]["reason"] = json!("é".repeat(chars + 1));
            assert_eq!(parse(&long).unwrap_err().field, "reason");
        }
    }
}
