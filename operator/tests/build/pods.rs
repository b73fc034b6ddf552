//! Tests the user's additions to pods, Services and `ServiceAccount`s.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodSpec;
use liverank_operator::build::{self, CURRENT_REVISION, Component, Input, Kind, Object, OperatorFacts};
use liverank_operator::crd::{PodUser, RankingCluster};
use serde_json::{Value, json};

use crate::fixtures::{build_objects, cluster, operator, readers};

fn find_in(objects: &[Object], kind: Kind, component: Component) -> &Object {
    objects.iter().find(|it| it.kind == kind && it.component == Some(component)).unwrap()
}

fn pod(objects: &[Object], component: Component) -> PodSpec {
    let body = find_in(objects, Kind::Deployment, component).body.clone();
    serde_json::from_value::<Deployment>(body).unwrap().spec.unwrap().template.spec.unwrap()
}

fn names_of<T>(all: Option<&Vec<T>>, name: impl Fn(&T) -> &str) -> Vec<&str> {
    all.into_iter().flatten().map(name).collect()
}

#[test]
fn extra_pod_parts_are_beside_ours_in_every_component() {
    let objects = build_objects(&cluster("full"));
    for component in Component::ROLL_OUT_ORDER {
        let pod = pod(&objects, component);
        assert_eq!(pod.runtime_class_name.as_deref(), Some("gvisor"));
        assert_eq!(pod.scheduler_name.as_deref(), Some("batch"));
        assert_eq!(pod.host_aliases.as_ref().unwrap()[0].ip, "192.0.2.7");
        assert_eq!(names_of(pod.image_pull_secrets.as_ref(), |it| &it.name), ["pull", "mirror"], "each once");
        let volumes = names_of(pod.volumes.as_ref(), |it| &it.name);
        assert_eq!((volumes[0], volumes[volumes.len() - 1]), ("config", "extra-ca"));
        let context = pod.security_context.as_ref().unwrap();
        assert_eq!(context.fs_group_change_policy.as_deref(), Some("OnRootMismatch"));
        assert_eq!(context.run_as_user, Some(65532), "what is not given stays");
        let [own] = &pod.containers[..] else { panic!("{:?}", pod.containers) };
        let mounts = names_of(own.volume_mounts.as_ref(), |it| &it.mount_path);
        assert_eq!(mounts.last(), Some(&"/etc/ssl/extra"));
        assert_eq!(names_of(own.env.as_ref(), |it| &it.name).last(), Some(&"OTEL_SERVICE_NAME"));
        assert_eq!(own.env_from.as_ref().unwrap().len(), 1);
    }
}

#[test]
fn sidecars_start_before_liverank_and_end_after_it_as_kubernetes_has_it() {
    let objects = build_objects(&cluster("full"));
    let pod = pod(&objects, Component::Reader);
    let before = pod.init_containers.unwrap();
    let order: Vec<_> = before.iter().map(|it| (it.name.as_str(), it.restart_policy.as_deref())).collect();
    assert_eq!(order, [("wait", None), ("proxy", Some("Always"))]);
    for container in &before {
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(json!(context.capabilities), json!({"drop": ["ALL"]}));
    }
    assert_eq!(json!(before[1].resources), json!({"requests": {"cpu": "1"}}), "as the API server writes it");
}

#[test]
fn extra_flags_come_last_and_log_levels_go_into_the_file() {
    let mut cluster = cluster("minimal");
    cluster.spec.gateway.pod.extra_args = vec!["--max-connections=7".to_owned()];
    cluster.spec.gateway.pod.log_level = Some("debug".to_owned());
    let objects = build_objects(&cluster);
    let args = pod(&objects, Component::Gateway).containers[0].args.clone().unwrap();
    assert_eq!(args.last().map(String::as_str), Some("--max-connections=7"));
    let file = |component| {
        let data = &find_in(&objects, Kind::ConfigMap, component).body["data"]["config.yaml"];
        serde_yaml::from_str::<Value>(data.as_str().unwrap()).unwrap()
    };
    assert_eq!(file(Component::Gateway)["log"], json!("debug"));
    assert_eq!(file(Component::Websocket).get("log"), None, "the process's own default");
}

#[test]
fn no_user_id_is_set_where_the_platform_assigns_one() {
    let users = |cluster: &RankingCluster, platform_assigns_user_ids| {
        let operator = OperatorFacts { platform_assigns_user_ids, ..operator() };
        let readers = readers(cluster);
        let input = Input { cluster, revision: CURRENT_REVISION, readers: &readers, operator: &operator };
        let objects = build::desired_objects(&input);
        let mut found = Vec::new();
        for object in objects.iter().filter(|object| object.kind == Kind::Deployment) {
            let text = object.body.to_string();
            assert!(text.contains(r#""runAsNonRoot":true"#), "restricted-v2 wants no root either");
            let has = ["runAsUser", "runAsGroup", "fsGroup\""].map(|field| text.contains(field));
            found.push(has);
        }
        found.dedup();
        found
    };
    let mut cluster = cluster("minimal");
    assert_eq!(users(&cluster, false), [[true; 3]]);
    assert_eq!(users(&cluster, true), [[false; 3]], "as the operator was started");
    cluster.spec.pod_user = Some(PodUser::Image);
    assert_eq!(users(&cluster, true), [[true; 3]], "the resource has the last word");
    cluster.spec.pod_user = Some(PodUser::Platform);
    assert_eq!(users(&cluster, false), [[false; 3]]);
}

#[test]
fn service_settings_apply_where_clients_connect() {
    let objects = build_objects(&cluster("full"));
    for object in objects.iter().filter(|object| object.kind == Kind::Service) {
        let annotations = &object.body["metadata"]["annotations"];
        assert_eq!(*annotations, json!({"example.org/pool": "public"}), "ours cannot be given");
        let spec = &object.body["spec"];
        assert_eq!(spec["ipFamilies"], json!(["IPv6", "IPv4"]));
        assert_eq!(spec["ipFamilyPolicy"], json!("PreferDualStack"));
        assert_eq!(spec["trafficDistribution"], json!("PreferClose"));
        let outside =
            ["externalTrafficPolicy", "loadBalancerClass", "loadBalancerSourceRanges"].map(|it| &spec[it]);
        if object.component == Some(Component::Consumer) {
            assert_eq!((&spec["type"], &spec["clusterIP"]), (&json!("ClusterIP"), &json!("None")));
            assert_eq!(outside, [&Value::Null; 3], "the API server refuses them there");
        } else {
            assert_eq!(spec["type"], json!("LoadBalancer"));
            assert_eq!(outside[0], &json!("Local"));
            assert_eq!(outside[2], &json!(["192.0.2.0/24"]));
        }
    }
}

#[test]
fn accounts_of_pods_carry_annotations_and_the_command_lines_does_not() {
    let objects = build_objects(&cluster("full"));
    for object in objects.iter().filter(|object| object.kind == Kind::ServiceAccount) {
        let annotations = &object.body["metadata"]["annotations"];
        let of_pods = object.component.is_some();
        assert_eq!(annotations["eks.amazonaws.com/role-arn"].is_string(), of_pods, "{}", object.name);
    }
}
