//! Who has no business there, at every endpoint of every service: nothing is changed, and nothing is learnt.
//!
//! The system asks viewers for tokens. Each row says of an endpoint whom of four attackers it answers: nobody's
//! credential, a viewer who wants to be another one, a reader's stolen credential, a process of another role. An endpoint of
//! the table in `protocol::access` without a row here fails.
//!
//! What one host does that wants nobody else to be served is in `floods`.
#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

#[path = "hostile/floods.rs"]
mod floods;

use std::collections::BTreeSet;
use std::time::Duration;

use liverank_e2e::identity::token;
use liverank_e2e::up::{Door, Up};
use liverank_e2e::wait;
use liverank_protocol::access::{ENDPOINTS, Service};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);
/// Who has secrets here, and what these are.
const VICTIM: &str = "victim-user";
const VIDEO: &str = "victim-video";
const WORDS: &str = "what-the-victim-said";
/// How the key of a reader's passes would be told.
const PASS_KEY: &str = r#""pass_key":""#;

/// What an attacker gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gets {
    /// What anybody gets, or it in particular may have.
    Answered,
    /// 401 or 403, and not a word more.
    Refused,
}
use Gets::{Answered, Refused};

/// Whose credential is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attacker {
    Nobody,
    Viewer,
    Reader,
    OtherRole,
}

const ATTACKERS: [Attacker; 4] = [Attacker::Nobody, Attacker::Viewer, Attacker::Reader, Attacker::OtherRole];
/// Everybody may ask.
const OPEN: [Gets; 4] = [Answered; 4];
/// None of these may.
const SHUT: [Gets; 4] = [Refused; 4];
/// A viewer may, as itself.
const VIEWERS: [Gets; 4] = [Refused, Answered, Refused, Refused];
/// A reader may.
const READERS: [Gets; 4] = [Refused, Refused, Answered, Refused];

type Row = (Service, &'static str, &'static str, [Gets; 4]);

/// The table: what each attacker gets who asks for what the victim has, or in the victim's name.
const ROWS: &[Row] = {
    use Service::{Comment, Gateway, Manager, Reader, Statistics, Websocket};
    &[
        (Gateway, "POST", "/interact", SHUT),
        // Each item has a status of its own.
        (Gateway, "POST", "/interactions", VIEWERS),
        (Gateway, "GET", "/videos", OPEN),
        (Gateway, "GET", "/videos/{video_id}", OPEN),
        (Gateway, "PUT", "/videos/{video_id}", SHUT),
        (Gateway, "DELETE", "/videos/{video_id}", SHUT),
        (Gateway, "GET", "/ws/videos", VIEWERS),
        (Gateway, "GET", "/ws/user/{user_id}", SHUT),
        (Gateway, "POST", "/comment", SHUT),
        (Gateway, "GET", "/comments/{videoid}", OPEN),
        // Of a comment that is not there, a viewer is told that.
        (Gateway, "DELETE", "/comments/{videoid}/{id}", VIEWERS),
        (Gateway, "POST", "/comments/{videoid}/{id}/reports", SHUT),
        (Gateway, "GET", "/moderation/bans", SHUT),
        (Gateway, "POST", "/moderation/bans", SHUT),
        (Gateway, "DELETE", "/moderation/bans", SHUT),
        (Gateway, "GET", "/moderation/held", SHUT),
        (Gateway, "POST", "/moderation/held", SHUT),
        (Gateway, "GET", "/moderation/reports", SHUT),
        (Gateway, "POST", "/moderation/reports", SHUT),
        (Gateway, "POST", "/moderation/pins", SHUT),
        (Gateway, "DELETE", "/moderation/pins", SHUT),
        (Gateway, "GET", "/moderation/revocations", SHUT),
        (Gateway, "POST", "/moderation/revocations", SHUT),
        (Gateway, "DELETE", "/moderation/revocations", SHUT),
        (Gateway, "GET", "/moderation/rules", SHUT),
        (Gateway, "POST", "/moderation/rules", SHUT),
        (Gateway, "DELETE", "/moderation/rules", SHUT),
        (Gateway, "GET", "/moderation/log", SHUT),
        (Gateway, "GET", "/operate", SHUT),
        (Gateway, "POST", "/operate/what-if", SHUT),
        (Gateway, "POST", "/operate/demo", SHUT),
        (Gateway, "DELETE", "/operate/demo", SHUT),
        (Gateway, "GET", "/connect", SHUT),
        (Gateway, "POST", "/connect", SHUT),
        (Gateway, "POST", "/register", OPEN),
        (Gateway, "GET", "/resolve/{videoid}", OPEN),
        (Gateway, "GET", "/statistics", SHUT),
        (Gateway, "POST", "/comment-api-statistics", OPEN),
        (Gateway, "POST", "/reader-api-statistics", OPEN),
        (Gateway, "POST", "/reader-api-manager-statistics", OPEN),
        (Gateway, "POST", "/client-statistics", OPEN),
        (Gateway, "GET", "/health", OPEN),
        (Gateway, "GET", "/openapi.json", OPEN),
        (Gateway, "GET", "/openapi-internal.json", OPEN),
        (Gateway, "GET", "/asyncapi.yaml", OPEN),
        (Gateway, "GET", "/asyncapi.json", OPEN),
        (Websocket, "GET", "/ws/videos", SHUT),
        (Websocket, "GET", "/ws/user/{user_id}", SHUT),
        (Websocket, "GET", "/health", OPEN),
        (Comment, "POST", "/comment", SHUT),
        (Comment, "GET", "/comments/{videoid}", SHUT),
        (Comment, "GET", "/statistics", SHUT),
        (Comment, "GET", "/health", OPEN),
        (Reader, "GET", "/connect", SHUT),
        (Reader, "POST", "/connect", SHUT),
        (Reader, "GET", "/health", OPEN),
        (Reader, "POST", "/warm", SHUT),
        (Manager, "POST", "/register", OPEN),
        (Manager, "GET", "/resolve/{videoid}", OPEN),
        (Manager, "GET", "/health", OPEN),
        (Manager, "POST", "/route", READERS),
        (Manager, "GET", "/viewers/{videoid}", SHUT),
        (Manager, "POST", "/viewers", SHUT),
        (Manager, "POST", "/heartbeat", SHUT),
        (Manager, "GET", "/load", SHUT),
        (Manager, "GET", "/moves", SHUT),
        (Manager, "GET", "/cordons", SHUT),
        (Manager, "GET", "/plan", SHUT),
        (Manager, "GET", "/overview", SHUT),
        (Manager, "POST", "/what-if", SHUT),
        (Manager, "POST", "/term", SHUT),
        (Manager, "POST", "/moves", SHUT),
        (Manager, "POST", "/cordons", SHUT),
        (Statistics, "GET", "/statistics", SHUT),
        (Statistics, "POST", "/comment-api-statistics", OPEN),
        (Statistics, "POST", "/reader-api-statistics", OPEN),
        (Statistics, "POST", "/reader-api-manager-statistics", OPEN),
        (Statistics, "POST", "/client-statistics", OPEN),
        (Statistics, "GET", "/health", OPEN),
    ]
};

const fn door(service: Service) -> Door {
    match service {
        Service::Gateway => Door::Gateway,
        Service::Websocket => Door::Websocket,
        Service::Comment => Door::Comment,
        Service::Reader => Door::Reader,
        Service::Manager => Door::Manager,
        Service::Statistics => Door::Statistics,
    }
}

/// What is sent to a path: what would be of effect if it were believed.
fn body(path: &str) -> Value {
    let lease = json!({"uid": "thief", "transitions": 99});
    match path {
        "/interact" => json!({"video_id": VIDEO, "user_id": VICTIM, "type": "share"}),
        "/interactions" => json!([{"video_id": VIDEO, "user_id": VICTIM, "type": "share"}]),
        "/comment" => json!({"userid": VICTIM, "videoid": VIDEO, "comment": "in the victim's name"}),
        "/connect" => json!({"userid": VICTIM, "videoid": VIDEO}),
        "/register" | "/route" => json!({"videoid": VIDEO}),
        "/moderation/bans" => json!({"userid": VICTIM}),
        "/moderation/revocations" => json!({"sub": VICTIM}),
        "/moderation/held" => json!({"videoid": VIDEO, "id": "c", "outcome": "release"}),
        "/comments/{videoid}/{id}/reports" => json!({"userid": VICTIM, "reason": "spam"}),
        "/moderation/reports" => json!({"videoid": VIDEO, "id": "c", "outcome": "dismiss"}),
        "/moderation/pins" => json!({"videoid": VIDEO, "id": "c"}),
        "/moderation/rules" => json!({"videoid": VIDEO, "rules": {"slow_seconds": 60}}),
        "/viewers" => json!({"videos": [VIDEO]}),
        "/warm" => json!({"videoid": VIDEO, "epoch": 1}),
        "/heartbeat" => {
            json!({"id": "reader-1", "public_url": "http://127.0.0.1:1", "internal_url": "http://127.0.0.1:1",
            "beat": 1, "capacity": 10, "viewers": 0, "draining": true, "highest_epoch": 0, "videos": [], "messages_sent": 0})
        }
        "/term" => json!({"holder": "thief", "lease": lease}),
        "/moves" => json!({"term": 1, "lease": lease, "moves": [{"videoid": VIDEO, "to": ["reader-9"]}]}),
        "/cordons" => {
            json!({"term": 1, "lease": lease, "cordons": [{"id": "reader-1", "cordon": "removed"}]})
        }
        _ => json!({"instanceId": "thief"}),
    }
}

/// The path and the query that are asked for.
fn target(path: &str) -> String {
    match path {
        "/connect" => format!("/connect?userid={VICTIM}&videoid={VIDEO}"),
        // All of it, with who watches what.
        "/statistics" => "/statistics?full=true".to_owned(),
        other => other.replace("{user_id}", VICTIM).replace("{videoid}", VIDEO).replace("{video_id}", VIDEO),
    }
}

struct Siege {
    up: Up,
    client: Client,
    eve: String,
}

impl Siege {
    async fn start() -> Self {
        let up = Up::start_with(1, &["--auth-dev"]).await;
        let eve = up.viewer_token("eve");
        Self { up, client: Client::builder().timeout(SOON).build().unwrap(), eve }
    }

    fn credential(&self, attacker: Attacker, service: Service) -> Option<String> {
        match attacker {
            Attacker::Nobody => None,
            Attacker::Viewer => Some(self.eve.clone()),
            Attacker::Reader => Some(token("reader/reader-9", service)),
            Attacker::OtherRole => Some(token("consumer", service)),
        }
    }

    async fn ask(&self, attacker: Attacker, service: Service, method: &str, path: &str) -> Response {
        let url = format!("{}{}", self.up.url(door(service)), target(path));
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method.clone(), url);
        // What only a gateway may say: whoever can say it to a service behind the gateway is believed by nobody.
        request = request.header("liverank-user", VICTIM).header("liverank-roles", "moderator service");
        request = request.header("liverank-pass", format!("9999999999.{}", "0".repeat(64)));
        if matches!(method, Method::POST | Method::PUT) {
            request = request.json(&body(path));
        }
        if path.starts_with("/ws/") {
            request = request.header("connection", "upgrade").header("upgrade", "websocket");
            request = request
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        }
        if let Some(credential) = self.credential(attacker, service) {
            request = request.bearer_auth(credential);
        }
        request.send().await.unwrap()
    }

    /// Tries one endpoint, and tells what is wrong with what came of it.
    async fn attack(&self, (service, method, path, gets): &Row, attacker: Attacker) -> Result<(), String> {
        let expected = gets[attacker as usize];
        let response = self.ask(attacker, *service, method, path).await;
        let status = response.status().as_u16();
        let said = format!("{attacker:?} at {method} {path} of {}: {status}", service.name());
        let is_refused = matches!(status, 401 | 403);
        if is_refused != (expected == Refused) {
            return Err(format!("{said}, and {expected:?} was expected"));
        }
        let is_stream = status == 101
            || response
                .headers()
                .get("content-type")
                .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/event-stream")));
        if is_stream {
            return Ok(());
        }
        let text = response.text().await.unwrap();
        if *path == "/interactions" && text.contains("202") {
            return Err(format!("{said}: {text}"));
        }
        // History is everybody's to read at the front door. Who watches what is nobody's, and neither is a key of passes.
        let secrets: &[&str] = if is_refused { &[VICTIM, WORDS, PASS_KEY] } else { &[PASS_KEY] };
        let is_history = *service == Service::Gateway && path.starts_with("/comments/");
        let is_public = is_history || path.starts_with("/videos") || path.contains("api");
        let who: &[&str] = if is_public { &[] } else { &[VICTIM] };
        match secrets.iter().chain(who).find(|secret| text.contains(**secret)) {
            Some(secret) => Err(format!("{said} tells {secret}: {text}")),
            None => Ok(()),
        }
    }

    /// What must be the same afterwards, as somebody sees it who may see all.
    async fn state(&self) -> Value {
        let cli = token("cli", Service::Manager);
        let look = async |path: &str| {
            let url = format!("{}{path}", self.up.url(Door::Manager));
            self.client.get(url).bearer_auth(&cli).send().await.unwrap().json::<Value>().await.unwrap()
        };
        let load = look("/load").await;
        let readers: Vec<Value> =
            load["readers"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        let assignments = load["assignments"].as_array().unwrap();
        let victims = assignments.iter().find(|it| it["videoid"] == VIDEO).unwrap();
        json!({
            "readers": readers,
            "served by": victims["readers"],
            "moves": look("/moves").await["moves"],
            "cordons": look("/cordons").await,
            "viewers": look(&format!("/viewers/{VIDEO}")).await,
            "video": self.up.get(Door::Gateway, &format!("/videos/{VIDEO}")).await,
            "comments": self.up.get(Door::Gateway, &format!("/comments/{VIDEO}")).await,
        })
    }

    /// The victim posts and watches, through the front door.
    async fn victim(&self) -> Response {
        let own = self.up.viewer_token(VICTIM);
        let front = self.up.url(Door::Gateway);
        let comment = json!({"userid": VICTIM, "videoid": VIDEO, "comment": WORDS});
        let posted = self
            .client
            .post(format!("{front}/comment"))
            .bearer_auth(&own)
            .json(&comment)
            .send()
            .await
            .unwrap();
        assert_eq!(posted.status(), 201, "{}", posted.text().await.unwrap());
        let patient = Client::new();
        let stream =
            patient.get(format!("{front}{}", target("/connect"))).bearer_auth(&own).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        stream
    }
}

/// Reads until `words` have come.
async fn hear(stream: &mut Response, words: &str) {
    let mut heard = String::new();
    while !heard.contains(words) {
        let part = tokio::time::timeout(SOON, stream.chunk()).await.expect("the stream is silent");
        let part = part.unwrap().expect("the stream has ended");
        heard.push_str(&String::from_utf8_lossy(&part));
    }
}

#[test]
fn every_endpoint_has_a_row() {
    let rows: BTreeSet<_> =
        ROWS.iter().map(|(service, method, path, _)| (service.name(), *method, *path)).collect();
    let endpoints = ENDPOINTS.iter().map(|it| (it.service.name(), it.method, it.path));
    assert_eq!(rows, endpoints.collect(), "each endpoint of the table says whom of the attackers it answers");
    assert_eq!(rows.len(), ROWS.len(), "a row stands twice");
}

#[tokio::test]
async fn nothing_is_changed_and_nothing_is_learnt() {
    let siege = Siege::start().await;
    let mut stream = siege.victim().await;
    hear(&mut stream, "connected").await;
    wait::until("the victim is counted and watches", SOON, || async {
        let state = siege.state().await;
        (state["comments"]["comments"][0]["comment"] == WORDS && state["viewers"]["viewers"] == 1)
            .then_some(())
    })
    .await;
    let before = siege.state().await;
    let mut wrong = Vec::new();
    for row in ROWS {
        for attacker in ATTACKERS {
            wrong.extend(siege.attack(row, attacker).await.err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(siege.state().await, before, "nothing was changed");
    // And the victim has noticed nothing.
    let own = siege.up.viewer_token(VICTIM);
    let again = json!({"userid": VICTIM, "videoid": VIDEO, "comment": "still here"});
    let front = siege.up.url(Door::Gateway);
    let posted =
        siege.client.post(format!("{front}/comment")).bearer_auth(own).json(&again).send().await.unwrap();
    assert_eq!(posted.status(), 201);
    hear(&mut stream, "still here").await;
}
