//! The validation of a resource beyond the rules of its definition: values that Kubernetes would refuse in the objects
//! made from it, reported with the path in the resource before anything is changed. Pure.
//!
//! A resource with problems is left as it runs; the condition `Degraded` names them.

mod autoscaling;
mod extras;
mod image;
mod keys;
mod monitoring;
mod open;
mod pods;

use std::net::IpAddr;

use liverank_core::boards::DeclaredBoards;
use liverank_core::moderation::CommentRules;
use liverank_runtime::PeerTls;

use crate::crd::{Board, RankingCluster, RankingClusterSpec};
use crate::maintenance;
pub use open::unknown_fields;

/// A problem of one field of a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldProblem {
    /// The path of the field, such as `spec.kafka.bootstrapServers`.
    pub path: String,
    /// The action that the author should take to solve the problem.
    pub message: String,
}

impl std::fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Collects the problems of a resource's fields.
#[derive(Debug, Default)]
struct ProblemList(Vec<FieldProblem>);

impl ProblemList {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldProblem { path: path.into(), message: message.into() });
    }
}

/// Returns all problems of a resource, in the order of the checks; empty if there are none.
pub fn validate_cluster(cluster: &RankingCluster) -> Vec<FieldProblem> {
    let spec = &cluster.spec;
    let mut problems = ProblemList::default();
    image::check_image("spec.image", &spec.image, &mut problems);
    check_bootstrap_servers(spec, &mut problems);
    check_reader_hosts(cluster, &mut problems);
    keys::check_annotations("spec.exposure.annotations", &spec.exposure.annotations, &mut problems);
    check_accounts(spec, &mut problems);
    check_time_zones(spec, &mut problems);
    check_boards(spec, &mut problems);
    check_comment_rules(spec, &mut problems);
    check_ca_bundles(spec, &mut problems);
    monitoring::check_relabelings(&spec.monitoring.relabelings, &mut problems);
    for (path, front) in [
        ("spec.gateway", &spec.gateway),
        ("spec.websocket", &spec.websocket),
        ("spec.comment", &spec.comment.front),
    ] {
        autoscaling::check_metrics(path, front, &mut problems);
    }
    for (path, pod) in [
        ("spec.gateway.pod", &spec.gateway.pod),
        ("spec.websocket.pod", &spec.websocket.pod),
        ("spec.comment.pod", &spec.comment.front.pod),
        ("spec.consumer.pod", &spec.consumer.pod),
        ("spec.manager.pod", &spec.manager.pod),
        ("spec.statistics.pod", &spec.statistics.pod),
        ("spec.readers.pod", &spec.readers.pod),
    ] {
        pods::check_pod(path, pod, &mut problems);
        extras::check_pod_additions(path, pod, &mut problems);
    }
    problems.0
}

/// Checks the boards by the rules of the consumers, gateways and WebSocket services, which would refuse to start with
/// invalid boards.
fn check_boards(spec: &RankingClusterSpec, problems: &mut ProblemList) {
    let declared = spec.boards.iter().map(Board::declaration).collect();
    if let Err(invalid) = DeclaredBoards::from_json(&serde_json::Value::Array(declared)) {
        problems.add("spec.boards", invalid.reason);
    }
}

/// Checks the comment rules as the comment service does, which would refuse to start with invalid rules.
fn check_comment_rules(spec: &RankingClusterSpec, problems: &mut ProblemList) {
    let Some(rules) = &spec.comment.rules else { return };
    if let Err(invalid) = CommentRules::parse(&rules.declaration()) {
        problems.add("spec.comment.rules", format!("{}: {}", invalid.field, invalid.reason));
    }
    if rules.members_only && !spec.auth.enabled {
        problems.add("spec.comment.rules.membersOnly", "set auth.enabled: without tokens nobody is a member");
    }
    let names_file = |arg: &String| arg.trim_start_matches('-').starts_with(extras::COMMENT_RULES_FLAG);
    if let Some(at) = spec.comment.front.pod.extra_args.iter().position(names_file) {
        let words =
            format!("remove --{}: the operator writes it from comment.rules", extras::COMMENT_RULES_FLAG);
        problems.add(format!("spec.comment.pod.extraArgs[{at}]"), words);
    }
}

/// Checks source ranges and annotations of Services, and annotations of `ServiceAccount`s.
fn check_accounts(spec: &RankingClusterSpec, problems: &mut ProblemList) {
    for (path, service, account) in [
        ("spec.gateway", &spec.gateway.service, &spec.gateway.service_account),
        ("spec.websocket", &spec.websocket.service, &spec.websocket.service_account),
        ("spec.comment", &spec.comment.front.service, &spec.comment.front.service_account),
        ("spec.consumer", &spec.consumer.service, &spec.consumer.service_account),
        ("spec.manager", &spec.manager.service, &spec.manager.service_account),
        ("spec.statistics", &spec.statistics.service, &spec.statistics.service_account),
        ("spec.readers", &spec.readers.service, &spec.readers.service_account),
    ] {
        for (at, network) in service.load_balancer_source_ranges.iter().enumerate() {
            if !is_network(network) {
                let path = format!("{path}.service.loadBalancerSourceRanges[{at}]");
                problems.add(path, "write a network such as 10.1.0.0/16");
            }
        }
        for (path, annotations) in [
            (format!("{path}.service.annotations"), &service.annotations),
            (format!("{path}.serviceAccount.annotations"), &account.annotations),
        ] {
            keys::check_annotations(&path, annotations, problems);
            keys::check_not_ours(&path, annotations.keys(), problems);
        }
    }
}

/// Checks that time zones are in the data that the operator is compiled with.
fn check_time_zones(spec: &RankingClusterSpec, problems: &mut ProblemList) {
    for (at, window) in spec.maintenance.windows.iter().enumerate() {
        if maintenance::time_zone(&window.time_zone).is_none() {
            let path = format!("spec.maintenance.windows[{at}].timeZone");
            problems.add(path, format!("{}: write one such as Europe/Berlin or UTC", window.time_zone));
        }
    }
}

/// Checks that `tls.internal.caBundle`, by which the operator verifies managers, can be parsed.
fn check_ca_bundles(spec: &RankingClusterSpec, problems: &mut ProblemList) {
    let Some(tls) = &spec.tls else { return };
    if let Err(error) = PeerTls::trusting_authorities(&tls.internal.ca_bundle, None) {
        problems.add("spec.tls.internal.caBundle", format!("{error:#}"));
    }
}

/// Returns whether a text is a network in CIDR notation: an address, `/`, and a valid number of bits.
fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// Checks the ports of brokers; the definition's rule on `bootstrapServers` only requires digits.
fn check_bootstrap_servers(spec: &RankingClusterSpec, problems: &mut ProblemList) {
    for server in spec.kafka.bootstrap_servers.split(',') {
        let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            problems.add("spec.kafka.bootstrapServers", format!("{server}: write a port from 1 to 65535"));
        }
    }
}

/// Checks the length of readers' hosts: a label of a DNS name may have 63 characters, and readers' names take most of
/// them. Readers have numbers below 510: 500, and 10 more while they are replaced.
fn check_reader_hosts(cluster: &RankingCluster, problems: &mut ProblemList) {
    let longest = format!("{}-reader-509", cluster.name());
    let Some(host) = cluster.spec.exposure.reader_host(&longest) else { return };
    let path = "spec.exposure.readerHostTemplate";
    if host.len() > 253 || host.split('.').any(|label| label.len() > 63) {
        problems.add(
            path,
            format!(
                "shorten it: with {longest} for {{reader}} a part is over 63 characters, or all of it over 253"
            ),
        );
    }
    if cluster.spec.exposure.host.as_deref() == cluster.spec.exposure.reader_host_template.as_deref() {
        problems.add(path, "choose another one than host: the front door would be one of the readers");
    }
}

#[cfg(test)]
mod tests;
