//! The scenario `many`: the operator's memory with many clusters and many pods, which kwok simulates.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::audience;
use crate::kube::{self, NAMESPACE_KIND, NODE_KIND, RANKING_CLUSTER_KIND};
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::{ClusterWorld, MANAGED_SELECTOR, SETTLE_TIMEOUT};

const CROWDED_NAMESPACE: &str = "liverank-e2e-many";
const PODS_A_CLUSTER: usize = 25;
/// The number of clusters to a simulated node: 100 pods, of the 250 that the node accepts.
const CLUSTERS_A_NODE: usize = 4;

/// Returns the time limit until all simulated pods run, or are gone: some minutes for hundreds of pods, a quarter of
/// an hour for thousands.
fn pods_timeout(world: &ClusterWorld) -> Duration {
    SETTLE_TIMEOUT + Duration::from_secs(4) * world.settings.clusters as u32
}

fn node_count(world: &ClusterWorld) -> usize {
    world.settings.clusters.div_ceil(CLUSTERS_A_NODE)
}

pub async fn fit_in_memory(world: &ClusterWorld) -> anyhow::Result<String> {
    // kwok's output is shown only if something fails.
    let log = std::env::temp_dir().join(format!("liverank-kwok-{}.log", world.run));
    let kwok = start_kwok(world, &log).await?;
    let result = measure_operator(world).await;
    let cleaned = clean_up(world).await;
    drop(kwok);
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    let figures = result.with_context(|| format!("kwok said: {}", last_lines(&said)))?;
    cleaned?;
    Ok(figures)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join(" | ")
}

async fn measure_operator(world: &ClusterWorld) -> anyhow::Result<String> {
    let clusters = world.settings.clusters;
    let wanted = clusters * PODS_A_CLUSTER;
    let limit_kib = world.settings.memory_mib * 1024;
    world.create_namespace(CROWDED_NAMESPACE).await?;
    for nth in 0..clusters {
        world.kube.apply_object(RANKING_CLUSTER_KIND, &pretended_cluster(world, nth)).await?;
    }
    let look = async || {
        let pods = world.kube.list_objects(kube::POD_KIND, CROWDED_NAMESPACE, MANAGED_SELECTOR).await?;
        let running = pods.iter().filter(|pod| crate::world::is_true(pod, "Ready")).count();
        Ok(if running >= wanted { Ok(running) } else { Err(format!("{running} of {} run", pods.len())) })
    };
    let (pods, took) = wait_until_some("all pods run", pods_timeout(world), look).await?;
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
fn pretended_cluster(world: &ClusterWorld, nth: usize) -> Value {
    let pod = json!({
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
    });
    let part = |replicas: usize| json!({"replicas": replicas, "pod": pod});
    let mut cluster = world.new_cluster(CROWDED_NAMESPACE, &format!("many-{nth}"));
    for (component, replicas) in
        [("gateway", 5), ("websocket", 5), ("comment", 5), ("consumer", 3), ("manager", 2)]
    {
        cluster["spec"][component] = part(replicas);
    }
    cluster["spec"]["statistics"] = json!({"pod": pod});
    cluster["spec"]["readers"] = json!({"replicas": 4, "scaling": {"mode": "Manual"}, "pod": pod});
    cluster
}

/// Creates the simulated nodes, and starts kwok, which reports the pods on them as running.
async fn start_kwok(world: &ClusterWorld, log: &Path) -> anyhow::Result<Child> {
    for nth in 0..node_count(world) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": format!("kwok-{nth}"),
                "labels": {"type": "kwok", "kubernetes.io/hostname": format!("kwok-{nth}"), "kubernetes.io/os": "linux"},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            },
            "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        });
        world.kube.apply_object(NODE_KIND, &node).await?;
        let capacity = json!({"cpu": "64", "memory": "256Gi", "pods": "250"});
        let status = json!({"status": {"capacity": capacity, "allocatable": capacity}});
        let path = format!("{}/status", NODE_KIND.object_path("", &format!("kwok-{nth}")));
        world
            .kube
            .send_request(Method::PATCH, &path, Some(("application/merge-patch+json", &status)))
            .await?
            .expect_success()?;
    }
    Command::new("kwok")
        .arg("--config")
        .arg(world.path("e2e/cluster/kwok.yaml"))
        .args(["--manage-all-nodes=false", "--manage-nodes-with-label-selector=type=kwok"])
        // A node without a Lease counts as gone.
        .arg("--node-lease-duration-seconds=40")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log).context("a file for what kwok says")?)
        .kill_on_drop(true)
        .spawn()
        .context("starting kwok")
}

async fn clean_up(world: &ClusterWorld) -> anyhow::Result<()> {
    world.kube.delete_object(&NAMESPACE_KIND.object_path("", CROWDED_NAMESPACE)).await?;
    let gone = async || {
        Ok(world.kube.get_object(&NAMESPACE_KIND.object_path("", CROWDED_NAMESPACE)).await?.is_none())
    };
    wait_until_true("the pretended clusters are gone", pods_timeout(world), gone).await?;
    for nth in 0..node_count(world) {
        world.kube.delete_object(&NODE_KIND.object_path("", &format!("kwok-{nth}"))).await?;
    }
    Ok(())
}
