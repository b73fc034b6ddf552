//! A tenant: somebody who may create `RankingCluster`s and nothing else. A resource must not make its author more than
//! that. Each row of the table is a goal and what the tenant writes for it; the default policy of the operator has to
//! refuse it, wherever in the resource it stands. What the operator makes of a resource that it takes gives no rights.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::collections::BTreeMap;

use liverank_operator::build::{self, CURRENT_REVISION, Input, OperatorFacts, Reader};
use liverank_operator::crd::RankingCluster;
use liverank_operator::policy::Policy;
use serde_json::{Value, json};

/// The parts of a resource that have pods, by their fields.
const PARTS: [&str; 7] = ["gateway", "websocket", "comment", "consumer", "readers", "manager", "statistics"];

fn plain_resource() -> Value {
    let mut resource: Value = serde_yaml::from_str(include_str!("fixtures/valid.yaml")).unwrap();
    resource["metadata"]["namespace"] = json!("tenant");
    resource["metadata"]["uid"] = json!("uid-of-the-tenant");
    resource
}

/// Returns what a tenant writes into the pods of a part, by its goal: the field of the pod and its value.
fn goals_of_pods() -> Vec<(&'static str, &'static str, Value)> {
    let container = |more: Value| {
        let mut container = json!({"name": "mine", "image": "registry.example.org/mine:1"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([container])
    };
    let privileged = || container(json!({"securityContext": {"privileged": true}}));
    vec![
        ("the node's files", "volumes", json!([{"name": "node", "hostPath": {"path": "/etc/kubernetes"}}])),
        ("a privileged sidecar", "sidecars", privileged()),
        ("a privileged init container", "initContainers", privileged()),
        ("root", "securityContext", json!({"runAsUser": 0})),
        ("root in liverank's own container", "containerSecurityContext", json!({"runAsUser": 0})),
        ("a privileged container of liverank", "containerSecurityContext", json!({"privileged": true})),
        (
            "more rights for a process",
            "sidecars",
            container(json!({"securityContext": {"allowPrivilegeEscalation": true}})),
        ),
        (
            "the network of the node by a port",
            "sidecars",
            container(json!({"ports": [{"containerPort": 1, "hostPort": 22}]})),
        ),
        (
            "system calls without a filter",
            "sidecars",
            container(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
        ),
        (
            "system calls without a filter, by an annotation",
            "annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/liverank": "unconfined"}),
        ),
        ("to push others off their nodes", "priorityClassName", json!("system-node-critical")),
        ("another runtime", "runtimeClassName", json!("host")),
        ("another scheduler", "schedulerName", json!("mine")),
    ]
}

fn refusals(resource: &Value) -> Vec<String> {
    let cluster: RankingCluster = serde_json::from_value(resource.clone()).unwrap();
    let operator = OperatorFacts::default();
    let input = Input { cluster: &cluster, revision: CURRENT_REVISION, readers: &[], operator: &operator };
    Policy::default().find_refusals(&input).iter().map(ToString::to_string).collect()
}

#[test]
fn every_goal_is_refused_in_every_part() {
    assert_eq!(refusals(&plain_resource()), [""; 0], "the resource without any goal is taken");
    for part in PARTS {
        for (goal, field, value) in goals_of_pods() {
            let mut resource = plain_resource();
            resource["spec"][part]["pod"][field] = value;
            let found = refusals(&resource);
            assert!(!found.is_empty(), "{goal} in {part} is taken");
            let of_part = format!("spec.{part}.");
            assert!(found.iter().all(|refusal| refusal.starts_with(&of_part)), "{goal} in {part}: {found:?}");
        }
    }
}

#[test]
fn rights_of_clouds_and_proxies_are_refused() {
    let cases: Vec<(&str, &str, &str, Value)> = vec![
        (
            "a cloud's role",
            "readers",
            "serviceAccount",
            json!({"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/admin"}}),
        ),
        ("an address of the cloud", "gateway", "service", json!({"type": "LoadBalancer"})),
        ("a port of each node", "gateway", "service", json!({"type": "NodePort"})),
        (
            "the configuration of the proxy",
            "exposure",
            "annotations",
            json!({"nginx.ingress.kubernetes.io/server-snippet": "load_module x;"}),
        ),
    ];
    for (goal, part, field, value) in cases {
        let mut resource = plain_resource();
        resource["spec"][part][field] = value;
        let found = refusals(&resource);
        assert!(
            found.iter().any(|refusal| refusal.starts_with(&format!("spec.{part}."))),
            "{goal}: {found:?}"
        );
    }
}

#[test]
fn what_the_operator_makes_gives_no_rights_and_is_the_resource_s_own() {
    let cluster: RankingCluster = serde_json::from_value(plain_resource()).unwrap();
    let readers = [Reader { name: "live-reader-0".to_owned(), drain: None }];
    let operator = OperatorFacts::default();
    let input =
        Input { cluster: &cluster, revision: CURRENT_REVISION, readers: &readers, operator: &operator };
    let mut kinds = BTreeMap::new();
    for object in build::desired_objects(&input) {
        let body = &object.body;
        *kinds.entry(body["kind"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        let what = format!("{} {}", body["kind"], body["metadata"]["name"]);
        assert_eq!(body["metadata"]["namespace"], "tenant", "{what}");
        assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "uid-of-the-tenant", "{what}");
        let pod = &body["spec"]["template"]["spec"];
        if pod.is_object() {
            assert_eq!(pod["automountServiceAccountToken"], false, "{what}");
            for member in ["hostNetwork", "hostPID", "hostIPC", "nodeName"] {
                assert!(pod[member].is_null() || pod[member] == false, "{what} has {member}");
            }
        }
        // The tokens in pods are of no use at the API server.
        let text = body.to_string();
        for audience in text.split("\"audience\":\"").skip(1) {
            assert!(audience.starts_with("liverank.dev/tenant/live"), "{what}: {audience:.40}");
        }
    }
    for kind in kinds.keys() {
        let grants = ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret", "Pod"];
        assert!(!grants.contains(&kind.as_str()), "the operator makes a {kind}");
    }
    assert!(kinds.len() >= 5, "{kinds:?}");
}
