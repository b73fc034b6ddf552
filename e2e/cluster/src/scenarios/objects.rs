//! The scenario `objects`: objects that are created and deleted with the spec (autoscaler, Ingress, `HTTPRoute`,
//! `ServiceMonitor`), on any Kubernetes; and the scale subresource.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::kube::{
    self, AUTOSCALER_KIND, DEPLOYMENT_KIND, HTTP_ROUTE_KIND, INGRESS_KIND, NETWORK_POLICY_KIND, ObjectKind,
    SERVICE_MONITOR_KIND,
};
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::{CLUSTER_NAME, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, expect_restarted};

/// The time limit until an object is created or deleted.
const OBJECT_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn check_objects(world: &ClusterWorld) -> anyhow::Result<String> {
    check_autoscaler(world).await?;
    check_exposure(world).await?;
    check_monitor(world).await?;
    let policies =
        world.kube.list_objects(NETWORK_POLICY_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?.len();
    ensure!(policies > 0, "there are no network policies");
    let took = check_kubectl_scale(world).await?;
    Ok(format!("kubectl scale to 3 readers: {:.1} s", took.as_secs_f64()))
}

/// Returns the number of gateways that the gateway's Deployment asks for.
pub async fn gateway_replicas(world: &ClusterWorld) -> anyhow::Result<u64> {
    let gateway =
        world.kube.get_named(DEPLOYMENT_KIND, NAMESPACE_NAME, &format!("{CLUSTER_NAME}-gateway")).await?;
    gateway["spec"]["replicas"].as_u64().context("no replicas")
}

/// Hands `replicas` of the gateway to an autoscaler and takes it back: the number must never be reset on the way.
async fn check_autoscaler(world: &ClusterWorld) -> anyhow::Result<()> {
    let before = world.settled_pods().await?;
    world.change_spec(json!({"gateway": {"replicas": 3}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let three = world.settled_pods().await?;
    world
        .change_spec(
            json!({"gateway": {"replicas": null, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}}),
        )
        .await?;
    let path = AUTOSCALER_KIND.object_path(NAMESPACE_NAME, &format!("{CLUSTER_NAME}-gateway"));
    wait_until_true("the autoscaler is there", OBJECT_TIMEOUT, async || {
        Ok(world.kube.get_object(&path).await?.is_some())
    })
    .await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    ensure!(
        gateway_replicas(world).await? == 3,
        "given away, replicas became {}",
        gateway_replicas(world).await?
    );
    world.change_spec(json!({"gateway": {"replicas": 3, "autoscaling": null}})).await?;
    wait_until_true("the autoscaler is gone", OBJECT_TIMEOUT, async || {
        Ok(world.kube.get_object(&path).await?.is_none())
    })
    .await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    ensure!(
        gateway_replicas(world).await? == 3,
        "taken back, replicas became {}",
        gateway_replicas(world).await?
    );
    let after = world.settled_pods().await?;
    expect_restarted(&three, &after, &[])?;
    world.change_spec(json!({"gateway": {"replicas": null}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let back = world.settled_pods().await?;
    let kept = before["gateway"].intersection(&back["gateway"]).count();
    ensure!(back["gateway"].len() == 2 && kept > 0, "scaling in replaced the gateways");
    Ok(())
}

/// Whether this Kubernetes serves the kind.
pub async fn is_kind_served(world: &ClusterWorld, kind: ObjectKind) -> anyhow::Result<bool> {
    let resources = world.kube.get_object(&format!("/apis/{}", kind.api)).await?;
    let names = resources.as_ref().and_then(|list| list["resources"].as_array());
    Ok(names.into_iter().flatten().any(|it| it["name"] == kind.plural))
}

/// Waits until an object of the kind exists and returns it. On a Kubernetes that does not serve the kind, waits until
/// a condition says so and returns `None`.
async fn wait_until_there(world: &ClusterWorld, kind: ObjectKind) -> anyhow::Result<Option<Value>> {
    if is_kind_served(world, kind).await? {
        let look = async || {
            let mut found = world.kube.list_objects(kind, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
            Ok(found.pop().ok_or_else(|| "there is none".to_owned()))
        };
        return Ok(Some(wait_until_some(kind.name, OBJECT_TIMEOUT, look).await?.0));
    }
    let look = async || {
        let status = world.live_cluster().await?["status"]["conditions"].take().to_string();
        Ok(if status.contains(kind.name) { Ok(()) } else { Err(status) })
    };
    wait_until_some(&format!("a condition says that nobody serves {}", kind.name), OBJECT_TIMEOUT, look)
        .await?;
    Ok(None)
}

async fn check_exposure(world: &ClusterWorld) -> anyhow::Result<()> {
    let host = "live.example.org";
    world.change_spec(json!({"exposure": {"type": "Ingress", "host": host}})).await?;
    let ingress =
        wait_until_there(world, INGRESS_KIND).await?.context("every Kubernetes serves Ingresses")?;
    ensure!(kube::text_at(&ingress, "/spec/rules/0/host") == host, "the Ingress is for another host");
    world.change_spec(json!({"exposure": {"type": "HTTPRoute", "parentRefs": [{"name": "front"}]}})).await?;
    let gone = async || {
        Ok(world.kube.list_objects(INGRESS_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?.is_empty())
    };
    wait_until_true("the Ingress is gone", OBJECT_TIMEOUT, gone).await?;
    if let Some(route) = wait_until_there(world, HTTP_ROUTE_KIND).await? {
        ensure!(kube::text_at(&route, "/spec/rules/0/timeouts/request") == "0s", "streams have a timeout");
    }
    world.change_spec(json!({"exposure": null})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await.map(|_| ())
}

async fn check_monitor(world: &ClusterWorld) -> anyhow::Result<()> {
    world.change_spec(json!({"monitoring": {"serviceMonitor": true}})).await?;
    wait_until_there(world, SERVICE_MONITOR_KIND).await?;
    world.change_spec(json!({"monitoring": null})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await.map(|_| ())
}

/// Checks `kubectl scale`: it is refused with the reason while the operator decides on the scale, and works in the
/// mode `Manual`. Returns the time until three readers were ready.
async fn check_kubectl_scale(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        async move {
            world
                .kube
                .run_kubectl(&["--namespace", NAMESPACE_NAME, "scale", "rkc/live", &replicas], None)
                .await
        }
    };
    let refused = scale("3").await?;
    let why = "scaling.mode is Auto or Proposal: set Manual to scale by hand";
    ensure!(!refused.succeeded && refused.stderr.contains(why), "kubectl scale in Auto: {refused:?}");
    world.change_spec(json!({"readers": {"scaling": {"mode": "Manual"}}})).await?;
    let done = scale("3").await?;
    ensure!(done.succeeded, "kubectl scale in Manual: {}", done.stderr);
    let took = wait_for_readers(world, 3).await?;
    ensure!(scale("2").await?.succeeded, "kubectl scale back");
    wait_for_readers(world, 2).await?;
    world.change_spec(json!({"readers": {"scaling": {"mode": "Auto"}}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    Ok(took)
}

/// Waits until exactly `wanted` readers are ready and none is draining; returns the time that it took.
pub async fn wait_for_readers(world: &ClusterWorld, wanted: u64) -> anyhow::Result<Duration> {
    let look = async || {
        let cluster = world.live_cluster().await?;
        let readers = &cluster["status"]["readers"];
        let right = readers["ready"] == wanted && readers["draining"] == 0 && readers["replicas"] == wanted;
        Ok(if right && crate::world::is_ready(&cluster) {
            Ok(())
        } else {
            Err(cluster["status"].to_string())
        })
    };
    wait_until_some(&format!("{wanted} readers"), crate::world::SETTLE_TIMEOUT, look)
        .await
        .map(|((), took)| took)
}
