//! The names, labels and annotations of a cluster's objects, and the functions that recognise them.

use std::collections::BTreeMap;

use super::Component;

/// Longest name of a `RankingCluster`, in characters. Services and the pods of the longest suffix (`-reader-510` and 17
/// characters of a pod) then stay within the 63 characters of a DNS label; pod names lose at most a part of their hash.
pub const MAX_CLUSTER_NAME: usize = 40;

/// Number of hexadecimal digits of the hash in a `ConfigMap`'s name; with 10, all names of ours stay within 63
/// characters.
const CONFIG_HASH_DIGITS: usize = 10;
/// Longest default name in a store, in characters: the limit of `MongoDB` for a database's name, and of our processes
/// for a Redis prefix.
const MAX_STORE_NAME: usize = 63;

/// Label with the name of the application.
pub const APP_NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label with the cluster's name.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label with the component's name ([`Component::name`]), or [`SHARED_COMPONENT`].
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label with the program that manages the object; the operator's watches select objects by this label.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Label with a reader's name, on every object that belongs to one reader.
pub const READER_LABEL: &str = "liverank.dev/reader";

/// Value of the label with the application's name, [`APP_NAME_LABEL`].
pub const APP_NAME: &str = "liverank";
/// Value of the label with the managing program, [`MANAGED_BY_LABEL`].
pub const MANAGED_BY_OPERATOR: &str = "liverank-operator";
/// Value of [`COMPONENT_LABEL`] on objects that belong to all components.
pub const SHARED_COMPONENT: &str = "shared";

/// Prefix of label and annotation keys that are reserved for the operator: users cannot set them.
pub const OUR_PREFIX: &str = "liverank.dev/";
/// Returns the user's labels or annotations without the keys that are reserved for the operator.
pub(super) fn without_our_keys(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let theirs = given.iter().filter(|(key, _)| !key.starts_with(OUR_PREFIX));
    theirs.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Annotation of a `RankingCluster`: the names of the plans that somebody approves, separated by commas.
pub const APPROVE_ANNOTATION: &str = "liverank.dev/approve";
/// Annotation of a Deployment: hash of the pod template that was wanted when the Deployment was applied.
pub const TEMPLATE_HASH_ANNOTATION: &str = "liverank.dev/template-hash";
/// Annotation of a pod template: revision of the builder that wrote it.
pub const REVISION_ANNOTATION: &str = "liverank.dev/builder-revision";
/// Annotation of a pod template: the value of `spec.restartAt`.
pub const RESTARTED_AT_ANNOTATION: &str = "liverank.dev/restarted-at";
/// Annotation of the Deployment of a reader that is being emptied: the reason.
pub const DRAIN_ANNOTATION: &str = "liverank.dev/drain";
/// Annotation of the Deployment of a reader that is being emptied: the time at which the drain began, in RFC 3339.
pub const DRAIN_SINCE_ANNOTATION: &str = "liverank.dev/drain-since";

/// Returns the name of a component's Deployment, Service, disruption budget and network policy. Each reader has a
/// Deployment and a Service of its own ([`reader_name`]).
pub fn component_object_name(cluster: &str, component: Component) -> String {
    format!("{cluster}-{}", component.name())
}

/// Returns the name of reader number `n`, which is also the name of its Deployment and Service, and its id at the
/// managers.
pub fn reader_name(cluster: &str, n: u32) -> String {
    format!("{cluster}-reader-{n}")
}

/// Returns the number of the reader with that [name](reader_name); `None` if it is not the name of a reader of the
/// cluster.
pub fn reader_number(cluster: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(cluster)?.strip_prefix("-reader-")?;
    let number = digits.parse().ok()?;
    // `01` and `+1` parse as numbers, but the operator gives no reader such a name.
    (reader_name(cluster, number) == name).then_some(number)
}

/// Returns the name of the `ConfigMap` with a component's configuration file. The name contains the
/// [hash](super::object::hash) of the file: a changed file is a new object, and pods of an old template keep their
/// file.
pub fn config_map_name(cluster: &str, component: Component, hash: &str) -> String {
    format!("{cluster}-{}-{}", component.name(), &hash[..CONFIG_HASH_DIGITS])
}

/// Returns the prefix of every key and channel in Redis if the resource names none. No two clusters have the same
/// prefix, because neither a namespace nor a cluster's name contains a dot.
pub fn default_redis_prefix(namespace: &str, cluster: &str) -> String {
    shorten_with_hash(format!("{namespace}.{cluster}"), MAX_STORE_NAME - 1) + "."
}

/// Returns the name of the `MongoDB` database if the resource names none. No two clusters have the same database name,
/// because neither a namespace nor a cluster's name contains an underscore.
pub fn default_database(namespace: &str, cluster: &str) -> String {
    shorten_with_hash(format!("{namespace}_{cluster}"), MAX_STORE_NAME)
}

/// Returns `name`, or if it is longer than `max` its beginning and a hash of all of it.
fn shorten_with_hash(name: String, max: usize) -> String {
    if name.len() <= max {
        return name;
    }
    let hash = super::object::hash(&name.as_str().into());
    format!("{}-{hash}", &name[..max - hash.len() - 1])
}

/// Returns the name of the Lease whose holder is the operator that manages the cluster.
pub fn claim_lease_name(cluster: &str) -> String {
    format!("{cluster}-operator")
}

/// Returns the name of the `ConfigMap` with the public keys by which the cluster's processes verify each other's
/// identity.
pub fn identity_config_map_name(cluster: &str) -> String {
    format!("{cluster}-identity")
}

/// Returns the name of the `ServiceAccount` of the people who operate the cluster: it may read everything from managers
/// and give no orders.
pub fn cli_service_account_name(cluster: &str) -> String {
    format!("{cluster}-cli")
}

/// Returns the audience of the identity tokens of a cluster's processes.
pub fn token_audience(cluster: &str, namespace: &str) -> String {
    format!("liverank.dev/{namespace}/{cluster}")
}

/// Returns the host name of a Service in addresses over TLS. Certificates have to contain this host name; it has three
/// labels, because a wildcard certificate needs at least three.
pub fn service_host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Returns the URL of a Service inside the Kubernetes cluster.
pub fn service_url(service: &str, namespace: &str, port: u16, tls: bool) -> String {
    if tls {
        format!("https://{}:{port}", service_host(service, namespace))
    } else {
        format!("http://{service}.{namespace}:{port}")
    }
}

/// Returns the URL of a reader inside the Kubernetes cluster.
pub fn reader_url(namespace: &str, reader: &str, tls: bool) -> String {
    service_url(reader, namespace, Component::Reader.http_port().unwrap_or_default(), tls)
}

/// Returns the labels that select the pods of one component of a cluster, or the pods of all its components if none is
/// given.
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

/// Returns the labels that select the pods of one reader.
pub fn reader_selector(cluster: &str, reader: &str) -> BTreeMap<String, String> {
    let mut labels = pod_selector(cluster, Some(Component::Reader));
    labels.insert(READER_LABEL.to_owned(), reader.to_owned());
    labels
}

/// Returns the labels of an object of a cluster; without a component, the object belongs to all components.
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
        // The joined name must not be ambiguous about the place where one part ends.
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
