//! Compares the system with what was acknowledged to the moderator: every ban holds at every comment service, and no
//! comment that is gone is in history, in what a stream replays, in Redis or in MongoDB.

use std::time::Duration;

use anyhow::{Context, ensure};
use bson::doc;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::moderator::{AcknowledgedModeration, HELD_VIDEO, KnownComment, Moderator, PREFIX, Restriction};
use crate::rest::RestChecker;

/// The pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The time limit of one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of the newest bans and mutes that are tried at every comment service; older ones were tried in earlier
/// rounds, and every fifth of them is tried again.
const NEWEST_RESTRICTIONS: usize = 12;
const OLDER_RESTRICTIONS_STEP: usize = 5;

/// The number of a video's newest comments that histories and replays must have: half of a page and of a ring.
const PAGE: usize = 500;

/// The comparison's inputs, with an HTTP client of its own.
struct Comparison<'a> {
    examiner: &'a RestChecker<'a>,
    client: Client,
    acknowledged: AcknowledgedModeration,
}

impl RestChecker<'_> {
    /// Compares the system with what was acknowledged to the moderator, for `patience`; returns the differences in
    /// words.
    pub async fn compare_moderation(
        &self,
        moderator: &Moderator,
        patience: Duration,
    ) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + patience;
        let client = Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()?;
        let comparison = Comparison { examiner: self, client, acknowledged: moderator.acknowledged() };
        loop {
            let mut different = match comparison.compare().await {
                Ok(different) => different,
                Err(error) => vec![format!("moderation cannot be compared: {error:#}")],
            };
            different.extend(moderator.faults());
            if different.is_empty() || Instant::now() >= deadline {
                return Ok(different);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Comparison<'_> {
    async fn compare(&self) -> anyhow::Result<Vec<String>> {
        let mut different = self.compare_restrictions().await?;
        let mut archive = self.examiner.connect_archive().await?;
        for video in self.videos() {
            for gateway in &self.examiner.system.gateways {
                let page = self.get(&format!("{gateway}/comments/{video}?limit=1000")).await?;
                different.extend(self.compare_texts(
                    &format!("the history at {gateway}"),
                    &video,
                    &page,
                    PAGE,
                ));
                let replayed = self.replay(gateway, &video).await?;
                different.extend(self.compare_texts(
                    &format!("the replay at {gateway}"),
                    &video,
                    &replayed,
                    PAGE,
                ));
                different.extend(self.compare_pin(gateway, &video).await?);
            }
            let stream = format!("{}comments:{video}", self.examiner.prefix);
            let kept = self.examiner.connect_redis().await?.stream_text(&stream).await?;
            different.extend(self.gone_in("the stream in Redis", &video, &kept));
            let filter = doc! { "video_id": &video };
            let database = self.examiner.database_name();
            let archived = archive.find(&database, "comments", filter, doc! {}, doc! {}).await?;
            different.extend(self.compare_texts("MongoDB", &video, &format!("{archived:?}"), usize::MAX));
        }
        Ok(different)
    }

    fn videos(&self) -> Vec<String> {
        let known =
            self.acknowledged.shown.iter().chain(&self.acknowledged.gone).chain(&self.acknowledged.waiting);
        let mut videos: Vec<String> = known.map(|comment| comment.video.clone()).collect();
        videos.sort();
        videos.dedup();
        // A video whose comments all wait has no channel yet.
        videos.retain(|video| {
            let is_here = |comment: &KnownComment| comment.video == *video;
            video != HELD_VIDEO || self.acknowledged.shown.iter().any(is_here)
        });
        videos
    }

    async fn get(&self, url: &str) -> anyhow::Result<String> {
        let answer = self.client.get(url).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{url}: {status} {text}");
        Ok(text)
    }

    fn gone_in(&self, place: &str, video: &str, text: &str) -> Vec<String> {
        let gone =
            self.acknowledged.gone.iter().filter(|gone| gone.video == video && text.contains(&gone.text));
        gone.map(|gone| format!("{place} of {video} has {:?}, which is gone", gone.text)).collect()
    }

    /// Compares the newest `count` comments of a video with a text that must have them.
    fn compare_texts(&self, place: &str, video: &str, text: &str, count: usize) -> Vec<String> {
        let mut different = self.gone_in(place, video, text);
        let shown = self.acknowledged.shown.iter().rev().filter(|shown| shown.video == video).take(count);
        let missing = shown.filter(|shown| !text.contains(&shown.text));
        different.extend(missing.map(|shown| format!("{place} of {video} lacks {:?}", shown.text)));
        different
    }

    /// Returns all that a viewer is sent who was there before the first comment.
    async fn replay(&self, gateway: &str, video: &str) -> anyhow::Result<String> {
        let url = format!("{gateway}/connect?userid={PREFIX}viewer&videoid={video}&events=deleted");
        let greeting = self.read_stream(&url, None, |text| text.contains("\n\n")).await?;
        let last =
            greeting.lines().find_map(|line| line.strip_prefix("id: ")).context("a greeting without id")?;
        let (epoch, head) = last.rsplit_once('-').context("an id")?;
        if head == "0" {
            return Ok(String::new());
        }
        let end = format!("id: {last}\n");
        let beginning = format!("{epoch}-0");
        self.read_stream(&url, Some(&beginning), |text| text.contains(&end)).await
    }

    /// Reads a stream until `is_enough`, which is asked each time that an event is complete.
    async fn read_stream(
        &self,
        url: &str,
        last_id: Option<&str>,
        is_enough: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let mut request = self.client.get(url).header("accept", "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let mut answer = request.send().await?;
        ensure!(answer.status().is_success(), "{url}: {}", answer.status());
        let mut bytes = Vec::new();
        loop {
            let chunk = answer.chunk().await.with_context(|| format!("{url} from {last_id:?}"))?;
            bytes.extend(chunk.context("the stream ended")?);
            let text = String::from_utf8_lossy(&bytes);
            if text.ends_with("\n\n") && is_enough(&text) {
                return Ok(text.into_owned());
            }
        }
    }

    async fn compare_pin(&self, gateway: &str, video: &str) -> anyhow::Result<Option<String>> {
        let answer: Value = serde_json::from_str(&self.get(&format!("{gateway}/videos/{video}")).await?)?;
        let (found, due) =
            (answer["pinned"]["id"].as_str(), self.acknowledged.pinned.get(video).map(String::as_str));
        Ok((found != due).then(|| format!("{gateway}: pinned on {video} is {found:?} instead of {due:?}")))
    }

    async fn compare_restrictions(&self) -> anyhow::Result<Vec<String>> {
        let mut different = Vec::new();
        let in_force = self.get(&format!("{}/moderation/bans", self.examiner.system.gateways[0])).await?;
        let lifted =
            self.acknowledged.lifted.iter().filter(|lifted| in_force.contains(&format!("{:?}", lifted.user)));
        different.extend(lifted.map(|lifted| format!("{lifted:?} was ended, and is in force")));
        let older = self.acknowledged.restrictions.len().saturating_sub(NEWEST_RESTRICTIONS);
        let tried = self.acknowledged.restrictions.iter().enumerate();
        for (_, restriction) in tried.filter(|(nth, _)| *nth >= older || nth % OLDER_RESTRICTIONS_STEP == 0) {
            for service in &self.examiner.system.comment_services {
                different.extend(self.try_to_comment(service, restriction).await?);
            }
        }
        Ok(different)
    }

    /// Comments as a restricted user; the comment must be refused by the rule.
    async fn try_to_comment(
        &self,
        service: &str,
        restricted: &Restriction,
    ) -> anyhow::Result<Option<String>> {
        let Restriction { user, kind, video } = restricted;
        let video = video.clone().unwrap_or_else(|| format!("{PREFIX}0"));
        let body = json!({"userid": user, "videoid": video, "comment": "not to be taken"});
        let answer = self.client.post(format!("{service}/comment")).json(&body).send().await?;
        let status = answer.status();
        let said: Value = answer.json().await.unwrap_or_default();
        let holds = status == StatusCode::FORBIDDEN && said["rule"] == *kind;
        Ok((!holds).then(|| format!("{service} answers {status} {said} to {restricted:?}")))
    }
}
