//! A check of moderation on a whole system, by a client: a deleted comment and a banned user.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::patient::{TextStream, answer_of, post_comment};
use crate::wait;

/// The time limit of effects that normally take a moment, on a busy machine.
const EFFECT_TIMEOUT: Duration = Duration::from_mins(1);
/// The time limit of a ban: it must be in force everywhere a second after it was acknowledged, and a debug build on a
/// busy machine gets another second.
const BAN_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of bans of which one must be in force in time: on a busy machine some take longer, and services that look
/// too seldom are late each time.
const MAX_BANS: usize = 4;
const MODERATED_VIDEO: &str = "moderated";

/// The comments and the user that were moderated, with which a test checks later that the moderation still holds.
pub struct ModerationCheck {
    client: Client,
    gateway: String,
    comments: Vec<String>,
    /// The event id before the video's first comment, from which a stream gets all comments.
    start: String,
    /// The users that are banned.
    banned: Vec<String>,
}

impl ModerationCheck {
    /// Posts comments, deletes one, bans a user, and checks what viewers and comment services then do.
    ///
    /// # Panics
    /// If a check fails.
    pub async fn new(gateway: &str, comments: &[String]) -> Self {
        let (client, gateway, comments) = (Client::new(), gateway.to_owned(), comments.to_vec());
        let mut moderated = Self { client, gateway, comments, start: String::new(), banned: Vec::new() };
        moderated.moderate_and_ban().await;
        moderated
    }

    async fn moderate_and_ban(&mut self) {
        let mut asked = self.open_stream("&events=deleted").await;
        let mut plain = self.open_stream("").await;
        let mut ids = Vec::new();
        for text in ["stays-1", "goes", "stays-2"] {
            let (status, answer) = self.post_comment(&self.gateway, "ann", text).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            ids.push(answer["comment"]["id"].as_str().expect("an id").to_owned());
        }
        asked.read_until("stays-2").await;
        let id = asked.text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
        let (numbering, _) = id.rsplit_once('-').expect("a numbering");
        self.start = format!("{numbering}-0");
        let url = format!("{}/comments/{MODERATED_VIDEO}/{}?reason=test", self.gateway, ids[1]);
        assert_eq!(answer_of(self.client.delete(url)).await.status(), StatusCode::ACCEPTED);
        asked.read_until("event: deleted").await;
        asked.read_until(&ids[1]).await;
        self.post_comment(&self.gateway, "ann", "after").await;
        plain.read_until("after").await;
        assert!(!plain.text.contains("event: "), "who did not ask is told of nothing else:\n{}", plain.text);
        self.ban_users().await;
        self.check().await;
    }

    async fn open_stream(&self, query: &str) -> TextStream {
        let url = format!("{}/connect?userid=watcher&videoid={MODERATED_VIDEO}{query}", self.gateway);
        TextStream::open(&self.client, &url).await
    }

    async fn post_comment(&self, at: &str, user: &str, text: &str) -> (StatusCode, Value) {
        post_comment(&self.client, at, user, MODERATED_VIDEO, text).await
    }

    /// Bans users until a ban was in force everywhere in time.
    async fn ban_users(&mut self) {
        let mut took = Vec::new();
        while took.last().is_none_or(|last| *last >= BAN_TIMEOUT) {
            assert!(took.len() < MAX_BANS, "bans were in force after {took:?}");
            let user = format!("troll-{}", took.len());
            took.push(self.ban_user(&user).await);
            self.banned.push(user);
        }
        println!("bans were in force at {} comment services after {took:?}", self.comments.len());
    }

    /// Bans a user; returns the time from the acknowledgement until all comment services refuse the user.
    async fn ban_user(&self, user: &str) -> Duration {
        let body = json!({"userid": user, "reason": "spam"});
        let url = format!("{}/moderation/bans", self.gateway);
        assert_eq!(answer_of(self.client.post(url).json(&body)).await.status(), StatusCode::ACCEPTED);
        let acknowledged = Instant::now();
        for comment in &self.comments {
            self.wait_until_refused(comment, user).await;
        }
        acknowledged.elapsed()
    }

    async fn wait_until_refused(&self, comment: &str, user: &str) {
        wait::until("the ban in force", EFFECT_TIMEOUT, || async {
            let (status, answer) = self.post_comment(comment, user, "let me in").await;
            (status == StatusCode::FORBIDDEN && answer["rule"] == "ban").then_some(())
        })
        .await;
    }

    /// Checks that neither history nor a stream from the beginning shows the deleted comment, and that the ban still
    /// holds.
    ///
    /// # Panics
    /// If a check fails.
    pub async fn check(&self) {
        wait::until("history without the comment", EFFECT_TIMEOUT, || async {
            let url = format!("{}/comments/{MODERATED_VIDEO}?limit=1000", self.gateway);
            let page: Value = self.client.get(url).send().await.ok()?.json().await.ok()?;
            let texts: Vec<&str> =
                page["comments"].as_array()?.iter().filter_map(|line| line["comment"].as_str()).collect();
            (texts.contains(&"stays-1") && texts.contains(&"stays-2") && !texts.contains(&"goes"))
                .then_some(())
        })
        .await;
        let resume = format!("&events=deleted&last_event_id={}", self.start);
        let mut back = self.open_stream(&resume).await;
        back.read_until("event: deleted").await;
        assert!(back.text.contains("stays-1") && back.text.contains("stays-2"), "{}", back.text);
        assert!(!back.text.contains("goes"), "a deleted comment came back:\n{}", back.text);
        for comment in &self.comments {
            for user in &self.banned {
                self.wait_until_refused(comment, user).await;
            }
        }
        let url = format!("{}/moderation/log", self.gateway);
        // Each of the bans, and the deletion: the log's way into it takes a moment.
        let log = wait::until("what was done", EFFECT_TIMEOUT, || async {
            let log: Value = self.client.get(&url).send().await.ok()?.json().await.ok()?;
            (log["actions"].as_array()?.len() > self.banned.len()).then_some(log)
        })
        .await;
        let actions = log["actions"].as_array().expect("actions").iter();
        let actions: Vec<&str> = actions.filter_map(|line| line["action"].as_str()).collect();
        let (last, bans) = actions.split_last().expect("actions");
        assert_eq!(*last, "delete", "{log:#}");
        assert!(
            bans.len() >= self.banned.len() && bans.iter().all(|action| *action == "restrict"),
            "{log:#}"
        );
    }
}
