//! Viewers' tokens: which requests are accepted, for which user, and by which keys.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use crate::support::{System, eventually, nowhere, problem, serve};

/// The key is fixed because *ring* cannot generate RSA keys; it was made for these tests and is used nowhere else.
const RSA_KEY: &str = "\
    MIIEowIBAAKCAQEAgzRFf5xa1Dp8VMiA6wkQ4ISK4op9Jdv7V3hRTBmuifk830GJXa2E/AvC90dhw16DPa00dPLaNGrJ23iBpdZG\
    cROQRnZedMAteCIsaYIqgAoW03orhzQSejLHwy8HcrDE5WSEjv5ghUNKctY+5Qncmw2wHwgz/Qom3tn4Mkfn7u6bFQfguSfJCnJe\
    EbaX0W0CVFKF/JGKto6CowPn+tPfbUFD0ArWWfGls4DcM8rbHEc5u1LPqxVf7FD4D8tHEJ91QAdV/2188EuQdpMCxTV1Z5O8Baoc\
    yjkpuL40ygShMZ9uqC0a/g33D00gOKrLcLT33vwH93aCaBu7bCLwcb7ieQIDAQABAoIBAADQgWvw4F7NPCSvQp7y5UrCLTXfI+Fp\
    Hll6fZAKNXCq05YT4JKXIf+0jPx0Uibgfn0Ssa7WK8TuiBvs1r/c9tP7NJvos95oAQBBag1/ntxA88en9v7gXmBUJ175UEOwgDsS\
    UYECaD6mM8nxtYiTc+33JZ7pB0rsq2AacfV8nR55FMaECuTM88flNyTLgnjsFDxY2Or+jletp/nEck5IvKzox4TdSIbz7aHf/1id\
    hUxWiz76zvuYJKrO7Knvjo34+AH0XlURoVAI10XW0+rllekUSV5g5+l2EC+wI/u4cRvGO4ZpoHqwnN8pQes+3/Tea+ORD8eQju5h\
    gBmjjI3eNXcCgYEAuMOK8j6BoxxA7W2aQwqc6xXA/inMwD9qy0gtZCLH+f/c/dGh8+nhmDY2NJ/KuJPZgJ3pvJpwabaqq6KA7wQe\
    DSi4x3+cSPmuwNFVK98gMQqEFvO4ttRSfl7Jtj5Dlapkm1DMLC+/92XNHZ5mirHNvUmPtK8UzWJyTDQSoOxrkUMCgYEAtcpQT8wG\
    KZeRlfhVbLsjroVOjvMWK/Tis6Cg+5IsOSFivtMCzfGBrwQUS4gg6QufK9VTtBv/GDg2uqI35Fppt6Jy+j7RfL903r0x07dOi5Mo\
    Ur5/2HZ+VKvd1p+fYgTdghOjfd2p1JiIqhYLSJAZ03++v7+6A7d31yrcRqibk5MCgYA8uqEf8GWh3DaHE8Bhisp7BqJxqAGRqwaK\
    HIY25KvAQ1Y64z2NM3GgGymD8IWsV4RlHwJlqImMZasBUR958GuEPb9Ga25OGitTWzrYebVWCTPTa3ZqOa2HtdYtHZgPSHtbBZqm\
    Z2d8hKx/sMHZkomiTtx6MhXvUA1reK4q0KqmiwKBgEqwWprOamHAQjJpmz9XC+vyHTqiKSPaMyI2Bq4VelHmo5lfPLG8Xdm4RVZb\
    EZpuCfGKbh97uS0MO4AmkewiMXkfJzolgRBN4Qh6lvQzRfQWe+SzG/elh3XmPvilEGjHMvL0eqGF5vbPzKaE9BHWEqZQv+AsN5K7\
    WGNw2pu1PmY9AoGBAKLa/+EQe0yoJGlcKyDgD5zmms7dzwkvPzp1m2V08SYJPMWDKZCCvLNX6PA0aoMFSDbCwFedTr1WE9wsjIAN\
    ZZePjGl4Hiucr1T55Eku8KGD3MMjXJosHKx9E3D1pVbLFxpmbIMCXpQQgJQrQ5EnLebk5K5Ng6arlwv+Bta2mxke";

enum SigningPair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// An issuer's key pair, with its id.
pub struct Key {
    id: &'static str,
    pair: SigningPair,
}

fn base64_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn rsa_key(id: &'static str) -> Self {
        Self { id, pair: SigningPair::Rsa(RsaKeyPair::from_der(&STANDARD.decode(RSA_KEY).unwrap()).unwrap()) }
    }

    fn ec_key(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { id, pair: SigningPair::Ec(pair) }
    }

    pub fn ed(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id, pair: SigningPair::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()) }
    }

    fn public_jwk(&self) -> Value {
        match &self.pair {
            SigningPair::Rsa(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "kid": self.id, "use": "sig", "n": base64_text(&n), "e": base64_text(&e)})
            }
            SigningPair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": base64_text(x), "y": base64_text(y)})
            }
            SigningPair::Ed(pair) => {
                let x = pair.public_key().as_ref();
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "alg": "EdDSA", "x": base64_text(x)})
            }
        }
    }

    pub fn header(&self) -> Value {
        let algorithm = match self.pair {
            SigningPair::Rsa(_) => "RS256",
            SigningPair::Ec(_) => "ES256",
            SigningPair::Ed(_) => "EdDSA",
        };
        json!({"alg": algorithm, "kid": self.id, "typ": "JWT"})
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            base64_text(header.to_string().as_bytes()),
            base64_text(claims.to_string().as_bytes())
        );
        let random = SystemRandom::new();
        let signature = match &self.pair {
            SigningPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            SigningPair::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            SigningPair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64_text(&signature))
    }

    /// Returns a valid token for `user`.
    pub fn token(&self, user: &str) -> String {
        self.sign(&self.header(), &claims(user))
    }
}

pub fn now() -> i64 {
    liverank_runtime::now_ms() as i64 / 1000
}

pub fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": now() + 600, "nbf": now(), "iss": "https://issuer.example", "aud": ["other", "live"]})
}

fn key_set(keys: &[&Key]) -> Value {
    json!({"keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>()})
}

/// The flags for the issuer and the audience of the tests' tokens.
const ISSUER_FLAGS: [&str; 4] = ["--auth-issuer", "https://issuer.example", "--auth-audience", "live"];

/// Starts a gateway that reads `keys` from a file. Returns it with the directory of the file.
pub async fn system(keys: &[&Key], flags: &[&str]) -> (System, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, key_set(keys).to_string()).unwrap();
    let own = ["--auth-jwks-file", file.to_str().unwrap()];
    (System::start(&[&own[..], &ISSUER_FLAGS, flags].concat()).await, directory)
}

pub const VIEW: &str = r#"{"video_id":"cat","user_id":"ana","type":"view"}"#;

pub async fn post_with(system: &System, path: &str, token: &str, body: &str) -> reqwest::Response {
    system.http.post(system.url(path)).bearer_auth(token).body(body.to_owned()).send().await.unwrap()
}

async fn post_view(system: &System, token: &str) -> u16 {
    post_with(system, "/interact", token, VIEW).await.status().as_u16()
}

/// Checks that a response is a refusal with this status and challenge, as section 5 of the design and RFC 6750
/// require.
pub async fn check_refused(response: reqwest::Response, status: u16, challenge: &str) -> Value {
    assert_eq!(response.headers()["www-authenticate"], challenge, "{}", response.url());
    problem(response, status).await
}

pub const INVALID: &str = "Bearer error=\"invalid_token\"";
pub const OTHER: &str = "Bearer error=\"insufficient_scope\"";

#[tokio::test]
async fn a_token_of_each_kind_lets_its_user_in_and_nobody_else() {
    let keys = [Key::rsa_key("r"), Key::ec_key("e"), Key::ed("d")];
    let (system, _directory) = system(&keys.each_ref(), &[]).await;
    for key in &keys {
        assert_eq!(post_view(&system, &key.token("ana")).await, 202, "{}", key.id);
        let bens = post_with(&system, "/interact", &key.token("ben"), VIEW).await;
        assert_eq!(check_refused(bens, 403, OTHER).await["field"], "user_id");
        // Without a key id, a token is refused if the issuer has several keys.
        let mut unnamed = key.header();
        unnamed.as_object_mut().unwrap().remove("kid");
        assert_eq!(post_view(&system, &key.sign(&unnamed, &claims("ana"))).await, 401, "{}", key.id);
        let (single, _directory) = self::system(&[key], &[]).await;
        assert_eq!(post_view(&single, &key.sign(&unnamed, &claims("ana"))).await, 202, "{}", key.id);
        // A signature of one algorithm is not valid under another one.
        let other = keys.iter().find(|other| other.id != key.id).unwrap();
        assert_eq!(post_view(&system, &key.sign(&other.header(), &claims("ana"))).await, 401, "{}", key.id);
    }
    assert_eq!(system.log.appended().len(), 3);
    check_refused(system.post("/interact", VIEW).await, 401, "Bearer").await;
    // A URL is logged in too many places to accept a token in it from a client that can send headers.
    let path = format!("/interact?access_token={}", keys[2].token("ana"));
    check_refused(system.post(&path, VIEW).await, 401, "Bearer").await;
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_whatever_is_wrong_with_it() {
    let (key, stranger) = (Key::ed("d"), Key::ed("d"));
    let (system, _directory) = system(&[&key], &[]).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims("ana");
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        key.sign(&key.header(), &claims)
    };
    let header = |name: &str, value: Value| {
        let mut header = key.header();
        header[name] = value;
        key.sign(&header, &claims("ana"))
    };
    let good = key.token("ana");
    let parts: Vec<&str> = good.split('.').collect();
    let forged = base64_text(claims("eve").to_string().as_bytes());
    for (what, token) in [
        ("expired", with("exp", json!(now() - 60))),
        ("no end", with("exp", Value::Null)),
        ("an end in words", with("exp", json!("never"))),
        ("not yet", with("nbf", json!(now() + 120))),
        ("a beginning in words", with("nbf", json!("now"))),
        ("nobody's", with("sub", Value::Null)),
        ("another issuer", with("iss", json!("https://other.example"))),
        ("no issuer", with("iss", Value::Null)),
        ("for others", with("aud", json!("other"))),
        ("for nobody", with("aud", Value::Null)),
        ("a stranger's", stranger.token("ana")),
        ("an unknown key", header("kid", json!("x"))),
        ("no algorithm", header("alg", json!("none"))),
        ("a shared secret", header("alg", json!("HS256"))),
        ("critical", header("crit", json!(["exp"]))),
        ("forged", format!("{}.{forged}.{}", parts[0], parts[2])),
        ("unsigned", format!("{}.{}.", parts[0], parts[1])),
        ("cut", good[..good.len() - 2].to_owned()),
        ("empty", String::new()),
        ("no token", "token".to_owned()),
    ] {
        let answer = post_with(&system, "/interact", &token, VIEW).await;
        assert_eq!(answer.status(), 401, "{what}");
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
        assert!([INVALID, "Bearer"].contains(&challenge), "{what}: {challenge}");
    }
    assert_eq!(system.log.appended(), []);
    for user in ["ana", "ben"] {
        let expected = if user == "ana" { 202 } else { 403 };
        assert_eq!(post_view(&system, &key.token(user)).await, expected);
    }
    // Clocks that differ by some seconds do not matter.
    assert_eq!(post_view(&system, &with("exp", json!(now() - 5))).await, 202);
}

/// Answers with the URI and the `Authorization` header of the request.
async fn echo_request(request: Request) -> Response {
    let shown = ["authorization", "liverank-authorization"].map(|name| request.headers().get(name));
    let shown = shown.into_iter().flatten().next().map(|value| value.to_str().unwrap().to_owned());
    Json(json!({"uri": request.uri().to_string(), "authorization": shown})).into_response()
}

#[tokio::test]
async fn who_writes_or_watches_shows_a_token_and_who_reads_rankings_does_not() {
    let behind = serve(Router::new().fallback(echo_request)).await;
    let services = ["--comment-url", &behind, "--websocket-url", &behind, "--manager-url", &behind];
    let key = Key::ec_key("e");
    let (system, _directory) = system(&[&key], &services).await;
    let (ana, ben) = (key.token("ana"), key.token("ben"));

    let both = format!("[{VIEW},{}]", VIEW.replace("ana", "ben"));
    let answer: Value = post_with(&system, "/interactions", &ana, &both).await.json().await.unwrap();
    assert_eq!((&answer[0]["status"], &answer[1]["status"]), (&json!(202), &json!(403)), "{answer}");
    assert_eq!(answer[1]["field"], "user_id");
    check_refused(system.post("/interactions", both).await, 401, "Bearer").await;

    let comment = r#"{"userid":"ana","videoid":"cat","comment":"hi"}"#;
    let passed: Value = post_with(&system, "/comment", &ana, comment).await.json().await.unwrap();
    assert_eq!(passed, json!({"uri": "/comment", "authorization": null}), "the token ends here");
    check_refused(post_with(&system, "/comment", &ben, comment).await, 403, OTHER).await;
    check_refused(system.post("/comment", comment).await, 401, "Bearer").await;

    let connect = "/connect?userid=ana&videoid=cat";
    check_refused(system.get(connect).await, 401, "Bearer").await;
    check_refused(system.get(&format!("{connect}&access_token={ben}")).await, 403, OTHER).await;
    let stream = system.get(&format!("{connect}&access_token={ana}")).await;
    assert_eq!(
        (stream.status(), &stream.headers()["content-type"]),
        (StatusCode::OK, &"text/event-stream; charset=utf-8".parse().unwrap())
    );
    let body = r#"{"userid":"ana","videoid":"cat"}"#;
    assert_eq!(post_with(&system, "/connect", &ana, body).await.status(), 200);
    check_refused(post_with(&system, "/connect", &ben, body).await, 403, OTHER).await;
    check_refused(system.post("/connect", body).await, 401, "Bearer").await;

    let upgrade = async |path: &str| {
        let request = system.http.get(system.url(path)).header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap()
    };
    for path in ["/ws/videos?limit=3", "/ws/user/ana?limit=3"] {
        check_refused(upgrade(path).await, 401, "Bearer").await;
        for name in ["access_token", "access%5Ftoken"] {
            let passed: Value = upgrade(&format!("{path}&{name}={ana}")).await.json().await.unwrap();
            assert_eq!(passed["uri"], path, "the token ends here");
        }
    }
    check_refused(upgrade(&format!("/ws/user/ana?access_token={ben}")).await, 403, OTHER).await;
    for open in ["/videos", "/comments/cat", "/resolve/cat", "/health", "/", "/openapi.json"] {
        assert_eq!(system.get(open).await.status(), 200, "{open}");
    }
}

#[tokio::test]
async fn who_registers_a_video_shows_a_token() {
    let behind = serve(Router::new().fallback(echo_request)).await;
    let key = Key::ec_key("e");
    let (system, _directory) = system(&[&key], &["--manager-url", &behind]).await;
    let (ana, video) = (key.token("ana"), r#"{"videoid":"cat"}"#);
    check_refused(system.post("/register", video).await, 401, "Bearer").await;
    let passed: Value = post_with(&system, "/register", &ana, video).await.json().await.unwrap();
    assert_eq!(passed, json!({"uri": "/register", "authorization": null}), "the token ends here");
}

#[tokio::test]
async fn no_token_of_a_viewer_reaches_another_service() {
    let behind = serve(Router::new().fallback(echo_request)).await;
    let services = ["manager", "comment", "statistics"].map(|name| format!("--{name}-url"));
    let flags: Vec<&str> = services.iter().flat_map(|flag| [flag.as_str(), &behind]).collect();
    let key = Key::ec_key("e");
    let (asking, _directory) = system(&[&key], &flags).await;
    let open = System::start(&flags).await;
    let comment = r#"{"userid":"ana","videoid":"cat","comment":"hi"}"#;
    for (method, path, body) in [
        ("POST", "/register", r#"{"videoid":"cat"}"#),
        ("POST", "/comment", comment),
        ("GET", "/comments/cat", ""),
        ("GET", "/resolve/cat", ""),
        ("GET", "/statistics", ""),
        ("POST", "/comment-api-statistics", "{}"),
        ("POST", "/reader-api-statistics", "{}"),
        ("POST", "/reader-api-manager-statistics", "{}"),
        ("POST", "/client-statistics", "{}"),
    ] {
        for system in [&asking, &open] {
            for header in ["authorization", "liverank-authorization"] {
                let url = system.url(&format!("{path}?access_token=t"));
                let request = system.http.request(method.parse().unwrap(), url).bearer_auth(key.token("ana"));
                let request = request.header(header, format!("Bearer {}", key.token("ana")));
                let answer = request.body(body).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{path}");
                let passed: Value = answer.json().await.unwrap();
                assert_eq!(passed, json!({"uri": path, "authorization": null}), "{method} {path} {header}");
            }
        }
    }
    // The statistics service judges by itself who is shown whole lists, and of nothing else.
    let path = "/statistics?full=false";
    let some = asking.http.get(asking.url(&format!("{path}&access_token=t"))).bearer_auth("ours");
    let passed: Value = some.send().await.unwrap().json().await.unwrap();
    assert_eq!(passed, json!({"uri": path, "authorization": null}));
    let report = asking.http.post(asking.url("/client-statistics?full=true")).bearer_auth("ours").body("{}");
    assert_eq!(problem(report.send().await.unwrap(), 400).await["field"], "full");
    let all = asking.http.get(asking.url("/statistics?full=true")).bearer_auth("ours").send().await.unwrap();
    assert_eq!(all.json::<Value>().await.unwrap()["authorization"], "Bearer ours");
}

/// An issuer that serves its keys over HTTP.
#[derive(Default)]
struct HttpIssuer {
    keys: Mutex<Value>,
    request_count: AtomicUsize,
    is_away: AtomicBool,
}

async fn serve_keys(State(issuer): State<Arc<HttpIssuer>>) -> Response {
    issuer.request_count.fetch_add(1, SeqCst);
    if issuer.is_away.load(SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    Json(issuer.keys.lock().unwrap().clone()).into_response()
}

async fn issuer(keys_: &[&Key]) -> (Arc<HttpIssuer>, String) {
    let issuer = Arc::new(HttpIssuer { keys: Mutex::new(key_set(keys_)), ..HttpIssuer::default() });
    let router = Router::new().route("/jwks", get(serve_keys)).with_state(Arc::clone(&issuer));
    (issuer, format!("{}/jwks", serve(router).await))
}

#[tokio::test]
async fn a_new_key_is_asked_for_and_the_last_known_ones_outlive_the_issuer() {
    let (old, new) = (Key::ed("old"), Key::ec_key("new"));
    let (issuer, url) = issuer(&[&old]).await;
    let often = |config: &mut liverank_gateway::Config| config.auth.ask_again = Duration::ZERO;
    let system = System::start_with(&[&["--auth-jwks-url", &url][..], &ISSUER_FLAGS].concat(), often).await;
    assert_eq!(post_view(&system, &old.token("ana")).await, 202);
    assert_eq!(post_view(&system, &new.token("ana")).await, 401);
    *issuer.keys.lock().unwrap() = key_set(&[&new]);
    assert_eq!(post_view(&system, &new.token("ana")).await, 202);
    assert_eq!(post_view(&system, &old.token("ana")).await, 401, "it was taken back");
    issuer.is_away.store(true, SeqCst);
    assert_eq!(post_view(&system, &old.token("ana")).await, 401);
    assert_eq!(post_view(&system, &new.token("ana")).await, 202);
    let (ready, report) = system.shell.health.readiness();
    assert!(ready && report.dependencies["auth"].contains("500"), "{:?}", report.dependencies);
}

#[tokio::test]
async fn tokens_of_unknown_keys_do_not_make_a_crowd_before_the_issuer() {
    let (known, unknown) = (Key::ed("a"), Key::ed("b"));
    let (issuer, url) = issuer(&[&known]).await;
    let system = System::start(&[&["--auth-jwks-url", &url][..], &ISSUER_FLAGS].concat()).await;
    assert_eq!(post_view(&system, &known.token("ana")).await, 202);
    let token = unknown.token("ana");
    let tries = futures::future::join_all((0..50).map(|_| post_view(&system, &token))).await;
    assert_eq!(tries, [401; 50]);
    assert_eq!(issuer.request_count.load(SeqCst), 1);
}

#[tokio::test]
async fn while_no_keys_were_ever_known_it_is_503_and_rankings_are_open() {
    let key = Key::rsa_key("r");
    let (issuer, url) = issuer(&[&key]).await;
    issuer.is_away.store(true, SeqCst);
    let system = System::start(&[&["--auth-jwks-url", &url][..], &ISSUER_FLAGS].concat()).await;
    problem(post_with(&system, "/interact", &key.token("ana"), VIEW).await, 503).await;
    check_refused(system.post("/interact", VIEW).await, 401, "Bearer").await;
    assert_eq!(system.get("/videos").await.status(), 200);
    // A browser's stream would end for good on a 503; a client that reads errors gets the 503.
    let connect = format!("/connect?userid=ana&videoid=cat&access_token={}", key.token("ana"));
    problem(system.get(&connect).await, 503).await;
    let browser =
        system.http.get(system.url(&connect)).header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(
        (browser.status(), browser.headers()["cache-control"].to_str().unwrap()),
        (StatusCode::OK, "no-store")
    );
    assert!(browser.text().await.unwrap().starts_with("retry: "));
    let unsigned = system.http.get(system.url("/connect?userid=ana&videoid=cat"));
    let unsigned = unsigned.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(unsigned.status(), 401, "that lasts, and a browser does well to give up");
    issuer.is_away.store(false, SeqCst);
    eventually("the keys are known", async || post_view(&system, &key.token("ana")).await == 202).await;
    assert_eq!(system.shell.health.readiness().1.dependencies["auth"], "ok");
}

#[tokio::test]
async fn contradicting_auth_settings_refuse_to_start() {
    let file = ["--auth-jwks-file", "jwks.json"];
    let nowhere = nowhere();
    for (flags, url) in [(&file[..], Some(nowhere.as_str())), (&["--auth-issuer", "i"], None)] {
        let system = System::start_with(flags, |config| {
            config.auth.auth_jwks_url = url.map(|url| url.parse().unwrap());
        })
        .await;
        let error = system.wait_until_ended().await.unwrap_err().to_string();
        assert!(error.contains("--auth-jwks-file"), "{error}");
    }
    for alone in [&ISSUER_FLAGS[..2], &ISSUER_FLAGS[2..], &[]] {
        let error =
            System::start(&[&file, alone].concat()).await.wait_until_ended().await.unwrap_err().to_string();
        assert!(error.contains("--auth-issuer and --auth-audience"), "{error}");
    }
}
