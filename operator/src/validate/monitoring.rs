//! Checks the relabelings of scraped pods. A Prometheus scrapes by the address, scheme, path and parameters that are in
//! labels that begin with two underscores. Whoever may set one makes the Prometheus send requests to any address, and
//! may have no right to that otherwise.

use serde_json::Value;

use super::ProblemList;

/// The relabeling actions that are permitted: their result depends on fields that are checked here, or they only remove
/// targets or labels.
const PERMITTED_RELABEL_ACTIONS: [&str; 10] = [
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "lowercase",
    "uppercase",
    "labeldrop",
    "labelkeep",
];

/// Checks that relabelings set only labels of the metrics.
pub(super) fn check_relabelings(relabelings: &[Value], problems: &mut ProblemList) {
    for (at, relabeling) in relabelings.iter().enumerate() {
        let path = format!("spec.monitoring.relabelings[{at}]");
        let text = |field: &str| relabeling[field].as_str().map(str::to_ascii_lowercase);
        if text("action").is_some_and(|action| !PERMITTED_RELABEL_ACTIONS.contains(&action.as_str())) {
            problems.add(
                format!("{path}.action"),
                format!("write one of {}", PERMITTED_RELABEL_ACTIONS.join(", ")),
            );
        }
        let label = text("targetLabel").unwrap_or_default();
        let is_internal = label.starts_with("__") && !label.starts_with("__tmp");
        if is_internal || label.contains('$') {
            problems.add(
                format!("{path}.targetLabel"),
                "write the whole name of a label that does not begin with __: a Prometheus scrapes by these",
            );
        }
    }
}
