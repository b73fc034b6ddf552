//! TLS of a cluster's pods ([ADR 024](../../../docs/adr/024-tls-on-kubernetes.md)): their certificates as files from Secrets,
//! which the operator does not read, and the addresses and probes that follow. Where the resource says nothing of it, nothing of
//! this is written.

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use serde_json::{Value, json};

use super::scope::Scope;
use super::{Component, names, secrets};

/// Where the certificate is by which pods know each other.
const INTERNAL_FOLDER: &str = "/etc/liverank/tls";
/// Where the one is that gateways show to viewers.
const PUBLIC_FOLDER: &str = "/etc/liverank/tls-public";
const INTERNAL_VOLUME: &str = "liverank-tls";
const PUBLIC_VOLUME: &str = "liverank-tls-public";
const CERT_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";
const CA_FILE: &str = "ca.crt";

/// What a proxy in front has to be told: it speaks TLS to the Services, too.
pub(super) const TLS_BACKEND_ANNOTATIONS: [(&str, &str); 3] = [
    ("nginx.ingress.kubernetes.io/backend-protocol", "HTTPS"),
    ("haproxy-ingress.github.io/backend-protocol", "h1-ssl"),
    ("alb.ingress.kubernetes.io/backend-protocol", "HTTPS"),
];

/// Whether the cluster's ports take TLS.
pub(super) const fn is_tls_on(scope: Scope<'_>) -> bool {
    scope.spec.tls.is_some()
}

/// Whether only our own processes ask a component, all of which have a certificate to show. Managers and readers are also asked
/// by viewers inside the Kubernetes cluster, by the operator and by people, who have none and come with tokens.
const fn takes_only_internal_callers(component: Component) -> bool {
    matches!(component, Component::Comment | Component::Websocket | Component::Statistics)
}

/// The Secret of another certificate for viewers, where a component shows it.
fn public_certificate_secret(scope: Scope<'_>, component: Component) -> Option<&str> {
    let public = scope.spec.tls.as_ref()?.public.as_ref()?;
    (component == Component::Gateway).then_some(&public.secret_name)
}

/// The settings of a component, by the names of its flags.
pub(super) fn tls_settings(scope: Scope<'_>, component: Component) -> Vec<(&'static str, Value)> {
    if !is_tls_on(scope) {
        return Vec::new();
    }
    let file = |folder: &str, name: &str| json!(format!("{folder}/{name}"));
    let shown =
        if public_certificate_secret(scope, component).is_some() { PUBLIC_FOLDER } else { INTERNAL_FOLDER };
    let mut settings =
        vec![("tls-cert-file", file(shown, CERT_FILE)), ("tls-key-file", file(shown, KEY_FILE))];
    if takes_only_internal_callers(component) {
        settings.push(("tls-client-ca-file", file(INTERNAL_FOLDER, CA_FILE)));
    }
    if !component.talks_to().is_empty() {
        settings.push(("peer-ca-file", file(INTERNAL_FOLDER, CA_FILE)));
    }
    if shown != INTERNAL_FOLDER {
        settings.push(("peer-cert-file", file(INTERNAL_FOLDER, CERT_FILE)));
        settings.push(("peer-key-file", file(INTERNAL_FOLDER, KEY_FILE)));
    }
    settings
}

/// The volumes of a component's pods.
pub(super) fn volumes(scope: Scope<'_>, component: Component) -> Vec<Volume> {
    let Some(tls) = &scope.spec.tls else { return Vec::new() };
    let internal = secrets::volume(
        INTERNAL_VOLUME,
        &tls.internal.secret_name,
        &[CERT_FILE, KEY_FILE, CA_FILE].map(|key| (key, key)),
    );
    let public = public_certificate_secret(scope, component)
        .map(|secret| secrets::volume(PUBLIC_VOLUME, secret, &[CERT_FILE, KEY_FILE].map(|key| (key, key))));
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
    let internal = is_tls_on(scope).then(|| mount(INTERNAL_VOLUME, INTERNAL_FOLDER));
    let public = public_certificate_secret(scope, component).map(|_| mount(PUBLIC_VOLUME, PUBLIC_FOLDER));
    internal.into_iter().chain(public).collect()
}

/// How whoever scrapes the admin ports connects: all of them show the internal certificate.
pub(super) fn scrape_tls_config(scope: Scope<'_>) -> Option<Value> {
    let tls = scope.spec.tls.as_ref()?;
    // Pods are scraped by address; a name that every internal certificate has stands for all.
    let name =
        names::service_host(&names::component_object_name(scope.name, Component::Gateway), scope.namespace);
    let authority = json!({ "secret": { "name": tls.internal.secret_name, "key": CA_FILE } });
    Some(json!({ "ca": authority, "serverName": name }))
}
