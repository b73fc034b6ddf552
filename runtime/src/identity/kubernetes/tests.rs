use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::super::seconds;
use super::*;

/// What an API server signs with.
struct Issuer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
        Self { id, pair: pair.unwrap() }
    }

    fn public(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "alg": "ES256", "use": "sig", "x": text(x), "y": text(y) })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": self.id }).to_string();
        let message = format!("{}.{}", text(header), text(claims.to_string()));
        format!("{message}.{}", text(self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap()))
    }

    /// What the kubelet mounts for a `ServiceAccount`.
    fn token(&self, namespace: &str, account: &str) -> String {
        self.sign(&claims(namespace, account))
    }
}

fn claims(namespace: &str, account: &str) -> Value {
    let now = seconds();
    json!({
        "iss": "https://kubernetes.default.svc", "aud": ["liverank.dev/tv/live"],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": now, "nbf": now, "exp": now + 3_607,
        "kubernetes.io": {
            "namespace": namespace, "serviceaccount": {"name": account, "uid": "u"}, "pod": {"name": "p", "uid": "u"},
        },
    })
}

fn write(file: &std::path::Path, issuers: &[&Issuer]) {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.public()).collect();
    let set = json!({ "issuer": "https://kubernetes.default.svc", "keys": keys });
    std::fs::write(file, set.to_string()).unwrap();
}

fn verifier(file: &std::path::Path) -> KubernetesVerifier {
    let operator = "liverank-operator/liverank-operator".parse().unwrap();
    KubernetesVerifier::new(file.to_owned(), "liverank.dev/tv/live".parse().unwrap(), Some(operator))
}

fn verify(verifier: &KubernetesVerifier, token: &str) -> Result<String, Rejected> {
    verifier.verify(token, Service::Manager, seconds()).map(|verified| verified.caller.to_string())
}

#[test]
fn a_service_account_says_who_somebody_is() {
    let (directory, issuer) = (tempfile::tempdir().unwrap(), Issuer::new("k1"));
    let file = directory.path().join("keys.json");
    write(&file, &[&issuer]);
    let verifier = verifier(&file);
    for (namespace, account, expected) in [
        ("tv", "live-manager", Some("manager")),
        ("tv", "live-gateway", Some("gateway")),
        ("tv", "live-cli", Some("cli")),
        ("tv", "live-reader-0", Some("reader/live-reader-0")),
        ("tv", "live-reader-17", Some("reader/live-reader-17")),
        ("liverank-operator", "liverank-operator", Some("operator")),
        // Another namespace, another cluster, another form of a name.
        ("radio", "live-manager", None),
        ("radio", "live-reader-0", None),
        ("tv", "other-manager", None),
        ("tv", "live-operator", None),
        ("tv", "liverank-operator", None),
        ("tv", "live-reader", None),
        ("tv", "live-reader-", None),
        ("tv", "live-reader-01", None),
        ("tv", "live-reader-manager", None),
        ("tv", "live-reader-1-manager", None),
        ("tv", "live", None),
        ("tv", "live-default", None),
        ("tv", "default", None),
    ] {
        let found = verify(&verifier, &issuer.token(namespace, account)).ok();
        assert_eq!(found.as_deref(), expected, "{namespace}/{account}");
    }
}

#[test]
fn a_token_for_somebody_else_is_none_for_us() {
    let (directory, issuer, other) = (tempfile::tempdir().unwrap(), Issuer::new("k1"), Issuer::new("k1"));
    let file = directory.path().join("keys.json");
    write(&file, &[&issuer]);
    let verifier = verifier(&file);
    assert!(verify(&verifier, &issuer.token("tv", "live-manager")).is_ok());
    assert!(verify(&verifier, &other.token("tv", "live-manager")).is_err(), "another cluster's key");
    let now = seconds();
    for (member, value) in [
        ("aud", json!(["https://kubernetes.default.svc"])),
        ("aud", json!(["liverank.dev/tv/other"])),
        ("aud", json!("liverank.dev/tv")),
        ("iss", json!("https://issuer.example")),
        ("exp", json!(now - 60)),
        ("nbf", json!(now + 60)),
        ("kubernetes.io", json!({})),
    ] {
        let mut wrong = claims("tv", "live-manager");
        wrong[member] = value.clone();
        assert!(
            matches!(verify(&verifier, &issuer.sign(&wrong)), Err(Rejected::Invalid(_))),
            "{member}: {value}"
        );
    }
    for missing in ["aud", "iss", "exp", "sub", "kubernetes.io"] {
        let mut wrong = claims("tv", "live-manager");
        wrong.as_object_mut().unwrap().remove(missing);
        assert!(verify(&verifier, &issuer.sign(&wrong)).is_err(), "without {missing}");
    }
}

#[test]
fn keys_may_come_late_and_change() {
    let (directory, first, second) = (tempfile::tempdir().unwrap(), Issuer::new("k1"), Issuer::new("k2"));
    let file = directory.path().join("keys.json");
    let verifier = verifier(&file);
    let back_then = || verifier.known.lock().unwrap().read = None;
    let token = first.token("tv", "live-manager");
    assert!(matches!(verify(&verifier, &token), Err(Rejected::NotReady(_))));
    write(&file, &[&first]);
    back_then();
    assert!(verify(&verifier, &token).is_ok());
    std::fs::write(&file, "{").unwrap();
    back_then();
    assert!(verify(&verifier, &token).is_ok(), "what was known stays good");
    write(&file, &[&first, &second]);
    back_then();
    assert!(verify(&verifier, &second.token("tv", "live-gateway")).is_ok());
    write(&file, &[&second]);
    back_then();
    assert!(verify(&verifier, &token).is_err(), "its key was taken back");
}

#[test]
fn a_token_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let file = TokenFile::new(path.clone());
    assert!(file.token(Service::Manager).is_err());
    std::fs::write(&path, "one\n").unwrap();
    assert_eq!(file.token(Service::Manager).unwrap(), "one");
    std::fs::write(&path, "two").unwrap();
    assert_eq!(file.token(Service::Manager).unwrap(), "one");
    if let Some((_, at)) = &mut *file.read.lock().unwrap() {
        *at -= READ_EACH;
    }
    assert_eq!(file.token(Service::Manager).unwrap(), "two");
}

#[test]
fn audiences_and_accounts_are_read() {
    let audience: Audience = "liverank.dev/tv/live".parse().unwrap();
    assert_eq!(audience.to_string(), "liverank.dev/tv/live");
    for wrong in
        ["", "tv/live", "liverank.dev/tv", "liverank.dev/tv/", "liverank.dev//live", "liverank.dev/a/b/c"]
    {
        assert!(wrong.parse::<Audience>().is_err(), "{wrong}");
    }
    assert!("a".parse::<Account>().is_err() && "/a".parse::<Account>().is_err());
    assert_eq!("a/b".parse::<Account>().unwrap().to_string(), "a/b");
}
