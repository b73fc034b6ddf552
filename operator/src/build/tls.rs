//! TLS of a cluster's pods ([ADR 024](../../../docs/adr/024-tls-on-kubernetes.md)): their certificates as files from Secrets,
//! which the operator does not read, and the addresses and probes that follow. Where the resource says nothing of it, nothing of
//! this is written.

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use serde_json::{Value, json};

use super::scope::Scope;
use super::{Component, names, secrets};

/// Where the certificate is by which pods know each other.
const INTERNAL: &str = "/etc/liverank/tls";
/// Where the one is that gateways show to viewers.
const PUBLIC: &str = "/etc/liverank/tls-public";
const INTERNAL_VOLUME: &str = "liverank-tls";
const PUBLIC_VOLUME: &str = "liverank-tls-public";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// What a proxy in front has to be told: it speaks TLS to the Services, too.
pub(super) const BACKEND_ANNOTATIONS: [(&str, &str); 3] = [
    ("nginx.ingress.kubernetes.io/backend-protocol", "HTTPS"),
    ("haproxy-ingress.github.io/backend-protocol", "h1-ssl"),
    ("alb.ingress.kubernetes.io/backend-protocol", "HTTPS"),
];

/// Whether the cluster's ports take TLS.
pub(super) const fn on(scope: Scope<'_>) -> bool {
    scope.spec.tls.is_some()
}

/// Whether only our own processes ask a component, all of which have a certificate to show. Managers and readers are also asked
/// by viewers inside the Kubernetes cluster, by the operator and by people, who have none and come with tokens.
const fn is_asked_by_ours_alone(component: Component) -> bool {
    matches!(component, Component::Comment | Component::Websocket | Component::Statistics)
}

/// The Secret of another certificate for viewers, where a component shows it.
fn public(scope: Scope<'_>, component: Component) -> Option<&str> {
    let public = scope.spec.tls.as_ref()?.public.as_ref()?;
    (component == Component::Gateway).then_some(&public.secret_name)
}

/// The settings of a component, by the names of its flags.
pub(super) fn settings(scope: Scope<'_>, component: Component) -> Vec<(&'static str, Value)> {
    if !on(scope) {
        return Vec::new();
    }
    let file = |folder: &str, name: &str| json!(format!("{folder}/{name}"));
    let shown = if public(scope, component).is_some() { PUBLIC } else { INTERNAL };
    let mut settings = vec![("tls-cert-file", file(shown, CERT)), ("tls-key-file", file(shown, KEY))];
    if is_asked_by_ours_alone(component) {
        settings.push(("tls-client-ca-file", file(INTERNAL, AUTHORITY)));
    }
    if !component.talks_to().is_empty() {
        settings.push(("peer-ca-file", file(INTERNAL, AUTHORITY)));
    }
    if shown != INTERNAL {
        settings.push(("peer-cert-file", file(INTERNAL, CERT)));
        settings.push(("peer-key-file", file(INTERNAL, KEY)));
    }
    settings
}

/// The volumes of a component's pods.
pub(super) fn volumes(scope: Scope<'_>, component: Component) -> Vec<Volume> {
    let Some(tls) = &scope.spec.tls else { return Vec::new() };
    let internal = secrets::volume(
        INTERNAL_VOLUME,
        &tls.internal.secret_name,
        &[CERT, KEY, AUTHORITY].map(|key| (key, key)),
    );
    let public = public(scope, component)
        .map(|secret| secrets::volume(PUBLIC_VOLUME, secret, &[CERT, KEY].map(|key| (key, key))));
    [internal].into_iter().chain(public).collect()
}

/// Where they are.
pub(super) fn mounts(scope: Scope<'_>, component: Component) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let internal = on(scope).then(|| mount(INTERNAL_VOLUME, INTERNAL));
    let public = public(scope, component).map(|_| mount(PUBLIC_VOLUME, PUBLIC));
    internal.into_iter().chain(public).collect()
}

/// How whoever scrapes the admin ports connects: all of them show the internal certificate.
pub(super) fn scraped(scope: Scope<'_>) -> Option<Value> {
    let tls = scope.spec.tls.as_ref()?;
    // Pods are scraped by address; a name that every internal certificate has stands for all.
    let name = names::host(&names::of(scope.name, Component::Gateway), scope.namespace);
    let authority = json!({ "secret": { "name": tls.internal.secret_name, "key": AUTHORITY } });
    Some(json!({ "ca": authority, "serverName": name }))
}
