//! Tests of the WebSocket service over real sockets, on the embedded ranking.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, are meant to fail where something is missing")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::ranking_store::{BatchProjection, BoardChange, BoardEntry, BuiltInBoard, PageStart};
use liverank_adapters::{RankingStore, clock};
use liverank_core::boards::{DeclaredBoard, DeclaredBoards};
use liverank_core::ranking::{RankedVideo, RankingDelta};
use liverank_core::{UserId, VideoId};
use liverank_runtime::ServiceContext;
use liverank_runtime::boards::BoardsArgs;
use liverank_websocket::{ClientLimits, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;

mod support {
    pub mod client;
    pub mod lossy;
    mod metadata;
}

use support::client::Client;
use support::lossy::Lossy;

/// The timeout of each wait: longer than anything here takes, shorter than a test run that hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A running service.
struct TestService {
    address: SocketAddr,
    ranking: Arc<dyn RankingStore>,
    shell: ServiceContext,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl TestService {
    async fn start() -> Self {
        let embedded = Arc::new(EmbeddedRanking::new());
        embedded.write_snapshot(1, &[]).await.unwrap();
        Self::start_with(embedded, Config::default()).await
    }

    async fn start_with(ranking: Arc<dyn RankingStore>, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shell = ServiceContext::new(Duration::from_secs(2));
        // The service notes this itself, but may not have begun to run when the test waits for it.
        shell.health.note_starting("ranking");
        let (boards, time) = (Arc::clone(&ranking), clock::system_clock());
        let task = tokio::spawn(liverank_websocket::run(config, boards, time, listener, shell.clone()));
        let service = Self { address, ranking, shell, task };
        service.wait_until("the ranking is read", |service| service.shell.health.readiness().0).await;
        service
    }

    async fn connect(&self, path: &str) -> Client {
        Client::connect(self.address, path).await
    }

    async fn change_boards(&self, entries: &[BoardEntry]) {
        let projection = BatchProjection {
            generation: 1,
            offset_ranges: vec![],
            entries: entries.to_vec(),
            traces: Vec::new(),
        };
        self.ranking.project_batch(&projection).await.unwrap();
    }

    async fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !done(self) {
            assert!(since.elapsed() < TEST_TIMEOUT, "not within {TEST_TIMEOUT:?}: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the value of one of the service's metrics.
    fn metric_value(&self, name: &str) -> i64 {
        let text = self.shell.metrics.encode_text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("liverank_websocket_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }
}

fn entry(id: &str, score: f64, owner: &str) -> BoardEntry {
    let (video_id, owner) = (VideoId::parse(id).unwrap(), UserId::parse(owner).unwrap());
    // Later states have higher scores in these tests.
    let revision = (score.max(0.0) * 1000.0) as u64 + 1;
    BoardEntry { video_id, owner, score, trending: None, revision, removed: false }
}

fn list_line(id: &str, score: f64, owner: &str) -> Value {
    json!({"video_id": id, "score": score, "user_id": owner})
}

#[tokio::test]
async fn a_list_comes_on_connect_even_when_it_is_empty_and_again_with_every_change() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos").await;
    assert_eq!(client.next().await, json!([]));
    service.change_boards(&[entry("a", 2.0, "ana"), entry("b", 5.0, "bob")]).await;
    assert_eq!(client.next().await, json!([list_line("b", 5.0, "bob"), list_line("a", 2.0, "ana")]));
    service.change_boards(&[entry("a", 6.0, "ana")]).await;
    assert_eq!(client.next().await, json!([list_line("a", 6.0, "ana"), list_line("b", 5.0, "bob")]));
    let mut late = service.connect("/ws/videos").await;
    assert_eq!(late.next().await, json!([list_line("a", 6.0, "ana"), list_line("b", 5.0, "bob")]));
}

#[tokio::test]
async fn ties_stand_in_descending_byte_order_and_a_limit_cuts_the_end_off() {
    let service = TestService::start().await;
    service.change_boards(&["a", "B", "ä", "b"].map(|id| entry(id, 1.0, "o"))).await;
    service.change_boards(&[entry("c", 0.0, "o")]).await;
    let mut all = service.connect("/ws/videos?limit=all").await;
    assert_eq!(all.ids_until(5).await, ["ä", "b", "a", "B", "c"]);
    let mut two = service.connect("/ws/videos?limit=2").await;
    assert_eq!(two.ids_until(2).await, ["ä", "b"]);
}

#[tokio::test]
async fn without_a_limit_it_is_a_thousand_and_all_is_all() {
    let service = TestService::start().await;
    let entries: Vec<_> = (0..6000).map(|n| entry(&format!("v{n}"), f64::from(n), "o")).collect();
    service.change_boards(&entries).await;
    assert_eq!(service.connect("/ws/videos").await.ids_until(1000).await.len(), 1000);
    let all = service.connect("/ws/videos?limit=all").await.ids_until(6000).await;
    assert_eq!((all[0].as_str(), all[5999].as_str()), ("v5999", "v0"));
}

#[tokio::test]
async fn the_trending_board_has_an_order_of_its_own() {
    let service = TestService::start().await;
    let trending =
        |id: &str, score, trending| BoardEntry { trending: Some(trending), ..entry(id, score, "o") };
    service
        .change_boards(&[trending("old", 9.0, 1.5), trending("new", 1.0, 2.5), entry("never", 3.0, "o")])
        .await;
    let mut client = service.connect("/ws/videos?board=trending").await;
    assert_eq!(client.ids_until(2).await, ["new", "old"]);
    assert_eq!(client.last[0]["score"], json!(2.5));
}

#[tokio::test]
async fn a_list_around_a_video_follows_it_wherever_it_goes() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos?around=v4&limit=3").await;
    let none = |total: u32| json!({ "first_rank": null, "total": total, "videos": [] });
    assert_eq!(client.next().await, none(0));
    let entries: Vec<_> = (0..9).map(|n| entry(&format!("v{n}"), f64::from(n), "o")).collect();
    service.change_boards(&entries).await;
    let part = |first_rank: u32, lines: [(&str, f64); 3]| {
        let videos = lines.map(|(id, score)| list_line(id, score, "o"));
        json!({ "first_rank": first_rank, "total": 9, "videos": videos })
    };
    assert_eq!(client.next().await, part(4, [("v5", 5.0), ("v4", 4.0), ("v3", 3.0)]));
    // The video keeps its score, and one video overtakes all of these lines: only the ranks change.
    service.change_boards(&[entry("v0", 20.0, "o")]).await;
    assert_eq!(client.next().await, part(5, [("v5", 5.0), ("v4", 4.0), ("v3", 3.0)]));
    service.change_boards(&[entry("v4", 30.0, "o")]).await;
    assert_eq!(client.next().await, part(1, [("v4", 30.0), ("v0", 20.0), ("v8", 8.0)]));
    let mut late = service.connect("/ws/videos?around=v4&limit=3").await;
    assert_eq!(late.next().await, part(1, [("v4", 30.0), ("v0", 20.0), ("v8", 8.0)]));
}

#[tokio::test]
async fn an_owner_sees_own_videos_only_and_hears_of_nothing_else() {
    let service = TestService::start().await;
    let mut ana = service.connect("/ws/user/ana").await;
    assert_eq!(ana.next().await, json!([]));
    service.change_boards(&[entry("b", 5.0, "bob")]).await;
    service.change_boards(&[entry("a", 2.0, "ana"), entry("c", 3.0, "ana")]).await;
    assert_eq!(ana.next().await, json!([{"video_id": "c", "score": 3.0}, {"video_id": "a", "score": 2.0}]));
    let mut one = service.connect("/ws/user/ana?limit=1").await;
    assert_eq!(one.next().await, json!([{"video_id": "c", "score": 3.0}]));
    let mut odd = service.connect("/ws/user/%C3%BC%20b").await;
    assert_eq!(odd.next().await, json!([]));
}

/// A client's copy of a list in delta mode.
#[derive(Default)]
struct ListCopy {
    version: u64,
    lines: Vec<RankedVideo>,
    snapshots: u32,
}

impl ListCopy {
    fn take_message(&mut self, message: &Value) {
        let version = message["version"].as_u64().unwrap();
        if message["type"] == "snapshot" {
            self.lines = serde_json::from_value(message["videos"].clone()).unwrap();
            self.snapshots += 1;
        } else {
            assert_eq!(message["type"], "delta");
            assert!(message["total"].as_u64() >= Some(1), "how many are ranked");
            assert_eq!(message["base"], json!(self.version), "a delta for another version");
            let delta: RankingDelta = serde_json::from_value(message.clone()).unwrap();
            self.lines = delta.applied_to(&self.lines);
        }
        self.version = version;
    }
}

#[tokio::test]
async fn deltas_rebuild_the_list_exactly() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos?mode=delta&limit=5").await;
    let mut copy = ListCopy::default();
    copy.take_message(&client.next().await);
    for round in 0..12u32 {
        let id = |n: u32| format!("v{}", (round * 7 + n * 3) % 11);
        let entries = [0, 1, 2].map(|n| entry(&id(n), f64::from(round * 2 + n % 2), "o"));
        service.change_boards(&entries).await;
        let page = service.ranking.board_page(BuiltInBoard::Global, &PageStart::Best, 5).await.unwrap();
        let expected = page.unwrap().videos;
        while copy.lines != expected {
            copy.take_message(&client.next().await);
        }
    }
    assert_eq!(copy.snapshots, 1, "changes come as deltas");
}

#[tokio::test]
async fn a_burst_is_sent_ten_times_a_second_and_its_end_is_exact() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos").await;
    client.next().await;
    let start = Instant::now();
    for n in 1..=100u32 {
        service.change_boards(&[entry("a", f64::from(n), "o")]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut messages = 0;
    while client.next().await != json!([list_line("a", 100.0, "o")]) {
        messages += 1;
    }
    let bound = start.elapsed().as_millis() / 100 + 2;
    assert!(messages < bound, "{messages} messages and the last one, of at most {bound}");
}

#[tokio::test]
async fn the_first_change_after_a_calm_goes_out_at_once() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos").await;
    client.next().await;
    let mut fastest = Duration::MAX;
    // Many tries, because some take long on a busy machine; a service that waits would never be fast.
    for n in 1..=8u32 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let start = Instant::now();
        service.change_boards(&[entry("a", f64::from(n), "o")]).await;
        client.next().await;
        fastest = fastest.min(start.elapsed());
    }
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[tokio::test]
async fn each_list_is_encoded_once_for_all_who_watch_it() {
    let service = TestService::start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = service.connect("/ws/videos").await;
        client.next().await;
        clients.push(client);
    }
    assert_eq!((service.metric_value("encodes_total"), service.metric_value("lists")), (1, 1));
    service.change_boards(&[entry("a", 1.0, "o")]).await;
    for client in &mut clients {
        assert_eq!(client.next().await, json!([list_line("a", 1.0, "o")]));
    }
    assert_eq!((service.metric_value("encodes_total"), service.metric_value("messages_total")), (2, 40));
    drop(clients);
    service.wait_until("nobody watches", |service| service.metric_value("lists") == 0).await;
    service.change_boards(&[entry("a", 2.0, "o")]).await;
    let mut again = service.connect("/ws/videos").await;
    assert_eq!(again.ids_until(1).await, ["a"]);
}

#[tokio::test]
async fn a_slow_client_skips_to_the_latest_and_a_snapshot_mends_its_deltas() {
    let service = TestService::start().await;
    let entries = |round: u32| -> Vec<BoardEntry> {
        let owner = "owner".repeat(40);
        (0..2000).map(|n| entry(&format!("video-{n}"), f64::from(round), &owner)).collect()
    };
    service.change_boards(&entries(0)).await;
    let mut slow = service.connect("/ws/videos?mode=delta&limit=all").await;
    let mut quick = service.connect("/ws/videos?mode=delta&limit=all").await;
    let (mut copy, mut quick_copy) = (ListCopy::default(), ListCopy::default());
    // In all more bytes than the sockets' buffers hold.
    for round in 1..=25 {
        service.change_boards(&entries(round)).await;
        while quick_copy.lines.first().is_none_or(|line| line.score < f64::from(round)) {
            quick_copy.take_message(&quick.next().await);
        }
    }
    let mut messages = 0;
    while copy.lines != quick_copy.lines {
        copy.take_message(&slow.next().await);
        messages += 1;
    }
    assert!(messages < 25, "{messages} messages: none was skipped");
    assert!(copy.snapshots >= 2, "who skipped versions needs a snapshot");
}

/// Waits until one connection is left, and checks the reason for which the other one ended.
async fn one_is_dropped(service: &TestService, reason: &str) {
    service.wait_until("one is gone", |service| service.metric_value("connections") == 1).await;
    let ended = service.shell.metrics.encode_text();
    assert!(ended.contains(&format!("disconnects_total{{reason=\"{reason}\"}} 1")), "{reason}: {ended}");
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped() {
    let limits = ClientLimits { stall_timeout: Duration::from_millis(300), ..ClientLimits::default() };
    let ranking = Arc::new(EmbeddedRanking::new());
    // More bytes than the sockets' buffers hold.
    let owner = "somebody".repeat(30);
    let long: Vec<_> = (0..50_000).map(|n| entry(&format!("video-{n}"), 1.0, &owner)).collect();
    ranking.write_snapshot(1, &long).await.unwrap();
    let service = TestService::start_with(ranking, Config { limits, ..Config::default() }).await;
    let mut reads = service.connect("/ws/videos?limit=1").await;
    let never_reads = service.connect("/ws/videos?limit=all").await;
    one_is_dropped(&service, "stuck").await;
    assert_eq!(reads.ids_until(1).await.len(), 1);
    assert_eq!(reads.ping(b"still here").await, b"still here");
    drop(never_reads);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_dropped() {
    let ms = Duration::from_millis;
    // The limit is longer than this process may stand still on a busy machine: both ends of a connection are in it, so a
    // client that answers would seem silent, too.
    let limits =
        ClientLimits { ping_interval: ms(50), silence_timeout: ms(4_000), ..ClientLimits::default() };
    let ranking = Arc::new(EmbeddedRanking::new());
    let service = TestService::start_with(ranking, Config { limits, ..Config::default() }).await;
    let mut answers = service.connect("/ws/videos").await;
    // This client answers pings, because it reads.
    let listening = tokio::spawn(async move { answers.closed().await });
    let never_answers = service.connect("/ws/videos").await;
    one_is_dropped(&service, "silent").await;
    assert!(!listening.is_finished());
    listening.abort();
    drop(never_answers);
}

#[tokio::test]
async fn clients_are_told_of_a_restart_within_the_drain() {
    let service = TestService::start().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(service.connect("/ws/videos").await);
    }
    let start = Instant::now();
    service.shell.shutdown.cancel();
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(1012));
    }
    service.task.await.unwrap().unwrap();
    // The drain has two seconds; the rest is for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_may_ping_talk_nonsense_and_leave_properly() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos").await;
    client.say("what is this?").await;
    assert_eq!(client.ping(b"there?").await, b"there?");
    assert_eq!(client.leave().await, Some(1000));
    let mut loud = service.connect("/ws/videos").await;
    loud.say(&"x".repeat(5000)).await;
    assert_eq!(loud.closed().await, Some(1009));
    service.wait_until("both are gone", |service| service.metric_value("connections") == 0).await;
}

#[tokio::test]
async fn a_hole_in_the_versions_is_mended_by_a_snapshot() {
    let embedded = Arc::new(EmbeddedRanking::new());
    embedded.write_snapshot(1, &[]).await.unwrap();
    let lossy = Arc::new(Lossy::new(
        embedded,
        |change| matches!(change, BoardChange::Changed { entries, .. } if entries[0].video_id.as_str() == "lost"),
    ));
    let service = TestService::start_with(lossy, Config::default()).await;
    let mut client = service.connect("/ws/videos").await;
    client.next().await;
    let before = service.metric_value("snapshots_total");
    service.change_boards(&[entry("lost", 2.0, "o")]).await;
    service.change_boards(&[entry("heard", 1.0, "o")]).await;
    assert_eq!(client.ids_until(2).await, ["lost", "heard"]);
    assert!(service.metric_value("snapshots_total") > before);
}

#[tokio::test]
async fn a_repaired_ranking_replaces_the_list() {
    let service = TestService::start().await;
    service.change_boards(&[entry("a", 9.0, "o")]).await;
    let mut client = service.connect("/ws/videos").await;
    assert_eq!(client.ids_until(1).await, ["a"]);
    service.ranking.write_snapshot(2, &[entry("b", 1.0, "o")]).await.unwrap();
    service.ranking.commit_snapshot(2, &[]).await.unwrap();
    while client.next().await != json!([list_line("b", 1.0, "o")]) {}
}

#[tokio::test]
async fn wrong_parameters_are_refused_before_the_upgrade() {
    let service = TestService::start().await;
    for (path, field) in [
        ("/ws/videos?limit=0", "limit"),
        ("/ws/videos?limit=many", "limit"),
        ("/ws/videos?board=worst", "board"),
        ("/ws/videos?mode=both", "mode"),
        ("/ws/user/a?limit=-1", "limit"),
        ("/ws/user/%00", "user_id"),
        ("/ws/user/%ff", "user_id"),
    ] {
        let (status, body) = Client::refused(service.address, path).await;
        assert_eq!((status, &body["field"]), (400, &json!(field)), "{path}");
    }
    let (status, _) = Client::refused(service.address, "/ws/else").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn without_a_handshake_it_is_426_and_health_is_healthy() {
    let service = TestService::start().await;
    let url = |path: &str| format!("http://{}{path}", service.address);
    let answer = reqwest::get(url("/ws/videos")).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["upgrade"]),
        (426, &"websocket".parse().unwrap())
    );
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let health: Value =
        serde_json::from_str(&reqwest::get(url("/health")).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("websocket")));
    let posted = reqwest::Client::new().post(url("/ws/videos")).send().await.unwrap();
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn there_is_room_for_as_many_as_configured_and_lists_are_bounded() {
    let ranking = Arc::new(EmbeddedRanking::new());
    let service = TestService::start_with(ranking, Config { max_websockets: 2, ..Config::default() }).await;
    let _first = service.connect("/ws/videos").await;
    let second = service.connect("/ws/videos").await;
    assert_eq!(Client::refused(service.address, "/ws/videos").await.0, 503);
    drop(second);
    service.wait_until("there is room", |service| service.metric_value("connections") == 1).await;
    let _third = service.connect("/ws/videos").await;

    // Unusual limits, with which one client could once use up the lists of all others.
    let service = TestService::start().await;
    let mut clients = Vec::new();
    for limit in 1..=300 {
        clients.push(service.connect(&format!("/ws/videos?limit={limit}")).await);
    }
    assert_eq!(service.metric_value("lists"), 2);
    let mut open = Vec::new();
    for limit in 1001.. {
        match tokio_tungstenite::connect_async(format!(
            "ws://{}/ws/videos?mode=delta&limit={limit}",
            service.address
        ))
        .await
        {
            Ok((socket, _)) => open.push(socket),
            Err(_) => break,
        }
        assert!(limit < 1100, "changes of made-up lists are bounded");
    }
    for usual in
        ["", "?limit=all", "?limit=17", "?mode=delta", "?mode=delta&limit=10", "?mode=delta&limit=all"]
    {
        let mut client = service.connect(&format!("/ws/videos{usual}")).await;
        client.next().await;
    }
}

#[tokio::test]
async fn a_cut_list_is_sent_when_it_changes_and_not_when_what_is_below_it_does() {
    let service = TestService::start().await;
    service.change_boards(&[entry("a", 9.0, "o"), entry("b", 8.0, "o"), entry("c", 1.0, "o")]).await;
    let mut two = service.connect("/ws/videos?limit=2").await;
    assert_eq!(two.next().await, json!([list_line("a", 9.0, "o"), list_line("b", 8.0, "o")]));
    let mut all = service.connect("/ws/videos?limit=100").await;
    all.ids_until(3).await;
    service.change_boards(&[entry("c", 2.0, "o")]).await;
    assert_eq!(all.next().await[2], list_line("c", 2.0, "o"));
    service.change_boards(&[entry("c", 10.0, "o")]).await;
    assert_eq!(two.next().await, json!([list_line("c", 10.0, "o"), list_line("a", 9.0, "o")]));
}

#[tokio::test]
async fn ten_pings_at_once_are_answered_by_the_latest_and_a_status_that_is_none_by_1002() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let masked =
        |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    let handshake = "GET /ws/videos HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo, websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let service = TestService::start().await;
    for (said, heard) in [
        ((0..10).flat_map(|n| masked(0x89, &[b'0' + n])).collect::<Vec<u8>>(), &b"\x8a\x019"[..]),
        (masked(0x88, &1005_u16.to_be_bytes()), &[0x88, 2, 3, 234]),
        (masked(0x88, &1006_u16.to_be_bytes()), &[0x88, 2, 3, 234]),
        (masked(0x88, &999_u16.to_be_bytes()), &[0x88, 2, 3, 234]),
        (masked(0x88, &4000_u16.to_be_bytes()), &[0x88, 2, 0x0f, 0xa0]),
    ] {
        let mut stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
        stream.write_all(handshake.as_bytes()).await.unwrap();
        stream.write_all(&said).await.unwrap();
        let mut bytes = Vec::new();
        let found = async {
            while !bytes.windows(heard.len()).any(|window| window == heard) {
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{said:x?}: {bytes:x?}");
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, found).await.expect("the answer");
    }
    let old = handshake.replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
    stream.write_all(old.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[9..], b"426");
}

/// A declared board has its own lists from the time when it is filled, and its videos are not seen on other boards.
#[tokio::test]
async fn a_declared_board_is_watched_by_its_name() {
    let embedded = Arc::new(EmbeddedRanking::new());
    embedded.write_snapshot(1, &[]).await.unwrap();
    let declared = r#"[{"name": "liked", "weights": {"like": 1}}, {"name": "hot", "order": "trending"}]"#;
    let boards = BoardsArgs { boards: Some(declared.into()), boards_file: None };
    let value: Value = serde_json::from_str(declared).unwrap();
    let keys: Vec<String> =
        DeclaredBoards::from_json(&value).unwrap().iter().map(DeclaredBoard::store_key).collect();
    let service = TestService::start_with(embedded, Config { boards, ..Config::default() }).await;
    service.change_boards(&[entry("a", 5.0, "o")]).await;
    let liked = service.ranking.declared_board(&keys[0]);
    liked.write_snapshot(1, &[entry("a", 1.0, "o"), entry("b", 2.0, "o")]).await.unwrap();
    liked.commit_snapshot(1, &[]).await.unwrap();
    let mut client = service.connect("/ws/videos?board=liked&limit=5").await;
    assert_eq!(client.ids_until(2).await, ["b", "a"]);
    let entries = vec![entry("c", 3.0, "o")];
    let change = BatchProjection { generation: 1, offset_ranges: vec![], entries, traces: Vec::new() };
    liked.project_batch(&change).await.unwrap();
    assert_eq!(client.ids_until(3).await, ["c", "b", "a"]);
    assert_eq!(service.connect("/ws/videos?limit=5").await.ids_until(1).await, ["a"]);
    assert_eq!(service.connect("/ws/videos?board=hot").await.next().await, json!([]));
    let (status, problem) = Client::refused(service.address, "/ws/videos?board=best").await;
    assert_eq!((status, &problem["field"]), (400, &json!("board")));
    assert!(problem["detail"].as_str().unwrap().contains("liked or hot"), "{problem}");
}
