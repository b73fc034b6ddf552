//! Clusters whose pods do not run: kwok simulates the nodes that the pods are for, and reports the pods as running.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::kube::{self, NAMESPACE_KIND, NODE_KIND};
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::{ClusterWorld, MANAGED_SELECTOR, is_true};

/// The namespaces and the number of nodes that a scenario needs for clusters whose pods are simulated.
pub struct SimulatedSite<'a> {
    /// The namespaces, which are created and deleted.
    pub namespaces: &'a [&'a str],
    /// The number of simulated nodes; each takes 250 pods.
    pub nodes: usize,
    /// The time limit until everything in the namespaces is gone.
    pub gone_timeout: Duration,
}

impl SimulatedSite<'_> {
    /// Runs `work` while the namespaces and the nodes are there, and removes them afterwards, also if `work` fails. The
    /// error of `work` ends with what kwok said last.
    pub async fn run<T>(
        &self,
        world: &ClusterWorld,
        work: impl AsyncFnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let log = std::env::temp_dir().join(format!("liverank-kwok-{}.log", world.run));
        let kwok = self.set_up(world, &log).await;
        let result = match &kwok {
            Ok(_) => work().await,
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        let removed = self.remove(world).await;
        drop(kwok);
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        let value = result.with_context(|| format!("kwok said: {}", last_lines(&said)))?;
        removed?;
        Ok(value)
    }

    async fn set_up(&self, world: &ClusterWorld, log: &Path) -> anyhow::Result<Child> {
        for namespace in self.namespaces {
            world.create_namespace(namespace).await?;
        }
        for nth in 0..self.nodes {
            create_node(world, nth).await?;
        }
        start_kwok(&world.path("e2e/cluster/kwok.yaml"), log)
    }

    async fn remove(&self, world: &ClusterWorld) -> anyhow::Result<()> {
        let paths: Vec<String> =
            self.namespaces.iter().map(|namespace| NAMESPACE_KIND.object_path("", namespace)).collect();
        for path in &paths {
            world.kube.delete_object(path).await?;
        }
        let gone = async || {
            for path in &paths {
                if world.kube.get_object(path).await?.is_some() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        wait_until_true("the simulated clusters are gone", self.gone_timeout, gone).await?;
        for nth in 0..self.nodes {
            world.kube.delete_object(&NODE_KIND.object_path("", &node_name(nth))).await?;
        }
        Ok(())
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join(" | ")
}

fn node_name(nth: usize) -> String {
    format!("kwok-{nth}")
}

async fn create_node(world: &ClusterWorld, nth: usize) -> anyhow::Result<()> {
    let name = node_name(nth);
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
    });
    world.kube.apply_object(NODE_KIND, &node).await?;
    let capacity = json!({"cpu": "64", "memory": "256Gi", "pods": "250"});
    let status = json!({"status": {"capacity": capacity, "allocatable": capacity}});
    let path = format!("{}/status", NODE_KIND.object_path("", &name));
    let change = Some(("application/merge-patch+json", &status));
    world.kube.send_request(Method::PATCH, &path, change).await?.expect_success().map(|_| ())
}

/// Starts kwok. Its output goes to the file `log`, because it is shown only if something fails.
fn start_kwok(config: &Path, log: &Path) -> anyhow::Result<Child> {
    Command::new("kwok")
        .arg("--config")
        .arg(config)
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

/// Returns settings of a component: so many pods, for simulated nodes only.
pub fn simulated_component(replicas: usize) -> Value {
    json!({"replicas": replicas, "pod": simulated_pod()})
}

/// Returns the settings of pods for simulated nodes only.
pub fn simulated_pod() -> Value {
    json!({
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
    })
}

/// Waits until so many of the operator's pods in a namespace are ready; returns their number and the time that it took.
pub async fn wait_until_pods_run(
    world: &ClusterWorld,
    namespace: &str,
    wanted: usize,
    limit: Duration,
) -> anyhow::Result<(usize, Duration)> {
    let look = async || {
        let pods = world.kube.list_objects(kube::POD_KIND, namespace, MANAGED_SELECTOR).await?;
        let running = pods.iter().filter(|pod| is_true(pod, "Ready")).count();
        Ok(if running >= wanted {
            Ok(running)
        } else {
            Err(format!("{running} of {} run, {wanted} are wanted", pods.len()))
        })
    };
    wait_until_some(&format!("all pods in {namespace} run"), limit, look).await
}
