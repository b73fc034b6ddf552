//! TLS of a cluster's pods ([ADR 024](../../../docs/adr/024-tls-on-kubernetes.md)): certificates as files from Secrets,
//! which the operator does not read, and the addresses and probes that TLS requires. If the resource does not turn TLS
//! on, nothing of this is written.

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use serde_json::{Value, json};

use super::scope::Scope;
use super::{Component, names, secrets};

/// The folder of the certificate that the cluster's pods use among themselves.
const INTERNAL_FOLDER: &str = "/etc/liverank/tls";
/// The folder of the certificate that gateways present to viewers.
const PUBLIC_FOLDER: &str = "/etc/liverank/tls-public";
const INTERNAL_VOLUME: &str = "liverank-tls";
const PUBLIC_VOLUME: &str = "liverank-tls-public";
const CERT_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";
const CA_FILE: &str = "ca.crt";

/// Annotations that tell a proxy in front of the cluster to speak TLS to the Services, too.
pub(super) const TLS_BACKEND_ANNOTATIONS: [(&str, &str); 3] = [
    ("nginx.ingress.kubernetes.io/backend-protocol", "HTTPS"),
    ("haproxy-ingress.github.io/backend-protocol", "h1-ssl"),
    ("alb.ingress.kubernetes.io/backend-protocol", "HTTPS"),
];

/// Returns whether the cluster's ports use TLS.
pub(super) const fn is_tls_on(scope: Scope<'_>) -> bool {
    scope.spec.tls.is_some()
}

/// Returns whether a component is called only by our own processes, which all have a client certificate. Managers and
/// readers are also called by viewers inside the Kubernetes cluster, by the operator and by people, who have no
/// certificate and send tokens instead.
const fn takes_only_internal_callers(component: Component) -> bool {
    matches!(component, Component::Comment | Component::Websocket | Component::Statistics)
}

/// Returns the Secret of a separate certificate for viewers; `None` if there is none or the component does not present
/// it.
fn public_certificate_secret(scope: Scope<'_>, component: Component) -> Option<&str> {
    let public = scope.spec.tls.as_ref()?.public.as_ref()?;
    (component == Component::Gateway).then_some(&public.secret_name)
}

/// Returns the TLS settings of a component, by the names of its flags.
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

/// Returns the certificate volumes of a component's pods.
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

/// Returns the mounts of the certificate volumes.
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

/// Returns the TLS settings for scraping the admin ports, which all present the internal certificate; `None` without
/// TLS.
pub(super) fn scrape_tls_config(scope: Scope<'_>) -> Option<Value> {
    let tls = scope.spec.tls.as_ref()?;
    // Pods are scraped by IP address; a name that every internal certificate contains is verified instead.
    let name =
        names::service_host(&names::component_object_name(scope.name, Component::Gateway), scope.namespace);
    let authority = json!({ "secret": { "name": tls.internal.secret_name, "key": CA_FILE } });
    Some(json!({ "ca": authority, "serverName": name }))
}
