//! What the operator permits authors of resources: who may create a `RankingCluster` need not be able to create pods,
//! Services or Ingresses, and must not become able to by way of the operator. Pure.
//!
//! It is held against the objects as they would be made, not against fields: a new field is a new way in, and is held
//! without anybody thinking of it. What is refused is told with the path in the resource; nothing is changed meanwhile.

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
pub use pod_security::SecurityLevel;

/// Names and prefixes that are permitted: `name`, `prefix*`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Patterns(Vec<String>);

impl Patterns {
    fn allow_all() -> Self {
        Self(vec!["*".to_owned()])
    }

    const fn allow_none() -> Self {
        Self(Vec::new())
    }

    /// Whether `value` is permitted. `*` alone does not permit what is `powerful`: that has to be named.
    fn is_permitted(&self, value: &str, powerful: bool) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some("") => !powerful,
            Some(prefix) => value.starts_with(prefix),
            None => value == pattern,
        })
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// What is permitted; the chart's value `allow`. By default what v1alpha1 always permitted, and nothing that an author
/// could not do before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Images of all containers.
    pub images: Patterns,
    /// Hosts of Ingresses and `HTTPRoute`s.
    pub hosts: Patterns,
    /// Keys of annotations of pods, Services, Ingresses and `HTTPRoute`s. `*` does not permit snippets of a proxy's
    /// configuration.
    pub annotations: Patterns,
    /// Keys of annotations of `ServiceAccount`s: a cloud gives rights by them.
    pub service_account_annotations: Patterns,
    /// Priority classes. `*` does not permit those of the system.
    pub priority_classes: Patterns,
    /// Runtime classes.
    pub runtime_classes: Patterns,
    /// Schedulers.
    pub schedulers: Patterns,
    /// Types of Services.
    pub service_types: Patterns,
    /// What pods may do at most: a Pod Security Standard.
    pub pod_security: SecurityLevel,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            images: Patterns::allow_all(),
            hosts: Patterns::allow_all(),
            annotations: Patterns::allow_all(),
            service_account_annotations: Patterns::allow_none(),
            priority_classes: Patterns::allow_all(),
            runtime_classes: Patterns::allow_none(),
            schedulers: Patterns::allow_none(),
            service_types: Patterns(vec!["ClusterIP".to_owned()]),
            pod_security: SecurityLevel::Restricted,
        }
    }
}

impl Policy {
    /// Reads a policy from YAML. An empty text is the default policy.
    ///
    /// # Errors
    /// What cannot be read, with the field.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text)
    }

    /// All that is not permitted of what `input` would make. Readers are looked at even where there are none yet.
    pub fn find_refusals(&self, input: &Input<'_>) -> Vec<FieldProblem> {
        let any = [Reader { name: names::reader_name(input.cluster.name(), 0), drain: None }];
        let objects = build::desired_objects(&Input { readers: &any, ..*input });
        let mut refusals = RefusalCollector { policy: self, found: Vec::new() };
        for object in &objects {
            refusals.check_object(input.cluster, object);
        }
        let mut found = refusals.found;
        found.sort();
        found.dedup();
        found
    }
}

struct RefusalCollector<'a> {
    policy: &'a Policy,
    found: Vec<FieldProblem>,
}

impl RefusalCollector<'_> {
    fn check_object(&mut self, cluster: &RankingCluster, object: &Object) {
        match object.kind {
            Kind::Deployment => {
                if let Ok(deployment) = serde_json::from_value::<Deployment>(object.body.clone()) {
                    let template = deployment.spec.map(|spec| spec.template).unwrap_or_default();
                    let path = format!("{}.pod", resource_path(object));
                    let given = template.metadata.and_then(|it| it.annotations).unwrap_or_default();
                    self.check_annotations(&path, &given, "annotations");
                    self.check_pod(&path, cluster, &template.spec.unwrap_or_default());
                }
            }
            Kind::Service => {
                let path = format!("{}.service", resource_path(object));
                self.check_annotations(&path, &object_annotations(object), "annotations");
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
                self.check_annotations(&path, &object_annotations(object), "serviceAccountAnnotations");
            }
            Kind::Ingress | Kind::HttpRoute => {
                self.check_annotations("spec.exposure", &object_annotations(object), "annotations");
                let path = match object.component {
                    Some(Component::Reader) => "spec.exposure.readerHostTemplate",
                    _ => "spec.exposure.host",
                };
                for host in ingress_hosts(&object.body) {
                    self.check_value(path.to_owned(), &host, false, "hosts", &self.policy.hosts);
                }
            }
            Kind::ConfigMap
            | Kind::NetworkPolicy
            | Kind::PodDisruptionBudget
            | Kind::HorizontalPodAutoscaler
            | Kind::ServiceMonitor => {}
        }
    }

    /// Our own annotations are none of an author's.
    fn check_annotations(&mut self, path: &str, given: &BTreeMap<String, String>, list: &'static str) {
        let policy = self.policy;
        let permitted =
            if list == "annotations" { &policy.annotations } else { &policy.service_account_annotations };
        for (key, _) in given.iter().filter(|(key, value)| !build::is_own_annotation(key, value)) {
            let powerful = key.ends_with("-snippet") || key.ends_with("-snippets");
            self.check_value(format!("{path}.annotations[{key}]"), key, powerful, list, permitted);
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
        for breach in pod_security::find_breaches(pod).into_iter().filter(|it| it.needs > policy.pod_security)
        {
            let message = format!(
                "{}; this operator permits pods of the standard {} only (podSecurity)",
                breach.what, policy.pod_security
            );
            self.found.push(FieldProblem { path: format!("{path}.{}", breach.field), message });
        }
    }

    fn check_value(
        &mut self,
        path: String,
        value: &str,
        powerful: bool,
        list: &'static str,
        permitted: &Patterns,
    ) {
        if !permitted.is_permitted(value, powerful) {
            let message = format!("{value:?} is not among what this operator permits ({list}: {permitted})");
            self.found.push(FieldProblem { path, message });
        }
    }
}

/// Where in the resource an object's component stands.
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
