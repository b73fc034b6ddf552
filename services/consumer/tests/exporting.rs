//! The export writes everything that the archive has once and in order, whatever fails: on embedded stores, with
//! topics in memory that fail.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::CREATED_PARTITION_COUNT;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::export_topics::memory::{InjectedFailure, MemoryTopics};
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Backends, clock};
use liverank_consumer::export::ExportArgs;
use liverank_consumer::{Config, windows};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, Restriction, RuleName, RuleScope};
use liverank_core::windows::WindowKey;
use liverank_runtime::ServiceContext;
use liverank_runtime::boards::BoardsArgs;
use serde_json::{Value, json};

const TOPIC: &str = "comments";
const BOARDS_TOPIC: &str = "boards";
/// Maximum time for an export to complete.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

struct Stage {
    topics: MemoryTopics,
    backends: Backends,
    /// The time of the clock, in milliseconds since 1970, if the clock is not the machine's.
    now: Arc<AtomicI64>,
    _directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::with_clock(clock::system_clock(), Arc::default())
    }

    /// Returns a stage whose clock has this time until it is set.
    fn standing_at(now: i64) -> Self {
        let now = Arc::new(AtomicI64::new(now));
        let clock = Arc::clone(&now);
        Self::with_clock(Arc::new(move || clock.load(Relaxed)), now)
    }

    fn with_clock(clock: clock::Clock, now: Arc<AtomicI64>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let topics = MemoryTopics::default();
        let log = EmbeddedLog::open(directory.path(), Arc::clone(&clock)).unwrap();
        let backends = Backends {
            log: Arc::new(log.with_export_topics(Arc::new(topics.clone()))),
            archive: Arc::new(EmbeddedArchive::open(directory.path()).unwrap()),
            ranking: Arc::new(EmbeddedRanking::new()),
            comments: Arc::new(EmbeddedBus::new()),
            assignments: Arc::new(EmbeddedAssignments::new()),
            clock,
        };
        Self { topics, backends, now, _directory: directory }
    }

    async fn append_comment(&self, video: &str, id: &str) {
        let event = json!({
            "video_id": video, "user_id": "u", "type": "comment", "comment_id": id, "comment": "hello",
        });
        self.backends.log.append(video.as_bytes(), event.to_string().into_bytes()).await.unwrap();
    }

    async fn append_action(&self, video: Option<&str>, id: &str, action: ModerationAction) {
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: None };
        let video = video.map(|video| video.parse().unwrap());
        let record = moderation.into_record("mia".parse().unwrap(), video, id.parse().unwrap(), 0);
        let key = record.video_id.clone();
        self.backends.log.append(key.as_str().as_bytes(), record.to_json()).await.unwrap();
    }

    /// Appends comments with repeats, deletions, bans and comments that wait, all with ids that contain `nth`.
    async fn append_lot(&self, nth: usize) {
        for video in ["a", "b", "c"] {
            let id = format!("{video}{nth}");
            self.append_comment(video, &id).await;
            self.append_comment(video, &id).await;
            let comment_id = id.parse().unwrap();
            self.append_action(Some(video), &format!("del-{id}"), ModerationAction::Delete { comment_id })
                .await;
            let held = ModerationAction::Hold {
                comment_id: format!("held-{id}").parse().unwrap(),
                text: "hm".to_owned(),
                reply_to: None,
                rule: RuleName::HoldAll,
            };
            self.append_action(Some(video), &format!("hold-{id}"), held).await;
        }
        let ban = ModerationAction::Restrict {
            userid: format!("troll{nth}").parse().unwrap(),
            kind: Restriction::Ban,
            scope: RuleScope::Everywhere,
            until: None,
        };
        self.append_action(None, &format!("ban-{nth}"), ban).await;
    }

    /// Runs a consumer until everything is counted and exported, then ends the consumer.
    async fn export_all(&self) {
        let shell = ServiceContext::new(Duration::from_secs(1));
        let export = ExportArgs { export_comments: Some(TOPIC.to_owned()), export_boards: None };
        let config = Config { export, ..Config::default() };
        let consumer = tokio::spawn(liverank_consumer::run(config, self.backends.clone(), shell.clone()));
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.is_all_exported().await {
            assert!(Instant::now() < deadline, "not all is exported: {:?}", self.exported_records());
            assert!(!consumer.is_finished(), "the consumer ended: {:?}", consumer.await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shell.shutdown.cancel();
        consumer.await.unwrap().unwrap();
    }

    async fn is_all_exported(&self) -> bool {
        let ends = self.backends.log.end_offsets().await.unwrap();
        let partitions: Vec<u32> = (0..CREATED_PARTITION_COUNT).collect();
        let counted = self.backends.archive.partition_positions(&partitions).await.unwrap();
        let counted: Vec<u64> = counted.iter().map(|position| position.next_offset).collect();
        let count = |all: BTreeMap<u64, Vec<_>>| all.values().flatten().count();
        let is_told = count(self.exported_records()) >= count(self.archived().await);
        ends == counted && !self.topics.will_fail() && is_told
    }

    /// Returns the type and offset of each exported record, by partition, in the order of the topic.
    fn exported_records(&self) -> BTreeMap<u64, Vec<(u64, String)>> {
        let mut told = BTreeMap::<u64, Vec<(u64, String)>>::new();
        for record in self.topics.records(TOPIC) {
            let value: Value = serde_json::from_str(&record.value).unwrap();
            let place = (value["offset"].as_u64().unwrap(), value["type"].as_str().unwrap().to_owned());
            told.entry(value["partition"].as_u64().unwrap()).or_default().push(place);
        }
        told
    }

    /// Returns the type and offset of each record that the archive has, by partition, in log order.
    async fn archived(&self) -> BTreeMap<u64, Vec<(u64, String)>> {
        let (archive, mut all) = (&self.backends.archive, BTreeMap::new());
        for partition in 0..CREATED_PARTITION_COUNT {
            let mut here: Vec<(u64, u8, String)> = Vec::new();
            for entry in archive.comments_from(partition, 0, 10_000).await.unwrap() {
                let kind = if entry.comment.entry.removed_seq().is_some() { "deleted" } else { "comment" };
                here.push((entry.offset, 0, kind.to_owned()));
            }
            for held in archive.moderation_archive().held_comments_from(partition, 0, 10_000).await.unwrap() {
                here.push((held.place.2, 1, "held".to_owned()));
            }
            for line in archive.moderation_archive().audit_entries_from(partition, 0, 10_000).await.unwrap() {
                here.push((line.position.offset, 2, "moderation".to_owned()));
            }
            here.sort();
            if !here.is_empty() {
                let here = here.into_iter().map(|(offset, _, kind)| (offset, kind)).collect();
                all.insert(u64::from(partition), here);
            }
        }
        all
    }

    /// Checks that everything in the archive was exported. A comment may have been exported as `removed`, if its
    /// deletion was counted first.
    async fn expect_equal(&self) {
        let mut told = self.exported_records();
        for (_, kind) in told.values_mut().flatten() {
            if kind == "removed" {
                "comment".clone_into(kind);
            }
        }
        assert_eq!(told, self.archived().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_exported_once_whatever_fails_and_whoever_takes_over() {
    let stage = Stage::new();
    let failures = [
        &[][..],
        &[InjectedFailure::AnswerLost, InjectedFailure::Aborted],
        &[InjectedFailure::TakenOver, InjectedFailure::AnswerLost, InjectedFailure::TakenOver],
        &[InjectedFailure::Aborted, InjectedFailure::Aborted, InjectedFailure::AnswerLost],
    ];
    for (nth, failures) in failures.into_iter().enumerate() {
        stage.append_lot(nth).await;
        stage.topics.fail_next(failures.iter().copied());
        stage.export_all().await;
        stage.expect_equal().await;
    }
    let told = stage.exported_records();
    let of = |kind: &str| told.values().flatten().filter(|(_, it)| it == kind).count();
    assert_eq!((of("deleted"), of("held"), of("moderation")), (12, 12, 16), "{told:?}");
    assert_eq!(of("comment") + of("removed"), 12, "repeats are none");
}

const HOURLY_BOARD: &str = r#"[{"name": "hourly", "window": "hour", "keep": 3}]"#;

/// Runs a consumer with a board of hours until `is_done`, and ends it.
async fn export_boards(stage: &Stage, is_done: impl Fn(&[Value]) -> bool) {
    let shell = ServiceContext::new(Duration::from_secs(1));
    let boards = HOURLY_BOARD;
    let config = Config {
        export: ExportArgs { export_comments: None, export_boards: Some(BOARDS_TOPIC.to_owned()) },
        boards: BoardsArgs { boards: Some(boards.to_owned()), boards_file: None },
        ..Config::default()
    };
    let consumer = tokio::spawn(liverank_consumer::run(config, stage.backends.clone(), shell.clone()));
    let deadline = Instant::now() + TEST_TIMEOUT;
    while stage.topics.will_fail() || !is_done(&hourly(stage)) {
        assert!(Instant::now() < deadline, "not all is exported: {:?}", hourly(stage));
        assert!(!consumer.is_finished(), "the consumer ended: {:?}", consumer.await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}

/// Returns the exported records of the board with hourly windows.
fn hourly(stage: &Stage) -> Vec<Value> {
    let records = stage.topics.records(BOARDS_TOPIC);
    records
        .iter()
        .filter(|it| it.key == "hourly")
        .map(|it| serde_json::from_str(&it.value).unwrap())
        .collect()
}

fn results(records: &[Value]) -> Vec<(String, Vec<(String, f64)>)> {
    let line =
        |line: &Value| (line["video_id"].as_str().unwrap().to_owned(), line["score"].as_f64().unwrap());
    let of = |record: &Value| {
        let lines = record["lines"].as_array().unwrap().iter().map(line).collect();
        (record["window"]["name"].as_str().unwrap().to_owned(), lines)
    };
    records.iter().filter(|record| record["type"] == "result").map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_result_of_each_window_is_exported_once_whatever_fails_and_whoever_takes_over() {
    const MINUTE: i64 = 60_000;
    let start = 1_700_002_800_000;
    let stage = Stage::standing_at(start + 10 * MINUTE);
    stage.append_comment("a", "a1").await;
    stage.append_comment("a", "a2").await;
    stage.append_comment("b", "b1").await;
    let shows = |records: &[Value], name: &str, videos: u64| {
        let last = records.iter().rfind(|record| record["type"] != "result");
        last.is_some_and(|last| last["window"]["name"] == name && last["total"] == videos)
    };
    export_boards(&stage, |records| shows(records, "2023-11-14T23", 2)).await;
    assert!(results(&hourly(&stage)).is_empty(), "it has not ended");
    // The next hour runs; the hour that ended is not final yet, because events in it may be on their way.
    stage.now.store(start + 60 * MINUTE + 30_000, Relaxed);
    export_boards(&stage, |records| shows(records, "2023-11-15T00", 0)).await;
    assert!(results(&hourly(&stage)).is_empty(), "it is not final");
    stage.append_comment("c", "c1").await;
    stage.now.store(start + 65 * MINUTE, Relaxed);
    stage.topics.fail_next([
        InjectedFailure::Aborted,
        InjectedFailure::AnswerLost,
        InjectedFailure::TakenOver,
        InjectedFailure::AnswerLost,
    ]);
    export_boards(&stage, |records| !results(records).is_empty() && shows(records, "2023-11-15T00", 1)).await;
    // The next exporter does not write a result again; results of hours in which nobody exported are written later.
    for (hours, expected) in [(1, 1), (3, 3)] {
        stage.now.store(start + (hours * 60 + 6) * MINUTE, Relaxed);
        let before = hourly(&stage).len();
        export_boards(&stage, |records| records.len() > before && results(records).len() >= expected).await;
    }
    let line = |video: &str, score| (video.to_owned(), score);
    let hour = |name: &str, lines| (name.to_owned(), lines);
    assert_eq!(
        results(&hourly(&stage)),
        [
            hour("2023-11-14T23", vec![line("a", 4.0), line("b", 2.0)]),
            hour("2023-11-15T00", vec![line("c", 2.0)]),
            hour("2023-11-15T01", vec![]),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_forgets_no_window_that_the_log_says_is_kept() {
    const HOUR: i64 = 3_600_000;
    let start = 1_700_002_800_000;
    let stage = Stage::standing_at(start + HOUR / 6);
    let boards =
        BoardsArgs { boards: Some(HOURLY_BOARD.to_owned()), boards_file: None }.read_declarations().unwrap();
    let video = ["a".parse().unwrap()];
    let counted = async || {
        let archive = &stage.backends.archive;
        let kind = archive.archive_meta().await.unwrap().unwrap().windows.iter().next().unwrap().kind.clone();
        archive.window_videos(&WindowKey { kind, start }, &video).await.unwrap().len()
    };
    let forget = async || {
        let until = tokio::time::Instant::now() + TEST_TIMEOUT;
        windows::forget_old_windows(&stage.backends, &boards, Duration::ZERO, until).await.unwrap();
    };
    stage.append_comment("a", "a1").await;
    export_boards(&stage, |records| records.iter().any(|record| record["total"] == 1)).await;
    // Four hours later its window is not kept any more. The log knows of no such time.
    stage.now.store(start + 4 * HOUR, Relaxed);
    forget().await;
    assert_eq!(counted().await, 1, "a clock that is wrong forgot the window that runs");
    stage.append_comment("b", "b1").await;
    export_boards(&stage, |records| {
        records.iter().any(|record| record["window"]["name"] == "2023-11-15T03" && record["total"] == 1)
    })
    .await;
    forget().await;
    assert_eq!(counted().await, 0, "the log says that the time has passed");
}

#[tokio::test]
async fn a_log_without_topics_is_refused_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::new();
    let plain = EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap();
    let backends = Backends { log: Arc::new(plain), ..stage.backends.clone() };
    let export = ExportArgs { export_comments: Some(TOPIC.to_owned()), export_boards: None };
    let config = Config { export, ..Config::default() };
    let ended = liverank_consumer::run(config, backends, ServiceContext::new(Duration::from_secs(1))).await;
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("--export-comments needs --kafka"), "{error}");
}
