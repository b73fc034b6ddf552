//! The scenario `load-loss`: while no manager reports the load, the number of readers stays as it is, until
//! `scaling.fallback` asks for more. The nodes accept no pods meanwhile, so that managers that end are not replaced.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::kube::{self, NODE_KIND, POD_KIND, status_condition, text_at};
use crate::wait::{Look, wait_and_watch, wait_until_some};
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT};

/// The time without a reported load after which the fallback applies: the smallest value that the spec permits.
const FALLBACK_AFTER: Duration = Duration::from_secs(10);

/// Returns the number of wanted readers, with the reason and the message of the condition `Autoscaling`.
async fn wanted_readers(world: &ClusterWorld) -> anyhow::Result<(u64, String, String)> {
    let cluster = world.live_cluster().await?;
    let replicas = cluster["status"]["readers"]["replicas"].as_u64().context("no readers in the status")?;
    let scaler = status_condition(&cluster, "Autoscaling").cloned().unwrap_or_default();
    Ok((replicas, text_at(&scaler, "/reason").to_owned(), text_at(&scaler, "/message").to_owned()))
}

pub async fn check_fallback(world: &ClusterWorld) -> anyhow::Result<String> {
    let (before, ..) = wanted_readers(world).await?;
    let fallback = json!({"replicas": before + 1, "afterSeconds": FALLBACK_AFTER.as_secs()});
    world.change_spec(json!({"readers": {"scaling": {"fallback": fallback}}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let nodes = world.kube.list_objects(NODE_KIND, "", "type!=kwok").await?;
    let nodes: Vec<String> = nodes.iter().map(|node| kube::object_name(node).to_owned()).collect();
    set_nodes_open(world, &nodes, false).await?;
    let result = end_managers(world, before).await;
    set_nodes_open(world, &nodes, true).await?;
    let came = result?;
    let look = async || {
        let (now, reason, message) = wanted_readers(world).await?;
        let told = format!("{now} readers, {reason}: {message}");
        Ok(if reason == "LoadMissing" { Err(told) } else { Ok(()) })
    };
    wait_until_some("the load is known again", SETTLE_TIMEOUT, look).await?;
    world.change_spec(json!({"readers": {"scaling": {"fallback": null}}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    Ok(format!("{} readers {:.1} s after the managers ended", before + 1, came.as_secs_f64()))
}

/// Ends all managers; returns the time until the fallback asked for one more reader.
async fn end_managers(world: &ClusterWorld, before: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for manager in world.pods_of("manager").await? {
        world.kube.delete_object(&POD_KIND.object_path(NAMESPACE_NAME, kube::object_name(&manager))).await?;
    }
    let look = async || {
        let (now, reason, message) = wanted_readers(world).await?;
        let told = format!("{now} readers, {reason}: {message}");
        let is_early = now > before && start.elapsed() <= FALLBACK_AFTER;
        let is_asked = now == before + 1 && reason == "LoadMissing";
        Ok(match (is_early, is_asked) {
            (true, _) => Look::Wrong(format!("nothing is concluded at once: {told}")),
            (false, true) => Look::Found(()),
            (false, false) => Look::NotYet(told),
        })
    };
    wait_and_watch("the fallback asks for one more reader", SETTLE_TIMEOUT, look).await?;
    Ok(start.elapsed())
}

/// Uncordons the nodes (`open`) or cordons them.
async fn set_nodes_open(world: &ClusterWorld, nodes: &[String], open: bool) -> anyhow::Result<()> {
    let verb = if open { "uncordon" } else { "cordon" };
    for node in nodes {
        let done = world.kube.run_kubectl(&[verb, node], None).await?;
        ensure!(done.succeeded, "kubectl {verb} {node}: {}", done.stderr);
    }
    Ok(())
}
