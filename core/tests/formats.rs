//! Compatibility of log records: records of the release before are read, members that a later release adds are
//! ignored, and everything that the release before needs is still written. Records that the release before would
//! misread name their format ([`liverank_core::event::NEWEST_RECORD_FORMAT`]).

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/release_before.rs"]
mod release_before;

use std::collections::{BTreeMap, BTreeSet};

use fixtures::{Format, check};
use liverank_core::event::CommentBody;
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, Restriction};
use liverank_core::{CommentId, EventId, Interaction, Kind, UserId, VideoId};
use release_before::{Treatment, treatment};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const RECORD_TIME: i64 = 1_700_000_000_250;
const EXAMPLE_DIGEST: &str = "00112233445566778899aabbccddeeff";

fn check_record(name: &'static str, today: &Interaction) {
    let format = Format {
        directory: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"),
        name,
        write: written_json,
        read: |json: &Value| Interaction::from_log(json.to_string().as_bytes(), RECORD_TIME),
    };
    check(&format, today);
}

fn written_json(record: &Interaction) -> Value {
    serde_json::from_slice(&record.to_json()).expect("a record is JSON")
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("an id")
}

fn interaction(kind: Kind) -> Interaction {
    Interaction {
        video_id: VideoId::parse("cats").expect("an id"),
        user_id: user("ann"),
        kind,
        watch_ms: if kind == Kind::WatchTime { 3500 } else { 0 },
        timestamp: RECORD_TIME,
        event_id: Some(EventId::parse("e-1").expect("an id")),
        owner_id: Some(user("olga")),
        comment: (kind == Kind::Comment).then(|| CommentBody {
            comment_id: CommentId::parse("c-2").expect("an id"),
            text: "hé".to_owned(),
            reply_to: Some(CommentId::parse("c-1").expect("an id")),
        }),
        moderation: None,
    }
}

/// Returns one record of each action, with the name of its fixture; for actions that hold a restriction, one of each
/// version.
fn example_actions() -> Vec<(&'static str, Value)> {
    let restrict = |kind: &str| json!({"action": "restrict", "userid": "ann", "kind": kind, "scope": {"owner": "olga"}, "until": RECORD_TIME + 60_000});
    let rules = json!({
        "slow_seconds": 5, "members_only": true, "max_chars": 200, "own_repeat_seconds": 60, "any_repeat_seconds": 5,
        "links": {"action": "hold", "allow": ["example.org"]}, "hold_all": true,
        "words": [{"action": "mask", "words": ["spam*"]}],
        "patterns": [{"action": "reject", "pattern": "a+b"}],
    });
    vec![
        ("moderation-delete", json!({"action": "delete", "comment_id": "c-2"})),
        ("moderation-pin", json!({"action": "pin", "comment_id": "c-2"})),
        (
            "moderation-shadow",
            json!({"action": "shadow", "comment_id": "c-2", "text": "hé", "reply_to": "c-1"}),
        ),
        (
            "moderation-hold",
            json!({"action": "hold", "comment_id": "c-2", "text": "hé", "reply_to": "c-1", "rule": "words"}),
        ),
        ("moderation-review", json!({"action": "review", "comment_id": "c-2", "outcome": "reject"})),
        (
            "moderation-put-video",
            json!({"action": "put_video", "metadata": {"title": "Cats"}, "owner_id": "olga"}),
        ),
        ("moderation-remove-video", json!({"action": "remove_video"})),
        (
            "moderation-erase",
            json!({"action": "erase", "comment_id": "c-2", "seq": 7, "user": EXAMPLE_DIGEST}),
        ),
        ("moderation-forget", json!({"action": "forget", "user": EXAMPLE_DIGEST, "marks": [EXAMPLE_DIGEST]})),
        ("moderation-report", json!({"action": "report", "comment_id": "c-2", "why": "self_harm"})),
        (
            "moderation-close-reports",
            json!({"action": "close_reports", "comment_id": "c-2", "outcome": "dismissed"}),
        ),
        (
            "moderation-erase-report",
            json!({"action": "erase_report", "comment_id": "c-2", "user": EXAMPLE_DIGEST}),
        ),
        ("moderation-erase-user", json!({"action": "erase_user", "user": EXAMPLE_DIGEST})),
        ("moderation-restrict", restrict("mute")),
        ("moderation-restrict-shadow", restrict("shadow")),
        (
            "moderation-lift",
            json!({"action": "lift", "userid": "ann", "kind": "mute", "scope": {"owner": "olga"}}),
        ),
        ("moderation-set-rules", json!({"action": "set_rules", "scope": {"video": "cats"}, "rules": rules})),
    ]
}

fn action(json: &Value) -> ModerationAction {
    serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn moderation_record(action: ModerationAction, role: ActorRole) -> Interaction {
    let video = action.is_on_a_video().then(|| VideoId::parse("cats").expect("an id"));
    let moderation = Moderation { action, role, reason: Some("spam".to_owned()) };
    moderation.into_record(user("mia"), video, EventId::parse("m-1").expect("an id"), RECORD_TIME)
}

/// Returns the names that `T` may have, as serde lists them in its error for another name. So no test has to list
/// them.
fn names_known_to_serde<T: DeserializeOwned + std::fmt::Debug>(other: &Value) -> Vec<String> {
    let error = serde_json::from_value::<T>(other.clone()).expect_err("no such name").to_string();
    let names: Vec<String> = error.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(names.len() > 1, "{error}");
    names
}

#[test]
fn interactions_have_fixtures() {
    for kind in Kind::ALL {
        check_record(kind.name(), &interaction(kind));
    }
}

#[test]
fn what_moderators_do() {
    for (name, json) in example_actions() {
        check_record(name, &moderation_record(action(&json), ActorRole::Moderator));
    }
}

/// Returns every record that can be written, with its treatment by a consumer of the release before.
fn treatments() -> BTreeMap<String, Treatment> {
    let mut treatments = BTreeMap::new();
    for kind in Kind::ALL {
        treatments.insert(kind.name().to_owned(), treatment(&written_json(&interaction(kind))));
    }
    for role in names_known_to_serde::<ActorRole>(&json!("king")) {
        let role: ActorRole = serde_json::from_value(json!(role)).expect("a role");
        for (_, json) in example_actions() {
            let restrictions = if json.get("kind").is_some() {
                names_known_to_serde::<Restriction>(&json!("fine"))
            } else {
                vec![]
            };
            for kind in restrictions.iter().map(Some).chain(restrictions.is_empty().then_some(None)) {
                let mut json = json.clone();
                if let Some(kind) = kind {
                    json["kind"] = json!(kind);
                }
                let kind = kind.map(|kind| format!(" {kind}")).unwrap_or_default();
                let name = json["action"].as_str().expect("a name").to_owned();
                let treatment = treatment(&written_json(&moderation_record(action(&json), role)));
                treatments.insert(format!("{name}{kind} by {}", role.name()), treatment);
            }
        }
    }
    treatments
}

#[test]
fn a_consumer_of_the_release_before_counts_what_it_knows_and_waits_at_the_rest() {
    let covered: Vec<String> = example_actions()
        .iter()
        .map(|(_, json)| json["action"].as_str().expect("a name").to_owned())
        .collect();
    for name in names_known_to_serde::<ModerationAction>(&json!({"action": "praise"})) {
        assert!(covered.contains(&name), "{name}: has no record among `actions`");
    }
    let of = |wanted: Treatment| -> Vec<String> {
        treatments().into_iter().filter(|(_, it)| *it == wanted).map(|(name, _)| name).collect()
    };
    assert_eq!(of(Treatment::DeadLetters), [""; 0], "say a later format, or version: docs/formats.md");
    let by = |action: &str| ["author", "moderator", "service"].map(|role| format!("{action} by {role}"));
    let mut known: Vec<String> = ["view", "like", "comment", "share", "watch_time"].map(str::to_owned).into();
    known.extend(
        ["delete", "restrict ban", "restrict mute", "lift ban", "lift mute"].into_iter().flat_map(by),
    );
    known.sort();
    assert_eq!(
        of(Treatment::Counts),
        known,
        "a record that the release before counts makes no consumer wait"
    );
}

/// Returns the names of a crate's fixtures, and checks that each has two files.
#[allow(clippy::disallowed_methods, reason = "a test reads files; core itself does not")]
fn stored_fixtures(directory: &str) -> BTreeSet<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let names = |directory: String| -> BTreeSet<String> {
        let files = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
        let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a plain name"));
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
    };
    let today = names(format!("{root}/{directory}"));
    assert_eq!(today, names(format!("{root}/{directory}/previous")), "{directory}: a fixture has two files");
    today
}

#[test]
fn the_document_names_every_fixture_and_no_other() {
    let document = include_str!("../../docs/formats.md");
    stored_fixtures("protocol/tests/fixtures");
    for (letter, directory) in [
        ("A", "adapters/tests/fixtures"),
        ("C", "core/tests/fixtures"),
        ("E", "services/consumer/tests/fixtures"),
        ("R", "runtime/tests/fixtures"),
    ] {
        let cells = document.lines().filter_map(|line| line.rsplit(" | ").next());
        let cells = cells.filter_map(|cell| cell.strip_prefix(&format!("{letter} `")));
        let named = cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|name| !name.contains('.'));
        assert_eq!(
            named.map(str::to_owned).collect::<BTreeSet<_>>(),
            stored_fixtures(directory),
            "{directory}"
        );
    }
}

#[test]
fn a_record_that_an_earlier_build_wrote_under_version_1_is_read() {
    for (name, json) in example_actions() {
        let today = moderation_record(action(&json), ActorRole::Owner);
        let mut record = written_json(&today);
        record["version"] = json!(1);
        assert_eq!(Interaction::from_log(record.to_string().as_bytes(), RECORD_TIME), Ok(today), "{name}");
    }
}
