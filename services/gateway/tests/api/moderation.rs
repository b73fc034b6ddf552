//! The actions of moderators and authors at the front door: who may act, the records in the log, and the lists.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{System, problem};

/// An issuer of tokens with roles, and a gateway that knows the issuer's key.
pub struct Issuer {
    pair: Ed25519KeyPair,
    pub system: System,
    _directory: tempfile::TempDir,
}

fn base64_json(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

impl Issuer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts an issuer as [`Issuer::start`] does, with settings of the gateway that have no flag.
    pub async fn start_with(set: impl FnOnce(&mut liverank_gateway::Config)) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": x}]});
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("jwks.json");
        std::fs::write(&file, keys.to_string()).unwrap();
        let flags =
            ["--auth-jwks-file", file.to_str().unwrap(), "--auth-issuer", "i", "--auth-audience", "a"];
        Self { pair, system: System::start_with(&flags, set).await, _directory: directory }
    }

    fn token_for(&self, user: &str, roles: &Value) -> String {
        let until = liverank_runtime::now_ms() / 1000 + 600;
        let claims = json!({"sub": user, "exp": until, "iss": "i", "aud": "a", "roles": roles});
        let message =
            format!("{}.{}", base64_json(&json!({"alg": "EdDSA", "kid": "k"})), base64_json(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }

    pub async fn ask(
        &self,
        user: &str,
        roles: &Value,
        request: (Method, &str),
        body: Option<&Value>,
    ) -> reqwest::Response {
        let (method, path) = request;
        let request = self.system.http.request(method, self.system.url(path));
        let request = request.bearer_auth(self.token_for(user, roles));
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send().await.unwrap()
    }

    /// Appends comments by `ann` on the video `cat` and then these records to the archive, as the consumer does.
    pub async fn count(&self, comments: &[&str], records: &[Value]) {
        let posted = comments.iter().map(|id| {
            json!({"video_id": "cat", "user_id": "ann", "type": "comment", "comment_id": id, "comment": "words"})
        });
        self.system.count(posted.chain(records.iter().cloned())).await;
    }

    /// Returns the moderation records that were appended to the log, with their keys.
    pub fn recorded(&self) -> Vec<(String, Value)> {
        let all = self.system.log.appended().into_iter();
        all.filter(|(_, value)| value["type"] == "moderation").collect()
    }
}

fn no_roles() -> Value {
    Value::Null
}

const BANS_PATH: &str = "/moderation/bans";

#[tokio::test]
async fn an_author_deletes_its_own_comment_and_a_moderator_anybody_s() {
    let issuer = Issuer::start().await;
    issuer.count(&["c1", "c2", "c/3"], &[]).await;
    let delete = |path| (Method::DELETE, path);
    let ben = issuer.ask("ben", &no_roles(), delete("/comments/cat/c1"), None).await;
    assert_eq!(problem(ben, 403).await["rule"], "author");
    let own = issuer.ask("ann", &no_roles(), delete("/comments/cat/c1"), None).await;
    assert_eq!(own.status(), 202);
    assert_eq!(own.json::<Value>().await.unwrap()["id"], "c1");
    let by_mod = delete("/comments/cat/c2?reason=off%20topic");
    assert_eq!(issuer.ask("mo", &json!(["moderator"]), by_mod, None).await.status(), 202);
    let by_service = delete("/comments/cat/c%2F3");
    assert_eq!(issuer.ask("app", &json!("service"), by_service, None).await.status(), 202);
    let told: Vec<_> = issuer
        .recorded()
        .into_iter()
        .map(|(key, record)| (key, record["user_id"].clone(), record["moderation"].clone()))
        .collect();
    let deletion = |id: &str, role: &str| json!({"action": "delete", "comment_id": id, "role": role});
    let mut reasoned = deletion("c2", "moderator");
    reasoned["reason"] = json!("off topic");
    assert_eq!(
        told,
        [
            ("cat".to_owned(), json!("ann"), deletion("c1", "author")),
            ("cat".to_owned(), json!("mo"), reasoned),
            ("cat".to_owned(), json!("app"), deletion("c/3", "service")),
        ],
        "with the key of the video: it comes after the comment"
    );
    let unknown = issuer.ask("mo", &json!(["moderator"]), delete("/comments/cat/other"), None).await;
    assert_eq!(unknown.headers()["retry-after"], "1");
    assert_eq!(problem(unknown, 404).await["field"], "id");
    // A comment that is deleted already is not deleted again.
    let records: Vec<Value> = issuer.recorded().into_iter().map(|(_, record)| record).collect();
    issuer.count(&[], &records).await;
    assert_eq!(issuer.ask("ann", &no_roles(), delete("/comments/cat/c1"), None).await.status(), 202);
    assert_eq!(issuer.recorded().len(), 3);
}

#[tokio::test]
async fn only_moderators_ban_and_read_what_was_done() {
    let issuer = Issuer::start().await;
    let ban = json!({"userid": "ann"});
    let requests = [
        (Method::POST, BANS_PATH, Some(&ban)),
        (Method::DELETE, "/moderation/bans?userid=ann", None),
        (Method::GET, BANS_PATH, None),
        (Method::GET, "/moderation/log", None),
    ];
    for (method, path, body) in requests {
        for roles in [no_roles(), json!(["viewer", "poster"]), json!("admin"), json!(["Moderator"])] {
            let answer = issuer.ask("ann", &roles, (method.clone(), path), body).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer error=\"insufficient_scope\"");
            assert_eq!(problem(answer, 403).await["rule"], "role", "{method} {path} {roles}");
        }
        let nobody =
            issuer.system.http.request(method.clone(), issuer.system.url(path)).send().await.unwrap();
        problem(nobody, 401).await;
        let answer = issuer.ask("mo", &json!(["moderator"]), (method, path), body).await;
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }
    assert_eq!(issuer.recorded().len(), 2);
}

#[tokio::test]
async fn bans_are_listed_while_they_are_in_force_and_all_is_in_the_audit_log() {
    let issuer = Issuer::start().await;
    let moderator = json!(["moderator"]);
    let bodies = [
        json!({"userid": "ann", "kind": "mute", "videoid": "cat", "seconds": 600, "reason": "shouts"}),
        json!({"userid": "ben", "owner_id": "olga"}),
        json!({"userid": "cy"}),
    ];
    for body in &bodies {
        let answer = issuer.ask("mo", &moderator, (Method::POST, BANS_PATH), Some(body)).await;
        assert_eq!(answer.status(), 202);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["userid"], body["userid"]);
        assert_eq!(answer["until"].is_string(), body["seconds"].is_u64(), "{answer}");
    }
    let lift = (Method::DELETE, "/moderation/bans?userid=cy&kind=ban&reason=said%20sorry");
    assert_eq!(issuer.ask("mo", &moderator, lift, None).await.status(), 202);
    let recorded = issuer.recorded();
    let keys: Vec<&str> = recorded.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["liverank:moderation"; 4], "all in one order");
    issuer.count(&[], &recorded.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>()).await;

    let get = async |path: &str| -> Value {
        issuer.ask("mo", &moderator, (Method::GET, path), None).await.json().await.unwrap()
    };
    let all = get(BANS_PATH).await;
    assert_eq!(all["next"], Value::Null);
    let bans = all["bans"].as_array().unwrap();
    assert_eq!(bans.iter().map(|ban| ban["userid"].as_str().unwrap()).collect::<Vec<_>>(), ["ann", "ben"]);
    assert_eq!(
        (&bans[0]["videoid"], &bans[0]["reason"], &bans[0]["by"]),
        (&json!("cat"), &json!("shouts"), &json!("mo"))
    );
    assert_eq!((&bans[1]["owner_id"], &bans[1]["until"]), (&json!("olga"), &Value::Null));
    let first = get("/moderation/bans?limit=1").await;
    assert_eq!(
        get(&format!("/moderation/bans?after={}", first["next"])).await["bans"].as_array().unwrap().len(),
        1
    );

    let log = get("/moderation/log?limit=3").await;
    let actions = log["actions"].as_array().unwrap();
    let told: Vec<_> =
        actions.iter().map(|line| (line["action"].as_str().unwrap(), &line["userid"])).collect();
    assert_eq!(told, [("lift", &json!("cy")), ("restrict", &json!("cy")), ("restrict", &json!("ben"))]);
    assert_eq!((&actions[0]["by"], &actions[0]["reason"]), (&json!("mo"), &json!("said sorry")));
    assert!(actions[0]["action_id"].is_string() && actions[0]["timestamp"].is_string());
    let rest = get(&format!("/moderation/log?before={}", log["next"].as_str().unwrap())).await;
    assert_eq!((rest["actions"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    assert!(rest["actions"][0]["until"].is_string(), "{rest}");
}

/// The number of bans and of revocations is bounded, because comment services and gateways keep all that are in force
/// in memory.
#[tokio::test]
async fn there_is_a_bound_of_bans_and_one_of_revocations() {
    let issuer = Issuer::start_with(|config| config.max_restrictions = 2).await;
    let moderator = json!(["moderator"]);
    let mut counted = 0;
    let settle = async |counted: &mut usize| {
        let recorded: Vec<Value> = issuer.recorded().into_iter().map(|(_, record)| record).collect();
        issuer.count(&[], &recorded[*counted..]).await;
        *counted = recorded.len();
    };
    let bans = ["ann", "ben"].map(|user| (BANS_PATH, json!({"userid": user})));
    let tokens = ["t1", "t2"].map(|token| ("/moderation/revocations", json!({"jti": token})));
    for (path, body) in bans.iter().chain(&tokens) {
        assert_eq!(
            issuer.ask("mo", &moderator, (Method::POST, path), Some(body)).await.status(),
            202,
            "{body}"
        );
    }
    settle(&mut counted).await;
    let more = [(BANS_PATH, json!({"userid": "cy"})), ("/moderation/revocations", json!({"jti": "t3"}))];
    for (path, body) in &more {
        let answer = issuer.ask("mo", &moderator, (Method::POST, path), Some(body)).await;
        assert_eq!(answer.headers()["retry-after"], "60", "{body}");
        assert!(problem(answer, 429).await["detail"].as_str().unwrap().starts_with("2 "));
    }
    // A restriction in force may be changed, and one that is ended makes room for another of its kind.
    let again = json!({"userid": "ann", "seconds": 60});
    assert_eq!(issuer.ask("mo", &moderator, (Method::POST, BANS_PATH), Some(&again)).await.status(), 202);
    let lift = (Method::DELETE, "/moderation/bans?userid=ben");
    assert_eq!(issuer.ask("mo", &moderator, lift, None).await.status(), 202);
    settle(&mut counted).await;
    let status = async |(path, body): &(&str, Value)| {
        issuer.ask("mo", &moderator, (Method::POST, path), Some(body)).await.status().as_u16()
    };
    assert_eq!([status(&more[0]).await, status(&more[1]).await], [202, 429]);
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let issuer = Issuer::start().await;
    let moderator = json!(["moderator"]);
    let long = "r".repeat(501);
    for (body, field) in [
        (json!({}), "userid"),
        (json!({"userid": 7}), "userid"),
        (json!({"userid": "u".repeat(257)}), "userid"),
        (json!({"userid": "u", "kind": "praise"}), "kind"),
        (json!({"userid": "u", "videoid": ""}), "videoid"),
        (json!({"userid": "u", "owner_id": "a\u{0}"}), "owner_id"),
        (json!({"userid": "u", "videoid": "v", "owner_id": "o"}), "owner_id"),
        // Passed over, each of these would make the ban one of all videos.
        (json!({"userid": "u", "video_id": "v"}), "video_id"),
        (json!({"userid": "u", "videoId": "v"}), "videoId"),
        (json!({"userid": "u", "ownerid": "o"}), "ownerid"),
        (json!({"userid": "u", "seconds": 0}), "seconds"),
        (json!({"userid": "u", "seconds": 1.5}), "seconds"),
        (json!({"userid": "u", "seconds": "60"}), "seconds"),
        (json!({"userid": "u", "seconds": u64::MAX}), "seconds"),
        (json!({"userid": "u", "reason": long}), "reason"),
        (json!([]), "body"),
    ] {
        let answer = issuer.ask("mo", &moderator, (Method::POST, BANS_PATH), Some(&body)).await;
        assert_eq!(problem(answer, 400).await["field"], field, "{body}");
    }
    for (method, path, field) in [
        (Method::DELETE, "/moderation/bans", "userid"),
        (Method::DELETE, "/moderation/bans?userid=u&kind=x", "kind"),
        (Method::DELETE, "/moderation/bans?userid=u&video=v", "video"),
        (Method::GET, "/moderation/bans?limit=0", "limit"),
        (Method::GET, "/moderation/bans?after=x", "after"),
        (Method::GET, "/moderation/log?before=x", "before"),
        (Method::DELETE, "/comments/a%0Ab/c", "videoid"),
        (Method::DELETE, "/comments/v/%FF", "id"),
        (Method::DELETE, "/comments/v/c?why=x", "why"),
    ] {
        let answer = issuer.ask("mo", &moderator, (method, path), None).await;
        assert_eq!(problem(answer, 400).await["field"], field, "{path}");
    }
    assert!(issuer.recorded().is_empty());
}

#[tokio::test]
async fn a_moderation_action_needs_the_log() {
    let issuer = Issuer::start().await;
    issuer.system.log.break_down(true);
    let ban = json!({"userid": "ann"});
    let answer = issuer.ask("mo", &json!(["moderator"]), (Method::POST, BANS_PATH), Some(&ban)).await;
    problem(answer, 503).await;
    assert!(issuer.recorded().is_empty());
}

#[tokio::test]
async fn without_tokens_nobody_moderates_unless_it_is_open_and_then_on_a_loopback_address_only() {
    let closed = System::start(&[]).await;
    let ban = json!({"userid": "ann"}).to_string();
    assert_eq!(problem(closed.post(BANS_PATH, ban.clone()).await, 403).await["rule"], "role");
    let delete = closed.http.delete(closed.url("/comments/cat/c1?userid=ann")).send().await.unwrap();
    problem(delete, 403).await;
    assert!(closed.log.appended().is_empty());
    let open = System::start(&["--moderation-open"]).await;
    assert_eq!(open.post(BANS_PATH, ban).await.status(), 202);
    assert_eq!(open.log.appended()[0].1["user_id"], "open");

    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = open.beside(&["--moderation-open"], everywhere).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
    let keys = ["--auth-jwks-file", file.to_str().unwrap(), "--auth-issuer", "i", "--auth-audience", "a"];
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = open.beside(&[&keys[..], &["--moderation-open"]].concat(), local).await.unwrap_err();
    assert!(error.to_string().contains("no tokens"), "{error}");
}

/// The seeds' clients may send anything as an interaction: none of it moderates.
#[tokio::test]
async fn an_interaction_is_never_moderation() {
    let system = System::start(&[]).await;
    let record = json!({"type": "moderation", "version": 1, "video_id": "v", "user_id": "u", "event_id": "e",
        "timestamp": 5, "moderation": {"action": "delete", "comment_id": "c", "role": "moderator"}});
    let answer = system.post("/interact", record.to_string()).await;
    assert_eq!(problem(answer, 400).await["field"], "type");
    let many: Value = system.post("/interactions", json!([record]).to_string()).await.json().await.unwrap();
    assert_eq!(many[0]["status"], 400, "{many}");
    assert!(system.log.appended().is_empty());
}

#[tokio::test]
async fn a_service_or_the_owner_says_what_a_video_is_and_takes_it_off() {
    let issuer = Issuer::start().await;
    let (service, moderator) = (json!("service"), json!(["moderator"]));
    let put = |path| (Method::PUT, path);
    let cats = json!({"title": "Cats", "thumbnail": "https://cdn.test/c.jpg", "category": "pets", "length": 95, "no": null});
    let first = issuer.ask("app", &service, put("/videos/dog?owner_id=olga"), Some(&cats)).await;
    assert_eq!(first.status(), 202);
    assert_eq!(first.json::<Value>().await.unwrap()["video_id"], "dog");
    let records =
        |issuer: &Issuer| issuer.recorded().into_iter().map(|(_, record)| record).collect::<Vec<_>>();
    issuer.count(&["c1"], &records(&issuer)).await;
    let mut kept = cats.clone();
    kept.as_object_mut().unwrap().remove("no");
    let video = issuer.system.json("/videos/dog").await;
    assert_eq!((&video["metadata"], &video["user_id"]), (&kept, &json!("olga")));
    assert_eq!((&video["removed"], &video["views"]), (&json!(false), &json!(0)));
    assert_eq!(issuer.system.json("/videos/cat").await["metadata"], Value::Null);
    // `ann` was the first to comment on `cat`. Lists show her as its owner, but she may not change it.
    for (user, roles, path) in [
        ("ben", no_roles(), "/videos/dog"),
        ("ann", no_roles(), "/videos/cat"),
        ("ann", no_roles(), "/videos/new"),
    ] {
        for method in [Method::PUT, Method::DELETE] {
            let answer = issuer.ask(user, &roles, (method, path), Some(&cats)).await;
            assert_eq!(problem(answer, 403).await["rule"], "owner", "{user} {path}");
        }
    }
    let own = json!({"title": "Dogs"});
    assert_eq!(issuer.ask("olga", &no_roles(), put("/videos/dog"), Some(&own)).await.status(), 202);
    for (user, roles) in [("olga", &no_roles()), ("mo", &moderator)] {
        let answer = issuer.ask(user, roles, put("/videos/dog?owner_id=ben"), Some(&own)).await;
        assert_eq!(problem(answer, 400).await["field"], "owner_id", "{user}");
    }
    assert_eq!(
        issuer.ask("mo", &moderator, (Method::DELETE, "/videos/dog?reason=dull"), None).await.status(),
        202
    );
    let all = records(&issuer);
    issuer.count(&[], &all[1..]).await;
    let video = issuer.system.json("/videos/dog").await;
    assert_eq!((&video["metadata"], &video["removed"]), (&own, &json!(true)));
    let answer = issuer.ask("olga", &no_roles(), put("/videos/dog"), Some(&own)).await;
    assert_eq!(problem(answer, 403).await["rule"], "owner", "she does not undo what a moderator did");
    problem(issuer.ask("app", &service, (Method::DELETE, "/videos/new"), None).await, 404).await;
    for (field, bad) in [
        ("title", json!({"title": 7})),
        ("thumbnail", json!({"thumbnail": "javascript:alert(1)"})),
        ("body", json!({"x": "y".repeat(4096)})),
    ] {
        let answer = issuer.ask("app", &service, put("/videos/dog"), Some(&bad)).await;
        assert_eq!(problem(answer, 400).await["field"], field);
    }
    assert_eq!(issuer.recorded().len(), 3);
    let log = issuer.ask("mo", &moderator, (Method::GET, "/moderation/log"), None).await;
    let log: Value = log.json().await.unwrap();
    assert_eq!(
        (&log["actions"][0]["action"], &log["actions"][0]["reason"]),
        (&json!("remove_video"), &json!("dull"))
    );
    assert_eq!((&log["actions"][1]["role"], &log["actions"][1]["metadata"]), (&json!("owner"), &own));
}
