//! The scenario `contested`: somebody's autoscaler sets what the operator sets. The status says which field that is and who
//! else writes it, and the operator does not write it again and again.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::kube::{AUTOSCALER_KIND, DEPLOYMENT_KIND, status_condition, text_at};
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT, is_true};

/// The time limit until the fight is told: four repairs, each after a look of the autoscaler (each 15 s by Kubernetes'
/// default, each 2 s on the test bed).
const FIGHT_REPORTED_TIMEOUT: Duration = Duration::from_secs(90);
/// The number of pods that the other autoscaler wants at least. It needs no metrics to bring so many.
const OTHERS_REPLICAS: u64 = 3;

pub async fn told_and_not_fought_for_ever(world: &ClusterWorld) -> anyhow::Result<String> {
    let name = format!("{CLUSTER_NAME}-consumer");
    let deployment = DEPLOYMENT_KIND.object_path(NAMESPACE_NAME, &name);
    let scaler = json!({
        "apiVersion": AUTOSCALER_KIND.api, "kind": AUTOSCALER_KIND.name,
        "metadata": {"name": "stranger", "namespace": NAMESPACE_NAME},
        "spec": {"minReplicas": OTHERS_REPLICAS, "maxReplicas": OTHERS_REPLICAS,
            "scaleTargetRef": {"apiVersion": DEPLOYMENT_KIND.api, "kind": DEPLOYMENT_KIND.name, "name": name}},
    });
    world.kube.apply_object(AUTOSCALER_KIND, &scaler).await?;
    let look = async || {
        let cluster = world.live_cluster().await?;
        let told = status_condition(&cluster, "Contested").cloned().unwrap_or_default();
        let words = text_at(&told, "/message");
        let names = [name.as_str(), "spec.replicas", "kube-controller-manager"];
        let is_told = is_true(&cluster, "Contested") && names.iter().all(|name| words.contains(name));
        Ok(if is_told { Ok(()) } else { Err(told.to_string()) })
    };
    let ((), took) =
        wait_until_some("Contested names the field and its writer", FIGHT_REPORTED_TIMEOUT, look).await?;
    world.kube.delete_object(&AUTOSCALER_KIND.object_path(NAMESPACE_NAME, "stranger")).await?;
    let look = async || {
        let consumer = world.kube.get_object(&deployment).await?.context("it is gone")?;
        let replicas = &consumer["spec"]["replicas"];
        Ok(if *replicas == OTHERS_REPLICAS { Err(format!("{replicas} replicas")) } else { Ok(()) })
    };
    wait_until_some("the number is the resource's again", SETTLE_TIMEOUT, look).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    Ok(format!("told after {:.1} s", took.as_secs_f64()))
}
