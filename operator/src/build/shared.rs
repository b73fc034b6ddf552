//! What all components of a cluster share.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::scope::{self, Scope};
use super::{Kind, Object, config, names};

/// One key a component, so that a component's hash changes with its own settings only.
pub(super) fn config_map(scope: Scope<'_>) -> Object {
    let name = names::config(scope.name);
    let files = scope
        .components()
        .map(|component| (names::config_key(component), config::file(scope, component)))
        .collect();
    let typed =
        ConfigMap { metadata: scope.metadata(&name, None, None), data: Some(files), ..ConfigMap::default() };
    Object::of(Kind::ConfigMap, &name, None, &typed)
}

/// What the Prometheus operator reads; its types are not among Kubernetes' own.
pub(super) fn service_monitor(scope: Scope<'_>) -> Object {
    let name = scope.name;
    let body = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": scope::json(&scope.metadata(name, None, None)),
        "spec": {
            "selector": { "matchLabels": names::selector(scope.name, None) },
            "targetLabels": [names::INSTANCE, names::COMPONENT, names::READER],
            "endpoints": [{ "port": "admin", "path": "/metrics" }],
        },
    });
    Object::stored(Kind::ServiceMonitor, name.to_owned(), None, None, body)
}
