//! The scenario `crowd`: a thousand viewers and fifty comments a second, while a video goes viral and cools down,
//! readers are upgraded, and a node is drained. No viewer misses a comment or gets one twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::viewer::ConnectMode;
use crate::audience;
use crate::kube::{self, NODE_KIND};
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT};

const VIRAL_VIDEO: &str = "viral";
/// The number of quiet videos, and the number of viewers of each.
const QUIET_VIDEOS_AND_VIEWERS: (usize, usize) = (10, 30);
const COMMENTS_PER_SECOND: f64 = 50.0;
/// The viewers of the viral video at its peak: those who connect to readers themselves, and those who connect to the
/// gateway.
const PEAK_VIEWERS: (usize, usize) = (500, 200);
const COOLED_VIEWERS: (usize, usize) = (250, 100);

pub async fn check_crowd(world: &ClusterWorld) -> anyhow::Result<String> {
    audience::ensure_audience(world).await?;
    for nth in 0..QUIET_VIDEOS_AND_VIEWERS.0 {
        let way = if nth % 3 == 0 { ConnectMode::FrontDoor } else { ConnectMode::Direct };
        audience::set_crowd(
            world,
            &format!("quiet-{nth}"),
            &format!("quiet-{nth}"),
            QUIET_VIDEOS_AND_VIEWERS.1,
            way,
        )
        .await?;
    }
    audience::wait_until_complete(world).await?;
    audience::set_posting(world, COMMENTS_PER_SECOND, comment_shares()).await?;
    let grown = bring_viral_crowd(world).await?;
    let removed = cool_crowd(world).await?;
    let (upgraded, moved) = upgrade_readers(world).await?;
    let (drained, away) = drain_second_node(world).await?;
    let report = audience::expect_all_right(world).await?;
    let posted: u64 = audience::posted_counts(world).await?.acknowledged.values().sum();
    remove_everybody(world).await?;
    Ok(format!(
        "{posted} comments; readers 2 to {} in {:.0} s; one removed after {:.0} s; upgrade {:.0} s, {moved} moved, each \
         once; node drained in {:.0} s, longest away {away}; {} received since",
        grown.0,
        grown.1.as_secs_f64(),
        removed.as_secs_f64(),
        upgraded.as_secs_f64(),
        drained.as_secs_f64(),
        report.comments
    ))
}

/// Returns the weights of the videos: a third of all comments go to the viral video.
fn comment_shares() -> BTreeMap<String, u32> {
    let quiet = (0..QUIET_VIDEOS_AND_VIEWERS.0).map(|nth| (format!("quiet-{nth}"), 2));
    quiet.chain([(VIRAL_VIDEO.to_owned(), 10)]).collect()
}

async fn watch_viral(world: &ClusterWorld, (direct, front): (usize, usize)) -> anyhow::Result<()> {
    audience::set_crowd(world, "viral-direct", VIRAL_VIDEO, direct, ConnectMode::Direct).await?;
    audience::set_crowd(world, "viral-front", VIRAL_VIDEO, front, ConnectMode::FrontDoor).await
}

/// Removes all viewers, and waits until two readers are left.
async fn remove_everybody(world: &ClusterWorld) -> anyhow::Result<()> {
    watch_viral(world, (0, 0)).await?;
    for nth in 0..QUIET_VIDEOS_AND_VIEWERS.0 {
        audience::set_crowd(world, &format!("quiet-{nth}"), "", 0, ConnectMode::Direct).await?;
    }
    super::objects::wait_for_readers(world, 2).await.map(|_| ())
}

/// Returns the number of readers that serve the viral video, according to a manager.
async fn readers_of_viral_video(world: &ClusterWorld) -> anyhow::Result<usize> {
    let load = world.manager_load().await?;
    let assignments = load["assignments"].as_array().context("no assignments in the load")?;
    let viral = assignments.iter().find(|it| it["videoid"] == VIRAL_VIDEO);
    Ok(viral.and_then(|it| it["readers"].as_array()).map_or(0, Vec::len))
}

/// Adds the viral video's viewers, and waits until there are at least four readers and the video is spread over at
/// least two. Returns the number of readers and the time that it took.
async fn bring_viral_crowd(world: &ClusterWorld) -> anyhow::Result<(u64, Duration)> {
    let start = Instant::now();
    watch_viral(world, PEAK_VIEWERS).await?;
    let look = async || {
        let cluster = world.live_cluster().await?;
        let ready = cluster["status"]["readers"]["ready"].as_u64().unwrap_or(0);
        let (spread, report) = (readers_of_viral_video(world).await?, audience::report(world).await?);
        let there = report.connected == report.viewers && report.viewers >= 1000;
        let told = format!(
            "{ready} readers, spread over {spread}, {} of {}; {}",
            report.connected,
            report.viewers,
            report.without.join("; ")
        );
        let quiet = crate::world::is_ready(&cluster);
        Ok(if ready >= 4 && spread >= 2 && there && quiet { Ok(ready) } else { Err(told) })
    };
    let (ready, _) = wait_until_some("readers come, and the video is spread", SETTLE_TIMEOUT, look).await?;
    Ok((ready, start.elapsed()))
}

/// Removes part of the viral video's viewers, and waits until a reader was drained and removed. Returns the time that
/// it took.
async fn cool_crowd(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let before = world.live_cluster().await?["status"]["readers"]["replicas"].as_u64().unwrap_or(0);
    let start = Instant::now();
    watch_viral(world, COOLED_VIEWERS).await?;
    let look = async || {
        let cluster = world.live_cluster().await?;
        let readers = &cluster["status"]["readers"];
        let fewer = readers["replicas"].as_u64().is_some_and(|now| now < before) && readers["draining"] == 0;
        Ok(if fewer && crate::world::is_ready(&cluster) { Ok(()) } else { Err(readers.to_string()) })
    };
    wait_until_some("a reader is emptied and removed", SETTLE_TIMEOUT, look).await?;
    let took = start.elapsed();
    // Scaling in and rebalancing are paused, so that the moves that follow come from the upgrade alone.
    world
        .change_spec(json!({"readers": {"scaling": {"scaleIn": "Paused"}, "rebalance": {"mode": "Paused"}}}))
        .await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    audience::wait_until_complete(world).await?;
    Ok(took)
}

/// Replaces all readers by a change of their pods, and checks that no viewer was moved twice. Returns the time that it
/// took, and the number of viewers that were moved.
async fn upgrade_readers(world: &ClusterWorld) -> anyhow::Result<(Duration, usize)> {
    let before = world.settled_pods().await?;
    audience::forget_events(world).await?;
    let start = Instant::now();
    let change = json!({"readers": {"pod": {"annotations": {"example.org/release": world.run}}}});
    world.change_spec(change).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let took = start.elapsed();
    crate::world::expect_restarted(&before, &world.settled_pods().await?, &["reader"])?;
    let report = audience::wait_until_complete(world).await?;
    ensure!(report.moved >= 200, "only {} viewers were moved", report.moved);
    ensure!(
        report.most_moves <= 1,
        "{} viewers were moved more than once; {}",
        report.moved_twice,
        report.most_moves_in_words
    );
    let inputs = &world.live_cluster().await?["status"]["lastDecision"];
    ensure!(!inputs["id"].is_null(), "nothing was decided: {inputs}");
    Ok((took, report.moved))
}

/// Drains the second node: its readers hand their viewers over before they end. Returns the time that it took, and the
/// longest time that a viewer was without a stream.
async fn drain_second_node(world: &ClusterWorld) -> anyhow::Result<(Duration, String)> {
    let first = audience::audience_node(world).await?;
    let nodes = world.kube.list_objects(NODE_KIND, "", "type!=kwok").await?;
    let second = nodes.iter().map(kube::object_name).find(|name| *name != first);
    let second = second.context("there is no second node: this needs two")?.to_owned();
    let on_it =
        |pods: &[Value]| pods.iter().filter(|pod| kube::text_at(pod, "/spec/nodeName") == second).count();
    let readers = on_it(&world.pods_of("reader").await?);
    ensure!(readers > 0, "no reader runs on {second}");
    audience::forget_events(world).await?;
    let start = Instant::now();
    let drain = ["drain", &second, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
    let drained = world.kube.run_kubectl(&drain, None).await?;
    let took = start.elapsed();
    let opened = world.kube.run_kubectl(&["uncordon", &second], None).await?;
    ensure!(drained.succeeded && opened.succeeded, "kubectl drain: {} {}", drained.stderr, opened.stderr);
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let report = audience::wait_until_complete(world).await?;
    ensure!(report.moved > 0, "{readers} readers left {second}, and nobody was moved");
    world
        .change_spec(json!({"readers": {"scaling": {"scaleIn": "Enabled"}, "rebalance": {"mode": "Auto"}}}))
        .await?;
    // Readers ask for a wait of 3 s at most before a retry: only a longest time of more than two waits needs an
    // explanation.
    let why = if report.longest_away_ms > 6_000 { &report.longest_attempts } else { "" };
    Ok((took, format!("{} ms {why}", report.longest_away_ms)))
}
