//! Tests the connections between components: policies, Services for viewers, routes and monitors.

use std::collections::BTreeSet;

use liverank_operator::build::{Component, Kind, names, object::annotation_value};
use liverank_operator::crd::RankingCluster;
use serde_json::json;

use crate::fixtures::{build_objects, cluster, component_settings, find_object, objects_of_kind};

#[test]
fn network_policies_allow_exactly_the_known_callers() {
    for name in ["minimal", "full"] {
        let objects = build_objects(&cluster(name));
        for component in Component::ROLL_OUT_ORDER {
            let policy = &find_object(&objects, Kind::NetworkPolicy, component).body["spec"];
            let mut allowed = BTreeSet::new();
            for rule in policy["ingress"].as_array().unwrap() {
                for peer in rule["from"].as_array().into_iter().flatten() {
                    let labels = &peer["podSelector"]["matchLabels"];
                    if peer.get("namespaceSelector").is_none() {
                        assert_eq!(rule["ports"][0]["port"], json!(component.http_port()));
                        allowed.extend(Component::parse(labels[names::COMPONENT_LABEL].as_str().unwrap()));
                    }
                }
            }
            let talkers: BTreeSet<_> = Component::ROLL_OUT_ORDER
                .into_iter()
                .filter(|other| other.talks_to().contains(&component))
                .collect();
            assert_eq!(allowed, talkers, "{}", component.name());
            let from_operator = policy["ingress"].to_string().contains("liverank-system");
            assert_eq!(from_operator, matches!(component, Component::Manager | Component::Reader));
        }
    }
    // The components that open connections are those whose configuration names another component.
    let objects = build_objects(&cluster("minimal"));
    for component in Component::ROLL_OUT_ORDER {
        let settings = component_settings(&objects, component);
        for (peer, setting) in [
            (Component::Manager, "manager-url"),
            (Component::Comment, "comment-url"),
            (Component::Websocket, "websocket-url"),
            (Component::Statistics, "statistics-url"),
        ] {
            let port = peer.http_port().filter(|_| component.talks_to().contains(&peer));
            let url = port.map(|port| {
                names::service_url(&names::component_object_name("live", peer), "tv", port, false)
            });
            assert_eq!(settings.get(setting), url.map(|url| json!(url)).as_ref(), "{}", component.name());
        }
    }
}

#[test]
fn egress_is_open_unless_networks_are_given() {
    let egress = |name: &str, component| {
        find_object(&build_objects(&cluster(name)), Kind::NetworkPolicy, component).body["spec"]["egress"]
            .clone()
    };
    assert_eq!(egress("minimal", Component::Statistics), json!([{}]));
    let port = |protocol: &str, port: u16| json!({"protocol": protocol, "port": port});
    assert_eq!(
        egress("full", Component::Statistics),
        json!([
            {"ports": [port("UDP", 53), port("TCP", 53), port("UDP", 5353), port("TCP", 5353)]},
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]},
        ])
    );
    assert_eq!(egress("full", Component::Manager).as_array().unwrap().len(), 4, "readers and statistics too");
}

#[test]
fn reader_ports_open_to_viewers_only_where_viewers_connect() {
    let mut cluster = cluster("minimal");
    let outside = |cluster: &RankingCluster| {
        let objects = build_objects(cluster);
        let rules =
            find_object(&objects, Kind::NetworkPolicy, Component::Reader).body["spec"]["ingress"].clone();
        assert_eq!(rules.as_array().unwrap().len(), 3, "our own, viewers, metrics");
        rules[1].get("from").cloned()
    };
    assert_eq!(outside(&cluster), Some(json!([{"namespaceSelector": {}}])), "clients inside the cluster");
    let edge = json!({"ipBlock": {"cidr": "192.0.2.0/24"}});
    cluster.spec.network_policy.ingress_from = vec![serde_json::from_value(edge.clone()).unwrap()];
    assert_eq!(outside(&cluster), Some(json!([edge])));
    assert_eq!(outside(&self::cluster("per-reader")), None, "from anywhere");
}

#[test]
fn routes_and_monitors_have_only_fields_of_their_definitions() {
    let routes = build_objects(&cluster("httproute"));
    let routes: Vec<_> = objects_of_kind(&routes, Kind::HttpRoute).collect();
    assert_eq!(
        routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(),
        ["live-gateway", "live-reader-0", "live-reader-3"]
    );
    assert_eq!(
        routes[1].body["spec"],
        json!({
            "parentRefs": [{"name": "public", "namespace": "edge", "sectionName": "https"}],
            "hostnames": ["live-reader-0.live.example.org"],
            "rules": [{
                "matches": [{"path": {"type": "Exact", "value": "/connect"}}],
                "backendRefs": [{"name": "live-reader-0", "port": 4001}],
                "timeouts": {"request": "0s"},
            }],
        })
    );
    let full = build_objects(&cluster("full"));
    let monitor = &objects_of_kind(&full, Kind::ServiceMonitor).next().unwrap().body["spec"];
    let fields: Vec<_> = monitor.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["endpoints", "selector", "targetLabels"]);
}

#[test]
fn an_ingress_takes_the_users_annotations_over_ours() {
    let full = build_objects(&cluster("full"));
    let ingress = find_object(&full, Kind::Ingress, Component::Gateway);
    let annotation = |key| annotation_value(&ingress.body, key);
    assert_eq!(annotation("nginx.ingress.kubernetes.io/proxy-read-timeout"), Some("7200"));
    assert_eq!(annotation("nginx.ingress.kubernetes.io/proxy-buffering"), Some("off"));
    assert_eq!(annotation("cert-manager.io/issuer"), Some("main"));
    assert_eq!(
        ingress.body["spec"]["tls"],
        json!([{"hosts": ["live.example.org"], "secretName": "live-tls"}])
    );
}
