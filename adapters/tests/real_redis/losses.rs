//! Tests of a Redis that loses connections or data.

use super::*;

#[tokio::test]
async fn a_lost_subscription_is_reported_and_renewed() {
    let (link, mut redis) = link_to_empty_database(13, "t13:").await;
    let (ranking, bus) = (RedisRanking::new(Arc::clone(&link)), RedisBus::new(Arc::clone(&link)));
    let assignments = RedisAssignments::new(link);
    ranking.commit_snapshot(1, &[]).await.unwrap();
    let mut changes = ranking.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
    let mut assigned = assignments.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut assigned).await, assignment_store::AssignmentChange::Reset);
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    for at in 0..1200 {
        subscription.subscribe(&video(&format!("v{at}"))).await.unwrap();
    }
    for round in 0..3_u32 {
        assert_eq!(redis.kill_connections(|subscribed| subscribed != "0").await, 3, "three subscriptions");
        assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
        assert_eq!(next_item(&mut assigned).await, assignment_store::AssignmentChange::Reset);
        assert_eq!(next_item(&mut deliveries).await, Delivery::Reset);
        // From here on everything is received again, on every channel.
        let from = u64::from(round);
        ranking
            .project_batch(&projection_of(from, from + 1, vec![entry("v", f64::from(round + 1))]))
            .await
            .unwrap();
        assert!(matches!(next_item(&mut changes).await, BoardChange::Changed { .. }));
        assignments
            .assign_video(&video(&format!("v{round}")), None, &[reader_share("r")], 0, None)
            .await
            .unwrap();
        assert!(matches!(
            next_item(&mut assigned).await,
            assignment_store::AssignmentChange::Assigned { .. }
        ));
        for at in [0, 499, 500, 1199] {
            let comment = comment(&format!("v{at}"), from + 1);
            bus.publish_comments(&comment_epoch(), std::slice::from_ref(&comment)).await.unwrap();
            let heard = Delivery::Comment { numbering: comment_epoch(), comment, trace: None };
            assert_eq!(next_item(&mut deliveries).await, heard);
        }
        subscription.subscribe(&video(&format!("late {round}"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let (link, mut redis) = link_to_empty_database(14, "t14:").await;
    let store = RedisRanking::new(link);
    store.commit_snapshot(1, &[]).await.unwrap();
    let mut killed = Vec::new();
    for round in 0..5_u64 {
        killed.push(redis.kill_connections(|_| true).await);
        // A command that was under way may fail; within a moment all succeed.
        let started = Instant::now();
        let projection = projection_of(round, round + 1, vec![entry("v", round as f64)]);
        loop {
            match store.project_batch(&projection).await {
                Ok(projected) => break assert_eq!(projected, ProjectionOutcome::Applied),
                Err(error) => assert!(error.is_transient() && started.elapsed() < TEST_TIMEOUT, "{error}"),
            }
        }
    }
    // An attempt to connect that took too long may still be known to the server for a moment.
    assert_eq!(killed.iter().min(), Some(&1), "one connection: {killed:?}");
    assert_eq!(store.checkpoint().await.unwrap().offsets, [(0, 5)]);
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_noticed() {
    let (link, mut redis) = link_to_empty_database(15, "t15:").await;
    let (ranking, bus) = (RedisRanking::new(Arc::clone(&link)), RedisBus::new(Arc::clone(&link)));
    ranking.commit_snapshot(1, &[]).await.unwrap();
    ranking.project_batch(&projection_of(0, 1, vec![entry("v", 1.0)])).await.unwrap();
    let version = ranking.boards_snapshot().await.unwrap().version;
    let mut changes = ranking.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
    bus.publish_comments(&comment_epoch(), &comments("v", 1..=3)).await.unwrap();

    redis.flush_database().await;
    assert_eq!(ranking.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    assert_eq!(
        ranking.project_batch(&projection_of(1, 2, vec![entry("v", 2.0)])).await.unwrap(),
        ProjectionOutcome::Behind
    );
    let keys: u64 = redis.run_command(&["DBSIZE"]).await;
    assert_eq!((keys, ranking.boards_snapshot().await.unwrap().version), (0, 0), "nothing was written");
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [None]);
    bus.publish_comments(&comment_epoch(), &comments("v", 4..=4)).await.unwrap();
    assert_eq!(
        bus.channel_heads(&[video("v")]).await.unwrap(),
        [Some(ChannelHead { comment_epoch: comment_epoch(), seq: 4 })]
    );
    assert_eq!(bus.recent_comments(&comment_epoch(), &video("v"), 2, 10).await.unwrap(), None);

    ranking.write_snapshot(1, &[entry("v", 2.0)]).await.unwrap();
    ranking.commit_snapshot(1, &[(0, 2)]).await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset, "the new beginning");
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset, "the end of the repair");
    assert!(
        ranking.boards_snapshot().await.unwrap().version > version + 1,
        "nobody takes its versions for the old ones"
    );
    assert_eq!(
        ranking.project_batch(&projection_of(2, 3, vec![entry("v", 3.0)])).await.unwrap(),
        ProjectionOutcome::Applied
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_that_lost_its_first_steps_does_not_count() {
    const ENTRY_COUNT: usize = 20_000;
    let (link, mut redis) = link_to_empty_database(7, "t7:").await;
    let entries: Vec<_> = (0..ENTRY_COUNT).map(|at| entry(&format!("v{at}"), 1.0)).collect();
    let projection = Arc::new(projection_of(0, 1, entries));
    // As if the boards had been lost and begun again between two steps; chance decides between which.
    let lose = "redis.call('FLUSHDB') return redis.call('HSET', 't7:ranking:projection', 'generation', '1')";
    for _ in 0..20 {
        redis.flush_database().await;
        let store = Arc::new(RedisRanking::new(Arc::clone(&link)));
        store.commit_snapshot(1, &[]).await.unwrap();
        let (projecting, projection) = (Arc::clone(&store), Arc::clone(&projection));
        let projected = tokio::spawn(async move { projecting.project_batch(&projection).await });
        while redis.run_command::<usize>(&["ZCARD", "t7:global_ranking"]).await == 0 {}
        redis.run_command::<usize>(&["EVAL", lose, "0"]).await;
        match projected.await.unwrap() {
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                let standing = store.checkpoint().await.unwrap();
                return assert_eq!(standing, ProjectionCheckpoint { generation: Some(1), offsets: vec![] });
            }
            // The loss came after the batch's end.
            Ok(_) => {
                assert!(store.checkpoint().await.unwrap().offsets.is_empty(), "a part counts for the whole");
            }
        }
    }
    panic!("a batch of 20 steps was over before the first of them was seen, 20 times");
}
