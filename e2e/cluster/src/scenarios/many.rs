//! The scenario `many`: the operator's memory with many clusters and many pods, which kwok simulates.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::audience;
use crate::kube::{self, RANKING_CLUSTER_KIND};
use crate::simulated::{self, SimulatedSite};
use crate::wait::wait_until_true;
use crate::world::{ClusterWorld, SETTLE_TIMEOUT};

const CROWDED_NAMESPACE: &str = "liverank-e2e-many";
const PODS_A_CLUSTER: usize = 25;
/// The number of clusters to a simulated node: 100 pods, of the 250 that the node accepts.
const CLUSTERS_A_NODE: usize = 4;

/// Returns the time limit until all simulated pods run, or are gone: some minutes for hundreds of pods, a quarter of
/// an hour for thousands.
fn pods_timeout(world: &ClusterWorld) -> Duration {
    SETTLE_TIMEOUT + Duration::from_secs(4) * world.settings.clusters as u32
}

pub async fn check_operator_memory(world: &ClusterWorld) -> anyhow::Result<String> {
    let site = SimulatedSite {
        namespaces: &[CROWDED_NAMESPACE],
        nodes: world.settings.clusters.div_ceil(CLUSTERS_A_NODE),
        gone_timeout: pods_timeout(world),
    };
    site.run(world, async || Box::pin(measure_operator(world)).await).await
}

async fn measure_operator(world: &ClusterWorld) -> anyhow::Result<String> {
    let clusters = world.settings.clusters;
    let limit_kib = world.settings.memory_mib * 1024;
    for nth in 0..clusters {
        world.kube.apply_object(RANKING_CLUSTER_KIND, &simulated_cluster(world, nth)).await?;
    }
    let wanted = clusters * PODS_A_CLUSTER;
    let (pods, took) =
        simulated::wait_until_pods_run(world, CROWDED_NAMESPACE, wanted, pods_timeout(world)).await?;
    let seen = async || {
        let all = world.kube.list_objects(RANKING_CLUSTER_KIND, CROWDED_NAMESPACE, "").await?;
        let seen = |it: &&Value| it["status"]["observedGeneration"] == it["metadata"]["generation"];
        Ok(all.iter().filter(seen).count() == clusters)
    };
    wait_until_true("every cluster has its status", pods_timeout(world), seen).await?;
    let mut told = Vec::new();
    for operator in world.operator_pods().await? {
        let memory = audience::memory(world, &operator).await?;
        let name = kube::object_name(&operator);
        ensure!(memory.peak_kib <= limit_kib, "{name} held {} KiB at its peak", memory.peak_kib);
        told.push(format!("{} MiB (peak {})", memory.resident_kib / 1024, memory.peak_kib / 1024));
    }
    ensure!(told.len() == 2, "{} operators", told.len());
    Ok(format!("{clusters} clusters and {pods} pods after {:.0} s: {}", took.as_secs_f64(), told.join(", ")))
}

/// Returns a cluster of 25 pods, all for nodes that kwok simulates.
fn simulated_cluster(world: &ClusterWorld, nth: usize) -> Value {
    let mut cluster = world.new_cluster(CROWDED_NAMESPACE, &format!("many-{nth}"));
    for (component, replicas) in
        [("gateway", 5), ("websocket", 5), ("comment", 5), ("consumer", 3), ("manager", 2)]
    {
        cluster["spec"][component] = simulated::simulated_component(replicas);
    }
    cluster["spec"]["statistics"] = json!({"pod": simulated::simulated_pod()});
    cluster["spec"]["readers"] = simulated::simulated_component(4);
    cluster["spec"]["readers"]["scaling"] = json!({"mode": "Manual"});
    cluster
}
