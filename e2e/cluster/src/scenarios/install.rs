//! The scenarios `install` and `helm-test`: helm installs the operator, and one `RankingCluster` brings all the rest.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::audience;
use crate::kube::{self, DEPLOYMENT_KIND, POD_KIND, RANKING_CLUSTER_KIND};
use crate::wait::wait_until_true;
use crate::world::{
    CLUSTER_NAME, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, OPERATOR_NAME, OPERATOR_NAMESPACE,
    RELEASE_NAME, SETTLE_TIMEOUT,
};

/// Returns settings with so few viewers per reader that a thousand viewers need several readers, and with short times.
fn cluster_settings() -> Value {
    json!({
        "gateway": {"drainSeconds": 5}, "websocket": {"drainSeconds": 5}, "comment": {"drainSeconds": 5},
        "networkPolicy": {"ingressFrom": [{"podSelector": {"matchLabels": {"app": "audience"}}}]},
        "readers": {
            "minReplicas": 2, "maxReplicas": 5, "viewersPerReader": 300, "hotVideoViewers": 250,
            "scaling": {"scaleDownStabilizationSeconds": 15},
            "rebalance": {"maxViewersMovedPerMinute": 1200},
        },
    })
}

pub async fn install_until_ready(world: &ClusterWorld) -> anyhow::Result<String> {
    audience::start_attendants(world).await?;
    world.create_namespace(NAMESPACE_NAME).await?;
    let start = Instant::now();
    world.install_operator(&[]).await?;
    let installed = start.elapsed();
    let mut cluster = world.new_cluster(NAMESPACE_NAME, CLUSTER_NAME);
    let spec = cluster["spec"].as_object_mut().context("a spec")?;
    let more = cluster_settings();
    spec.extend(more.as_object().cloned().unwrap_or_default());
    let start = Instant::now();
    world.kube.apply_object(RANKING_CLUSTER_KIND, &cluster).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    let ready = start.elapsed();
    check_printed_columns(world).await?;
    check_restricted_pods(world).await?;
    Ok(format!("helm {:.1} s, apply to Ready {:.1} s", installed.as_secs_f64(), ready.as_secs_f64()))
}

/// Checks the columns of `kubectl get`, `kubectl wait`, and that `kubectl explain` has a text for the fields.
async fn check_printed_columns(world: &ClusterWorld) -> anyhow::Result<()> {
    let table = world
        .kube
        .run_kubectl(&["--namespace", NAMESPACE_NAME, "get", "rkc", CLUSTER_NAME], None)
        .await?
        .stdout;
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(header == ["NAME", "READY", "READERS", "VIEWERS", "IMBALANCE", "AGE"], "columns: {header:?}");
    let waited =
        ["--namespace", NAMESPACE_NAME, "wait", "--for=condition=Ready", "rkc/live", "--timeout=10s"];
    ensure!(world.kube.run_kubectl(&waited, None).await?.succeeded, "kubectl wait does not see it ready");
    for field in ["spec.readers.scaling.mode", "spec.exposure.readerHostTemplate", "status.lastDecision"] {
        let explained = world.kube.run_kubectl(&["explain", &format!("rkc.{field}")], None).await?;
        let words =
            explained.stdout.split_once("DESCRIPTION:").map(|(_, words)| words.trim()).unwrap_or_default();
        ensure!(
            words.len() > 10 && !words.contains("<empty>"),
            "kubectl explain rkc.{field} has no words for it"
        );
    }
    Ok(())
}

/// Checks what the cluster's pods may do: no token for the API server, a read-only root. That the namespace accepts
/// `restricted` pods only, and all pods run, shows the rest.
async fn check_restricted_pods(world: &ClusterWorld) -> anyhow::Result<()> {
    let cluster = format!("liverank.dev/{NAMESPACE_NAME}/{CLUSTER_NAME}");
    let audiences = [json!(cluster), json!(format!("{cluster}/statistics"))];
    for pod in world.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await? {
        let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
        let tokens = volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.pointer("/projected/sources")?.as_array())
            .flatten()
            .filter_map(|source| source.get("serviceAccountToken"));
        // A token for an audience of the cluster's own identifies a pod to the other pods; the API server accepts none
        // of these.
        for token in tokens {
            ensure!(
                audiences.contains(&token["audience"]),
                "{} holds a token for the API",
                kube::object_name(&pod)
            );
        }
        let read_only = pod.pointer("/spec/containers/0/securityContext/readOnlyRootFilesystem");
        ensure!(read_only == Some(&json!(true)), "{} can write to its root", kube::object_name(&pod));
    }
    Ok(())
}

/// Runs the chart's own test, `helm test`: the operator answers, and handles a resource without pods, of which nothing
/// is left.
pub async fn run_helm_test(world: &ClusterWorld) -> anyhow::Result<String> {
    let test = async || {
        let args = ["test", RELEASE_NAME, "--namespace", OPERATOR_NAMESPACE, "--timeout", "60s"];
        world.kube.run_helm(&args).await.map(|_| true)
    };
    wait_until_true("helm test", SETTLE_TIMEOUT, test).await?;
    let pod = format!("pod/{OPERATOR_NAME}-check");
    let log = world.kube.run_kubectl(&["--namespace", OPERATOR_NAMESPACE, "logs", &pod], None).await?.stdout;
    ensure!(log.contains("the operator made a RankingCluster of it in"), "{pod} says: {log}");
    let gone = async || {
        let clusters = world.kube.list_objects(RANKING_CLUSTER_KIND, OPERATOR_NAMESPACE, "").await?;
        let deployments =
            world.kube.list_objects(DEPLOYMENT_KIND, OPERATOR_NAMESPACE, MANAGED_SELECTOR).await?;
        Ok(clusters.is_empty() && deployments.is_empty())
    };
    wait_until_true("nothing is left of the test", SETTLE_TIMEOUT, gone).await?;
    Ok(log.trim().to_owned())
}
