//! Tests of windows and decayed scores of boards with a decay of their own, after a release that knows neither has
//! counted in between, or begun a generation.

use liverank_core::counting::RecordFingerprint;
use liverank_core::decays::{CountedDecay, Decay};
use liverank_core::windows::{CountedWindowKind, WindowKind};

use super::*;

const BEGIN: i64 = 1_700_000_000_000;

fn hour() -> Decay {
    Decay::new(60, None).unwrap()
}

fn event(user: &str, kind: &str) -> serde_json::Value {
    json!({"video_id": "v", "user_id": user, "type": kind})
}

/// Commits the next records of partition 0; `taken` is the log's time of the last one, in milliseconds.
async fn commit(archive: &MongoArchive, values: &[serde_json::Value], taken: i64) {
    let from = archive.partition_positions(&[0]).await.unwrap()[0].next_offset;
    let mut batch = batch(0, from, values);
    batch.offset_ranges[0].last_record = Some(RecordFingerprint { broker_time: taken, digest: 1 });
    archive.commit_batch(&batch).await.unwrap();
}

async fn events_in_score(archive: &MongoArchive) -> u64 {
    let video = archive.video(&VideoId::parse("v").unwrap()).await.unwrap().unwrap();
    video.decayed_scores.iter().map(|score| score.event_count).sum()
}

async fn counted(archive: &MongoArchive) -> (CountedDecay, CountedWindowKind) {
    let meta = archive.archive_meta().await.unwrap().unwrap();
    (*meta.decays.iter().next().unwrap(), meta.windows.iter().next().unwrap().clone())
}

async fn with_half_life_and_windows() -> (MongoConfig, MongoArchive) {
    let config = fresh_database();
    let archive = connected_archive(&config).await;
    archive
        .open(&CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() })
        .await
        .unwrap();
    archive.claim_partitions(&[0]).await.unwrap();
    archive.set_counted_windows(&[WindowKind::parse("day of UTC").unwrap()]).await.unwrap();
    archive.set_counted_decays(&[hour()]).await.unwrap();
    (config, archive)
}

async fn change(config: &MongoConfig, collection: &str, change: Document) {
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let collection = client.database(&config.database).collection::<Document>(collection);
    assert_eq!(collection.update_many(doc! {}, change).await.unwrap().matched_count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_release_without_half_lives_counted_in_between_is_noted() {
    let (config, archive) = with_half_life_and_windows().await;
    commit(&archive, &[event("ana", "like"), event("ben", "like")], BEGIN + 1).await;
    let (first, windows) = counted(&archive).await;
    assert_eq!(
        (events_in_score(&archive).await, first.complete_after, windows.complete_after),
        (2, None, None)
    );
    // The older release counts a view, and does not move `windowed`.
    let last = doc! { "broker_time": BEGIN + 5, "digest": 3_i64 };
    change(&config, "offsets", doc! { "$inc": { "next": 1_i64 }, "$set": { "last": last } }).await;
    let more = doc! { "$inc": { "views": 1_i64, "score": 1.0 } };
    change(&config, "videos", more).await;
    let again = connected_archive(&config).await;
    again.claim_partitions(&[0]).await.unwrap();
    commit(&again, &[event("cem", "like"), event("ana", "unlike")], BEGIN + 9).await;
    let (second, windows) = counted(&again).await;
    assert_eq!((second.complete_after, windows.complete_after), (Some(BEGIN + 5), Some(BEGIN + 5)));
    assert_ne!(first.run, second.run);
    assert_eq!(events_in_score(&again).await, 3, "what was counted before the gap is not taken off any more");
    commit(&again, &[event("cem", "unlike")], BEGIN + 11).await;
    assert_eq!(events_in_score(&again).await, 2);
    assert_eq!(counted(&again).await.0, second, "nothing was left out since");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_a_release_without_half_lives_began_is_noted() {
    let (config, archive) = with_half_life_and_windows().await;
    commit(&archive, &[event("ana", "like")], BEGIN + 1).await;
    let (first, _) = counted(&archive).await;
    change(&config, "meta", doc! { "$inc": { "generation": 1_i64 } }).await;
    change(&config, "videos", doc! { "$unset": { "decayed": "" } }).await;
    commit(&archive, &[event("ben", "like"), event("ana", "unlike")], BEGIN + 2).await;
    let (second, windows) = counted(&archive).await;
    assert_eq!(
        (second.complete_after, windows.complete_after),
        (Some(BEGIN + 1), None),
        "counts of windows are there"
    );
    assert_ne!(first.run, second.run);
    assert_eq!(events_in_score(&archive).await, 1, "ben's; ana's is not there to be taken off");
    archive.rebuild_archive().bump_generation().await.unwrap();
    commit(&archive, &[event("ben", "unlike")], BEGIN + 3).await;
    assert_eq!((events_in_score(&archive).await, counted(&archive).await.0), (0, second), "our own are not");
}

/// Two consumers, each with a partition: the gap is noted once, whichever of them finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_noted_while_others_commit() {
    let (config, archive) = with_half_life_and_windows().await;
    let other = connected_archive(&config).await;
    other.claim_partitions(&[1]).await.unwrap();
    commit(&archive, &[event("ana", "like")], BEGIN + 1).await;
    let before = counted(&archive).await.0;
    let last = doc! { "broker_time": BEGIN + 5, "digest": 3_i64 };
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let offsets = client.database(&config.database).collection::<Document>("offsets");
    let gap = doc! { "$inc": { "next": 1_i64 }, "$set": { "last": last } };
    offsets.update_one(doc! { "_id": 0_i64 }, gap).await.unwrap();
    let busy = async {
        for at in 0..60 {
            let view = json!({"video_id": format!("w{}", at % 3), "user_id": "u", "type": "view"});
            other.commit_batch(&batch(1, at, &[view])).await.unwrap();
        }
    };
    let noted = async {
        for at in 0..20 {
            commit(&archive, &[event("u", "view")], BEGIN + 10 + at).await;
        }
    };
    tokio::join!(busy, noted);
    let after = counted(&archive).await.0;
    assert!(after.run != before.run && after.complete_after == Some(BEGIN + 5), "{after:?}");
    assert_eq!(events_in_score(&archive).await, 21);
    let of_others = archive
        .videos_after(None, 10)
        .await
        .unwrap()
        .into_iter()
        .filter(|video| video.video_id.as_str() != "v");
    assert_eq!(
        of_others.map(|video| video.decayed_scores.iter().map(|it| it.event_count).sum::<u64>()).sum::<u64>(),
        60
    );
}
