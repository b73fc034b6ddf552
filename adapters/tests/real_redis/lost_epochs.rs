//! Tests of epochs and terms on a Redis that lost them, or holds one that was never minted.

use super::*;

#[tokio::test]
async fn epochs_and_terms_survive_a_redis_that_comes_back_empty_or_old() {
    let (link, mut redis) = link_to_empty_database(9, "t9:").await;
    let store = RedisAssignments::new(link);
    let assign = async |id: &str, seen| assign_minted(&store, id, seen).await;
    let mint = async |expected, seen| mint_term(&store, expected, seen).await;
    let (old, old_term) = (assign("v", 40).await, mint(0, 0).await);
    let before = store.load_assignments().await.unwrap().version;
    // Redis is empty, and nobody is left who has seen an epoch.
    redis.flush_database().await;
    let after = store.load_assignments().await.unwrap();
    assert!(after.assignments.is_empty() && after.version > before + 1, "{before} and {}", after.version);
    let (first, first_term) = (old, old_term);
    let (old, old_term) = (assign("v", 0).await, mint(0, 0).await);
    assert!(old > first && old_term > first_term);
    let copy: Vec<String> = redis.run_command(&["HGETALL", "t9:assignments:state"]).await;
    let (lost, lost_term) = (assign("lost", 0).await, mint(old_term, 0).await);
    // Redis is a copy without the last changes: epochs that were minted and lost are not minted again.
    let other_server = |text: &String| if text.len() == 40 { "another".to_owned() } else { text.clone() };
    let copy: Vec<String> = copy.iter().map(other_server).collect();
    let copy: Vec<&str> = copy.iter().map(String::as_str).collect();
    redis.flush_database().await;
    redis.run_command::<u64>(&[&["HSET", "t9:assignments:state"], &copy[..]].concat()).await;
    let (next, next_term) = (assign("v", 0).await, mint(old_term, 0).await);
    assert!(next > lost + 50_000_000 && lost > old, "{next} after {lost}: also where its clock is behind");
    assert!(next_term > lost_term + 50_000_000 && lost_term > old_term);
    // Redis's clock went back: those that are left report the epochs that they have seen.
    let ahead = next + 3_600_000_000;
    redis.flush_database().await;
    assert!(assign("v", ahead).await > ahead);
    assert!(mint(0, ahead).await > ahead);
    // The first caller after that may not know the epochs that the next caller has seen, nor the next one those minted
    // for the first.
    redis.flush_database().await;
    let (low, low_term) = (assign("w", 0).await, mint(0, 0).await);
    let (ahead, ahead_term) = (low + 3_600_000_000, low_term + 3_600_000_000);
    assert!(assign("v", ahead).await > ahead + 50_000_000);
    assert!(mint(low_term, ahead_term).await > ahead_term + 50_000_000);
}

/// An earlier release accepted any epoch: one heartbeat with the highest number that exists stopped every later
/// assignment.
#[tokio::test]
async fn an_epoch_that_was_never_minted_is_healed() {
    let (link, mut redis) = link_to_empty_database(5, "t5:").await;
    let store = RedisAssignments::new(link);
    let never = MAX_EPOCH.to_string();
    let poisoned = format!(r#"{{"format":1,"epoch":{never},"readers":[{{"reader":"evil","weight":1}}]}}"#);
    redis
        .run_command::<u64>(&[
            "HSET",
            "t5:assignments:state",
            "format",
            "1",
            "version",
            "7",
            "epoch",
            &never,
            "term",
            &never,
        ])
        .await;
    redis.run_command::<u64>(&["HSET", "t5:assignments", "poisoned", &poisoned]).await;
    let record = format!(
        r#"7 {{"format":1,"id":"evil","public_url":"http://e","internal_url":"http://e","beat":7,"capacity":1,"viewers":0,"draining":false,"highest_epoch":{},"videos":[{{"video":"v","viewers":1,"epoch":{never},"ready":true}}],"messages_sent":0}}"#,
        MAX_EPOCH - 1
    );
    redis.run_command::<u64>(&["HSET", "t5:readers", "evil", &record]).await;

    let evil = &store.reader_records().await.unwrap()[0];
    assert_eq!(
        (evil.highest_epoch, evil.videos[0].epoch),
        (0, 0),
        "what a reader says of it is not believed"
    );
    assert_eq!(store.load_assignments().await.unwrap().assignments, [], "nor what was assigned under it");
    assert_eq!(store.planner_orders().await.unwrap().planner_term, None);
    // A video is assigned, then the poisoned one again, moved and released, as if the wrong epoch had never been.
    let assign = async |id: &str, expected| {
        store.assign_video(&video(id), expected, &[reader_share("r")], 0, None).await.unwrap()
    };
    let mut epochs = Vec::new();
    for id in ["new", "poisoned"] {
        let SwapOutcome::Stored(stored) = assign(id, None).await else { panic!("{id} is not stored") };
        let SwapOutcome::Stored(moved) = assign(id, Some(stored.epoch())).await else {
            panic!("{id} is not moved")
        };
        epochs.extend([stored.epoch(), moved.epoch()]);
    }
    assert!(epochs.is_sorted() && epochs[3] < MAX_EPOCH / 2, "{epochs:?}");
    let loaded = store.load_assignments().await.unwrap();
    assert_eq!(loaded.assignments.len(), 2);
    let SwapOutcome::Stored(_) = store.remove_assignment(&video("poisoned"), epochs[3]).await.unwrap() else {
        panic!("it stays")
    };
    let TermGrant::Held(term) = store.mint_term("p", None, 0, 0).await.unwrap() else { panic!("no term") };
    assert!(term.term < MAX_EPOCH / 2);
    let ordered = store
        .assign_video(&video("new"), Some(epochs[1]), &[reader_share("r")], 0, Some(term.term))
        .await
        .unwrap();
    assert!(matches!(ordered, SwapOutcome::Stored(_)), "{ordered:?}");
}
