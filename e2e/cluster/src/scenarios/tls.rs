//! A cluster with TLS, beside the one that all scenarios share: what it takes, what it refuses, and a renewed certificate.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use reqwest::Method;
use serde_json::{Value, json};

use crate::agent::tls::Asked;
use crate::audience;
use crate::kube::{self, CLUSTER, NAMESPACE, POD, SECRET, condition, text};
use crate::wait::{until, until_true};
use crate::world::{MANAGED, SETTLE, World};

/// Where it is; certificates are for its Services.
const SECURED: &str = "liverank-e2e-tls";
const LIVE: &str = "sealed";
const INTERNAL: &str = "sealed-internal";
const PUBLIC: &str = "sealed-public";
/// How long a missing Secret may stay unnamed: the kubelet tells it when it first tries.
const NAMED: Duration = Duration::from_secs(20);
/// How long a renewed certificate may take: the kubelet looks at a pod when its annotations change.
const RENEWED: Duration = Duration::from_secs(30);

/// Whoever gives out certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A Secret as cert-manager writes it, for all Services, good until a year begins.
    fn secret(&self, name: &str, until: i32) -> anyhow::Result<Value> {
        let mut params = CertificateParams::new(vec![format!("*.{SECURED}.svc")])?;
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"namespace": SECURED, "name": name},
            "stringData": {"tls.crt": cert, "tls.key": key.serialize_pem(), "ca.crt": self.pem},
        }))
    }
}

pub async fn sealed(world: &World) -> anyhow::Result<String> {
    let left = NAMESPACE.path("", SECURED);
    world.kube.delete(&left).await?;
    until_true("the last sealed cluster is gone", SETTLE, async || {
        Ok(world.kube.get(&left).await?.is_none())
    })
    .await?;
    audience::ensure(world).await?;
    world.namespace(SECURED).await?;
    let (inside, outside) = (Authority::new("inside")?, Authority::new("outside")?);
    world.kube.apply(SECRET, &outside.secret(PUBLIC, 2100)?).await?;
    world.kube.apply(CLUSTER, &cluster(world, &inside)).await?;
    let named = missing_is_named(world).await?;
    world.kube.apply(SECRET, &inside.secret(INTERNAL, 2100)?).await?;
    let ready = world.ready(SECURED, LIVE).await?;
    let way = comment(world, &outside).await?;
    refused(world, &inside, &outside).await?;
    operator_is_answered(world).await?;
    let renewed = renew(world, &inside, &outside).await?;
    world.kube.delete(&left).await?;
    Ok(format!(
        "a missing Secret is named after {:.1} s, ready {:.1} s after it is there, a comment by its stream after {way} ms, \
         renewed certificates shown after {:.1} s",
        named.as_secs_f64(),
        ready.as_secs_f64(),
        renewed.as_secs_f64()
    ))
}

/// One pod of each component. Who asks managers directly comes from another namespace here, so that there are no policies.
fn cluster(world: &World, inside: &Authority) -> Value {
    let mut cluster = world.cluster(SECURED, LIVE);
    let front = json!({"replicas": 1, "drainSeconds": 5});
    for component in ["gateway", "websocket", "comment"] {
        cluster["spec"][component] = front.clone();
    }
    cluster["spec"]["consumer"] = json!({"replicas": 1});
    cluster["spec"]["manager"] = json!({"replicas": 1});
    cluster["spec"]["readers"] = json!({
        "minReplicas": 1, "maxReplicas": 1, "terminationGracePeriodSeconds": 45,
        "viewersPerReader": 300, "hotVideoViewers": 300,
    });
    cluster["spec"]["networkPolicy"] = json!({"enabled": false});
    cluster["spec"]["tls"] = json!({
        "internal": {"secretName": INTERNAL, "caBundle": inside.pem}, "public": {"secretName": PUBLIC},
    });
    cluster
}

async fn missing_is_named(world: &World) -> anyhow::Result<Duration> {
    let look = async || {
        let cluster = world.kube.named(CLUSTER, SECURED, LIVE).await?;
        let conditions = cluster["status"]["conditions"].to_string();
        let named = conditions.contains("SecretMissing") && conditions.contains(INTERNAL);
        Ok(if named { Ok(()) } else { Err(conditions) })
    };
    Ok(until("a condition names the Secret that is missing", NAMED, look).await?.1)
}

fn url(service: &str, port: u16, path: &str) -> String {
    format!("https://{LIVE}-{service}.{SECURED}.svc:{port}{path}")
}

fn asked(authority: &Authority, url: &str) -> Asked {
    Asked { url: url.to_owned(), authority: authority.pem.clone() }
}

/// A comment goes in at the gateway and comes out of a stream of it: by every kind of process in between.
async fn comment(world: &World, outside: &Authority) -> anyhow::Result<u64> {
    let asked = asked(outside, &url("gateway", 8080, ""));
    let mut way = 0;
    let look = async || {
        Ok(match audience::comment_over_tls(world, &asked, &format!("sealed-{}", world.run)).await {
            Ok(ms) => {
                way = ms;
                Ok(())
            }
            Err(error) => Err(format!("{error:#}")),
        })
    };
    // A gateway that has just started may not have found the log yet.
    until("a comment comes over TLS", Duration::from_secs(30), look).await?;
    Ok(way)
}

/// Plain HTTP is answered by nobody; who has no certificate not by those whom our own processes alone ask.
async fn refused(world: &World, inside: &Authority, outside: &Authority) -> anyhow::Result<()> {
    for (service, port, path) in [("reader-0", 4001, "/health"), ("manager", 6100, "/health")] {
        let url = url(service, port, path);
        let said = audience::ask_over_tls(world, &asked(inside, &url)).await.context(url.clone())?;
        ensure!(said.status == 200, "{url}: {} {}", said.status, said.body);
        let plain = url.replace("https", "http");
        let said = audience::ask_over_tls(world, &asked(inside, &plain)).await;
        ensure!(said.is_err(), "{plain} was answered: {said:?}");
    }
    let plain = url("gateway", 8080, "/videos").replace("https", "http");
    ensure!(audience::ask_over_tls(world, &asked(outside, &plain)).await.is_err(), "{plain} was answered");
    for (service, port) in [("comment", 3000), ("websocket", 8081), ("statistics", 5000)] {
        let url = url(service, port, "/health");
        let said = audience::ask_over_tls(world, &asked(inside, &url)).await;
        ensure!(said.is_err(), "{url} was answered to who showed no certificate: {said:?}");
    }
    // The public certificate is the gateway's alone, and only on its port for viewers.
    let inside_out = audience::ask_over_tls(world, &asked(inside, &url("gateway", 8080, "/videos"))).await;
    ensure!(inside_out.is_err(), "the gateway shows the internal certificate: {inside_out:?}");
    let admin = audience::ask_over_tls(world, &asked(inside, &url("gateway", 9060, "/readyz"))).await?;
    ensure!(admin.status == 200, "the gateway's admin port: {} {}", admin.status, admin.body);
    Ok(())
}

/// The operator knows the load; so does who asks a manager through the API server's proxy, as `kubectl liverank` does.
async fn operator_is_answered(world: &World) -> anyhow::Result<()> {
    let cluster = world.kube.named(CLUSTER, SECURED, LIVE).await?;
    let scaler = condition(&cluster, "Autoscaling").cloned().unwrap_or_default();
    ensure!(text(&scaler, "/reason") != "LoadMissing", "the operator hears nothing: {scaler}");
    ensure!(cluster["status"]["readers"]["ready"] == 1, "{}", cluster["status"]["readers"]);
    let account = format!("{LIVE}-cli");
    let token = world.kube.token(SECURED, &account, &format!("liverank.dev/{SECURED}/{LIVE}")).await?;
    let path = format!("/api/v1/namespaces/{SECURED}/services/https:{LIVE}-manager:6100/proxy/load");
    let load =
        world.kube.ask_showing(Method::GET, &path, None, Some(&token)).await?.good().context("/load")?;
    ensure!(load["readers"].as_array().is_some_and(|readers| readers.len() == 1), "{load}");
    Ok(())
}

/// Both Secrets are renewed, the public one by another authority: what is shown is the new one, by the same processes.
async fn renew(world: &World, inside: &Authority, outside: &Authority) -> anyhow::Result<Duration> {
    let before = processes(world).await?;
    let next = Authority::new("next")?;
    world.kube.apply(SECRET, &next.secret(PUBLIC, 2100)?).await?;
    world.kube.apply(SECRET, &inside.secret(INTERNAL, 2101)?).await?;
    let start = Instant::now();
    // The kubelet looks at a pod's Secrets once a minute, or when the pod changes.
    let note = json!({"metadata": {"annotations": {"example.org/renewed": "now"}}});
    for pod in world.kube.list(POD, SECURED, MANAGED).await? {
        world.kube.merge(&POD.path(SECURED, kube::name(&pod)), &note).await?.good()?;
    }
    let gateway = url("gateway", 8080, "/videos");
    let look = async || {
        let said = audience::ask_over_tls(world, &asked(&next, &gateway)).await;
        Ok(said.map(|_| ()).map_err(|error| format!("{error:#}")))
    };
    until("the gateway shows the renewed certificate", RENEWED, look).await?;
    let old = audience::ask_over_tls(world, &asked(outside, &gateway)).await;
    ensure!(old.is_err(), "the old certificate is still shown: {old:?}");
    // 2101-01-01 in seconds since the Unix epoch.
    let line = r#"liverank_tls_certificate_expiry_timestamp_seconds{shown_to="clients"} 4133980800"#;
    let look = async || {
        let metrics = asked(inside, &url("reader-0", 9060, "/metrics"));
        let said = audience::ask_over_tls(world, &metrics).await?;
        Ok(if said.body.contains(line) { Ok(()) } else { Err("it has the old one".to_owned()) })
    };
    until("a reader has the renewed certificate", RENEWED, look).await?;
    let took = start.elapsed();
    comment(world, &next).await.context("with renewed certificates")?;
    let after = processes(world).await?;
    ensure!(before == after, "pods were replaced or restarted: {before:?}, then {after:?}");
    Ok(took)
}

/// Each pod by its UID, and how often its process was started again.
async fn processes(world: &World) -> anyhow::Result<Vec<(String, u64)>> {
    let pods = world.kube.list(POD, SECURED, MANAGED).await?;
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
    let mut all: Vec<_> = pods.iter().map(|pod| (kube::uid(pod).to_owned(), restarts(pod))).collect();
    all.sort();
    Ok(all)
}
