//! Builds the pods of a component.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SleepAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::lifetime::PodTermination;
use super::scope::{self, Scope};
use super::{ADMIN_PORT, Component, config, extras, identity, names, object, quantity, secrets, spread, tls};
use crate::crd::{PodSettings, ProbeTimes};

/// Resource requests of a container if the user gives neither request nor limit: enough for sensible scheduling, and a
/// base for the autoscaler's percentages.
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "128Mi")];

/// The label with the hash of a pod's template, by which Deployments tell pods of one template from those of another.
pub(super) const TEMPLATE_LABEL: &str = "pod-template-hash";

/// Returns the pod template of a component; for readers, the template of the named reader.
pub(super) fn template(scope: Scope<'_>, component: Component, reader: Option<&str>) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels(scope, component, reader)),
            annotations: Some(pod_annotations(scope, component)),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(scope, component, reader)),
    }
}

/// Returns the hash of a component's pod template. All readers have the same hash, because their templates differ only
/// in the reader's name.
pub(super) fn template_hash(scope: Scope<'_>, component: Component) -> String {
    let any = names::reader_name(scope.name, 0);
    let reader = (component == Component::Reader).then_some(any.as_str());
    let mut template = scope::to_json(&template(scope, component, reader));
    // Fields that the API server does not store must not change the hash.
    object::canonicalise(&mut template);
    object::hash(&template)
}

/// Returns a pod's labels: the user's, overwritten by the operator's, so that no pod can join another component's
/// Service.
fn pod_labels(scope: Scope<'_>, component: Component, reader: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = names::without_our_keys(&scope.pod_settings(component).labels);
    labels.remove(TEMPLATE_LABEL);
    labels.extend(names::object_labels(scope.name, Some(component), reader));
    labels
}

fn pod_annotations(scope: Scope<'_>, component: Component) -> BTreeMap<String, String> {
    let mut annotations = names::without_our_keys(&scope.pod_settings(component).annotations);
    annotations.insert(names::REVISION_ANNOTATION.to_owned(), scope.input.revision.to_string());
    if let Some(at) = &scope.spec.restart_at {
        annotations.insert(names::RESTARTED_AT_ANNOTATION.to_owned(), at.0.to_string());
    }
    annotations
}

fn spec(scope: Scope<'_>, component: Component, reader: Option<&str>) -> PodSpec {
    let pod = scope.pod_settings(component);
    PodSpec {
        init_containers: Some(extras::containers_before_own(scope, component)),
        containers: vec![container(scope, component, reader)],
        volumes: Some(volumes(scope, component)),
        service_account_name: Some(identity::service_account_name(scope, component, reader)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(PodTermination::of(component, scope.spec).grace),
        security_context: Some(extras::pod_security(scope, component)),
        image_pull_secrets: Some(extras::pull_secrets(scope, component)),
        node_selector: Some(pod.node_selector.clone()),
        tolerations: Some(pod.tolerations.clone()),
        affinity: spread::affinity(scope, component),
        topology_spread_constraints: Some(spread::constraints(scope, component)),
        priority_class_name: pod.priority_class_name.clone(),
        runtime_class_name: pod.runtime_class_name.clone(),
        scheduler_name: pod.scheduler_name.clone(),
        host_aliases: Some(pod.host_aliases.clone()),
        ..PodSpec::default()
    }
}

fn container(scope: Scope<'_>, component: Component, reader: Option<&str>) -> Container {
    let given = scope.pod_settings(component);
    Container {
        name: "liverank".to_owned(),
        image: Some(scope.spec.image.clone()),
        image_pull_policy: Some(scope.spec.image_pull_policy.as_str().to_owned()),
        args: Some(container_arguments(scope, component, reader)),
        env: Some(extras::own_container_variables(scope, component)),
        env_from: Some(scope.pod_settings(component).env_from.clone()),
        ports: Some(ports(component)),
        volume_mounts: Some(mounts(scope, component)),
        resources: Some(resources(scope.pod_settings(component).resources.clone().unwrap_or_default())),
        // Succeeds once the runtime has started, so that the other two probes may begin; two minutes allow for the
        // lookup of a store's name and a slow node.
        startup_probe: Some(probe(scope, "/livez", startup_times(given))),
        // Succeeds if the pod can answer. The stores it depends on may be unavailable: some pod must be left to report
        // that.
        readiness_probe: Some(probe(scope, "/readyz", probe_times(5, 3, 2, given.readiness_probe))),
        // Succeeds if the runtime makes progress. It fails only after half a minute, because a restart disconnects all
        // viewers.
        liveness_probe: Some(probe(scope, "/livez", probe_times(10, 5, 3, given.liveness_probe))),
        lifecycle: PodTermination::of(component, scope.spec).pre_stop_seconds.map(sleep_before_stop),
        security_context: Some(extras::own_container_security(scope, component)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn container_arguments(scope: Scope<'_>, component: Component, reader: Option<&str>) -> Vec<String> {
    let mut arguments = vec![component.name().to_owned(), format!("--config={}", config::file_path())];
    if let Some(reader) = reader {
        arguments.push(format!("--reader-id={reader}"));
        arguments.push(format!("--internal-url={}", scope.reader_url(reader)));
        arguments.push(format!("--public-url={}", super::exposure::public_url(scope, reader)));
    }
    arguments.extend(scope.pod_settings(component).extra_args.iter().cloned());
    arguments
}

fn ports(component: Component) -> Vec<ContainerPort> {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    component
        .http_port()
        .map(|http| port("http", http))
        .into_iter()
        .chain([port("admin", ADMIN_PORT)])
        .collect()
}

fn volumes(scope: Scope<'_>, component: Component) -> Vec<Volume> {
    let config = Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config::object_name(scope, component),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let files = secrets::files(scope.spec, scope.input.revision, component);
    let files = files.iter().map(secrets::File::volume);
    let ours = [config].into_iter().chain(files).chain(identity::volumes(scope, component));
    let ours = ours.chain(tls::volumes(scope, component));
    ours.chain(extras::volumes(scope, component)).collect()
}

fn mounts(scope: Scope<'_>, component: Component) -> Vec<VolumeMount> {
    let config = VolumeMount {
        name: "config".to_owned(),
        mount_path: config::FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let files = secrets::files(scope.spec, scope.input.revision, component);
    let files = files.iter().map(secrets::File::mount);
    let given = scope.pod_settings(component).volume_mounts.iter().cloned();
    let ours = [config].into_iter().chain(files).chain(identity::mounts(scope, component));
    ours.chain(tls::mounts(scope, component)).chain(given).collect()
}

/// Returns the user's resources, completed by `DEFAULT_REQUESTS` for every resource that the user neither requests
/// nor limits.
fn resources(mut given: ResourceRequirements) -> ResourceRequirements {
    let limited = |name: &str| given.limits.as_ref().is_some_and(|limits| limits.contains_key(name));
    let requests = given.requests.get_or_insert_default();
    for (name, quantity) in DEFAULT_REQUESTS.into_iter().filter(|(name, _)| !limited(name)) {
        requests.entry(name.to_owned()).or_insert_with(|| Quantity(quantity.to_owned()));
    }
    with_canonical_amounts(given)
}

/// Returns the requests and limits with all amounts in the API server's notation.
pub(super) fn with_canonical_amounts(mut given: ResourceRequirements) -> ResourceRequirements {
    for quantities in given.requests.iter_mut().chain(&mut given.limits) {
        for quantity in quantities.values_mut() {
            quantity.0 = quantity::canonical(&quantity.0);
        }
    }
    given
}

/// Returns the seconds for which a pod of this component may start, by its startup probe.
pub(super) fn startup_seconds(scope: Scope<'_>, component: Component) -> i32 {
    let times = startup_times(scope.pod_settings(component));
    times.period_seconds.unwrap_or(1).saturating_mul(times.failure_threshold.unwrap_or(1))
}

fn startup_times(given: &PodSettings) -> ProbeTimes {
    probe_times(1, 5, 120, given.startup_probe)
}

/// Returns the times of a probe: those that the user gives, and the operator's.
fn probe_times(
    period_seconds: i32,
    timeout_seconds: i32,
    failures: i32,
    given: Option<ProbeTimes>,
) -> ProbeTimes {
    let given = given.unwrap_or_default();
    ProbeTimes {
        period_seconds: given.period_seconds.or(Some(period_seconds)),
        timeout_seconds: given.timeout_seconds.or(Some(timeout_seconds)),
        failure_threshold: given.failure_threshold.or(Some(failures)),
    }
}

fn probe(scope: Scope<'_>, path: &str, times: ProbeTimes) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            // The kubelet does not verify the certificate.
            scheme: tls::is_tls_on(scope).then(|| "HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: times.period_seconds,
        timeout_seconds: times.timeout_seconds,
        failure_threshold: times.failure_threshold,
        ..Probe::default()
    }
}

/// Returns the pause before SIGTERM. The pause uses the kubelet's own sleep, because the image has no shell.
fn sleep_before_stop(seconds: i64) -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}
