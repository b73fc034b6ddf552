//! The scenarios `operator-upgrade` and `operator-gone`: the operator is replaced or removed, and the system's pods
//! stay.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use crate::agent::viewer::ConnectMode;
use crate::audience;
use crate::kube::{self, RANKING_CLUSTER_KIND};
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::{
    CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, OPERATOR_NAMESPACE, RELEASE_NAME, SETTLE_TIMEOUT,
    expect_restarted, is_true,
};

/// Installs a newer operator, which would build other pods: it reports that in `UpdatePending` and restarts nothing.
pub async fn check_operator_upgrade(world: &ClusterWorld) -> anyhow::Result<String> {
    let before = world.settled_pods().await?;
    let identity = |cluster: &Value| kube::text_at(cluster, "/status/operator/identity").to_owned();
    let old = identity(&world.live_cluster().await?);
    let start = Instant::now();
    world.install_operator(&["--set", "extraArgs={--builder-revision=1000}"]).await?;
    let look = async || {
        let cluster = world.live_cluster().await?;
        let pending = kube::status_condition(&cluster, "UpdatePending").cloned().unwrap_or_default();
        let new = identity(&cluster) != old && pending["status"] == "True";
        Ok(if new {
            Ok(pending["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(pending.to_string())
        })
    };
    let (message, _) =
        wait_until_some("the newer operator says what would restart", SETTLE_TIMEOUT, look).await?;
    let took = start.elapsed();
    for component in ["gateway", "consumer", "websocket", "comment", "manager", "statistics", "reader"] {
        ensure!(message.contains(component), "UpdatePending does not name {component}: {message}");
    }
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    expect_restarted(&before, &world.settled_pods().await?, &[])?;
    world.install_operator(&[]).await?;
    let over = async || Ok(!is_true(&world.live_cluster().await?, "UpdatePending"));
    wait_until_true("the older operator has nothing pending", SETTLE_TIMEOUT, over).await?;
    expect_restarted(&before, &world.settled_pods().await?, &[])?;
    Ok(format!("{:.1} s until it said so", took.as_secs_f64()))
}

/// Uninstalls the operator: every pod is the same as before, and comments posted afterwards are delivered.
pub async fn check_uninstalled_operator(world: &ClusterWorld) -> anyhow::Result<String> {
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    audience::ensure_audience(world).await?;
    audience::set_crowd(world, "after", "after", 20, ConnectMode::Direct).await?;
    audience::wait_until_complete(world).await?;
    let before = world.settled_pods().await?;
    world.kube.run_helm(&["uninstall", RELEASE_NAME, "--namespace", OPERATOR_NAMESPACE, "--wait"]).await?;
    // Kubernetes deletes the pods of a Deployment that is gone a moment later.
    let none = async || Ok(world.operator_pods().await?.is_empty());
    wait_until_true("uninstalled, no operator is there", SETTLE_TIMEOUT, none).await?;
    let kept = world.kube.get_object(&RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, CLUSTER_NAME)).await?;
    ensure!(kept.is_some(), "the RankingCluster went with the operator");
    audience::set_posting(world, 20.0, BTreeMap::from([("after".to_owned(), 1)])).await?;
    let look = async || {
        let comments = audience::report(world).await?.comments;
        Ok(if comments >= 400 { Ok(()) } else { Err(format!("{comments} comments")) })
    };
    wait_until_some("comments come without an operator", Duration::from_mins(1), look).await?;
    audience::expect_all_right(world).await?;
    expect_restarted(&before, &world.settled_pods().await?, &[])?;
    Ok(String::new())
}
