use liverank_core::Interaction;
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};

use super::*;
use crate::boards::tests::stores;

#[tokio::test]
async fn what_stands_beside_the_boards_is_compared_with_the_archive() {
    let directory = tempfile::tempdir().unwrap();
    let backends = stores(directory.path());
    let now = 1_700_000_000_000;
    let view = json!({"video_id": "a", "user_id": "u", "type": "view"});
    let event = Interaction::parse(&view, now).unwrap();
    let records = vec![LogRecord { partition: 0, offset: 0, broker_time: now, event }];
    let span = OffsetRange { partition: 0, first: 0, next: 1, last_record: None };
    backends.archive.open(&CountingRules::default()).await.unwrap();
    backends.archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();

    assert!(compare_metadata(&backends).await.unwrap().unwrap_err().contains("rebuild redis"));
    backends.ranking.note_described().await.unwrap();
    assert_eq!(compare_metadata(&backends).await.unwrap(), Ok(Vec::new()));
    let metadata = Some(Metadata::read(&json!({"title": "Cats"})).unwrap());
    let video_id = VideoId::parse("a").unwrap();
    backends.ranking.describe(1, &[Described { video_id, revision: 99, metadata }]).await.unwrap();
    let wrong = compare_metadata(&backends).await.unwrap().unwrap();
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0].field, &wrong[0].expected), ("metadata", &json!(null)));
    assert!(wrong[0].found.as_str().is_some_and(|found| found.contains("Cats")), "{wrong:?}");
}
