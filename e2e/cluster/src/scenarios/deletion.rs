//! The scenario `deletion`: a namespace with a cluster can be deleted while no operator runs, because nothing of
//! liverank (no finalizer) holds it.

use std::time::Instant;

use serde_json::json;

use crate::kube::RANKING_CLUSTER_KIND;
use crate::world::ClusterWorld;

const DOOMED_NAMESPACE: &str = "liverank-e2e-doomed";

pub async fn check_namespace_deletion(world: &ClusterWorld) -> anyhow::Result<String> {
    world.create_namespace(DOOMED_NAMESPACE).await?;
    let mut cluster = world.new_cluster(DOOMED_NAMESPACE, "doomed");
    for component in ["gateway", "websocket", "comment"] {
        cluster["spec"][component] = json!({"replicas": 1, "drainSeconds": 5});
    }
    for component in ["consumer", "manager"] {
        cluster["spec"][component] = json!({"replicas": 1});
    }
    world.kube.apply_object(RANKING_CLUSTER_KIND, &cluster).await?;
    world.wait_until_ready(DOOMED_NAMESPACE, "doomed").await?;
    world.scale_operator(0).await?;
    let start = Instant::now();
    let result = world.remove_namespace(DOOMED_NAMESPACE).await;
    let took = start.elapsed();
    world.scale_operator(2).await?;
    result?;
    Ok(format!("{:.1} s", took.as_secs_f64()))
}
