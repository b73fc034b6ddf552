//! Checks the user's additions to pods: values that Kubernetes would refuse, or that would replace the operator's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EnvVar, VolumeMount};
use liverank_protocol::roles;
use liverank_runtime::telemetry::parse_filter;

use super::{ProblemList, image, pods};
use crate::crd::{ExtraContainer, PodSettings};

/// The name of liverank's own container.
pub(super) const OWN_CONTAINER: &str = "liverank";
/// The names of the operator's own volumes.
const OWN_VOLUMES: [&str; 14] = [
    "config",
    "identity",
    "identity-token",
    "jwks",
    "kafka-ca",
    "liverank-hook",
    "liverank-kafka-password",
    "liverank-mongodb-uri",
    "liverank-redis-url",
    "liverank-revoked",
    "liverank-tls",
    "liverank-tls-public",
    "mongodb-ca",
    "redis-ca",
];
/// The flag with the path of a file with comment rules; the operator writes the flag if the resource has comment rules.
pub(super) const COMMENT_RULES_FLAG: &str = "comment-rules-file";
/// The flag with the path of the configuration file: the operator writes it, although no setting has that name.
const CONFIG_FLAG: &str = "config";

/// Checks all additions of one component's pods.
pub(super) fn check_pod_additions(path: &str, pod: &PodSettings, problems: &mut ProblemList) {
    for (at, alias) in pod.host_aliases.iter().enumerate() {
        if alias.ip.parse::<IpAddr>().is_err() {
            problems.add(format!("{path}.hostAliases[{at}].ip"), "write an IP address");
        }
    }
    if let Some(Err(error)) = pod.log_level.as_deref().map(parse_filter) {
        problems.add(format!("{path}.logLevel"), format!("write a level or a filter: {error}"));
    }
    check_args(path, &pod.extra_args, problems);
    check_env(path, &pod.env, problems);
    let volumes = check_volumes(path, pod, problems);
    check_mounts(path, &pod.volume_mounts, &volumes, problems);
    let mut names = BTreeSet::from([OWN_CONTAINER]);
    for (list, containers) in [("initContainers", &pod.init_containers), ("sidecars", &pod.sidecars)] {
        for container in containers {
            let path = format!("{path}.{list}[{}]", container.name);
            if !names.insert(&container.name) {
                problems.add(&path, "choose another name: a container of the pod has this one already");
            }
            check_container(&path, container, list == "sidecars", &volumes, problems);
        }
    }
}

fn check_args(path: &str, args: &[String], problems: &mut ProblemList) {
    let mut seen = BTreeSet::new();
    for (at, arg) in args.iter().enumerate() {
        let path = format!("{path}.extraArgs[{at}]");
        let name = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
        // A zone may be named where Kubernetes does not tell it, and a file of rules where the resource has none.
        let is_written = |name: &str| {
            !["zone", COMMENT_RULES_FLAG].contains(&name)
                && roles::SETTINGS.iter().any(|setting| setting.name == name)
        };
        if name == CONFIG_FLAG || is_written(name) {
            problems.add(path, format!("remove --{name}: the operator writes it from the resource"));
        } else if !seen.insert(name) {
            problems.add(path, format!("remove it: --{name} stands there already"));
        }
    }
}

fn check_env(path: &str, env: &[EnvVar], problems: &mut ProblemList) {
    let mut seen = BTreeSet::new();
    for variable in env {
        let path = format!("{path}.env[{}]", variable.name);
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            problems.add(&path, "write a name without =");
        }
        if !seen.insert(&variable.name) {
            problems.add(&path, "remove it: the variable stands there already");
        }
        if variable.value.is_some() && variable.value_from.is_some() {
            problems.add(&path, "set value or valueFrom: one of the two");
        }
    }
}

/// Checks the user's volumes, and returns their names.
fn check_volumes<'a>(path: &str, pod: &'a PodSettings, problems: &mut ProblemList) -> BTreeSet<&'a str> {
    for volume in &pod.volumes {
        let path = format!("{path}.volumes[{}]", volume.name);
        if OWN_VOLUMES.contains(&volume.name.as_str()) {
            problems.add(&path, "choose another name: a volume of the operator's has this one");
        }
        if volume.source_count() != 1 {
            problems.add(&path, "set one source: configMap, secret, emptyDir, projected, …");
        }
    }
    pod.volumes.iter().map(|volume| volume.name.as_str()).collect()
}

fn check_mounts(path: &str, mounts: &[VolumeMount], volumes: &BTreeSet<&str>, problems: &mut ProblemList) {
    let mut seen = BTreeSet::new();
    for (at, mount) in mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{at}]");
        if !volumes.contains(mount.name.as_str()) {
            problems.add(format!("{path}.name"), format!("add the volume {:?} to volumes", mount.name));
        }
        if !mount.mount_path.starts_with('/') || mount.mount_path.contains(':') {
            problems.add(format!("{path}.mountPath"), "write a path that begins with / and has no colon");
        }
        if !seen.insert(mount.mount_path.trim_end_matches('/')) {
            problems
                .add(format!("{path}.mountPath"), "choose another path: something is mounted there already");
        }
    }
}

fn check_container(
    path: &str,
    container: &ExtraContainer,
    is_sidecar: bool,
    volumes: &BTreeSet<&str>,
    problems: &mut ProblemList,
) {
    image::check_image(&format!("{path}.image"), &container.image, problems);
    check_env(path, &container.env, problems);
    check_mounts(path, &container.volume_mounts, volumes, problems);
    if let Some(resources) = &container.resources {
        pods::check_resources(&format!("{path}.resources"), resources, problems);
    }
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ];
    for (name, _) in probes.into_iter().filter(|(_, probe)| probe.is_some() && !is_sidecar) {
        problems.add(format!("{path}.{name}"), "remove it: a container that runs to its end has no probes");
    }
}
