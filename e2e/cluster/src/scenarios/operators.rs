//! The operator comes and goes; the system stays.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use crate::agent::viewer::Way;
use crate::audience;
use crate::kube::{self, CLUSTER};
use crate::wait::{until, until_true};
use crate::world::{
    NAME, NAMESPACE_NAME, OPERATOR_NAMESPACE, RELEASE, SETTLE, World, expect_restarted, is_true,
};

/// A newer operator, which would build other pods: it says so, and restarts nothing.
pub async fn upgrade_restarts_nothing(world: &World) -> anyhow::Result<String> {
    let before = world.pods().await?;
    let identity = |cluster: &Value| kube::text(cluster, "/status/operator/identity").to_owned();
    let old = identity(&world.live().await?);
    let start = Instant::now();
    world.install_operator(&["--set", "extraArgs={--builder-revision=1000}"]).await?;
    let look = async || {
        let cluster = world.live().await?;
        let pending = kube::condition(&cluster, "UpdatePending").cloned().unwrap_or_default();
        let new = identity(&cluster) != old && pending["status"] == "True";
        Ok(if new {
            Ok(pending["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(pending.to_string())
        })
    };
    let (message, _) = until("the newer operator says what would restart", SETTLE, look).await?;
    let took = start.elapsed();
    for component in ["gateway", "consumer", "websocket", "comment", "manager", "statistics", "reader"] {
        ensure!(message.contains(component), "UpdatePending does not name {component}: {message}");
    }
    world.ready(NAMESPACE_NAME, NAME).await?;
    expect_restarted(&before, &world.pods().await?, &[])?;
    world.install_operator(&[]).await?;
    let over = async || Ok(!is_true(&world.live().await?, "UpdatePending"));
    until_true("the older operator has nothing pending", SETTLE, over).await?;
    expect_restarted(&before, &world.pods().await?, &[])?;
    Ok(format!("{:.1} s until it said so", took.as_secs_f64()))
}

/// Uninstalled: every pod is the same as before, and a comment posted afterwards is delivered.
pub async fn gone_and_all_goes_on(world: &World) -> anyhow::Result<String> {
    world.ready(NAMESPACE_NAME, NAME).await?;
    audience::ensure(world).await?;
    audience::crowd(world, "after", "after", 20, Way::Direct).await?;
    audience::complete(world).await?;
    let before = world.pods().await?;
    world.kube.helm(&["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait"]).await?;
    ensure!(world.operators().await?.is_empty(), "uninstalled, and operators are there");
    let kept = world.kube.get(&CLUSTER.path(NAMESPACE_NAME, NAME)).await?;
    ensure!(kept.is_some(), "the RankingCluster went with the operator");
    audience::post(world, 20.0, BTreeMap::from([("after".to_owned(), 1)])).await?;
    let look = async || {
        let comments = audience::report(world).await?.comments;
        Ok(if comments >= 400 { Ok(()) } else { Err(format!("{comments} comments")) })
    };
    until("comments come without an operator", Duration::from_mins(1), look).await?;
    audience::expect_all_right(world).await?;
    expect_restarted(&before, &world.pods().await?, &[])?;
    Ok(String::new())
}
