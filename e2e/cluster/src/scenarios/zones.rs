//! The scenario `zones`: the nodes are in two zones. Readers and gateways run in both, a hot video gets its next reader in
//! another zone, and viewers who come back by a gateway are sent to readers of the gateway's zone. Load, metrics and status say
//! in which zone each reader is, and how many of its viewers came by a gateway of another zone.
//!
//! The test bed's nodes have no zones, so the scenario labels them, and gives back the labels that they had. Pods learn
//! their zone when they are bound to a node, so gateways and readers are made anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::objects::{gateway_replicas, wait_for_readers};
use crate::audience;
use crate::kube::{self, NODE_KIND, POD_KIND};
use crate::wait::wait_until_some;
use crate::world::{ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT, is_ready, is_true};

mod hot_video;
mod near;
mod shown;
mod zoned;

use zoned::{READERS, ZONES, ZoneByReader, ZonedGateway, readers_in_load};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The label of a reader's pod with the reader's name.
const READER_LABEL: &str = "liverank.dev/reader";
/// The port at which a gateway's pod takes viewers.
const GATEWAY_PORT: u16 = 8080;

pub async fn check_zones(world: &ClusterWorld) -> anyhow::Result<String> {
    let nodes = world.kube.list_objects(NODE_KIND, "", "type!=kwok").await?;
    ensure!(nodes.len() >= 2, "there is {} node: two zones need two nodes", nodes.len());
    let result = check_labelled_nodes(world, &nodes).await;
    for node in &nodes {
        let before = node["metadata"]["labels"][ZONE_LABEL].clone();
        set_zone(world, node, &before).await?;
    }
    result
}

/// Sets a node's label with the zone; null takes the label away.
async fn set_zone(world: &ClusterWorld, node: &Value, zone: &Value) -> anyhow::Result<()> {
    let path = NODE_KIND.object_path("", kube::object_name(node));
    let labels = json!({"metadata": {"labels": {ZONE_LABEL: zone}}});
    world.kube.merge_patch(&path, &labels).await?.expect_success().map(|_| ())
}

async fn check_labelled_nodes(world: &ClusterWorld, nodes: &[Value]) -> anyhow::Result<String> {
    for (nth, node) in nodes.iter().enumerate() {
        set_zone(world, node, &json!(ZONES[nth % ZONES.len()])).await?;
    }
    audience::ensure_audience(world).await?;
    let made = make_pods_anew(world).await?;
    let readers = zones_of_readers(world).await?;
    let gateways = gateways_of_zones(world).await?;
    check_spread(&readers)?;
    let (spread, quiet_video) = hot_video::check_hot_video(world, &readers).await?;
    hot_video::check_told_zones(world, &readers).await?;
    let near = near::check_near_readers(world, &readers, &gateways, &quiet_video).await?;
    let shown = shown::check_shown_zones(world, &readers, &gateways).await?;
    near::remove_crowds(world, &gateways).await?;
    remove_readers(world).await?;
    Ok(format!(
        "zones known after {:.0} s; a hot video in both after {:.0} s; {near}; {shown}",
        made.as_secs_f64(),
        spread.as_secs_f64()
    ))
}

/// Asks for four readers, deletes the pods of readers and gateways, and waits until new ones are ready and have a zone.
/// Returns the time that it took.
async fn make_pods_anew(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let start = Instant::now();
    world.change_spec(json!({"readers": {"scaling": {"mode": "Manual"}}})).await?;
    world.change_spec(json!({"readers": {"replicas": READERS}})).await?;
    let (readers, gateways) = (world.pods_of("reader").await?, world.pods_of("gateway").await?);
    for pod in readers.iter().chain(&gateways) {
        world.kube.delete_object(&POD_KIND.object_path(NAMESPACE_NAME, kube::object_name(pod))).await?;
    }
    let look = async || {
        let (readers, gateways) = (world.pods_of("reader").await?, world.pods_of("gateway").await?);
        let zoned = |pod: &&Value| is_true(pod, "Ready") && !zone_of(pod).is_empty();
        let (of_readers, of_gateways) =
            (readers.iter().filter(zoned).count(), gateways.iter().filter(zoned).count());
        let wanted = gateway_replicas(world).await? as usize;
        let are_all_there = readers.len() == READERS && gateways.len() == wanted;
        let all_zoned = are_all_there && of_readers == READERS && of_gateways == wanted;
        let load = world.manager_load().await?;
        let alive = readers_in_load(&load).filter(|reader| reader["state"] == "alive").count();
        let cluster = world.live_cluster().await?;
        let told = format!(
            "{of_readers} of {} readers and {of_gateways} of {} gateways ({wanted} are wanted) are ready and have a zone; \
             managers know {alive} readers",
            readers.len(),
            gateways.len()
        );
        Ok(if all_zoned && alive == READERS && is_ready(&cluster) { Ok(()) } else { Err(told) })
    };
    let what = format!(
        "{READERS} readers and the gateways are in zones (Kubernetes gives pods a zone from 1.35 on)"
    );
    wait_until_some(&what, SETTLE_TIMEOUT, look).await?;
    Ok(start.elapsed())
}

fn zone_of(pod: &Value) -> &str {
    pod["metadata"]["labels"][ZONE_LABEL].as_str().unwrap_or_default()
}

async fn zones_of_readers(world: &ClusterWorld) -> anyhow::Result<ZoneByReader> {
    let pods = world.pods_of("reader").await?;
    let reader = |pod: &Value| pod["metadata"]["labels"][READER_LABEL].as_str().map(str::to_owned);
    Ok(pods.iter().filter_map(|pod| Some((reader(pod)?, zone_of(pod).to_owned()))).collect())
}

/// Returns a gateway of each zone; fails if a zone has none.
async fn gateways_of_zones(world: &ClusterWorld) -> anyhow::Result<Vec<ZonedGateway>> {
    let pods = world.pods_of("gateway").await?;
    let found: Vec<&str> = pods.iter().map(zone_of).collect();
    let gateway = |zone: &'static str| {
        let pod = pods.iter().find(|pod| zone_of(pod) == zone);
        let pod = pod.with_context(|| {
            format!("no gateway is in {zone}: expected is one in each zone, and they are in {found:?}")
        })?;
        let address = kube::text_at(pod, "/status/podIP").parse().context("a gateway without an address")?;
        Ok(ZonedGateway { zone, address: SocketAddr::new(address, GATEWAY_PORT) })
    };
    ZONES.into_iter().map(gateway).collect()
}

/// Checks that the zones have equally many readers, give or take one.
fn check_spread(readers: &ZoneByReader) -> anyhow::Result<()> {
    let counts = ZONES.map(|zone| readers.values().filter(|it| *it == zone).count());
    ensure!(
        counts[0].abs_diff(counts[1]) <= 1 && counts[0] + counts[1] == READERS,
        "of {READERS} readers, {} run in {} and {} in {}: expected are equally many, give or take one",
        counts[0],
        ZONES[0],
        counts[1],
        ZONES[1]
    );
    Ok(())
}

/// Removes the readers that were added, and lets the operator scale again.
async fn remove_readers(world: &ClusterWorld) -> anyhow::Result<()> {
    world.change_spec(json!({"readers": {"replicas": 2}})).await?;
    wait_for_readers(world, 2).await?;
    world
        .change_spec(json!({"readers": {"scaling": {"mode": "Auto"}, "rebalance": {"mode": "Auto"}}}))
        .await?;
    wait_for_readers(world, 2).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_zones(zones: &[&str]) -> ZoneByReader {
        zones.iter().enumerate().map(|(nth, zone)| (format!("r{nth}"), (*zone).to_owned())).collect()
    }

    #[test]
    fn the_spread_may_differ_by_one() {
        assert!(check_spread(&in_zones(&ZONES.repeat(2))).is_ok());
        let wrong = check_spread(&in_zones(&[ZONES[0], ZONES[0], ZONES[0], ZONES[1]])).unwrap_err();
        assert!(wrong.to_string().contains("3 run in e2e-a and 1 in e2e-b"), "{wrong}");
    }
}
