//! Messages between processes of two releases: a process reads the messages of the release before, ignores fields that
//! a later release adds, and still sends all fields that the release before needs.

#[path = "../../core/tests/support/fixtures.rs"]
mod fixtures;

use std::collections::BTreeMap;
use std::fmt::Debug;

use fixtures::{Format, check};
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, HandOver, HeldVideo, PlannerLease, ReaderShare};
use liverank_core::placement::{ChangeKind, ReachedLimit, ReaderAvailability, ViewerBalance};
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId, ZoneId};
use liverank_protocol::{
    AssignedVideoState, BoardFreshness, ChosenOrder, ClusterLoad, CommentServiceReport, CommentTotals,
    CordonRequest, CordonsAnswer, CordonsRequest, DemoState, ForecastMinute, ForecastReader, HeartbeatAnswer,
    HistoryColumns, LagOfPartition, ManagerHealth, ManagerReport, MoveAnswer, MoveAnswers, MoveKind,
    MovePhase, MoveRequest, MoveState, MovesAnswer, MovesRequest, OrderedBy, OutsideDecision, Overview,
    OverviewMove, OverviewReader, PartState, PlanAnswer, PlannerDecision, PlannerState, ReaderColumn,
    ReaderHealth, ReaderHealthStatus, ReaderRecord, ReaderReport, ReaderState, ReaderTotals, RefusalDetails,
    RegisterAction, RegisterAnswer, RegisterRequest, ReportAnswer, ResolveAnswer, Route, RouteReader,
    RouteRequest, ServiceHealth, StatisticsTotals, SystemLag, SystemState, TermRequest, TermState,
    UnlistedVideos, UnservedRequests, ViewersAnswer, ViewersOfVideos, ViewersRequest, WarmAnswer,
    WarmRequest, WatchedVideo, WebsocketHealth, WhatIfAnswer, WhatIfRequest, WhatIfVideo, ZonedViewers,
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

fn zone() -> ZoneId {
    ZoneId::parse("eu-1a").expect("an id")
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
        spare: 5,
        zone: Some(zone()),
        pass_key: Some(secret()),
    };
    check_message("route", &Route { videoid: video(), epoch: 7, readers: vec![of_route], stale: true });
    check_message(
        "route-request",
        &RouteRequest { videoid: video(), epoch: Some(7), viewer_address: Some([192, 0, 2, 7].into()) },
    );
    let hand_over =
        HandOver { video: video(), epoch: 7, to: "http://c:4001".to_owned(), here: true, keep: 3, pace: 50 };
    let (viewers_elsewhere, room_elsewhere) = (vec![(video(), 12)], Some(340));
    let answer = HeartbeatAnswer { hand_over: vec![hand_over], viewers_elsewhere, room_elsewhere };
    check_message("heartbeat-answer", &answer);
    check_message("warm", &WarmRequest { videoid: video(), epoch: 7 });
    check_message("warmed", &WarmAnswer { videoid: video(), head: Some("abc-12".to_owned()) });
    check_message("viewers", &ViewersAnswer { videoid: video(), viewers: 12, peak: Some(340) });
    check_message("viewers-request", &ViewersRequest { videos: vec![video()], peaks: true });
    check_message("viewers-of-many", &ViewersOfVideos { viewers: vec![12], peaks: Some(vec![340]) });
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
        zone: Some(zone()),
        viewers_by_zone: ZonedViewers { same: 7, other: 4 },
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
        zone: Some(zone()),
        viewers_by_zone: ZonedViewers { same: 7, other: 4 },
        capacity: 100,
        assigned: 1,
        highest_epoch: 9,
        reconnects: 2,
        reconnect_errors: 1,
        videos: vec![(video(), 12)],
    };
    let assignment = AssignedVideoState {
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
        unlisted: Some(UnlistedVideos { videos: 3, viewers: vec![(reader("reader-1"), 4)] }),
    };
    check_message("load", &load);
}

#[test]
fn order_messages_have_fixtures() {
    let request = TermRequest {
        holder: "operator".to_owned(),
        expected: Some(2),
        renew: Some(3),
        lease: lease(),
        decisions: vec![outside_decision()],
    };
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
    check_message("move-answers", &MoveAnswers { moves: vec![answer] });
    check_message(
        "moves",
        &MovesAnswer { moves: vec![move_state()], in_flight: 4, viewers_per_minute: 20_000 },
    );
    check_message("cordons-request", &CordonsRequest { term: 3, lease: lease(), cordons: vec![cordon()] });
    check_message("cordons", &CordonsAnswer { cordons: vec![cordon()] });
}

#[test]
fn report_messages_have_fixtures() {
    let one = |value| BTreeMap::from([("cats".to_owned(), value)]);
    let comment = CommentServiceReport {
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

fn balance() -> ViewerBalance {
    ViewerBalance {
        viewers: 12,
        on_draining: 3,
        waiting: 1,
        readers: 2,
        outside: 1,
        max_over_mean: 1_500_000,
        min_over_mean: 500_000,
        excess: 4,
        max_utilisation: 900,
    }
}

fn chosen() -> ChosenOrder {
    ChosenOrder {
        videoid: "cats".to_owned(),
        kind: ChangeKind::Split.into(),
        from: vec![share()],
        to: vec![share()],
        viewers: 6,
        why: "12 viewers are too many for reader-1".to_owned(),
        outcome: "move 5".to_owned(),
    }
}

fn outside_decision() -> OutsideDecision {
    OutsideDecision {
        id: "ScaleUp-12".to_owned(),
        at: 1_760_000_000_000,
        action: "ScaleUp".to_owned(),
        reason: "5 readers are wanted for 41,000 viewers".to_owned(),
        bound_by: vec!["maxReaders".to_owned()],
        chosen: vec!["reader-4".to_owned()],
        rejected: vec!["reader-1: it is being emptied".to_owned()],
    }
}

fn planner_decision() -> PlannerDecision {
    PlannerDecision {
        at: 1_760_000_000_000,
        term: 3,
        readers: 2,
        videos: 1,
        budget: 20_000,
        before: balance(),
        after: balance(),
        moved: 6,
        chosen_total: 1,
        chosen: vec![chosen()],
        bound_by: vec![ReachedLimit::NoOpenReader.into()],
        rejected: vec!["video cats rests".to_owned()],
    }
}

fn move_state() -> MoveState {
    MoveState {
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
    }
}

fn overview() -> Overview {
    let of_reader = OverviewReader {
        id: reader("reader-1"),
        state: ReaderStatus::Leaving.into(),
        cordon: Some(CordonLevel::Closed.into()),
        viewers: 12,
        capacity: 100,
        videos: 1,
        silent_ms: 400,
        unreachable: true,
        zone: Some(zone()),
        viewers_by_zone: ZonedViewers { same: 7, other: 4 },
    };
    let column = ReaderColumn { id: reader("reader-1"), viewers: vec![11, 12] };
    Overview {
        at: 1_760_000_000_000,
        fresh: true,
        hold: Some("too many readers are silent".to_owned()),
        viewers: 12,
        capacity: 100,
        videos_assigned: 2,
        videos_watched: 1,
        readers_total: 1,
        readers: vec![of_reader],
        history: HistoryColumns { times: vec![5_000, 10_000], readers: vec![column], others: vec![0, 1] },
        videos: vec![WatchedVideo {
            videoid: video(),
            viewers: 12,
            readers: vec![reader("reader-1")],
            moving: true,
        }],
        moves: vec![OverviewMove { state: move_state(), kind: MoveKind::Reshare.into() }],
        in_flight: 4,
        viewers_per_minute: 20_000,
        cordons: vec![cordon()],
        unserved: Some(UnservedRequests { requests: 2, since_ms: 1500, video: Some(video()) }),
        planner: PlannerState {
            leading: true,
            holder: Some("manager-a".to_owned()),
            term: Some(3),
            decisions: vec![planner_decision()],
            outside: vec![outside_decision()],
        },
    }
}

#[test]
fn messages_for_people_who_look_after_the_system_have_fixtures() {
    check_message("overview", &overview());
    let state = SystemState {
        at: 1_760_000_000_000,
        placement: Some(overview()),
        lag: Some(SystemLag {
            records: 7,
            waited_ms: Some(1_500),
            projection: 2,
            partitions: vec![LagOfPartition { partition: 3, records: 7, waited_ms: 1_500, projection: 2 }],
        }),
        weights: Some(serde_json::json!({"view": 1.0, "like": 2.0})),
        counts: BTreeMap::from([("logged".to_owned(), 70)]),
        rates: BTreeMap::from([("logged".to_owned(), Some(2.5)), ("shown".to_owned(), None)]),
        streams: 3,
        parts: vec![PartState { name: "log".to_owned(), away: true, detail: Some("no answer".to_owned()) }],
        demo: Some(DemoState { running: true, step: "A video goes viral".to_owned(), seconds_left: 12 }),
        freshness: Some(BoardFreshness { samples: 9, median_ms: 16, worst_ms: 30 }),
    };
    check_message("system-state", &state);
    let term = Some(TermState { term: 3, holder: "manager-a".to_owned(), lease: Some(lease()) });
    let plan = PlanAnswer {
        autopilot: true,
        leading: true,
        term,
        decisions: vec![planner_decision()],
        outside: vec![outside_decision()],
    };
    check_message("plan", &plan);
}

#[test]
fn forecast_messages_have_fixtures() {
    let videos = Some(vec![WhatIfVideo { videoid: video(), viewers: 9_000 }]);
    check_message("what-if-request", &WhatIfRequest { readers: Some(2), videos });
    let minute = ForecastMinute {
        orders_total: 1,
        orders: vec![chosen()],
        moved: 6,
        before: balance(),
        after: balance(),
        bound_by: vec![ReachedLimit::Budget.into()],
        rejected: vec!["video cats rests".to_owned()],
    };
    let of_reader = ForecastReader {
        id: reader("reader-1"),
        capacity: 100,
        standing: ReaderAvailability::Draining.into(),
        before: 12,
        after: 6,
        zone: Some(zone()),
    };
    let answer = WhatIfAnswer { minutes: vec![minute], settled: true, moved: 6, readers: vec![of_reader] };
    check_message("what-if-answer", &answer);
}

#[test]
fn health_statistics_and_refusals_have_fixtures() {
    check_message("service-health", &ServiceHealth::healthy("gateway"));
    let manager = ManagerHealth {
        service: ServiceHealth::healthy("manager"),
        registered_videos: 1,
        available_reader_apis: vec!["http://a:4001".to_owned()],
        registration_count: 2,
    };
    check_message("manager-health", &manager);
    let websocket =
        WebsocketHealth { service: ServiceHealth::healthy("websocket"), connections: 3, videos: 9 };
    check_message("websocket-health", &websocket);
    let totals = StatisticsTotals {
        comment_api: CommentTotals { total_comments: 9 },
        reader_apis: ReaderTotals { total_messages_sent: 70 },
    };
    check_message("statistics-totals", &totals);
    check_message("report-answer", &ReportAnswer { success: true });
    let refusal = RefusalDetails {
        detail: Some("readers: must be a whole number".to_owned()),
        field: Some("readers".to_owned()),
    };
    check_message("refusal", &refusal);
    assert_eq!(RefusalDetails::parse("<html>"), RefusalDetails::default());
}

#[test]
fn every_message_has_a_fixture() {
    let here = include_str!("formats.rs");
    let source =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("the sources are there");
    let mut messages = Vec::new();
    for file in source {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a source is text");
        // A message is what is sent and read; tables of roles and of access are neither.
        for message in text.split("Serialize, Deserialize)]").skip(1) {
            let name = message.lines().find_map(|line| line.strip_prefix("pub struct "));
            let ends = message.find("\n}\n").unwrap_or(message.len());
            let own = name.filter(|_| message.find("pub struct ").is_some_and(|at| at < ends));
            messages.extend(own.and_then(|name| name.split_once(" {")).map(|(name, _)| name.to_owned()));
        }
    }
    assert!(messages.len() > 50, "{messages:?}");
    for name in messages {
        let made = [format!("{name} {{"), format!("{name}::")];
        assert!(made.iter().any(|it| here.contains(it)), "{name} is in no fixture");
    }
}
