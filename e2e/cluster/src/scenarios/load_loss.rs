//! Nobody says what load there is: as many readers stay as there are, until the fallback asks for more. No node takes pods
//! meanwhile, so that managers that end do not come back.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::kube::{self, NODE, POD, condition, text};
use crate::wait::until;
use crate::world::{NAME, NAMESPACE_NAME, SETTLE, World};

/// After how long the fallback holds: the least that may be said.
const AFTER: Duration = Duration::from_secs(10);

/// Readers that there are to be, and what the scaler says.
async fn readers(world: &World) -> anyhow::Result<(u64, String, String)> {
    let cluster = world.live().await?;
    let replicas = cluster["status"]["readers"]["replicas"].as_u64().context("no readers in the status")?;
    let scaler = condition(&cluster, "Autoscaling").cloned().unwrap_or_default();
    Ok((replicas, text(&scaler, "/reason").to_owned(), text(&scaler, "/message").to_owned()))
}

pub async fn falls_back(world: &World) -> anyhow::Result<String> {
    let (before, ..) = readers(world).await?;
    let fallback = json!({"replicas": before + 1, "afterSeconds": AFTER.as_secs()});
    world.change(json!({"readers": {"scaling": {"fallback": fallback}}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    let nodes = world.kube.list(NODE, "", "type!=kwok").await?;
    let nodes: Vec<String> = nodes.iter().map(|node| kube::name(node).to_owned()).collect();
    open(world, &nodes, false).await?;
    let result = lose(world, before).await;
    open(world, &nodes, true).await?;
    let came = result?;
    let look = async || {
        let (now, reason, message) = readers(world).await?;
        let told = format!("{now} readers, {reason}: {message}");
        Ok(if reason == "LoadMissing" { Err(told) } else { Ok(()) })
    };
    until("the load is known again", SETTLE, look).await?;
    world.change(json!({"readers": {"scaling": {"fallback": null}}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    Ok(format!("{} readers {:.1} s after the managers ended", before + 1, came.as_secs_f64()))
}

/// Ends the managers. Answers after how long there was one more reader.
async fn lose(world: &World, before: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for manager in world.pods_of("manager").await? {
        world.kube.delete(&POD.path(NAMESPACE_NAME, kube::name(&manager))).await?;
    }
    let look = async || {
        let (now, reason, message) = readers(world).await?;
        let told = format!("{now} readers, {reason}: {message}");
        ensure!(now <= before || start.elapsed() > AFTER, "nothing is concluded at once: {told}");
        Ok(if now == before + 1 && reason == "LoadMissing" { Ok(()) } else { Err(told) })
    };
    until("the fallback asks for one more reader", SETTLE, look).await?;
    Ok(start.elapsed())
}

/// Whether nodes take pods.
async fn open(world: &World, nodes: &[String], open: bool) -> anyhow::Result<()> {
    let verb = if open { "uncordon" } else { "cordon" };
    for node in nodes {
        let done = world.kube.kubectl(&[verb, node], None).await?;
        ensure!(done.good, "kubectl {verb} {node}: {}", done.errors);
    }
    Ok(())
}
