//! The clusters that the builder's tests build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use liverank_operator::build::{
    self, CURRENT_REVISION, Component, Drain, Input, Kind, Object, OperatorFacts, Reader, names,
};
use liverank_operator::crd::RankingCluster;
use serde_json::Value;

/// The names of the clusters in `clusters/`, each with a snapshot of that name.
pub const CLUSTERS: [&str; 7] =
    ["minimal", "full", "no-comment", "per-reader", "httproute", "tls", "monitored"];

/// Returns the full path of a file below the operator's directory.
pub fn path(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), path].iter().collect()
}

/// Returns the content of a cluster's YAML file with its anchors resolved.
pub fn cluster_yaml(name: &str) -> Value {
    let file = path(&format!("tests/build/clusters/{name}.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

/// Returns a cluster from its YAML file.
pub fn cluster(name: &str) -> RankingCluster {
    serde_json::from_value(cluster_yaml(name)).unwrap()
}

/// Returns the facts about the tests' operator.
pub fn operator() -> OperatorFacts {
    OperatorFacts {
        namespace: "liverank-system".to_owned(),
        labels: BTreeMap::from([(names::APP_NAME_LABEL.to_owned(), "liverank-operator".to_owned())]),
        service_account: "liverank-operator".to_owned(),
        platform_assigns_user_ids: false,
        public_keys: r#"{"issuer":"https://kubernetes.default.svc","keys":[]}"#.to_owned(),
    }
}

/// Returns two readers, one of which is being emptied.
pub fn readers(cluster: &RankingCluster) -> Vec<Reader> {
    let drain = Drain { reason: "scale-down".to_owned(), since: "2026-03-01T12:30:00Z".to_owned() };
    vec![
        Reader { name: names::reader_name(cluster.name(), 0), drain: None },
        Reader { name: names::reader_name(cluster.name(), 3), drain: Some(drain) },
    ]
}

/// Returns all objects of a cluster with two readers.
pub fn build_objects(cluster: &RankingCluster) -> Vec<Object> {
    build_objects_at(cluster, CURRENT_REVISION)
}

/// Returns all objects of a cluster with two readers, as this revision of the builder makes them.
pub fn build_objects_at(cluster: &RankingCluster, revision: u32) -> Vec<Object> {
    let (readers, operator) = (readers(cluster), operator());
    build::desired_objects(&Input { cluster, revision, readers: &readers, operator: &operator })
}

/// Returns each of the clusters, with its objects.
pub fn all_clusters() -> impl Iterator<Item = (RankingCluster, Vec<Object>)> {
    CLUSTERS.into_iter().map(|name| {
        let cluster = cluster(name);
        let objects = build_objects(&cluster);
        (cluster, objects)
    })
}

/// Returns the objects of a kind.
pub fn objects_of_kind(objects: &[Object], kind: Kind) -> impl Iterator<Item = &Object> {
    objects.iter().filter(move |object| object.kind == kind)
}

/// Returns the object of a kind that belongs to a component.
pub fn find_object(objects: &[Object], kind: Kind, component: Component) -> &Object {
    objects_of_kind(objects, kind).find(|object| object.component == Some(component)).unwrap()
}

/// Parses an object as a Deployment.
pub fn deployment(object: &Object) -> Deployment {
    serde_json::from_value(object.body.clone()).unwrap()
}

/// Returns the pod spec of a Deployment.
pub fn pod(object: &Object) -> PodSpec {
    deployment(object).spec.unwrap().template.spec.unwrap()
}

/// Returns liverank's own container in the pods of a Deployment.
pub fn container(object: &Object) -> Container {
    pod(object).containers.remove(0)
}

/// Returns the settings in a component's configuration file.
pub fn component_settings(objects: &[Object], component: Component) -> Value {
    let data = &find_object(objects, Kind::ConfigMap, component).body["data"];
    serde_yaml::from_str(data["config.yaml"].as_str().unwrap()).unwrap()
}
