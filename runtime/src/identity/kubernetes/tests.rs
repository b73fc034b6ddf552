use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::super::now_seconds;
use super::*;

/// The issuer of a Kubernetes API server: its key and the key's id.
struct TestIssuer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

fn base64_text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl TestIssuer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
        Self { id, pair: pair.unwrap() }
    }

    fn public_jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "alg": "ES256", "use": "sig", "x": base64_text(x), "y": base64_text(y) })
    }

    fn sign_claims(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": self.id }).to_string();
        let message = format!("{}.{}", base64_text(header), base64_text(claims.to_string()));
        format!(
            "{message}.{}",
            base64_text(self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap())
        )
    }

    /// Returns a token as the kubelet mounts it for a `ServiceAccount`.
    fn token_for(&self, namespace: &str, account: &str) -> String {
        self.sign_claims(&claims_for(namespace, account))
    }
}

fn claims_for(namespace: &str, account: &str) -> Value {
    let now = now_seconds();
    json!({
        "iss": "https://kubernetes.default.svc", "aud": ["liverank.dev/tv/live"],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": now, "nbf": now, "exp": now + 3_607,
        "kubernetes.io": {
            "namespace": namespace, "serviceaccount": {"name": account, "uid": "u"}, "pod": {"name": "p", "uid": "u"},
        },
    })
}

fn write_keys_file(file: &std::path::Path, issuers: &[&TestIssuer]) {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.public_jwk()).collect();
    let set = json!({ "issuer": "https://kubernetes.default.svc", "keys": keys });
    std::fs::write(file, set.to_string()).unwrap();
}

fn verifier(file: &std::path::Path) -> KubernetesVerifier {
    let operator = "liverank-operator/liverank-operator".parse().unwrap();
    KubernetesVerifier::new(file.to_owned(), "liverank.dev/tv/live".parse().unwrap(), Some(operator))
}

fn verify_token(verifier: &KubernetesVerifier, token: &str) -> Result<String, TokenRejection> {
    verifier.verify(token, CalledService::Manager, now_seconds()).map(|verified| verified.caller.to_string())
}

#[test]
fn a_service_account_token_identifies_its_caller() {
    let (directory, issuer) = (tempfile::tempdir().unwrap(), TestIssuer::new("k1"));
    let file = directory.path().join("keys.json");
    write_keys_file(&file, &[&issuer]);
    let verifier = verifier(&file);
    for (namespace, account, expected) in [
        ("tv", "live-manager", Some("manager")),
        ("tv", "live-gateway", Some("gateway")),
        ("tv", "live-cli", Some("cli")),
        ("tv", "live-reader-0", Some("reader/live-reader-0")),
        ("tv", "live-reader-17", Some("reader/live-reader-17")),
        ("liverank-operator", "liverank-operator", Some("operator")),
        // The account is in another namespace, of another cluster, or has a malformed name.
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
        let found = verify_token(&verifier, &issuer.token_for(namespace, account)).ok();
        assert_eq!(found.as_deref(), expected, "{namespace}/{account}");
    }
}

#[test]
fn a_token_for_another_audience_is_rejected() {
    let (directory, issuer, other) =
        (tempfile::tempdir().unwrap(), TestIssuer::new("k1"), TestIssuer::new("k1"));
    let file = directory.path().join("keys.json");
    write_keys_file(&file, &[&issuer]);
    let verifier = verifier(&file);
    assert!(verify_token(&verifier, &issuer.token_for("tv", "live-manager")).is_ok());
    assert!(
        verify_token(&verifier, &other.token_for("tv", "live-manager")).is_err(),
        "another cluster's key"
    );
    let now = now_seconds();
    for (member, value) in [
        ("aud", json!(["https://kubernetes.default.svc"])),
        ("aud", json!(["liverank.dev/tv/other"])),
        ("aud", json!("liverank.dev/tv")),
        ("iss", json!("https://issuer.example")),
        ("exp", json!(now - 60)),
        ("nbf", json!(now + 60)),
        ("kubernetes.io", json!({})),
    ] {
        let mut wrong = claims_for("tv", "live-manager");
        wrong[member] = value.clone();
        assert!(
            matches!(verify_token(&verifier, &issuer.sign_claims(&wrong)), Err(TokenRejection::Invalid(_))),
            "{member}: {value}"
        );
    }
    for missing in ["aud", "iss", "exp", "sub", "kubernetes.io"] {
        let mut wrong = claims_for("tv", "live-manager");
        wrong.as_object_mut().unwrap().remove(missing);
        assert!(verify_token(&verifier, &issuer.sign_claims(&wrong)).is_err(), "without {missing}");
    }
}

#[test]
fn issuer_keys_may_come_late_and_change() {
    let (directory, first, second) =
        (tempfile::tempdir().unwrap(), TestIssuer::new("k1"), TestIssuer::new("k2"));
    let file = directory.path().join("keys.json");
    let verifier = verifier(&file);
    let back_then = || verifier.known_keys.lock().unwrap().last_read_time = None;
    let token = first.token_for("tv", "live-manager");
    assert!(matches!(verify_token(&verifier, &token), Err(TokenRejection::NotReady(_))));
    write_keys_file(&file, &[&first]);
    back_then();
    assert!(verify_token(&verifier, &token).is_ok());
    std::fs::write(&file, "{").unwrap();
    back_then();
    assert!(verify_token(&verifier, &token).is_ok(), "what was known stays good");
    write_keys_file(&file, &[&first, &second]);
    back_then();
    assert!(verify_token(&verifier, &second.token_for("tv", "live-gateway")).is_ok());
    write_keys_file(&file, &[&second]);
    back_then();
    assert!(verify_token(&verifier, &token).is_err(), "its key was taken back");
}

#[test]
fn a_token_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let file = TokenFiles::new(path.clone());
    assert!(file.token(CalledService::Manager).is_err());
    std::fs::write(&path, "one\n").unwrap();
    assert_eq!(file.token(CalledService::Manager).unwrap(), "one");
    std::fs::write(&path, "two").unwrap();
    assert_eq!(file.token(CalledService::Manager).unwrap(), "one");
    if let Some((_, at)) = &mut *file.cluster_token.last_read.lock().unwrap() {
        *at -= REREAD_INTERVAL;
    }
    assert_eq!(file.token(CalledService::Manager).unwrap(), "two");
}

#[test]
fn a_token_for_the_statistics_service_is_good_there_alone() {
    let (directory, issuer) = (tempfile::tempdir().unwrap(), TestIssuer::new("k1"));
    let file = directory.path().join("keys.json");
    write_keys_file(&file, &[&issuer]);
    let verifier = verifier(&file);
    let mut claims = claims_for("tv", "live-gateway");
    claims["aud"] = json!(["liverank.dev/tv/live/statistics"]);
    let bound = issuer.sign_claims(&claims);
    let all = issuer.token_for("tv", "live-gateway");
    for service in [CalledService::Manager, CalledService::Comment, CalledService::Websocket] {
        assert!(verifier.verify(&bound, service, now_seconds()).is_err(), "{}", service.name());
        assert!(verifier.verify(&all, service, now_seconds()).is_ok());
    }
    let known = verifier.verify(&bound, CalledService::Statistics, now_seconds()).unwrap();
    assert_eq!(known.caller.to_string(), "gateway");
    // People who ask for statistics show the token for all.
    assert!(verifier.verify(&all, CalledService::Statistics, now_seconds()).is_ok());
    for other in ["liverank.dev/tv/live/manager", "liverank.dev/tv/other/statistics"] {
        claims["aud"] = json!([other]);
        let token = issuer.sign_claims(&claims);
        assert!(verifier.verify(&token, CalledService::Statistics, now_seconds()).is_err(), "{other}");
    }
}

#[test]
fn the_statistics_service_is_shown_the_token_that_is_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "of-all").unwrap();
    let source = TokenFiles::new(path);
    assert!(!source.has_bound_token(CalledService::Statistics), "an earlier builder mounts none");
    std::fs::write(directory.path().join("statistics-token"), "bound").unwrap();
    assert!(source.has_bound_token(CalledService::Statistics));
    assert!(!source.has_bound_token(CalledService::Manager));
    assert_eq!(source.token(CalledService::Statistics).unwrap(), "bound");
    assert_eq!(source.token(CalledService::Manager).unwrap(), "of-all");
}

#[test]
fn audiences_and_account_names_are_parsed() {
    let audience: ClusterAudience = "liverank.dev/tv/live".parse().unwrap();
    assert_eq!(audience.to_string(), "liverank.dev/tv/live");
    for wrong in
        ["", "tv/live", "liverank.dev/tv", "liverank.dev/tv/", "liverank.dev//live", "liverank.dev/a/b/c"]
    {
        assert!(wrong.parse::<ClusterAudience>().is_err(), "{wrong}");
    }
    assert!("a".parse::<ServiceAccountName>().is_err() && "/a".parse::<ServiceAccountName>().is_err());
    assert_eq!("a/b".parse::<ServiceAccountName>().unwrap().to_string(), "a/b");
}
