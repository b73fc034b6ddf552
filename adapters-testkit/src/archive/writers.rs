//! Checks of several consumers at once.

use futures::future::join_all;
use liverank_core::Kind;

use super::log::{SimulatedLog, comment, event_of_kind, next_offsets, video, view_with_event_id};
use liverank_adapters::Archive;
use liverank_adapters::archive::{CommentPage, CommitError};

pub async fn writers_of_one_video_serialise(archive: &dyn Archive) {
    const WRITER_COUNT: u32 = 4;
    const BATCHES_A_WRITER: usize = 12;
    let writer = async |partition: u32| {
        let mut log = SimulatedLog::new();
        for at in 0..BATCHES_A_WRITER {
            let id = format!("{partition}-{at}");
            // The event "shared" reaches the archive on every partition, at about the same time, and counts once a
            // round.
            let events = [
                event_of_kind("v", Kind::Like),
                comment("v", &id, &id),
                view_with_event_id("v", &format!("shared{at}")),
            ];
            let batch = log.batch(events.map(|event| (partition, event)));
            archive.commit_batch(&batch).await.expect("conflicts are retried, not answered");
        }
    };
    join_all((0..WRITER_COUNT).map(writer)).await;
    let held = archive.video(&video("v")).await.unwrap().unwrap();
    let all = i64::from(WRITER_COUNT) * BATCHES_A_WRITER as i64;
    assert_eq!((held.counters.likes, held.counters.comments), (all, all), "no writer's counts are lost");
    assert_eq!(held.counters.views, BATCHES_A_WRITER as i64, "a repeat on another partition counts once");
    let comments = archive.comments(&video("v"), CommentPage::After(0), 1000).await.unwrap();
    let seqs: Vec<u64> = comments.iter().map(|comment| comment.seq).collect();
    assert_eq!(seqs, (1..=all as u64).collect::<Vec<_>>(), "numbers without a hole or a repeat");
    assert_eq!(next_offsets(archive, &[0, 1, 2, 3]).await, [3 * BATCHES_A_WRITER as u64; 4]);
}

pub async fn of_two_writers_of_a_partition_one_wins(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    for round in 1..=10u64 {
        let batch = log.batch_on_partition_0([
            event_of_kind("v", Kind::Share),
            comment("v", &format!("c{round}"), "text"),
        ]);
        let results = join_all((0..4).map(|_| archive.commit_batch(&batch))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "one commits: {results:?}");
        for result in results {
            match result {
                Ok(_) => {}
                Err(CommitError::PositionMismatch { partition: 0, actual, .. }) => {
                    assert_eq!(actual, round * 2);
                }
                Err(error) => panic!("the others are fenced, not {error:?}"),
            }
        }
    }
    let held = archive.video(&video("v")).await.unwrap().unwrap();
    assert_eq!((held.counters.shares, held.last_seq), (10, 10));
}
