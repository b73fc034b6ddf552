//! A test of `liverank up` with TLS on all ports and certificates on both sides.

use std::path::Path;
use std::process::Command;

use futures::StreamExt;
use liverank_e2e::process::{Process, Signal};
use liverank_e2e::wait;
use liverank_runtime::client::{Client, ConnectionSettings};
use liverank_runtime::tls::PeerTlsArgs;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::Url;
use serde_json::{Value, json};

use super::{Duration, START_TIMEOUT, up_arguments};

/// Writes an authority, and a certificate of it for 127.0.0.1, into the directory.
fn make_certificates(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("an authority").pem();
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer).expect("a certificate").pem();
    for (name, text) in [("ca.crt", authority), ("tls.crt", cert), ("tls.key", key.serialize_pem())] {
        std::fs::write(directory.join(name), text).expect("writing a file");
    }
}

struct TlsUp {
    process: Process,
    args: Vec<String>,
    client: Client,
    directory: tempfile::TempDir,
}

impl TlsUp {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        make_certificates(directory.path());
        let (mut args, _) = up_arguments(&directory.path().join("data"));
        let file = |name: &str| directory.path().join(name).display().to_string();
        for (flag, name) in [
            ("--tls-cert-file", "tls.crt"),
            ("--tls-key-file", "tls.key"),
            ("--tls-client-ca-file", "ca.crt"),
            ("--peer-ca-file", "ca.crt"),
        ] {
            args.extend([flag.to_owned(), file(name)]);
        }
        let known = PeerTlsArgs {
            peer_ca_file: Some(directory.path().join("ca.crt")),
            peer_cert_file: Some(directory.path().join("tls.crt")),
            peer_key_file: Some(directory.path().join("tls.key")),
        };
        let client = Client::new(&known.open().expect("the same files"), ConnectionSettings::default());
        let process = Process::start("up", &args, directory.path());
        let up = Self { process, args, client, directory };
        wait::until("an answer", START_TIMEOUT, || up.get_json("gateway", "/videos")).await;
        up
    }

    fn url(&self, service: &str, path: &str) -> Url {
        let at = self.args.iter().position(|arg| *arg == format!("--{service}-listen")).expect("a flag");
        let address = self.args[at + 1].split(',').next().unwrap_or_default();
        format!("https://{address}{path}").parse().expect("a URL")
    }

    async fn get_json(&self, service: &str, path: &str) -> Option<Value> {
        let answer = self.client.get(self.url(service, path)).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    async fn post_json(&self, service: &str, path: &str, body: Value) -> Option<Value> {
        let answer = self.client.post(self.url(service, path)).json(&body).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    /// Opens a stream of a video at `base`, and posts a comment until the stream brings it.
    async fn watch_until_comment(&self, base: &str, text: &str) {
        let url: Url = format!("{base}/connect?userid=ann&videoid=cats").parse().expect("a URL");
        let answer = wait::until("a stream", START_TIMEOUT, || async {
            let answer = self.client.get(url.clone()).timeout(START_TIMEOUT).send().await.ok()?;
            answer.status().is_success().then_some(answer)
        })
        .await;
        let (mut seen, mut parts) = (String::new(), answer.bytes_stream());
        while !seen.contains(text) {
            if seen.contains("connected") {
                self.post_json(
                    "comment",
                    "/comment",
                    json!({"userid": "ben", "videoid": "cats", "comment": text}),
                )
                .await;
            }
            let part = parts.next().await.expect("the stream goes on").expect("a part of it");
            seen.push_str(&String::from_utf8_lossy(&part));
        }
    }
}

#[tokio::test]
async fn all_ports_talk_tls_to_who_has_a_certificate() {
    let mut up = TlsUp::start().await;
    let registered = wait::until("a reader", START_TIMEOUT, || {
        up.post_json("manager", "/register", json!({"videoid": "cats"}))
    })
    .await;
    // The URL of a reader is given to viewers, so it must be one of TLS.
    let reader = registered["readerUrl"].as_str().expect("an address").to_owned();
    assert!(reader.starts_with("https://"), "{reader}");
    wait::until("the like is acknowledged", START_TIMEOUT, || {
        up.post_json("gateway", "/interact", json!({"video_id": "cats", "user_id": "ann", "type": "like"}))
    })
    .await;
    wait::until("the like on the board", START_TIMEOUT, || async {
        (up.get_json("gateway", "/videos").await?["videos"][0]["video_id"] == "cats").then_some(())
    })
    .await;
    // One stream goes through the gateway, the other directly to the reader.
    up.watch_until_comment(up.url("gateway", "").as_str().trim_end_matches('/'), "through the front door")
        .await;
    up.watch_until_comment(&reader, "from the reader").await;
    let page =
        wait::until("a page of comments", START_TIMEOUT, || up.get_json("gateway", "/comments/cats")).await;
    assert!(page["comments"].is_array(), "{page}");

    let stranger =
        PeerTlsArgs { peer_ca_file: Some(up.directory.path().join("ca.crt")), ..PeerTlsArgs::default() };
    let stranger = Client::new(&stranger.open().expect("an authority"), ConnectionSettings::default());
    for service in ["gateway", "websocket", "comment", "reader", "manager", "statistics"] {
        let answer = stranger.get(up.url(service, "/health")).timeout(START_TIMEOUT).send().await;
        assert!(answer.is_err(), "{service} answers who has no certificate");
    }
    // The admin port requires no client certificate, and the binary's probe needs only the authority.
    let ready = up.url("admin", "/readyz").to_string();
    let authority = up.directory.path().join("ca.crt").display().to_string();
    let probe = |more: &[&str]| {
        let mut command = Command::new(liverank_e2e::binary());
        command.args(["probe", &ready, "--seconds", "30"]).args(more).output().expect("running the binary")
    };
    let known = probe(&["--peer-ca-file", &authority]);
    assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stdout));
    let unknown = String::from_utf8_lossy(&probe(&[]).stdout).into_owned();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");

    up.process.signal(Signal::INT);
    assert_eq!(up.process.wait(Duration::from_secs(30)).code(), Some(0), "{}", up.process.log());
}
