//! The system under test: one `RankingCluster`, the operator that looks after it, and what the harness needs around them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kube::{
    self, CHILD_KINDS, KubeClient, LEASE_KIND, NAMESPACE_KIND, POD_KIND, RANKING_CLUSTER_KIND, SECRET_KIND,
};
use crate::wait::wait_until_some;

/// The namespace and name of the cluster that most scenarios are about.
pub const NAMESPACE_NAME: &str = "liverank-e2e";
pub const CLUSTER_NAME: &str = "live";
/// The operator's release, and where it runs.
pub const RELEASE_NAME: &str = "liverank";
/// What the chart calls the operator's Deployment and its Lease.
pub const OPERATOR_NAME: &str = "liverank-operator";
pub const OPERATOR_NAMESPACE: &str = "liverank-system";
/// Everything that belongs to the operator's cluster carries it.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=liverank-operator";
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// How long anything may take to be as wanted after a change, on a busy machine: a pod that ends may take its whole grace
/// period (180 s, a reader's), and the one after it a minute to come. Whatever is waited for by this is told with the time
/// that it took; what has a promise of its own is held to that one.
pub const SETTLE_TIMEOUT: Duration = Duration::from_mins(4);

/// Where things are; the command line of the harness.
#[derive(Debug, Clone, clap::Args)]
pub struct HarnessSettings {
    /// The image of all components and the operator.
    #[arg(long, default_value = "docker.io/testbed/liverank:1")]
    pub image: String,
    /// The same by another name: what an upgrade changes to.
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
    /// How many clusters of 25 pretended pods each the operator holds in memory in `many`.
    #[arg(long, default_value_t = 20)]
    pub clusters: usize,
    /// The most that an operator may hold then, in MiB.
    #[arg(long, default_value_t = 48)]
    pub memory_mib: u64,
}

/// The system and the way to it.
pub struct ClusterWorld {
    pub kube: KubeClient,
    pub settings: HarnessSettings,
    /// In the names of topics and databases, so that a run finds nothing of another.
    pub run: String,
}

/// Pods of each component by UID.
pub type PodsByComponent = BTreeMap<String, BTreeSet<String>>;

impl ClusterWorld {
    pub fn path(&self, below: &str) -> PathBuf {
        self.settings.checkout.join(below)
    }

    /// A cluster that runs on the stores and holds its names apart from all others.
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

    /// A namespace that lets in restricted pods only, with the Secrets that a cluster names.
    pub async fn create_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        self.kube.apply_object(NAMESPACE_KIND, &object).await?;
        let data = json!({"redis": self.settings.redis, "mongodb": self.settings.mongodb});
        let metadata = json!({"name": "stores", "namespace": namespace});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        self.kube.apply_object(SECRET_KIND, &secret).await.map(|_| ())
    }

    /// The cluster as it stands.
    pub async fn live_cluster(&self) -> anyhow::Result<Value> {
        self.kube.get_named(RANKING_CLUSTER_KIND, NAMESPACE_NAME, CLUSTER_NAME).await
    }

    /// Merges a patch into the spec.
    pub async fn change_spec(&self, spec: Value) -> anyhow::Result<()> {
        let path = RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, CLUSTER_NAME);
        self.kube.merge_patch(&path, &json!({"spec": spec})).await?.expect_success().map(|_| ())
    }

    /// Waits until the operator says that all is as the spec wants it.
    pub async fn wait_until_ready(&self, namespace: &str, name: &str) -> anyhow::Result<Duration> {
        let path = RANKING_CLUSTER_KIND.object_path(namespace, name);
        let look = async || {
            let cluster = self.kube.get_object(&path).await?.context("the cluster is not there")?;
            Ok(if is_ready(&cluster) { Ok(()) } else { Err(brief_status(&cluster["status"])) })
        };
        Ok(wait_until_some(&format!("{name} is ready"), SETTLE_TIMEOUT, look).await?.1)
    }

    /// The pods of the cluster's components that are not on their way out.
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

    /// The pods of one component that are not on their way out, whole.
    pub async fn pods_of(&self, component: &str) -> anyhow::Result<Vec<Value>> {
        let selector = format!("{MANAGED_SELECTOR},{COMPONENT_LABEL}={component}");
        let pods = self.kube.list_objects(POD_KIND, NAMESPACE_NAME, &selector).await?;
        Ok(pods.into_iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()).collect())
    }

    /// All that the operator has made in a namespace.
    pub async fn operator_objects(&self, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let mut children = Vec::new();
        for kind in CHILD_KINDS {
            children.extend(self.kube.list_objects(kind, namespace, MANAGED_SELECTOR).await?);
        }
        Ok(children)
    }

    /// A request to one of the cluster's Services.
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

    /// What the managers see.
    pub async fn manager_load(&self) -> anyhow::Result<Value> {
        let path =
            format!("/api/v1/namespaces/{NAMESPACE_NAME}/services/{CLUSTER_NAME}-manager:6100/proxy/load");
        let audience = format!("liverank.dev/{NAMESPACE_NAME}/{CLUSTER_NAME}");
        let token = self
            .kube
            .service_account_token(NAMESPACE_NAME, &format!("{CLUSTER_NAME}-cli"), &audience)
            .await?;
        // Who shows nothing is told nothing.
        let anonymous = self.kube.send_request(Method::GET, &path, None).await?;
        ensure!(anonymous.status == 401, "a manager answers a stranger: {}", anonymous.status);
        self.kube
            .send_with_token(Method::GET, &path, None, Some(&token))
            .await?
            .expect_success()
            .context("/load")
    }

    /// The operator's Lease.
    pub async fn operator_lease(&self) -> anyhow::Result<Value> {
        self.kube.get_named(LEASE_KIND, OPERATOR_NAMESPACE, OPERATOR_NAME).await
    }

    /// The operator's pods that are not on their way out.
    pub async fn operator_pods(&self) -> anyhow::Result<Vec<Value>> {
        let selector = "app.kubernetes.io/name=liverank-operator,app.kubernetes.io/component=operator";
        let pods = self.kube.list_objects(POD_KIND, OPERATOR_NAMESPACE, selector).await?;
        Ok(pods.into_iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()).collect())
    }

    /// Scales the operator, and waits until it is so.
    pub async fn scale_operator(&self, replicas: usize) -> anyhow::Result<()> {
        let deployment = kube::DEPLOYMENT_KIND.object_path(OPERATOR_NAMESPACE, OPERATOR_NAME);
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

    /// Installs the operator by helm, or upgrades it, with the tested image and `more` arguments.
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

fn path_as_str(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Whether a condition is there and true.
pub fn is_true(object: &Value, condition: &str) -> bool {
    kube::status_condition(object, condition).is_some_and(|condition| condition["status"] == "True")
}

/// Whether the status speaks of the newest spec and says that all of it is so.
pub fn is_ready(cluster: &Value) -> bool {
    cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"]
        && is_true(cluster, "Ready")
        && !is_true(cluster, "Reconciling")
}

/// A status in a line: conditions that tell something, and the components.
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

/// Which components have other pods than before.
pub fn restarted_components(before: &PodsByComponent, after: &PodsByComponent) -> BTreeSet<String> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// Fails unless exactly these components have other pods.
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
