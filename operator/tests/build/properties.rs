//! What holds for the objects of every cluster.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use liverank_operator::build::{
    self, CURRENT, Component, Input, Kind, Object, Reader, Store, names, object::annotation_of,
};
use liverank_operator::crd::{Autoscaling, Jwks, RankingCluster, ScaledBy};
use liverank_protocol::roles;
use serde_json::{Value, json};

use crate::fixtures::{CLUSTERS, built, cluster, operator, readers};

fn all() -> impl Iterator<Item = (RankingCluster, Vec<Object>)> {
    CLUSTERS.into_iter().map(|name| {
        let cluster = cluster(name);
        let objects = built(&cluster);
        (cluster, objects)
    })
}

fn of_kind(objects: &[Object], kind: Kind) -> impl Iterator<Item = &Object> {
    objects.iter().filter(move |object| object.kind == kind)
}

fn one(objects: &[Object], kind: Kind, component: Component) -> &Object {
    of_kind(objects, kind).find(|object| object.component == Some(component)).unwrap()
}

fn deployment(object: &Object) -> Deployment {
    serde_json::from_value(object.body.clone()).unwrap()
}

fn pod(object: &Object) -> PodSpec {
    deployment(object).spec.unwrap().template.spec.unwrap()
}

fn container(object: &Object) -> Container {
    pod(object).containers.remove(0)
}

/// The settings in a component's file.
fn settings(objects: &[Object], component: Component) -> Value {
    let data = &one(objects, Kind::ConfigMap, component).body["data"];
    serde_yaml::from_str(data["config.yaml"].as_str().unwrap()).unwrap()
}

#[test]
fn every_component_is_told_where_traces_go_and_none_hears_of_them_otherwise() {
    for (mut cluster, objects) in all() {
        let configs = |objects: &[Object]| -> Vec<Value> {
            let files =
                of_kind(objects, Kind::ConfigMap).filter_map(|it| it.body["data"]["config.yaml"].as_str());
            files.map(|file| serde_yaml::from_str(file).unwrap()).collect()
        };
        let names = ["otlp-endpoint", "trace-ratio", "traces-per-minute"];
        let without = configs(&objects);
        assert!(without.iter().all(|file| names.iter().all(|name| file.get(name).is_none())));
        let endpoint = "http://collector.monitoring:4318";
        let tracing = json!({"endpoint": endpoint, "samplingRatePerMillion": 2_500});
        cluster.spec.monitoring.tracing = Some(serde_json::from_value(tracing).unwrap());
        let with = configs(&built(&cluster));
        assert!(with.len() == without.len() && !with.is_empty());
        for (mut file, before) in with.into_iter().zip(without) {
            let own = names.map(|name| file.as_object_mut().unwrap().remove(name).unwrap());
            assert_eq!(own, [json!(endpoint), json!("0.0025"), json!(600)]);
            assert_eq!(file, before, "nothing else changes");
        }
    }
}

#[test]
fn the_same_cluster_gives_the_same_objects_each_once() {
    for (cluster, objects) in all() {
        assert_eq!(built(&cluster), objects);
        let again: RankingCluster = serde_json::from_value(serde_json::to_value(&cluster).unwrap()).unwrap();
        assert_eq!(built(&again), objects, "as the API server gives it back");
        let names: BTreeSet<_> = objects.iter().map(|object| (object.kind, &object.name)).collect();
        assert_eq!(names.len(), objects.len());
        assert!(objects.is_sorted_by_key(|object| object.kind), "in the order of applying");
    }
}

#[test]
fn every_object_says_whose_it_is_and_carries_nothing_of_the_servers() {
    for (cluster, objects) in all() {
        for object in &objects {
            let resource = object.kind.resource();
            assert_eq!(object.body["apiVersion"], json!(resource.api_version));
            assert_eq!(object.body["kind"], json!(resource.kind));
            assert!(object.body.get("status").is_none());
            let metadata = object.body["metadata"].as_object().unwrap();
            let allowed = ["name", "namespace", "labels", "annotations", "ownerReferences"];
            assert!(metadata.keys().all(|key| allowed.contains(&key.as_str())), "{metadata:?}");
            assert_eq!(metadata["name"], json!(object.name));
            assert_eq!(metadata["namespace"], json!("tv"));
            assert_eq!(
                metadata["ownerReferences"],
                json!([{
                    "apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster", "name": "live",
                    "uid": cluster.uid(), "controller": true, "blockOwnerDeletion": false,
                }])
            );
            let component = object.component.map_or(names::SHARED, Component::name);
            let mut labels = json!({
                names::NAME: "liverank", names::INSTANCE: "live", names::MANAGED_BY: "liverank-operator",
                names::COMPONENT: component,
            });
            if let Some(reader) = &object.reader {
                labels[names::READER] = json!(reader);
            }
            assert_eq!(metadata["labels"], labels, "{}", object.name);
        }
    }
}

#[test]
fn nothing_is_written_that_the_server_would_not_store() {
    fn check(at: &str, value: &Value) {
        match value {
            Value::Null => panic!("{at} is null"),
            Value::Array(items) => {
                assert!(!items.is_empty(), "{at} is an empty list");
                for item in items {
                    check(at, item);
                }
            }
            Value::Object(fields) => {
                // An empty selector is everything, an empty rule too.
                let everything = ["namespaceSelector", "podSelector", "egress"];
                assert!(
                    !fields.is_empty() || everything.iter().any(|end| at.ends_with(end)),
                    "{at} is empty"
                );
                fields.iter().for_each(|(key, value)| check(&format!("{at}.{key}"), value));
            }
            _ => {}
        }
    }
    for (_, objects) in all() {
        for object in &objects {
            check(&object.name, &object.body);
        }
    }
    let full = built(&cluster("full"));
    let resources = container(one(&full, Kind::Deployment, Component::Gateway)).resources;
    assert_eq!(
        json!(resources),
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}})
    );
}

#[test]
fn empty_parts_of_what_a_user_gives_are_left_out() {
    let mut cluster = cluster("minimal");
    let pod = json!({
        "resources": {"limits": {}}, "topologySpread": [], "annotations": {},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
    });
    cluster.spec.gateway.pod = serde_json::from_value(pod).unwrap();
    let objects = built(&cluster);
    let spec = &one(&objects, Kind::Deployment, Component::Gateway).body["spec"]["template"]["spec"];
    assert_eq!(spec["affinity"], json!({"podAntiAffinity": {}}));
    assert!(spec.get("topologySpreadConstraints").is_none(), "an empty list means not at all");
    assert_eq!(spec["containers"][0]["resources"], json!({"requests": {"cpu": "100m", "memory": "128Mi"}}));
}

#[test]
fn every_pod_is_restricted_and_knows_nothing_of_the_api_server() {
    for (_, objects) in all() {
        for object in of_kind(&objects, Kind::Deployment) {
            let pod = pod(object);
            assert_eq!(pod.automount_service_account_token, Some(false));
            assert_eq!(pod.enable_service_links, Some(false));
            // One for each component and each reader, called as the Deployment.
            assert_eq!(pod.service_account_name.as_deref(), Some(object.name.as_str()));
            let accounts: Vec<&str> =
                of_kind(&objects, Kind::ServiceAccount).map(|account| account.name.as_str()).collect();
            assert!(accounts.contains(&object.name.as_str()), "{} in {accounts:?}", object.name);
            assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
            let context = pod.security_context.unwrap();
            assert_eq!(context.run_as_non_root, Some(true));
            assert_eq!(context.run_as_user, Some(65532));
            assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
            for container in &pod.containers {
                let context = container.security_context.as_ref().unwrap();
                assert_eq!(context.allow_privilege_escalation, Some(false));
                assert_eq!(context.read_only_root_filesystem, Some(true));
                assert_eq!(json!(context.capabilities), json!({"drop": ["ALL"]}));
                assert!(context.privileged.is_none());
            }
            // Of what `restricted` lets in, all that we need.
            let audience = |volume: &Value| {
                volume["projected"]["sources"][0]["serviceAccountToken"]["audience"]
                    .as_str()
                    .map(str::to_owned)
            };
            let kinds = |volume: &Value| {
                volume["configMap"].is_object()
                    || volume["secret"].is_object()
                    || audience(volume).is_some_and(|audience| audience == "liverank.dev/tv/live")
            };
            assert!(pod.volumes.iter().flatten().all(|volume| kinds(&json!(volume))));
        }
        for account in of_kind(&objects, Kind::ServiceAccount) {
            assert_eq!(account.body["automountServiceAccountToken"], json!(false));
        }
    }
}

#[test]
fn names_fit_for_the_longest_cluster() {
    let mut cluster = cluster("full");
    cluster.metadata.name = Some("l".repeat(names::MAX_CLUSTER_NAME));
    // The most readers that there can be, and those of an upgrade beside them.
    let reader = Reader { name: names::reader(cluster.name(), 520), drain: None };
    let input = Input {
        cluster: &cluster,
        revision: CURRENT,
        readers: std::slice::from_ref(&reader),
        operator: &operator(),
    };
    for object in build::desired(&input) {
        assert!(object.name.len() <= 63, "{}", object.name);
        let labels = object.body["metadata"]["labels"].as_object().unwrap();
        assert!(labels.values().all(|value| value.as_str().unwrap().len() <= 63));
        if object.kind == Kind::Deployment {
            let labels = deployment(&object).spec.unwrap().template.metadata.unwrap().labels.unwrap();
            assert!(labels.values().all(|value| value.len() <= 63));
        }
    }
}

#[test]
fn selectors_find_their_own_pods_and_no_others() {
    for (_, objects) in all() {
        let templates: Vec<_> = of_kind(&objects, Kind::Deployment)
            .map(|object| (object.name.clone(), deployment(object).spec.unwrap()))
            .map(|(name, spec)| (name, spec.selector, spec.template.metadata.unwrap().labels.unwrap()))
            .collect();
        let found = |selector: &Value| -> Vec<&str> {
            let wanted = selector.as_object().unwrap();
            let fits = |labels: &std::collections::BTreeMap<String, String>| {
                wanted.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
            };
            templates.iter().filter(|(_, _, labels)| fits(labels)).map(|(name, ..)| name.as_str()).collect()
        };
        for (name, selector, _) in &templates {
            assert_eq!(found(&json!(selector.match_labels)), [name.as_str()]);
        }
        for object in of_kind(&objects, Kind::Service) {
            assert_eq!(found(&object.body["spec"]["selector"]), [object.name.as_str()]);
        }
        for (kind, path) in [
            (Kind::PodDisruptionBudget, "/spec/selector/matchLabels"),
            (Kind::NetworkPolicy, "/spec/podSelector/matchLabels"),
        ] {
            for object in of_kind(&objects, kind) {
                let pods = found(object.body.pointer(path).unwrap());
                if object.component == Some(Component::Reader) {
                    assert_eq!(pods, ["live-reader-0", "live-reader-3"], "one for all readers");
                } else {
                    assert_eq!(pods, [object.name.as_str()]);
                }
            }
        }
    }
}

#[test]
fn ports_of_services_and_probes_are_ports_of_the_pods() {
    for (_, objects) in all() {
        for service in of_kind(&objects, Kind::Service) {
            let deployment = of_kind(&objects, Kind::Deployment).find(|it| it.name == service.name).unwrap();
            let container = container(deployment);
            let ports: Vec<_> =
                container.ports.unwrap().iter().map(|port| json!([port.name, port.container_port])).collect();
            let served: Vec<_> = service.body["spec"]["ports"]
                .as_array()
                .unwrap()
                .iter()
                .map(|port| json!([port["targetPort"], port["port"]]))
                .collect();
            assert_eq!(ports, served);
            let probes = [container.startup_probe, container.readiness_probe, container.liveness_probe];
            let paths: Vec<_> = probes
                .into_iter()
                .map(|probe| probe.unwrap().http_get.unwrap())
                .map(|get| (get.path.unwrap(), json!(get.port)))
                .collect();
            let admin = |path: &str| (path.to_owned(), json!("admin"));
            assert_eq!(paths, [admin("/livez"), admin("/readyz"), admin("/livez")]);
            let settings = settings(&objects, service.component.unwrap());
            assert_eq!(settings["admin-listen"], json!("0.0.0.0:9060"));
            let listen = service.component.unwrap().http_port().map(|port| format!("0.0.0.0:{port}"));
            assert_eq!(settings.get("listen"), listen.map(Value::from).as_ref());
        }
    }
}

#[test]
fn a_pod_has_time_to_drain() {
    for drain in [5, 60, 600] {
        for grace in [30, 600] {
            let mut cluster = cluster("minimal");
            for front in
                [&mut cluster.spec.gateway, &mut cluster.spec.websocket, &mut cluster.spec.comment.front]
            {
                front.drain_seconds = drain;
            }
            cluster.spec.readers.termination_grace_period_seconds = grace;
            let objects = built(&cluster);
            for object in of_kind(&objects, Kind::Deployment) {
                let component = object.component.unwrap();
                let told = settings(&objects, component)["drain-seconds"].as_i64().unwrap();
                let pod = pod(object);
                let sleep = pod.containers[0].lifecycle.as_ref().map_or(0, |lifecycle| {
                    lifecycle.pre_stop.as_ref().unwrap().sleep.as_ref().unwrap().seconds
                });
                // What still runs ten seconds after its drain ends itself; the kubelet comes later.
                assert!(
                    pod.termination_grace_period_seconds.unwrap() >= sleep + told + 15,
                    "{}",
                    object.name
                );
                assert!((0..=600).contains(&told));
                match component {
                    Component::Gateway | Component::Websocket | Component::Comment => {
                        assert_eq!((told, sleep), (drain.into(), 5));
                    }
                    Component::Reader => {
                        assert_eq!(pod.termination_grace_period_seconds, Some(grace.into()));
                        assert_eq!((told, sleep), (i64::from(grace) - 15, 0));
                    }
                    Component::Manager => assert_eq!(sleep, 5),
                    Component::Consumer | Component::Statistics => assert_eq!(sleep, 0),
                }
            }
        }
    }
}

#[test]
fn a_component_has_the_secrets_and_settings_of_its_own_stores_only() {
    let objects = built(&cluster("full"));
    for object in of_kind(&objects, Kind::Deployment) {
        let component = object.component.unwrap();
        let text = format!("{} {}", json!(pod(object)), settings(&objects, component)).to_lowercase();
        for (store, marks) in [
            (Store::Kafka, ["liverank_kafka_password", "kafka-ca", "kafka-group"]),
            (Store::Redis, ["liverank_redis", "redis-ca", "redis-prefix"]),
            (Store::Mongodb, ["liverank_mongodb", "mongodb-ca", "mongodb-database"]),
        ] {
            for mark in marks {
                let has = component.stores().contains(&store);
                assert_eq!(text.contains(mark), has, "{mark} at {}", component.name());
            }
        }
        let calls = matches!(component, Component::Gateway | Component::Reader);
        assert_eq!(text.contains("identity-token"), calls, "{}", component.name());
        // The last two where viewers are asked for tokens: then they take viewers of gateways only.
        let is_asked = matches!(
            component,
            Component::Manager | Component::Statistics | Component::Comment | Component::Websocket
        );
        assert_eq!(text.contains("identity-jwks-file"), is_asked, "{}", component.name());
        let has_viewers = matches!(component, Component::Comment | Component::Websocket | Component::Reader);
        assert_eq!(text.contains("viewers-by-gateway"), has_viewers, "{}", component.name());
        let viewers = component == Component::Gateway;
        assert_eq!(text.contains("auth-jwks"), viewers, "{}", component.name());
    }
}

/// The name of the `ConfigMap` that a Deployment's pods mount.
fn mounted(object: &Object) -> String {
    let volumes = pod(object).volumes.unwrap();
    volumes.into_iter().find_map(|volume| volume.config_map).unwrap().name
}

#[test]
fn a_configuration_never_changes_and_another_one_is_another_object() {
    for (_, objects) in all() {
        for object in of_kind(&objects, Kind::Deployment) {
            let config = of_kind(&objects, Kind::ConfigMap).find(|it| it.name == mounted(object)).unwrap();
            assert_eq!(config.component, object.component);
            assert_eq!(config.body["immutable"], json!(true));
        }
    }
    let mut cluster = cluster("minimal");
    let old = built(&cluster);
    cluster.spec.scoring.trending_half_life_minutes = 7;
    let new = built(&cluster);
    for component in Component::ORDER {
        let of = |objects: &[Object]| mounted(one(objects, Kind::Deployment, component));
        let same = of(&old) == of(&new);
        assert_eq!(same, component != Component::Consumer, "{}", component.name());
    }
    // One whose turn has not come keeps the template that it has, and in it the name of the file that it has.
    let live = &one(&old, Kind::Deployment, Component::Consumer).body;
    let held = one(&new, Kind::Deployment, Component::Consumer).keeping_template(live);
    assert_eq!(mounted(&held), mounted(one(&old, Kind::Deployment, Component::Consumer)));
}

#[test]
fn two_clusters_that_name_nothing_share_nothing_in_their_stores() {
    let names = |namespace: &str, name: &str| {
        let mut cluster = cluster("minimal");
        (cluster.metadata.namespace, cluster.metadata.name) = (Some(namespace.into()), Some(name.into()));
        let settings = settings(&built(&cluster), Component::Consumer);
        ["redis-prefix", "mongodb-database", "kafka-group"]
            .map(|key| settings[key].as_str().unwrap().to_owned())
    };
    let first = names("tv", "live");
    assert_eq!(first, ["tv.live.", "tv_live", "liverank.tv.live"]);
    for other in [names("tv", "more"), names("radio", "live")] {
        assert!(first.iter().zip(&other).all(|(a, b)| a != b), "{first:?} {other:?}");
    }
}

#[test]
fn readers_may_be_evicted_by_the_tenth_and_no_faster_than_they_are_emptied() {
    let mut cluster = cluster("minimal");
    let mut budget = |readers: u32, moved: i32, grace: i32| {
        cluster.spec.readers.rebalance.max_viewers_moved_per_minute = moved;
        cluster.spec.readers.termination_grace_period_seconds = grace;
        let name = cluster.name().to_owned();
        let readers: Vec<Reader> =
            (0..readers).map(|n| Reader { name: names::reader(&name, n), drain: None }).collect();
        let operator = operator();
        let input = Input { cluster: &cluster, revision: CURRENT, readers: &readers, operator: &operator };
        one(&build::desired(&input), Kind::PodDisruptionBudget, Component::Reader).body["spec"]["maxUnavailable"].clone()
    };
    // 20,000 viewers a reader, 20,000 moved in a minute: in 150 s two readers, and half of a third.
    assert_eq!(budget(500, 20_000, 180), json!(2));
    assert_eq!(budget(500, 1_000_000, 180), json!(50));
    assert_eq!(budget(11, 1_000_000, 180), json!(2));
    assert_eq!(budget(2, 1_000_000, 180), json!(1));
    assert_eq!(budget(0, 1, 30), json!(1), "a node must be drained sometime");
}

/// What a process is given: the keys of its file, and its own variables and flags by the same names.
fn given(objects: &[Object], object: &Object) -> BTreeSet<String> {
    let component = object.component.unwrap();
    let container = container(object);
    let variables = container.env.into_iter().flatten().map(|variable| variable.name);
    let variables = variables.filter_map(|name| {
        Some(
            name.strip_prefix("LIVERANK_")
                .filter(|_| name != "LIVERANK_CONFIG")?
                .to_lowercase()
                .replace('_', "-"),
        )
    });
    let flags = container.args.into_iter().flatten();
    let flags = flags.filter_map(|flag| Some(flag.strip_prefix("--")?.split('=').next()?.to_owned()));
    let keys = settings(objects, component).as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    keys.into_iter().chain(variables).chain(flags).filter(|name| name != "config").collect()
}

#[test]
fn every_setting_that_is_written_is_in_the_table_of_roles() {
    let mut by_url = cluster("full");
    let url = "https://issuer.example.org/jwks.json".to_owned();
    by_url.spec.auth.jwks = Some(Jwks { secret_key: None, url: Some(url) });
    let by_url = built(&by_url);
    let mut written = BTreeSet::new();
    for objects in all().map(|(_, objects)| objects).chain([by_url]) {
        for object in of_kind(&objects, Kind::Deployment) {
            let role = object.component.unwrap().role();
            for name in given(&objects, object) {
                let known = roles::setting(role, &name);
                assert!(known.is_some(), "protocol/src/roles.rs has no setting {name} of {}", role.name());
                written.insert((role, name));
            }
        }
    }
    let listed =
        roles::SETTINGS.iter().flat_map(|setting| setting.roles.iter().map(|role| (*role, setting.name)));
    let idle: Vec<_> =
        listed.filter(|(role, name)| !written.contains(&(*role, (*name).to_owned()))).collect();
    assert_eq!(idle, [], "listed, and written for no cluster of these tests");
}

#[test]
fn an_image_is_given_only_the_settings_that_its_version_knows() {
    let mut cluster = cluster("full");
    for (image, is_given) in [("liverank:0.0.9", false), ("liverank:0.1.0", true), ("liverank:dev", true)] {
        cluster.spec.image = image.to_owned();
        let settings = settings(&built(&cluster), Component::Reader);
        assert_eq!(settings.get("capacity").is_some(), is_given, "{image}");
    }
}

#[test]
fn overrides_cannot_take_what_is_ours() {
    let objects = built(&cluster("full"));
    for object in of_kind(&objects, Kind::Deployment) {
        let metadata = deployment(object).spec.unwrap().template.metadata.unwrap();
        let (labels, annotations) = (metadata.labels.unwrap(), metadata.annotations.unwrap());
        assert_eq!(labels[names::COMPONENT], object.component.unwrap().name());
        assert_eq!(labels.get(names::READER), object.reader.as_ref());
        assert_eq!(labels["example.org/team"], "video");
        assert_eq!(annotations["example.org/note"], "kept");
        assert_eq!(annotations.get("liverank.dev/config-hash"), None, "what is called like ours is left out");
        assert_eq!(annotations[names::REVISION], CURRENT.to_string());
        assert_eq!(annotations[names::RESTARTED_AT], "2026-03-01T12:00:00Z");
        let spread = &pod(object).topology_spread_constraints.unwrap()[0];
        assert_eq!(spread.topology_key, "topology.kubernetes.io/zone");
        assert!(spread.label_selector.is_some(), "filled in: without one it spreads nothing");
    }
}

#[test]
fn replicas_belong_to_the_autoscaler_where_there_is_one() {
    let mut cluster = cluster("minimal");
    let replicas = |cluster: &RankingCluster, component| {
        one(&built(cluster), Kind::Deployment, component).body["spec"].get("replicas").cloned()
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
    });
    assert_eq!(replicas(&cluster, Component::Gateway), None);
    assert_eq!(replicas(&cluster, Component::Websocket), Some(json!(2)));
    let objects = built(&cluster);
    let autoscaler = &one(&objects, Kind::HorizontalPodAutoscaler, Component::Gateway).body["spec"];
    assert_eq!(autoscaler["scaleTargetRef"]["name"], json!("live-gateway"));
    let in_turn = json!([{"type": "Pods", "value": 1, "periodSeconds": 60}]);
    assert_eq!(autoscaler["behavior"]["scaleDown"]["policies"], in_turn);
    assert_eq!(of_kind(&objects, Kind::HorizontalPodAutoscaler).count(), 1);
}

#[test]
fn replicas_are_left_to_others_where_the_resource_says_so() {
    let mut cluster = cluster("minimal");
    cluster.spec.gateway.scaled_by = ScaledBy::Others;
    cluster.spec.consumer.scaled_by = ScaledBy::Others;
    let objects = built(&cluster);
    for (component, has) in
        [(Component::Gateway, false), (Component::Consumer, false), (Component::Websocket, true)]
    {
        let spec = &one(&objects, Kind::Deployment, component).body["spec"];
        assert_eq!(spec.get("replicas").is_some(), has, "{}", component.name());
    }
    assert_eq!(of_kind(&objects, Kind::HorizontalPodAutoscaler).count(), 0);
}

#[test]
fn what_is_switched_off_leaves_nothing_behind() {
    let objects = built(&cluster("no-comment"));
    let left: BTreeSet<_> = objects.iter().filter_map(|object| object.component).collect();
    assert_eq!(left, [Component::Consumer, Component::Websocket, Component::Gateway].into());
    assert_eq!(of_kind(&objects, Kind::NetworkPolicy).count(), 0);
    let configs = of_kind(&objects, Kind::ConfigMap).count();
    assert_eq!(configs, 4, "one for each component, and the public keys");
}

#[test]
fn policies_let_through_exactly_those_who_talk() {
    for name in ["minimal", "full"] {
        let objects = built(&cluster(name));
        for component in Component::ORDER {
            let policy = &one(&objects, Kind::NetworkPolicy, component).body["spec"];
            let mut allowed = BTreeSet::new();
            for rule in policy["ingress"].as_array().unwrap() {
                for peer in rule["from"].as_array().into_iter().flatten() {
                    let labels = &peer["podSelector"]["matchLabels"];
                    if peer.get("namespaceSelector").is_none() {
                        assert_eq!(rule["ports"][0]["port"], json!(component.http_port()));
                        allowed.extend(Component::parse(labels[names::COMPONENT].as_str().unwrap()));
                    }
                }
            }
            let talkers: BTreeSet<_> =
                Component::ORDER.into_iter().filter(|other| other.talks_to().contains(&component)).collect();
            assert_eq!(allowed, talkers, "{}", component.name());
            let from_operator = policy["ingress"].to_string().contains("liverank-system");
            assert_eq!(from_operator, matches!(component, Component::Manager | Component::Reader));
        }
    }
    // Those who open connections are those whose configuration names somebody.
    let objects = built(&cluster("minimal"));
    for component in Component::ORDER {
        let settings = settings(&objects, component);
        for (peer, setting) in [
            (Component::Manager, "manager-url"),
            (Component::Comment, "comment-url"),
            (Component::Websocket, "websocket-url"),
            (Component::Statistics, "statistics-url"),
        ] {
            let port = peer.http_port().filter(|_| component.talks_to().contains(&peer));
            let url = port.map(|port| names::url(&names::of("live", peer), "tv", port, false));
            assert_eq!(settings.get(setting), url.map(|url| json!(url)).as_ref(), "{}", component.name());
        }
    }
}

#[test]
fn egress_is_open_unless_networks_are_given() {
    let egress = |name: &str, component| {
        one(&built(&cluster(name)), Kind::NetworkPolicy, component).body["spec"]["egress"].clone()
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
fn readers_open_to_viewers_only_as_far_as_viewers_come() {
    let mut cluster = cluster("minimal");
    let outside = |cluster: &RankingCluster| {
        let objects = built(cluster);
        let rules = one(&objects, Kind::NetworkPolicy, Component::Reader).body["spec"]["ingress"].clone();
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
fn all_readers_have_one_template_hash_and_names_of_their_own() {
    for (cluster, objects) in all() {
        let (readers, operator) = (readers(&cluster), operator());
        let input = Input { cluster: &cluster, revision: CURRENT, readers: &readers, operator: &operator };
        let wanted = build::reader_template_hash(&input);
        for object in of_kind(&objects, Kind::Deployment).filter(|object| object.reader.is_some()) {
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
        let objects = built(cluster);
        let args = container(one(&objects, Kind::Deployment, Component::Reader)).args.unwrap();
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
    let mut live = one(&built(&cluster), Kind::Deployment, Component::Gateway).body.clone();
    live["spec"]["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
    live["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    cluster.spec.image = "registry.example.org/liverank:2.0.0".to_owned();
    cluster.spec.gateway.replicas = Some(7);
    let objects = built(&cluster);
    let wanted = one(&objects, Kind::Deployment, Component::Gateway);
    let live_hash = annotation_of(&live, names::TEMPLATE_HASH);
    assert_ne!(wanted.template_hash(), live_hash);
    let kept = wanted.keeping_template(&live);
    assert_eq!(kept.template_hash(), live_hash, "still known to be the old one");
    assert_eq!(kept.body["spec"]["replicas"], json!(7));
    let template = &kept.body["spec"]["template"];
    assert_eq!(template["spec"], live["spec"]["template"]["spec"]);
    assert!(template["metadata"].get("creationTimestamp").is_none());
    // What has no template is as it was.
    let service = one(&objects, Kind::Service, Component::Gateway);
    assert_eq!(&service.keeping_template(&live), service);
}

#[test]
fn a_draining_reader_says_so_and_its_pod_does_not_restart_for_it() {
    let cluster = cluster("minimal");
    let objects = built(&cluster);
    let of = |name: &str| of_kind(&objects, Kind::Deployment).find(|object| object.name == name).unwrap();
    let leaving = of("live-reader-3");
    assert_eq!(annotation_of(&leaving.body, names::DRAIN), Some("scale-down"));
    assert_eq!(annotation_of(&leaving.body, names::DRAIN_SINCE), Some("2026-03-01T12:30:00Z"));
    assert_eq!(annotation_of(&of("live-reader-0").body, names::DRAIN), None);
    assert!(!json!(deployment(leaving).spec).to_string().contains("scale-down"));
}

#[test]
fn pods_of_the_first_revision_stay_as_they_are_and_later_ones_spread_over_zones() {
    let cluster = cluster("minimal");
    let keys = |revision: u32| -> Vec<Vec<String>> {
        let operator = operator();
        let readers = readers(&cluster);
        let input = Input { cluster: &cluster, revision, readers: &readers, operator: &operator };
        let objects = build::desired(&input);
        let of = |object: &Object| {
            let spread = pod(object).topology_spread_constraints.unwrap();
            spread.into_iter().map(|it| it.topology_key).collect::<Vec<_>>()
        };
        of_kind(&objects, Kind::Deployment).map(of).collect()
    };
    let (host, zone) = ("kubernetes.io/hostname".to_owned(), "topology.kubernetes.io/zone".to_owned());
    assert!(keys(1).iter().all(|keys| *keys == std::slice::from_ref(&host)));
    assert!(keys(2).iter().all(|keys| *keys == [host.clone(), zone.clone()]));
}

#[test]
fn another_revision_of_the_builder_restarts_everything_that_there_is() {
    for (cluster, _) in all() {
        let pending = |newest| build::pending(&cluster, CURRENT, newest, &operator());
        assert!(pending(CURRENT).is_empty());
        assert_eq!(pending(CURRENT + 1), Component::all_enabled(&cluster.spec).collect());
    }
}

#[test]
fn routes_and_monitors_have_only_fields_of_their_definitions() {
    let routes = built(&cluster("httproute"));
    let routes: Vec<_> = of_kind(&routes, Kind::HttpRoute).collect();
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
    let full = built(&cluster("full"));
    let monitor = &of_kind(&full, Kind::ServiceMonitor).next().unwrap().body["spec"];
    let fields: Vec<_> = monitor.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["endpoints", "selector", "targetLabels"]);
}

#[test]
fn an_ingress_takes_the_users_annotations_over_ours() {
    let full = built(&cluster("full"));
    let ingress = one(&full, Kind::Ingress, Component::Gateway);
    let annotation = |key| annotation_of(&ingress.body, key);
    assert_eq!(annotation("nginx.ingress.kubernetes.io/proxy-read-timeout"), Some("7200"));
    assert_eq!(annotation("nginx.ingress.kubernetes.io/proxy-buffering"), Some("off"));
    assert_eq!(annotation("cert-manager.io/issuer"), Some("main"));
    assert_eq!(
        ingress.body["spec"]["tls"],
        json!([{"hosts": ["live.example.org"], "secretName": "live-tls"}])
    );
}
