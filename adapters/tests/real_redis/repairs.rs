//! Tests of repairs of the boards on a real Redis.

use super::*;

#[tokio::test]
async fn a_repair_that_lost_its_first_steps_does_not_count() {
    let (link, mut redis) = link_to_empty_database(10, "t10:").await;
    let store = RedisRanking::new(Arc::clone(&link));
    let entries = [entry("a", 1.0), entry("b", 2.0)];
    store.write_snapshot(1, &entries[..1]).await.unwrap();
    redis.flush_database().await;
    let error = store.write_snapshot(1, &entries[1..]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("begin again"), "{error}");
    assert_eq!(store.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    // Begun again, the repair succeeds; and a loss just before its end is noticed, too.
    store.write_snapshot(1, &entries).await.unwrap();
    redis.flush_database().await;
    assert!(store.commit_snapshot(1, &[(0, 9)]).await.is_err_and(|error| error.is_transient()));
    assert_eq!(store.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    // The loss is noticed also if another process began a repair meanwhile.
    store.write_snapshot(1, &entries[..1]).await.unwrap();
    redis.flush_database().await;
    RedisRanking::new(link).write_snapshot(1, &entries[1..]).await.unwrap();
    assert!(store.write_snapshot(1, &entries[1..]).await.is_err_and(|error| error.is_transient()));
    store.write_snapshot(1, &entries).await.unwrap();
    store.commit_snapshot(1, &[(0, 9)]).await.unwrap();
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(1), offsets: vec![(0, 9)] }
    );
    assert_eq!(store.boards_snapshot().await.unwrap().entries.len(), 2);
}

/// Returns boards of generation 1 for two processes that are to fill generation 2.
async fn two_repairs_under_way(db: u8, prefix: &str) -> (RedisRanking, RedisRanking, RedisAdmin) {
    let (link, redis) = link_to_empty_database(db, prefix).await;
    let (first, second) = (RedisRanking::new(Arc::clone(&link)), RedisRanking::new(link));
    first.commit_snapshot(1, &[]).await.unwrap();
    first.project_batch(&projection_of(0, 1, vec![entry("old", 9.0)])).await.unwrap();
    (first, second, redis)
}

#[tokio::test]
async fn two_concurrent_repairs_of_a_generation_are_safe() {
    let (first, second, mut redis) = two_repairs_under_way(6, "t6:").await;
    first.write_snapshot(2, &[entry("a", 1.0), entry("b", 2.0)]).await.unwrap();
    second.write_snapshot(2, &[entry("a", 1.5)]).await.unwrap();
    first.write_snapshot(2, &[entry("c", 3.0)]).await.unwrap();
    assert_eq!(first.commit_snapshot(2, &[(0, 1), (1, 7)]).await.unwrap(), ProjectionOutcome::Applied);
    let told = |store: Vec<BoardEntry>| {
        let mut told: Vec<_> =
            store.into_iter().map(|entry| (entry.video_id.to_string(), entry.score)).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        told
    };
    let line = |id: &str, score: f64| (id.to_owned(), score);
    let snapshot = first.boards_snapshot().await.unwrap();
    assert_eq!(told(snapshot.entries), [line("a", 1.5), line("b", 2.0), line("c", 3.0)]);
    // The slower repair goes on where it was, with the generation in force now, and knows other offsets.
    assert_eq!(
        second.write_snapshot(2, &[entry("b", 2.0), entry("c", 4.0)]).await.unwrap(),
        ProjectionOutcome::Applied
    );
    assert_eq!(second.commit_snapshot(2, &[(1, 5), (2, 3)]).await.unwrap(), ProjectionOutcome::Applied);
    let snapshot = second.boards_snapshot().await.unwrap();
    assert_eq!(told(snapshot.entries), [line("a", 1.5), line("b", 2.0), line("c", 4.0)]);
    let standing = second.checkpoint().await.unwrap();
    assert_eq!(standing, ProjectionCheckpoint { generation: Some(2), offsets: vec![(0, 1), (1, 7), (2, 3)] });
    let mut keys: Vec<String> = redis.run_command(&["KEYS", "*"]).await;
    keys.sort();
    let kept = ["global_ranking", "ranking:owners", "ranking:projection", "ranking:revisions", "trending"];
    assert_eq!(keys, kept.map(|name| format!("t6:{name}")));
    for key in keys {
        assert_eq!(redis.run_command::<i64>(&["TTL", &key]).await, -1, "{key} in force does not expire");
    }
}

#[tokio::test]
async fn an_unfinished_repair_expires_and_is_never_served() {
    let (first, second, mut redis) = two_repairs_under_way(5, "t5:").await;
    first.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
    let mut left: Vec<String> = redis.run_command(&["KEYS", "t5:ranking:next*"]).await;
    left.extend(redis.run_command::<Vec<String>>(&["KEYS", "t5:ranking:steps:*"]).await);
    assert_eq!(left.len(), 6, "{left:?}");
    for key in &left {
        let seconds: i64 = redis.run_command(&["TTL", key]).await;
        assert!((1..=600).contains(&seconds), "{key} expires in {seconds} s");
    }
    // As if the shadow had expired, wholly or in part, while its repair paused, and another repair has begun anew
    // meanwhile.
    let one = |name: &str| vec![format!("t5:ranking:next:{name}")];
    for gone in [left[..5].to_vec(), one("global"), one("owners"), one("revisions")] {
        first.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
        let words: Vec<&str> = ["DEL"].into_iter().chain(gone.iter().map(String::as_str)).collect();
        redis.run_command::<u64>(&words).await;
        let error = first.commit_snapshot(2, &[(0, 1)]).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("begin again"), "{error}");
        first.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
        redis.run_command::<u64>(&words).await;
        // The second repair may have written a part before, too.
        if second.write_snapshot(2, &[entry("b", 1.0)]).await.is_err() {
            second.write_snapshot(2, &[entry("b", 1.0)]).await.unwrap();
        }
        assert!(first.write_snapshot(2, &[entry("c", 1.0)]).await.is_err_and(|error| error.is_transient()));
        assert_eq!(first.checkpoint().await.unwrap().generation, Some(1));
        assert_eq!(first.boards_snapshot().await.unwrap().entries, [entry("old", 9.0)]);
    }
    first.write_snapshot(2, &[entry("a", 1.0), entry("b", 1.0)]).await.unwrap();
    first.commit_snapshot(2, &[(0, 1)]).await.unwrap();
    assert_eq!(first.boards_snapshot().await.unwrap().entries.len(), 2);
}
