//! Services, and who may reach whom.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::scope::Scope;
use super::{ADMIN_PORT, Component, Kind, Object, names, tls};
use crate::crd::{ReaderExposure, ServiceType};

/// Where DNS is asked: the usual port, and the one behind it where the DNS pods run unprivileged (policies see a
/// packet after its Service was resolved).
const DNS_PORTS: [i32; 2] = [53, 5353];
/// The label that the API server itself puts on a namespace: its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The Service of a component that is not readers. The admin port is in it for what is scraped by Service.
pub(super) fn service(scope: Scope<'_>, component: Component) -> Object {
    let name = names::component_object_name(scope.name, component);
    // Nobody asks a consumer anything: its Service is but a list of its admin ports.
    let headless = component.http_port().is_none().then(|| "None".to_owned());
    let typed = Service {
        metadata: service_metadata(scope, &name, component, None),
        spec: Some(ServiceSpec {
            cluster_ip: headless,
            ..service_spec(scope, component, names::pod_selector(scope.name, Some(component)))
        }),
        status: None,
    };
    Object::of(Kind::Service, &name, Some(component), &typed)
}

/// The Service of one reader. It lists the reader while it is not ready too: one that is leaving still answers those
/// whom it sends elsewhere, and managers judge readers by themselves.
pub(super) fn reader_service(scope: Scope<'_>, reader: &str) -> Object {
    let typed = Service {
        metadata: service_metadata(scope, reader, Component::Reader, Some(reader)),
        spec: Some(ServiceSpec {
            publish_not_ready_addresses: Some(true),
            ..service_spec(scope, Component::Reader, names::reader_selector(scope.name, reader))
        }),
        status: None,
    };
    Object::of_reader(Kind::Service, reader, &typed)
}

fn service_metadata(scope: Scope<'_>, name: &str, component: Component, reader: Option<&str>) -> ObjectMeta {
    let annotations = names::without_our_keys(&scope.service(component).annotations);
    ObjectMeta { annotations: Some(annotations), ..scope.metadata(name, Some(component), reader) }
}

/// A Service as the user wants it. What nobody connects to has no address, whatever is said of it; what is only for
/// another type of Service is left out, for the API server would refuse it.
fn service_spec(scope: Scope<'_>, component: Component, selector: BTreeMap<String, String>) -> ServiceSpec {
    let given = scope.service(component);
    let kind = given.kind.filter(|_| component.http_port().is_some()).unwrap_or(ServiceType::ClusterIp);
    let outside = kind != ServiceType::ClusterIp;
    let balanced = kind == ServiceType::LoadBalancer;
    let port = |name: &str, port: u16| ServicePort {
        name: Some(name.to_owned()),
        // Proxies that choose by it how they speak to what is behind.
        app_protocol: tls::is_tls_on(scope).then(|| "https".to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let http = component.http_port().map(|http| port("http", http));
    ServiceSpec {
        type_: Some(kind.as_str().to_owned()),
        ip_family_policy: given.ip_family_policy.map(|it| it.as_str().to_owned()),
        ip_families: Some(given.ip_families.iter().map(|it| it.as_str().to_owned()).collect()),
        traffic_distribution: given.traffic_distribution.clone(),
        external_traffic_policy: given
            .external_traffic_policy
            .filter(|_| outside)
            .map(|it| it.as_str().to_owned()),
        load_balancer_class: given.load_balancer_class.clone().filter(|_| balanced),
        load_balancer_source_ranges: balanced.then(|| given.load_balancer_source_ranges.clone()),
        selector: Some(selector),
        ports: Some(http.into_iter().chain([port("admin", ADMIN_PORT)]).collect()),
        ..ServiceSpec::default()
    }
}

/// The policy of a component's pods: who really talks to them, and whom they really talk to. Probes need no rule: a
/// node always reaches its own pods.
pub(super) fn network_policy(scope: Scope<'_>, component: Component) -> Object {
    let name = names::component_object_name(scope.name, component);
    let typed = NetworkPolicy {
        metadata: scope.metadata(&name, Some(component), None),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(scope.selector(component)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress(scope, component)),
            egress: Some(egress(scope, component)),
        }),
    };
    Object::of(Kind::NetworkPolicy, &name, Some(component), &typed)
}

fn ingress(scope: Scope<'_>, component: Component) -> Vec<NetworkPolicyIngressRule> {
    let rule = |from: Vec<NetworkPolicyPeer>, port: u16| NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(vec![tcp_port(port.into())]),
    };
    let mut rules = Vec::new();
    if let Some(port) = component.http_port() {
        let mut inside: Vec<_> = scope
            .components()
            .filter(|other| other.talks_to().contains(&component))
            .map(|other| pods_of(scope, other))
            .collect();
        if matches!(component, Component::Manager | Component::Reader) {
            inside.push(operator_pods(scope));
        }
        if !inside.is_empty() {
            rules.push(rule(inside, port));
        }
        rules.extend(outside_peers(scope, component).map(|from| rule(from, port)));
    }
    // Metrics hold no secrets, and who collects them stands in no field of ours.
    rules.push(rule(vec![any_pod()], ADMIN_PORT));
    rules
}

/// Who may come in from elsewhere, if anybody; an empty list is everybody. Viewers reach the front door, and their
/// reader where they connect to it directly: from anywhere with a host per reader, else as clients inside the cluster do
/// who ask the managers for their reader.
fn outside_peers(scope: Scope<'_>, component: Component) -> Option<Vec<NetworkPolicyPeer>> {
    let given = scope.spec.network_policy.ingress_from.clone();
    match component {
        Component::Gateway => Some(given),
        Component::Reader => {
            let direct = scope.spec.exposure.readers == ReaderExposure::PerReader;
            Some(if given.is_empty() && !direct { vec![any_pod()] } else { given })
        }
        _ => None,
    }
}

/// Without networks given, everything; else DNS, the own pods and those networks.
fn egress(scope: Scope<'_>, component: Component) -> Vec<NetworkPolicyEgressRule> {
    let cidrs = &scope.spec.network_policy.egress_cidrs;
    if cidrs.is_empty() {
        return vec![NetworkPolicyEgressRule::default()];
    }
    let dns = NetworkPolicyEgressRule {
        to: None,
        ports: Some(
            DNS_PORTS.into_iter().flat_map(|port| [policy_port("UDP", port), tcp_port(port)]).collect(),
        ),
    };
    let peers = component.talks_to().iter().filter(|peer| peer.is_enabled(scope.spec)).map(|peer| {
        NetworkPolicyEgressRule {
            to: Some(vec![pods_of(scope, *peer)]),
            ports: peer.http_port().map(|port| vec![tcp_port(port.into())]),
        }
    });
    let block = |cidr: &String| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.clone(), except: None }),
        ..NetworkPolicyPeer::default()
    };
    let stores = NetworkPolicyEgressRule { to: Some(cidrs.iter().map(block).collect()), ports: None };
    [dns].into_iter().chain(peers).chain([stores]).collect()
}

fn pods_of(scope: Scope<'_>, component: Component) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(scope.selector(component)), ..NetworkPolicyPeer::default() }
}

/// The operator's pods, which ask managers for load and give them orders, and count draining readers' viewers.
fn operator_pods(scope: Scope<'_>) -> NetworkPolicyPeer {
    let facts = scope.input.operator;
    let selector = |labels: BTreeMap<String, String>| LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    };
    NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::from([(
            NAMESPACE_NAME_LABEL.to_owned(),
            facts.namespace.clone(),
        )]))),
        pod_selector: (!facts.labels.is_empty()).then(|| selector(facts.labels.clone())),
        ip_block: None,
    }
}

fn any_pod() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

fn tcp_port(port: i32) -> NetworkPolicyPort {
    policy_port("TCP", port)
}

fn policy_port(protocol: &str, port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(port)),
        end_port: None,
    }
}
