//! Tests TLS of the pods: their settings, and that no port speaks plain HTTP beside TLS.

use liverank_operator::build::{self, Component, Kind, Object};
use liverank_operator::crd::RankingClusterSpec;
use serde_json::{Value, json};

use crate::fixtures::{build_objects, cluster};

fn objects_of_kind(objects: &[Object], kind: Kind) -> impl Iterator<Item = &Object> {
    objects.iter().filter(move |object| object.kind == kind)
}

fn component_settings(objects: &[Object], component: Component) -> Value {
    let file = objects_of_kind(objects, Kind::ConfigMap).find(|it| it.component == Some(component)).unwrap();
    serde_yaml::from_str(file.body["data"]["config.yaml"].as_str().unwrap()).unwrap()
}

#[test]
fn every_port_takes_tls_and_nobody_asks_in_plain_text() {
    for name in ["tls", "full"] {
        let objects = build_objects(&cluster(name));
        for component in Component::ROLL_OUT_ORDER {
            let settings = component_settings(&objects, component);
            let public = name == "full" && component == Component::Gateway;
            let folder = if public { "/etc/liverank/tls-public" } else { "/etc/liverank/tls" };
            assert_eq!(settings["tls-cert-file"], json!(format!("{folder}/tls.crt")), "{}", component.name());
            assert_eq!(settings["tls-key-file"], json!(format!("{folder}/tls.key")));
            assert_eq!(
                settings.get("peer-cert-file").is_some(),
                public,
                "what is shown to the others is internal"
            );
            // Viewers, the operator and people have no certificate.
            let ours = matches!(component, Component::Comment | Component::Websocket | Component::Statistics);
            assert_eq!(settings.get("tls-client-ca-file").is_some(), ours, "{}", component.name());
            for (key, value) in settings.as_object().unwrap() {
                let reader = key == "reader-urls";
                assert!(!value.to_string().contains("http://"), "{} has {key}: {value}", component.name());
                assert!(!reader || value[0] == "https://{reader}.tv.svc:4001", "{value}");
            }
            // Components that call others verify them by their authority.
            assert_eq!(settings.get("peer-ca-file").is_some(), !component.talks_to().is_empty());
        }
        for deployment in objects_of_kind(&objects, Kind::Deployment) {
            let pod = &deployment.body["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                assert_eq!(container[probe]["httpGet"]["scheme"], json!("HTTPS"), "{}", deployment.name);
            }
            assert!(!container["args"].to_string().contains("http://"), "{}", container["args"]);
            let volumes = pod["volumes"].as_array().unwrap();
            let tls = volumes.iter().find(|volume| volume["name"] == "liverank-tls").unwrap();
            assert_eq!(tls["secret"]["secretName"], json!("live-internal"));
            let keys: Vec<&Value> =
                tls["secret"]["items"].as_array().unwrap().iter().map(|it| &it["key"]).collect();
            assert_eq!(keys, ["tls.crt", "tls.key", "ca.crt"], "a missing one is told by the kubelet");
            let public = volumes.iter().any(|volume| volume["name"] == "liverank-tls-public");
            assert_eq!(public, name == "full" && deployment.component == Some(Component::Gateway));
        }
        for service in objects_of_kind(&objects, Kind::Service) {
            let ports = service.body["spec"]["ports"].as_array().unwrap();
            assert!(ports.iter().all(|port| port["appProtocol"] == "https"), "{}", service.name);
        }
        for ingress in objects_of_kind(&objects, Kind::Ingress) {
            let annotations = &ingress.body["metadata"]["annotations"];
            assert_eq!(annotations["nginx.ingress.kubernetes.io/backend-protocol"], json!("HTTPS"));
            for (key, value) in
                annotations.as_object().unwrap().iter().filter(|(key, _)| key.ends_with("protocol"))
            {
                assert!(
                    build::is_own_annotation(key, value.as_str().unwrap()),
                    "authors need no right to {key}"
                );
            }
        }
        let monitor = objects_of_kind(&objects, Kind::ServiceMonitor).next().unwrap();
        assert_eq!(
            monitor.body["spec"]["endpoints"],
            json!([{"port": "admin", "path": "/metrics", "scheme": "https", "tlsConfig": {
                "ca": {"secret": {"name": "live-internal", "key": "ca.crt"}}, "serverName": "live-gateway.tv.svc"}}])
        );
    }
}

/// The table of `docs/rollouts.md` cannot show this: only the operator uses the authorities, so that new ones restart
/// nothing.
#[test]
fn another_tls_secret_restarts_its_users_and_another_ca_nobody() {
    let spec = cluster("full").spec;
    let with = |change: &dyn Fn(&mut RankingClusterSpec)| {
        let mut changed = spec.clone();
        change(&mut changed);
        build::restarted_components(&spec, &changed)
    };
    let tls = |spec: &mut RankingClusterSpec| spec.tls.clone().unwrap();
    let authority = with(&|spec| {
        let mut tls = tls(spec);
        tls.internal.ca_bundle.push('x');
        spec.tls = Some(tls);
    });
    assert!(authority.is_empty(), "{authority:?}");
    let public = with(&|spec| spec.tls = Some(liverank_operator::crd::Tls { public: None, ..tls(spec) }));
    assert_eq!(public, [Component::Gateway].into());
    assert_eq!(with(&|spec| spec.tls = None), Component::ROLL_OUT_ORDER.into());
}
