//! Tests of consumers that follow each other as owners of a partition.

use mongodb::options::WriteConcern;

use super::*;

fn like_batch(partition: u32, from: u64) -> Batch {
    batch(partition, from, &[json!({"video_id": "hot", "user_id": "u", "type": "like"})])
}

/// A process is stopped in the middle of a commit: the server keeps the transaction open, and locks what it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_transaction_does_not_hold_the_next_owner_up() {
    let config = fresh_database();
    let former = open_archive(&config).await;
    former.claim_partitions(&[0]).await.unwrap();
    former.commit_batch(&like_batch(0, 0)).await.unwrap();

    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let db = client.database(&config.database);
    let mut paused = client.start_session().await.unwrap();
    let id = paused.id().get("id").unwrap().clone();
    let offsets = db.collection::<Document>("offsets");
    let noted = doc! { "$set": { "session": id } };
    offsets.update_one(doc! { "_id": 0_i64 }, noted).write_concern(WriteConcern::majority()).await.unwrap();
    paused.start_transaction().await.unwrap();
    let one = doc! { "$inc": { "next": 1_i64 } };
    offsets.update_one(doc! { "_id": 0_i64 }, one).session(&mut paused).await.unwrap();
    let videos = db.collection::<Document>("videos");
    let one = doc! { "$inc": { "likes": 1_i64 } };
    videos.update_one(doc! { "video_id": "hot" }, one).session(&mut paused).await.unwrap();

    let next = open_archive(&config).await;
    let begun = Instant::now();
    let stands = next.claim_partitions(&[0]).await.unwrap();
    assert_eq!(stands[0].next_offset, 1);
    next.commit_batch(&like_batch(0, 1)).await.unwrap();
    let took = begun.elapsed();
    println!("taken over in {took:?}");
    // Without the end of the paused transaction it would be held up for a minute, the life of a transaction.
    assert!(took < Duration::from_secs(20), "held up for {took:?}");
    assert!(paused.commit_transaction().await.is_err(), "it was ended");
    let held = next.video(&VideoId::parse("hot").unwrap()).await.unwrap().unwrap();
    assert_eq!(held.counters.likes, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_commits_nothing_even_where_the_offset_fits() {
    let config = fresh_database();
    let (zombie, next) = (open_archive(&config).await, open_archive(&config).await);
    zombie.claim_partitions(&[0, 1]).await.unwrap();
    zombie.commit_batch(&like_batch(0, 0)).await.unwrap();
    assert_eq!(next.claim_partitions(&[0]).await.unwrap()[0].next_offset, 1);
    let refused = zombie.commit_batch(&like_batch(0, 1)).await;
    assert!(matches!(refused, Err(CommitError::TakenOver { partition: 0 })), "{refused:?}");
    zombie.commit_batch(&like_batch(1, 0)).await.expect("what nobody took over is still its own");
    next.commit_batch(&like_batch(0, 1)).await.unwrap();
    zombie.claim_partitions(&[0]).await.unwrap();
    let refused = next.commit_batch(&like_batch(0, 2)).await;
    assert!(matches!(refused, Err(CommitError::TakenOver { partition: 0 })), "{refused:?}");
    zombie.commit_batch(&like_batch(0, 2)).await.expect("it was taken back");
}

/// Killing an owner's session ends one attempt to commit, not the ownership.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_session_is_killed_goes_on() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    archive.claim_partitions(&[0]).await.unwrap();
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    for at in 0..30 {
        let noted = documents(&config, "offsets").await[0].get("session").unwrap().clone();
        let kill = doc! { "killSessions": [{ "id": noted }] };
        let admin = client.database("admin");
        let (killed, committed) = futures::join!(async { admin.run_command(kill).await }, async {
            archive.commit_batch(&like_batch(0, at)).await
        });
        killed.unwrap();
        committed.unwrap();
    }
    let held = archive.video(&VideoId::parse("hot").unwrap()).await.unwrap().unwrap();
    assert_eq!(held.counters.likes, 30);
}
