//! The limits that the operator sets to the authors of resources. Somebody who may create a `RankingCluster` may have
//! no right to create pods, Services or Ingresses, and must not get it by way of the operator. The check is pure.
//!
//! The policy is checked against the objects that would be made, not against fields of the resource: a new field is a
//! new way to the same objects, and is checked without further code. A refusal names the path in the resource; while
//! there is one, the operator changes nothing.

mod annotations;
mod hosts;
pub mod pod_security;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize;
use serde_json::Value;

use crate::build::{self, Component, Input, Kind, Object, Reader, names};
use crate::crd::RankingCluster;
use crate::validate::FieldProblem;
pub use hosts::HostPatterns;
use pod_security::SecurityBreach;
pub use pod_security::SecurityLevel;

/// A list of patterns for permitted values: `name`, `prefix*`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct NamePatterns(Vec<String>);

impl NamePatterns {
    fn allow_all() -> Self {
        Self(vec!["*".to_owned()])
    }

    const fn allow_none() -> Self {
        Self(Vec::new())
    }

    /// Returns whether `value` is permitted. The pattern `*` does not permit a `powerful` value, which has to be named.
    fn is_permitted(&self, value: &str, powerful: bool) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some("") => !powerful,
            Some(prefix) => value.starts_with(prefix),
            None => value == pattern,
        })
    }
}

impl fmt::Display for NamePatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// The policy: what authors of resources may use; the chart's value `allow`. The default permits what v1alpha1
/// permitted before there was a policy, and nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Images that all containers may use.
    pub images: NamePatterns,
    /// Host names that Ingresses and `HTTPRoute`s may have, by their fields or by annotations.
    pub hosts: HostPatterns,
    /// Keys of annotations that pods, Services, Ingresses and `HTTPRoute`s may have. The pattern `*` does not permit
    /// annotations with snippets of a proxy's configuration, nor annotations by which a controller would give more than
    /// the policy permits elsewhere.
    pub annotations: NamePatterns,
    /// Keys of annotations that `ServiceAccount`s may have: a cloud grants rights by them.
    pub service_account_annotations: NamePatterns,
    /// Priority classes that pods may have. The pattern `*` does not permit the priority classes of the system.
    pub priority_classes: NamePatterns,
    /// Runtime classes that pods may have.
    pub runtime_classes: NamePatterns,
    /// Schedulers that pods may have.
    pub schedulers: NamePatterns,
    /// Types that Services may have.
    pub service_types: NamePatterns,
    /// The Pod Security Standard that pods must not exceed.
    pub pod_security: SecurityLevel,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            images: NamePatterns::allow_all(),
            hosts: HostPatterns::allow_all(),
            annotations: NamePatterns::allow_all(),
            service_account_annotations: NamePatterns::allow_none(),
            priority_classes: NamePatterns::allow_all(),
            runtime_classes: NamePatterns::allow_none(),
            schedulers: NamePatterns::allow_none(),
            service_types: NamePatterns(vec!["ClusterIP".to_owned()]),
            pod_security: SecurityLevel::Restricted,
        }
    }
}

impl Policy {
    /// Parses a policy from YAML. An empty text is the default policy.
    ///
    /// # Errors
    /// Returns the parser's error, which names the field.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text)
    }

    /// Returns everything that the policy does not permit in the objects of `input`. Readers are checked even if there
    /// are none yet.
    pub fn find_refusals(&self, input: &Input<'_>) -> Vec<FieldProblem> {
        let any = [Reader { name: names::reader_name(input.cluster.name(), 0), drain: None }];
        let objects = build::desired_objects(&Input { readers: &any, ..*input });
        let mut refusals = RefusalCollector { policy: self, problems: Vec::new() };
        for object in &objects {
            refusals.check_object(input.cluster, object);
        }
        let mut found = refusals.problems;
        found.sort();
        found.dedup();
        found
    }
}

struct RefusalCollector<'a> {
    policy: &'a Policy,
    problems: Vec<FieldProblem>,
}

impl RefusalCollector<'_> {
    fn check_object(&mut self, cluster: &RankingCluster, object: &Object) {
        match object.kind {
            Kind::Deployment => {
                if let Ok(deployment) = serde_json::from_value::<Deployment>(object.body.clone()) {
                    let template = deployment.spec.map(|spec| spec.template).unwrap_or_default();
                    let path = format!("{}.pod", resource_path(object));
                    let given = template.metadata.and_then(|it| it.annotations).unwrap_or_default();
                    self.check_annotations(&path, cluster, &given, "annotations");
                    self.check_profiles(&path, &given);
                    self.check_pod(&path, cluster, &template.spec.unwrap_or_default());
                }
            }
            Kind::Service => {
                let path = format!("{}.service", resource_path(object));
                self.check_annotations(&path, cluster, &object_annotations(object), "annotations");
                let kind = object.body["spec"]["type"].as_str().unwrap_or_default();
                self.check_value(
                    format!("{path}.type"),
                    kind,
                    false,
                    "serviceTypes",
                    &self.policy.service_types,
                );
            }
            Kind::ServiceAccount => {
                let path = format!("{}.serviceAccount", resource_path(object));
                let given = object_annotations(object);
                self.check_annotations(&path, cluster, &given, "serviceAccountAnnotations");
            }
            Kind::Ingress | Kind::HttpRoute => {
                self.check_annotations("spec.exposure", cluster, &object_annotations(object), "annotations");
                for host in ingress_hosts(&object.body) {
                    self.check_host(cluster, object.component, &host);
                }
            }
            Kind::ConfigMap
            | Kind::NetworkPolicy
            | Kind::PodDisruptionBudget
            | Kind::HorizontalPodAutoscaler
            | Kind::ServiceMonitor => {}
        }
    }

    /// Checks the annotations of an object, without those that the operator itself writes.
    fn check_annotations(
        &mut self,
        path: &str,
        cluster: &RankingCluster,
        given: &BTreeMap<String, String>,
        list: &'static str,
    ) {
        let policy = self.policy;
        let permitted =
            if list == "annotations" { &policy.annotations } else { &policy.service_account_annotations };
        let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
        for (key, value) in given.iter().filter(|(key, value)| !build::is_own_annotation(key, value)) {
            let path = format!("{path}.annotations[{key}]");
            let powerful = annotations::is_powerful(key, value, namespace);
            self.check_value(path.clone(), key, powerful, list, permitted);
            for host in annotations::hosts(key, value) {
                self.check_hosts(path.clone(), &[host]);
            }
        }
    }

    /// Checks the `AppArmor` and seccomp profiles that a pod's annotations choose for its containers.
    fn check_profiles(&mut self, path: &str, given: &BTreeMap<String, String>) {
        for breach in given.iter().filter_map(|(key, value)| annotations::find_breach(key, value)) {
            self.note_breach(path, &breach);
        }
    }

    /// Checks the host of a route. For a reader, the hosts of the first two readers are checked, which stand for those
    /// of all readers: readers' hosts differ in the number only.
    fn check_host(&mut self, cluster: &RankingCluster, component: Option<Component>, host: &str) {
        if component != Some(Component::Reader) {
            return self.check_hosts("spec.exposure.host".to_owned(), &[host]);
        }
        let second = cluster.spec.exposure.reader_host(&names::reader_name(cluster.name(), 1));
        let all = [host, second.as_deref().unwrap_or(host)];
        self.check_hosts("spec.exposure.readerHostTemplate".to_owned(), &all);
    }

    fn check_hosts(&mut self, path: String, hosts: &[&str]) {
        let permitted = &self.policy.hosts;
        if !permitted.permits_together(hosts) {
            let named = hosts.join(", ");
            let message = format!("{named:?} is not among what this operator permits (hosts: {permitted})");
            self.problems.push(FieldProblem { path, message });
        }
    }

    fn note_breach(&mut self, path: &str, breach: &SecurityBreach) {
        if breach.required_level > self.policy.pod_security {
            let message = format!(
                "{}; this operator permits pods of the standard {} only (podSecurity)",
                breach.description, self.policy.pod_security
            );
            self.problems.push(FieldProblem { path: format!("{path}.{}", breach.field), message });
        }
    }

    fn check_pod(&mut self, path: &str, cluster: &RankingCluster, pod: &PodSpec) {
        let policy = self.policy;
        let images = &policy.images;
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            let image = container.image.as_deref().unwrap_or_default();
            let is_own = image == cluster.spec.image && pod.containers.contains(container);
            let path =
                if is_own { "spec.image".to_owned() } else { format!("{path}: image of {}", container.name) };
            self.check_value(path, image, false, "images", images);
        }
        let named = [
            ("priorityClassName", &pod.priority_class_name, "priorityClasses", &policy.priority_classes),
            ("runtimeClassName", &pod.runtime_class_name, "runtimeClasses", &policy.runtime_classes),
            ("schedulerName", &pod.scheduler_name, "schedulers", &policy.schedulers),
        ];
        for (field, name, list, permitted) in named {
            if let Some(name) = name {
                self.check_value(
                    format!("{path}.{field}"),
                    name,
                    name.starts_with("system-"),
                    list,
                    permitted,
                );
            }
        }
        for breach in pod_security::find_breaches(pod) {
            self.note_breach(path, &breach);
        }
    }

    fn check_value(
        &mut self,
        path: String,
        value: &str,
        powerful: bool,
        list: &'static str,
        permitted: &NamePatterns,
    ) {
        if !permitted.is_permitted(value, powerful) {
            let message = format!("{value:?} is not among what this operator permits ({list}: {permitted})");
            self.problems.push(FieldProblem { path, message });
        }
    }
}

/// Returns the path in the resource of the component that an object belongs to.
fn resource_path(object: &Object) -> String {
    match object.component {
        Some(Component::Reader) => "spec.readers".to_owned(),
        Some(component) => format!("spec.{}", component.name()),
        None => "spec".to_owned(),
    }
}

fn object_annotations(object: &Object) -> BTreeMap<String, String> {
    serde_json::from_value(object.body["metadata"]["annotations"].clone()).unwrap_or_default()
}

fn ingress_hosts(body: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let rules = body["spec"]["rules"].as_array().into_iter().flatten();
    let routes = body["spec"]["hostnames"].as_array().into_iter().flatten();
    rules.filter_map(|rule| text(&rule["host"])).chain(routes.filter_map(text)).collect()
}

#[cfg(test)]
mod tests;
