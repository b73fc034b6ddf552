//! Tests of events' identities in segments: a repeat is recognised whichever archive counted the event before, on
//! whatever partition.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::spec::BinarySubtype;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn named_view(video: &str, id: &str) -> serde_json::Value {
    json!({"video_id": video, "user_id": "u", "type": "view", "event_id": id})
}

async fn views_of(archive: &MongoArchive, video: &str) -> i64 {
    let held = archive.video(&VideoId::parse(video).unwrap()).await.unwrap();
    held.map_or(0, |state| state.counters.views)
}

/// Commits these values to a partition, from its next offset on; returns the number of events that counted, and of
/// repeats.
async fn commit(archive: &MongoArchive, partition: u32, values: &[serde_json::Value]) -> (u64, u64) {
    let from = archive.partition_positions(&[partition]).await.unwrap()[0].next_offset;
    let effects = archive.commit_batch(&batch(partition, from, values)).await.unwrap().batch_effects;
    (effects.counted_event_count, effects.repeated_event_count)
}

fn named_views(ids: std::ops::Range<usize>) -> Vec<serde_json::Value> {
    ids.map(|id| named_view(&format!("v{}", id % 7), &format!("e{id}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_knows_what_counted_before() {
    let config = fresh_database();
    let (first, second) = (open_archive(&config).await, open_archive(&config).await);
    first.claim_partitions(&[0, 1]).await.unwrap();
    for step in 0..20 {
        assert_eq!(
            commit(&first, step % 2, &named_views(step as usize * 10..step as usize * 10 + 10)).await,
            (10, 0)
        );
    }
    let segments = documents(&config, "segments").await;
    let counts: i64 = segments.iter().map(|segment| segment.get_i64("count").unwrap()).sum();
    assert!(counts == 200 && segments.len() < 12, "small ones are merged: {}", segments.len());
    assert_eq!(documents(&config, "seen").await.len(), 0);
    second.claim_partitions(&[0, 1]).await.unwrap();
    assert_eq!(
        commit(&second, 1, &named_views(0..210)).await,
        (10, 200),
        "on whatever partition they counted"
    );
    let refused = first.commit_batch(&batch(0, 100, &named_views(300..301))).await;
    assert!(matches!(refused, Err(CommitError::TakenOver { partition: 0 })), "{refused:?}");
    first.claim_partitions(&[0]).await.unwrap();
    assert_eq!(
        commit(&first, 0, &named_views(195..220)).await,
        (10, 15),
        "it has read what the other one added"
    );
    first.rebuild_archive().bump_generation().await.unwrap();
    assert_eq!(commit(&first, 0, &named_views(0..221)).await, (1, 220), "in a new generation, too");
    // A process that starts has nothing in memory.
    let third = open_archive(&config).await;
    third.claim_partitions(&[0, 1]).await.unwrap();
    assert_eq!(commit(&third, 0, &named_views(0..222)).await, (1, 221));
}

/// Producers without keys that send everything again, on any partition, while partitions change their owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_counts_once_when_owners_change_and_repeats_span_partitions() {
    const PARTITIONS: u32 = 4;
    const EVENTS: usize = 400;
    let config = fresh_database();
    let archives = join_all((0..3).map(|_| open_archive(&config))).await;
    let mut random = StdRng::seed_from_u64(39);
    let mut owners = [0_usize; PARTITIONS as usize];
    archives[0].claim_partitions(&[0, 1, 2, 3]).await.unwrap();
    let mut next = [0_u64; PARTITIONS as usize];
    let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for round in 0..60 {
        if round % 3 == 0 {
            let (partition, owner) =
                (random.random_range(0..PARTITIONS), random.random_range(0..archives.len()));
            archives[owner].claim_partitions(&[partition]).await.unwrap();
            owners[partition as usize] = owner;
        }
        let batches: Vec<Batch> = (0..archives.len())
            .map(|owner| {
                let mut whole = Batch::default();
                for partition in (0..PARTITIONS).filter(|at| owners[*at as usize] == owner) {
                    let values: Vec<_> = (0..random.random_range(0..8))
                        .map(|_| {
                            let id = random.random_range(0..EVENTS);
                            let (video, id) = (format!("v{}", id % 5), format!("e{id}"));
                            sent.entry(video.clone()).or_default().insert(id.clone());
                            named_view(&video, &id)
                        })
                        .collect();
                    let from = &mut next[partition as usize];
                    whole.append(batch(partition, *from, &values));
                    *from += values.len() as u64;
                }
                whole
            })
            .collect();
        // At the same moment: several batches may have the same event.
        let committed = archives.iter().zip(&batches).map(|(archive, batch)| archive.commit_batch(batch));
        for committed in join_all(committed).await {
            committed.unwrap();
        }
    }
    for (video, ids) in sent {
        assert_eq!(views_of(&archives[0], &video).await, ids.len() as i64, "{video}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_of_moderation_and_of_interactions_are_the_same_names() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    let removal = |id: &str| {
        json!({"type": "moderation", "version": 2, "video_id": "v", "user_id": "u", "event_id": id, "timestamp": 1,
            "moderation": {"action": "remove_video", "role": "moderator"}})
    };
    assert_eq!(commit(&archive, 0, &[named_view("v", "a"), removal("b")]).await, (2, 0));
    assert_eq!(commit(&archive, 0, &[removal("a"), named_view("v", "b"), removal("b")]).await, (0, 3));
    let again = open_archive(&config).await;
    assert_eq!(commit(&again, 1, &[removal("a"), named_view("v", "b"), removal("b")]).await, (0, 3));
}

/// A release without segments stores identities in documents, and finds no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_without_segments_counts_beside_this_one() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    archive.claim_partitions(&[0, 1]).await.unwrap();
    commit(&archive, 0, &[named_view("v", "mine")]).await;
    commit(&archive, 1, &[named_view("w", "other")]).await;
    let (segments, seen) =
        (documents(&config, "segments").await.len(), documents(&config, "seen").await.len());
    assert_eq!((segments, seen), (2, 0));

    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let db = client.database(&config.database);
    let session = client.start_session().await.unwrap();
    let session = session.id().get("id").unwrap().clone();
    let last = doc! { "broker_time": 1_700_000_000_500_i64, "digest": 7_i64 };
    let noted = doc! { "session": session.clone(), "keeper": session, "last": last };
    let older = doc! { "$set": noted, "$inc": { "next": 1_i64 } };
    db.collection::<Document>("offsets").update_one(doc! { "_id": 1_i64 }, older).await.unwrap();
    let digest = identity_digest("e:v\nu\ntheirs").to_vec();
    let theirs = doc! { "_id": Binary { subtype: BinarySubtype::Generic, bytes: digest }, "time": 1_700_000_000_500_i64 };
    db.collection("seen").insert_one(theirs).await.unwrap();

    assert_eq!(commit(&archive, 0, &[named_view("v", "theirs"), named_view("v", "beside")]).await, (1, 1));
    let seen = documents(&config, "seen").await;
    assert_eq!(seen.len(), 2, "while it counts it finds what counts here");
    archive.claim_partitions(&[1]).await.unwrap();
    let values = ["theirs", "beside", "mine", "new"].map(|id| named_view("v", id));
    assert_eq!(commit(&archive, 1, &values).await, (1, 3), "then its documents are found");
    assert_eq!(documents(&config, "seen").await.len(), 2, "and no more are written");
    let third = open_archive(&config).await;
    assert_eq!(commit(&third, 2, &values).await, (0, 4), "by everybody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_writes_documents_and_goes_on() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    archive.set_max_identities_in_memory(50).await;
    for step in 0..10 {
        assert_eq!(
            commit(&archive, 0, &named_views(step * 10..step * 10 + 20)).await.0,
            if step == 0 { 20 } else { 10 }
        );
    }
    assert_eq!(documents(&config, "seen").await.len(), 60);
    assert_eq!(commit(&archive, 0, &named_views(0..111)).await, (1, 110));
    let unlimited = open_archive(&config).await;
    assert_eq!(commit(&unlimited, 1, &named_views(0..112)).await, (1, 111), "with room again, too");
    assert_eq!(documents(&config, "seen").await.len(), 61);
    // The fifty identities in segments are of the first eighty records.
    assert_eq!(archive.forget_identities_before(1_700_000_000_080).await.unwrap(), 50);
    assert_eq!(commit(&archive, 0, &named_views(200..201)).await, (1, 0));
    assert_eq!(documents(&config, "seen").await.len(), 61, "there is room again");
}
