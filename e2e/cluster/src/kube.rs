//! The API server, through `kubectl proxy`: whatever a kubeconfig asks for (certificates, tokens, plugins) is kubectl's
//! affair, and requests cost no process each.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Method, StatusCode, Url, header};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// A kind of object: where it is served, and what it calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectKind {
    /// `v1`, or group and version.
    pub api: &'static str,
    /// As in a manifest.
    pub name: &'static str,
    /// As in a path.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

const fn namespaced_kind(api: &'static str, name: &'static str, plural: &'static str) -> ObjectKind {
    ObjectKind { api, name, plural, namespaced: true }
}

const fn cluster_wide_kind(api: &'static str, name: &'static str, plural: &'static str) -> ObjectKind {
    ObjectKind { api, name, plural, namespaced: false }
}

pub const RANKING_CLUSTER_KIND: ObjectKind =
    namespaced_kind("liverank.dev/v1alpha1", "RankingCluster", "rankingclusters");
pub const DEPLOYMENT_KIND: ObjectKind = namespaced_kind("apps/v1", "Deployment", "deployments");
pub const DAEMON_SET_KIND: ObjectKind = namespaced_kind("apps/v1", "DaemonSet", "daemonsets");
pub const POD_KIND: ObjectKind = namespaced_kind("v1", "Pod", "pods");
pub const SECRET_KIND: ObjectKind = namespaced_kind("v1", "Secret", "secrets");
pub const LEASE_KIND: ObjectKind = namespaced_kind("coordination.k8s.io/v1", "Lease", "leases");
pub const NAMESPACE_KIND: ObjectKind = cluster_wide_kind("v1", "Namespace", "namespaces");
pub const NODE_KIND: ObjectKind = cluster_wide_kind("v1", "Node", "nodes");
pub const DEFINITION_KIND: ObjectKind =
    cluster_wide_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions");
pub const AUTOSCALER_KIND: ObjectKind =
    namespaced_kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers");
pub const NETWORK_POLICY_KIND: ObjectKind =
    namespaced_kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies");
pub const INGRESS_KIND: ObjectKind = namespaced_kind("networking.k8s.io/v1", "Ingress", "ingresses");
pub const HTTP_ROUTE_KIND: ObjectKind =
    namespaced_kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes");
pub const SERVICE_MONITOR_KIND: ObjectKind =
    namespaced_kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors");

/// What the operator makes for a cluster on any Kubernetes.
pub const CHILD_KINDS: [ObjectKind; 7] = [
    namespaced_kind("v1", "ServiceAccount", "serviceaccounts"),
    namespaced_kind("v1", "ConfigMap", "configmaps"),
    namespaced_kind("v1", "Service", "services"),
    NETWORK_POLICY_KIND,
    namespaced_kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    DEPLOYMENT_KIND,
    AUTOSCALER_KIND,
];

impl ObjectKind {
    /// The path of one object, or of all with an empty `name`.
    pub fn object_path(&self, namespace: &str, name: &str) -> String {
        let root = if self.api.contains('/') { "apis" } else { "api" };
        let namespace = if self.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("/{root}/{}{namespace}/{}{name}", self.api, self.plural)
    }
}

/// Limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The field manager of what the harness makes and edits.
pub const FIELD_MANAGER: &str = "liverank-e2e";

/// A cluster.
pub struct KubeClient {
    base: Url,
    http: Client,
    kubectl: PathBuf,
    /// Ends with this.
    _proxy: Child,
}

/// An answer that is not an error of transport.
#[derive(Debug, Clone)]
pub struct KubeAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; a string where it is no JSON.
    pub body: Value,
}

impl KubeAnswer {
    /// The body of a success.
    pub fn expect_success(self) -> anyhow::Result<Value> {
        ensure!(
            self.status.is_success(),
            "{}: {}",
            self.status,
            self.body["message"].as_str().unwrap_or(&self.body.to_string())
        );
        Ok(self.body)
    }
}

impl KubeClient {
    /// Starts the proxy to where the kubeconfig leads.
    pub async fn start() -> anyhow::Result<Self> {
        let kubectl = PathBuf::from("kubectl");
        let mut proxy = Command::new(&kubectl)
            .args(["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")?;
        let output = proxy.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(REQUEST_TIMEOUT, lines.next_line())
            .await??
            .context("kubectl proxy ended")?;
        let address = line.rsplit(' ').next().unwrap_or_default();
        let base =
            format!("http://{address}").parse().with_context(|| format!("kubectl proxy said {line:?}"))?;
        let http = Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        Ok(Self { base, http, kubectl, _proxy: proxy })
    }

    /// One request. `body` goes as JSON of the given content type.
    pub async fn send_request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> anyhow::Result<KubeAnswer> {
        self.send_with_token(method, path, body, None).await
    }

    /// The same for one of our own processes, which is shown `token` past the API server's proxy.
    pub async fn send_with_token(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        token: Option<&str>,
    ) -> anyhow::Result<KubeAnswer> {
        let mut request = self.http.request(method, self.base.join(path)?);
        if let Some(token) = token {
            request = request.header("liverank-authorization", format!("Bearer {token}"));
        }
        if let Some((content_type, body)) = body {
            request = request.header(header::CONTENT_TYPE, content_type).body(serde_json::to_vec(body)?);
        }
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| path.to_owned())?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(KubeAnswer { status, body })
    }

    /// The object at a path; `None` where there is none.
    pub async fn get_object(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let answer = self.send_request(Method::GET, path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.expect_success().with_context(|| path.to_owned()).map(Some)
    }

    /// The object of this name, which must be there.
    pub async fn get_named(&self, kind: ObjectKind, namespace: &str, name: &str) -> anyhow::Result<Value> {
        self.get_object(&kind.object_path(namespace, name))
            .await?
            .with_context(|| format!("{} {name}: there is none", kind.name))
    }

    /// All of a kind that a selector of labels matches. Items of lists do not say their kind: here they do.
    pub async fn list_objects(
        &self,
        kind: ObjectKind,
        namespace: &str,
        selector: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let path =
            format!("{}?labelSelector={}", kind.object_path(namespace, ""), selector.replace('=', "%3D"));
        let Some(mut list) = self.get_object(&path).await? else { return Ok(Vec::new()) };
        let Value::Array(mut items) = list["items"].take() else { bail!("{path}: no list") };
        for item in &mut items {
            item["apiVersion"] = json!(kind.api);
            item["kind"] = json!(kind.name);
        }
        Ok(items)
    }

    /// Server-side apply of one object.
    pub async fn apply_object(&self, kind: ObjectKind, object: &Value) -> anyhow::Result<Value> {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().context("an object without a name")?;
        let path = kind.object_path(metadata["namespace"].as_str().unwrap_or_default(), name);
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        let answer =
            self.send_request(Method::PATCH, &path, Some(("application/apply-patch+yaml", object))).await?;
        answer.expect_success().with_context(|| format!("applying {} {name}", kind.name))
    }

    /// Merges a patch into an object.
    pub async fn merge_patch(&self, path: &str, change: &Value) -> anyhow::Result<KubeAnswer> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.send_request(Method::PATCH, &path, Some(("application/merge-patch+json", change))).await
    }

    /// Deletes an object; it may be gone already.
    pub async fn delete_object(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.send_request(Method::DELETE, path, None).await?;
        if answer.status != StatusCode::NOT_FOUND {
            answer.expect_success().with_context(|| format!("deleting {path}"))?;
        }
        Ok(())
    }

    /// A token of a `ServiceAccount` for `audience`.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
    ) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let asked = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 600},
        });
        let made = self
            .send_request(Method::POST, &path, Some(("application/json", &asked)))
            .await?
            .expect_success()?;
        made["status"]["token"].as_str().map(str::to_owned).context("no token was made")
    }

    /// A request to a Service, `name:port`, through the API server.
    pub async fn request_to_service(
        &self,
        namespace: &str,
        service: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<KubeAnswer> {
        let path = format!("/api/v1/namespaces/{namespace}/services/{service}/proxy{path}");
        self.send_request(method, &path, body.map(|body| ("application/json", body))).await
    }

    /// A request to a pod's port, through the API server.
    pub async fn request_to_pod(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<KubeAnswer> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        self.send_request(method, &path, body.map(|body| ("application/json", body))).await
    }

    /// What kubectl alone does: `drain`, `scale`, `explain`. Answers what it printed.
    pub async fn run_kubectl(&self, args: &[&str], input: Option<&str>) -> anyhow::Result<CommandOutput> {
        run_command(Command::new(&self.kubectl).args(args), input).await
    }

    /// The same by helm.
    pub async fn run_helm(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = run_command(Command::new("helm").args(args), None).await?;
        ensure!(output.good, "helm {}: {}", args.join(" "), output.errors);
        Ok(output.text)
    }
}

/// The output of a command.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Whether it succeeded.
    pub good: bool,
    /// Its standard output.
    pub text: String,
    /// Its standard error.
    pub errors: String,
}

async fn run_command(command: &mut Command, input: Option<&str>) -> anyhow::Result<CommandOutput> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", command.as_std().get_program().display()))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        pipe.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    Ok(CommandOutput {
        good: output.status.success(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// A string of an object at a JSON pointer; empty where there is none.
pub fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An object's name.
pub fn object_name(object: &Value) -> &str {
    text_at(object, "/metadata/name")
}

/// An object's UID.
pub fn object_uid(object: &Value) -> &str {
    text_at(object, "/metadata/uid")
}

/// An object's status condition: its status, reason and message.
pub fn status_condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == kind)
}
