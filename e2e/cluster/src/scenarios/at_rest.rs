//! The scenario `at-rest`: a system without viewers and changes sends the API server almost no requests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::objects::is_kind_served;
use crate::kube::{
    CHILD_KINDS, HTTP_ROUTE_KIND, INGRESS_KIND, ObjectKind, POD_KIND, RANKING_CLUSTER_KIND, SECRET_KIND,
    SERVICE_MONITOR_KIND, object_name, text_at,
};
use crate::metrics::{fetch_metrics, sum_of};
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::{
    CLUSTER_NAME, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, SETTLE_TIMEOUT, is_ready, is_true,
};

/// The length of the measurement.
const OBSERVED_TIME: Duration = Duration::from_secs(45);

/// Longer than the shortest time between two writes of the status, which is 15 s while the number of viewers changes.
const MIN_TIME_BETWEEN_WRITES: Duration = Duration::from_secs(16);

/// Resources that each operator requests once in some minutes: to see whether an optional kind has been installed, for
/// the keys of tokens, and for its own token. During the measurement each operator requests each of them once at most.
const RARELY_REQUESTED_RESOURCES: [&str; 5] = [
    "httproutes",
    "servicemonitors",
    "/openid/v1/jwks",
    "/.well-known/openid-configuration",
    "serviceaccounts/token",
];
const OPERATOR_COUNT: usize = 2;
/// The kinds that a Kubernetes need not serve.
const OPTIONAL_KINDS: [ObjectKind; 2] = [HTTP_ROUTE_KIND, SERVICE_MONITOR_KIND];
/// The number of failed lists of a kind that is not served, after which an operator lists it once at most during the
/// measurement. An operator that has just started, as one does whose predecessor was killed, lists such a kind again after
/// half a second, and waits twice as long each time, up to half of that shorter: 64 s or more after the ninth time.
const LEAST_FAILED_LISTS: u64 = 8;
/// The most measurements: one in which Kubernetes changed a pod is none at rest.
const MAX_MEASUREMENTS: usize = 3;

/// The number of requests by verb and resource.
type RequestCounts = BTreeMap<(String, String), u64>;

pub async fn check_requests_at_rest(world: &ClusterWorld) -> anyhow::Result<String> {
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    // The status shows that viewers left only some time after they left.
    let nobody = async || Ok(world.live_cluster().await?["status"]["readers"]["viewers"] == 0);
    wait_until_true("the status says that nobody watches", SETTLE_TIMEOUT, nobody).await?;
    let mut changed = BTreeSet::new();
    for _ in 0..MAX_MEASUREMENTS {
        wait_until_lists_are_rare(world).await?;
        wait_until_settled(world).await?;
        let before = pod_versions(world).await?;
        let measured = measure_requests(world).await;
        changed = pod_versions(world).await?.symmetric_difference(&before).cloned().collect();
        if changed.is_empty() {
            return measured;
        }
    }
    anyhow::bail!("pods changed during each of {MAX_MEASUREMENTS} measurements, last {changed:?}")
}

/// Returns the name and the resource version of each pod of the cluster and of the operator.
async fn pod_versions(world: &ClusterWorld) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut pods = world.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
    pods.extend(world.operator_pods().await?);
    let version =
        |pod: &Value| (object_name(pod).to_owned(), text_at(pod, "/metadata/resourceVersion").to_owned());
    Ok(pods.iter().map(version).collect())
}

/// Counts the requests of operators for [`OBSERVED_TIME`], and fails unless they are as few as they should be. Returns
/// figures.
async fn measure_requests(world: &ClusterWorld) -> anyhow::Result<String> {
    let (lease, cluster) = (world.operator_lease().await?, world.live_cluster().await?);
    let before = RequestLogPosition::position_now(world).await?;
    // This sleep does not wait for anything: it is the length of the measurement.
    tokio::time::sleep(OBSERVED_TIME).await;
    let mut requests = before.requests_since(world).await?;
    let (renewed, after) = (world.operator_lease().await?, world.live_cluster().await?);
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    ensure!(version(&cluster) == version(&after), "the status was written though nobody came or went");
    ensure!(version(&lease) != version(&renewed), "the Lease is not renewed");
    // A watch is one long request, which the API server counts when the watch ends.
    requests.retain(|(verb, _), _| verb != "watch");
    requests.retain(|(_, resource), count| {
        let is_rare = RARELY_REQUESTED_RESOURCES.iter().any(|it| resource.starts_with(it));
        !is_rare || *count > OPERATOR_COUNT as u64
    });
    let renewals: u64 =
        requests.iter().filter(|((_, resource), _)| resource == "leases").map(|(_, count)| count).sum();
    let others: Vec<String> = requests
        .iter()
        .filter(|((_, resource), _)| resource != "leases")
        .map(|((verb, resource), count)| format!("{count} {verb} {resource}"))
        .collect();
    ensure!(others.is_empty(), "in {} s at rest: {others:?}", OBSERVED_TIME.as_secs());
    let minute = renewals as f64 * 60.0 / OBSERVED_TIME.as_secs_f64();
    let told = if world.settings.audit_log.is_some() {
        format!("{minute:.0} requests a minute of two operators, all for the Lease")
    } else {
        "none for anything of ours".to_owned()
    };
    Ok(told)
}

/// Waits until nothing is wrong, and the status was not written for longer than the shortest time between two writes, so
/// that no write of earlier changes is still to come. A field that a scenario before contested is told for a minute more.
async fn wait_until_settled(world: &ClusterWorld) -> anyhow::Result<()> {
    let mut last = (Value::Null, Instant::now());
    let quiet = async || {
        let cluster = world.live_cluster().await?;
        let version = &cluster["metadata"]["resourceVersion"];
        if *version != last.0 {
            last = (version.clone(), Instant::now());
        }
        let is_calm = is_ready(&cluster) && !is_true(&cluster, "Degraded") && !is_true(&cluster, "Contested");
        Ok(is_calm && last.1.elapsed() > MIN_TIME_BETWEEN_WRITES)
    };
    wait_until_true("the status comes to rest", SETTLE_TIMEOUT, quiet).await.map(|_| ())
}

/// Waits until each operator has listed the kinds that are not served so often that it does so rarely by now.
async fn wait_until_lists_are_rare(world: &ClusterWorld) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for kind in OPTIONAL_KINDS {
        if !is_kind_served(world, kind).await? {
            missing.push(format!("kind=\"{}\"", kind.name));
        }
    }
    let rare = async || {
        let operators = world.operator_pods().await?;
        let mut failed = Vec::new();
        for operator in &operators {
            let text = fetch_metrics(&world.kube, std::slice::from_ref(operator)).await?;
            let lists =
                |kind: &String| sum_of(&text, "liverank_operator_watch_errors_total", &[kind.as_str()]);
            failed.extend(missing.iter().map(lists));
        }
        let is_rare = operators.len() == OPERATOR_COUNT && failed.iter().all(|it| *it >= LEAST_FAILED_LISTS);
        Ok(if is_rare { Ok(()) } else { Err(format!("{} operators; lists: {failed:?}", operators.len())) })
    };
    wait_until_some("operators list optional kinds rarely", SETTLE_TIMEOUT, rare).await.map(drop)
}

/// A position in the API server's records of requests, from which later requests are counted.
enum RequestLogPosition {
    /// The size of the audit log at that time, in bytes.
    Log(u64),
    /// The API server's counters of requests at that time.
    Counts(RequestCounts),
}

impl RequestLogPosition {
    async fn position_now(world: &ClusterWorld) -> anyhow::Result<Self> {
        match &world.settings.audit_log {
            Some(file) => Ok(Self::Log(std::fs::metadata(file).context("the audit log")?.len())),
            None => Ok(Self::Counts(fetch_request_counts(world).await?)),
        }
    }

    /// Returns the requests that the API server got after this position.
    async fn requests_since(&self, world: &ClusterWorld) -> anyhow::Result<RequestCounts> {
        match (self, &world.settings.audit_log) {
            (Self::Log(from), Some(file)) => parse_audit_log(&read_from(file, *from)?),
            (Self::Log(_), None) => anyhow::bail!("no audit log"),
            (Self::Counts(before), _) => {
                let after = fetch_request_counts(world).await?;
                let new = |(key, count): (&(String, String), &u64)| {
                    (key.clone(), count - before.get(key).copied().unwrap_or(0))
                };
                Ok(after.iter().map(new).filter(|(_, count)| *count > 0).collect())
            }
        }
    }
}

fn read_from(file: &Path, from: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut file = std::fs::File::open(file)?;
    file.seek(SeekFrom::Start(from))?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Counts the requests in lines of an audit log, by verb and resource.
fn parse_audit_log(log: &str) -> anyhow::Result<RequestCounts> {
    let mut requests = RequestCounts::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).context("a line of the audit log")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // A request without a resource is for discovery, health or the like; its key is the URI.
        let object = &event["objectRef"];
        let resource = match (&object["resource"], &object["subresource"]) {
            (Value::String(resource), Value::String(part)) => format!("{resource}/{part}"),
            (Value::String(resource), _) => resource.clone(),
            _ => text(&event["requestURI"]),
        };
        *requests.entry((text(&event["verb"]), resource)).or_default() += 1;
    }
    Ok(requests)
}

/// Returns the API server's counters of requests for resources that only the operator requests while the system is at
/// rest. Pods, autoscalers and Leases are left out, because their own controllers write them, and tokens, which kubelets
/// request.
async fn fetch_request_counts(world: &ClusterWorld) -> anyhow::Result<RequestCounts> {
    let metrics = world.kube.get_object("/metrics").await?.context("the API server has no metrics")?;
    let mut requests = parse_request_metrics(metrics.as_str().context("metrics are text")?);
    let ours = |name: &str| {
        CHILD_KINDS
            .iter()
            .chain(&[RANKING_CLUSTER_KIND, INGRESS_KIND, SECRET_KIND])
            .any(|kind| kind.plural == name)
            && name != POD_KIND.plural
    };
    requests.retain(|(_, resource), _| ours(resource) && resource != "horizontalpodautoscalers");
    Ok(requests)
}

fn parse_request_metrics(metrics: &str) -> RequestCounts {
    let mut requests = RequestCounts::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, number)) = rest.split_once("} ") else { continue };
        if labels.split(',').any(|label| label == "subresource=\"token\"") {
            continue;
        }
        let label = |name: &str| {
            let value = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""))?;
            Some(value.trim_end_matches('"').to_owned())
        };
        if let (Some(verb), Some(resource)) = (label("verb"), label("resource")) {
            let number: f64 = number.trim().parse().unwrap_or(0.0);
            *requests.entry((verb.to_lowercase(), resource)).or_default() += number as u64;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_of(requests: &RequestCounts, verb: &str, resource: &str) -> u64 {
        requests.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or(0)
    }

    #[test]
    fn requests_add_up_by_verb_and_resource() {
        let metrics = "# TYPE apiserver_request_total counter\n\
            apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"status\",verb=\"PATCH\"} 3\n\
            apiserver_request_total{code=\"201\",resource=\"pods\",subresource=\"\",verb=\"PATCH\"} 1e+01\n\
            apiserver_request_total{code=\"201\",resource=\"serviceaccounts\",subresource=\"token\",verb=\"POST\"} 8\n\
            apiserver_request_total{code=\"200\",resource=\"leases\",subresource=\"\",verb=\"GET\"} 2\n";
        let requests = parse_request_metrics(metrics);
        assert_eq!(
            (count_of(&requests, "patch", "pods"), count_of(&requests, "get", "leases"), requests.len()),
            (13, 2, 2)
        );
    }

    #[test]
    fn audited_requests_are_told_by_resource_or_path() {
        let log = "{\"verb\":\"update\",\"objectRef\":{\"resource\":\"leases\"}}\n\
            {\"verb\":\"update\",\"objectRef\":{\"resource\":\"leases\"}}\n\
            {\"verb\":\"create\",\"objectRef\":{\"resource\":\"serviceaccounts\",\"subresource\":\"token\"}}\n\
            {\"verb\":\"get\",\"requestURI\":\"/version\"}\n";
        let requests = parse_audit_log(log).unwrap();
        assert_eq!((count_of(&requests, "update", "leases"), count_of(&requests, "get", "/version")), (2, 1));
        assert_eq!(count_of(&requests, "create", "serviceaccounts/token"), 1);
    }
}
