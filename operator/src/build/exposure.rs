//! The way in for viewers outside the cluster: an Ingress or an `HTTPRoute`, neither of which may end a stream.

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

/// What an Ingress needs so that streams live: the usual controllers cut off what is silent for a minute, and some hold
/// back what is not a full buffer. Streams say something every 15 s; an hour also covers calm `WebSocket`s.
pub(super) const STREAM_ANNOTATIONS: [(&str, &str); 6] = [
    ("nginx.ingress.kubernetes.io/proxy-buffering", "off"),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "3600"),
    ("haproxy-ingress.github.io/timeout-server", "1h"),
    ("haproxy-ingress.github.io/timeout-tunnel", "1h"),
    ("alb.ingress.kubernetes.io/load-balancer-attributes", "idle_timeout.timeout_seconds=3600"),
];

/// A host, the Service behind it, and the paths of it that are open.
struct ExposedHost<'a> {
    name: &'a str,
    component: Component,
    reader: Option<&'a str>,
    host: String,
    path: &'static str,
    /// Whether `path` is all that is open, not what paths begin with.
    exact: bool,
}

/// The way to the front door, where there is one.
pub(super) fn gateway_ingress(scope: Scope<'_>) -> Option<Object> {
    let host = scope.spec.exposure.host.clone()?;
    let name = names::component_object_name(scope.name, Component::Gateway);
    ingress_or_route(
        scope,
        &ExposedHost {
            name: &name,
            component: Component::Gateway,
            reader: None,
            host,
            path: "/",
            exact: false,
        },
    )
}

/// The way to one reader, where each has a host of its own: to its streams, and to nothing that our own processes use.
pub(super) fn reader_ingress(scope: Scope<'_>, reader: &str) -> Option<Object> {
    let host = scope.spec.exposure.reader_host(reader)?;
    let way = ExposedHost {
        name: reader,
        component: Component::Reader,
        reader: Some(reader),
        host,
        path: "/connect",
        exact: true,
    };
    ingress_or_route(scope, &way)
}

/// What viewers call a reader: its host, or the Service, which clients inside the cluster reach. An Ingress without a
/// certificate is asked without TLS; a Gateway's listeners are taken to have one.
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
    Some(Object::as_stored_by_server(kind, way.name.to_owned(), Some(way.component), reader, body))
}

fn ingress(scope: Scope<'_>, way: &ExposedHost<'_>) -> Ingress {
    let exposure = &scope.spec.exposure;
    let backend = tls::is_tls_on(scope).then_some(tls::TLS_BACKEND_ANNOTATIONS);
    let own = STREAM_ANNOTATIONS.into_iter().chain(backend.into_iter().flatten());
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut metadata = scope.metadata(way.name, Some(way.component), way.reader);
    metadata.annotations = Some(own.chain(exposure.annotations.clone()).collect::<BTreeMap<_, _>>());
    let path = HTTPIngressPath {
        path: Some(way.path.to_owned()),
        path_type: if way.exact { "Exact" } else { "Prefix" }.to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: way.name.to_owned(),
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

/// Makes an `HTTPRoute` of the Gateway API. Its types are not among Kubernetes' own.
fn http_route(scope: Scope<'_>, way: &ExposedHost<'_>) -> Value {
    let exposure = &scope.spec.exposure;
    let mut metadata = scope.metadata(way.name, Some(way.component), way.reader);
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
                "backendRefs": [{ "name": way.name, "port": way.component.http_port() }],
                // A stream's request lasts as long as the stream.
                "timeouts": { "request": "0s" },
            }],
        },
    })
}
