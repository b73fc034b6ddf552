//! Fixtures of the formats in the stores: see `core/tests/support/fixtures.rs`.

use std::fmt::Debug;
use std::sync::Arc;

use liverank_core::comment::EntryKind;
use liverank_core::counting::{AuditEntry, VideoState};
use liverank_core::decays::{CountedDecay, CountedDecays, Decay, DecayContribution, DecayedScore};
use liverank_core::handover::HeldVideo;
use liverank_core::moderation::reports::{CommentReport, ReportDecision};
use liverank_core::moderation::{
    ActorRole, ChangedRule, HeldComment, Moderation, ModerationAction, ReportOutcome, ReportReason,
    ReportedComment, Restriction, RuleChange, RuleName, RuleScope, ScopeRules, UserRestriction,
};
use liverank_core::score::{Counters, Weights};
use liverank_core::windows::{CountedWindowKind, CountedWindows, WindowKind};
use liverank_core::{Comment, CommentId, EventId, Metadata, ReaderId, UserId, VideoId};
use serde_json::Value;

use crate::assignment_store::{ReaderRecord, ZonedViewers};

#[path = "../../core/tests/support/fixtures.rs"]
mod shared;

/// Checks a stored format against its fixture file. The format is JSON, or is written as JSON in the fixture.
pub fn check_json_fixture<T: PartialEq + Debug, E: Debug>(
    name: &'static str,
    today: &T,
    write: impl Fn(&T) -> Value,
    read: impl Fn(&Value) -> Result<T, E>,
) {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    shared::check(&shared::Format { directory, name, write, read }, today);
}

/// Parses bytes of JSON into a value.
pub fn parse_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("what is written is JSON")
}

/// Returns a comment that replies to another one.
pub fn fixture_comment() -> Comment {
    let id = |id| CommentId::parse(id).expect("an id");
    Comment {
        id: id("c-2"),
        user_id: UserId::parse("ann").expect("an id"),
        video_id: VideoId::parse("cats").expect("an id"),
        text: "hé".to_owned(),
        timestamp: 1_700_000_000_250,
        seq: 12,
        reply_to: Some(id("c-1")),
        entry: EntryKind::Comment,
    }
}

/// Returns a channel entry that says that a comment was removed.
pub fn fixture_deletion() -> Comment {
    let comment_id = CommentId::parse("c-1").expect("an id");
    let entry = EntryKind::Deleted { comment_id, of: 11, role: ActorRole::Author };
    Comment { text: String::new(), reply_to: None, entry, ..fixture_comment() }
}

/// Returns a channel entry that says which comment is pinned.
pub fn fixture_pin() -> Comment {
    let entry = EntryKind::Pinned { comment_id: CommentId::parse("c-1").ok(), of: 11 };
    Comment { text: String::new(), reply_to: None, entry, ..fixture_comment() }
}

/// Returns a comment of a user who is shadow-banned.
pub fn fixture_shadowed_comment() -> Comment {
    Comment { entry: EntryKind::Shadowed, ..fixture_comment() }
}

/// Returns a comment that waits for a moderator.
pub fn fixture_held() -> HeldComment {
    let Comment { id, video_id: video, user_id: user, text, reply_to, timestamp, .. } = fixture_comment();
    HeldComment {
        id,
        video,
        user,
        text,
        reply_to,
        timestamp,
        rule: RuleName::Words.into(),
        place: (timestamp + 1, 4, 99),
    }
}

/// Returns a comment that was reported, and whose reports were decided on.
pub fn fixture_reported() -> ReportedComment {
    let Comment { id, video_id: video, timestamp: at, .. } = fixture_comment();
    let user = |id| UserId::parse(id).expect("an id");
    let report = CommentReport {
        user: user("ben"),
        why: ReportReason::SelfHarm,
        text: Some("hé".to_owned()),
        at: at + 10,
    };
    let decision = ReportDecision {
        outcome: ReportOutcome::Dismissed,
        by: Some(user("mia")),
        reason: Some("fine".to_owned()),
        at: at + 20,
    };
    ReportedComment { video, id, reports: vec![report], decision: Some(decision), place: (at + 21, 4, 99) }
}

/// Returns comment rules of a video, with one rule of each kind.
pub fn comment_rules() -> RuleChange {
    let rules = serde_json::json!({
        "slow_seconds": 5, "members_only": true, "max_chars": 200, "own_repeat_seconds": 60, "any_repeat_seconds": 5,
        "links": {"action": "hold", "allow": ["example.org"]}, "hold_all": true,
        "words": [{"action": "mask", "words": ["spam*"]}],
        "patterns": [{"action": "reject", "pattern": "a+b"}],
    });
    let rules = ScopeRules {
        rules: serde_json::from_value(rules).expect("rules"),
        reason: Some("spam".to_owned()),
        by: UserId::parse("mia").expect("an id"),
        at: 1_700_000_000_250,
    };
    let scope = RuleScope::Video(VideoId::parse("cats").expect("an id"));
    let what = ChangedRule::CommentRules { scope, rules: Some(Arc::new(rules)) };
    RuleChange { key: "comments/video/cats".to_owned(), revision: 8, changed_rule: what }
}

/// Returns the kinds of windows that are counted: one from the beginning, one since a later time.
pub fn windows() -> CountedWindows {
    let of = |kind: &str, complete_after| CountedWindowKind {
        kind: WindowKind::parse(kind).expect("a kind"),
        complete_after,
    };
    [of("day of Europe/Berlin", None), of("hour of UTC", Some(1_700_000_000_250))].into_iter().collect()
}

/// Returns the decays that are counted: one from the beginning, one since a later time.
pub fn decays() -> CountedDecays {
    let of = |decay: &str, run, complete_after| CountedDecay { decay: decay_of(decay), run, complete_after };
    [of("120", 77, None), of("30 1 20 0 0 0 7", u32::MAX, Some(1_700_000_000_250))].into_iter().collect()
}

fn decay_of(text: &str) -> Decay {
    Decay::parse(text).expect("a decay")
}

fn decayed_score(decay: &str, event_count: u64) -> DecayedScore {
    DecayedScore { decay: decay_of(decay), log2: 81_234.25, event_count }
}

/// Returns the parts that an event adds to the scores of two decays, as a user's mark stores them.
pub fn decay_contributions() -> Vec<DecayContribution> {
    vec![DecayContribution { run: 77, log2: 81_234.125 }, DecayContribution { run: u32::MAX, log2: 81_233.5 }]
}

/// Returns a video with a different value in each counter.
pub fn video() -> VideoState {
    VideoState {
        video_id: VideoId::parse("cats").expect("an id"),
        owner: UserId::parse("olga").expect("an id"),
        is_owner_given: true,
        counters: Counters {
            views: 1,
            likes: 2,
            comments: 3,
            shares: 4,
            watch_ms: 5500,
            watch_short: 6,
            watch_long: 7,
        },
        last_seq: 12,
        trending_log2: 81_234.5,
        decayed_scores: [decayed_score("120", 9), decayed_score("30 1 20 0 0 0 7", 10)].into_iter().collect(),
        revision_corrections: 8,
        metadata: Metadata::from_value(&serde_json::json!({"title": "Cats"})).ok(),
        removed_by: Some(ActorRole::Service),
    }
}

/// Counting weights that are all different.
pub const DISTINCT_WEIGHTS: Weights = Weights {
    view: 1,
    like: 20,
    comment: 300,
    share: 4000,
    watch_short: 50_000,
    watch_long: 600_000,
    watch_threshold_ms: 2000,
};

/// Returns the change that mutes a user in the videos of one owner.
pub fn fixture_mute() -> RuleChange {
    let user = |id| UserId::parse(id).expect("an id");
    let rule = UserRestriction {
        userid: user("ann"),
        kind: Restriction::Mute,
        scope: RuleScope::Owner(user("olga")),
        until: Some(1_700_000_060_250),
        reason: Some("spam".to_owned()),
        by: user("mia"),
        at: 1_700_000_000_250,
    };
    let what = ChangedRule::Restriction { userid: user("ann"), rule: Some(rule) };
    RuleChange { key: "ann/mute/owner/olga".to_owned(), revision: 8, changed_rule: what }
}

/// Returns an audit entry: a moderator deleted a comment.
pub fn fixture_audit_entry() -> AuditEntry {
    let action = ModerationAction::Delete { comment_id: CommentId::parse("c-1").expect("an id") };
    let moderation = Moderation { action, role: ActorRole::Moderator, reason: Some("spam".to_owned()) };
    let (user, video) = (UserId::parse("mia").expect("an id"), VideoId::parse("cats").expect("an id"));
    let id = EventId::parse("m-1").expect("an id");
    let record = moderation.into_record(user, Some(video), id, 1_700_000_000_250);
    AuditEntry { time: 1_700_000_000_251, partition: 4, offset: 99, record }
}

/// Returns the heartbeat of a reader that is leaving.
pub fn reader_record() -> ReaderRecord {
    let video = VideoId::parse("cats").expect("an id");
    ReaderRecord {
        id: ReaderId::parse("reader-1").expect("an id"),
        public_url: "http://a:4001".to_owned(),
        internal_url: "http://b:4001".to_owned(),
        beat: 77,
        incarnation: 1_700_000_000_000_250,
        capacity: 100,
        viewers: 12,
        draining: true,
        grace_ms: 5000,
        highest_epoch: 9,
        videos: vec![HeldVideo { video, viewers: 12, epoch: 7, ready: true, shedding: true }],
        messages_sent: 70,
        reconnects: 2,
        reconnect_errors: 1,
        zone: serde_json::from_str(r#""eu-1a""#).ok(),
        viewers_by_zone: ZonedViewers { same: 7, other: 4 },
        ticket: serde_json::from_str(r#""c2VjcmV0""#).ok(),
    }
}

/// A moderation record of a later release (version 9) that has the form of today's records.
pub const LATER_RELEASE_RECORD: &str = r#"{"type":"moderation","version":9,"event_id":"m-9","user_id":"mia","timestamp":1700000000,
    "video_id":"cats","moderation":{"action":"praise","role":"moderator"}}"#;

/// Returns the stored value with an unknown name in `member`, as a later release may write it.
pub fn with_unknown_member(member: &str, stored: &Value) -> Value {
    let mut later = stored.clone();
    later[member] = match member {
        "entry" => serde_json::json!({"kind": "of_a_later_release", "more": {"of": ["any"]}}),
        _ => "of_a_later_release".into(),
    };
    later
}
