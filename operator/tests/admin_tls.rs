//! Tests the operator's ports over TLS, in a real process: the admin port, whose only callers are probes and scrapers, and
//! the webhook that converts.

// Tests panic with the error.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::HeaderValue;
use liverank_runtime::{PeerClient, PeerTls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::Url;
use serde_json::{Value, json};

/// The time limit for the start, and for noticing a changed file, which the process checks each second.
const TIMEOUT: Duration = Duration::from_secs(40);
/// The first port of those that the operators listen on, and their number.
const FIRST_PORT: u16 = 18_000;
const PORT_COUNT: u16 = 1_000;

/// A `kubeconfig` of an API server that does not exist: the port is served all the same.
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "away",
  "contexts": [{"name": "away", "context": {"cluster": "away", "user": "nobody"}}],
  "clusters": [{"name": "away", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "nobody", "user": {}}]}"#;

/// Writes a certificate for this machine to the files that the operator reads. Returns the authority that signed it.
fn write_certificate(directory: &Path) -> PeerTls {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let shown =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    fs::write(directory.join("tls.crt"), shown.pem()).unwrap();
    PeerTls::trusting_authorities(&pem, None).unwrap()
}

struct RunningOperator(Child);

impl RunningOperator {
    fn start(directory: &Path, port: u16, more: &[&str]) -> Self {
        fs::write(directory.join("kubeconfig"), KUBECONFIG).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_liverank-operator"));
        command.args(["run", "--admin-listen", &format!("127.0.0.1:{port}"), "--log=off"]).args(more);
        for (flag, file) in [("--tls-cert-file", "tls.crt"), ("--tls-key-file", "tls.key")] {
            command.arg(flag).arg(directory.join(file));
        }
        command.env("KUBECONFIG", directory.join("kubeconfig")).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for RunningOperator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port on which nobody listens, and that no other test of this process gets. It is below those that the
/// operating system gives to whoever asks for any, and to outgoing connections: between this call and the operator's start
/// somebody would get one of these.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % u32::from(PORT_COUNT)) as u16;
    (0..PORT_COUNT)
        .map(|_| FIRST_PORT + (begin + NEXT.fetch_add(1, Relaxed)) % PORT_COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// Requests `/livez` until it is answered over TLS with a certificate that `trusted` accepts.
async fn livez_trusting(trusted: &PeerTls, port: u16) -> String {
    let url = Url::parse(&format!("https://127.0.0.1:{port}/livez")).unwrap();
    let begun = Instant::now();
    loop {
        // A new client for each request: it must not reuse an open connection.
        match PeerClient::over_tls(trusted).client().get(url.clone()).send().await {
            Ok(answer) => return answer.text().await.unwrap(),
            Err(error) => assert!(begun.elapsed() < TIMEOUT, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_admin_port_takes_tls_only_and_takes_up_a_renewed_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_certificate(directory.path());
    let port = free_port();
    let _operator = RunningOperator::start(directory.path(), port, &[]);
    assert_eq!(livez_trusting(&first, port).await, "ok\n");
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/livez")).await;
    assert!(answer.is_err(), "it is answered without TLS: {answer:?}");
    let renewed = write_certificate(directory.path());
    assert_eq!(livez_trusting(&renewed, port).await, "ok\n");
}

/// Sends a body to the webhook until it is answered; returns the status and the text.
async fn convert(trusted: &PeerTls, port: u16, body: Vec<u8>) -> (u16, String) {
    let url = Url::parse(&format!("https://127.0.0.1:{port}/convert")).unwrap();
    let json_type = HeaderValue::from_static("application/json");
    let begun = Instant::now();
    loop {
        let request = PeerClient::over_tls(trusted)
            .client()
            .post(url.clone())
            .body(json_type.clone(), body.clone().into());
        match request.send().await {
            Ok(answer) => return (answer.status().as_u16(), answer.text().await.unwrap()),
            Err(error) => assert!(begun.elapsed() < TIMEOUT, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_webhook_converts_over_tls_and_refuses_what_is_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let trusted = write_certificate(directory.path());
    let port = free_port();
    let listen = format!("--conversion-listen=127.0.0.1:{port}");
    let _operator = RunningOperator::start(directory.path(), free_port(), &[&listen]);
    let object = json!({"apiVersion": "liverank.dev/v1beta1", "kind": "RankingCluster", "metadata": {"name": "live"},
        "spec": {"gateway": {"drainTimeout": "1m30s"}}});
    let mut review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "1", "desiredAPIVersion": "liverank.dev/v1alpha1", "objects": [object]}});
    let (status, text) = convert(&trusted, port, review.to_string().into_bytes()).await;
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["response"]["convertedObjects"][0]["spec"], json!({"gateway": {"drainSeconds": 90}}));
    review["request"]["objects"][0]["spec"]["gateway"]["drainTimeout"] = json!("soon");
    let (status, text) = convert(&trusted, port, review.to_string().into_bytes()).await;
    assert!(
        status == 200 && text.contains("RankingCluster /live: spec.gateway.drainTimeout:"),
        "{status} {text}"
    );
    let (status, text) = convert(&trusted, port, b"{}".to_vec()).await;
    assert_eq!((status, text.starts_with("no ConversionReview")), (400, true), "{text}");
    let (status, text) = convert(&trusted, port, vec![b' '; 17 * 1024 * 1024]).await;
    assert_eq!((status, text.contains("ask for fewer objects")), (413, true), "{text}");
}
