//! The user's additions to a component's pods: containers, volumes, environment variables, and other security contexts.
//!
//! The user's values are merged with the builder's, field by field, by name. If the user gives nothing, the pods are
//! exactly as they were before this module existed: a new operator restarts none.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, LocalObjectReference, PodSecurityContext, SeccompProfile,
    SecurityContext, Volume,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::scope::{self, Scope};
use super::{Component, pod, secrets, spread};
use crate::crd::{ExtraContainer, ExtraVolume, PodUser, PullSecret};

/// User id and group id in the image.
const IMAGE_USER_ID: i64 = 65532;

/// Returns the security context of a component's pods: that of the Pod Security Standard `restricted`, with the user's
/// fields over it.
pub(super) fn pod_security(scope: Scope<'_>, component: Component) -> PodSecurityContext {
    let fixed = match scope.spec.pod_user {
        Some(user) => user == PodUser::Image,
        None => !scope.input.operator.platform_assigns_user_ids,
    };
    let id = fixed.then_some(IMAGE_USER_ID);
    let ours = PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: id,
        run_as_group: id,
        // The volumes' group, so that the process can read files from Secrets.
        fs_group: id,
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    };
    merge_given_fields(ours, scope.pod_settings(component).security_context.as_ref())
}

/// Returns the security context of liverank's own container, with the user's fields over the builder's.
pub(super) fn own_container_security(scope: Scope<'_>, component: Component) -> SecurityContext {
    let ours = SecurityContext { read_only_root_filesystem: Some(true), ..unprivileged_security_context() };
    merge_given_fields(ours, scope.pod_settings(component).container_security_context.as_ref())
}

fn unprivileged_security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// Returns `ours`, in which every field that is set in `given` has the given value.
fn merge_given_fields<T: Serialize + DeserializeOwned>(ours: T, given: Option<&T>) -> T {
    let Some(given) = given else { return ours };
    let (mut merged, given) = (scope::to_json(&ours), scope::to_json(given));
    if let (Value::Object(merged), Value::Object(given)) = (&mut merged, given) {
        merged.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
    }
    serde_json::from_value(merged).expect("members of one type, from two values of it")
}

/// Returns the Secrets to pull images with: the cluster's, then the component's, each once.
pub(super) fn pull_secrets(scope: Scope<'_>, component: Component) -> Vec<LocalObjectReference> {
    let of_cluster = &scope.spec.image_pull_secrets;
    let more = scope.pod_settings(component).image_pull_secrets.iter().filter(|it| !of_cluster.contains(it));
    let reference = |secret: &PullSecret| LocalObjectReference { name: secret.name.clone() };
    of_cluster.iter().chain(more).map(reference).collect()
}

/// Returns the environment variables of liverank's own container: the builder's, then the user's.
pub(super) fn own_container_variables(scope: Scope<'_>, component: Component) -> Vec<EnvVar> {
    let given = &scope.pod_settings(component).env;
    let mut variables = secrets::variables(scope.spec, scope.input.revision, component);
    variables.extend(spread::zone_variable(scope, component));
    variables.extend(given.iter().cloned());
    variables
}

/// Returns the volumes that the user adds to a component's pods.
pub(super) fn volumes(scope: Scope<'_>, component: Component) -> impl Iterator<Item = Volume> {
    scope.pod_settings(component).volumes.iter().map(volume)
}

fn volume(given: &ExtraVolume) -> Volume {
    Volume {
        name: given.name.clone(),
        config_map: given.config_map.clone(),
        secret: given.secret.clone(),
        empty_dir: given.empty_dir.clone(),
        projected: given.projected.clone(),
        persistent_volume_claim: given.persistent_volume_claim.clone(),
        csi: given.csi.clone(),
        host_path: given.host_path.clone(),
        ..Volume::default()
    }
}

/// Returns the user's containers, which come before liverank's own: first init containers, which end before it starts,
/// then sidecars, which run until it has ended.
pub(super) fn containers_before_own(scope: Scope<'_>, component: Component) -> Vec<Container> {
    let pod = scope.pod_settings(component);
    let sidecar = |given| Container { restart_policy: Some("Always".to_owned()), ..container(given) };
    pod.init_containers.iter().map(container).chain(pod.sidecars.iter().map(sidecar)).collect()
}

fn container(given: &ExtraContainer) -> Container {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    Container {
        name: given.name.clone(),
        image: Some(given.image.clone()),
        image_pull_policy: Some(given.image_pull_policy.as_str().to_owned()),
        command: list(&given.command),
        args: list(&given.args),
        env: Some(given.env.clone()),
        env_from: Some(given.env_from.clone()),
        ports: Some(given.ports.clone()),
        volume_mounts: Some(given.volume_mounts.clone()),
        resources: given.resources.clone().map(pod::with_canonical_amounts),
        startup_probe: given.startup_probe.clone(),
        readiness_probe: given.readiness_probe.clone(),
        liveness_probe: given.liveness_probe.clone(),
        security_context: Some(merge_given_fields(
            unprivileged_security_context(),
            given.security_context.as_ref(),
        )),
        ..Container::default()
    }
}
