//! The Ingress or `HTTPRoute` by which viewers from outside the Kubernetes cluster reach it, configured so that streams
//! are not cut off.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use serde_json::{Value, json};

use super::object::Object;
use super::scope::{self, Scope};
use super::{Component, Kind, names, tls};
use crate::crd::ExposureType;

/// The annotations that keep streams open behind an Ingress: the usual controllers close a connection that is silent
/// for a minute, and some hold data back until a buffer is full. Streams send something every 15 s; an hour also covers
/// quiet `WebSocket`s.
pub(super) const STREAM_ANNOTATIONS: [(&str, &str); 6] = [
    ("nginx.ingress.kubernetes.io/proxy-buffering", "off"),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "3600"),
    ("haproxy-ingress.github.io/timeout-server", "1h"),
    ("haproxy-ingress.github.io/timeout-tunnel", "1h"),
    ("alb.ingress.kubernetes.io/load-balancer-attributes", "idle_timeout.timeout_seconds=3600"),
];

/// A public host name, with the Service that requests to it reach and the path that is open.
struct ExposedHost<'a> {
    object_name: &'a str,
    component: Component,
    reader: Option<&'a str>,
    host: String,
    path: &'static str,
    /// Whether only exactly `path` is open; otherwise all paths that begin with it are.
    exact: bool,
}

/// Returns the Ingress or `HTTPRoute` to the gateways; `None` if the cluster is not exposed.
pub(super) fn gateway_ingress(scope: Scope<'_>) -> Option<Object> {
    let host = scope.spec.exposure.host.clone()?;
    let name = names::component_object_name(scope.name, Component::Gateway);
    ingress_or_route(
        scope,
        &ExposedHost {
            object_name: &name,
            component: Component::Gateway,
            reader: None,
            host,
            path: "/",
            exact: false,
        },
    )
}

/// Returns the Ingress or `HTTPRoute` to one reader; `None` unless each reader has a host of its own. Only the path of
/// the streams is open, not the paths that our own processes use.
pub(super) fn reader_ingress(scope: Scope<'_>, reader: &str) -> Option<Object> {
    let host = scope.spec.exposure.reader_host(reader)?;
    let way = ExposedHost {
        object_name: reader,
        component: Component::Reader,
        reader: Some(reader),
        host,
        path: "/connect",
        exact: true,
    };
    ingress_or_route(scope, &way)
}

/// Returns the URL at which viewers reach a reader: its public host, or its Service, which only clients inside the
/// Kubernetes cluster reach. An Ingress without a certificate is addressed by `http`; a Gateway's listeners are assumed
/// to have a certificate.
pub(super) fn public_url(scope: Scope<'_>, reader: &str) -> String {
    let exposure = &scope.spec.exposure;
    match (exposure.kind, exposure.reader_host(reader)) {
        (ExposureType::None, _) | (_, None) => scope.reader_url(reader),
        (ExposureType::Ingress, Some(host)) if exposure.tls_secret.is_none() => format!("http://{host}"),
        (_, Some(host)) => format!("https://{host}"),
    }
}

fn ingress_or_route(scope: Scope<'_>, way: &ExposedHost<'_>) -> Option<Object> {
    let (kind, body) = match scope.spec.exposure.kind {
        ExposureType::None => return None,
        ExposureType::Ingress => (Kind::Ingress, scope::to_json(&ingress(scope, way))),
        ExposureType::HttpRoute => (Kind::HttpRoute, http_route(scope, way)),
    };
    let reader = way.reader.map(str::to_owned);
    Some(Object::as_stored_by_server(kind, way.object_name.to_owned(), Some(way.component), reader, body))
}

fn ingress(scope: Scope<'_>, way: &ExposedHost<'_>) -> Ingress {
    let exposure = &scope.spec.exposure;
    let backend = tls::is_tls_on(scope).then_some(tls::TLS_BACKEND_ANNOTATIONS);
    let own = STREAM_ANNOTATIONS.into_iter().chain(backend.into_iter().flatten());
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut metadata = scope.metadata(way.object_name, Some(way.component), way.reader);
    metadata.annotations = Some(own.chain(exposure.annotations.clone()).collect::<BTreeMap<_, _>>());
    let path = HTTPIngressPath {
        path: Some(way.path.to_owned()),
        path_type: if way.exact { "Exact" } else { "Prefix" }.to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: way.object_name.to_owned(),
                port: Some(ServiceBackendPort { name: Some("http".to_owned()), number: None }),
            }),
            resource: None,
        },
    };
    let tls = exposure.tls_secret.as_ref().map(|secret| {
        vec![IngressTLS { hosts: Some(vec![way.host.clone()]), secret_name: Some(secret.clone()) }]
    });
    Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: exposure.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(way.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls,
            default_backend: None,
        }),
        status: None,
    }
}

/// Returns an `HTTPRoute` of the Gateway API as JSON, because its type is not part of Kubernetes' own API.
fn http_route(scope: Scope<'_>, way: &ExposedHost<'_>) -> Value {
    let exposure = &scope.spec.exposure;
    let mut metadata = scope.metadata(way.object_name, Some(way.component), way.reader);
    metadata.annotations = Some(exposure.annotations.clone());
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": scope::to_json(&metadata),
        "spec": {
            "parentRefs": exposure.parent_refs,
            "hostnames": [way.host],
            "rules": [{
                "matches": [{
                    "path": { "type": if way.exact { "Exact" } else { "PathPrefix" }, "value": way.path },
                }],
                "backendRefs": [{ "name": way.object_name, "port": way.component.http_port() }],
                // A stream's request lasts as long as the stream.
                "timeouts": { "request": "0s" },
            }],
        },
    })
}
