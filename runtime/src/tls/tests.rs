use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use liverank_protocol::access::CalledService;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use reqwest::Url;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::metrics_reference::{TLS_HEADING, reference_tables, replace_part};
use crate::peer::PeerError;
use crate::{HttpSettings, Metrics, PeerClient, ServiceContext, server};

/// A certificate authority of the tests.
struct TestAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", rand::random::<u64>()));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Issues a certificate for this machine that is valid until the beginning of the year `until`; returns it with its
    /// key.
    fn issue_certificate(&self, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A directory as the kubelet mounts it: the files are links into a directory that is exchanged as a whole.
struct KubeletMount {
    directory: TempDir,
    versions: u32,
}

const MOUNTED_FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

impl KubeletMount {
    fn new(authority: &TestAuthority, until: i32) -> Self {
        let mut mount = Self { directory: tempfile::tempdir().unwrap(), versions: 0 };
        let (cert, key) = authority.issue_certificate(until);
        mount.renew_files([&cert, &key, &authority.pem]);
        for name in MOUNTED_FILES {
            symlink(Path::new("..data").join(name), mount.directory.path().join(name)).unwrap();
        }
        mount
    }

    fn renew_files(&mut self, contents: [&str; 3]) {
        self.versions += 1;
        let (at, version) = (self.directory.path(), format!("..{}", self.versions));
        fs::create_dir(at.join(&version)).unwrap();
        for (name, content) in MOUNTED_FILES.iter().zip(contents) {
            fs::write(at.join(&version).join(name), content).unwrap();
        }
        symlink(&version, at.join("..new")).unwrap();
        fs::rename(at.join("..new"), at.join("..data")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns flags that name all files, for the ports and for connections to other processes.
    fn args(&self) -> TlsArgs {
        TlsArgs {
            tls_cert_file: Some(self.path("tls.crt")),
            tls_key_file: Some(self.path("tls.key")),
            tls_client_ca_file: Some(self.path("ca.crt")),
            peers: PeerTlsArgs { peer_ca_file: Some(self.path("ca.crt")), ..PeerTlsArgs::default() },
        }
    }
}

/// Starts a server on a port of its own, until the context is shut down.
async fn serve_over_tls(tls: ListenerTls) -> (Url, ServiceContext) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let shell = ServiceContext {
        http_settings: HttpSettings { tls: Some(tls), ..HttpSettings::default() },
        ..ServiceContext::new(Duration::from_secs(5))
    };
    let (router, served) = (Router::new().route("/seven", get("7")), shell.clone());
    tokio::spawn(async move {
        server::serve_until_shutdown(CalledService::Reader, listener, router, &served).await
    });
    (url, shell)
}

async fn ask_server(peers: &PeerTls, url: &Url) -> Result<u32, PeerError> {
    PeerClient::over_tls(peers).get(url, &["seven"]).await
}

#[tokio::test]
async fn only_who_has_a_certificate_of_the_authority_is_answered() {
    let authority = TestAuthority::new();
    let mount = KubeletMount::new(&authority, 2100);
    let tls = mount.args().open().unwrap();
    let listener = tls.listener_tls.unwrap();
    let (url, shell) = serve_over_tls(listener.clone()).await;
    assert_eq!(ask_server(&tls.peer_tls, &url).await.unwrap(), 7);

    let without =
        PeerTlsArgs { peer_ca_file: Some(mount.path("ca.crt")), ..PeerTlsArgs::default() }.open().unwrap();
    let refused = ask_server(&without, &url).await.unwrap_err();
    assert!(
        matches!(&refused, PeerError::Unavailable(why) if why.contains("CertificateRequired")),
        "{refused}"
    );

    // A client certificate of another authority is shown to a server that this client trusts.
    let stranger = KubeletMount::new(&TestAuthority::new(), 2100);
    let args = PeerTlsArgs {
        peer_ca_file: Some(mount.path("ca.crt")),
        peer_cert_file: Some(stranger.path("tls.crt")),
        peer_key_file: Some(stranger.path("tls.key")),
    };
    let refused = ask_server(&args.open().unwrap(), &url).await.unwrap_err();
    assert!(matches!(refused, PeerError::Unavailable(_)), "{refused}");

    // The server's certificate is of another authority, or has another name.
    let own = TlsArgs {
        peers: PeerTlsArgs { peer_ca_file: Some(stranger.path("ca.crt")), ..args },
        ..mount.args()
    };
    let refused = ask_server(&own.open().unwrap().peer_tls, &url).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let named: Url = url.as_str().replace("127.0.0.1", "localhost").parse().unwrap();
    let refused = ask_server(&tls.peer_tls, &named).await.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let refused = ask_server(&PeerTls::default(), &url).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");

    // Plain text gets no answer. A port that asks for no certificates accepts every client.
    let plain: Url = url.as_str().replace("https", "http").parse().unwrap();
    assert!(ask_server(&tls.peer_tls, &plain).await.is_err());
    let (admin, other) = serve_over_tls(listener.without_client_certificates()).await;
    assert_eq!(ask_server(&without, &admin).await.unwrap(), 7);
    assert!(
        listener.failed_handshakes().get() >= 4,
        "handshakes that failed are counted: {}",
        listener.failed_handshakes().get()
    );
    shell.shutdown.cancel();
    other.shutdown.cancel();
}

#[tokio::test]
async fn pods_that_are_reached_by_their_addresses_are_known_by_their_service() {
    let authority = TestAuthority::new();
    let mount = KubeletMount::new(&authority, 2100);
    let named = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority.issuer).unwrap().pem(), key.serialize_pem())
    };
    let (cert, key) = named("*.tv.svc");
    fs::write(mount.path("service.crt"), cert).unwrap();
    fs::write(mount.path("service.key"), key).unwrap();
    let args = TlsArgs {
        tls_cert_file: Some(mount.path("service.crt")),
        tls_key_file: Some(mount.path("service.key")),
        ..TlsArgs::default()
    };
    let (url, shell) = serve_over_tls(args.open().unwrap().listener_tls.unwrap()).await;
    let trusting = |name| PeerTls::trusting_authorities(&authority.pem, name).unwrap();
    assert_eq!(ask_server(&trusting(Some("live-manager.tv.svc")), &url).await.unwrap(), 7);
    for other in [Some("live-manager.radio.svc"), None] {
        let refused = ask_server(&trusting(other), &url).await.unwrap_err();
        assert!(refused.to_string().contains("not valid for name"), "{refused}");
    }
    // If the address has a name, the server's certificate must have that name.
    let by_name: Url = url.as_str().replace("127.0.0.1", "localhost").parse().unwrap();
    let refused = ask_server(&trusting(Some("live-manager.tv.svc")), &by_name).await.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let of_others =
        PeerTls::trusting_authorities(&TestAuthority::new().pem, Some("live-manager.tv.svc")).unwrap();
    let refused = ask_server(&of_others, &url).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert!(
        PeerTls::trusting_authorities("live-ca", None).unwrap_err().to_string().contains("no certificate")
    );
    shell.shutdown.cancel();
}

#[tokio::test]
async fn the_admin_port_shows_what_is_shown_to_our_other_processes() {
    let (public, internal) = (TestAuthority::new(), TestAuthority::new());
    let (front, inside) = (KubeletMount::new(&public, 2100), KubeletMount::new(&internal, 2101));
    let peers = PeerTlsArgs {
        peer_ca_file: Some(inside.path("ca.crt")),
        peer_cert_file: Some(inside.path("tls.crt")),
        peer_key_file: Some(inside.path("tls.key")),
    };
    let tls = TlsArgs { tls_client_ca_file: None, peers, ..front.args() }.open().unwrap();
    let (url, shell) = serve_over_tls(tls.listener_tls.unwrap()).await;
    let (admin, other) = serve_over_tls(tls.admin_tls.unwrap()).await;
    let [by_public, by_internal] =
        [public, internal].map(|it| PeerTls::trusting_authorities(&it.pem, None).unwrap());
    assert_eq!(ask_server(&by_public, &url).await.unwrap(), 7);
    assert_eq!(ask_server(&by_internal, &admin).await.unwrap(), 7);
    assert!(ask_server(&by_internal, &url).await.is_err() && ask_server(&by_public, &admin).await.is_err());
    shell.shutdown.cancel();
    other.shutdown.cancel();
}

async fn connect_tls(peers: &PeerTls, url: &Url) -> TlsStream<TcpStream> {
    let address = url.socket_addrs(|| None).unwrap()[0];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::clone(peers.config())).connect(name, stream).await.unwrap()
}

fn shown_certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn exchange_seven(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /seven HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"7") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the connection ended");
    }
}

/// Waits until the metrics contain this line.
async fn wait_for_metric(shell: &ServiceContext, line: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !shell.metrics.encode_text().lines().any(|found| found == line) {
        assert!(tokio::time::Instant::now() < deadline, "{line} is not in {}", shell.metrics.encode_text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_reference_lists_what_processes_with_certificates_tell() {
    let authority = TestAuthority::new();
    let tls = KubeletMount::new(&authority, 2100).args().open().unwrap();
    let metrics = Metrics::default();
    let told = metrics.clone();
    tokio::spawn(async move { tls.file_reloading.reload_forever(&told).await });
    while !metrics.encode_text().contains("liverank_tls") {
        tokio::task::yield_now().await;
    }
    let own = reference_tables(&metrics.encode_text());
    assert!(own.starts_with(TLS_HEADING), "{own}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let wanted = replace_part(&text, TLS_HEADING, &own);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, wanted).unwrap();
        return;
    }
    assert_eq!(text, wanted, "docs/metrics.md is another: UPDATE_DOCS=1 writes it anew");
}

#[tokio::test]
async fn renewed_certificates_take_effect_under_open_connections() {
    let authority = TestAuthority::new();
    let mut mount = KubeletMount::new(&authority, 2100);
    let tls = mount.args().open().unwrap();
    let (url, shell) = serve_over_tls(tls.listener_tls.unwrap()).await;
    let metrics = shell.metrics.clone();
    tokio::spawn(async move { tls.file_reloading.reload_forever(&metrics).await });
    let ends = |name, at: i64| {
        format!("liverank_tls_certificate_expiry_timestamp_seconds{{shown_to=\"{name}\"}} {at}")
    };
    let (in_2100, in_2101) = (4_102_444_800, 4_133_980_800);
    wait_for_metric(&shell, &ends("clients", in_2100)).await;
    let mut open = connect_tls(&tls.peer_tls, &url).await;
    let first = shown_certificate(&open);
    exchange_seven(&mut open).await;

    let (cert, key) = authority.issue_certificate(2101);
    mount.renew_files([&cert, &key, &authority.pem]);
    wait_for_metric(&shell, &ends("clients", in_2101)).await;
    wait_for_metric(&shell, &ends("peers", in_2101)).await;
    exchange_seven(&mut open).await;
    let second = shown_certificate(&connect_tls(&tls.peer_tls, &url).await);
    assert!(first != second && second == CertificateDer::from_pem_slice(cert.as_bytes()).unwrap());

    // The key belongs to another certificate: reported once for each side, and the old files stay in use.
    let (other, _) = authority.issue_certificate(2102);
    mount.renew_files([&other, &key, &authority.pem]);
    wait_for_metric(&shell, "liverank_tls_reload_failures_total 2").await;
    exchange_seven(&mut open).await;
    assert_eq!(shown_certificate(&connect_tls(&tls.peer_tls, &url).await), second);

    // All files are replaced, including the authority.
    let next = TestAuthority::new();
    let (cert, key) = next.issue_certificate(2100);
    mount.renew_files([&cert, &key, &next.pem]);
    wait_for_metric(&shell, &ends("clients", in_2100)).await;
    wait_for_metric(&shell, &ends("peers", in_2100)).await;
    wait_for_metric(&shell, "liverank_tls_reload_failures_total 2").await;
    assert_eq!(ask_server(&tls.peer_tls, &url).await.unwrap(), 7);
    exchange_seven(&mut open).await;
    shell.shutdown.cancel();
}

#[test]
fn unusable_tls_files_are_named_in_the_error() {
    let authority = TestAuthority::new();
    let mount = KubeletMount::new(&authority, 2100);
    let at = |name: &str, content: &str| {
        let path = mount.directory.path().join(name);
        fs::write(&path, content).unwrap();
        Some(path)
    };
    let (expired, expired_key) = authority.issue_certificate(2020);
    let (_, other_key) = authority.issue_certificate(2100);
    let good = mount.args();
    let with_key = |key| TlsArgs { tls_key_file: key, ..good.clone() };
    let with_cert = |cert| TlsArgs { tls_cert_file: cert, ..good.clone() };
    let with_clients = |clients| TlsArgs { tls_client_ca_file: clients, ..good.clone() };
    let peers = |peers| TlsArgs { peers, ..good.clone() };
    let none = PeerTlsArgs::default;
    for (args, words) in [
        (with_key(None), ["--tls-cert-file", "needs --tls-key-file"]),
        (with_cert(None), ["--tls-key-file", "needs --tls-cert-file"]),
        (
            TlsArgs { tls_key_file: None, ..with_cert(None) },
            ["--tls-client-ca-file", "needs --tls-cert-file"],
        ),
        (with_cert(Some(mount.path("absent"))), ["--tls-cert-file", "absent: No such file"]),
        (with_cert(at("empty", "")), ["--tls-cert-file", "empty: there is no certificate in it"]),
        (with_cert(at("odd", "-----BEGIN CERTIFICATE-----\n!\n")), ["--tls-cert-file", "odd: it is not PEM"]),
        (with_key(at("no-key", &authority.pem)), ["--tls-key-file", "no-key: there is no key in it"]),
        (
            with_key(at("other.key", &other_key)),
            ["other.key: it is not the key of the certificate", "tls.crt"],
        ),
        (
            TlsArgs { tls_key_file: at("old.key", &expired_key), ..with_cert(at("old.crt", &expired)) },
            ["--tls-cert-file", "old.crt: the certificate has expired (2020-01-01T00:00:00Z)"],
        ),
        (with_clients(at("none", "")), ["--tls-client-ca-file", "none: there is no certificate in it"]),
        (
            with_clients(at("large", &"x".repeat(1_100_000))),
            ["--tls-client-ca-file", "large: it is larger than"],
        ),
        (peers(PeerTlsArgs { peer_ca_file: at("none", ""), ..none() }), ["--peer-ca-file", "no certificate"]),
        (
            peers(PeerTlsArgs { peer_cert_file: Some(mount.path("tls.crt")), ..none() }),
            ["--peer-cert-file", "needs --peer-key-file"],
        ),
    ] {
        let said = format!("{:#}", args.open().unwrap_err());
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    }
    assert!(TlsArgs::default().open().unwrap().listener_tls.is_none());
}

fn der(until: i32) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(TestAuthority::new().issue_certificate(until).0.as_bytes()).unwrap()
}

#[test]
fn certificate_expiry_is_read_in_both_time_forms() {
    assert_eq!(certificate_end(&der(2049)), Some(2_493_072_000));
    assert_eq!(certificate_end(&der(2051)), Some(2_556_144_000));
}

proptest! {
    #[test]
    fn any_certificate_bytes_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
    ) {
        thread_local!(static GOOD: CertificateDer<'static> = der(2100));
        let mut bytes = GOOD.with(|good| good.to_vec());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = certificate_end(&bytes);
        bytes.truncate(length.index(bytes.len()));
        let _ = certificate_end(&bytes);
    }
}
