//! A producer that may write anything into the topic of events: its records count as what they say or become dead
//! letters, and change nothing of what others count.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Backends, clock};
use liverank_consumer::Config;
use liverank_core::{VideoId, canary};
use liverank_runtime::ServiceContext;
use serde_json::{Value, json};

const TEST_TIMEOUT: Duration = Duration::from_mins(1);
/// The video of an honest user; every hostile record is written with its key, so into the partition of its events.
const VICTIM: &str = "victim";
/// The number of honest events before, between and after the hostile records.
const HONEST_EVENTS: usize = 3;

/// What becomes of a hostile record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordOutcome {
    /// It becomes a dead letter.
    DeadLetter,
    /// It counts for the video that it names, as one event of one user.
    Counts,
}
use RecordOutcome::{Counts, DeadLetter};

fn view(changes: &Value) -> Vec<u8> {
    let mut record = json!({"video_id": "of-the-producer", "user_id": "eve", "type": "view"});
    for (member, value) in changes.as_object().unwrap() {
        record[member] = value.clone();
    }
    record.to_string().into_bytes()
}

/// Returns the attacks: what each is, its record and what becomes of it.
fn attacks() -> Vec<(&'static str, Vec<u8>, RecordOutcome)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_member = format!(r#"{{"video_id":"v","user_id":"u","type":"view","x":{deep}}}"#);
    vec![
        ("nothing", Vec::new(), DeadLetter),
        ("no text", vec![0xff, 0xfe, 0, 1], DeadLetter),
        ("no object", text("[1]"), DeadLetter),
        ("null", text("null"), DeadLetter),
        ("cut off", text(r#"{"video_id":"v","user_id":"u","type":"vi"#), DeadLetter),
        ("deep", deep.into_bytes(), DeadLetter),
        ("deep in a member", deep_member.into_bytes(), DeadLetter),
        (
            "a number beyond all",
            text(r#"{"video_id":"v","user_id":"u","type":"watch_time","watch_time":1e400}"#),
            DeadLetter,
        ),
        ("a negative time", view(&json!({"type": "watch_time", "watch_time": -1})), DeadLetter),
        ("an endless time", view(&json!({"type": "watch_time", "watch_time": 1e300})), DeadLetter),
        ("an unknown type", view(&json!({"type": "steal"})), DeadLetter),
        ("an id that is too long", view(&json!({"video_id": "x".repeat(257)})), DeadLetter),
        ("an empty id", view(&json!({"user_id": ""})), DeadLetter),
        ("the system's own video", view(&json!({"video_id": canary::CANARY_ID})), DeadLetter),
        ("the system's own user", view(&json!({"user_id": canary::user().as_str()})), DeadLetter),
        (
            "a comment that is too long",
            view(&json!({"type": "comment", "comment_id": "c", "comment": "x".repeat(5_000)})),
            DeadLetter,
        ),
        (
            "a moderator's action that is none",
            view(&json!({"type": "moderation", "moderation": {"action": "own"}})),
            DeadLetter,
        ),
        ("a time far ahead", view(&json!({"timestamp": 253_402_300_799_u64})), Counts),
        ("a time before all", view(&json!({"timestamp": 0})), Counts),
        ("members that nobody knows", view(&json!({"score": 1e9, "views": 1e9, "last_seq": 99})), Counts),
    ]
}

async fn append(backends: &Backends, record: Vec<u8>) {
    backends.log.append(VICTIM.as_bytes(), record).await.unwrap();
}

async fn append_honest(backends: &Backends) {
    let record = json!({"video_id": VICTIM, "user_id": "ana", "type": "view"});
    append(backends, record.to_string().into_bytes()).await;
}

#[tokio::test]
async fn a_producer_of_anything_changes_nothing_of_what_others_count() {
    let directory = tempfile::tempdir().unwrap();
    let backends = Backends {
        log: Arc::new(EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap()),
        archive: Arc::new(EmbeddedArchive::open(directory.path()).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    };
    let shell = ServiceContext::new(Duration::from_secs(5));
    let consumer = tokio::spawn(liverank_consumer::run(Config::default(), backends.clone(), shell.clone()));
    let attacks = attacks();
    append_honest(&backends).await;
    for (at, (_, record, _)) in attacks.iter().enumerate() {
        append(&backends, record.clone()).await;
        if at == attacks.len() / 2 {
            append_honest(&backends).await;
        }
    }
    append_honest(&backends).await;

    let read = async |id: &str| backends.archive.video(&VideoId::parse(id).unwrap()).await.unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while read(VICTIM).await.is_none_or(|video| video.counters.views < HONEST_EVENTS as i64) {
        assert!(Instant::now() < deadline, "the honest events behind them do not count");
        assert!(!consumer.is_finished(), "the consumer ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let victim = read(VICTIM).await.unwrap();
    assert_eq!((victim.counters.views, victim.owner.as_str()), (HONEST_EVENTS as i64, "ana"));
    // Every record has become what the table says, and the dead letters say why.
    let mut letters = Vec::new();
    let mut reader = backends.log.read_dead_letters(None).await.unwrap();
    loop {
        let some = reader.next_dead_letters(100).await.unwrap();
        if some.is_empty() {
            break;
        }
        letters.extend(some);
    }
    for (what, record, outcome) in &attacks {
        let letter =
            letters.iter().find(|letter| letter.truncated_from.is_none() && letter.value == record[..]);
        assert_eq!(letter.is_some(), *outcome == DeadLetter, "{what}");
        assert!(letter.is_none_or(|letter| !letter.reason.is_empty()), "{what}");
    }
    let counted = attacks.iter().filter(|(.., outcome)| *outcome == Counts).count();
    let own = read("of-the-producer").await.unwrap();
    assert_eq!(own.counters.views, counted as i64, "{:?}", own.counters);
    // No clock of a producer leads beyond that of the log.
    let hardly_ahead = (liverank_runtime::now_ms() as f64 / (360.0 * 60_000.0)) + 8.0;
    assert!(own.trending_log2 < hardly_ahead, "{} {hardly_ahead}", own.trending_log2);
    assert!(read(canary::CANARY_ID).await.is_none(), "the system's own video");
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}
