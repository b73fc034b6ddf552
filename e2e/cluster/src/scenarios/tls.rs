//! The scenario `tls`: a cluster with TLS beside the shared one: the requests that it accepts and refuses, and the
//! renewal of its certificates.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use reqwest::Method;
use serde_json::{Value, json};

use crate::agent::tls::TlsRequest;
use crate::audience;
use crate::kube::{self, POD_KIND, RANKING_CLUSTER_KIND, SECRET_KIND, status_condition, text_at};
use crate::wait::wait_until_some;
use crate::world::{ClusterWorld, MANAGED_SELECTOR, SETTLE_TIMEOUT};

/// The namespace of the cluster with TLS; its certificates are for the Services of this namespace.
const SECURED_NAMESPACE: &str = "liverank-e2e-tls";
const SEALED_CLUSTER: &str = "sealed";
const INTERNAL_SECRET: &str = "sealed-internal";
const PUBLIC_SECRET: &str = "sealed-public";
/// The time limit until a condition names a missing Secret that the kubelet has reported, which it does when it first tries
/// to mount it. The operator reads the events of a pod that does not start every 10 s.
const NAMED_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit until renewed certificates are shown: "within about a minute (the kubelet's pace), and in force a second
/// later" is promised.
const RENEWED_TIMEOUT: Duration = Duration::from_secs(75);
/// The time after which pods are changed again, so that the kubelet looks at their Secrets: it hears of pods and of Secrets
/// by two watches, and may have looked before it heard of the Secret.
const TOUCH_EVERY: Duration = Duration::from_secs(4);
/// The time limit of an answer that a Service gives once the nodes know its pods.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A certificate authority of the test.
struct TestAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestAuthority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Returns a Secret as cert-manager writes it, with a certificate for all Services of the namespace, valid until
    /// the first of January of the year `until`.
    fn certificate_secret(&self, name: &str, until: i32) -> anyhow::Result<Value> {
        let mut params = CertificateParams::new(vec![format!("*.{SECURED_NAMESPACE}.svc")])?;
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"namespace": SECURED_NAMESPACE, "name": name},
            "stringData": {"tls.crt": cert, "tls.key": key.serialize_pem(), "ca.crt": self.pem},
        }))
    }
}

/// Runs the scenario, and removes the sealed cluster also where it failed: scenarios after it count what operators do.
pub async fn check_sealed_cluster(world: &ClusterWorld) -> anyhow::Result<String> {
    audience::ensure_audience(world).await?;
    world.create_namespace(SECURED_NAMESPACE).await?;
    let result = use_sealed_cluster(world).await;
    let removed = world.remove_namespace(SECURED_NAMESPACE).await;
    let figures = result?;
    removed?;
    Ok(figures)
}

async fn use_sealed_cluster(world: &ClusterWorld) -> anyhow::Result<String> {
    let (inside, outside) = (TestAuthority::new("inside")?, TestAuthority::new("outside")?);
    world.kube.apply_object(SECRET_KIND, &outside.certificate_secret(PUBLIC_SECRET, 2100)?).await?;
    world.kube.apply_object(RANKING_CLUSTER_KIND, &sealed_cluster(world, &inside)).await?;
    let named = wait_until_missing_secret_named(world).await?;
    world.kube.apply_object(SECRET_KIND, &inside.certificate_secret(INTERNAL_SECRET, 2100)?).await?;
    let ready = world.wait_until_ready(SECURED_NAMESPACE, SEALED_CLUSTER).await?;
    let way = check_comment(world, &outside).await?;
    check_refused(world, &inside, &outside).await?;
    check_operator_requests(world).await?;
    let renewed = check_renewal(world, &inside, &outside).await?;
    Ok(format!(
        "a missing Secret is named {:.1} s after the kubelet reports it, ready {:.1} s after it is there, a comment by its stream after {way} ms, \
         renewed certificates shown after {:.1} s",
        named.as_secs_f64(),
        ready.as_secs_f64(),
        renewed.as_secs_f64()
    ))
}

/// Returns a cluster with TLS and one pod of each component. Its network policies are off, because the test asks the
/// managers from another namespace.
fn sealed_cluster(world: &ClusterWorld, inside: &TestAuthority) -> Value {
    let mut cluster = world.new_cluster(SECURED_NAMESPACE, SEALED_CLUSTER);
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
        "internal": {"secretName": INTERNAL_SECRET, "caBundle": inside.pem}, "public": {"secretName": PUBLIC_SECRET},
    });
    cluster
}

/// Waits until the kubelet has reported that the Secret is missing, and then until the operator says so. Returns the time
/// that the operator took.
async fn wait_until_missing_secret_named(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let events = format!("/api/v1/namespaces/{SECURED_NAMESPACE}/events?fieldSelector=reason%3DFailedMount");
    let reported = async || {
        let said = world.kube.get_object(&events).await?.context("no events")?["items"].to_string();
        Ok(if said.contains(INTERNAL_SECRET) { Ok(()) } else { Err(said) })
    };
    wait_until_some("the kubelet reports the Secret that is missing", SETTLE_TIMEOUT, reported).await?;
    let look = async || {
        let cluster = world.kube.get_named(RANKING_CLUSTER_KIND, SECURED_NAMESPACE, SEALED_CLUSTER).await?;
        let conditions = cluster["status"]["conditions"].to_string();
        let named = conditions.contains("SecretMissing") && conditions.contains(INTERNAL_SECRET);
        Ok(if named { Ok(()) } else { Err(conditions) })
    };
    Ok(wait_until_some("a condition names the Secret that is missing", NAMED_TIMEOUT, look).await?.1)
}

fn service_url(service: &str, port: u16, path: &str) -> String {
    format!("https://{SEALED_CLUSTER}-{service}.{SECURED_NAMESPACE}.svc:{port}{path}")
}

/// Requests a URL until it is answered with 200, and returns the body.
async fn wait_for_answer(
    world: &ClusterWorld,
    authority: &TestAuthority,
    url: &str,
) -> anyhow::Result<String> {
    let look = async || {
        let said = audience::ask_over_tls(world, &tls_request(authority, url)).await?;
        Ok(if said.status == 200 { Ok(said.body) } else { Err(format!("{} {}", said.status, said.body)) })
    };
    Ok(wait_until_some(&format!("{url} is answered"), ANSWER_TIMEOUT, look).await?.0)
}

fn tls_request(authority: &TestAuthority, url: &str) -> TlsRequest {
    TlsRequest { url: url.to_owned(), authority: authority.pem.clone() }
}

/// Posts a comment at the gateway and waits for it on a stream of the gateway, so that it passes every kind of process
/// between. Returns its time in milliseconds.
async fn check_comment(world: &ClusterWorld, outside: &TestAuthority) -> anyhow::Result<u64> {
    let asked = tls_request(outside, &service_url("gateway", 8080, ""));
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
    // A gateway that has just started may not have connected to the log yet.
    wait_until_some("a comment comes over TLS", Duration::from_secs(30), look).await?;
    Ok(way)
}

/// Checks that plain HTTP is refused everywhere, and that ports for our own processes refuse a client without a
/// certificate.
async fn check_refused(
    world: &ClusterWorld,
    inside: &TestAuthority,
    outside: &TestAuthority,
) -> anyhow::Result<()> {
    for (service, port, path) in [("reader-0", 4001, "/health"), ("manager", 6100, "/health")] {
        let url = service_url(service, port, path);
        wait_for_answer(world, inside, &url).await?;
        let plain = url.replace("https", "http");
        let said = audience::ask_over_tls(world, &tls_request(inside, &plain)).await;
        ensure!(said.is_err(), "{plain} was answered: {said:?}");
    }
    let plain = service_url("gateway", 8080, "/videos").replace("https", "http");
    ensure!(
        audience::ask_over_tls(world, &tls_request(outside, &plain)).await.is_err(),
        "{plain} was answered"
    );
    for (service, port) in [("comment", 3000), ("websocket", 8081), ("statistics", 5000)] {
        let url = service_url(service, port, "/health");
        let said = audience::ask_over_tls(world, &tls_request(inside, &url)).await;
        ensure!(said.is_err(), "{url} was answered to who showed no certificate: {said:?}");
    }
    // The public certificate is shown only by the gateway, and only on its port for viewers.
    let inside_out =
        audience::ask_over_tls(world, &tls_request(inside, &service_url("gateway", 8080, "/videos"))).await;
    ensure!(inside_out.is_err(), "the gateway shows the internal certificate: {inside_out:?}");
    wait_for_answer(world, inside, &service_url("gateway", 9060, "/readyz")).await.map(drop)
}

/// Checks that the operator knows the load, and that a manager answers through the API server's proxy, as `kubectl
/// liverank` asks it.
async fn check_operator_requests(world: &ClusterWorld) -> anyhow::Result<()> {
    let look = async || {
        let cluster = world.kube.get_named(RANKING_CLUSTER_KIND, SECURED_NAMESPACE, SEALED_CLUSTER).await?;
        let scaler = status_condition(&cluster, "Autoscaling").cloned().unwrap_or_default();
        let readers = &cluster["status"]["readers"];
        let hears = !scaler.is_null() && text_at(&scaler, "/reason") != "LoadMissing";
        Ok(if hears && readers["ready"] == 1 { Ok(()) } else { Err(format!("{scaler}; readers: {readers}")) })
    };
    wait_until_some("the operator knows the load", ANSWER_TIMEOUT, look).await?;
    let account = format!("{SEALED_CLUSTER}-cli");
    let token = world
        .kube
        .service_account_token(
            SECURED_NAMESPACE,
            &account,
            &format!("liverank.dev/{SECURED_NAMESPACE}/{SEALED_CLUSTER}"),
        )
        .await?;
    let path = format!(
        "/api/v1/namespaces/{SECURED_NAMESPACE}/services/https:{SEALED_CLUSTER}-manager:6100/proxy/load"
    );
    let look = async || {
        let load =
            world.kube.send_with_token(Method::GET, &path, None, Some(&token)).await?.expect_success()?;
        let is_one = load["readers"].as_array().is_some_and(|readers| readers.len() == 1);
        Ok(if is_one { Ok(()) } else { Err(load.to_string()) })
    };
    wait_until_some("a manager tells the load of one reader", ANSWER_TIMEOUT, look).await.map(drop)
}

/// Renews both Secrets, the public one by another authority, and checks that the same processes show the new
/// certificates. Returns the time that it took.
async fn check_renewal(
    world: &ClusterWorld,
    inside: &TestAuthority,
    outside: &TestAuthority,
) -> anyhow::Result<Duration> {
    let before = process_starts(world).await?;
    let next = TestAuthority::new("next")?;
    world.kube.apply_object(SECRET_KIND, &next.certificate_secret(PUBLIC_SECRET, 2100)?).await?;
    world.kube.apply_object(SECRET_KIND, &inside.certificate_secret(INTERNAL_SECRET, 2101)?).await?;
    let start = Instant::now();
    let mut touches = PodTouches::default();
    let gateway = service_url("gateway", 8080, "/videos");
    let look = async || {
        touches.touch_if_due(world).await?;
        let said = audience::ask_over_tls(world, &tls_request(&next, &gateway)).await;
        Ok(said.map(|_| ()).map_err(|error| format!("{error:#}")))
    };
    wait_until_some("the gateway shows the renewed certificate", RENEWED_TIMEOUT, look).await?;
    let old = audience::ask_over_tls(world, &tls_request(outside, &gateway)).await;
    ensure!(old.is_err(), "the old certificate is still shown: {old:?}");
    // 2101-01-01 in seconds since the Unix epoch.
    let line = r#"liverank_tls_certificate_expiry_timestamp_seconds{shown_to="clients"} 4133980800"#;
    let look = async || {
        touches.touch_if_due(world).await?;
        let metrics = tls_request(inside, &service_url("reader-0", 9060, "/metrics"));
        let said = audience::ask_over_tls(world, &metrics).await?;
        Ok(if said.body.contains(line) { Ok(()) } else { Err("it has the old one".to_owned()) })
    };
    wait_until_some("a reader has the renewed certificate", RENEWED_TIMEOUT, look).await?;
    let took = start.elapsed();
    check_comment(world, &next).await.context("with renewed certificates")?;
    let after = process_starts(world).await?;
    ensure!(before == after, "pods were replaced or restarted: {before:?}, then {after:?}");
    Ok(took)
}

/// The changes of pods by which the kubelet looks at their Secrets: by itself it does so about once a minute.
#[derive(Default)]
struct PodTouches {
    made: usize,
    last: Option<Instant>,
}

impl PodTouches {
    /// Changes an annotation of each pod, unless that was done less than [`TOUCH_EVERY`] ago.
    async fn touch_if_due(&mut self, world: &ClusterWorld) -> anyhow::Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < TOUCH_EVERY) {
            return Ok(());
        }
        self.made += 1;
        let note = json!({"metadata": {"annotations": {"example.org/renewed": self.made.to_string()}}});
        for pod in world.kube.list_objects(POD_KIND, SECURED_NAMESPACE, MANAGED_SELECTOR).await? {
            let path = POD_KIND.object_path(SECURED_NAMESPACE, kube::object_name(&pod));
            world.kube.merge_patch(&path, &note).await?.expect_success()?;
        }
        self.last = Some(Instant::now());
        Ok(())
    }
}

/// Returns the UID of each pod, with the number of its container's restarts.
async fn process_starts(world: &ClusterWorld) -> anyhow::Result<Vec<(String, u64)>> {
    let pods = world.kube.list_objects(POD_KIND, SECURED_NAMESPACE, MANAGED_SELECTOR).await?;
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
    let mut all: Vec<_> = pods.iter().map(|pod| (kube::object_uid(pod).to_owned(), restarts(pod))).collect();
    all.sort();
    Ok(all)
}
