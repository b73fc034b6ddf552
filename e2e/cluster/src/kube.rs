//! A client of the API server through `kubectl proxy`: kubectl handles whatever a kubeconfig needs (certificates,
//! tokens, plugins), and a request starts no process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Method, StatusCode, Url, header};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// A kind of Kubernetes object: its API group and version, its name and its plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectKind {
    /// The `apiVersion`: `v1`, or group and version.
    pub api: &'static str,
    /// The name of the kind as in a manifest, such as `Pod`.
    pub name: &'static str,
    /// The plural as in a URL path, such as `pods`.
    pub plural: &'static str,
    /// Whether objects of the kind are in namespaces.
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
pub const SERVICE_KIND: ObjectKind = namespaced_kind("v1", "Service", "services");
pub const MUTATING_POLICY_KIND: ObjectKind = cluster_wide_kind(
    "admissionregistration.k8s.io/v1",
    "MutatingAdmissionPolicy",
    "mutatingadmissionpolicies",
);
pub const MUTATING_BINDING_KIND: ObjectKind = cluster_wide_kind(
    "admissionregistration.k8s.io/v1",
    "MutatingAdmissionPolicyBinding",
    "mutatingadmissionpolicybindings",
);
pub const VALIDATING_WEBHOOK_KIND: ObjectKind = cluster_wide_kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
);
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
pub const DISRUPTION_BUDGET_KIND: ObjectKind =
    namespaced_kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets");
pub const INGRESS_KIND: ObjectKind = namespaced_kind("networking.k8s.io/v1", "Ingress", "ingresses");
pub const HTTP_ROUTE_KIND: ObjectKind =
    namespaced_kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes");
pub const SERVICE_MONITOR_KIND: ObjectKind =
    namespaced_kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors");

/// The kinds of the objects that the operator creates for a cluster on any Kubernetes.
pub const CHILD_KINDS: [ObjectKind; 7] = [
    namespaced_kind("v1", "ServiceAccount", "serviceaccounts"),
    namespaced_kind("v1", "ConfigMap", "configmaps"),
    SERVICE_KIND,
    NETWORK_POLICY_KIND,
    DISRUPTION_BUDGET_KIND,
    DEPLOYMENT_KIND,
    AUTOSCALER_KIND,
];

impl ObjectKind {
    /// Returns the URL path of one object, or of all objects of the kind if `name` is empty.
    pub fn object_path(&self, namespace: &str, name: &str) -> String {
        let root = if self.api.contains('/') { "apis" } else { "api" };
        let namespace = if self.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("/{root}/{}{namespace}/{}{name}", self.api, self.plural)
    }
}

/// The time limit of one request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The field manager under which the harness creates and edits objects.
pub const FIELD_MANAGER: &str = "liverank-e2e";

/// A client of one Kubernetes cluster.
pub struct KubeClient {
    base: Url,
    http: Client,
    kubectl: PathBuf,
    /// The `kubectl proxy` process, which is killed when the client is dropped.
    _proxy: Child,
}

/// The API server's answer, also with a status that is an error.
#[derive(Debug, Clone)]
pub struct KubeAnswer {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// The JSON body; a JSON string if the body is no JSON.
    pub body: Value,
}

impl KubeAnswer {
    /// Returns the body if the status is a success; else an error with the status and the message.
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
    /// Starts `kubectl proxy` for the current kubeconfig, on a free port.
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

    /// Sends one request. `body` is a content type and the JSON that is sent under it.
    pub async fn send_request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> anyhow::Result<KubeAnswer> {
        self.send_with_token(method, path, body, None).await
    }

    /// Sends one request to a process of liverank through the API server's proxy. `token` goes in the header
    /// `liverank-authorization`, because the API server consumes `Authorization`.
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

    /// Returns the object at a path; `None` if there is none.
    pub async fn get_object(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let answer = self.send_request(Method::GET, path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.expect_success().with_context(|| path.to_owned()).map(Some)
    }

    /// Returns the object with this name; an error if there is none.
    pub async fn get_named(&self, kind: ObjectKind, namespace: &str, name: &str) -> anyhow::Result<Value> {
        self.get_object(&kind.object_path(namespace, name))
            .await?
            .with_context(|| format!("{} {name}: there is none", kind.name))
    }

    /// Returns all objects of a kind that a label selector matches. The API server leaves `apiVersion` and `kind` out
    /// of a list's items; both are added here.
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

    /// Creates or updates one object by server-side apply, as [`FIELD_MANAGER`].
    pub async fn apply_object(&self, kind: ObjectKind, object: &Value) -> anyhow::Result<Value> {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().context("an object without a name")?;
        let path = kind.object_path(metadata["namespace"].as_str().unwrap_or_default(), name);
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        let answer =
            self.send_request(Method::PATCH, &path, Some(("application/apply-patch+yaml", object))).await?;
        answer.expect_success().with_context(|| format!("applying {} {name}", kind.name))
    }

    /// Sends a JSON merge patch for the object at `path`; the answer may be a refusal.
    pub async fn merge_patch(&self, path: &str, change: &Value) -> anyhow::Result<KubeAnswer> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.send_request(Method::PATCH, &path, Some(("application/merge-patch+json", change))).await
    }

    /// Deletes an object; an object that does not exist is no error.
    pub async fn delete_object(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.send_request(Method::DELETE, path, None).await?;
        if answer.status != StatusCode::NOT_FOUND {
            answer.expect_success().with_context(|| format!("deleting {path}"))?;
        }
        Ok(())
    }

    /// Requests a token of a `ServiceAccount` for `audience`, valid for 600 s.
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

    /// Sends a request to a Service, given as `name:port`, through the API server's proxy.
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

    /// Sends a request to a pod's port, through the API server's proxy.
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

    /// Runs kubectl, for what only kubectl does: `drain`, `scale`, `explain`. Returns the command's output, also of a
    /// failure.
    pub async fn run_kubectl(&self, args: &[&str], input: Option<&str>) -> anyhow::Result<CommandOutput> {
        run_command(Command::new(&self.kubectl).args(args), input).await
    }

    /// Runs helm and returns its standard output; an error if the command fails.
    pub async fn run_helm(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = run_command(Command::new("helm").args(args), None).await?;
        ensure!(output.succeeded, "helm {}: {}", args.join(" "), output.stderr);
        Ok(output.stdout)
    }
}

/// The exit and the output of a command.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Whether the command succeeded.
    pub succeeded: bool,
    /// The command's standard output.
    pub stdout: String,
    /// The command's standard error, trimmed.
    pub stderr: String,
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
        succeeded: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Returns the string of an object at a JSON pointer; an empty string if there is none.
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

/// Returns an object's status condition of the type `kind`, with its status, reason and message; `None` if it has
/// none.
pub fn status_condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == kind)
}
