use proptest::prelude::*;
use serde_json::json;

use super::record::parse;
use super::version::NEWEST_MODERATION_VERSION;
use super::*;
use crate::{Interaction, Invalid, Metadata, canary};

fn id<T: std::str::FromStr<Err = Invalid>>(text: &str) -> T {
    text.parse().unwrap()
}

fn scope() -> impl Strategy<Value = RuleScope> {
    prop_oneof![
        Just(RuleScope::Everywhere),
        "\\PC{1,8}".prop_map(|text| RuleScope::Owner(id(&text))),
        "\\PC{1,8}".prop_map(|text| RuleScope::Video(id(&text))),
    ]
}

fn action() -> impl Strategy<Value = ModerationAction> {
    let kind = || (0..Restriction::ALL.len()).prop_map(|at| Restriction::ALL[at]);
    prop_oneof![
        "\\PC{1,8}".prop_map(|text| ModerationAction::Delete { comment_id: id(&text) }),
        proptest::option::of("\\PC{1,8}")
            .prop_map(|text| ModerationAction::Pin { comment_id: text.map(|text| id(&text)) }),
        ("\\PC{1,8}", "\\PC{1,8}", proptest::option::of("\\PC{1,8}")).prop_map(|(own, text, other)| {
            ModerationAction::Shadow { comment_id: id(&own), text, reply_to: other.map(|other| id(&other)) }
        }),
        Just(ModerationAction::RemoveVideo),
        ("[a-z]{1,8}", proptest::option::of("\\PC{1,8}")).prop_map(|(title, owner)| {
            ModerationAction::PutVideo {
                metadata: Metadata::from_value(&json!({ "title": title })).unwrap(),
                owner_id: owner.map(|owner| id(&owner)),
            }
        }),
        ("\\PC{1,8}", kind(), scope(), proptest::option::of(0_i64..1 << 50)).prop_map(
            |(user, kind, scope, until)| ModerationAction::Restrict { userid: id(&user), kind, scope, until }
        ),
        ("\\PC{1,8}", kind(), scope()).prop_map(|(user, kind, scope)| ModerationAction::Lift {
            userid: id(&user),
            kind,
            scope
        }),
        ("\\PC{1,8}", "\\PC{1,8}").prop_map(|(own, text)| ModerationAction::Hold {
            comment_id: id(&own),
            text,
            reply_to: None,
            rule: RuleName::Words
        }),
        ("\\PC{1,8}", proptest::option::of(0..1_u64 << 53)).prop_map(|(text, seq)| ModerationAction::Erase {
            comment_id: id(&text),
            seq,
            user: NameDigest::of_user(&id(&text))
        }),
        ("\\PC{1,8}", 0..=erasure::MAX_FORGOTTEN_MARKS).prop_map(|(text, marks)| ModerationAction::Forget {
            user: NameDigest::of_user(&id(&text)),
            marks: vec![NameDigest::of_user(&id(&text)); marks]
        }),
        "\\PC{1,8}".prop_map(|text| ModerationAction::EraseUser { user: NameDigest::of_user(&id(&text)) }),
        "\\PC{1,8}".prop_map(|text| ModerationAction::Review {
            comment_id: id(&text),
            outcome: ReviewOutcome::Release
        }),
        ("\\PC{1,8}", 0..ReportReason::ALL.len()).prop_map(|(text, at)| ModerationAction::Report {
            comment_id: id(&text),
            why: ReportReason::ALL[at]
        }),
        "\\PC{1,8}".prop_map(|text| ModerationAction::CloseReports {
            comment_id: id(&text),
            outcome: ReportOutcome::Dismissed
        }),
        "\\PC{1,8}".prop_map(|text| ModerationAction::EraseReport {
            comment_id: id(&text),
            user: NameDigest::of_user(&id(&text))
        }),
        (scope(), proptest::option::of(1..100_u32)).prop_map(|(scope, slow)| ModerationAction::SetRules {
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
        action: ModerationAction::Delete { comment_id: id("c") },
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
        ("version", json!(NEWEST_MODERATION_VERSION + 1)),
        ("video_id", json!(RECORDS_KEY)),
        ("video_id", json!(canary::CANARY_ID)),
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
