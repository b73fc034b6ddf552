//! Clusters to build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use liverank_operator::build::{self, CURRENT, Drain, Input, Object, OperatorFacts, Reader, names};
use liverank_operator::crd::RankingCluster;
use serde_json::Value;

/// The clusters in `clusters/`, each with a snapshot of its name.
pub const CLUSTERS: [&str; 6] = ["minimal", "full", "no-comment", "per-reader", "httproute", "tls"];

/// A file beside this one or of the operator.
pub fn path(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), path].iter().collect()
}

/// What a cluster's file in YAML says, with its anchors resolved.
pub fn raw(name: &str) -> Value {
    let file = path(&format!("tests/build/clusters/{name}.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

/// A cluster, as its file in YAML has it.
pub fn cluster(name: &str) -> RankingCluster {
    serde_json::from_value(raw(name)).unwrap()
}

/// An operator.
pub fn operator() -> OperatorFacts {
    OperatorFacts {
        namespace: "liverank-system".to_owned(),
        labels: BTreeMap::from([(names::NAME.to_owned(), "liverank-operator".to_owned())]),
        service_account: "liverank-operator".to_owned(),
        platform_user: false,
        keys: r#"{"issuer":"https://kubernetes.default.svc","keys":[]}"#.to_owned(),
    }
}

/// Two readers, one of which is on its way out.
pub fn readers(cluster: &RankingCluster) -> Vec<Reader> {
    let drain = Drain { reason: "scale-down".to_owned(), since: "2026-03-01T12:30:00Z".to_owned() };
    vec![
        Reader { name: names::reader(cluster.name(), 0), drain: None },
        Reader { name: names::reader(cluster.name(), 3), drain: Some(drain) },
    ]
}

/// All objects of a cluster with those readers.
pub fn built(cluster: &RankingCluster) -> Vec<Object> {
    let (readers, operator) = (readers(cluster), operator());
    build::desired(&Input { cluster, revision: CURRENT, readers: &readers, operator: &operator })
}
