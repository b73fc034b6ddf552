//! Reads everything that the plugin shows, with the rights of the calling user: lists of objects, a manager's `GET
//! /load` through the API server's proxy, and logs of the operator's pods.

use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, LogParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use liverank_protocol::ClusterLoad;
use liverank_runtime::identity::PROXIED_AUTHORIZATION_HEADER;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::explain::DeployedReader;
use super::report::GatheredState;
use super::{KubeTarget, approve, resource_name};
use crate::build::{Component, Kind, names};
use crate::crd::RankingCluster;
use crate::run::tokens;

/// Number of objects in one page of a list.
const OBJECTS_A_PAGE: u32 = 500;
/// The longest time for connecting to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for a manager's answer: for a manager that cannot be reached, the API server's proxy does not
/// answer in time.
const MANAGER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximal number of pages that are read of one kind of objects: in a namespace with more events, a report contains
/// only the first of them.
const MAX_PAGES: usize = 20;

/// Access to one namespace of a Kubernetes cluster through its API server.
pub struct ClusterAccess {
    client: Client,
    namespace: String,
}

impl ClusterAccess {
    /// Finds the API server as kubectl does.
    pub async fn connect(target: &KubeTarget) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &target.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
            None if target.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        let namespace = target.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Ok(Self { client: Client::try_from(config)?, namespace })
    }

    /// Returns the resource with that name; without a name the only one in the namespace, and an error if there is none
    /// or more than one.
    pub async fn fetch_cluster(&self, argument: Option<&str>) -> anyhow::Result<RankingCluster> {
        let api: Api<RankingCluster> = Api::namespaced(self.client.clone(), &self.namespace);
        if let Some(argument) = argument {
            let name = resource_name(argument)?;
            return api.get(name).await.with_context(|| format!("{}/{name}", self.namespace));
        }
        let mut all = api.list(&ListParams::default().limit(OBJECTS_A_PAGE)).await?.items;
        let names: Vec<&str> = all.iter().map(RankingCluster::name).collect();
        match names.len() {
            0 => bail!("there is no RankingCluster in namespace {}", self.namespace),
            1 => Ok(all.remove(0)),
            _ => bail!("which one? namespace {} has {}", self.namespace, names.join(", ")),
        }
    }

    /// Approves a plan by an annotation of the resource; an error if no plan with that id waits.
    pub async fn approve_plan(&self, cluster: &RankingCluster, id: &str) -> anyhow::Result<()> {
        let annotations = cluster.metadata.annotations.as_ref();
        let before = annotations.and_then(|all| all.get(names::APPROVE_ANNOTATION)).map(String::as_str);
        let value = approve::approval_annotation(cluster, id, before.unwrap_or_default())
            .map_err(anyhow::Error::msg)?;
        let api: Api<RankingCluster> = Api::namespaced(self.client.clone(), cluster.namespace());
        let patch = json!({ "metadata": { "annotations": { names::APPROVE_ANNOTATION: value } } });
        api.patch(cluster.name(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Returns the readers as their Deployments describe them.
    pub async fn fetch_readers(&self, cluster: &RankingCluster) -> anyhow::Result<Vec<DeployedReader>> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), cluster.namespace());
        let labels = format!(
            "{},{}={}",
            cluster_label_selector(cluster.name()),
            names::COMPONENT_LABEL,
            Component::Reader.name()
        );
        Ok(api.list(&ListParams::default().labels(&labels)).await?.iter().map(DeployedReader::of).collect())
    }

    /// Returns the load as a manager reports it, with all assignments.
    pub async fn fetch_load(&self, cluster: &RankingCluster) -> anyhow::Result<ClusterLoad> {
        let text = self.fetch_load_text(cluster).await?;
        serde_json::from_str(&text).context("the manager's answer is no load: is it of another version?")
    }

    async fn fetch_load_text(&self, cluster: &RankingCluster) -> anyhow::Result<String> {
        let port = Component::Manager.http_port().context("managers have a port")?;
        let service = names::component_object_name(cluster.name(), Component::Manager);
        // The API server does not verify the certificate of what its proxy connects to; it decides itself who may use
        // its proxy.
        let scheme = if cluster.spec.tls.is_some() { "https:" } else { "" };
        let namespace = cluster.namespace();
        let path = format!("/api/v1/namespaces/{namespace}/services/{scheme}{service}:{port}/proxy/load");
        // The API server uses the `Authorization` header itself.
        let (account, audience) = (
            names::cli_service_account_name(cluster.name()),
            names::token_audience(cluster.name(), cluster.namespace()),
        );
        let token = tokens::request_token(&self.client, cluster.namespace(), &account, &audience).await?;
        let request = http::Request::get(path)
            .header(PROXIED_AUTHORIZATION_HEADER, format!("Bearer {token}"))
            .body(Vec::new())?;
        let way = format!("service {service} through the API server's proxy");
        match timeout(MANAGER_TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(kube::Error::Api(status))) if !status.message.is_empty() => {
                bail!("{way}: {}", status.message)
            }
            Ok(Err(error)) => Err(error).context(way),
            Err(_) => bail!("{way}: no answer within {} s", MANAGER_TIMEOUT.as_secs()),
        }
    }

    /// Reads everything that a bug report contains. Parts that cannot be read are listed as missing; the others are
    /// still read.
    pub async fn gather_for_report(
        &self,
        cluster: &RankingCluster,
        operator_namespace: Option<&str>,
        log_lines: i64,
    ) -> GatheredState {
        let mut gathered = GatheredState {
            cluster: serde_json::to_value(cluster).unwrap_or_default(),
            circumstances: self.server_versions().await,
            ..GatheredState::default()
        };
        match self.fetch_load_text(cluster).await {
            Ok(text) => gathered.load = Some(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Err(error) => gathered.missing.push(format!("load: {error:#}")),
        }
        for kind in Kind::ALL {
            let labels = Some(cluster_label_selector(cluster.name()));
            match self.list_all(&kind.api_resource(), Some(cluster.namespace()), labels).await {
                Ok(objects) => gathered.objects.push((kind.api_resource().kind, objects)),
                // A kind that this Kubernetes cluster does not have is not reported as missing.
                Err(kube::Error::Api(status)) if kind.is_optional() && status.code == 404 => {}
                Err(error) => gathered.missing.push(format!("{}: {error}", kind.api_resource().kind)),
            }
        }
        let pods = kube::api::ApiResource::erase::<Pod>(&());
        match self
            .list_all(&pods, Some(cluster.namespace()), Some(cluster_label_selector(cluster.name())))
            .await
        {
            Ok(pods) => gathered.pods = pods,
            Err(error) => gathered.missing.push(format!("pods: {error}")),
        }
        self.gather_events(cluster, &mut gathered).await;
        self.gather_operators(operator_namespace, log_lines, &mut gathered).await;
        gathered
    }

    async fn server_versions(&self) -> Map<String, Value> {
        let server = match self.client.apiserver_version().await {
            Ok(version) => version.git_version,
            Err(error) => error.to_string(),
        };
        let mut about = Map::new();
        about.insert("plugin".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        about.insert("kubernetes".to_owned(), json!(server));
        about.insert("time".to_owned(), json!(Timestamp::now().to_string()));
        about
    }

    /// Adds the events about the resource and about objects that are named after it.
    async fn gather_events(&self, cluster: &RankingCluster, gathered: &mut GatheredState) {
        let events = kube::api::ApiResource::erase::<k8s_openapi::api::events::v1::Event>(&());
        let ours = format!("{}-", cluster.name());
        match self.list_all(&events, Some(cluster.namespace()), None).await {
            Ok(events) => gathered.events.extend(events.into_iter().filter(|event| {
                let name = event["regarding"]["name"].as_str().unwrap_or_default();
                name == cluster.name() || name.starts_with(&ours)
            })),
            Err(error) => gathered.missing.push(format!("events: {error}")),
        }
    }

    async fn gather_operators(&self, namespace: Option<&str>, lines: i64, gathered: &mut GatheredState) {
        let pods = kube::api::ApiResource::erase::<Pod>(&());
        let labels = Some(format!("{}={}", names::APP_NAME_LABEL, names::MANAGED_BY_OPERATOR));
        let pods = match self.list_all(&pods, namespace, labels).await {
            Ok(pods) => pods,
            Err(error) => {
                gathered
                    .missing
                    .push(format!("the operator's pods (name its --operator-namespace): {error}"));
                return;
            }
        };
        if pods.is_empty() {
            gathered.missing.push("the operator's pods: there are none".to_owned());
        }
        for pod in pods {
            let member = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &member("namespace"));
            let asked = LogParams { tail_lines: Some(lines), timestamps: true, ..LogParams::default() };
            let log = match api.logs(&member("name"), &asked).await {
                Ok(log) => log,
                Err(error) => {
                    gathered.missing.push(format!("log of {}: {error}", member("name")));
                    String::new()
                }
            };
            gathered.operators.push((pod, log));
        }
    }

    /// Returns all objects of a kind in one namespace, or in all namespaces (`None`); at most `MAX_PAGES` pages.
    async fn list_all(
        &self,
        kind: &kube::api::ApiResource,
        namespace: Option<&str>,
        labels: Option<String>,
    ) -> kube::Result<Vec<Value>> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, kind),
            None => Api::all_with(self.client.clone(), kind),
        };
        let mut asked = ListParams { label_selector: labels, ..ListParams::default() }.limit(OBJECTS_A_PAGE);
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = api.list(&asked).await?;
            found.extend(page.items.iter().filter_map(|object| serde_json::to_value(object).ok()));
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => asked = asked.continue_token(&next),
                _ => break,
            }
        }
        Ok(found)
    }
}

/// Returns the label selector of all objects that belong to a cluster.
fn cluster_label_selector(cluster: &str) -> String {
    format!("{}={},{}={cluster}", names::APP_NAME_LABEL, names::APP_NAME, names::INSTANCE_LABEL)
}
