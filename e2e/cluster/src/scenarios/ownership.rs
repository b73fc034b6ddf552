//! The scenario `ownership`: an object is the cluster's by its owner, not by its labels. What somebody else made is left
//! as it is, and what lost its owner is taken back.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::kube::{self, DEPLOYMENT_KIND, ObjectKind, SERVICE_KIND, status_condition, text_at};
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT, expect_restarted, is_ready};

/// The time limit until the operator repairs or reports something.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// The name of a reader that the cluster does not have.
const FOREIGN_READER: &str = "live-reader-9";

pub async fn by_owner_and_not_by_labels(world: &ClusterWorld) -> anyhow::Result<String> {
    let before = world.settled_pods().await?;
    let stranger = make_foreign_reader(world).await?;
    let took = restore_reference(world).await?;
    expect_restarted(&before, &world.settled_pods().await?, &[])?;
    keep_foreign_service(world).await?;
    expect_restarted(&before, &world.settled_pods().await?, &["statistics"])?;
    let path = DEPLOYMENT_KIND.object_path(NAMESPACE_NAME, FOREIGN_READER);
    let left = world.kube.get_object(&path).await?.context("the foreign reader was deleted")?;
    ensure!(is_untouched(&stranger, &left), "the foreign reader was changed: {left}");
    world.kube.delete_object(&path).await?;
    Ok(format!("a removed owner is back after {:.1} s", took.as_secs_f64()))
}

fn labels(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "liverank", "app.kubernetes.io/instance": CLUSTER_NAME,
        "app.kubernetes.io/managed-by": "liverank-operator", "app.kubernetes.io/component": component,
    })
}

/// Whether the operator has not written the object, nor made it anew, nor deleted it.
fn is_untouched(made: &Value, now: &Value) -> bool {
    let mut writers = now["metadata"]["managedFields"].as_array().into_iter().flatten();
    let is_operator = |entry: &Value| text_at(entry, "/manager").starts_with("liverank-operator");
    kube::object_uid(made) == kube::object_uid(now)
        && now.pointer("/metadata/deletionTimestamp").is_none()
        && !writers.any(is_operator)
}

/// Creates a Deployment without pods that has the name and the labels of a reader.
async fn make_foreign_reader(world: &ClusterWorld) -> anyhow::Result<Value> {
    let mut labels = labels("reader");
    labels["liverank.dev/reader"] = json!(FOREIGN_READER);
    let pod = json!({"app": "stranger"});
    world
        .kube
        .apply_object(
            DEPLOYMENT_KIND,
            &json!({
                "apiVersion": DEPLOYMENT_KIND.api, "kind": DEPLOYMENT_KIND.name,
                "metadata": {"name": FOREIGN_READER, "namespace": NAMESPACE_NAME, "labels": labels},
                "spec": {"replicas": 0, "selector": {"matchLabels": pod}, "template": {
                    "metadata": {"labels": pod},
                    "spec": {"containers": [{"name": "stranger", "image": world.settings.agent_image}]},
                }},
            }),
        )
        .await
}

/// Removes the owner of a Deployment, and waits until it is back.
async fn restore_reference(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let uid = kube::object_uid(&world.live_cluster().await?).to_owned();
    let path = DEPLOYMENT_KIND.object_path(NAMESPACE_NAME, &format!("{CLUSTER_NAME}-gateway"));
    let none = json!({"metadata": {"ownerReferences": null}});
    let left = world.kube.merge_patch(&path, &none).await?.expect_success()?;
    ensure!(left["metadata"]["ownerReferences"].is_null(), "it still has an owner");
    let look = async || {
        let gateway = world.kube.get_object(&path).await?.context("it is gone")?;
        let owner = text_at(&gateway, "/metadata/ownerReferences/0/uid").to_owned();
        Ok(if owner == uid { Ok(()) } else { Err(format!("the owner is {owner:?}")) })
    };
    Ok(wait_until_some("the owner is back", REPORT_TIMEOUT, look).await?.1)
}

/// Makes a Service of the name that the statistics' Service has, while there is none: the operator says so, leaves it as it
/// is, and goes on once it is gone.
async fn keep_foreign_service(world: &ClusterWorld) -> anyhow::Result<()> {
    let name = format!("{CLUSTER_NAME}-statistics");
    let path = SERVICE_KIND.object_path(NAMESPACE_NAME, &name);
    world.change_spec(json!({"statistics": {"enabled": false}})).await?;
    wait_until_gone(world, SERVICE_KIND, &name).await?;
    let service = json!({
        "apiVersion": SERVICE_KIND.api, "kind": SERVICE_KIND.name,
        "metadata": {"name": name, "namespace": NAMESPACE_NAME, "labels": labels("statistics")},
        "spec": {"selector": {"app": "stranger"}, "ports": [{"port": 9}]},
    });
    let made = world.kube.apply_object(SERVICE_KIND, &service).await?;
    world.change_spec(json!({"statistics": {"enabled": true}})).await?;
    let look = async || {
        let cluster = world.live_cluster().await?;
        let told = status_condition(&cluster, "Degraded").cloned().unwrap_or_default();
        let is_told = told["reason"] == "NameTaken" && text_at(&told, "/message").contains(&name);
        Ok(if is_told { Ok(()) } else { Err(told.to_string()) })
    };
    wait_until_some("the name is taken", REPORT_TIMEOUT, look).await?;
    let left = world.kube.get_object(&path).await?.context("the foreign Service was deleted")?;
    ensure!(is_untouched(&made, &left), "the foreign Service was changed: {left}");
    world.kube.delete_object(&path).await?;
    // The resource may be ready with a name that is taken: all but that Service is as the spec says.
    let look = async || {
        let cluster = world.live_cluster().await?;
        let told = status_condition(&cluster, "Degraded").cloned().unwrap_or_default();
        let is_over = is_ready(&cluster) && told["status"] == "False";
        Ok(if is_over { Ok(()) } else { Err(told.to_string()) })
    };
    wait_until_some("the operator goes on once the name is free", SETTLE_TIMEOUT, look).await.map(|_| ())
}

async fn wait_until_gone(world: &ClusterWorld, kind: ObjectKind, name: &str) -> anyhow::Result<()> {
    let path = kind.object_path(NAMESPACE_NAME, name);
    let look = async || {
        Ok(if world.kube.get_object(&path).await?.is_none() { Ok(()) } else { Err("it is there".to_owned()) })
    };
    wait_until_some(&format!("{} {name} is gone", kind.name), SETTLE_TIMEOUT, look).await.map(|_| ())
}
