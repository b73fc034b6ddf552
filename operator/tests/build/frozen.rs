//! What each revision of the builder makes of the clusters that were there when it was the newest: frozen. A cluster keeps its
//! revision until its spec changes, so an operator that builds anything else under an old revision restarts pods that nobody
//! asked it to restart.
//!
//! `UPDATE_SNAPSHOTS=1` writes the files of a new revision. It never writes a file that is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use liverank_operator::build::{self, CURRENT_REVISION, Input, Kind, Object};
use liverank_operator::crd::RankingCluster;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixtures::{operator, path, readers};

/// The clusters that are frozen: all components and fields, the defaults, the fewest components, and TLS.
const FROZEN_CLUSTERS: [&str; 4] = ["full", "minimal", "no-comment", "tls"];
/// In the pod template, whose pods these are.
const COMPONENT_POINTER: &str = "/metadata/labels/app.kubernetes.io~1component";

fn frozen_file(revision: u32, name: &str) -> PathBuf {
    path(&format!("tests/snapshots/revision-{revision}/{name}.yaml"))
}

/// The resource from which the frozen objects were made: the one in `clusters/` goes on changing.
fn frozen_cluster(revision: u32, name: &str) -> RankingCluster {
    let file = frozen_file(revision, &format!("{name}.cluster"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let with_anchors: Value = serde_yaml::from_str(&text).unwrap();
    serde_json::from_value(with_anchors).unwrap()
}

fn build_at(cluster: &RankingCluster, revision: u32) -> Vec<Object> {
    let (readers, operator) = (readers(cluster), operator());
    build::desired_objects(&Input { cluster, revision, readers: &readers, operator: &operator })
}

/// All that pods of these objects are made of: the pod templates, and the files of settings.
fn what_pods_are_made_of(objects: &[Object]) -> String {
    let parts = objects.iter().filter(|object| object.component.is_some()).filter_map(|object| {
        let body = &object.body;
        let part = match object.kind {
            Kind::ConfigMap => json!({ "configMap": body["metadata"]["name"], "data": body["data"] }),
            Kind::Deployment => {
                json!({ "deployment": body["metadata"]["name"], "template": body["spec"]["template"] })
            }
            _ => return None,
        };
        Some(serde_yaml::to_string(&part).unwrap())
    });
    parts.collect::<Vec<_>>().join("---\n")
}

/// Writes the file of a revision where there is none, and leaves one that is there as it is.
fn freeze(file: &Path, text: &str) {
    if !file.exists() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
}

/// Freezes what is not frozen yet.
fn freeze_missing(revision: u32) {
    for name in FROZEN_CLUSTERS {
        let cluster = std::fs::read_to_string(path(&format!("tests/build/clusters/{name}.yaml"))).unwrap();
        freeze(&frozen_file(revision, &format!("{name}.cluster")), &cluster);
        let objects = build_at(&frozen_cluster(revision, name), revision);
        freeze(&frozen_file(revision, name), &what_pods_are_made_of(&objects));
    }
}

#[test]
fn each_revision_builds_what_it_built_when_it_was_frozen() {
    for revision in 1..=CURRENT_REVISION {
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            freeze_missing(revision);
        }
        for name in FROZEN_CLUSTERS {
            let file = frozen_file(revision, name);
            let frozen = std::fs::read_to_string(&file).unwrap_or_else(|error| {
                panic!("{}: {error}: UPDATE_SNAPSHOTS=1 freezes a new revision", file.display())
            });
            let built = what_pods_are_made_of(&build_at(&frozen_cluster(revision, name), revision));
            if let Some((line, (frozen, built))) =
                frozen.lines().zip(built.lines()).enumerate().find(|(_, (frozen, built))| frozen != built)
            {
                panic!(
                    "{}:{}: {frozen:?} is now {built:?}. This revision is frozen, for the change would restart every \
                     cluster that is at it: raise CURRENT_REVISION, and build this for the new one only",
                    file.display(),
                    line + 1
                );
            }
            assert_eq!(frozen, built, "{}", file.display());
        }
    }
}

/// The pod templates in a frozen file, by component. Templates of readers differ by their names: the first one is taken.
fn frozen_templates(revision: u32, name: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(frozen_file(revision, name)).unwrap();
    let mut templates = BTreeMap::new();
    for part in serde_yaml::Deserializer::from_str(&text) {
        let mut part = Value::deserialize(part).unwrap();
        let template = part["template"].take();
        if let Some(component) = template.pointer(COMPONENT_POINTER).and_then(Value::as_str) {
            templates.entry(component.to_owned()).or_insert(template);
        }
    }
    templates
}

#[test]
fn what_a_newer_revision_restarts_is_told_before_it_does() {
    for (revision, name) in (1..=CURRENT_REVISION).flat_map(|it| FROZEN_CLUSTERS.map(|name| (it, name))) {
        let cluster = frozen_cluster(revision, name);
        let frozen = frozen_templates(revision, name);
        let mut newest = BTreeMap::new();
        for object in build_at(&cluster, CURRENT_REVISION) {
            if let (Kind::Deployment, Some(component)) = (object.kind, object.component) {
                newest
                    .entry(component.name().to_owned())
                    .or_insert_with(|| object.body["spec"]["template"].clone());
            }
        }
        assert!(frozen.keys().eq(newest.keys()), "{name} of revision {revision}");
        let restarted: Vec<&str> =
            frozen.iter().filter(|(name, it)| newest[*name] != **it).map(|(name, _)| name.as_str()).collect();
        let told = build::components_restarted_by_revision(&cluster, revision, CURRENT_REVISION, &operator());
        let mut told: Vec<&str> = told.iter().map(|component| component.name()).collect();
        told.sort_unstable();
        assert_eq!(told, restarted, "{name} of revision {revision}");
        assert_eq!(restarted.is_empty(), revision == CURRENT_REVISION, "{name} of revision {revision}");
    }
}
