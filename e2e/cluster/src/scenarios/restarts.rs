//! The scenario `restarts`: a change of the spec restarts only the pods that it concerns; all other pods keep their
//! UIDs.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::kube;
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT, expect_restarted};

/// All components, by the values of their label.
const ALL: [&str; 7] = ["manager", "consumer", "comment", "reader", "websocket", "statistics", "gateway"];

pub async fn only_the_right_pods(world: &ClusterWorld) -> anyhow::Result<String> {
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    // A setting of one component, which is in a ConfigMap together with settings of others.
    let budget = |viewers: u32| json!({"readers": {"rebalance": {"maxViewersMovedPerMinute": viewers}}});
    let one = check_roll_out(world, budget(1500), &["manager"]).await?;
    check_roll_out(world, json!({"scoring": {"trendingHalfLifeMinutes": 300}}), &["consumer"]).await?;
    check_roll_out(
        world,
        json!({"statistics": {"pod": {"annotations": {"example.org/a": "b"}}}}),
        &["statistics"],
    )
    .await?;
    // Settings that are passed to no pod.
    check_roll_out(world, json!({"readers": {"maxReplicas": 4, "hotVideoViewers": 240}}), &[]).await?;
    switched_off_and_on(world).await?;
    let all = check_roll_out(world, json!({"image": world.settings.next_image}), &ALL).await?;
    for component in ALL {
        for pod in world.pods_of(component).await? {
            let image = kube::text_at(&pod, "/spec/containers/0/image");
            ensure!(image == world.settings.next_image, "{} runs {image}", kube::object_name(&pod));
        }
    }
    world.change_spec(json!({"readers": {"maxReplicas": 5, "hotVideoViewers": 250}})).await?;
    check_roll_out(world, budget(1200), &["manager"]).await?;
    let (one, all) = (one.as_secs_f64(), all.as_secs_f64());
    Ok(format!("change to rolled: one component {one:.1} s, a new image everywhere {all:.1} s"))
}

/// Changes the spec, waits until the cluster is ready, and checks that exactly the `expected` components have other
/// pods. Returns the time until the cluster was ready.
async fn check_roll_out(world: &ClusterWorld, change: Value, expected: &[&str]) -> anyhow::Result<Duration> {
    let before = world.pods().await?;
    let start = Instant::now();
    let told = change.to_string();
    world.change_spec(change).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let took = start.elapsed();
    let after = world.pods().await?;
    expect_restarted(&before, &after, expected).map_err(|error| anyhow::anyhow!("{told}: {error}"))?;
    Ok(took)
}

/// Switches the statistics off and on: its objects are deleted and created again, and no other component restarts.
async fn switched_off_and_on(world: &ClusterWorld) -> anyhow::Result<()> {
    check_roll_out(world, json!({"statistics": {"enabled": false}}), &["statistics"]).await?;
    // The ConfigMap remains as long as a pod that is ending refers to it.
    let gone = async || {
        let left = world.operator_objects(NAMESPACE_NAME).await?;
        let left: Vec<&str> =
            left.iter().map(kube::object_name).filter(|name| name.contains("statistics")).collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("these are there: {left:?}")) })
    };
    wait_until_some("statistics is off and nothing of it is there", SETTLE_TIMEOUT, gone).await?;
    ensure!(!world.pods().await?.contains_key("statistics"), "statistics is off and its pods are there");
    check_roll_out(world, json!({"statistics": {"enabled": true}}), &["statistics"]).await?;
    ensure!(world.pods().await?.contains_key("statistics"), "statistics is on and has no pod");
    Ok(())
}
