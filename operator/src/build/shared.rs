//! Objects for all components alike: configuration files, and the configuration of monitoring.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::scope::{self, Scope};
use super::{Component, Kind, Object, config, names, tls};

/// Returns the `ConfigMap` with a component's files. A `ConfigMap` is never changed: a changed file is a
/// new object, named by its hash, and the pod template that names it is rolled out when it is the component's turn. So
/// a pod of an old template that starts again finds the file that it was made for.
pub(super) fn config_map(scope: Scope<'_>, component: Component) -> Object {
    let name = config::object_name(scope, component);
    let typed = ConfigMap {
        metadata: scope.metadata(&name, Some(component), None),
        data: Some(config::files(scope, component)),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    Object::of(Kind::ConfigMap, &name, Some(component), &typed)
}

/// Returns the `ServiceMonitor` for the Prometheus operator as JSON, because its type is not part of Kubernetes' own
/// API.
pub(super) fn service_monitor(scope: Scope<'_>) -> Object {
    let name = scope.name;
    let monitoring = &scope.spec.monitoring;
    let mut endpoint = json!({ "port": "admin", "path": "/metrics" });
    if let Some(interval) = &monitoring.interval {
        endpoint["interval"] = json!(interval);
    }
    if !monitoring.relabelings.is_empty() {
        endpoint["relabelings"] = monitoring.relabelings.clone().into();
    }
    if let Some(tls) = tls::scrape_tls_config(scope) {
        endpoint["scheme"] = json!("https");
        endpoint["tlsConfig"] = tls;
    }
    let mut metadata = scope.metadata(name, None, None);
    let mut labels = names::without_our_keys(&monitoring.service_monitor_labels);
    labels.extend(metadata.labels.take().unwrap_or_default());
    metadata.labels = Some(labels);
    let body = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": scope::to_json(&metadata),
        "spec": {
            "selector": { "matchLabels": names::pod_selector(scope.name, None) },
            "targetLabels": [names::INSTANCE_LABEL, names::COMPONENT_LABEL, names::READER_LABEL],
            "endpoints": [endpoint],
        },
    });
    Object::as_stored_by_server(Kind::ServiceMonitor, name.to_owned(), None, None, body)
}
