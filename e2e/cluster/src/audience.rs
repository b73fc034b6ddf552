//! The harness's side of the agents: creates their pods, and sends them requests.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::agent::poster::{PostedCounts, WantedPosting};
use crate::agent::processes::ContainerMemory;
use crate::agent::tls::{TlsAnswer, TlsRequest};
use crate::agent::unresponsive::{Silence, UNRESPONSIVE_PORT};
use crate::agent::viewer::ConnectMode;
use crate::agent::{AGENT_PORT, AudienceReport, SettledAnswer, WantedCrowd, WantedList};
use crate::kube::{self, DAEMON_SET_KIND, NAMESPACE_KIND, NODE_KIND, POD_KIND, SERVICE_KIND};
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME};

/// The namespace of the attendants. It does not enforce restricted pods, because attendants run as root in the node's
/// process ids.
pub const TOOLS_NAMESPACE: &str = "liverank-e2e-tools";
const AUDIENCE_NAME: &str = "audience";
const ATTENDANT_NAME: &str = "attendant";
/// The time limit until a pod of an agent runs, and until all viewers of the audience have a stream.
const AUDIENCE_TIMEOUT: Duration = Duration::from_secs(90);

/// The number of viewers that arrive in a second: they are to arrive over some seconds, not all at once.
pub const ARRIVALS_A_SECOND: usize = 60;

/// Returns the container of an agent, with a readiness probe that succeeds when the agent listens.
fn container_spec(image: &str, command: &str, args: &[&str]) -> Value {
    let args: Vec<&str> = [command].into_iter().chain(args.iter().copied()).collect();
    json!({
        "name": "agent", "image": image, "imagePullPolicy": "IfNotPresent", "args": args,
        "ports": [{"containerPort": AGENT_PORT}],
        // An agent that a busy machine makes late stays in the endpoints of its Service.
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": AGENT_PORT}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 10,
        },
    })
}

/// Starts the audience's pod unless it is there already: any scenario may be the first that needs the audience. A pod that
/// is there is waited for and not replaced: a new one would not know which comments were posted.
pub async fn ensure_audience(world: &ClusterWorld) -> anyhow::Result<()> {
    let there = world.kube.get_object(&POD_KIND.object_path(NAMESPACE_NAME, AUDIENCE_NAME)).await?;
    if there.is_some_and(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()) {
        return wait_until_audience_runs(world).await;
    }
    start_audience(world, &audience_node(world).await?).await
}

/// Returns the node of the audience's pod, which no scenario drains: the first node by name.
pub async fn audience_node(world: &ClusterWorld) -> anyhow::Result<String> {
    let nodes = world.kube.list_objects(NODE_KIND, "", "type!=kwok").await?;
    nodes.iter().map(kube::object_name).min().map(str::to_owned).context("no node")
}

/// Replaces the audience's pod by a new one on `node`, and waits until the pod is ready.
pub async fn start_audience(world: &ClusterWorld, node: &str) -> anyhow::Result<()> {
    let gateway = format!("http://{CLUSTER_NAME}-gateway:8080");
    let mut container = container_spec(&world.settings.agent_image, "watch", &["--gateway", &gateway]);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": NAMESPACE_NAME, "name": AUDIENCE_NAME, "labels": {"app": AUDIENCE_NAME}},
        "spec": {
            "nodeName": node, "containers": [container], "automountServiceAccountToken": false,
            "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    });
    world.kube.delete_object(&POD_KIND.object_path(NAMESPACE_NAME, AUDIENCE_NAME)).await?;
    let gone = async || {
        Ok(world.kube.get_object(&POD_KIND.object_path(NAMESPACE_NAME, AUDIENCE_NAME)).await?.is_none())
    };
    wait_until_true("the last audience is gone", AUDIENCE_TIMEOUT, gone).await?;
    world.kube.apply_object(POD_KIND, &pod).await?;
    wait_until_audience_runs(world).await
}

async fn wait_until_audience_runs(world: &ClusterWorld) -> anyhow::Result<()> {
    let there = async || {
        Ok(crate::world::is_true(
            &world.kube.get_named(POD_KIND, NAMESPACE_NAME, AUDIENCE_NAME).await?,
            "Ready",
        ))
    };
    wait_until_true("the audience runs", AUDIENCE_TIMEOUT, there).await.map(|_| ())
}

async fn ask_audience(
    world: &ClusterWorld,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let answer =
        world.kube.request_to_pod(NAMESPACE_NAME, AUDIENCE_NAME, AGENT_PORT, method, path, body).await?;
    answer.expect_success().with_context(|| format!("the audience, asked for {path}"))
}

/// Sets the size of the crowd `name`; new viewers arrive at `ARRIVALS_A_SECOND`, the call does not wait for them.
pub async fn set_crowd(
    world: &ClusterWorld,
    name: &str,
    video: &str,
    viewers: usize,
    way: ConnectMode,
) -> anyhow::Result<()> {
    let crowd =
        WantedCrowd { video: video.to_owned(), viewers, way, arrivals: ARRIVALS_A_SECOND, gateway: None };
    put_crowd(world, name, &crowd).await
}

/// Sets the crowd `name`, with its own rate of arrivals and its own gateway; the call does not wait for the viewers.
pub async fn put_crowd(world: &ClusterWorld, name: &str, crowd: &WantedCrowd) -> anyhow::Result<()> {
    let path = format!("/crowds/{name}");
    ask_audience(world, Method::PUT, &path, Some(&serde_json::to_value(crowd)?)).await.map(|_| ())
}

/// Returns the number of viewers of the crowd `name` at each reader, by the reader's name.
pub async fn crowd_by_reader(world: &ClusterWorld, name: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let path = format!("/crowds/{name}/readers");
    Ok(serde_json::from_value(ask_audience(world, Method::GET, &path, None).await?)?)
}

/// Sets how many comments a second are posted from now on; `videos` gives each video's weight.
pub async fn set_posting(
    world: &ClusterWorld,
    per_second: f64,
    videos: BTreeMap<String, u32>,
) -> anyhow::Result<()> {
    let posting = serde_json::to_value(WantedPosting { per_second, videos })?;
    ask_audience(world, Method::PUT, "/posting", Some(&posting)).await.map(|_| ())
}

/// Returns the counts of comments that the audience's poster sent.
pub async fn posted_counts(world: &ClusterWorld) -> anyhow::Result<PostedCounts> {
    Ok(serde_json::from_value(ask_audience(world, Method::GET, "/posting", None).await?)?)
}

/// Returns what the audience saw since the last [`forget_events`].
pub async fn report(world: &ClusterWorld) -> anyhow::Result<AudienceReport> {
    Ok(serde_json::from_value(ask_audience(world, Method::GET, "/report", None).await?)?)
}

/// Waits until the websocket service has pushed a list; the error names the last list that came. The time limit is the
/// list's own.
pub async fn wait_for_pushed_list(world: &ClusterWorld, wanted: &WantedList) -> anyhow::Result<()> {
    ask_audience(world, Method::POST, "/pushed", Some(&serde_json::to_value(wanted)?)).await.map(|_| ())
}

/// Sends one request over TLS from inside the cluster, without a client certificate, and returns the answer.
pub async fn ask_over_tls(world: &ClusterWorld, asked: &TlsRequest) -> anyhow::Result<TlsAnswer> {
    let said = ask_audience(world, Method::POST, "/over-tls", Some(&serde_json::to_value(asked)?)).await?;
    Ok(serde_json::from_value(said)?)
}

/// Posts a comment over TLS and waits until a stream brings it; returns the time that took, in milliseconds.
pub async fn comment_over_tls(world: &ClusterWorld, asked: &TlsRequest, video: &str) -> anyhow::Result<u64> {
    let path = format!("/over-tls/comment/{video}");
    let came = ask_audience(world, Method::POST, &path, Some(&serde_json::to_value(asked)?)).await?;
    came["ms"].as_u64().context("no ms")
}

/// Resets the audience's counts of moves, reconnects and comments; faults are kept.
pub async fn forget_events(world: &ClusterWorld) -> anyhow::Result<()> {
    ask_audience(world, Method::POST, "/forget", None).await.map(|_| ())
}

/// Waits until every wanted viewer has a stream; returns the audience's report.
pub async fn wait_until_complete(world: &ClusterWorld) -> anyhow::Result<AudienceReport> {
    let look = async || {
        let report = report(world).await?;
        let complete = report.connected == report.viewers;
        let told = format!("{} of {}; {}", report.connected, report.viewers, report.without.join("; "));
        Ok(if complete { Ok(report) } else { Err(told) })
    };
    Ok(wait_until_some("everybody is connected", AUDIENCE_TIMEOUT, look).await?.0)
}

/// Stops the posting, waits until every viewer has every comment, and fails if any viewer noted a fault: a comment
/// missing, repeated or out of order.
pub async fn expect_all_right(world: &ClusterWorld) -> anyhow::Result<AudienceReport> {
    set_posting(world, 0.0, BTreeMap::new()).await?;
    let look = async || {
        let settled: SettledAnswer =
            serde_json::from_value(ask_audience(world, Method::GET, "/settled", None).await?)?;
        Ok(if settled.wrong.is_empty() { Ok(()) } else { Err(settled.wrong.join("; ")) })
    };
    wait_until_some("everybody has every comment", AUDIENCE_TIMEOUT, look).await?;
    let report = report(world).await?;
    ensure!(report.fault_count == 0, "{} faults: {}", report.fault_count, report.faults.join("; "));
    Ok(report)
}

/// Starts an attendant on each node, as a `DaemonSet`, and waits until all are ready.
pub async fn start_attendants(world: &ClusterWorld) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TOOLS_NAMESPACE}});
    world.kube.apply_object(NAMESPACE_KIND, &namespace).await?;
    let mut container = container_spec(&world.settings.agent_image, "attend", &[]);
    // As root and with KILL, to signal processes of other users; with the node's process ids it sees all of them.
    container["securityContext"] =
        json!({"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["KILL"]}});
    let labels = json!({"app": ATTENDANT_NAME});
    let set = json!({
        "apiVersion": DAEMON_SET_KIND.api, "kind": DAEMON_SET_KIND.name,
        "metadata": {"namespace": TOOLS_NAMESPACE, "name": ATTENDANT_NAME},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostPID": true, "containers": [container], "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"operator": "Exists"}],
                    // Nodes that kwok simulates run no processes.
                    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "type", "operator": "NotIn", "values": ["kwok"]}]}
                    ]}}},
                },
            },
        },
    });
    world.kube.apply_object(DAEMON_SET_KIND, &set).await?;
    let there = async || {
        let status =
            world.kube.get_named(DAEMON_SET_KIND, TOOLS_NAMESPACE, ATTENDANT_NAME).await?["status"].take();
        let wanted = status["desiredNumberScheduled"].as_u64().unwrap_or(0);
        Ok(wanted > 0 && status["numberReady"].as_u64() == Some(wanted))
    };
    wait_until_true("each node has its attendant", AUDIENCE_TIMEOUT, there).await.map(|_| ())
}

/// Sends the attendant on a pod's node a request about the pod's only container.
async fn ask_attendant(world: &ClusterWorld, pod: &Value, method: Method) -> anyhow::Result<Value> {
    let node = kube::text_at(pod, "/spec/nodeName");
    let container = kube::text_at(pod, "/status/containerStatuses/0/containerID");
    let (_, container) = container.split_once("://").context("a pod without a container")?;
    let attendants =
        world.kube.list_objects(POD_KIND, TOOLS_NAMESPACE, &format!("app={ATTENDANT_NAME}")).await?;
    let there = attendants.iter().find(|it| kube::text_at(it, "/spec/nodeName") == node);
    let there = kube::object_name(there.with_context(|| format!("{node} has no attendant"))?).to_owned();
    let path = format!("/processes/{container}");
    world
        .kube
        .request_to_pod(TOOLS_NAMESPACE, &there, AGENT_PORT, method, &path, None)
        .await?
        .expect_success()
}

/// Kills a pod as a failing node would: first its processes by SIGKILL, then its object without a grace period.
pub async fn kill_pod(world: &ClusterWorld, pod: &Value) -> anyhow::Result<()> {
    ask_attendant(world, pod, Method::DELETE).await?;
    let path = POD_KIND.object_path(kube::text_at(pod, "/metadata/namespace"), kube::object_name(pod));
    world.kube.delete_object(&format!("{path}?gracePeriodSeconds=0")).await
}

/// Returns the memory of the processes of a pod's only container.
pub async fn memory(world: &ClusterWorld, pod: &Value) -> anyhow::Result<ContainerMemory> {
    Ok(serde_json::from_value(ask_attendant(world, pod, Method::GET).await?)?)
}

/// The name of the Service of the unresponsive agent that accepts connections. It is in [`TOOLS_NAMESPACE`], at port 443.
pub const UNRESPONSIVE_SERVICE: &str = "unresponsive";

/// Returns the name of an unresponsive agent's pod.
fn unresponsive_name(silence: Silence) -> String {
    format!("{UNRESPONSIVE_SERVICE}-{}", silence.argument())
}

/// Starts an unresponsive agent of each kind in [`TOOLS_NAMESPACE`], with a Service for the one that accepts connections.
/// Returns the name and the address of each pod.
pub async fn start_unresponsive(world: &ClusterWorld) -> anyhow::Result<Vec<(String, String)>> {
    let label = json!({"app": UNRESPONSIVE_SERVICE, "silence": Silence::NoAnswer.argument()});
    let service = json!({
        "apiVersion": SERVICE_KIND.api, "kind": SERVICE_KIND.name,
        "metadata": {"namespace": TOOLS_NAMESPACE, "name": UNRESPONSIVE_SERVICE},
        "spec": {"selector": label, "ports": [{"port": 443, "targetPort": UNRESPONSIVE_PORT}]},
    });
    world.kube.apply_object(SERVICE_KIND, &service).await?;
    for silence in Silence::ALL {
        let image = &world.settings.agent_image;
        let container = container_spec(image, "keep-waiting", &["--silence", silence.argument()]);
        let labels = json!({"app": UNRESPONSIVE_SERVICE, "silence": silence.argument()});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": TOOLS_NAMESPACE, "name": unresponsive_name(silence), "labels": labels},
            "spec": {"containers": [container], "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0},
        });
        world.kube.apply_object(POD_KIND, &pod).await?;
    }
    let mut found = Vec::new();
    for silence in Silence::ALL {
        let name = unresponsive_name(silence);
        let look = async || {
            let pod = world.kube.get_named(POD_KIND, TOOLS_NAMESPACE, &name).await?;
            let address = kube::text_at(&pod, "/status/podIP").to_owned();
            let is_ready = crate::world::is_true(&pod, "Ready") && !address.is_empty();
            Ok(if is_ready { Ok(address) } else { Err(pod["status"].to_string()) })
        };
        let what = format!("the agent that keeps others waiting runs ({})", silence.argument());
        let (address, _) = wait_until_some(&what, AUDIENCE_TIMEOUT, look).await?;
        found.push((name, address));
    }
    Ok(found)
}

/// Deletes the unresponsive agents and their Service.
pub async fn stop_unresponsive(world: &ClusterWorld) -> anyhow::Result<()> {
    for silence in Silence::ALL {
        let path = POD_KIND.object_path(TOOLS_NAMESPACE, &unresponsive_name(silence));
        world.kube.delete_object(&path).await?;
    }
    world.kube.delete_object(&SERVICE_KIND.object_path(TOOLS_NAMESPACE, UNRESPONSIVE_SERVICE)).await
}
