//! Tests the operator's admin port over TLS, in a real process: probes and scrapers are its only callers.

// Tests panic with the error.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use liverank_runtime::{PeerClient, PeerTls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::Url;

/// The time limit for the start, and for noticing a changed file, which the process checks each second.
const TIMEOUT: Duration = Duration::from_secs(20);

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
    fn start(directory: &Path, port: u16) -> Self {
        fs::write(directory.join("kubeconfig"), KUBECONFIG).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_liverank-operator"));
        command.args(["run", "--admin-listen", &format!("127.0.0.1:{port}"), "--log=off"]);
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
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _operator = RunningOperator::start(directory.path(), port);
    assert_eq!(livez_trusting(&first, port).await, "ok\n");
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/livez")).await;
    assert!(answer.is_err(), "it is answered without TLS: {answer:?}");
    let renewed = write_certificate(directory.path());
    assert_eq!(livez_trusting(&renewed, port).await, "ok\n");
}
