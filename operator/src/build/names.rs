//! Names, labels and annotations: what objects of a cluster are called, and how they are known again.

use std::collections::BTreeMap;

use super::Component;

/// Longest name of a `RankingCluster`. Services and the pods of the longest suffix (`-reader-510` and 17 characters
/// of a pod) then keep within the 63 characters of a DNS label; pod names lose at most a part of their hash.
pub const MAX_CLUSTER_NAME: usize = 40;

/// Label: what the application is called.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label: the cluster's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: [`Component::name`], or [`SHARED`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label: who looks after the object; what the operator's watches select.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label of what belongs to one reader: its name.
pub const READER: &str = "liverank.dev/reader";

/// Value of [`NAME`].
pub const APP: &str = "liverank";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "liverank-operator";
/// Value of [`COMPONENT`] of what belongs to all components.
pub const SHARED: &str = "shared";

/// Everything of ours below this prefix is ours alone: overrides cannot set it.
pub const OUR_PREFIX: &str = "liverank.dev/";
/// Annotation of a Deployment: hash of the pod template that was wanted when it was applied.
pub const TEMPLATE_HASH: &str = "liverank.dev/template-hash";
/// Annotation of a pod template: hash of its component's configuration file.
pub const CONFIG_HASH: &str = "liverank.dev/config-hash";
/// Annotation of a pod template: revision of the builder that wrote it.
pub const REVISION: &str = "liverank.dev/builder-revision";
/// Annotation of a pod template: `spec.restartAt`.
pub const RESTARTED_AT: &str = "liverank.dev/restarted-at";
/// Annotation of a reader's Deployment that is being emptied: why.
pub const DRAIN: &str = "liverank.dev/drain";
/// Annotation of a reader's Deployment that is being emptied: since when, RFC 3339.
pub const DRAIN_SINCE: &str = "liverank.dev/drain-since";

/// Name of a component's Deployment, Service, budget and policy. Readers have a Deployment and a Service each
/// ([`reader`]).
pub fn of(cluster: &str, component: Component) -> String {
    format!("{cluster}-{}", component.name())
}

/// Name of reader number `n`: its Deployment, its Service, and its id at the managers.
pub fn reader(cluster: &str, n: u32) -> String {
    format!("{cluster}-reader-{n}")
}

/// The number of the reader of that [name](reader).
pub fn reader_number(cluster: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(cluster)?.strip_prefix("-reader-")?;
    let number = digits.parse().ok()?;
    // `01` and `+1` are read as numbers, but are no names of ours.
    (reader(cluster, number) == name).then_some(number)
}

/// Name of the `ConfigMap` with one key a component.
pub fn config(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// The key of a component's configuration in the `ConfigMap`.
pub fn config_key(component: Component) -> String {
    format!("{}.yaml", component.name())
}

/// Name of the `ServiceAccount` of all workload pods.
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-workload")
}

/// Where a component's Service is reached inside the Kubernetes cluster; `None` for one that serves nobody.
pub fn url(cluster: &str, namespace: &str, component: Component) -> Option<String> {
    component.http_port().map(|port| format!("http://{}.{namespace}:{port}", of(cluster, component)))
}

/// Where the managers are reached inside the Kubernetes cluster.
pub fn manager_url(cluster: &str, namespace: &str) -> String {
    let port = Component::Manager.http_port().unwrap_or_default();
    format!("http://{}.{namespace}:{port}", of(cluster, Component::Manager))
}

/// Where a reader is reached inside the Kubernetes cluster.
pub fn reader_url(namespace: &str, reader: &str) -> String {
    let port = Component::Reader.http_port().unwrap_or_default();
    format!("http://{reader}.{namespace}:{port}")
}

/// Labels that tell the pods of a component (of all components, where none is given) of a cluster from all others.
pub fn selector(cluster: &str, component: Option<Component>) -> BTreeMap<String, String> {
    let mut labels =
        BTreeMap::from([(NAME.to_owned(), APP.to_owned()), (INSTANCE.to_owned(), cluster.to_owned())]);
    if let Some(component) = component {
        labels.insert(COMPONENT.to_owned(), component.name().to_owned());
    }
    labels
}

/// Labels that tell one reader's pods from all others.
pub fn reader_selector(cluster: &str, reader: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, Some(Component::Reader));
    labels.insert(READER.to_owned(), reader.to_owned());
    labels
}

/// The labels of an object.
pub fn labels(cluster: &str, component: Option<Component>, reader: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, component);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.entry(COMPONENT.to_owned()).or_insert_with(|| SHARED.to_owned());
    labels.extend(reader.map(|reader| (READER.to_owned(), reader.to_owned())));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_names_are_read_back_and_no_others() {
        assert_eq!(reader_number("live", &reader("live", 17)), Some(17));
        for name in
            ["live-reader-", "live-reader-01", "live-reader-+1", "live-reader-x", "other-reader-1", "live-1"]
        {
            assert_eq!(reader_number("live", name), None, "{name}");
        }
        // One cluster's name may begin with another's.
        assert_eq!(reader_number("live", "live-reader-2-reader-1"), None);
    }

    #[test]
    fn ports_in_addresses_are_the_components() {
        assert_eq!(url("live", "tv", Component::Manager), Some(manager_url("live", "tv")));
        assert_eq!(Component::Reader.http_port(), Some(4001));
        assert_eq!(url("live", "tv", Component::Consumer), None);
    }
}
