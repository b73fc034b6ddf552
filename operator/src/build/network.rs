//! Services, and the network policies that say which pods may connect to which.

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

/// The ports at which DNS is reached: the usual port, and the port behind it if the DNS pods run unprivileged (network
/// policies see a packet after its Service was resolved).
const DNS_PORTS: [i32; 2] = [53, 5353];
/// The label with a namespace's name, which the API server itself sets on every namespace.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Returns the Service of a component other than the readers. The Service includes the admin port, for monitoring that
/// scrapes by Service.
pub(super) fn service(scope: Scope<'_>, component: Component) -> Object {
    let name = names::component_object_name(scope.name, component);
    // A consumer serves no requests: its Service is headless and only lists its admin ports.
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

/// Returns the Service of one reader. The Service lists the reader even while it is not ready: a reader that is being
/// emptied still answers the viewers that it sends elsewhere, and managers judge the state of readers by themselves.
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
    let annotations = names::without_our_keys(&scope.service_settings(component).annotations);
    ObjectMeta { annotations: Some(annotations), ..scope.metadata(name, Some(component), reader) }
}

/// Returns the spec of a Service with the user's settings. A component that serves no requests always gets type
/// `ClusterIP`; settings that fit only another type of Service are left out, because the API server would refuse them.
fn service_spec(scope: Scope<'_>, component: Component, selector: BTreeMap<String, String>) -> ServiceSpec {
    let given = scope.service_settings(component);
    let kind = given.kind.filter(|_| component.http_port().is_some()).unwrap_or(ServiceType::ClusterIp);
    let outside = kind != ServiceType::ClusterIp;
    let balanced = kind == ServiceType::LoadBalancer;
    let port = |name: &str, port: u16| ServicePort {
        name: Some(name.to_owned()),
        // Proxies choose the protocol to the backend by this field.
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

/// Returns the network policy of a component's pods: it allows the connections that the components really open, and no
/// others. Probes need no rule: a node always reaches its own pods.
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
    // Metrics contain no secrets, and no field of the resource says which pods collect them: any pod may connect.
    rules.push(rule(vec![any_pod()], ADMIN_PORT));
    rules
}

/// Returns the peers outside the cluster's own pods that may connect to a component; `None` if there are none, an empty
/// list means everybody. Viewers may connect to gateways. Viewers may connect to readers from anywhere if each reader
/// has a host of its own; otherwise only clients inside the Kubernetes cluster may connect to readers.
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

/// Returns the allowed outgoing connections: everything if the user gives no networks; otherwise DNS, the pods of the
/// cluster that the component calls, and the given networks.
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

/// Returns the peer rule for the operator's pods, which query managers for load, send them orders, and count the
/// viewers of draining readers.
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
