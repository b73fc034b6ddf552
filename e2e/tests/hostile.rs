//! Attackers at every endpoint of every service: they must change nothing and learn nothing.
//!
//! The system requires tokens of viewers. Each row of the table says for an endpoint which of four attackers get an
//! answer: one without a credential, a viewer in another viewer's name, a reader's stolen credential, a process of
//! another role. An endpoint in `protocol::access` without a row here fails the test.
//!
//! Two more attackers need no system to be played: a producer that writes anything into the topic of events
//! (`services/consumer/tests/hostile_producer.rs`), and a tenant who may create `RankingCluster`s
//! (`operator/tests/tenant.rs`).
//!
//! Floods, by which one host tries to deny service to the others, are tested in `floods`.
#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

#[path = "hostile/floods.rs"]
mod floods;

use std::collections::BTreeSet;
use std::time::Duration;

use liverank_e2e::identity::token;
use liverank_e2e::patient::answer_of;
use liverank_e2e::up::{PublicPort, Up};
use liverank_e2e::wait;
use liverank_protocol::access::{CalledService, ENDPOINTS};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

/// The time limit of every request and every wait.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit until the victim's state has come to rest.
const SETTLED_TIMEOUT: Duration = Duration::from_mins(1);
/// The id of the user whose data are attacked.
const VICTIM_USER: &str = "victim-user";
/// The id of the video that the victim watches.
const VICTIM_VIDEO: &str = "victim-video";
/// The text of the victim's comment.
const VICTIM_TEXT: &str = "what-the-victim-said";
/// The beginning of a JSON member that would reveal the key of a reader's passes.
const PASS_KEY_MEMBER: &str = r#""pass_key":""#;

/// The answer that an attacker must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttackOutcome {
    /// An answer, because everybody may ask or because this attacker may.
    Answered,
    /// A refusal with 401 or 403, without any secret.
    Refused,
}
use AttackOutcome::{Answered, Refused};

/// The credential that an attacker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttackerKind {
    Nobody,
    Viewer,
    Reader,
    OtherRole,
}

const ALL_ATTACKERS: [AttackerKind; 4] =
    [AttackerKind::Nobody, AttackerKind::Viewer, AttackerKind::Reader, AttackerKind::OtherRole];
/// The row of an endpoint that answers everybody.
const OPEN_TO_ALL: [AttackOutcome; 4] = [Answered; 4];
/// The row of an endpoint that refuses all four attackers.
const CLOSED_TO_ALL: [AttackOutcome; 4] = [Refused; 4];
/// The row of an endpoint that answers viewers, who ask for themselves.
const OPEN_TO_VIEWERS: [AttackOutcome; 4] = [Refused, Answered, Refused, Refused];
/// The row of an endpoint that answers readers.
const OPEN_TO_READERS: [AttackOutcome; 4] = [Refused, Refused, Answered, Refused];

type AttackRow = (CalledService, &'static str, &'static str, [AttackOutcome; 4]);

/// The table of attacks: for each endpoint the answer to each attacker, who asks for the victim's data or in the
/// victim's name.
const ATTACK_ROWS: &[AttackRow] = {
    use CalledService::{Comment, Gateway, Manager, Reader, Statistics, Websocket};
    &[
        (Gateway, "POST", "/interact", CLOSED_TO_ALL),
        // Each item of the batch has a status of its own in the answer.
        (Gateway, "POST", "/interactions", OPEN_TO_VIEWERS),
        (Gateway, "GET", "/videos", OPEN_TO_ALL),
        (Gateway, "GET", "/videos/{video_id}", OPEN_TO_ALL),
        (Gateway, "PUT", "/videos/{video_id}", CLOSED_TO_ALL),
        (Gateway, "DELETE", "/videos/{video_id}", CLOSED_TO_ALL),
        (Gateway, "GET", "/boards", OPEN_TO_ALL),
        (Gateway, "GET", "/ws/videos", OPEN_TO_VIEWERS),
        (Gateway, "GET", "/ws/user/{user_id}", CLOSED_TO_ALL),
        (Gateway, "POST", "/comment", CLOSED_TO_ALL),
        (Gateway, "GET", "/comments/{videoid}", OPEN_TO_ALL),
        // A viewer learns that the comment does not exist.
        (Gateway, "DELETE", "/comments/{videoid}/{id}", OPEN_TO_VIEWERS),
        (Gateway, "POST", "/comments/{videoid}/{id}/reports", CLOSED_TO_ALL),
        (Gateway, "GET", "/moderation/bans", CLOSED_TO_ALL),
        (Gateway, "POST", "/moderation/bans", CLOSED_TO_ALL),
        (Gateway, "DELETE", "/moderation/bans", CLOSED_TO_ALL),
        (Gateway, "GET", "/moderation/held", CLOSED_TO_ALL),
        (Gateway, "POST", "/moderation/held", CLOSED_TO_ALL),
        (Gateway, "GET", "/moderation/reports", CLOSED_TO_ALL),
        (Gateway, "POST", "/moderation/reports", CLOSED_TO_ALL),
        (Gateway, "POST", "/moderation/pins", CLOSED_TO_ALL),
        (Gateway, "DELETE", "/moderation/pins", CLOSED_TO_ALL),
        (Gateway, "GET", "/moderation/revocations", CLOSED_TO_ALL),
        (Gateway, "POST", "/moderation/revocations", CLOSED_TO_ALL),
        (Gateway, "DELETE", "/moderation/revocations", CLOSED_TO_ALL),
        (Gateway, "GET", "/moderation/rules", CLOSED_TO_ALL),
        (Gateway, "POST", "/moderation/rules", CLOSED_TO_ALL),
        (Gateway, "DELETE", "/moderation/rules", CLOSED_TO_ALL),
        (Gateway, "GET", "/moderation/log", CLOSED_TO_ALL),
        (Gateway, "GET", "/operate", CLOSED_TO_ALL),
        (Gateway, "POST", "/operate/what-if", CLOSED_TO_ALL),
        (Gateway, "POST", "/operate/demo", CLOSED_TO_ALL),
        (Gateway, "DELETE", "/operate/demo", CLOSED_TO_ALL),
        (Gateway, "GET", "/connect", CLOSED_TO_ALL),
        (Gateway, "POST", "/connect", CLOSED_TO_ALL),
        (Gateway, "POST", "/register", OPEN_TO_VIEWERS),
        (Gateway, "GET", "/resolve/{videoid}", OPEN_TO_ALL),
        (Gateway, "GET", "/statistics", CLOSED_TO_ALL),
        (Gateway, "POST", "/comment-api-statistics", OPEN_TO_ALL),
        (Gateway, "POST", "/reader-api-statistics", OPEN_TO_ALL),
        (Gateway, "POST", "/reader-api-manager-statistics", OPEN_TO_ALL),
        (Gateway, "POST", "/client-statistics", OPEN_TO_ALL),
        (Gateway, "GET", "/health", OPEN_TO_ALL),
        (Gateway, "GET", "/openapi.json", OPEN_TO_ALL),
        (Gateway, "GET", "/openapi-internal.json", OPEN_TO_ALL),
        (Gateway, "GET", "/asyncapi.yaml", OPEN_TO_ALL),
        (Gateway, "GET", "/asyncapi.json", OPEN_TO_ALL),
        (Websocket, "GET", "/ws/videos", CLOSED_TO_ALL),
        (Websocket, "GET", "/ws/user/{user_id}", CLOSED_TO_ALL),
        (Websocket, "GET", "/health", OPEN_TO_ALL),
        (Comment, "POST", "/comment", CLOSED_TO_ALL),
        (Comment, "GET", "/comments/{videoid}", CLOSED_TO_ALL),
        (Comment, "GET", "/statistics", CLOSED_TO_ALL),
        (Comment, "GET", "/health", OPEN_TO_ALL),
        (Reader, "GET", "/connect", CLOSED_TO_ALL),
        (Reader, "POST", "/connect", CLOSED_TO_ALL),
        (Reader, "GET", "/health", OPEN_TO_ALL),
        (Reader, "POST", "/warm", CLOSED_TO_ALL),
        (Manager, "POST", "/register", OPEN_TO_ALL),
        (Manager, "GET", "/resolve/{videoid}", OPEN_TO_ALL),
        (Manager, "GET", "/health", OPEN_TO_ALL),
        (Manager, "POST", "/route", OPEN_TO_READERS),
        (Manager, "GET", "/viewers/{videoid}", CLOSED_TO_ALL),
        (Manager, "POST", "/viewers", CLOSED_TO_ALL),
        (Manager, "POST", "/heartbeat", CLOSED_TO_ALL),
        (Manager, "GET", "/load", CLOSED_TO_ALL),
        (Manager, "GET", "/moves", CLOSED_TO_ALL),
        (Manager, "GET", "/cordons", CLOSED_TO_ALL),
        (Manager, "GET", "/plan", CLOSED_TO_ALL),
        (Manager, "GET", "/overview", CLOSED_TO_ALL),
        (Manager, "POST", "/what-if", CLOSED_TO_ALL),
        (Manager, "POST", "/term", CLOSED_TO_ALL),
        (Manager, "POST", "/moves", CLOSED_TO_ALL),
        (Manager, "POST", "/cordons", CLOSED_TO_ALL),
        (Statistics, "GET", "/statistics", CLOSED_TO_ALL),
        (Statistics, "POST", "/comment-api-statistics", OPEN_TO_ALL),
        // A reader that shows who it is reports for itself.
        (Statistics, "POST", "/reader-api-statistics", [Answered, Answered, Refused, Answered]),
        (Statistics, "POST", "/reader-api-manager-statistics", OPEN_TO_ALL),
        (Statistics, "POST", "/client-statistics", OPEN_TO_ALL),
        (Statistics, "GET", "/health", OPEN_TO_ALL),
    ]
};

const fn door(service: CalledService) -> PublicPort {
    match service {
        CalledService::Gateway => PublicPort::Gateway,
        CalledService::Websocket => PublicPort::Websocket,
        CalledService::Comment => PublicPort::Comment,
        CalledService::Reader => PublicPort::Reader,
        CalledService::Manager => PublicPort::Manager,
        CalledService::Statistics => PublicPort::Statistics,
    }
}

/// Returns the body that is sent to a path, which would have an effect if the service accepted it.
fn attack_body(path: &str) -> Value {
    let lease = json!({"uid": "thief", "transitions": 99});
    match path {
        "/interact" => json!({"video_id": VICTIM_VIDEO, "user_id": VICTIM_USER, "type": "share"}),
        "/interactions" => json!([{"video_id": VICTIM_VIDEO, "user_id": VICTIM_USER, "type": "share"}]),
        "/comment" => {
            json!({"userid": VICTIM_USER, "videoid": VICTIM_VIDEO, "comment": "in the victim's name"})
        }
        "/connect" => json!({"userid": VICTIM_USER, "videoid": VICTIM_VIDEO}),
        "/register" | "/route" => json!({"videoid": VICTIM_VIDEO}),
        "/moderation/bans" => json!({"userid": VICTIM_USER}),
        "/moderation/revocations" => json!({"sub": VICTIM_USER}),
        "/moderation/held" => json!({"videoid": VICTIM_VIDEO, "id": "c", "outcome": "release"}),
        "/comments/{videoid}/{id}/reports" => json!({"userid": VICTIM_USER, "reason": "spam"}),
        "/moderation/reports" => json!({"videoid": VICTIM_VIDEO, "id": "c", "outcome": "dismiss"}),
        "/moderation/pins" => json!({"videoid": VICTIM_VIDEO, "id": "c"}),
        "/moderation/rules" => json!({"videoid": VICTIM_VIDEO, "rules": {"slow_seconds": 60}}),
        "/viewers" => json!({"videos": [VICTIM_VIDEO]}),
        "/warm" => json!({"videoid": VICTIM_VIDEO, "epoch": 1}),
        "/heartbeat" => {
            json!({"id": "reader-1", "public_url": "http://127.0.0.1:1", "internal_url": "http://127.0.0.1:1",
            "beat": 1, "capacity": 10, "viewers": 0, "draining": true, "highest_epoch": 0, "videos": [], "messages_sent": 0})
        }
        "/term" => json!({"holder": "thief", "lease": lease}),
        "/moves" => {
            json!({"term": 1, "lease": lease, "moves": [{"videoid": VICTIM_VIDEO, "to": ["reader-9"]}]})
        }
        "/cordons" => {
            json!({"term": 1, "lease": lease, "cordons": [{"id": "reader-1", "cordon": "removed"}]})
        }
        _ => json!({"instanceId": "thief"}),
    }
}

/// Returns the path and the query of the request to an endpoint.
fn attack_target(path: &str) -> String {
    match path {
        "/connect" => format!("/connect?userid={VICTIM_USER}&videoid={VICTIM_VIDEO}"),
        // All statistics, with the viewers of each video.
        "/statistics" => "/statistics?full=true".to_owned(),
        other => other
            .replace("{user_id}", VICTIM_USER)
            .replace("{videoid}", VICTIM_VIDEO)
            .replace("{video_id}", VICTIM_VIDEO),
    }
}

struct HostileSystem {
    up: Up,
    client: Client,
    eve: String,
}

impl HostileSystem {
    async fn start() -> Self {
        let up = Up::start_with(1, &["--auth-dev"]).await;
        let eve = up.viewer_token("eve");
        Self { up, client: Client::builder().timeout(TEST_TIMEOUT).build().unwrap(), eve }
    }

    fn credential_of(&self, attacker: AttackerKind, service: CalledService) -> Option<String> {
        match attacker {
            AttackerKind::Nobody => None,
            AttackerKind::Viewer => Some(self.eve.clone()),
            AttackerKind::Reader => Some(token("reader/reader-9", service)),
            AttackerKind::OtherRole => Some(token("consumer", service)),
        }
    }

    async fn send_as_attacker(
        &self,
        attacker: AttackerKind,
        service: CalledService,
        method: &str,
        path: &str,
    ) -> Response {
        let url = format!("{}{}", self.up.url(door(service)), attack_target(path));
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method.clone(), url);
        // Only a gateway may send these headers to a service behind it; here they must have no effect.
        request = request.header("liverank-user", VICTIM_USER).header("liverank-roles", "moderator service");
        request = request.header("liverank-pass", format!("9999999999.{}", "0".repeat(64)));
        if matches!(method, Method::POST | Method::PUT) {
            request = request.json(&attack_body(path));
        }
        if path.starts_with("/ws/") {
            request = request.header("connection", "upgrade").header("upgrade", "websocket");
            request = request
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        }
        if let Some(credential) = self.credential_of(attacker, service) {
            request = request.bearer_auth(credential);
        }
        request.send().await.unwrap()
    }

    /// Sends one attack; returns in words what is wrong with the answer.
    async fn attack_endpoint(
        &self,
        (service, method, path, gets): &AttackRow,
        attacker: AttackerKind,
    ) -> Result<(), String> {
        let expected = gets[attacker as usize];
        let response = self.send_as_attacker(attacker, *service, method, path).await;
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
        // The history of comments is public at the gateway. The viewers of a video and the keys of passes are secret
        // everywhere.
        let secrets: &[&str] =
            if is_refused { &[VICTIM_USER, VICTIM_TEXT, PASS_KEY_MEMBER] } else { &[PASS_KEY_MEMBER] };
        let is_history = *service == CalledService::Gateway && path.starts_with("/comments/");
        let is_public = is_history || path.starts_with("/videos") || path.contains("api");
        let who: &[&str] = if is_public { &[] } else { &[VICTIM_USER] };
        match secrets.iter().chain(who).find(|secret| text.contains(**secret)) {
            Some(secret) => Err(format!("{said} tells {secret}: {text}")),
            None => Ok(()),
        }
    }

    /// Returns the state that the attacks must not change, read with credentials that may see all of it.
    async fn victim_state(&self) -> Value {
        let cli = token("cli", CalledService::Manager);
        let look = async |path: &str| {
            let url = format!("{}{path}", self.up.url(PublicPort::Manager));
            answer_of(self.client.get(url).bearer_auth(&cli)).await.json::<Value>().await.unwrap()
        };
        let load = look("/load").await;
        let list = |name: &str| load[name].as_array().cloned().unwrap_or_default();
        let readers: Vec<Value> = list("readers").iter().map(|it| it["id"].clone()).collect();
        let victims = list("assignments").into_iter().find(|it| it["videoid"] == VICTIM_VIDEO);
        let victims = victims.unwrap_or_default();
        json!({
            "readers": readers,
            "served by": victims["readers"],
            "moves": look("/moves").await["moves"],
            "cordons": look("/cordons").await,
            "viewers": look(&format!("/viewers/{VICTIM_VIDEO}")).await,
            "video": self.up.get(PublicPort::Gateway, &format!("/videos/{VICTIM_VIDEO}")).await,
            "comments": self.up.get(PublicPort::Gateway, &format!("/comments/{VICTIM_VIDEO}")).await,
        })
    }

    /// Posts a comment as the victim and opens a stream of the victim's video, through the gateway.
    async fn post_and_watch_as_victim(&self) -> Response {
        let own = self.up.viewer_token(VICTIM_USER);
        let front = self.up.url(PublicPort::Gateway);
        let comment = json!({"userid": VICTIM_USER, "videoid": VICTIM_VIDEO, "comment": VICTIM_TEXT,
            "idempotency_key": "the-first"});
        let comment = self.client.post(format!("{front}/comment")).bearer_auth(&own).json(&comment);
        let posted = answer_of(comment).await;
        assert_eq!(posted.status(), 201, "{}", posted.text().await.unwrap());
        // The stream goes on for longer than a request may last.
        let stream = Client::new().get(format!("{front}{}", attack_target("/connect"))).bearer_auth(&own);
        let stream = answer_of(stream).await;
        assert_eq!(stream.status(), 200);
        stream
    }
}

/// Reads the stream until `words` have arrived; panics after the time limit.
async fn read_until(stream: &mut Response, words: &str) {
    let mut heard = String::new();
    while !heard.contains(words) {
        let part = tokio::time::timeout(TEST_TIMEOUT, stream.chunk()).await.expect("the stream is silent");
        let part = part.unwrap().expect("the stream has ended");
        heard.push_str(&String::from_utf8_lossy(&part));
    }
}

#[test]
fn every_endpoint_has_an_attack_row() {
    let rows: BTreeSet<_> =
        ATTACK_ROWS.iter().map(|(service, method, path, _)| (service.name(), *method, *path)).collect();
    let endpoints = ENDPOINTS.iter().map(|it| (it.service.name(), it.method, it.path));
    assert_eq!(rows, endpoints.collect(), "each endpoint of the table says whom of the attackers it answers");
    assert_eq!(rows.len(), ATTACK_ROWS.len(), "a row stands twice");
}

#[tokio::test]
async fn attackers_change_nothing_and_learn_nothing() {
    let siege = HostileSystem::start().await;
    let mut stream = siege.post_and_watch_as_victim().await;
    read_until(&mut stream, "connected").await;
    // The state is compared as a whole, so all of it has come to rest: the peak of viewers changes when the victim has
    // watched for five seconds.
    let before = wait::until("the victim is counted and watches", SETTLED_TIMEOUT, || async {
        let state = siege.victim_state().await;
        let (viewers, video) = (&state["viewers"], &state["video"]);
        let is_counted = state["comments"]["comments"][0]["comment"] == VICTIM_TEXT && video["comments"] == 1;
        let is_watched = [&viewers["viewers"], &viewers["peak"], &video["viewers"], &video["peak_viewers"]]
            .into_iter()
            .all(|count| *count == 1);
        (is_counted && is_watched && video["ranks"]["trending"]["rank"] == 1).then_some(state)
    })
    .await;
    let mut wrong = Vec::new();
    for row in ATTACK_ROWS {
        for attacker in ALL_ATTACKERS {
            wrong.extend(siege.attack_endpoint(row, attacker).await.err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A busy machine may have lost sight of the viewer for a moment; what an attacker changed stays changed.
    let changed = async || {
        let now = siege.victim_state().await;
        (now == before).then_some(()).ok_or(now)
    };
    let deadline = std::time::Instant::now() + SETTLED_TIMEOUT;
    while let Err(now) = changed().await {
        assert!(std::time::Instant::now() < deadline, "was changed: {before:#}\ninto {now:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The victim can still post, and the stream still works.
    let own = siege.up.viewer_token(VICTIM_USER);
    let again = json!({"userid": VICTIM_USER, "videoid": VICTIM_VIDEO, "comment": "still here",
        "idempotency_key": "the-second"});
    let front = siege.up.url(PublicPort::Gateway);
    let posted = answer_of(siege.client.post(format!("{front}/comment")).bearer_auth(own).json(&again)).await;
    assert_eq!(posted.status(), 201);
    read_until(&mut stream, "still here").await;
}
