//! The scenario `restarts`: a change of the spec restarts only the pods that it concerns; all other pods keep their
//! UIDs.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::kstatus;
use crate::kube::{self, POD_KIND};
use crate::platform_user;
use crate::wait::wait_until_some;
use crate::world::{
    CLUSTER_NAME, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, SETTLE_TIMEOUT, expect_restarted, is_ready,
};

/// All components, by the values of their label.
const ALL: [&str; 7] = ["manager", "consumer", "comment", "reader", "websocket", "statistics", "gateway"];

pub async fn check_restarts(world: &ClusterWorld) -> anyhow::Result<String> {
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    // A setting of one component, which is in a ConfigMap together with settings of others.
    let budget = json!({"readers": {"rebalance": {"maxViewersMovedPerMinute": 1500}}});
    let one = check_roll_out(world, budget, &["manager"]).await?;
    check_roll_out(world, json!({"scoring": {"trendingHalfLifeMinutes": 300}}), &["consumer"]).await?;
    check_roll_out(
        world,
        json!({"statistics": {"pod": {"annotations": {"example.org/a": "b"}}}}),
        &["statistics"],
    )
    .await?;
    // Settings that are passed to no pod.
    check_roll_out(world, json!({"readers": {"maxReplicas": 4, "hotVideoViewers": 240}}), &[]).await?;
    check_switching_off_and_on(world).await?;
    let all = roll_image(world).await?;
    for component in ALL {
        for pod in world.pods_of(component).await? {
            let image = kube::text_at(&pod, "/spec/containers/0/image");
            ensure!(image == world.settings.next_image, "{} runs {image}", kube::object_name(&pod));
        }
    }
    let (one, all) = (one.as_secs_f64(), all.as_secs_f64());
    Ok(format!("change to rolled: one component {one:.1} s, a new image everywhere {all:.1} s"))
}

/// Changes the spec, waits until the cluster is ready, and checks that exactly the `expected` components have other
/// pods. Returns the time until the cluster was ready.
async fn check_roll_out(world: &ClusterWorld, change: Value, expected: &[&str]) -> anyhow::Result<Duration> {
    let before = world.settled_pods().await?;
    let start = Instant::now();
    let told = change.to_string();
    world.change_spec(change).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let took = start.elapsed();
    let after = world.settled_pods().await?;
    expect_restarted(&before, &after, expected).map_err(|error| anyhow::anyhow!("{told}: {error}"))?;
    Ok(took)
}

/// Rolls a new image out, where Kubernetes can on a platform that gives pods user ids. No tool that goes by the published
/// rules may take the resource for done before the last pod runs the new image.
async fn roll_image(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let before = world.settled_pods().await?;
    // All pods are replaced, so what the changes before set is set back with the same roll-out.
    let former = json!({
        "maxReplicas": 5, "hotVideoViewers": 250, "rebalance": {"maxViewersMovedPerMinute": 1200},
    });
    let mut change = json!({"image": world.settings.next_image, "readers": former});
    let has_platform = platform_user::set_platform_user(world).await?;
    if has_platform {
        change["podUser"] = json!("Platform");
    }
    let start = Instant::now();
    world.change_spec(change).await?;
    let (mut looks, mut too_early) = (0, Vec::new());
    let look = async || {
        // First the resource, then the pods: meanwhile there are fewer old ones, not more.
        let cluster = world.live_cluster().await?;
        let pods = world.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
        let is_old = |pod: &&Value| {
            pod.pointer("/metadata/deletionTimestamp").is_none()
                && kube::text_at(pod, "/spec/containers/0/image") != world.settings.next_image
        };
        let old: Vec<String> =
            pods.iter().filter(is_old).map(|pod| kube::object_name(pod).to_owned()).collect();
        looks += 1;
        if kstatus::is_current(&cluster) && !old.is_empty() {
            too_early.push(old);
        }
        Ok(if is_ready(&cluster) { Ok(()) } else { Err(cluster["status"]["conditions"].to_string()) })
    };
    wait_until_some("the image is rolled out", SETTLE_TIMEOUT, look).await?;
    let took = start.elapsed();
    ensure!(too_early.is_empty(), "the resource was Current while these were there: {too_early:?}");
    ensure!(looks > 10, "only {looks} looks at the roll-out");
    expect_restarted(&before, &world.settled_pods().await?, &ALL)?;
    if has_platform {
        platform_user::check(world).await?;
    }
    Ok(took)
}

/// Switches the statistics off and on: its objects are deleted and created again, and no other component restarts.
async fn check_switching_off_and_on(world: &ClusterWorld) -> anyhow::Result<()> {
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
