//! Messages between processes of two releases: a process reads the messages of the release before, ignores fields that
//! a later release adds, and still sends all fields that the release before needs.

#[path = "../../core/tests/support/fixtures.rs"]
mod fixtures;

use std::collections::BTreeMap;
use std::fmt::Debug;

use fixtures::{Format, check};
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, HandOver, HeldVideo, PlannerLease, ReaderShare};
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{
    ClusterLoad, CommentReport, CordonRequest, CordonsAnswer, CordonsRequest, HeartbeatAnswer, ManagerReport,
    MoveAnswer, MovePhase, MoveRequest, MoveState, MovesAnswer, MovesRequest, OrderedBy, ReaderHealth,
    ReaderHealthStatus, ReaderRecord, ReaderReport, ReaderState, RegisterAction, RegisterAnswer,
    RegisterRequest, ResolveAnswer, Route, RouteReader, RouteRequest, TermRequest, TermState,
    UnservedRequests, VideoState, ViewersAnswer, ViewersOfVideos, ViewersRequest, WarmAnswer, WarmRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check_message<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &'static str, today: &T) {
    let format = Format {
        directory: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"),
        name,
        write: |message: &T| serde_json::to_value(message).expect("a message serialises"),
        read: |json: &serde_json::Value| serde_json::from_str::<T>(&json.to_string()),
    };
    check(&format, today);
}

fn video() -> VideoId {
    VideoId::parse("cats").expect("an id")
}

fn reader(name: &str) -> ReaderId {
    ReaderId::parse(name).expect("an id")
}

fn share() -> ReaderShare {
    ReaderShare { reader: reader("reader-1"), weight: 2 }
}

fn lease() -> PlannerLease {
    PlannerLease { uid: "5e2c".to_owned(), transitions: 4 }
}

fn secret() -> Secret {
    serde_json::from_str(r#""c2VjcmV0""#).expect("a secret")
}

fn cordon() -> CordonRequest {
    CordonRequest {
        reader: reader("reader-2"),
        cordon: Some(CordonLevel::Draining.into()),
        why: "upgrade".to_owned(),
    }
}

#[test]
fn route_and_heartbeat_messages_have_fixtures() {
    let of_route = RouteReader {
        id: reader("reader-1"),
        public_url: "http://a:4001".to_owned(),
        internal_url: "http://b:4001".to_owned(),
        load: 120,
        takes: false,
        wanted: 31,
        pass_key: Some(secret()),
    };
    check_message("route", &Route { videoid: video(), epoch: 7, readers: vec![of_route], stale: true });
    check_message("route-request", &RouteRequest { videoid: video(), epoch: Some(7) });
    let hand_over =
        HandOver { video: video(), epoch: 7, to: "http://c:4001".to_owned(), here: true, keep: 3, pace: 50 };
    let (viewers_elsewhere, room_elsewhere) = (vec![(video(), 12)], Some(340));
    let answer = HeartbeatAnswer { hand_over: vec![hand_over], viewers_elsewhere, room_elsewhere };
    check_message("heartbeat-answer", &answer);
    check_message("warm", &WarmRequest { videoid: video(), epoch: 7 });
    check_message("warmed", &WarmAnswer { videoid: video(), head: Some("abc-12".to_owned()) });
    check_message("viewers", &ViewersAnswer { videoid: video(), viewers: 12 });
    check_message("viewers-request", &ViewersRequest { videos: vec![video()] });
    check_message("viewers-of-many", &ViewersOfVideos { viewers: vec![12] });
}

#[test]
fn a_heartbeat_has_a_fixture() {
    let held = HeldVideo { video: video(), viewers: 12, epoch: 7, ready: true, shedding: true };
    let heartbeat = ReaderRecord {
        id: reader("reader-1"),
        public_url: "http://a:4001".to_owned(),
        internal_url: "http://b:4001".to_owned(),
        beat: 77,
        incarnation: 1_700_000_000_000_250,
        capacity: 100,
        viewers: 12,
        draining: true,
        grace_ms: 5000,
        highest_epoch: 9,
        videos: vec![held],
        messages_sent: 70,
        reconnects: 2,
        reconnect_errors: 1,
        ticket: Some(secret()),
    };
    check_message("heartbeat", &heartbeat);
}

#[test]
fn registration_messages_have_fixtures() {
    let reader_url = "http://a:4001".to_owned();
    check_message("register-request", &RegisterRequest { videoid: video() });
    let action = RegisterAction::Registered.into();
    check_message(
        "register-answer",
        &RegisterAnswer { videoid: video(), reader_url: reader_url.clone(), action },
    );
    check_message("resolve-answer", &ResolveAnswer { videoid: video(), reader_url });
}

#[test]
fn the_answer_to_a_probe_has_a_fixture() {
    let health = ReaderHealth {
        status: ReaderHealthStatus::Draining.into(),
        service: "reader".to_owned(),
        instance_id: Some("reader-1".to_owned()),
        active_connections: 3,
        subscribed_topics: vec!["video:cats".to_owned()],
        messages_sent: 12,
    };
    check_message("reader-health", &health);
    let of_another_program: ReaderHealth = serde_json::from_str("{}").expect("an object is read");
    assert_eq!(of_another_program.instance_id, None);
}

#[test]
fn load_messages_have_fixtures() {
    let state = ReaderState {
        id: reader("reader-1"),
        public_url: "http://a:4001".to_owned(),
        internal_url: "http://b:4001".to_owned(),
        state: ReaderStatus::Suspect.into(),
        cordon: Some(CordonLevel::Closed.into()),
        silent_ms: 3100,
        fresh: true,
        unreachable: true,
        drain_overdue: false,
        grace_ms: 5,
        viewers: 12,
        capacity: 100,
        assigned: 1,
        highest_epoch: 9,
        reconnects: 2,
        reconnect_errors: 1,
        videos: vec![(video(), 12)],
    };
    let assignment = VideoState {
        videoid: video(),
        epoch: 7,
        readers: vec![share()],
        viewers: 12,
        changed_ms: 60,
        moving: true,
    };
    let load = ClusterLoad {
        readers: vec![state],
        videos: 1,
        assignments: Some(vec![assignment]),
        term: Some(TermState { term: 3, holder: "operator".to_owned(), lease: Some(lease()) }),
        fresh: true,
        hold: Some("too many readers are silent".to_owned()),
        highest_epoch: 9,
        viewers_per_minute: 20_000,
        in_flight: 1,
        cordons: vec![cordon()],
        unserved: Some(UnservedRequests { requests: 2, since_ms: 1500, video: Some(video()) }),
    };
    check_message("load", &load);
}

#[test]
fn order_messages_have_fixtures() {
    let request =
        TermRequest { holder: "operator".to_owned(), expected: Some(2), renew: Some(3), lease: lease() };
    check_message("term-request", &request);
    let order =
        MoveRequest { videoid: video(), expected: 7, readers: vec![share()], why: "balance".to_owned() };
    check_message("moves-request", &MovesRequest { term: 3, lease: lease(), moves: vec![order] });
    let answer = MoveAnswer {
        videoid: video(),
        status: 409,
        id: Some(5),
        epoch: Some(8),
        detail: Some("another epoch is in force".to_owned()),
    };
    check_message("move-answer", &answer);
    let state = MoveState {
        id: 5,
        videoid: video(),
        state: MovePhase::HandingOver.into(),
        from: vec![share()],
        to: vec![share()],
        epoch: 8,
        viewers: 12,
        left: 4,
        by: OrderedBy::Autopilot.into(),
        why: "balance".to_owned(),
        term: Some(3),
        detail: Some("it was given up".to_owned()),
        age_ms: 900,
    };
    check_message("moves", &MovesAnswer { moves: vec![state], in_flight: 4, viewers_per_minute: 20_000 });
    check_message("cordons-request", &CordonsRequest { term: 3, lease: lease(), cordons: vec![cordon()] });
    check_message("cordons", &CordonsAnswer { cordons: vec![cordon()] });
}

#[test]
fn report_messages_have_fixtures() {
    let one = |value| BTreeMap::from([("cats".to_owned(), value)]);
    let comment = CommentReport {
        instance_id: Some("comment-1".to_owned()),
        total_comments: 9,
        comments_by_video: one(9),
        active_topics: vec!["cats".to_owned()],
        topic_subscribers: one(1),
    };
    check_message("comment-report", &comment);
    let of_reader = ReaderReport {
        instance_id: "reader-1".to_owned(),
        active_connections: 12,
        capacity: Some(100),
        subscribed_topics: vec!["cats".to_owned()],
        messages_sent: 70,
    };
    check_message("reader-report", &of_reader);
    let manager = ManagerReport {
        instance_id: Some("manager-1".to_owned()),
        service: "ReaderApiManager".to_owned(),
        registered_videos: 1,
        available_reader_apis: vec!["reader-1".to_owned()],
        registration_count: 2,
        video_mappings: BTreeMap::from([("cats".to_owned(), "reader-1".to_owned())]),
    };
    check_message("manager-report", &manager);
}

#[test]
fn every_message_has_a_fixture() {
    let (source, here) = (include_str!("../src/lib.rs"), include_str!("formats.rs"));
    let messages: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub struct ")?.split_once(" {"))
        .map(|(name, _)| name)
        .collect();
    assert!(messages.len() > 20, "{messages:?}");
    for name in messages {
        assert!(here.contains(&format!("{name} {{")), "{name} is in no fixture");
    }
}
