//! Tests properties of the objects of every cluster.

use std::collections::BTreeSet;

use liverank_operator::build::{self, CURRENT_REVISION, Component, Input, Kind, Object, Reader, names};
use liverank_operator::crd::RankingCluster;
use serde_json::{Value, json};

use crate::fixtures::{
    all_clusters, build_objects, cluster, component_settings, container, deployment, find_object,
    objects_of_kind, operator, pod,
};

#[test]
fn every_component_gets_the_trace_endpoint_only_when_set() {
    for (mut cluster, _) in all_clusters() {
        cluster.spec.monitoring.tracing = None;
        let configs = |objects: &[Object]| -> Vec<Value> {
            let files = objects_of_kind(objects, Kind::ConfigMap)
                .filter_map(|it| it.body["data"]["config.yaml"].as_str());
            files.map(|file| serde_yaml::from_str(file).unwrap()).collect()
        };
        let names = ["otlp-endpoint", "trace-ratio", "traces-per-minute"];
        let without = configs(&build_objects(&cluster));
        assert!(without.iter().all(|file| names.iter().all(|name| file.get(name).is_none())));
        let endpoint = "http://collector.monitoring:4318";
        let tracing = json!({"endpoint": endpoint, "samplingRatePerMillion": 2_500});
        cluster.spec.monitoring.tracing = Some(serde_json::from_value(tracing).unwrap());
        let with = configs(&build_objects(&cluster));
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
    for (cluster, objects) in all_clusters() {
        assert_eq!(build_objects(&cluster), objects);
        let again: RankingCluster = serde_json::from_value(serde_json::to_value(&cluster).unwrap()).unwrap();
        assert_eq!(build_objects(&again), objects, "as the API server gives it back");
        let names: BTreeSet<_> = objects.iter().map(|object| (object.kind, &object.name)).collect();
        assert_eq!(names.len(), objects.len());
        assert!(objects.is_sorted_by_key(|object| object.kind), "in the order of applying");
    }
}

#[test]
fn every_object_has_an_owner_and_no_server_fields() {
    for (cluster, objects) in all_clusters() {
        for object in &objects {
            let resource = object.kind.api_resource();
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
            let component = object.component.map_or(names::SHARED_COMPONENT, Component::name);
            let mut labels = json!({
                names::APP_NAME_LABEL: "liverank", names::INSTANCE_LABEL: "live", names::MANAGED_BY_LABEL: "liverank-operator",
                names::COMPONENT_LABEL: component,
            });
            if let Some(reader) = &object.reader {
                labels[names::READER_LABEL] = json!(reader);
            }
            if object.kind == Kind::ServiceMonitor {
                for (name, value) in &cluster.spec.monitoring.service_monitor_labels {
                    labels[name] = json!(value);
                }
            }
            assert_eq!(metadata["labels"], labels, "{}", object.name);
        }
    }
}

#[test]
fn objects_have_no_nulls_or_empties_that_the_server_drops() {
    fn check_value(at: &str, value: &Value) {
        match value {
            Value::Null => panic!("{at} is null"),
            Value::Array(items) => {
                assert!(!items.is_empty(), "{at} is an empty list");
                for item in items {
                    check_value(at, item);
                }
            }
            Value::Object(fields) => {
                // An empty selector means everything, and so does an empty rule.
                let everything = ["namespaceSelector", "podSelector", "egress"];
                assert!(
                    !fields.is_empty() || everything.iter().any(|end| at.ends_with(end)),
                    "{at} is empty"
                );
                fields.iter().for_each(|(key, value)| check_value(&format!("{at}.{key}"), value));
            }
            _ => {}
        }
    }
    for (_, objects) in all_clusters() {
        for object in &objects {
            check_value(&object.name, &object.body);
        }
    }
    let full = build_objects(&cluster("full"));
    let resources = container(find_object(&full, Kind::Deployment, Component::Gateway)).resources;
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
    let objects = build_objects(&cluster);
    let spec = &find_object(&objects, Kind::Deployment, Component::Gateway).body["spec"]["template"]["spec"];
    assert_eq!(spec["affinity"], json!({"podAntiAffinity": {}}));
    assert!(spec.get("topologySpreadConstraints").is_none(), "an empty list means not at all");
    assert_eq!(spec["containers"][0]["resources"], json!({"requests": {"cpu": "100m", "memory": "128Mi"}}));
}

#[test]
fn every_pod_is_restricted_and_knows_nothing_of_the_api_server() {
    for (_, objects) in all_clusters() {
        for object in objects_of_kind(&objects, Kind::Deployment) {
            let pod = pod(object);
            assert_eq!(pod.automount_service_account_token, Some(false));
            assert_eq!(pod.enable_service_links, Some(false));
            // There is one account for each component and each reader, with the name of the Deployment.
            assert_eq!(pod.service_account_name.as_deref(), Some(object.name.as_str()));
            let accounts: Vec<&str> = objects_of_kind(&objects, Kind::ServiceAccount)
                .map(|account| account.name.as_str())
                .collect();
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
            // Of the volumes that `restricted` permits, only the kinds that the pods need.
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
        for account in objects_of_kind(&objects, Kind::ServiceAccount) {
            assert_eq!(account.body["automountServiceAccountToken"], json!(false));
        }
    }
}

#[test]
fn names_fit_for_the_longest_cluster() {
    let mut cluster = cluster("full");
    cluster.metadata.name = Some("l".repeat(names::MAX_CLUSTER_NAME));
    // The maximal number of readers, and those of an upgrade in addition.
    let reader = Reader { name: names::reader_name(cluster.name(), 520), drain: None };
    let input = Input {
        cluster: &cluster,
        revision: CURRENT_REVISION,
        readers: std::slice::from_ref(&reader),
        operator: &operator(),
    };
    for object in build::desired_objects(&input) {
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
    for (_, objects) in all_clusters() {
        let templates: Vec<_> = objects_of_kind(&objects, Kind::Deployment)
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
        for object in objects_of_kind(&objects, Kind::Service) {
            assert_eq!(found(&object.body["spec"]["selector"]), [object.name.as_str()]);
        }
        for (kind, path) in [
            (Kind::PodDisruptionBudget, "/spec/selector/matchLabels"),
            (Kind::NetworkPolicy, "/spec/podSelector/matchLabels"),
        ] {
            for object in objects_of_kind(&objects, kind) {
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
    for (_, objects) in all_clusters() {
        for service in objects_of_kind(&objects, Kind::Service) {
            let deployment =
                objects_of_kind(&objects, Kind::Deployment).find(|it| it.name == service.name).unwrap();
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
            let settings = component_settings(&objects, service.component.unwrap());
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
            let objects = build_objects(&cluster);
            for object in objects_of_kind(&objects, Kind::Deployment) {
                let component = object.component.unwrap();
                let told = component_settings(&objects, component)["drain-seconds"].as_i64().unwrap();
                let pod = pod(object);
                let sleep = pod.containers[0].lifecycle.as_ref().map_or(0, |lifecycle| {
                    lifecycle.pre_stop.as_ref().unwrap().sleep.as_ref().unwrap().seconds
                });
                // A process that still runs ten seconds after its drain ends itself; the kubelet comes later.
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
fn overrides_cannot_replace_our_labels_and_annotations() {
    let objects = build_objects(&cluster("full"));
    for object in objects_of_kind(&objects, Kind::Deployment) {
        let metadata = deployment(object).spec.unwrap().template.metadata.unwrap();
        let (labels, annotations) = (metadata.labels.unwrap(), metadata.annotations.unwrap());
        assert_eq!(labels[names::COMPONENT_LABEL], object.component.unwrap().name());
        assert_eq!(labels.get(names::READER_LABEL), object.reader.as_ref());
        assert_eq!(labels["example.org/team"], "video");
        assert_eq!(annotations["example.org/note"], "kept");
        assert_eq!(annotations.get("liverank.dev/config-hash"), None, "what is called like ours is left out");
        assert_eq!(annotations[names::REVISION_ANNOTATION], CURRENT_REVISION.to_string());
        assert_eq!(annotations[names::RESTARTED_AT_ANNOTATION], "2026-03-01T12:00:00Z");
        let spread = &pod(object).topology_spread_constraints.unwrap()[0];
        assert_eq!(spread.topology_key, "topology.kubernetes.io/zone");
        assert!(spread.label_selector.is_some(), "filled in: without one it spreads nothing");
    }
}

#[test]
fn what_is_switched_off_leaves_nothing_behind() {
    let objects = build_objects(&cluster("no-comment"));
    let left: BTreeSet<_> = objects.iter().filter_map(|object| object.component).collect();
    assert_eq!(left, [Component::Consumer, Component::Websocket, Component::Gateway].into());
    assert_eq!(objects_of_kind(&objects, Kind::NetworkPolicy).count(), 0);
    let configs = objects_of_kind(&objects, Kind::ConfigMap).count();
    assert_eq!(configs, 4, "one for each component, and the public keys");
}
