//! `spec.hibernate`: no pod is left, those who ask others go first, and what was acknowledged before is counted after.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kube::{self, DEPLOYMENT, POD, condition, text};
use crate::wait::{until, until_true};
use crate::world::{COMPONENT, MANAGED, NAME, NAMESPACE_NAME, World, is_ready};

/// How long falling asleep may take: gateways end (50 s of grace), then readers (three quarters of their drain time of 165 s
/// while viewers of other scenarios are there), then managers (30 s of grace).
const ASLEEP: Duration = Duration::from_secs(210);
/// How long it has to stay so.
const QUIET: Duration = Duration::from_secs(3);
/// How long what was acknowledged may take to be ranked once all are up.
const RANKED: Duration = Duration::from_secs(30);
/// Interactions that are acknowledged just before.
const ACKNOWLEDGED: usize = 20;

pub async fn to_zero_and_back(world: &World) -> anyhow::Result<String> {
    let video = format!("asleep-{}", world.run);
    let body = json!({"video_id": video, "user_id": "somebody", "type": "like"});
    for _ in 0..ACKNOWLEDGED {
        world.request("gateway:8080", Method::POST, "/interact", Some(&body)).await?;
    }
    let start = Instant::now();
    world.change(json!({"hibernate": true})).await?;
    let gone = fall_asleep(world, start).await?;
    let fell = start.elapsed();
    let at = |component: &str| gone.get(component).copied().with_context(|| format!("no {component} at all"));
    for (first, then) in
        [("gateway", "comment"), ("gateway", "reader"), ("comment", "consumer"), ("reader", "manager")]
    {
        ensure!(at(first)? <= at(then)?, "{then} went before {first}: {gone:?}");
    }
    let start = Instant::now();
    world.change(json!({"hibernate": false})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    let woke = start.elapsed();
    let look = async || {
        let list = world.request("gateway:8080", Method::GET, "/videos?limit=100", None).await?;
        let videos = list["videos"].as_array().cloned().unwrap_or_default();
        let found = videos.iter().find(|it| it["video_id"] == video.as_str()).cloned().unwrap_or_default();
        // A like is worth two.
        Ok(if found["score"] == json!(2.0 * ACKNOWLEDGED as f64) { Ok(()) } else { Err(found.to_string()) })
    };
    until("what was acknowledged before the sleep is counted, once", RANKED, look).await?;
    Ok(format!("asleep after {:.1} s, ready again after {:.1} s", fell.as_secs_f64(), woke.as_secs_f64()))
}

/// Waits until the status says that nothing runs, and that is so. Answers when the last pod of each component was seen.
async fn fall_asleep(world: &World, start: Instant) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut seen: BTreeMap<String, Duration> = BTreeMap::new();
    let look = async || {
        let pods = world.kube.list(POD, NAMESPACE_NAME, MANAGED).await?;
        for pod in &pods {
            let component = pod["metadata"]["labels"][COMPONENT].as_str().unwrap_or_default().to_owned();
            seen.insert(component, start.elapsed());
        }
        let cluster = world.live().await?;
        let ready = condition(&cluster, "Ready").cloned().unwrap_or_default();
        let asleep = is_ready(&cluster) && ready["reason"] == "Hibernated";
        ensure!(!asleep || pods.is_empty(), "it is said to sleep, and {} pods are there", pods.len());
        Ok(if asleep { Ok(()) } else { Err(format!("{} pods; {}", pods.len(), text(&ready, "/message"))) })
    };
    until("nothing runs, and the status says so", ASLEEP, look).await?;
    let deployments = world.kube.list(DEPLOYMENT, NAMESPACE_NAME, MANAGED).await?;
    let asks = |it: &&Value| it["spec"]["replicas"] != 0;
    let asking: Vec<&str> = deployments.iter().filter(asks).map(kube::name).collect();
    ensure!(asking.is_empty(), "these ask for pods: {asking:?}");
    // It stays so: nobody fights about it.
    let quiet = Instant::now();
    until_true("it stays asleep", 5 * QUIET, async || {
        ensure!(world.kube.list(POD, NAMESPACE_NAME, MANAGED).await?.is_empty(), "a pod came back");
        Ok(quiet.elapsed() > QUIET)
    })
    .await?;
    Ok(seen)
}
