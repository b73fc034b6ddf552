//! Tests of rebuilds beside several consumers, and of rebuilds by processes that die.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use liverank_adapters::archive::{ArchiveSnapshot, ReplayFinish};
use liverank_core::score::{Weights, points_of_thousandths};
use tokio::sync::Notify;

use super::*;

const NO_PROGRESS: &(dyn Fn(u64, u64) + Send + Sync) = &|_, _| {};

fn rules_with_heavy_likes() -> CountingRules {
    CountingRules {
        weights: Weights { like: 9_000, comment: 1, ..Weights::default() },
        ..CountingRules::default()
    }
}

/// Checks what clients of the database read: scores and comment numbers. Returns a snapshot of the archive.
async fn check_archive(archive: &MongoArchive) -> ArchiveSnapshot {
    let cut = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    for video in &cut.videos {
        let expected = points_of_thousandths(video.state.counters.score(&cut.meta.counting_rules.weights));
        assert_eq!(video.score.to_bits(), expected.to_bits(), "{:?}", video.state);
    }
    assert!(
        cut.comment_tallies.iter().all(|tally| tally.comment_count == tally.highest_seq),
        "{:?}",
        cut.comment_tallies
    );
    cut
}

/// A log that several consumers write to and count at once, and that can be read again.
#[derive(Default)]
struct SharedLog {
    batches: Mutex<Vec<Batch>>,
    stop: AtomicBool,
}

impl SharedLog {
    /// Writes batches to one partition and counts them until `stop` is set, from the archive's next offset on; returns
    /// the number of batches.
    async fn write_and_count(&self, archive: &MongoArchive, partition: u32) -> u64 {
        const EVENTS_A_BATCH: u64 = 3;
        let mut stands = archive.claim_partitions(&[partition]).await.unwrap()[0].next_offset;
        let mut batches: Vec<Batch> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let at = (stands / EVENTS_A_BATCH) as usize;
            if at == batches.len() {
                let values = [
                    json!({"video_id": "hot", "user_id": "u", "type": "like"}),
                    json!({"video_id": "hot", "user_id": "u", "type": "comment", "comment": "hi",
                        "comment_id": format!("{partition}-{at}")}),
                    json!({"video_id": format!("own{partition}-{}", at / 2 % 40), "user_id": "u", "type": "view",
                        "event_id": format!("{partition}-{}", at / 2)}),
                ];
                let batch = batch(partition, stands, &values);
                self.batches.lock().unwrap().push(batch.clone());
                batches.push(batch);
            }
            match archive.commit_batch(&batches[at]).await {
                Ok(_) => stands += EVENTS_A_BATCH,
                Err(CommitError::PositionMismatch { actual, .. }) => stands = actual,
                // A commit that was left in doubt begins a new session, and a swap may have stored the one before. A
                // consumer then asks the log who owns the partition; here it is this one.
                Err(CommitError::TakenOver { .. }) => {
                    stands = archive.claim_partitions(&[partition]).await.unwrap()[0].next_offset;
                }
                // It is unknown whether the batch was applied; the archive knows.
                Err(CommitError::Store(error)) if error.is_transient() => {
                    let positions =
                        retry(TEST_TIMEOUT, async || archive.partition_positions(&[partition]).await);
                    stands = positions.await.unwrap()[0].next_offset;
                }
                Err(error) => panic!("{error}"),
            }
        }
        for batch in &batches[(stands / EVENTS_A_BATCH) as usize..] {
            archive.commit_batch(batch).await.unwrap();
        }
        batches.len() as u64
    }
}

fn hot_video() -> VideoId {
    VideoId::parse("hot").unwrap()
}

async fn check_nothing_lost(archive: &MongoArchive, batches: u64) -> ArchiveSnapshot {
    let held = archive.video(&hot_video()).await.unwrap().unwrap();
    assert_eq!((held.counters.likes as u64, held.last_seq), (batches, batches));
    let cut = check_archive(archive).await;
    let views: i64 = cut.videos.iter().map(|video| video.state.counters.views).sum();
    let positions: u64 = cut.positions.iter().map(|(_, position)| position.next_offset).sum();
    let once: u64 = cut.positions.iter().map(|(_, position)| (position.next_offset / 3).div_ceil(2)).sum();
    assert_eq!((positions, views as u64), (batches * 3, once), "repeats count once");
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_several_processes_race_with_rescores() {
    const REBUILD_ROUNDS: u64 = 6;
    let config = fresh_database();
    let archives = join_all((0..4).map(|_| open_archive(&config))).await;
    let values: Vec<_> =
        (0..3000).map(|at| json!({"video_id": format!("v{at}"), "user_id": "u", "type": "like"})).collect();
    archives[3].commit_batch(&batch(11, 0, &values)).await.unwrap();
    let log = SharedLog::default();
    let rescores = async {
        let mut generation = 1;
        for round in 1..=REBUILD_ROUNDS {
            let rules = if round % 2 == 1 { rules_with_heavy_likes() } else { CountingRules::default() };
            let meta = archives[3].rebuild_archive().rescore_videos(&rules, NO_PROGRESS).await.unwrap();
            generation += 1;
            assert_eq!((meta.generation, meta.counting_rules), (generation, rules));
            assert_eq!(check_archive(&archives[3]).await.meta.counting_rules, rules);
            assert_eq!(
                archives[3].rebuild_archive().bump_generation().await.unwrap().generation,
                generation + 1
            );
            generation += 1;
        }
        log.stop.store(true, Ordering::Relaxed);
    };
    let consumers = join_all((0..3).map(|at| log.write_and_count(&archives[at], at as u32)));
    let (batches, ()) = futures::join!(consumers, rescores);
    let batches: u64 = batches.into_iter().sum();
    println!("{batches} batches beside {REBUILD_ROUNDS} rescores");
    assert!(batches > 20, "consumers that wait for the rebuild prove nothing: {batches}");
    let held = archives[0].video(&hot_video()).await.unwrap().unwrap();
    assert_eq!((held.counters.likes as u64, held.last_seq), (batches, batches));
    let cut = check_archive(&archives[0]).await;
    assert_eq!(
        (cut.meta.generation, cut.meta.counting_rules),
        (1 + 2 * REBUILD_ROUNDS, CountingRules::default())
    );
    assert!(cut.videos.len() >= 3001);
}

/// Rescores until the progress satisfies `enough`, and drops the rescore there, as a killed process would.
async fn abort_rescore_when(archive: &MongoArchive, enough: impl Fn(u64, u64) -> bool + Send + Sync) {
    let now = Notify::new();
    let progress = |done, of| {
        if enough(done, of) {
            now.notify_one();
        }
    };
    let rules = rules_with_heavy_likes();
    let rescore = archive.rebuild_archive().rescore_videos(&rules, &progress);
    tokio::select! {
        biased;
        () = now.notified() => {}
        done = rescore => panic!("it was to die: {done:?}"),
    }
}

async fn archive_of_many_videos(config: &MongoConfig) -> MongoArchive {
    let archive = open_archive(config).await;
    let values: Vec<_> =
        (0..1500).map(|at| json!({"video_id": format!("v{at}"), "user_id": "u", "type": "like"})).collect();
    archive.commit_batch(&batch(0, 0, &values)).await.unwrap();
    archive
}

async fn meta_document(config: &MongoConfig) -> Document {
    documents(config, "meta").await.pop().unwrap()
}

async fn leftover_collections(config: &MongoConfig) -> Vec<String> {
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let mut names = client.database(&config.database).list_collection_names().await.unwrap();
    names.retain(|name| name.contains("_next_"));
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescore_killed_while_filling_is_done_by_the_next() {
    let config = fresh_database();
    let archive = archive_of_many_videos(&config).await;
    abort_rescore_when(&archive, |done, of| done < of).await;
    let rebuild = meta_document(&config).await.get_document("rebuild").unwrap().clone();
    assert_eq!(rebuild.get_str("phase"), Ok("filling"));
    let other = open_archive(&config).await;
    let committed =
        other.commit_batch(&batch(1, 0, &[json!({"video_id": "v3", "user_id": "u", "type": "like"})])).await;
    assert_eq!(committed.unwrap().meta_in_force.generation, 1, "what is half done is not in force");
    check_archive(&other).await;
    let done = other.rebuild_archive().rescore_videos(&rules_with_heavy_likes(), NO_PROGRESS).await.unwrap();
    assert_eq!((done.generation, done.counting_rules), (2, rules_with_heavy_likes()));
    let cut = check_archive(&other).await;
    assert_eq!((cut.videos.len(), leftover_collections(&config).await), (1500, Vec::<String>::new()));
    assert_eq!(other.video(&VideoId::parse("v3").unwrap()).await.unwrap().unwrap().counters.likes, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescore_killed_while_swapping_is_finished_by_a_consumer() {
    for renamed in [false, true] {
        let config = fresh_database();
        let archive = archive_of_many_videos(&config).await;
        abort_rescore_when(&archive, |done, of| done == of).await;
        let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
        let db = client.database(&config.database);
        // The effects of the last barrier, and then of the first step of the swap.
        let swapping = doc! { "$set": { "rebuild.phase": "swapping" } };
        db.collection::<Document>("meta").update_one(doc! {}, swapping).await.unwrap();
        let token = meta_document(&config)
            .await
            .get_document("rebuild")
            .unwrap()
            .get_str("token")
            .unwrap()
            .to_owned();
        if renamed {
            let name = &config.database;
            let rename = doc! { "renameCollection": format!("{name}.videos_next_{token}"),
            "to": format!("{name}.videos"), "dropTarget": true };
            client.database("admin").run_command(rename).await.unwrap();
        }
        let consumers = join_all((0..3).map(|_| open_archive(&config))).await;
        let like =
            |partition| batch(partition, 0, &[json!({"video_id": "v3", "user_id": "u", "type": "like"})]);
        let commits = consumers.iter().zip(1..).map(|(consumer, partition)| {
            let batch = like(partition);
            async move { consumer.commit_batch(&batch).await.unwrap() }
        });
        for committed in join_all(commits).await {
            assert_eq!(
                (committed.meta_in_force.generation, committed.meta_in_force.counting_rules),
                (2, rules_with_heavy_likes()),
                "{renamed}"
            );
        }
        let cut = check_archive(&archive).await;
        assert_eq!((cut.videos.len(), leftover_collections(&config).await), (1500, Vec::<String>::new()));
        assert_eq!(meta_document(&config).await.get("rebuild"), None);
        let v3 = archive.video(&VideoId::parse("v3").unwrap()).await.unwrap().unwrap();
        assert_eq!(v3.counters.likes, 4);
        archive.comments(&hot_video(), CommentPage::After(0), 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_beside_consumers_loses_nothing() {
    let config = fresh_database();
    let archives = join_all((0..4).map(|_| open_archive(&config))).await;
    let log = SharedLog::default();
    let replaying = async {
        let live = &archives[3];
        let replay =
            live.rebuild_archive().begin_replay(&rules_with_heavy_likes(), None, NO_PROGRESS).await.unwrap();
        replay.archive().claim_partitions(&[0, 1, 2]).await.unwrap();
        let begun = Instant::now();
        let mut counted = 0;
        let done = loop {
            assert!(begun.elapsed() < TEST_TIMEOUT, "it never caught up");
            let more: Vec<Batch> = log.batches.lock().unwrap()[counted..].to_vec();
            counted += more.len();
            for batch in &more {
                replay.archive().commit_batch(batch).await.unwrap();
            }
            if counted < 30 {
                tokio::task::yield_now().await;
                continue;
            }
            match replay.swap_in(false, NO_PROGRESS).await.unwrap() {
                ReplayFinish::Behind(_) => {}
                done @ ReplayFinish::Done { .. } => break done,
            }
        };
        let positions = live.partition_positions(&[0, 1, 2]).await.unwrap();
        let deadline = Instant::now() + TEST_TIMEOUT;
        // Consumers go on after the replay.
        while live
            .partition_positions(&[0, 1, 2])
            .await
            .unwrap()
            .iter()
            .zip(&positions)
            .any(|(now, then)| now.next_offset <= then.next_offset)
        {
            assert!(Instant::now() < deadline, "a consumer does not go on");
        }
        log.stop.store(true, Ordering::Relaxed);
        done
    };
    let consumers = join_all((0..3).map(|at| log.write_and_count(&archives[at], at as u32)));
    let (batches, done) = futures::join!(consumers, replaying);
    let batches: u64 = batches.into_iter().sum();
    println!("{batches} batches; {done:?}");
    let cut = check_nothing_lost(&archives[0], batches).await;
    assert_eq!((cut.meta.generation, cut.meta.counting_rules), (2, rules_with_heavy_likes()));
    assert_eq!(leftover_collections(&config).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_starts_from_a_restored_backup() {
    let (backup, config) = (fresh_database(), fresh_database());
    let (old, archive) = (open_archive(&backup).await, open_archive(&config).await);
    let comment = |at: u64| {
        json!({"video_id": format!("v{}", at % 3), "user_id": "u", "type": "comment",
        "comment": "hi", "comment_id": format!("c{}", at % 8)})
    };
    for archive in [&old, &archive] {
        archive.commit_batch(&archive::copied::copied_batch()).await.unwrap();
    }
    for at in 0..10 {
        let batch = batch(0, at, &[comment(at)]);
        if at < 5 {
            old.claim_partitions(&[0]).await.unwrap();
            old.commit_batch(&batch).await.unwrap();
        }
        archive.commit_batch(&batch).await.unwrap();
    }
    let before = check_archive(&archive).await;
    let database = Some(backup.database.as_str());
    let at_backup = archive.rebuild_archive().read_snapshot(database).await.unwrap();
    assert_eq!((at_backup.positions[0].1.next_offset, at_backup.comment_tallies.len()), (5, 4));
    let replay = archive
        .rebuild_archive()
        .begin_replay(&rules_with_heavy_likes(), database, NO_PROGRESS)
        .await
        .unwrap();
    assert_eq!(replay.archive().claim_partitions(&[0]).await.unwrap()[0].next_offset, 5);
    for at in 5..10 {
        replay.archive().commit_batch(&batch(0, at, &[comment(at)])).await.unwrap();
    }
    let done = replay.swap_in(false, NO_PROGRESS).await.unwrap();
    assert!(matches!(done, ReplayFinish::Done { renumbered: false, .. }), "{done:?}");
    archive::copied::check_copied_data(&archive).await;
    let after = check_archive(&archive).await;
    assert_eq!((after.comment_tallies, after.positions), (before.comment_tallies, before.positions));
    let states = |cut: Vec<liverank_adapters::archive::StoredVideo>| {
        cut.into_iter()
            .map(|video| (video.state.video_id, video.state.counters, video.state.last_seq))
            .collect::<Vec<_>>()
    };
    assert_eq!(states(after.videos), states(before.videos));
    let nowhere = archive
        .rebuild_archive()
        .begin_replay(&rules_with_heavy_likes(), Some("no-such-archive"), NO_PROGRESS)
        .await;
    assert!(nowhere.err().expect("there is none").to_string().contains("no-such-archive"));
}
