//! The harness's side of the agents: makes their pods, and speaks to them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::agent::poster::{Posted, Posting};
use crate::agent::processes::Memory;
use crate::agent::tls::{Asked, Said};
use crate::agent::viewer::Way;
use crate::agent::{Crowd, PORT, Report, Settled};
use crate::kube::{self, DAEMON_SET, NAMESPACE, NODE, POD};
use crate::wait::{until, until_true};
use crate::world::{NAME, NAMESPACE_NAME, World};

/// Where those who look at processes run: no namespace of restricted pods.
pub const TOOLS: &str = "liverank-e2e-tools";
const AUDIENCE: &str = "audience";
const ATTENDANT: &str = "attendant";
/// How long pods of ours may take to run, and the audience to be complete.
const PATIENCE: Duration = Duration::from_secs(90);

/// Viewers who came in a second, unless a scenario says otherwise: a crowd, not a wall.
pub const ARRIVALS: usize = 60;

/// A probe that tells when a pod of ours listens.
fn container(image: &str, command: &str, args: &[&str]) -> Value {
    let args: Vec<&str> = [command].into_iter().chain(args.iter().copied()).collect();
    json!({
        "name": "agent", "image": image, "imagePullPolicy": "IfNotPresent", "args": args,
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1},
    })
}

/// Starts the audience's pod where it does not run: a scenario may be the first that needs it.
pub async fn ensure(world: &World) -> anyhow::Result<()> {
    let there = world.kube.get(&POD.path(NAMESPACE_NAME, AUDIENCE)).await?;
    if there.is_some_and(|pod| crate::world::is_true(&pod, "Ready")) {
        return Ok(());
    }
    start(world, &audience_node(world).await?).await
}

/// The node that no scenario drains: the first by name.
pub async fn audience_node(world: &World) -> anyhow::Result<String> {
    let nodes = world.kube.list(NODE, "", "type!=kwok").await?;
    nodes.iter().map(kube::name).min().map(str::to_owned).context("no node")
}

/// Starts the audience's pod, on a node that no scenario drains.
pub async fn start(world: &World, node: &str) -> anyhow::Result<()> {
    let gateway = format!("http://{NAME}-gateway:8080");
    let mut container = container(&world.settings.agent_image, "watch", &["--gateway", &gateway]);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": NAMESPACE_NAME, "name": AUDIENCE, "labels": {"app": AUDIENCE}},
        "spec": {
            "nodeName": node, "containers": [container], "automountServiceAccountToken": false,
            "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    });
    world.kube.delete(&POD.path(NAMESPACE_NAME, AUDIENCE)).await?;
    let gone = async || Ok(world.kube.get(&POD.path(NAMESPACE_NAME, AUDIENCE)).await?.is_none());
    until_true("the last audience is gone", PATIENCE, gone).await?;
    world.kube.apply(POD, &pod).await?;
    let there =
        async || Ok(crate::world::is_true(&world.kube.named(POD, NAMESPACE_NAME, AUDIENCE).await?, "Ready"));
    until_true("the audience runs", PATIENCE, there).await.map(|_| ())
}

async fn ask(world: &World, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let answer = world.kube.pod(NAMESPACE_NAME, AUDIENCE, PORT, method, path, body).await?;
    answer.good().with_context(|| format!("the audience, asked for {path}"))
}

/// Sets a crowd's size; it comes and goes at its own pace.
pub async fn crowd(world: &World, name: &str, video: &str, viewers: usize, way: Way) -> anyhow::Result<()> {
    let crowd = Crowd { video: video.to_owned(), viewers, way, arrivals: ARRIVALS };
    let path = format!("/crowds/{name}");
    ask(world, Method::PUT, &path, Some(&serde_json::to_value(crowd)?)).await.map(|_| ())
}

/// Posts so many comments a second from now on, spread over videos by their shares.
pub async fn post(world: &World, per_second: f64, videos: BTreeMap<String, u32>) -> anyhow::Result<()> {
    let posting = serde_json::to_value(Posting { per_second, videos })?;
    ask(world, Method::PUT, "/posting", Some(&posting)).await.map(|_| ())
}

/// What was posted.
pub async fn posted(world: &World) -> anyhow::Result<Posted> {
    Ok(serde_json::from_value(ask(world, Method::GET, "/posting", None).await?)?)
}

/// What the audience saw since [`forget`].
pub async fn report(world: &World) -> anyhow::Result<Report> {
    Ok(serde_json::from_value(ask(world, Method::GET, "/report", None).await?)?)
}

/// The first list that the websocket service pushes.
pub async fn pushed(world: &World) -> anyhow::Result<Value> {
    ask(world, Method::GET, "/pushed", None).await
}

/// What a server says over TLS to who knows it by an authority and shows no certificate.
pub async fn ask_over_tls(world: &World, asked: &Asked) -> anyhow::Result<Said> {
    let said = ask(world, Method::POST, "/over-tls", Some(&serde_json::to_value(asked)?)).await?;
    Ok(serde_json::from_value(said)?)
}

/// Posts a comment over TLS and waits for it on a stream. Answers how many ms it took.
pub async fn comment_over_tls(world: &World, asked: &Asked, video: &str) -> anyhow::Result<u64> {
    let path = format!("/over-tls/comment/{video}");
    let came = ask(world, Method::POST, &path, Some(&serde_json::to_value(asked)?)).await?;
    came["ms"].as_u64().context("no ms")
}

/// Counts moves and comments anew; faults stay.
pub async fn forget(world: &World) -> anyhow::Result<()> {
    ask(world, Method::POST, "/forget", None).await.map(|_| ())
}

/// Waits until everybody wanted has a stream.
pub async fn complete(world: &World) -> anyhow::Result<Report> {
    let look = async || {
        let report = report(world).await?;
        let complete = report.connected == report.viewers;
        let told = format!("{} of {}; {}", report.connected, report.viewers, report.without.join("; "));
        Ok(if complete { Ok(report) } else { Err(told) })
    };
    Ok(until("everybody is connected", PATIENCE, look).await?.0)
}

/// Ends the posting, waits until everybody has everything, and fails where anything came twice, late or not at all.
pub async fn expect_all_right(world: &World) -> anyhow::Result<Report> {
    post(world, 0.0, BTreeMap::new()).await?;
    let look = async || {
        let settled: Settled = serde_json::from_value(ask(world, Method::GET, "/settled", None).await?)?;
        Ok(if settled.wrong.is_empty() { Ok(()) } else { Err(settled.wrong.join("; ")) })
    };
    until("everybody has every comment", PATIENCE, look).await?;
    let report = report(world).await?;
    ensure!(report.fault_count == 0, "{} faults: {}", report.fault_count, report.faults.join("; "));
    Ok(report)
}

/// Starts the one who looks at processes, on each node.
pub async fn start_attendants(world: &World) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TOOLS}});
    world.kube.apply(NAMESPACE, &namespace).await?;
    let mut container = container(&world.settings.agent_image, "attend", &[]);
    // To signal processes of other users; in the node's process ids it sees them all.
    container["securityContext"] =
        json!({"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["KILL"]}});
    let labels = json!({"app": ATTENDANT});
    let set = json!({
        "apiVersion": DAEMON_SET.api, "kind": DAEMON_SET.name,
        "metadata": {"namespace": TOOLS, "name": ATTENDANT},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostPID": true, "containers": [container], "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"operator": "Exists"}],
                    // Nodes that are only pretended run nothing.
                    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "type", "operator": "NotIn", "values": ["kwok"]}]}
                    ]}}},
                },
            },
        },
    });
    world.kube.apply(DAEMON_SET, &set).await?;
    let there = async || {
        let status = world.kube.named(DAEMON_SET, TOOLS, ATTENDANT).await?["status"].take();
        let wanted = status["desiredNumberScheduled"].as_u64().unwrap_or(0);
        Ok(wanted > 0 && status["numberReady"].as_u64() == Some(wanted))
    };
    until_true("each node has its attendant", PATIENCE, there).await.map(|_| ())
}

/// Asks the attendant of a pod's node about the pod's only container.
async fn attendant(world: &World, pod: &Value, method: Method) -> anyhow::Result<Value> {
    let node = kube::text(pod, "/spec/nodeName");
    let container = kube::text(pod, "/status/containerStatuses/0/containerID");
    let (_, container) = container.split_once("://").context("a pod without a container")?;
    let attendants = world.kube.list(POD, TOOLS, &format!("app={ATTENDANT}")).await?;
    let there = attendants.iter().find(|it| kube::text(it, "/spec/nodeName") == node);
    let there = kube::name(there.with_context(|| format!("{node} has no attendant"))?).to_owned();
    let path = format!("/processes/{container}");
    world.kube.pod(TOOLS, &there, PORT, method, &path, None).await?.good()
}

/// Kills a pod as a failing node would: its processes without a word, then its object without waiting for them.
pub async fn kill(world: &World, pod: &Value) -> anyhow::Result<()> {
    attendant(world, pod, Method::DELETE).await?;
    let path = POD.path(kube::text(pod, "/metadata/namespace"), kube::name(pod));
    world.kube.delete(&format!("{path}?gracePeriodSeconds=0")).await
}

/// A pod's memory.
pub async fn memory(world: &World, pod: &Value) -> anyhow::Result<Memory> {
    Ok(serde_json::from_value(attendant(world, pod, Method::GET).await?)?)
}
