//! The scenario `pods`: what users add to pods reaches the pods. An addition that the operator does not permit is
//! reported by its field, and changes nothing.

use std::time::Duration;

use serde_json::json;

use crate::kube::{status_condition, text_at};
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, expect_restarted, is_true};

/// The time limit until the operator reports on a change of the spec.
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn check_pod_settings(world: &ClusterWorld) -> anyhow::Result<String> {
    let before = world.settled_pods().await?;
    let more = json!({
        "env": [{"name": "E2E", "value": "there"}],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    });
    world.change_spec(json!({"statistics": {"pod": more}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    // The resource is ready while a pod of before is still to go: then both are there.
    let look = async || {
        let pods = world.pods_of("statistics").await?;
        let has_additions = |said: &str| said.contains("E2E") && said.contains("/scratch");
        let containers = pods.iter().map(|pod| pod["spec"]["containers"][0].to_string());
        let former: Vec<String> = containers.filter(|said| !has_additions(said)).collect();
        Ok(if former.is_empty() && !pods.is_empty() { Ok(()) } else { Err(former.join("; ")) })
    };
    wait_until_some("all pods of statistics have what was added", STATUS_TIMEOUT, look).await?;
    let with = world.settled_pods().await?;
    expect_restarted(&before, &with, &["statistics"])?;
    check_refused_volume(world).await?;
    let none = json!({"env": null, "volumes": null, "volumeMounts": null});
    world.change_spec(json!({"statistics": {"pod": none}, "gateway": {"pod": {"volumes": null}}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    expect_restarted(&with, &world.settled_pods().await?, &["statistics"])?;
    Ok(String::new())
}

/// Checks that a volume with a folder of the node is refused: authors of a `RankingCluster` may not use one unless the
/// operator's policy permits it.
async fn check_refused_volume(world: &ClusterWorld) -> anyhow::Result<()> {
    let node = json!([{"name": "node", "hostPath": {"path": "/"}}]);
    world.change_spec(json!({"gateway": {"pod": {"volumes": node}}})).await?;
    let look = async || {
        let cluster = world.live_cluster().await?;
        let said = status_condition(&cluster, "Stalled").map(|it| text_at(it, "/message").to_owned());
        let said = said.unwrap_or_default();
        let told = is_true(&cluster, "Stalled") && said.contains("spec.gateway.pod.volumes[node].hostPath");
        Ok(if told { Ok(()) } else { Err(said) })
    };
    wait_until_some("a condition names the field that is not permitted", STATUS_TIMEOUT, look).await?;
    Ok(())
}
