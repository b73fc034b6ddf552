//! The identities of pods: a `ServiceAccount` for each component and each reader, tokens of these accounts that are
//! valid for this cluster alone, and the public keys that verify the tokens. No Secret is needed, and none is read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::scope::Scope;
use super::{Component, Kind, Object, exposure, names};

/// The folder of the pod's own identity token.
const TOKEN_FOLDER: &str = "/var/run/secrets/liverank.dev";
/// The folder of the public keys that verify identity tokens.
const KEYS_FOLDER: &str = "/etc/liverank/identity";
/// The name of the file with the public keys.
const KEYS_FILE: &str = "keys.json";
/// The lifetime of an identity token in seconds: the least that the API server issues. The kubelet renews the token
/// before it expires.
const TOKEN_SECONDS: i64 = 600;

/// The first builder revision that mounts a token for the statistics service.
const STATISTICS_TOKEN_SINCE_REVISION: u32 = 5;

/// Returns the audience of the identity tokens of a cluster.
pub(super) fn audience(scope: Scope<'_>) -> String {
    names::token_audience(scope.name, scope.namespace)
}

/// Returns whether a component sends an identity token when it calls others.
const fn shows_its_identity(component: Component) -> bool {
    matches!(component, Component::Gateway | Component::Reader)
}

/// Returns whether a component has to verify the identity of its callers.
const fn must_verify_callers(scope: Scope<'_>, component: Component) -> bool {
    match component {
        Component::Manager | Component::Statistics => true,
        Component::Comment | Component::Websocket => trusts_viewers_of_gateways(scope, component),
        Component::Gateway | Component::Consumer | Component::Reader => false,
    }
}

/// Returns whether a component accepts viewers only from gateways: that is so if gateways check viewers' tokens.
const fn trusts_viewers_of_gateways(scope: Scope<'_>, component: Component) -> bool {
    let has_viewers = matches!(component, Component::Comment | Component::Websocket | Component::Reader);
    has_viewers && scope.spec.auth.enabled && scope.spec.auth.jwks.is_some()
}

/// Returns the `ServiceAccount`s of a cluster but for those of its readers: one for each component, and one for the
/// people who operate the cluster. None of these `ServiceAccount`s has any rights at the API server.
pub(super) fn service_accounts(scope: Scope<'_>) -> Vec<Object> {
    let of_component = |component: Component| {
        let name = names::component_object_name(scope.name, component);
        let typed = service_account(scope, &name, Some(component), None);
        Object::of(Kind::ServiceAccount, &name, Some(component), &typed)
    };
    let cli = names::cli_service_account_name(scope.name);
    let of_cli = Object::of(Kind::ServiceAccount, &cli, None, &service_account(scope, &cli, None, None));
    let components = scope.components().filter(|component| *component != Component::Reader).map(of_component);
    components.chain([of_cli]).collect()
}

/// Returns the `ServiceAccount` of one reader.
pub(super) fn reader_service_account(scope: Scope<'_>, reader: &str) -> Object {
    let typed = service_account(scope, reader, Some(Component::Reader), Some(reader));
    Object::of_reader(Kind::ServiceAccount, reader, &typed)
}

fn service_account(
    scope: Scope<'_>,
    name: &str,
    component: Option<Component>,
    reader: Option<&str>,
) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            annotations: component
                .map(|it| names::without_our_keys(&scope.service_account_settings(it).annotations)),
            ..scope.metadata(name, component, reader)
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Returns the name of the `ServiceAccount` as which the pods of a component, or of one reader, run.
pub(super) fn service_account_name(scope: Scope<'_>, component: Component, reader: Option<&str>) -> String {
    reader.map_or_else(|| names::component_object_name(scope.name, component), str::to_owned)
}

/// Returns the `ConfigMap` with the public keys. No pod template depends on this `ConfigMap`, because keys change while
/// pods run.
pub(super) fn public_keys_config_map(scope: Scope<'_>) -> Object {
    let name = names::identity_config_map_name(scope.name);
    let data = BTreeMap::from([(KEYS_FILE.to_owned(), scope.input.operator.public_keys.clone())]);
    let typed =
        ConfigMap { metadata: scope.metadata(&name, None, None), data: Some(data), ..ConfigMap::default() };
    Object::of(Kind::ConfigMap, &name, None, &typed)
}

/// Returns the identity settings of a component, by the names of its flags.
pub(super) fn identity_settings(scope: Scope<'_>, component: Component) -> Vec<(&'static str, Value)> {
    let mut settings = Vec::new();
    if shows_its_identity(component) {
        settings.push(("identity-token-file", json!(format!("{TOKEN_FOLDER}/token"))));
    }
    if trusts_viewers_of_gateways(scope, component) {
        settings.push(("viewers-by-gateway", json!(true)));
    }
    if must_verify_callers(scope, component) {
        let operator = scope.input.operator;
        settings.push(("identity-jwks-file", json!(format!("{KEYS_FOLDER}/{KEYS_FILE}"))));
        settings.push(("identity-audience", json!(audience(scope))));
        settings.push((
            "identity-operator",
            json!(format!("{}/{}", operator.namespace, operator.service_account)),
        ));
    }
    if component == Component::Manager {
        // Where a reader is follows from who it is.
        let mut urls = vec![scope.reader_url("{reader}"), exposure::public_url(scope, "{reader}")];
        urls.dedup();
        settings.push(("reader-urls", json!(urls)));
    }
    settings
}

/// Returns the volumes of a component's pods with their own token and with the public keys.
pub(super) fn volumes(scope: Scope<'_>, component: Component) -> Vec<Volume> {
    let source = |audience: String, path: &str| VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: Some(audience),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: path.to_owned(),
        }),
        ..VolumeProjection::default()
    };
    // What is shown to the statistics service, to which everybody may report, is of no use at any other one.
    let of_statistics = (scope.input.revision >= STATISTICS_TOKEN_SINCE_REVISION)
        .then(|| source(format!("{}/statistics", audience(scope)), "statistics-token"));
    let token = shows_its_identity(component).then(|| Volume {
        name: "identity-token".to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some([source(audience(scope), "token")].into_iter().chain(of_statistics).collect()),
            default_mode: Some(0o440),
        }),
        ..Volume::default()
    });
    let keys = must_verify_callers(scope, component).then(|| Volume {
        name: "identity".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::identity_config_map_name(scope.name),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
    token.into_iter().chain(keys).collect()
}

/// Returns the mounts of the volumes with the pod's own token and with the public keys.
pub(super) fn mounts(scope: Scope<'_>, component: Component) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let token = shows_its_identity(component).then(|| mount("identity-token", TOKEN_FOLDER));
    let keys = must_verify_callers(scope, component).then(|| mount("identity", KEYS_FOLDER));
    token.into_iter().chain(keys).collect()
}
