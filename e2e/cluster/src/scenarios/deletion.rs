//! Deleting a namespace is Kubernetes' affair alone: nothing of ours holds it up while there is no operator.

use std::time::Instant;

use serde_json::json;

use crate::kube::{CLUSTER, NAMESPACE};
use crate::wait::until_true;
use crate::world::{SETTLE, World};

const DOOMED: &str = "liverank-e2e-doomed";

pub async fn needs_no_operator(world: &World) -> anyhow::Result<String> {
    world.namespace(DOOMED).await?;
    let mut cluster = world.cluster(DOOMED, "doomed");
    for component in ["gateway", "websocket", "comment"] {
        cluster["spec"][component] = json!({"replicas": 1, "drainSeconds": 5});
    }
    for component in ["consumer", "manager"] {
        cluster["spec"][component] = json!({"replicas": 1});
    }
    world.kube.apply(CLUSTER, &cluster).await?;
    world.ready(DOOMED, "doomed").await?;
    world.scale_operator(0).await?;
    let start = Instant::now();
    world.kube.delete(&NAMESPACE.path("", DOOMED)).await?;
    let gone = async || Ok(world.kube.get(&NAMESPACE.path("", DOOMED)).await?.is_none());
    let result = until_true("the namespace is gone", SETTLE, gone).await;
    let took = start.elapsed();
    world.scale_operator(2).await?;
    result?;
    Ok(format!("{:.1} s", took.as_secs_f64()))
}
