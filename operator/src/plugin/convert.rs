//! Rewrites manifests for another version of the resource, without a connection to Kubernetes.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::Value;

use crate::crd::v1beta1::{Version, convert_object};

/// The largest file, in bytes: ten times of what etcd takes of one object.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Returns the documents of a file, or of standard input for `-`, with each `RankingCluster` in the wanted version.
///
/// # Errors
/// The file cannot be read, is no YAML, or has a field that cannot be converted.
pub fn convert_file(file: &Path, wanted: Version) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    read.with_context(|| file.display().to_string())?;
    anyhow::ensure!(text.len() as u64 <= MAX_BYTES, "{}: it has more than {MAX_BYTES} bytes", file.display());
    convert_documents(&text, wanted).with_context(|| file.display().to_string())
}

/// Returns YAML documents with each `RankingCluster` in the wanted version.
///
/// # Errors
/// The text is no YAML, or has a field that cannot be converted; the error says in which document.
pub fn convert_documents(text: &str, wanted: Version) -> anyhow::Result<String> {
    let mut written = Vec::new();
    for (nth, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let converted = serde_yaml::Value::deserialize(document)
            .map_err(anyhow::Error::from)
            .and_then(|document| convert_document(document, wanted))
            .with_context(|| format!("document {}", nth + 1))?;
        written.extend(converted);
    }
    Ok(written.join("---\n"))
}

/// Returns one document as YAML; `None` if it is empty.
fn convert_document(mut document: serde_yaml::Value, wanted: Version) -> anyhow::Result<Option<String>> {
    if document.is_null() {
        return Ok(None);
    }
    if !may_contain_clusters(&document) {
        return Ok(Some(serde_yaml::to_string(&document)?));
    }
    document.apply_merge()?;
    let mut object = serde_json::to_value(document).map_err(|error| anyhow!("no object: {error}"))?;
    let is_list = object["kind"] == "List";
    match object.get_mut("items") {
        Some(Value::Array(items)) if is_list => {
            for (nth, item) in items.iter_mut().enumerate().filter(|(_, item)| is_cluster(item)) {
                *item = convert_object(item, wanted).with_context(|| format!("items[{nth}]"))?;
            }
        }
        _ if is_list => {}
        _ => object = convert_object(&object, wanted)?,
    }
    // Whether a map keeps its insertion order depends on the programs that are built together; the text must not.
    object.sort_all_objects();
    Ok(Some(serde_yaml::to_string(&object)?))
}

/// Returns whether a document is a `RankingCluster` or a list, which may have some.
fn may_contain_clusters(document: &serde_yaml::Value) -> bool {
    document
        .get("kind")
        .and_then(serde_yaml::Value::as_str)
        .is_some_and(|kind| kind == "RankingCluster" || kind == "List")
}

fn is_cluster(object: &Value) -> bool {
    object["kind"] == "RankingCluster"
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = "\
# Lost.
apiVersion: v1
kind: Namespace
metadata: {name: tv}
---
---
apiVersion: liverank.dev/v1alpha1
kind: RankingCluster
metadata: {name: live}
spec:
  paused: true
  gateway: {drainSeconds: 90, pod: &pod {labels: {team: video}}}
  websocket: {pod: {<<: *pod, logLevel: debug}}
---
apiVersion: v1
kind: List
items:
- {apiVersion: liverank.dev/v1alpha1, kind: RankingCluster, metadata: {name: other}, spec: {hibernate: true}}
- {apiVersion: v1, kind: Secret, metadata: {name: stores}}
";

    #[test]
    fn each_document_with_clusters_is_converted_and_others_stay() {
        let text = convert_documents(MANIFESTS, Version::V1beta1).unwrap();
        let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&text)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        let [namespace, live, list] = &documents[..] else { panic!("{text}") };
        assert_eq!(namespace["kind"], "Namespace");
        assert_eq!(live["apiVersion"], "liverank.dev/v1beta1");
        assert_eq!(live["spec"]["reconciliation"], "Paused");
        assert_eq!(live["spec"]["gateway"]["drainTimeout"], "1m30s");
        let template = &live["spec"]["websocket"]["podTemplate"];
        assert_eq!(template["metadata"]["labels"]["team"], "video");
        assert_eq!(template["container"]["logLevel"], "debug");
        assert_eq!(list["items"][0]["apiVersion"], "liverank.dev/v1beta1");
        assert_eq!(list["items"][1]["kind"], "Secret");
        let back = convert_documents(&text, Version::V1alpha1).unwrap();
        assert_eq!(convert_documents(&back, Version::V1beta1).unwrap(), text);
    }

    #[test]
    fn an_error_says_in_which_document_and_field() {
        let text = MANIFESTS.replace("drainSeconds: 90", "drainSeconds: soon");
        let error = convert_documents(&text, Version::V1beta1).unwrap_err();
        let wanted = "document 3: spec.gateway.drainSeconds: a whole number of seconds is needed";
        assert_eq!(format!("{error:#}"), wanted);
        assert!(
            format!("{:#}", convert_documents("a: b: c", Version::V1beta1).unwrap_err())
                .starts_with("document 1")
        );
    }
}
