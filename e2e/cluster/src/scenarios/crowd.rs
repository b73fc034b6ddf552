//! A thousand viewers and fifty comments a second, while a video goes viral and cools, readers are upgraded, and a node
//! is drained: nobody misses a comment, and nobody gets one twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::viewer::Way;
use crate::audience;
use crate::kube::{self, NODE};
use crate::wait::until;
use crate::world::{NAME, NAMESPACE_NAME, SETTLE, World};

const VIRAL: &str = "viral";
/// Other videos, and how many watch each.
const QUIET: (usize, usize) = (10, 30);
const COMMENTS_PER_SECOND: f64 = 50.0;
/// Viewers of the viral video: those who connect to readers themselves, and those who come by the front door.
const AT_ITS_PEAK: (usize, usize) = (500, 200);
const COOLED: (usize, usize) = (250, 100);

pub async fn moves_and_misses_nothing(world: &World) -> anyhow::Result<String> {
    audience::ensure(world).await?;
    for nth in 0..QUIET.0 {
        let way = if nth % 3 == 0 { Way::FrontDoor } else { Way::Direct };
        audience::crowd(world, &format!("quiet-{nth}"), &format!("quiet-{nth}"), QUIET.1, way).await?;
    }
    audience::complete(world).await?;
    audience::post(world, COMMENTS_PER_SECOND, shares()).await?;
    let grown = viral(world).await?;
    let removed = cools(world).await?;
    let (upgraded, moved) = upgrade(world).await?;
    let (drained, away) = drain_second_node(world).await?;
    let report = audience::expect_all_right(world).await?;
    let posted: u64 = audience::posted(world).await?.acknowledged.values().sum();
    leave(world).await?;
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

/// A third of all comments are on the video that most watch.
fn shares() -> BTreeMap<String, u32> {
    let quiet = (0..QUIET.0).map(|nth| (format!("quiet-{nth}"), 2));
    quiet.chain([(VIRAL.to_owned(), 10)]).collect()
}

async fn watch_viral(world: &World, (direct, front): (usize, usize)) -> anyhow::Result<()> {
    audience::crowd(world, "viral-direct", VIRAL, direct, Way::Direct).await?;
    audience::crowd(world, "viral-front", VIRAL, front, Way::FrontDoor).await
}

/// Everybody leaves.
async fn leave(world: &World) -> anyhow::Result<()> {
    watch_viral(world, (0, 0)).await?;
    for nth in 0..QUIET.0 {
        audience::crowd(world, &format!("quiet-{nth}"), "", 0, Way::Direct).await?;
    }
    super::objects::readers(world, 2).await.map(|_| ())
}

/// How many readers serve the viral video, by the managers.
async fn spread(world: &World) -> anyhow::Result<usize> {
    let load = world.load().await?;
    let assignments = load["assignments"].as_array().context("no assignments in the load")?;
    let viral = assignments.iter().find(|it| it["videoid"] == VIRAL);
    Ok(viral.and_then(|it| it["readers"].as_array()).map_or(0, Vec::len))
}

/// The crowd comes: more readers do, and the video is spread over several.
async fn viral(world: &World) -> anyhow::Result<(u64, Duration)> {
    let start = Instant::now();
    watch_viral(world, AT_ITS_PEAK).await?;
    let look = async || {
        let cluster = world.live().await?;
        let ready = cluster["status"]["readers"]["ready"].as_u64().unwrap_or(0);
        let (spread, report) = (spread(world).await?, audience::report(world).await?);
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
    let (ready, _) = until("readers come, and the video is spread", SETTLE, look).await?;
    Ok((ready, start.elapsed()))
}

/// Some go: a reader is emptied and removed.
async fn cools(world: &World) -> anyhow::Result<Duration> {
    let before = world.live().await?["status"]["readers"]["replicas"].as_u64().unwrap_or(0);
    let start = Instant::now();
    watch_viral(world, COOLED).await?;
    let look = async || {
        let cluster = world.live().await?;
        let readers = &cluster["status"]["readers"];
        let fewer = readers["replicas"].as_u64().is_some_and(|now| now < before) && readers["draining"] == 0;
        Ok(if fewer && crate::world::is_ready(&cluster) { Ok(()) } else { Err(readers.to_string()) })
    };
    until("a reader is emptied and removed", SETTLE, look).await?;
    let took = start.elapsed();
    // Not while it goes on: what follows is to be the upgrade's doing alone.
    world
        .change(json!({"readers": {"scaling": {"scaleIn": "Paused"}, "rebalance": {"mode": "Paused"}}}))
        .await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    audience::complete(world).await?;
    Ok(took)
}

/// New readers in the place of all old ones. No viewer moves twice.
async fn upgrade(world: &World) -> anyhow::Result<(Duration, usize)> {
    let before = world.pods().await?;
    audience::forget(world).await?;
    let start = Instant::now();
    let change = json!({"readers": {"pod": {"annotations": {"example.org/release": world.run}}}});
    world.change(change).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    let took = start.elapsed();
    crate::world::expect_restarted(&before, &world.pods().await?, &["reader"])?;
    let report = audience::complete(world).await?;
    ensure!(report.moved >= 200, "only {} viewers were moved", report.moved);
    ensure!(report.most_moves <= 1, "one viewer was moved {} times", report.most_moves);
    let inputs = &world.live().await?["status"]["lastDecision"];
    ensure!(!inputs["id"].is_null(), "nothing was decided: {inputs}");
    Ok((took, report.moved))
}

/// The node's pods are evicted: its readers hand their viewers over before they go.
async fn drain_second_node(world: &World) -> anyhow::Result<(Duration, String)> {
    let first = audience::audience_node(world).await?;
    let nodes = world.kube.list(NODE, "", "type!=kwok").await?;
    let second = nodes.iter().map(kube::name).find(|name| *name != first);
    let second = second.context("there is no second node: this needs two")?.to_owned();
    let on_it =
        |pods: &[Value]| pods.iter().filter(|pod| kube::text(pod, "/spec/nodeName") == second).count();
    let readers = on_it(&world.pods_of("reader").await?);
    ensure!(readers > 0, "no reader runs on {second}");
    audience::forget(world).await?;
    let start = Instant::now();
    let drain = ["drain", &second, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
    let drained = world.kube.kubectl(&drain, None).await?;
    let took = start.elapsed();
    let opened = world.kube.kubectl(&["uncordon", &second], None).await?;
    ensure!(drained.good && opened.good, "kubectl drain: {} {}", drained.errors, opened.errors);
    world.ready(NAMESPACE_NAME, NAME).await?;
    let report = audience::complete(world).await?;
    ensure!(report.moved > 0, "{readers} readers left {second}, and nobody was moved");
    world
        .change(json!({"readers": {"scaling": {"scaleIn": "Enabled"}, "rebalance": {"mode": "Auto"}}}))
        .await?;
    // One retry that a reader asks for is 3 s at most: more than two need an explanation.
    let why = if report.longest_away_ms > 6_000 { &report.longest_attempts } else { "" };
    Ok((took, format!("{} ms {why}", report.longest_away_ms)))
}
