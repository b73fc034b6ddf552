//! The scenario `hibernation`: with `spec.hibernate` no pod is left, components end before those that they call, and
//! interactions acknowledged before are counted afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kube::{self, DEPLOYMENT_KIND, POD_KIND, status_condition, text_at};
use crate::platform_user;
use crate::wait::{Look, wait_and_watch, wait_until_some};
use crate::world::{CLUSTER_NAME, COMPONENT_LABEL, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, is_ready};

/// The time limit until no pod is left: gateways end (grace period 50 s), then readers (their whole drain time of 165
/// s while viewers of other scenarios are there, because no reader has room for these), then managers (grace period 30
/// s).
const ASLEEP_TIMEOUT: Duration = Duration::from_secs(250);
/// The time for which the cluster must stay without pods.
const OBSERVED_SLEEP: Duration = Duration::from_secs(3);
/// The time limit, once all pods are ready again, until interactions acknowledged before are ranked.
const RANKED_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of interactions that are acknowledged just before the cluster hibernates.
const INTERACTIONS_BEFORE: usize = 20;

pub async fn check_hibernation(world: &ClusterWorld) -> anyhow::Result<String> {
    let video = format!("asleep-{}", world.run);
    for nth in 0..INTERACTIONS_BEFORE {
        super::flow::post_until_accepted(world, &video, nth).await?;
    }
    let start = Instant::now();
    world.change_spec(json!({"hibernate": true})).await?;
    let gone = fall_asleep(world, start).await?;
    let fell = start.elapsed();
    let at = |component: &str| gone.get(component).copied().with_context(|| format!("no {component} at all"));
    for (first, then) in
        [("gateway", "comment"), ("gateway", "reader"), ("comment", "consumer"), ("reader", "manager")]
    {
        ensure!(at(first)? <= at(then)?, "{then} went before {first}: {gone:?}");
    }
    let start = Instant::now();
    // Where the scenario `restarts` left a platform that gives user ids, this ends here: all pods are made anew anyhow.
    platform_user::end(world).await?;
    world.change_spec(json!({"hibernate": false, "podUser": null})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let woke = start.elapsed();
    let look = async || {
        let list = world.request_service("gateway:8080", Method::GET, "/videos?limit=100", None).await?;
        let videos = list["videos"].as_array().cloned().unwrap_or_default();
        let found = videos.iter().find(|it| it["video_id"] == video.as_str()).cloned().unwrap_or_default();
        // A like is worth 2 points.
        Ok(if found["score"] == json!(2.0 * INTERACTIONS_BEFORE as f64) {
            Ok(())
        } else {
            Err(found.to_string())
        })
    };
    wait_until_some("what was acknowledged before the sleep is counted, once", RANKED_TIMEOUT, look).await?;
    Ok(format!("asleep after {:.1} s, ready again after {:.1} s", fell.as_secs_f64(), woke.as_secs_f64()))
}

/// Waits until the status says that the cluster hibernates, and checks that no pod is left then. Returns for each
/// component the time at which its last pod was seen.
async fn fall_asleep(world: &ClusterWorld, start: Instant) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut seen: BTreeMap<String, Duration> = BTreeMap::new();
    let look = async || {
        // First the resource, then the pods: once it sleeps there are none.
        let cluster = world.live_cluster().await?;
        let pods = world.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
        for pod in &pods {
            let component =
                pod["metadata"]["labels"][COMPONENT_LABEL].as_str().unwrap_or_default().to_owned();
            seen.insert(component, start.elapsed());
        }
        let ready = status_condition(&cluster, "Ready").cloned().unwrap_or_default();
        let asleep = is_ready(&cluster) && ready["reason"] == "Hibernated";
        Ok(match (asleep, pods.len()) {
            (true, 0) => Look::Found(()),
            (true, left) => Look::Wrong(format!("it is said to sleep, and {left} pods are there")),
            (false, left) => Look::NotYet(format!("{left} pods; {}", text_at(&ready, "/message"))),
        })
    };
    wait_and_watch("nothing runs, and the status says so", ASLEEP_TIMEOUT, look).await?;
    let deployments = world.kube.list_objects(DEPLOYMENT_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
    let asks = |it: &&Value| it["spec"]["replicas"] != 0;
    let asking: Vec<&str> = deployments.iter().filter(asks).map(kube::object_name).collect();
    ensure!(asking.is_empty(), "these ask for pods: {asking:?}");
    // The cluster must stay without pods: no controller may create one again.
    let quiet = Instant::now();
    wait_and_watch("it stays asleep", 5 * OBSERVED_SLEEP, async || {
        let pods = world.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
        Ok(match pods.first() {
            Some(pod) => Look::Wrong(format!("{} came back", kube::object_name(pod))),
            None if quiet.elapsed() > OBSERVED_SLEEP => Look::Found(()),
            None => Look::NotYet("it sleeps".to_owned()),
        })
    })
    .await?;
    Ok(seen)
}
