//! The scenario `proposals`: with `scaling.mode: Proposal` a plan waits for somebody's word. It is withdrawn when its reason
//! is gone, a word for another plan changes nothing, and an approved plan is carried out.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::kube::RANKING_CLUSTER_KIND;
use crate::scenarios::objects::wait_for_readers;
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME};

/// The time limit until a plan is made or withdrawn.
const PLAN_TIMEOUT: Duration = Duration::from_secs(30);
/// The annotation by which a plan is approved.
const APPROVE_ANNOTATION: &str = "liverank.dev/approve";

pub async fn approved_refused_and_expired(world: &ClusterWorld) -> anyhow::Result<String> {
    // A scenario before may have left a reader that is still to be removed.
    wait_for_readers(world, 2).await?;
    world.change_spec(json!({"readers": {"scaling": {"mode": "Proposal"}, "minReplicas": 3}})).await?;
    let first = wait_for_plan(world).await?;
    // Nothing is done by a word for another plan, and a plan whose reason is gone is withdrawn.
    approve(world, "0000000000").await?;
    world.change_spec(json!({"readers": {"minReplicas": 2}})).await?;
    wait_until_withdrawn(world).await?;
    approve(world, &first).await?;
    world.change_spec(json!({"readers": {"minReplicas": 3}})).await?;
    let second = wait_for_plan(world).await?;
    ensure!(second != first, "a withdrawn plan's name is used again");
    let readers = world.live_cluster().await?["status"]["readers"]["replicas"].clone();
    ensure!(readers == 2, "there are {readers} readers, and nobody approved a plan that is in force");
    approve(world, &second).await?;
    let took = wait_for_readers(world, 3).await?;
    world.change_spec(json!({"readers": {"scaling": {"mode": "Auto"}, "minReplicas": 2}})).await?;
    wait_for_readers(world, 2).await?;
    Ok(format!("from the word to 3 readers: {:.1} s", took.as_secs_f64()))
}

async fn approve(world: &ClusterWorld, plan: &str) -> anyhow::Result<()> {
    let path = RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, CLUSTER_NAME);
    let approval = json!({"metadata": {"annotations": {APPROVE_ANNOTATION: plan}}});
    world.kube.merge_patch(&path, &approval).await?.expect_success().map(|_| ())
}

/// Waits for a plan of scaling, and returns its name.
async fn wait_for_plan(world: &ClusterWorld) -> anyhow::Result<String> {
    let look = async || {
        let cluster = world.live_cluster().await?;
        let plan = &cluster["status"]["proposals"][0];
        let is_new = cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
        Ok(match plan["id"].as_str().filter(|_| is_new && plan["subject"] == "Scaling") {
            Some(name) => Ok(name.to_owned()),
            None => Err(cluster["status"]["proposals"].to_string()),
        })
    };
    Ok(wait_until_some("a plan waits", PLAN_TIMEOUT, look).await?.0)
}

async fn wait_until_withdrawn(world: &ClusterWorld) -> anyhow::Result<()> {
    let look = async || {
        let cluster = world.live_cluster().await?;
        let plans = cluster["status"]["proposals"].as_array().map_or(0, Vec::len);
        Ok(if plans == 0 { Ok(()) } else { Err(format!("{plans} wait")) })
    };
    wait_until_some("the plan is withdrawn", PLAN_TIMEOUT, look).await.context("after its reason is gone")?;
    Ok(())
}
