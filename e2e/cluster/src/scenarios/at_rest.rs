//! A system that nothing happens to costs the API server next to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::kube::LEASE;
use crate::world::{NAME, NAMESPACE_NAME, OPERATOR_NAMESPACE, World};

/// How long it is looked at.
const WINDOW: Duration = Duration::from_secs(45);
/// What the operator works on, and at rest nobody else. (Pods and autoscalers have their own controllers, who write.)
const OURS: [&str; 9] = [
    "rankingclusters",
    "deployments",
    "services",
    "configmaps",
    "serviceaccounts",
    "poddisruptionbudgets",
    "networkpolicies",
    "ingresses",
    "secrets",
];

/// Requests by verb and resource since the API server's start.
type Requests = BTreeMap<(String, String), u64>;

pub async fn asks_for_nothing(world: &World) -> anyhow::Result<String> {
    world.ready(NAMESPACE_NAME, NAME).await?;
    let (before, versions) = (requests(world).await?, versions(world).await?);
    // Not a wait for something: the length of the measurement.
    tokio::time::sleep(WINDOW).await;
    let (after, later) = (requests(world).await?, self::versions(world).await?);
    let new = |(key, count): (&(String, String), &u64)| {
        (key.clone(), count - before.get(key).copied().unwrap_or(0))
    };
    let grown: Requests = after.iter().map(new).filter(|(_, count)| *count > 0).collect();
    let ours: Vec<String> = grown
        .iter()
        .filter(|((verb, resource), _)| OURS.contains(&resource.as_str()) && verb != "WATCH")
        .map(|((verb, resource), count)| format!("{count} {verb} {resource}"))
        .collect();
    ensure!(ours.is_empty(), "in {} s at rest: {ours:?}", WINDOW.as_secs());
    ensure!(versions.1 == later.1, "the status was written though nobody came or went");
    // The Lease's own count is in its version's history no more: it says itself how often it is renewed.
    ensure!(versions.0 != later.0, "the Lease is not renewed");
    let lease = world.lease().await?;
    let seconds = lease["spec"]["leaseDurationSeconds"].as_u64().context("a Lease without a duration")?;
    Ok(format!("in {} s only the Lease's renewals (lasting {seconds} s each)", WINDOW.as_secs()))
}

/// The versions of the Lease and of the cluster.
async fn versions(world: &World) -> anyhow::Result<(String, String)> {
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let lease = world.kube.named(LEASE, OPERATOR_NAMESPACE, crate::world::RELEASE).await?;
    Ok((version(&lease), version(&world.live().await?)))
}

async fn requests(world: &World) -> anyhow::Result<Requests> {
    let metrics = world.kube.get("/metrics").await?.context("the API server has no metrics")?;
    Ok(count(metrics.as_str().context("metrics are text")?))
}

fn count(metrics: &str) -> Requests {
    let mut requests = Requests::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, number)) = rest.split_once("} ") else { continue };
        let label = |name: &str| {
            let (_, value) = labels.split_once(&format!("{name}=\""))?;
            Some(value.split_once('"')?.0.to_owned())
        };
        // `subresource` ends with the same letters.
        let resource = labels
            .split(',')
            .find_map(|it| it.strip_prefix("resource=\""))
            .map(|it| it.trim_end_matches('"'));
        if let (Some(verb), Some(resource)) = (label("verb"), resource) {
            let number: f64 = number.trim().parse().unwrap_or(0.0);
            *requests.entry((verb, resource.to_owned())).or_default() += number as u64;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_add_up_by_verb_and_resource() {
        let metrics = "# TYPE apiserver_request_total counter\n\
            apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"status\",verb=\"PATCH\"} 3\n\
            apiserver_request_total{code=\"201\",resource=\"pods\",subresource=\"\",verb=\"PATCH\"} 1e+01\n\
            apiserver_request_total{code=\"200\",resource=\"leases\",subresource=\"\",verb=\"GET\"} 2\n";
        let requests = count(metrics);
        assert_eq!(requests[&("PATCH".to_owned(), "pods".to_owned())], 13);
        assert_eq!(requests[&("GET".to_owned(), "leases".to_owned())], 2);
        assert_eq!(requests.len(), 2);
    }
}
