//! The system under test: one `RankingCluster`, its operator, and the settings and stores that the harness needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kube::{
    self, CHILD_KINDS, DEPLOYMENT_KIND, KubeClient, LEASE_KIND, NAMESPACE_KIND, POD_KIND,
    RANKING_CLUSTER_KIND, SECRET_KIND,
};
use crate::wait::wait_until_some;

/// The namespace and the name of the cluster that most scenarios test.
pub const NAMESPACE_NAME: &str = "liverank-e2e";
pub const CLUSTER_NAME: &str = "live";
/// The helm release of the operator.
pub const RELEASE_NAME: &str = "liverank";
/// The name of the operator's Deployment and of its Lease, as the chart sets them.
pub const OPERATOR_NAME: &str = "liverank-operator";
pub const OPERATOR_NAMESPACE: &str = "liverank-system";
/// The label selector of all objects that the operator created.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=liverank-operator";
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The time limit until the system is as wanted after a change, on a busy machine: a pod may need its whole grace
/// period to end (a reader's is 180 s), and the pod after it a minute to start. Every wait with this limit reports the
/// time that it took; what has a limit of its own by promise is held to that limit.
pub const SETTLE_TIMEOUT: Duration = Duration::from_mins(4);

/// The settings of the harness, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct HarnessSettings {
    /// The image of all components and the operator.
    #[arg(long, default_value = "docker.io/testbed/liverank:1")]
    pub image: String,
    /// The same image by another name, for the scenarios that change the image.
    #[arg(long, default_value = "docker.io/testbed/liverank:2")]
    pub next_image: String,
    /// This program's own image.
    #[arg(long, default_value = "docker.io/testbed/liverank-e2e:1")]
    pub agent_image: String,
    /// Kafka's bootstrap servers, as pods reach them.
    #[arg(long, env = "LIVERANK_TEST_KAFKA")]
    pub kafka: String,
    /// Redis's URL, as pods reach it.
    #[arg(long, env = "LIVERANK_TEST_REDIS")]
    pub redis: String,
    /// MongoDB's URI, as pods reach it.
    #[arg(long, env = "LIVERANK_TEST_MONGODB")]
    pub mongodb: String,
    /// The checkout: charts, the definition and the fixtures of its rules.
    #[arg(long, default_value = ".")]
    pub checkout: PathBuf,
    /// The API server's audit log of the operator's namespace: with it, requests at rest are counted one by one. Without
    /// it, by resource, whoever they are from.
    #[arg(long, env = "LIVERANK_TEST_AUDIT_LOG")]
    pub audit_log: Option<PathBuf>,
    /// Values for the operator's chart, beside the image.
    #[arg(long)]
    pub operator_values: Option<PathBuf>,
    /// The number of clusters, of 25 simulated pods each, in the scenario `many`.
    #[arg(long, default_value_t = 20)]
    pub clusters: usize,
    /// The most memory that an operator may use in the scenario `many`, in MiB.
    #[arg(long, default_value_t = 48)]
    pub memory_mib: u64,
}

/// The system under test, and the client by which the harness reaches it.
pub struct ClusterWorld {
    pub kube: KubeClient,
    pub settings: HarnessSettings,
    /// A random name of the run, a part of the names of topics and databases, so that a run finds nothing of another
    /// run.
    pub run: String,
}

/// The UIDs of the pods, by component.
pub type PodsByComponent = BTreeMap<String, BTreeSet<String>>;

impl ClusterWorld {
    pub fn path(&self, below: &str) -> PathBuf {
        self.settings.checkout.join(below)
    }

    /// Returns a `RankingCluster` that uses the configured stores, with topic, prefix and database of its own.
    pub fn new_cluster(&self, namespace: &str, name: &str) -> Value {
        let own = format!("{}-{name}", self.run);
        json!({
            "apiVersion": RANKING_CLUSTER_KIND.api, "kind": RANKING_CLUSTER_KIND.name,
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "image": self.settings.image,
                "kafka": {"bootstrapServers": self.settings.kafka, "topic": format!("{own}-interactions")},
                "redis": {"urlSecret": {"name": "stores", "key": "redis"}, "prefix": format!("{own}-")},
                "mongodb": {"uriSecret": {"name": "stores", "key": "mongodb"}, "database": format!("{own}-videos")},
                "auth": {"enabled": false},
            },
        })
    }

    /// Creates a namespace that accepts restricted pods only, with the Secret `stores` that a cluster refers to. A
    /// namespace of this name that an earlier run left is deleted first, with all that is in it.
    pub async fn create_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        self.remove_namespace(namespace).await?;
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        self.kube.apply_object(NAMESPACE_KIND, &object).await?;
        let data = json!({"redis": self.settings.redis, "mongodb": self.settings.mongodb});
        let metadata = json!({"name": "stores", "namespace": namespace});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        self.kube.apply_object(SECRET_KIND, &secret).await.map(|_| ())
    }

    /// Deletes a namespace, and waits until it is gone with all that is in it: what is put into one that is being deleted
    /// is refused.
    pub async fn remove_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        let path = NAMESPACE_KIND.object_path("", namespace);
        let gone = async || {
            let Some(left) = self.kube.get_object(&path).await? else { return Ok(Ok(())) };
            if left.pointer("/metadata/deletionTimestamp").is_none() {
                self.kube.delete_object(&path).await?;
            }
            Ok(Err(left["status"].to_string()))
        };
        wait_until_some(&format!("the namespace {namespace} is gone"), SETTLE_TIMEOUT, gone).await.map(drop)
    }

    /// Returns the `RankingCluster` under test as the API server has it now.
    pub async fn live_cluster(&self) -> anyhow::Result<Value> {
        self.kube.get_named(RANKING_CLUSTER_KIND, NAMESPACE_NAME, CLUSTER_NAME).await
    }

    /// Merges a patch into the spec of the `RankingCluster` under test.
    pub async fn change_spec(&self, spec: Value) -> anyhow::Result<()> {
        let path = RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, CLUSTER_NAME);
        self.kube.merge_patch(&path, &json!({"spec": spec})).await?.expect_success().map(|_| ())
    }

    /// Waits until the operator reports the cluster ready with its newest spec; returns the time that it took.
    pub async fn wait_until_ready(&self, namespace: &str, name: &str) -> anyhow::Result<Duration> {
        let path = RANKING_CLUSTER_KIND.object_path(namespace, name);
        let look = async || {
            let cluster = self.kube.get_object(&path).await?.context("the cluster is not there")?;
            Ok(if is_ready(&cluster) { Ok(()) } else { Err(brief_status(&cluster["status"])) })
        };
        Ok(wait_until_some(&format!("{name} is ready"), SETTLE_TIMEOUT, look).await?.1)
    }

    /// Returns the UIDs of the cluster's pods by component, without pods that are being deleted.
    pub async fn pods(&self) -> anyhow::Result<PodsByComponent> {
        let mut pods = PodsByComponent::new();
        for pod in self.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await? {
            if pod.pointer("/metadata/deletionTimestamp").is_none() {
                let component =
                    pod["metadata"]["labels"][COMPONENT_LABEL].as_str().unwrap_or_default().to_owned();
                pods.entry(component).or_default().insert(kube::object_uid(&pod).to_owned());
            }
        }
        Ok(pods)
    }

    /// Returns what [`Self::pods`] does, once each component has as many pods as its Deployments ask for. The resource is
    /// ready a moment before the last pod of before is deleted, and that pod would count as one that was replaced later.
    pub async fn settled_pods(&self) -> anyhow::Result<PodsByComponent> {
        let look = async || {
            let deployments =
                self.kube.list_objects(DEPLOYMENT_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
            let (wanted, pods) = (wanted_pods(&deployments), self.pods().await?);
            let there: BTreeMap<&str, usize> =
                pods.iter().map(|(component, uids)| (component.as_str(), uids.len())).collect();
            let told = format!("{there:?} are there, and {wanted:?} are asked for");
            Ok(if there == wanted { Ok(pods) } else { Err(told) })
        };
        let found = wait_until_some("as many pods are there as are asked for", SETTLE_TIMEOUT, look).await?;
        Ok(found.0)
    }

    /// Returns the pods of one component as whole objects, without pods that are being deleted.
    pub async fn pods_of(&self, component: &str) -> anyhow::Result<Vec<Value>> {
        let selector = format!("{MANAGED_SELECTOR},{COMPONENT_LABEL}={component}");
        let pods = self.kube.list_objects(POD_KIND, NAMESPACE_NAME, &selector).await?;
        Ok(pods.into_iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()).collect())
    }

    /// Returns all objects that the operator has created in a namespace.
    pub async fn operator_objects(&self, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let mut children = Vec::new();
        for kind in CHILD_KINDS {
            children.extend(self.kube.list_objects(kind, namespace, MANAGED_SELECTOR).await?);
        }
        Ok(children)
    }

    /// Sends a request to one of the cluster's Services and returns the body; a status that is no success is an error.
    pub async fn request_service(
        &self,
        service: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let service = format!("{CLUSTER_NAME}-{service}");
        self.kube
            .request_to_service(NAMESPACE_NAME, &service, method, path, body)
            .await?
            .expect_success()
            .with_context(|| path.to_owned())
    }

    /// Returns the load that a manager reports (`/load`), read with a token. Also checks that a request without a
    /// token is refused with 401.
    pub async fn manager_load(&self) -> anyhow::Result<Value> {
        // A caller without a token gets nothing.
        let anonymous = self.kube.send_request(Method::GET, &manager_path("load"), None).await?;
        ensure!(anonymous.status == 401, "a manager answers a stranger: {}", anonymous.status);
        self.ask_manager("cli", Method::GET, "load", None).await
    }

    /// Sends a manager a request with a token of the cluster's caller `caller`, such as `cli` or `gateway`, and returns
    /// the body of the answer.
    pub async fn ask_manager(
        &self,
        caller: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let audience = format!("liverank.dev/{NAMESPACE_NAME}/{CLUSTER_NAME}");
        let account = format!("{CLUSTER_NAME}-{caller}");
        let token = self.kube.service_account_token(NAMESPACE_NAME, &account, &audience).await?;
        let body = body.map(|body| ("application/json", body));
        self.kube
            .send_with_token(method, &manager_path(path), body, Some(&token))
            .await?
            .expect_success()
            .with_context(|| format!("a manager, asked for /{path}"))
    }

    /// Returns the operator's Lease.
    pub async fn operator_lease(&self) -> anyhow::Result<Value> {
        self.kube.get_named(LEASE_KIND, OPERATOR_NAMESPACE, OPERATOR_NAME).await
    }

    /// Returns the operator's pods, without pods that are being deleted.
    pub async fn operator_pods(&self) -> anyhow::Result<Vec<Value>> {
        let selector = "app.kubernetes.io/name=liverank-operator,app.kubernetes.io/component=operator";
        let pods = self.kube.list_objects(POD_KIND, OPERATOR_NAMESPACE, selector).await?;
        Ok(pods.into_iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()).collect())
    }

    /// Scales the operator's Deployment and waits until exactly so many replicas are there and ready.
    pub async fn scale_operator(&self, replicas: usize) -> anyhow::Result<()> {
        let deployment = DEPLOYMENT_KIND.object_path(OPERATOR_NAMESPACE, OPERATOR_NAME);
        self.kube
            .merge_patch(&deployment, &json!({"spec": {"replicas": replicas}}))
            .await?
            .expect_success()?;
        let look = async || {
            let pods = self.operator_pods().await?;
            let ready = pods.iter().filter(|pod| is_true(pod, "Ready")).count();
            Ok(if pods.len() == replicas && ready == replicas {
                Ok(())
            } else {
                Err(format!("{ready} of {}", pods.len()))
            })
        };
        wait_until_some(&format!("{replicas} operators are there"), SETTLE_TIMEOUT, look).await.map(|_| ())
    }

    /// Installs or upgrades the operator by helm, with the tested image, two replicas and the additional arguments
    /// `more`.
    pub async fn install_operator(&self, more: &[&str]) -> anyhow::Result<()> {
        let (repository, tag) = self.settings.image.rsplit_once(':').context("--image has no tag")?;
        let chart = self.path("charts/liverank");
        let (repository, tag) = (format!("image.repository={repository}"), format!("image.tag={tag}"));
        let mut args = vec!["upgrade", "--install", RELEASE_NAME, path_as_str(&chart)?];
        args.extend(["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "150s"]);
        args.extend(["--set", &repository, "--set-string", &tag, "--set", "replicas=2"]);
        let values = self.settings.operator_values.clone();
        if let Some(values) = &values {
            args.extend(["--values", path_as_str(values)?]);
        }
        args.extend(more);
        self.kube.run_helm(&args).await.map(|_| ())
    }
}

/// Returns the path of a manager's endpoint, through the API server's proxy.
fn manager_path(endpoint: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE_NAME}/services/{CLUSTER_NAME}-manager:6100/proxy/{endpoint}")
}

fn path_as_str(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Whether the object has this status condition, and the condition is true.
pub fn is_true(object: &Value, condition: &str) -> bool {
    kube::status_condition(object, condition).is_some_and(|condition| condition["status"] == "True")
}

/// Whether the status is about the newest spec (`observedGeneration`), `Ready` is true and `Reconciling` is not.
pub fn is_ready(cluster: &Value) -> bool {
    cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"]
        && is_true(cluster, "Ready")
        && !is_true(cluster, "Reconciling")
}

/// Returns the conditions of a status in one line; "no status yet" if it has none.
fn brief_status(status: &Value) -> String {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let told: Vec<String> = conditions
        .map(|it| {
            format!(
                "{}={} {} {}",
                text_of(&it["type"]),
                text_of(&it["status"]),
                text_of(&it["reason"]),
                text_of(&it["message"])
            )
        })
        .collect();
    if told.is_empty() { "no status yet".to_owned() } else { told.join("; ") }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the number of pods that Deployments ask for, by component; components without pods are left out.
fn wanted_pods(deployments: &[Value]) -> BTreeMap<&str, usize> {
    let mut wanted = BTreeMap::new();
    for deployment in deployments {
        let component = text_of(&deployment["metadata"]["labels"][COMPONENT_LABEL]);
        *wanted.entry(component).or_default() +=
            deployment["spec"]["replicas"].as_u64().unwrap_or(0) as usize;
    }
    wanted.retain(|_, pods| *pods > 0);
    wanted
}

/// Returns the components whose sets of pod UIDs differ between `before` and `after`.
pub fn restarted_components(before: &PodsByComponent, after: &PodsByComponent) -> BTreeSet<String> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// Fails unless exactly the `expected` components have other pods than before.
pub fn expect_restarted(
    before: &PodsByComponent,
    after: &PodsByComponent,
    expected: &[&str],
) -> anyhow::Result<()> {
    let restarted = restarted_components(before, after);
    let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
    ensure!(restarted == expected, "restarted: {restarted:?}, expected: {expected:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(pods: &[(&str, &[&str])]) -> PodsByComponent {
        let set = |uids: &[&str]| uids.iter().map(ToString::to_string).collect();
        pods.iter().map(|(name, uids)| ((*name).to_owned(), set(uids))).collect()
    }

    #[test]
    fn restarted_components_are_those_with_other_pods() {
        let before = pods(&[("gateway", &["a", "b"]), ("comment", &["c"]), ("reader", &["d"])]);
        let after = pods(&[("gateway", &["b", "a"]), ("comment", &["e"])]);
        assert!(expect_restarted(&before, &after, &["comment", "reader"]).is_ok());
        assert!(expect_restarted(&before, &after, &["comment"]).is_err());
    }

    #[test]
    fn wanted_pods_are_those_of_all_deployments_of_a_component() {
        let deployment = |component: &str, replicas: u64| json!({"metadata": {"labels": {COMPONENT_LABEL: component}}, "spec": {"replicas": replicas}});
        let all = [
            deployment("reader", 1),
            deployment("gateway", 2),
            deployment("reader", 1),
            deployment("comment", 0),
        ];
        assert_eq!(wanted_pods(&all), BTreeMap::from([("gateway", 2), ("reader", 2)]));
    }

    #[test]
    fn ready_needs_the_newest_generation() {
        let cluster = |generation: i64, progressing: &str| {
            json!({"metadata": {"generation": 3}, "status": {"observedGeneration": generation, "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Reconciling", "status": progressing}]}})
        };
        assert!(is_ready(&cluster(3, "False")));
        assert!(!is_ready(&cluster(2, "False")));
        assert!(!is_ready(&cluster(3, "True")));
    }
}
