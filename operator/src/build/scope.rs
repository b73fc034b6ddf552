//! The input of the builder, in the form in which its parts use it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;

use super::{Component, Input, names, tls};
use crate::crd::{PodSettings, RankingCluster, RankingClusterSpec, ServiceAccountSettings, ServiceSettings};

/// The cluster for which objects are built.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) spec: &'a RankingClusterSpec,
    /// The cluster's name.
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> Scope<'a> {
    pub(super) fn of(input: &'a Input<'a>) -> Self {
        let cluster = input.cluster;
        Self { input, spec: &cluster.spec, name: cluster.name(), namespace: cluster.namespace() }
    }

    /// Returns the components that the cluster has.
    pub(super) fn components(self) -> impl Iterator<Item = Component> {
        Component::enabled_components(self.spec)
    }

    /// Returns the user's settings for a component's pods.
    pub(super) const fn pod_settings(self, component: Component) -> &'a PodSettings {
        match component {
            Component::Manager => &self.spec.manager.pod,
            Component::Consumer => &self.spec.consumer.pod,
            Component::Comment => &self.spec.comment.front.pod,
            Component::Reader => &self.spec.readers.pod,
            Component::Websocket => &self.spec.websocket.pod,
            Component::Statistics => &self.spec.statistics.pod,
            Component::Gateway => &self.spec.gateway.pod,
        }
    }

    /// Returns the user's settings for a component's Services.
    pub(super) const fn service_settings(self, component: Component) -> &'a ServiceSettings {
        match component {
            Component::Manager => &self.spec.manager.service,
            Component::Consumer => &self.spec.consumer.service,
            Component::Comment => &self.spec.comment.front.service,
            Component::Reader => &self.spec.readers.service,
            Component::Websocket => &self.spec.websocket.service,
            Component::Statistics => &self.spec.statistics.service,
            Component::Gateway => &self.spec.gateway.service,
        }
    }

    /// Returns the resource's settings (annotations) for the `ServiceAccount` under which a component's pods run.
    pub(super) const fn service_account_settings(self, component: Component) -> &'a ServiceAccountSettings {
        match component {
            Component::Manager => &self.spec.manager.service_account,
            Component::Consumer => &self.spec.consumer.service_account,
            Component::Comment => &self.spec.comment.front.service_account,
            Component::Reader => &self.spec.readers.service_account,
            Component::Websocket => &self.spec.websocket.service_account,
            Component::Statistics => &self.spec.statistics.service_account,
            Component::Gateway => &self.spec.gateway.service_account,
        }
    }

    /// Returns the URL of a component's Service inside the Kubernetes cluster; `None` for a component that serves no
    /// requests.
    pub(super) fn service_url(self, component: Component) -> Option<String> {
        let port = component.http_port()?;
        Some(names::service_url(
            &names::component_object_name(self.name, component),
            self.namespace,
            port,
            tls::is_tls_on(self),
        ))
    }

    /// Returns the URL of a reader inside the Kubernetes cluster.
    pub(super) fn reader_url(self, reader: &str) -> String {
        names::reader_url(self.namespace, reader, tls::is_tls_on(self))
    }

    pub(super) fn selector(self, component: Component) -> LabelSelector {
        LabelSelector {
            match_labels: Some(names::pod_selector(self.name, Some(component))),
            match_expressions: None,
        }
    }

    /// Returns the metadata of an object that belongs to one component, to all components (`None`), or to one reader.
    pub(super) fn metadata(
        self,
        name: &str,
        component: Option<Component>,
        reader: Option<&str>,
    ) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.to_owned()),
            labels: Some(names::object_labels(self.name, component, reader)),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// Returns the owner reference of an object: the `RankingCluster` controls its objects. The reference does not
    /// block the owner's deletion: that would need the right to set finalizers on it, and nothing waits for it.
    fn owner(self) -> OwnerReference {
        OwnerReference {
            api_version: RankingCluster::api_version(&()).into_owned(),
            kind: RankingCluster::kind(&()).into_owned(),
            name: self.name.to_owned(),
            uid: self.input.cluster.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }
    }
}

/// Converts a value of Kubernetes' types to JSON.
pub(super) fn to_json<T: Serialize>(typed: &T) -> serde_json::Value {
    serde_json::to_value(typed).expect("Kubernetes' types have string keys and no failing parts")
}
