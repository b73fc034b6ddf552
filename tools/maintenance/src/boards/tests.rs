use std::path::Path;

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::clock;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::BatchProjection;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_consumer::projection::ProjectionTarget;
use liverank_consumer::repair::repair_target;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::{Batch, LogRecord, OffsetRange, RecordFingerprint};
use liverank_core::{Interaction, Millis};
use serde_json::json;

use super::*;

pub(crate) fn stores(directory: &Path) -> Backends {
    Backends {
        log: Arc::new(EmbeddedLog::open(directory, clock::system_clock()).unwrap()),
        archive: Arc::new(EmbeddedArchive::open(directory).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    }
}

const NOW: Millis = 1_700_000_000_000;

async fn count(backends: &Backends, events: &[(&str, &str)]) {
    count_from(backends, 0, NOW, events).await;
}

/// Counts events that the log took at `now` as its records from `first` on.
async fn count_from(backends: &Backends, first: u64, now: Millis, events: &[(&str, &str)]) {
    let record = |(offset, (video, kind)): (u64, &(&str, &str))| {
        let value = json!({"video_id": video, "user_id": "u", "type": kind});
        let event = Interaction::parse(&value, now).unwrap();
        LogRecord { partition: 0, offset, broker_time: now, event }
    };
    let records: Vec<LogRecord> = (first..).zip(events).map(record).collect();
    let last_record =
        records.last().map(|last| RecordFingerprint { broker_time: last.broker_time, digest: 0 });
    let span = OffsetRange { partition: 0, first, next: first + records.len() as u64, last_record };
    backends.archive.open(&CountingRules::default()).await.unwrap();
    backends.archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();
}

#[tokio::test]
async fn a_declared_board_is_compared_with_what_the_archive_says_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let backends = stores(directory.path());
    count(&backends, &[("a", "like"), ("a", "view"), ("b", "view"), ("c", "like")]).await;
    let boards = json!([{"name": "liked", "weights": {"like": 5}, "minimum": 5}, {"name": "hot", "order": "trending"}]);
    let boards = DeclaredBoards::from_json(&boards).unwrap();
    let positions = BTreeMap::from([(0, backends.archive.partition_positions(&[0]).await.unwrap()[0])]);
    let progress = CommandProgress::new();
    let wrong = async |board: &DeclaredBoard| {
        let compared = ComparedBoards::declared(&backends, board).pop().unwrap();
        let (report, wrong) = compare_boards(&compared, None, &positions, &progress).await.unwrap();
        assert_eq!((report.problem, report.videos), (None, 3));
        wrong
    };
    for (board, on_it) in boards.iter().zip([2, 3]) {
        let store = backends.ranking.declared_board(&board.store_key());
        repair_target(
            &backends,
            ProjectionTarget { ranking_store: &*store, declared_board: Some(board), window: None },
            &[],
            1,
            &|_| (),
        )
        .await
        .unwrap();
        assert_eq!(store.boards_snapshot().await.unwrap().entries.len(), on_it);
        assert_eq!(wrong(board).await, []);
    }
    // The board gets a video that does not belong there, and another score of a video that does.
    let liked = boards.iter().next().unwrap();
    let store = backends.ranking.declared_board(&liked.store_key());
    let entry = |id: &str, score| BoardEntry {
        video_id: id.parse().unwrap(),
        owner: "u".parse().unwrap(),
        score,
        trending: None,
        revision: 1_000,
        removed: false,
    };
    let entries = vec![entry("b", 9.0), entry("c", 4.0)];
    let projection =
        BatchProjection { generation: 1, offset_ranges: Vec::new(), entries, traces: Vec::new() };
    store.project_batch(&projection).await.unwrap();
    let found = wrong(liked).await;
    let fields: Vec<_> = found.iter().map(|it| (it.video_id.as_str(), it.field)).collect();
    assert!(fields.contains(&("b", "there")) && fields.contains(&("c", "score")), "{found:?}");
    assert!(found.iter().all(|difference| difference.board.as_deref() == Some("liked")), "{found:?}");
    assert_eq!(wrong(boards.iter().nth(1).unwrap()).await, []);
}

#[tokio::test]
async fn idle_videos_are_in_the_archive_and_not_on_the_boards() {
    const DAY: Duration = Duration::from_hours(24);
    let directory = tempfile::tempdir().unwrap();
    let backends = stores(directory.path());
    backends.log.open().await.unwrap();
    count(&backends, &[("old", "like"), ("returns", "like")]).await;
    let later = NOW + 100 * DAY.as_millis() as Millis;
    count_from(&backends, 2, later, &[("new", "view")]).await;
    let boards = DeclaredBoards::from_json(&json!([{"name": "liked", "weights": {"like": 5}}])).unwrap();
    let positions = BTreeMap::from([(0, backends.archive.partition_positions(&[0]).await.unwrap()[0])]);
    let mut compared = vec![ComparedBoards::built_in(&backends)];
    compared.extend(boards.iter().flat_map(|board| ComparedBoards::declared(&backends, board)));
    let shown = async |compared: &ComparedBoards<'_>| {
        let entries = compared.ranking.boards_snapshot().await.unwrap().entries;
        let mut ids: Vec<String> = entries.iter().map(|entry| entry.video_id.to_string()).collect();
        ids.sort();
        ids
    };
    let fill = async |compared: &ComparedBoards<'_>| {
        let ranking_store = &*compared.ranking;
        let target = ProjectionTarget { ranking_store, declared_board: compared.board, window: None };
        repair_target(&backends, target, &[], 1, &|_| ()).await.unwrap();
    };
    let retire = async |days: u32| {
        let until = Instant::now() + Duration::from_secs(20);
        liverank_consumer::idle::remove_idle_videos(&backends, &boards, days * DAY, until).await.unwrap();
    };
    for compared in &compared {
        fill(compared).await;
    }
    for (days, left) in
        [(0, vec!["new", "old", "returns"]), (99, vec!["new", "old", "returns"]), (90, vec!["new"])]
    {
        retire(days).await;
        for compared in &compared {
            assert_eq!(shown(compared).await, left, "{days} days on {:?}", compared.name());
        }
    }
    for compared in &compared {
        let check = async || {
            let progress = CommandProgress::new();
            compare_boards(compared, None, &positions, &progress).await.unwrap().1
        };
        assert_eq!(check().await, []);
        // A repair does not bring them back.
        fill(compared).await;
        assert_eq!(shown(compared).await, ["new"]);
    }
    // An event does, with all points.
    count_from(&backends, 3, later, &[("returns", "view")]).await;
    for compared in &compared {
        fill(compared).await;
        assert_eq!(shown(compared).await, ["new", "returns"]);
        let state = backends.archive.video(&"returns".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((state.counters.likes, state.counters.views), (1, 1));
    }
}
