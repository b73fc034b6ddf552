//! Objects that come and go with the spec, whatever this Kubernetes makes of them; and the scale subresource.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::kube::{self, AUTOSCALER, DEPLOYMENT, INGRESS, Kind, MONITOR, POLICY, ROUTE};
use crate::wait::{until, until_true};
use crate::world::{MANAGED, NAME, NAMESPACE_NAME, World, expect_restarted};

/// How long an object may take to come or go.
const SOON: Duration = Duration::from_secs(30);

pub async fn come_and_go(world: &World) -> anyhow::Result<String> {
    autoscaler(world).await?;
    exposure(world).await?;
    monitor(world).await?;
    let policies = world.kube.list(POLICY, NAMESPACE_NAME, MANAGED).await?.len();
    ensure!(policies > 0, "there are no network policies");
    let took = scale(world).await?;
    Ok(format!("kubectl scale to 3 readers: {:.1} s", took.as_secs_f64()))
}

async fn replicas(world: &World) -> anyhow::Result<u64> {
    let gateway = world.kube.named(DEPLOYMENT, NAMESPACE_NAME, &format!("{NAME}-gateway")).await?;
    gateway["spec"]["replicas"].as_u64().context("no replicas")
}

/// `replicas` given to an autoscaler and taken back: never reset on the way.
async fn autoscaler(world: &World) -> anyhow::Result<()> {
    let before = world.pods().await?;
    world.change(json!({"gateway": {"replicas": 3}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    let three = world.pods().await?;
    world
        .change(json!({"gateway": {"replicas": null, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}}))
        .await?;
    let path = AUTOSCALER.path(NAMESPACE_NAME, &format!("{NAME}-gateway"));
    until_true("the autoscaler is there", SOON, async || Ok(world.kube.get(&path).await?.is_some())).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    ensure!(replicas(world).await? == 3, "given away, replicas became {}", replicas(world).await?);
    world.change(json!({"gateway": {"replicas": 3, "autoscaling": null}})).await?;
    until_true("the autoscaler is gone", SOON, async || Ok(world.kube.get(&path).await?.is_none())).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    ensure!(replicas(world).await? == 3, "taken back, replicas became {}", replicas(world).await?);
    let after = world.pods().await?;
    expect_restarted(&three, &after, &[])?;
    world.change(json!({"gateway": {"replicas": null}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    let back = world.pods().await?;
    let kept = before["gateway"].intersection(&back["gateway"]).count();
    ensure!(back["gateway"].len() == 2 && kept > 0, "scaling in replaced the gateways");
    Ok(())
}

/// Whether this Kubernetes knows the kind.
async fn served(world: &World, kind: Kind) -> anyhow::Result<bool> {
    let resources = world.kube.get(&format!("/apis/{}", kind.api)).await?;
    let names = resources.as_ref().and_then(|list| list["resources"].as_array());
    Ok(names.into_iter().flatten().any(|it| it["name"] == kind.plural))
}

/// Waits until an object of the kind is there, or, where nobody serves the kind, until a condition says so.
async fn there(world: &World, kind: Kind) -> anyhow::Result<Option<Value>> {
    if served(world, kind).await? {
        let look = async || {
            let mut found = world.kube.list(kind, NAMESPACE_NAME, MANAGED).await?;
            Ok(found.pop().ok_or_else(|| "there is none".to_owned()))
        };
        return Ok(Some(until(kind.name, SOON, look).await?.0));
    }
    let look = async || {
        let status = world.live().await?["status"]["conditions"].take().to_string();
        Ok(if status.contains(kind.name) { Ok(()) } else { Err(status) })
    };
    until(&format!("a condition says that nobody serves {}", kind.name), SOON, look).await?;
    Ok(None)
}

async fn exposure(world: &World) -> anyhow::Result<()> {
    let host = "live.example.org";
    world.change(json!({"exposure": {"type": "Ingress", "host": host}})).await?;
    let ingress = there(world, INGRESS).await?.context("every Kubernetes serves Ingresses")?;
    ensure!(kube::text(&ingress, "/spec/rules/0/host") == host, "the Ingress is for another host");
    world.change(json!({"exposure": {"type": "HTTPRoute", "parentRefs": [{"name": "front"}]}})).await?;
    let gone = async || Ok(world.kube.list(INGRESS, NAMESPACE_NAME, MANAGED).await?.is_empty());
    until_true("the Ingress is gone", SOON, gone).await?;
    if let Some(route) = there(world, ROUTE).await? {
        ensure!(kube::text(&route, "/spec/rules/0/timeouts/request") == "0s", "streams have a timeout");
    }
    world.change(json!({"exposure": null})).await?;
    world.ready(NAMESPACE_NAME, NAME).await.map(|_| ())
}

async fn monitor(world: &World) -> anyhow::Result<()> {
    world.change(json!({"monitoring": {"serviceMonitor": true}})).await?;
    there(world, MONITOR).await?;
    world.change(json!({"monitoring": null})).await?;
    world.ready(NAMESPACE_NAME, NAME).await.map(|_| ())
}

/// `kubectl scale`: refused with the reason while the operator decides, and done where the user does.
async fn scale(world: &World) -> anyhow::Result<Duration> {
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        async move {
            world.kube.kubectl(&["--namespace", NAMESPACE_NAME, "scale", "rkc/live", &replicas], None).await
        }
    };
    let refused = scale("3").await?;
    let why = "scaling.mode is Auto or Proposal: set Manual to scale by hand";
    ensure!(!refused.good && refused.errors.contains(why), "kubectl scale in Auto: {refused:?}");
    world.change(json!({"readers": {"scaling": {"mode": "Manual"}}})).await?;
    let done = scale("3").await?;
    ensure!(done.good, "kubectl scale in Manual: {}", done.errors);
    let took = readers(world, 3).await?;
    ensure!(scale("2").await?.good, "kubectl scale back");
    readers(world, 2).await?;
    world.change(json!({"readers": {"scaling": {"mode": "Auto"}}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    Ok(took)
}

/// Waits until there are so many readers, and none that is leaving.
pub async fn readers(world: &World, wanted: u64) -> anyhow::Result<Duration> {
    let look = async || {
        let cluster = world.live().await?;
        let readers = &cluster["status"]["readers"];
        let right = readers["ready"] == wanted && readers["draining"] == 0 && readers["replicas"] == wanted;
        Ok(if right && crate::world::is_ready(&cluster) {
            Ok(())
        } else {
            Err(cluster["status"].to_string())
        })
    };
    until(&format!("{wanted} readers"), crate::world::SETTLE, look).await.map(|((), took)| took)
}
