//! Tests Deployments: the number of pods, the pods that are replaced, and the arguments of readers.

use liverank_operator::build::{
    self, CURRENT_REVISION, Component, Input, Kind, Object, Reader, names, object::annotation_value,
};
use liverank_operator::crd::{Autoscaling, RankingCluster, ScaledBy};
use serde_json::{Value, json};

use crate::fixtures::{
    all_clusters, build_objects, cluster, container, deployment, find_object, objects_of_kind, operator, pod,
    readers,
};

#[test]
fn a_tenth_of_the_readers_may_be_evicted_at_a_time() {
    let mut cluster = cluster("minimal");
    let mut budget = |readers: u32, moved: i32, grace: i32| {
        cluster.spec.readers.rebalance.max_viewers_moved_per_minute = moved;
        cluster.spec.readers.termination_grace_period_seconds = grace;
        let name = cluster.name().to_owned();
        let readers: Vec<Reader> =
            (0..readers).map(|n| Reader { name: names::reader_name(&name, n), drain: None }).collect();
        let operator = operator();
        let input =
            Input { cluster: &cluster, revision: CURRENT_REVISION, readers: &readers, operator: &operator };
        find_object(&build::desired_objects(&input), Kind::PodDisruptionBudget, Component::Reader).body["spec"]["maxUnavailable"].clone()
    };
    // 20,000 viewers a reader, 20,000 moved in a minute: 150 s are enough for two readers, and half of a third.
    assert_eq!(budget(500, 20_000, 180), json!(2));
    assert_eq!(budget(500, 1_000_000, 180), json!(50));
    assert_eq!(budget(11, 1_000_000, 180), json!(2));
    assert_eq!(budget(2, 1_000_000, 180), json!(1));
    assert_eq!(budget(0, 1, 30), json!(1), "a node must be drained sometime");
}

#[test]
fn a_component_has_the_disruption_budget_that_the_resource_gives_it() {
    let objects = build_objects(&cluster("full"));
    for (component, most) in [
        (Component::Gateway, json!("25%")),
        (Component::Websocket, json!(2)),
        (Component::Consumer, json!(2)),
        (Component::Manager, json!("50%")),
        (Component::Statistics, json!(0)),
        (Component::Reader, json!(4)),
    ] {
        let budget = find_object(&objects, Kind::PodDisruptionBudget, component);
        assert_eq!(budget.body["spec"]["maxUnavailable"], most, "{}", component.name());
    }
}

#[test]
fn times_of_probes_replace_the_operators_one_by_one() {
    let times = |cluster: &str| {
        let objects = build_objects(&self::cluster(cluster));
        let container = container(find_object(&objects, Kind::Deployment, Component::Manager));
        [container.startup_probe, container.readiness_probe, container.liveness_probe].map(|probe| {
            let probe = probe.unwrap();
            let path = probe.http_get.unwrap().path.unwrap();
            (path, probe.period_seconds, probe.timeout_seconds, probe.failure_threshold)
        })
    };
    let of = |path: &str, period: i32, timeout: i32, failures: i32| {
        (path.to_owned(), Some(period), Some(timeout), Some(failures))
    };
    assert_eq!(times("minimal"), [of("/livez", 1, 5, 120), of("/readyz", 5, 3, 2), of("/livez", 10, 5, 3)]);
    assert_eq!(times("full"), [of("/livez", 1, 5, 300), of("/readyz", 2, 2, 4), of("/livez", 20, 10, 3)]);
}

#[test]
fn replicas_are_left_to_the_autoscaler_where_there_is_one() {
    let mut cluster = cluster("minimal");
    let replicas = |cluster: &RankingCluster, component| {
        find_object(&build_objects(cluster), Kind::Deployment, component).body["spec"]
            .get("replicas")
            .cloned()
    };
    assert_eq!(replicas(&cluster, Component::Gateway), Some(json!(2)), "where nothing is said");
    cluster.spec.gateway.replicas = Some(5);
    assert_eq!(replicas(&cluster, Component::Gateway), Some(json!(5)));
    cluster.spec.gateway.replicas = None;
    cluster.spec.gateway.autoscaling = Some(Autoscaling {
        min_replicas: 1,
        max_replicas: 4,
        target_cpu_utilization: 70,
        scale_down_stabilization_seconds: 300,
        metrics: Vec::new(),
        behavior: None,
    });
    assert_eq!(replicas(&cluster, Component::Gateway), None);
    assert_eq!(replicas(&cluster, Component::Websocket), Some(json!(2)));
    let objects = build_objects(&cluster);
    let autoscaler = &find_object(&objects, Kind::HorizontalPodAutoscaler, Component::Gateway).body["spec"];
    assert_eq!(autoscaler["scaleTargetRef"]["name"], json!("live-gateway"));
    let in_turn = json!([{"type": "Pods", "value": 1, "periodSeconds": 60}]);
    assert_eq!(autoscaler["behavior"]["scaleDown"]["policies"], in_turn);
    assert_eq!(objects_of_kind(&objects, Kind::HorizontalPodAutoscaler).count(), 1);
}

#[test]
fn metrics_and_behavior_of_the_resource_take_the_place_of_ours() {
    let objects = build_objects(&cluster("monitored"));
    let spec = &find_object(&objects, Kind::HorizontalPodAutoscaler, Component::Gateway).body["spec"];
    assert_eq!(spec["metrics"].as_array().map(Vec::len), Some(1));
    assert_eq!(spec["metrics"][0]["pods"]["metric"]["name"], json!("liverank_gateway_streams"));
    assert_eq!(
        spec["metrics"][0]["pods"]["target"]["averageValue"],
        json!("20k"),
        "as the API server stores it"
    );
    assert_eq!(spec["behavior"], json!({"scaleUp": {"stabilizationWindowSeconds": 60}}));
}

#[test]
fn a_service_monitor_has_the_labels_that_a_prometheus_selects_by() {
    let objects = build_objects(&cluster("monitored"));
    let monitor = objects_of_kind(&objects, Kind::ServiceMonitor).next().unwrap();
    let labels = &monitor.body["metadata"]["labels"];
    assert_eq!(labels["release"], json!("kube-prometheus-stack"));
    assert_eq!(labels["app.kubernetes.io/instance"], json!("live"), "ours stay");
    let endpoint = &monitor.body["spec"]["endpoints"][0];
    assert_eq!(endpoint["interval"], json!("15s"));
    assert_eq!(endpoint["relabelings"][0]["targetLabel"], json!("cell"));
}

#[test]
fn replicas_are_left_to_others_where_the_resource_says_so() {
    let mut cluster = cluster("minimal");
    cluster.spec.gateway.scaled_by = ScaledBy::Others;
    cluster.spec.consumer.scaled_by = ScaledBy::Others;
    let objects = build_objects(&cluster);
    for (component, has) in
        [(Component::Gateway, false), (Component::Consumer, false), (Component::Websocket, true)]
    {
        let spec = &find_object(&objects, Kind::Deployment, component).body["spec"];
        assert_eq!(spec.get("replicas").is_some(), has, "{}", component.name());
    }
    assert_eq!(objects_of_kind(&objects, Kind::HorizontalPodAutoscaler).count(), 0);
}

#[test]
fn all_readers_have_one_template_hash_and_names_of_their_own() {
    for (cluster, objects) in all_clusters() {
        let (readers, operator) = (readers(&cluster), operator());
        let input =
            Input { cluster: &cluster, revision: CURRENT_REVISION, readers: &readers, operator: &operator };
        let wanted = build::reader_template_hash(&input);
        for object in objects_of_kind(&objects, Kind::Deployment).filter(|object| object.reader.is_some()) {
            assert_eq!(object.template_hash(), Some(wanted.as_str()));
            assert_eq!(object.body["spec"]["strategy"], json!({"type": "Recreate"}));
            let args = container(object).args.unwrap();
            assert!(args.contains(&format!("--reader-id={}", object.name)));
            let name = &object.name;
            let url = if cluster.spec.tls.is_some() {
                format!("https://{name}.tv.svc:4001")
            } else {
                format!("http://{name}.tv:4001")
            };
            assert!(args.contains(&format!("--internal-url={url}")));
        }
    }
}

#[test]
fn readers_are_told_where_viewers_find_them() {
    let url = |cluster: &RankingCluster| {
        let objects = build_objects(cluster);
        let args = container(find_object(&objects, Kind::Deployment, Component::Reader)).args.unwrap();
        args.iter().find_map(|arg| arg.strip_prefix("--public-url=")).unwrap().to_owned()
    };
    assert_eq!(url(&cluster("minimal")), "http://live-reader-0.tv:4001");
    assert_eq!(url(&cluster("httproute")), "https://live-reader-0.live.example.org");
    let mut ingress = cluster("per-reader");
    assert_eq!(url(&ingress), "https://live-reader-0.live.example.org");
    ingress.spec.exposure.tls_secret = None;
    assert_eq!(url(&ingress), "http://live-reader-0.live.example.org");
}

#[test]
fn a_held_deployment_keeps_its_template_and_nothing_else() {
    let mut cluster = cluster("minimal");
    let mut live = find_object(&build_objects(&cluster), Kind::Deployment, Component::Gateway).body.clone();
    live["spec"]["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
    live["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    cluster.spec.image = "registry.example.org/liverank:2.0.0".to_owned();
    cluster.spec.gateway.replicas = Some(7);
    let objects = build_objects(&cluster);
    let wanted = find_object(&objects, Kind::Deployment, Component::Gateway);
    let live_hash = annotation_value(&live, names::TEMPLATE_HASH_ANNOTATION);
    assert_ne!(wanted.template_hash(), live_hash);
    let kept = wanted.with_template_of(&live);
    assert_eq!(kept.template_hash(), live_hash, "still known to be the old one");
    assert_eq!(kept.body["spec"]["replicas"], json!(7));
    let template = &kept.body["spec"]["template"];
    assert_eq!(template["spec"], live["spec"]["template"]["spec"]);
    assert!(template["metadata"].get("creationTimestamp").is_none());
    // An object without a template is unchanged.
    let service = find_object(&objects, Kind::Service, Component::Gateway);
    assert_eq!(&service.with_template_of(&live), service);
}

#[test]
fn a_draining_reader_says_so_and_its_pod_does_not_restart_for_it() {
    let cluster = cluster("minimal");
    let objects = build_objects(&cluster);
    let of =
        |name: &str| objects_of_kind(&objects, Kind::Deployment).find(|object| object.name == name).unwrap();
    let leaving = of("live-reader-3");
    assert_eq!(annotation_value(&leaving.body, names::DRAIN_ANNOTATION), Some("scale-down"));
    assert_eq!(annotation_value(&leaving.body, names::DRAIN_SINCE_ANNOTATION), Some("2026-03-01T12:30:00Z"));
    assert_eq!(annotation_value(&of("live-reader-0").body, names::DRAIN_ANNOTATION), None);
    assert!(!json!(deployment(leaving).spec).to_string().contains("scale-down"));
}

#[test]
fn pods_of_earlier_revisions_stay_as_they_are_and_later_ones_prefer_other_zones() {
    let cluster = cluster("minimal");
    let places = |revision: u32| -> Vec<(Vec<String>, Vec<String>)> {
        let operator = operator();
        let readers = readers(&cluster);
        let input = Input { cluster: &cluster, revision, readers: &readers, operator: &operator };
        let objects = build::desired_objects(&input);
        let of = |object: &Object| {
            let pod = pod(object);
            let constraints = pod.topology_spread_constraints.unwrap();
            let apart = pod.affinity.and_then(|affinity| affinity.pod_anti_affinity);
            let preferred =
                apart.and_then(|apart| apart.preferred_during_scheduling_ignored_during_execution);
            (
                constraints.into_iter().map(|it| it.topology_key).collect::<Vec<_>>(),
                preferred.into_iter().flatten().map(|it| it.pod_affinity_term.topology_key).collect(),
            )
        };
        objects_of_kind(&objects, Kind::Deployment).map(of).collect()
    };
    let (host, zone) = ("kubernetes.io/hostname".to_owned(), "topology.kubernetes.io/zone".to_owned());
    let all_are = |revision: u32, constraints: &[&String], preferred: &[&String]| {
        let same = |some: &[String], wanted: &[&String]| some.iter().collect::<Vec<_>>() == wanted;
        places(revision).iter().all(|(keys, zones)| same(keys, constraints) && same(zones, preferred))
    };
    assert!(all_are(1, &[&host], &[]));
    assert!(all_are(2, &[&host, &zone], &[]));
    assert!(all_are(3, &[&host], &[&zone]), "a constraint over zones takes the one over hosts with it");
}

#[test]
fn who_says_how_pods_spread_is_left_alone() {
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    ]}});
    let near = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
    ]}}});
    let affinity = |pod_template: Value| {
        let mut cluster = cluster("minimal");
        cluster.spec.gateway.pod = serde_json::from_value(pod_template).unwrap();
        let objects = build_objects(&cluster);
        let gateway =
            objects_of_kind(&objects, Kind::Deployment).find(|it| it.name == "live-gateway").unwrap();
        serde_json::to_value(pod(gateway).affinity).unwrap()
    };
    assert_eq!(affinity(json!({"affinity": apart})), apart);
    assert_eq!(affinity(json!({"affinity": near, "topologySpread": []})), near);
    let merged = affinity(json!({"affinity": near}));
    assert_eq!(merged["nodeAffinity"], near["nodeAffinity"]);
    let preferred =
        "/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm/topologyKey";
    assert_eq!(merged.pointer(preferred), Some(&json!("topology.kubernetes.io/zone")));
}

#[test]
fn another_revision_of_the_builder_restarts_everything_that_there_is() {
    for (cluster, _) in all_clusters() {
        let pending =
            |newest| build::components_restarted_by_revision(&cluster, CURRENT_REVISION, newest, &operator());
        assert!(pending(CURRENT_REVISION).is_empty());
        assert_eq!(pending(CURRENT_REVISION + 1), Component::enabled_components(&cluster.spec).collect());
    }
}
