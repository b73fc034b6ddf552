//! The pods of a component.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::lifetime::PodTermination;
use super::scope::{self, Scope};
use super::{ADMIN_PORT, Component, config, extras, identity, names, object, quantity, secrets, tls};

/// Requested where the user says nothing: enough to be scheduled sensibly, and something for an autoscaler to divide by.
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "128Mi")];
/// The node labels whose values pods are spread over.
const SPREAD_TOPOLOGY_KEYS: [&str; 2] = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"];
/// The label that tells the pods of one template of a Deployment from those of another.
const TEMPLATE_LABEL: &str = "pod-template-hash";

/// The pod template of a component; of one reader, where it is readers.
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

/// Hash of a component's pod template. All readers have the same, for only their names differ.
pub(super) fn template_hash(scope: Scope<'_>, component: Component) -> String {
    let any = names::reader_name(scope.name, 0);
    let reader = (component == Component::Reader).then_some(any.as_str());
    let mut template = scope::to_json(&template(scope, component, reader));
    // What is not stored makes no difference.
    object::canonicalise(&mut template);
    object::hash(&template)
}

/// The user's labels, and ours over them: nobody joins another component's Service by a label.
fn pod_labels(scope: Scope<'_>, component: Component, reader: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = names::without_our_keys(&scope.pod(component).labels);
    labels.remove(TEMPLATE_LABEL);
    labels.extend(names::object_labels(scope.name, Some(component), reader));
    labels
}

fn pod_annotations(scope: Scope<'_>, component: Component) -> BTreeMap<String, String> {
    let mut annotations = names::without_our_keys(&scope.pod(component).annotations);
    annotations.insert(names::REVISION_ANNOTATION.to_owned(), scope.input.revision.to_string());
    if let Some(at) = &scope.spec.restart_at {
        annotations.insert(names::RESTARTED_AT_ANNOTATION.to_owned(), at.0.to_string());
    }
    annotations
}

fn spec(scope: Scope<'_>, component: Component, reader: Option<&str>) -> PodSpec {
    let pod = scope.pod(component);
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
        affinity: pod.affinity.clone(),
        topology_spread_constraints: Some(spread(scope, component)),
        priority_class_name: pod.priority_class_name.clone(),
        runtime_class_name: pod.runtime_class_name.clone(),
        scheduler_name: pod.scheduler_name.clone(),
        host_aliases: Some(pod.host_aliases.clone()),
        ..PodSpec::default()
    }
}

/// Over hosts and zones as evenly as may be, where the user says nothing. All readers spread together, though each is a
/// Deployment of its own; of the others the pods of one template do, so that a roll-out ends as even as it began.
fn spread(scope: Scope<'_>, component: Component) -> Vec<TopologySpreadConstraint> {
    let of_template = (component != Component::Reader).then(|| vec![TEMPLATE_LABEL.to_owned()]);
    let over = |key: &&str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: (*key).to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        match_label_keys: of_template.clone(),
        ..TopologySpreadConstraint::default()
    };
    let zones = scope.input.revision >= super::ZONE_SPREAD_SINCE_REVISION;
    let default = || SPREAD_TOPOLOGY_KEYS.iter().take(1 + usize::from(zones)).map(over).collect::<Vec<_>>();
    let mut spread = scope.pod(component).topology_spread.clone().unwrap_or_else(default);
    for constraint in &mut spread {
        constraint.label_selector.get_or_insert_with(|| scope.selector(component));
    }
    spread
}

fn container(scope: Scope<'_>, component: Component, reader: Option<&str>) -> Container {
    Container {
        name: "liverank".to_owned(),
        image: Some(scope.spec.image.clone()),
        image_pull_policy: Some(scope.spec.image_pull_policy.as_str().to_owned()),
        args: Some(container_arguments(scope, component, reader)),
        env: Some(extras::own_container_variables(scope, component)),
        env_from: Some(scope.pod(component).env_from.clone()),
        ports: Some(ports(component)),
        volume_mounts: Some(mounts(scope, component)),
        resources: Some(resources(scope.pod(component).resources.clone().unwrap_or_default())),
        // A runtime that has started, so that the other two may begin to judge; two minutes for a store's name to be
        // found and a slow node.
        startup_probe: Some(probe(scope, "/livez", 1, 5, 120)),
        // Can answer: what it depends on may be away meanwhile, and somebody must be left to say so.
        readiness_probe: Some(probe(scope, "/readyz", 5, 3, 2)),
        // Its runtime moves at all; half a minute, for a restart costs all that are connected.
        liveness_probe: Some(probe(scope, "/livez", 10, 5, 3)),
        lifecycle: PodTermination::of(component, scope.spec).pre_stop.map(sleep_before_stop),
        security_context: Some(extras::own_container_security(scope, component)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn container_arguments(scope: Scope<'_>, component: Component, reader: Option<&str>) -> Vec<String> {
    let mut arguments =
        vec![component.name().to_owned(), format!("--config={}/{}", config::FOLDER, config::FILE)];
    if let Some(reader) = reader {
        arguments.push(format!("--reader-id={reader}"));
        arguments.push(format!("--internal-url={}", scope.reader_url(reader)));
        arguments.push(format!("--public-url={}", super::exposure::public_url(scope, reader)));
    }
    arguments.extend(scope.pod(component).extra_args.iter().cloned());
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
    let files = secrets::files(scope.spec, component);
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
    let files = secrets::files(scope.spec, component);
    let files = files.iter().map(secrets::File::mount);
    let given = scope.pod(component).volume_mounts.iter().cloned();
    let ours = [config].into_iter().chain(files).chain(identity::mounts(scope, component));
    ours.chain(tls::mounts(scope, component)).chain(given).collect()
}

/// The user's, with our requests for what the user neither requests nor limits.
fn resources(mut given: ResourceRequirements) -> ResourceRequirements {
    let limited = |name: &str| given.limits.as_ref().is_some_and(|limits| limits.contains_key(name));
    let requests = given.requests.get_or_insert_default();
    for (name, quantity) in DEFAULT_REQUESTS.into_iter().filter(|(name, _)| !limited(name)) {
        requests.entry(name.to_owned()).or_insert_with(|| Quantity(quantity.to_owned()));
    }
    with_canonical_amounts(given)
}

/// Amounts written as the API server does.
pub(super) fn with_canonical_amounts(mut given: ResourceRequirements) -> ResourceRequirements {
    for quantities in given.requests.iter_mut().chain(&mut given.limits) {
        for quantity in quantities.values_mut() {
            quantity.0 = quantity::canonical(&quantity.0);
        }
    }
    given
}

fn probe(scope: Scope<'_>, path: &str, period_seconds: i32, timeout_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            // The kubelet checks no certificate.
            scheme: tls::is_tls_on(scope).then(|| "HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(timeout_seconds),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// The kubelet's own sleep: the image has no shell.
fn sleep_before_stop(seconds: i64) -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}
