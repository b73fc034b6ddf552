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
    backends.ranking.note_metadata_complete().await.unwrap();
    assert_eq!(compare_metadata(&backends).await.unwrap(), Ok(Vec::new()));
    let metadata = Some(Metadata::from_value(&json!({"title": "Cats"})).unwrap());
    let video_id = VideoId::parse("a").unwrap();
    backends.ranking.put_metadata(1, &[DescribedVideo { video_id, revision: 99, metadata }]).await.unwrap();
    let wrong = compare_metadata(&backends).await.unwrap().unwrap();
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0].field, &wrong[0].expected), ("metadata", &json!(null)));
    assert!(wrong[0].found.as_str().is_some_and(|found| found.contains("Cats")), "{wrong:?}");
}

#[tokio::test]
async fn many_differences_are_told_with_short_texts() {
    let directory = tempfile::tempdir().unwrap();
    let backends = stores(directory.path());
    let now = 1_700_000_000_000;
    let count = MAX_COMPARED_AGAIN + 1;
    let name = |nth: usize| format!("v{nth}");
    let record = |nth: usize| {
        let view = json!({"video_id": name(nth), "user_id": "u", "type": "view"});
        let event = Interaction::parse(&view, now).unwrap();
        LogRecord { partition: 0, offset: nth as u64, broker_time: now, event }
    };
    let span = OffsetRange { partition: 0, first: 0, next: count as u64, last_record: None };
    backends.archive.open(&CountingRules::default()).await.unwrap();
    let records = (0..count).map(record).collect();
    backends.archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();
    backends.ranking.note_metadata_complete().await.unwrap();
    let long = Metadata::from_value(&json!({"title": "é".repeat(250)})).unwrap();
    let wrong: Vec<DescribedVideo> = (0..count)
        .map(|nth| DescribedVideo {
            video_id: VideoId::parse(&name(nth)).unwrap(),
            revision: 99,
            metadata: Some(long.clone()),
        })
        .collect();
    for lot in wrong.chunks(PAGE_VIDEOS) {
        backends.ranking.put_metadata(1, lot).await.unwrap();
    }
    let wrong = compare_metadata(&backends).await.unwrap().unwrap();
    assert_eq!(wrong.len(), count);
    assert!(wrong.iter().all(|it| it.found.as_str().unwrap().chars().count() == MAX_TEXT_CHARS + 1));
}
