//! Tests that the states an archive has cached equal the documents, whichever archive writes them.

use std::collections::BTreeMap;

use mongodb::bson::oid::ObjectId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn view_event(video: &str) -> serde_json::Value {
    json!({"video_id": video, "user_id": "u", "type": "view"})
}

async fn views_of(archive: &MongoArchive, video: &str) -> i64 {
    let held = archive.video(&VideoId::parse(video).unwrap()).await.unwrap();
    held.map_or(0, |state| state.counters.views)
}

async fn offset_of(archive: &MongoArchive, partition: u32) -> u64 {
    archive.partition_positions(&[partition]).await.unwrap()[0].next_offset
}

/// Counts a view of each of these videos on a partition, by its owner.
async fn count_views(archive: &MongoArchive, partition: u32, videos: &[&str]) {
    let values: Vec<_> = videos.iter().map(|video| view_event(video)).collect();
    archive.commit_batch(&batch(partition, offset_of(archive, partition).await, &values)).await.unwrap();
}

/// Producers without keys and partitions that change their owner, at random: no count is made from an outdated state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_right_when_owners_change_and_videos_span_partitions() {
    const PARTITIONS: u32 = 4;
    const VIDEOS: usize = 5;
    let config = fresh_database();
    let archives = join_all((0..3).map(|_| open_archive(&config))).await;
    let mut random = StdRng::seed_from_u64(14);
    let mut owners = [0_usize; PARTITIONS as usize];
    archives[0].claim_partitions(&[0, 1, 2, 3]).await.unwrap();
    let mut next = [0_u64; PARTITIONS as usize];
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for _ in 0..150 {
        if random.random_range(0..4) == 0 {
            let (partition, owner) =
                (random.random_range(0..PARTITIONS), random.random_range(0..archives.len()));
            let stands = archives[owner].claim_partitions(&[partition]).await.unwrap();
            assert_eq!(stands[0].next_offset, next[partition as usize]);
            owners[partition as usize] = owner;
        }
        // A batch of one owner, over some of its partitions.
        let owner = random.random_range(0..archives.len());
        let mut whole = Batch::default();
        for partition in (0..PARTITIONS).filter(|at| owners[*at as usize] == owner) {
            if random.random_range(0..3) == 0 {
                continue;
            }
            let values: Vec<_> = (0..random.random_range(1..4))
                .map(|_| {
                    // Most records are on the partition of their video, some on any.
                    let anywhere = random.random_range(0..3) == 0;
                    let video = if anywhere { random.random_range(0..VIDEOS) } else { partition as usize };
                    let video = format!("v{video}");
                    *expected.entry(video.clone()).or_default() += 1;
                    view_event(&video)
                })
                .collect();
            let from = &mut next[partition as usize];
            whole.append(batch(partition, *from, &values));
            *from += values.len() as u64;
        }
        archives[owner].commit_batch(&whole).await.unwrap();
    }
    for (video, expected) in expected {
        assert_eq!(views_of(&archives[0], &video).await, expected, "{video}");
    }
}

/// An archive of an older release counts beside this one, and does not count its outside writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_a_concurrent_older_release_are_seen() {
    for (taken_back, others_between) in [(false, true), (true, false), (true, true)] {
        let config = fresh_database();
        let archive = open_archive(&config).await;
        archive.claim_partitions(&[0, 1]).await.unwrap();
        count_views(&archive, 0, &["v"]).await;
        count_views(&archive, 1, &["w"]).await;

        let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
        let db = client.database(&config.database);
        let session = client.start_session().await.unwrap();
        let session = session.id().get("id").unwrap().clone();
        let older = doc! { "$set": { "session": session }, "$inc": { "next": 1_i64 } };
        db.collection::<Document>("offsets").update_one(doc! { "_id": 1_i64 }, older).await.unwrap();
        let seven = doc! { "$inc": { "views": 7_i64 } };
        db.collection::<Document>("videos").update_one(doc! { "video_id": "v" }, seven).await.unwrap();

        let mut expected = 8;
        if others_between {
            count_views(&archive, 0, &["v"]).await;
            expected += 1;
        }
        if taken_back {
            archive.claim_partitions(&[1]).await.unwrap();
        }
        count_views(&archive, 0, &["v", "v"]).await;
        assert_eq!(views_of(&archive, "v").await, expected + 2, "{taken_back} {others_between}");
        count_views(&archive, 0, &["v"]).await;
        assert_eq!(views_of(&archive, "v").await, expected + 3);
    }
}

/// Documents of an earlier release have an `_id` made by the server. Such documents are read, and are written anew
/// when they change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_of_a_former_release_are_updated() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    count_views(&archive, 0, &["v", "w", "w"]).await;
    let named = json!({"video_id": "w", "user_id": "u", "type": "view", "event_id": "e"});
    archive
        .commit_batch(&batch(0, offset_of(&archive, 0).await, std::slice::from_ref(&named)))
        .await
        .unwrap();
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let videos = client.database(&config.database).collection::<Document>("videos");
    for mut document in documents(&config, "videos").await {
        videos.delete_one(doc! { "_id": document.get("_id").unwrap() }).await.unwrap();
        document.insert("_id", ObjectId::new());
        document.remove("home");
        videos.insert_one(document).await.unwrap();
    }
    let archive = open_archive(&config).await;
    archive.claim_partitions(&[0]).await.unwrap();
    assert_eq!(views_of(&archive, "w").await, 3);
    // A repeat changes nothing of its video.
    let from = offset_of(&archive, 0).await;
    archive.commit_batch(&batch(0, from, &[view_event("new"), named])).await.unwrap();
    assert_eq!(views_of(&archive, "w").await, 3);
    for _ in 0..2 {
        count_views(&archive, 0, &["v", "new"]).await;
    }
    let mut found: Vec<_> = documents(&config, "videos").await;
    found.sort_by_key(|document| document.get_str("video_id").unwrap().to_owned());
    let told: Vec<_> = found
        .iter()
        .map(|document| {
            (
                document.get_str("_id").ok(),
                document.get_str("video_id").unwrap(),
                document.get_i64("views").unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [(Some("new"), "new", 3), (Some("v"), "v", 3), (None, "w", 3)]);
}

/// A consumer that has counted its partition from the first record on takes an unknown video for a new one. In this
/// test each such video exists already: it was counted on another partition, or by an earlier release, which let the
/// server make the document's `_id`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_that_is_wrongly_taken_for_new_is_counted_from_its_document() {
    let removed = json!({"video_id": "counted", "user_id": "m", "type": "moderation", "version": 2, "event_id": "e",
        "timestamp": 1_700_000_000, "moderation": {"action": "remove_video", "role": "moderator"}});
    for (event, views) in [(view_event("counted"), 4), (view_event("former"), 4), (removed, 3)] {
        let config = fresh_database();
        let (archive, other) = (open_archive(&config).await, open_archive(&config).await);
        archive.claim_partitions(&[0]).await.unwrap();
        other.claim_partitions(&[1]).await.unwrap();
        count_views(&archive, 0, &["first"]).await;
        count_views(&other, 1, &["counted", "former", "counted", "former", "counted", "former"]).await;
        let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
        let videos = client.database(&config.database).collection::<Document>("videos");
        let mut former = videos.find_one_and_delete(doc! { "_id": "former" }).await.unwrap().unwrap();
        former.insert("_id", ObjectId::new());
        former.remove("home");
        videos.insert_one(former).await.unwrap();

        let name = event["video_id"].as_str().unwrap().to_owned();
        let moderates = event["type"] == "moderation";
        archive.commit_batch(&batch(0, 1, &[view_event("second"), event])).await.unwrap();
        assert_eq!(views_of(&archive, &name).await, views, "{name}");
        let state = archive.video(&VideoId::parse(&name).unwrap()).await.unwrap().unwrap();
        assert_eq!(state.removed_by.is_some(), moderates, "{name}");
        assert_eq!((views_of(&archive, "second").await, offset_of(&archive, 0).await), (1, 3));
        count_views(&archive, 0, &["second", &name, "third"]).await;
        assert_eq!(views_of(&archive, &name).await, views + 1, "{name}");
        assert_eq!(documents(&config, "videos").await.len(), 5, "one document a video");
    }
}
