//! A check of comment rules, held comments, pins, reports and shadow bans on a whole system, by a client.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::patient::{TextStream, answer_of, post_comment};
use crate::wait;

/// The time limit of effects that normally take a moment, on a busy machine.
const EFFECT_TIMEOUT: Duration = Duration::from_mins(1);
const RULED_VIDEO: &str = "ruled";

/// The comments that were released, pinned, reported or hidden, with which a test checks later that all that still
/// holds.
pub struct CommentRulesCheck {
    client: Client,
    gateway: String,
    pinned: String,
    /// The id of the comment whose report is still open.
    reported: String,
    /// The text of the last comment of the shadow-banned user, which only its author may see.
    hidden: String,
}

impl CommentRulesCheck {
    /// Sets rules, lets a comment be held and released, pins another one, reports both, shadow-bans a user, and checks
    /// what viewers see.
    ///
    /// # Panics
    /// If a check fails.
    pub async fn new(gateway: &str) -> Self {
        let (client, gateway) = (Client::new(), gateway.to_owned());
        let mut ruled =
            Self { client, gateway, pinned: String::new(), reported: String::new(), hidden: String::new() };
        ruled.apply_rules().await;
        ruled.check().await;
        ruled
    }

    async fn apply_rules(&mut self) {
        let url = format!("{}/connect?userid=watcher&videoid={RULED_VIDEO}&events=pinned", self.gateway);
        let mut stream = TextStream::open(&self.client, &url).await;
        let rules =
            json!({"words": [{"action": "hold", "words": ["odd"]}, {"action": "mask", "words": ["darn"]}]});
        self.post_as_moderator("/moderation/rules", &json!({"videoid": RULED_VIDEO, "rules": rules})).await;
        wait::until("words are masked", EFFECT_TIMEOUT, || async {
            let (_, answer) = self.post_comment("ben", "darn").await;
            (answer["comment"]["comment"] == "****").then_some(())
        })
        .await;
        let (status, waits) = self.post_comment("ann", "odd one").await;
        assert_eq!((status, &waits["held"]), (StatusCode::ACCEPTED, &json!(true)), "{waits}");
        let (status, first) = self.post_comment("ben", "first").await;
        assert_eq!(status, StatusCode::CREATED);
        stream.read_until("\"first\"").await;
        assert!(!stream.text.contains("odd one"), "nobody is shown what waits:\n{}", stream.text);
        wait::until("it is in the queue", EFFECT_TIMEOUT, || async {
            let held = self.get_as_moderator("/moderation/held").await;
            (held["comments"][0]["id"] == waits["comment"]["id"]).then_some(())
        })
        .await;
        let release = json!({"videoid": RULED_VIDEO, "id": waits["comment"]["id"], "outcome": "release"});
        self.post_as_moderator("/moderation/held", &release).await;
        stream.read_until("odd one").await;
        first["comment"]["id"].as_str().expect("an id").clone_into(&mut self.pinned);
        self.post_as_moderator("/moderation/pins", &json!({"videoid": RULED_VIDEO, "id": self.pinned})).await;
        stream.read_until("event: pinned").await;
        waits["comment"]["id"].as_str().expect("an id").clone_into(&mut self.reported);
        self.report_comments().await;
        self.shadow_ban_user(&mut stream).await;
    }

    /// Reports both comments, the pinned one twice, and dismisses the reports of the pinned one.
    async fn report_comments(&self) {
        let spam = |user: &str| json!({"userid": user, "reason": "spam", "text": "words of its own"});
        for (id, user) in [(&self.pinned, "cy"), (&self.pinned, "dan"), (&self.reported, "cy")] {
            wait::until("the comment is there to be reported", EFFECT_TIMEOUT, || async {
                let path = format!("/comments/{RULED_VIDEO}/{id}/reports");
                let (status, _) = self.request_as_moderator(Method::POST, &path, Some(&spam(user))).await;
                (status == StatusCode::ACCEPTED).then_some(())
            })
            .await;
        }
        wait::until("both are in the queue", EFFECT_TIMEOUT, || async {
            let page = self.get_as_moderator("/moderation/reports?order=most").await;
            let counts = [&page["comments"][0]["count"], &page["comments"][1]["count"]];
            (counts == [&json!(2), &json!(1)]).then_some(())
        })
        .await;
        self.post_as_moderator(
            "/moderation/reports",
            &json!({"videoid": RULED_VIDEO, "id": self.pinned, "outcome": "dismiss"}),
        )
        .await;
    }

    /// Shadow-bans a user, and waits until a comment of that user no longer comes between two comments of another
    /// user.
    async fn shadow_ban_user(&mut self, stream: &mut TextStream) {
        self.post_as_moderator(
            "/moderation/bans",
            &json!({"userid": "shade", "kind": "shadow", "videoid": RULED_VIDEO}),
        )
        .await;
        for round in 0..200 {
            let (hidden, marker) = (format!("hidden-{round}."), format!("marker-{round}."));
            let (status, answer) = self.post_comment("shade", &hidden).await;
            assert_eq!(status, StatusCode::CREATED, "who is shadow-banned does not notice: {answer}");
            self.post_comment("ben", &marker).await;
            stream.read_until(&marker).await;
            if !stream.text.contains(&hidden) {
                self.hidden = hidden;
                return;
            }
        }
        panic!("the shadow ban is not in force:\n{}", stream.text);
    }

    /// Checks that history, the queue of held comments, the reports, the rules and the bans are as they were left.
    ///
    /// # Panics
    /// If a check fails.
    pub async fn check(&self) {
        let texts = |page: &Value| -> Vec<String> {
            let lines = page["comments"].as_array().into_iter().flatten();
            lines.filter_map(|line| Some(line["comment"].as_str()?.to_owned())).collect()
        };
        wait::until("history", EFFECT_TIMEOUT, || async {
            let page = self.get_as_moderator(&format!("/comments/{RULED_VIDEO}?limit=1000")).await;
            let (shown, pinned) = (texts(&page), page["pinned"]["id"] == self.pinned.as_str());
            let is_shown = |text: &str| shown.iter().any(|shown| shown == text);
            (is_shown("first") && is_shown("odd one") && !is_shown(&self.hidden) && pinned).then_some(())
        })
        .await;
        wait::until("its author is shown it", EFFECT_TIMEOUT, || async {
            let path = format!("/comments/{RULED_VIDEO}?limit=1000&userid=shade");
            texts(&self.get_as_moderator(&path).await).contains(&self.hidden).then_some(())
        })
        .await;
        wait::until("no comment waits", EFFECT_TIMEOUT, || async {
            (self.get_as_moderator("/moderation/held").await["comments"] == json!([])).then_some(())
        })
        .await;
        wait::until("what was reported is as it was left", EFFECT_TIMEOUT, || async {
            let open = self.get_as_moderator("/moderation/reports").await;
            let closed = self.get_as_moderator("/moderation/reports?state=closed").await;
            let (open, closed) = (&open["comments"], &closed["comments"]);
            let is_open = open[0]["id"] == self.reported.as_str() && open[0]["count"] == 1;
            let is_closed = closed[0]["id"] == self.pinned.as_str() && closed[0]["count"] == 2;
            let is_dismissed = closed[0]["decision"]["outcome"] == "dismissed";
            (is_open && is_closed && is_dismissed && open[1].is_null()).then_some(())
        })
        .await;
        let rules = self.get_as_moderator("/moderation/rules").await;
        assert_eq!(rules["rules"][0]["videoid"], RULED_VIDEO, "{rules:#}");
        let bans = self.get_as_moderator("/moderation/bans").await;
        let bans = bans["bans"].as_array().expect("bans");
        assert!(bans.iter().any(|ban| ban["kind"] == "shadow"), "{bans:?}");
        wait::until("rules are in force", EFFECT_TIMEOUT, || async {
            let (_, answer) = self.post_comment("ben", "darn").await;
            (answer["comment"]["comment"] == "****").then_some(())
        })
        .await;
    }

    async fn post_comment(&self, user: &str, text: &str) -> (StatusCode, Value) {
        post_comment(&self.client, &self.gateway, user, RULED_VIDEO, text).await
    }

    async fn post_as_moderator(&self, path: &str, body: &Value) {
        let (status, answer) = self.request_as_moderator(Method::POST, path, Some(body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{path}: {answer}");
    }

    async fn get_as_moderator(&self, path: &str) -> Value {
        self.request_as_moderator(Method::GET, path, None).await.1
    }

    async fn request_as_moderator(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", self.gateway));
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = answer_of(request).await;
        (answer.status(), answer.json().await.expect("JSON"))
    }
}
