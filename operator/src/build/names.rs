//! Names, labels and annotations: what objects of a cluster are called, and how they are known again.

use std::collections::BTreeMap;

use super::Component;

/// Longest name of a `RankingCluster`. Services and the pods of the longest suffix (`-reader-510` and 17 characters
/// of a pod) then keep within the 63 characters of a DNS label; pod names lose at most a part of their hash.
pub const MAX_CLUSTER_NAME: usize = 40;

/// Hexadecimal digits of the hash in a `ConfigMap`'s name: all names of ours keep within 63 characters.
const CONFIG_HASH_DIGITS: usize = 10;
/// What `MongoDB` takes for a database's name, and our processes for a prefix.
const MAX_STORE_NAME: usize = 63;

/// Label: what the application is called.
pub const APP_NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label: the cluster's name.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label: [`Component::name`], or [`SHARED_COMPONENT`].
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label: who looks after the object; what the operator's watches select.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Label of what belongs to one reader: its name.
pub const READER_LABEL: &str = "liverank.dev/reader";

/// Value of [`APP_NAME_LABEL`].
pub const APP_NAME: &str = "liverank";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY_OPERATOR: &str = "liverank-operator";
/// Value of [`COMPONENT_LABEL`] of what belongs to all components.
pub const SHARED_COMPONENT: &str = "shared";

/// Everything of ours below this prefix is ours alone: overrides cannot set it.
pub const OUR_PREFIX: &str = "liverank.dev/";
/// Keys that are given, without those that would be ours.
pub(super) fn without_our_keys(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let theirs = given.iter().filter(|(key, _)| !key.starts_with(OUR_PREFIX));
    theirs.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Annotation of a resource: names of plans that somebody approves, separated by commas.
pub const APPROVE_ANNOTATION: &str = "liverank.dev/approve";
/// Annotation of a Deployment: hash of the pod template that was wanted when it was applied.
pub const TEMPLATE_HASH_ANNOTATION: &str = "liverank.dev/template-hash";
/// Annotation of a pod template: revision of the builder that wrote it.
pub const REVISION_ANNOTATION: &str = "liverank.dev/builder-revision";
/// Annotation of a pod template: `spec.restartAt`.
pub const RESTARTED_AT_ANNOTATION: &str = "liverank.dev/restarted-at";
/// Annotation of a reader's Deployment that is being emptied: why.
pub const DRAIN_ANNOTATION: &str = "liverank.dev/drain";
/// Annotation of a reader's Deployment that is being emptied: since when, RFC 3339.
pub const DRAIN_SINCE_ANNOTATION: &str = "liverank.dev/drain-since";

/// Name of a component's Deployment, Service, budget and policy. Readers have a Deployment and a Service each
/// ([`reader_name`]).
pub fn component_object_name(cluster: &str, component: Component) -> String {
    format!("{cluster}-{}", component.name())
}

/// Name of reader number `n`: its Deployment, its Service, and its id at the managers.
pub fn reader_name(cluster: &str, n: u32) -> String {
    format!("{cluster}-reader-{n}")
}

/// The number of the reader of that [name](reader_name).
pub fn reader_number(cluster: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(cluster)?.strip_prefix("-reader-")?;
    let number = digits.parse().ok()?;
    // `01` and `+1` are read as numbers, but are no names of ours.
    (reader_name(cluster, number) == name).then_some(number)
}

/// Name of the `ConfigMap` with a component's configuration file, by the [hash](super::object::hash) of the file: another
/// file is another object, and pods of an old template keep theirs.
pub fn config_map_name(cluster: &str, component: Component, hash: &str) -> String {
    format!("{cluster}-{}-{}", component.name(), &hash[..CONFIG_HASH_DIGITS])
}

/// What is put before every key and channel in Redis where the resource names nothing: no two clusters have the same.
/// Neither name has a dot in it.
pub fn default_redis_prefix(namespace: &str, cluster: &str) -> String {
    shorten_with_hash(format!("{namespace}.{cluster}"), MAX_STORE_NAME - 1) + "."
}

/// The `MongoDB` database where the resource names none: no two clusters have the same. Neither name has an underscore.
pub fn default_database(namespace: &str, cluster: &str) -> String {
    shorten_with_hash(format!("{namespace}_{cluster}"), MAX_STORE_NAME)
}

/// `name`, or where it is too long its beginning and a hash of all of it.
fn shorten_with_hash(name: String, max: usize) -> String {
    if name.len() <= max {
        return name;
    }
    let hash = super::object::hash(&name.as_str().into());
    format!("{}-{hash}", &name[..max - hash.len() - 1])
}

/// Name of the Lease whose holder looks after the cluster.
pub fn claim_lease_name(cluster: &str) -> String {
    format!("{cluster}-operator")
}

/// Name of the `ConfigMap` with the public keys by which the cluster's processes know each other.
pub fn identity_config_map_name(cluster: &str) -> String {
    format!("{cluster}-identity")
}

/// Name of the `ServiceAccount` of those who look after the cluster: they may ask managers everything and order nothing.
pub fn cli_service_account_name(cluster: &str) -> String {
    format!("{cluster}-cli")
}

/// For whom the tokens of a cluster's processes are.
pub fn token_audience(cluster: &str, namespace: &str) -> String {
    format!("liverank.dev/{namespace}/{cluster}")
}

/// What a Service is called in addresses over TLS: certificates have to name it, and a wildcard in one needs three labels.
pub fn service_host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Where a Service is reached inside the Kubernetes cluster.
pub fn service_url(service: &str, namespace: &str, port: u16, tls: bool) -> String {
    if tls {
        format!("https://{}:{port}", service_host(service, namespace))
    } else {
        format!("http://{service}.{namespace}:{port}")
    }
}

/// Where a reader is reached inside the Kubernetes cluster.
pub fn reader_url(namespace: &str, reader: &str, tls: bool) -> String {
    service_url(reader, namespace, Component::Reader.http_port().unwrap_or_default(), tls)
}

/// Labels that tell the pods of a component (of all components, where none is given) of a cluster from all others.
pub fn pod_selector(cluster: &str, component: Option<Component>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (APP_NAME_LABEL.to_owned(), APP_NAME.to_owned()),
        (INSTANCE_LABEL.to_owned(), cluster.to_owned()),
    ]);
    if let Some(component) = component {
        labels.insert(COMPONENT_LABEL.to_owned(), component.name().to_owned());
    }
    labels
}

/// Labels that tell one reader's pods from all others.
pub fn reader_selector(cluster: &str, reader: &str) -> BTreeMap<String, String> {
    let mut labels = pod_selector(cluster, Some(Component::Reader));
    labels.insert(READER_LABEL.to_owned(), reader.to_owned());
    labels
}

/// The labels of an object.
pub fn object_labels(
    cluster: &str,
    component: Option<Component>,
    reader: Option<&str>,
) -> BTreeMap<String, String> {
    let mut labels = pod_selector(cluster, component);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY_OPERATOR.to_owned());
    labels.entry(COMPONENT_LABEL.to_owned()).or_insert_with(|| SHARED_COMPONENT.to_owned());
    labels.extend(reader.map(|reader| (READER_LABEL.to_owned(), reader.to_owned())));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_numbers_are_parsed_from_reader_names_only() {
        assert_eq!(reader_number("live", &reader_name("live", 17)), Some(17));
        for name in
            ["live-reader-", "live-reader-01", "live-reader-+1", "live-reader-x", "other-reader-1", "live-1"]
        {
            assert_eq!(reader_number("live", name), None, "{name}");
        }
        // One cluster's name may begin with another's.
        assert_eq!(reader_number("live", "live-reader-2-reader-1"), None);
    }

    #[test]
    fn default_store_names_are_unique_to_a_cluster_and_short_enough() {
        assert_eq!(
            (&*default_redis_prefix("tv", "live"), &*default_database("tv", "live")),
            ("tv.live.", "tv_live")
        );
        // Where names are put together it must not matter where one ends.
        assert_ne!(default_redis_prefix("a-b", "c"), default_redis_prefix("a", "b-c"));
        assert_ne!(default_database("a-b", "c"), default_database("a", "b-c"));
        let (long, name) = ("n".repeat(63), "c".repeat(MAX_CLUSTER_NAME));
        let other = format!("{}d", &name[1..]);
        for of in [default_redis_prefix, default_database] {
            assert_eq!(of(&long, &name).len(), 63);
            assert_ne!(of(&long, &name), of(&long, &other));
        }
    }

    #[test]
    fn service_urls_are_https_with_tls() {
        assert_eq!(reader_url("tv", "live-reader-0", false), "http://live-reader-0.tv:4001");
        assert_eq!(service_url("live-manager", "tv", 6100, true), "https://live-manager.tv.svc:6100");
    }
}
