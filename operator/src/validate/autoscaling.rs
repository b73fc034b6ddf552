//! Checks the metrics by which a component is autoscaled. The API server checks their form when the autoscaler is
//! written.

use serde_json::Value;

use super::ProblemList;
use super::extras::OWN_CONTAINER;
use crate::crd::HttpWorkload;

/// Checks that a component whose autoscaling metrics use a percentage of the requested CPU has a request or limit of
/// CPU. The definition's rule checks that only where no metrics are given, because it cannot read metrics.
pub(super) fn check_metrics(path: &str, front: &HttpWorkload, problems: &mut ProblemList) {
    let Some(autoscaling) = &front.autoscaling else { return };
    let Some(resources) = &front.pod.resources else { return };
    let has_cpu = [&resources.requests, &resources.limits]
        .into_iter()
        .any(|amounts| amounts.as_ref().is_some_and(|amounts| amounts.contains_key("cpu")));
    for (at, metric) in autoscaling.metrics.iter().enumerate().filter(|_| !has_cpu) {
        if is_share_of_cpu(metric) {
            let words = format!("set {path}.pod.resources.requests.cpu: this metric is a share of it");
            problems.add(format!("{path}.autoscaling.metrics[{at}]"), words);
        }
    }
}

/// Returns whether a metric is the CPU use as a share of the requested CPU.
fn is_share_of_cpu(metric: &Value) -> bool {
    let source = match metric["type"].as_str() {
        Some("Resource") => &metric["resource"],
        // Containers of the author's own have their own requests, which the API server holds against the metric.
        Some("ContainerResource") if metric["containerResource"]["container"] == OWN_CONTAINER => {
            &metric["containerResource"]
        }
        _ => return false,
    };
    source["name"] == "cpu" && source["target"]["type"] == "Utilization"
}
