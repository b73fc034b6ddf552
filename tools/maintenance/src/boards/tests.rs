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
use liverank_core::Interaction;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::{Batch, LogRecord, OffsetRange};
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

async fn count(backends: &Backends, events: &[(&str, &str)]) {
    let now = 1_700_000_000_000;
    let record = |(offset, (video, kind)): (u64, &(&str, &str))| {
        let value = json!({"video_id": video, "user_id": "u", "type": kind});
        let event = Interaction::parse(&value, now).unwrap();
        LogRecord { partition: 0, offset, broker_time: now, event }
    };
    let records: Vec<LogRecord> = (0..).zip(events).map(record).collect();
    let span = OffsetRange { partition: 0, first: 0, next: records.len() as u64, last_record: None };
    backends.archive.open(&CountingRules::default()).await.unwrap();
    backends.archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();
}

#[tokio::test]
async fn a_declared_board_is_compared_with_what_the_archive_says_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let backends = stores(directory.path());
    count(&backends, &[("a", "like"), ("a", "view"), ("b", "view"), ("c", "like")]).await;
    let boards = json!([{"name": "liked", "weights": {"like": 5}, "minimum": 5}, {"name": "hot", "order": "trending"}]);
    let boards = DeclaredBoards::read(&boards).unwrap();
    let positions = BTreeMap::from([(0, backends.archive.partition_positions(&[0]).await.unwrap()[0])]);
    let progress = CommandProgress::new();
    let wrong = async |board: &DeclaredBoard| {
        let compared = ComparedBoards::declared(&backends, board).pop().unwrap();
        let (report, wrong) = compare_boards(&compared, None, &positions, &progress).await.unwrap();
        assert_eq!((report.problem, report.videos), (None, 3));
        wrong
    };
    for (board, on_it) in boards.iter().zip([2, 3]) {
        let store = backends.ranking.declared_board(&board.key());
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
    let store = backends.ranking.declared_board(&liked.key());
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
