//! Records of the log: what the release before wrote is read, what a later one adds is passed over, and what the release
//! before needs is still written. Records that it would misread say their format ([`liverank_core::event::FORMAT`]).

#[path = "support/fixtures.rs"]
mod fixtures;

use fixtures::{Format, check};
use liverank_core::event::CommentBody;
use liverank_core::moderation::{Action, ActorRole, Moderation, Restriction, Scope};
use liverank_core::{CommentId, EventId, Interaction, Kind, UserId, VideoId};

const TIME: i64 = 1_700_000_000_250;

fn record(name: &'static str, today: &Interaction) {
    let format = Format {
        directory: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"),
        name,
        write: |record: &Interaction| serde_json::from_slice(&record.to_json()).expect("a record is JSON"),
        read: |json: &serde_json::Value| Interaction::from_log(json.to_string().as_bytes(), TIME),
    };
    check(&format, today);
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
        timestamp: TIME,
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

#[test]
fn interactions() {
    for kind in Kind::ALL {
        record(kind.name(), &interaction(kind));
    }
}

#[test]
fn what_moderators_do() {
    let done = |action, video: Option<&str>| {
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: Some("spam".to_owned()) };
        let video = video.map(|id| VideoId::parse(id).expect("an id"));
        moderation.into_record(user("mia"), video, EventId::parse("m-1").expect("an id"), TIME)
    };
    let delete = Action::Delete { comment_id: CommentId::parse("c-2").expect("an id") };
    record("moderation-delete", &done(delete, Some("cats")));
    let (userid, kind) = (user("ann"), Restriction::Mute);
    let scope = Scope::Owner(user("olga"));
    let restrict =
        Action::Restrict { userid: userid.clone(), kind, scope: scope.clone(), until: Some(TIME + 60_000) };
    record("moderation-restrict", &done(restrict, None));
    record("moderation-lift", &done(Action::Lift { userid, kind, scope }, None));
}
