//! Waits until the system is at rest, and compares the stores and the lists with what was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use bson::{Document, doc};
use liverank_core::canary;
use liverank_core::score::{Counters, Weights};
use liverank_load::plan::comment_number;
use liverank_load::record::lock_ignoring_poison;
use liverank_load::ws::{ListLine, is_best_first};
use tokio::time::Instant;

use crate::kafka::Topic;
use crate::moderator;
use crate::mongo::Member;
use crate::parts::RealStores;
use crate::redis::Redis;
use crate::system::System;
use crate::traffic::Traffic;

/// The pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The time limit until the replica set has a primary.
const ELECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Compares the system and its stores with what is known of the load.
pub struct RestChecker<'a> {
    /// Kafka, Redis and MongoDB.
    pub parts: &'a RealStores,
    /// The processes under test.
    pub system: &'a System,
    /// The load, with the record of what was sent.
    pub traffic: &'a Traffic,
    /// The topic of the log.
    pub topic: &'a Topic,
    /// The prefix of all names in the stores.
    pub prefix: &'a str,
}

/// A video's document in MongoDB.
struct ArchivedVideo {
    owner: String,
    score: f64,
    counters: Counters,
    last_seq: u64,
}

fn whole_number(document: &Document, field: &str) -> anyhow::Result<i64> {
    let value = document.get(field).with_context(|| format!("no {field} in {document}"))?;
    let whole = value.as_i64().or_else(|| value.as_i32().map(i64::from));
    whole.with_context(|| format!("{field} is {value}"))
}

impl RestChecker<'_> {
    /// Returns the name of the archive's database.
    pub fn database_name(&self) -> String {
        format!("{}video_db", self.prefix)
    }

    /// Connects to the primary of the archive.
    pub async fn connect_archive(&self) -> anyhow::Result<Member> {
        Ok(self.parts.replica_set.wait_for_primary(ELECTION_TIMEOUT).await?.1)
    }

    /// Connects to Redis.
    pub async fn connect_redis(&self) -> anyhow::Result<Redis> {
        Redis::connect(self.parts.redis_port()).await
    }

    /// Waits until all that was sent is processed: the archive's offsets equal the log's ends, the boards' offsets
    /// equal the archive's, and every viewer has all comments of its video. An error after `patience`.
    pub async fn wait_until_at_rest(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let looked = tokio::time::timeout_at(deadline, self.check_at_rest()).await;
            match looked {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if Instant::now() >= deadline => {
                    return Err(error.context(format!("not at rest after {patience:?}")));
                }
                Err(_) => anyhow::bail!("not at rest after {patience:?}: the stores do not answer"),
                Ok(Err(_)) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    async fn check_at_rest(&self) -> anyhow::Result<()> {
        let ends = self.topic.end_offsets().await.context("the log's ends")?;
        let mut archive = self.connect_archive().await?;
        let found = archive.find(&self.database_name(), "offsets", doc! {}, doc! {}, doc! {}).await?;
        let mut counted = BTreeMap::new();
        for document in &found {
            counted.insert(whole_number(document, "_id")?, whole_number(document, "next")?);
        }
        let boards = self.connect_redis().await?.hash(&format!("{}ranking:projection", self.prefix)).await?;
        for (partition, end) in ends.iter().enumerate() {
            let archived = counted.get(&(partition as i64)).copied().unwrap_or(0);
            ensure!(archived == *end, "partition {partition}: the log ends at {end}, counted is {archived}");
            let projected = boards.get(&format!("offset:{partition}")).map_or("0", String::as_str);
            ensure!(
                projected == archived.to_string(),
                "partition {partition}: counted is {archived}, the boards stand at {projected}"
            );
        }
        for (id, video) in self.videos(&mut archive).await? {
            for viewer in self.traffic.viewers.iter().filter(|viewer| viewer.video_id == id) {
                let log = lock_ignoring_poison(&viewer.log);
                ensure!(
                    log.has_everything_up_to(video.last_seq),
                    "{id} has {} comments; {}",
                    video.last_seq,
                    log.check(video.last_seq).first().map_or("", |fault| &fault.description)
                );
            }
        }
        Ok(())
    }

    async fn videos(&self, archive: &mut Member) -> anyhow::Result<BTreeMap<String, ArchivedVideo>> {
        let mut videos = BTreeMap::new();
        // The gateways' canary video is left out: it is on no board, and its comments are not kept.
        let others = doc! { "video_id": { "$ne": canary::CANARY_ID } };
        for found in archive.find(&self.database_name(), "videos", others, doc! {}, doc! {}).await? {
            let counters = Counters {
                views: whole_number(&found, "views")?,
                likes: whole_number(&found, "likes")?,
                comments: whole_number(&found, "comments")?,
                shares: whole_number(&found, "shares")?,
                watch_ms: (found.get_f64("watch_time_total")? * 1000.0).round() as i64,
                watch_short: whole_number(&found, "watch_short")?,
                watch_long: whole_number(&found, "watch_long")?,
            };
            let video = ArchivedVideo {
                owner: found.get_str("user_id")?.to_owned(),
                score: found.get_f64("score")?,
                counters,
                last_seq: whole_number(&found, "last_seq")? as u64,
            };
            videos.insert(found.get_str("video_id")?.to_owned(), video);
        }
        Ok(videos)
    }

    /// Compares the stores, the lists and the viewers with what was sent; returns the differences in words. `patience`
    /// is for the lists, and for stores that do not answer: a replica set may elect once more.
    pub async fn compare(&self, patience: Duration) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.compare_once(patience).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL_INTERVAL).await,
                compared => return compared,
            }
        }
    }

    async fn compare_once(&self, patience: Duration) -> anyhow::Result<Vec<String>> {
        let mut archive = self.connect_archive().await?;
        let videos = self.videos(&mut archive).await?;
        let mut different = self.compare_counts(&videos);
        different.extend(self.compare_boards(&videos).await?);
        different.extend(self.compare_comments(&mut archive, &videos).await?);
        different.extend(self.compare_lists(&videos, patience).await);
        // Comments that viewers got twice, out of order or in another position were noted when they arrived.
        different.extend(self.traffic.record.first_faults());
        Ok(different)
    }

    fn our_videos(&self) -> impl Iterator<Item = (usize, String)> {
        (0..=self.traffic.plan.video_count()).map(|video| (video, self.traffic.plan.video_id(video)))
    }

    /// Compares the counters, the score and the owner of every video in MongoDB.
    fn compare_counts(&self, videos: &BTreeMap<String, ArchivedVideo>) -> Vec<String> {
        let mut different = Vec::new();
        for (nth, id) in self.our_videos() {
            let Some(video) = videos.get(&id) else {
                different.push(format!("MongoDB: {id} is missing"));
                continue;
            };
            let tally = self.traffic.record.tally_of_video(nth);
            let faults = tally.check(&id, &video.counters, video.score, Some(&Weights::default()));
            different.extend(faults.into_iter().map(|fault| format!("MongoDB: {}", fault.description)));
            let owner = self.traffic.plan.owner_of(nth);
            if video.owner != owner {
                different.push(format!("MongoDB: {id} belongs to {} instead of {owner}", video.owner));
            }
        }
        let known: Vec<String> = self.our_videos().map(|(_, id)| id).collect();
        let strange = videos.keys().filter(|id| !known.contains(id) && !id.starts_with(moderator::PREFIX));
        different.extend(strange.map(|id| format!("MongoDB: nobody sent anything for {id}")));
        different
    }

    /// Compares every video's score on the board in Redis with its score in MongoDB.
    async fn compare_boards(&self, videos: &BTreeMap<String, ArchivedVideo>) -> anyhow::Result<Vec<String>> {
        let board = self.connect_redis().await?.sorted_set(&format!("{}global_ranking", self.prefix)).await?;
        let mut different = Vec::new();
        for (id, video) in videos {
            match board.get(id) {
                Some(score) if (score - video.score).abs() < 1e-6 => {}
                found => different
                    .push(format!("Redis: {id} has a score of {found:?}, and {} in MongoDB", video.score)),
            }
        }
        let strange = board.keys().filter(|id| !videos.contains_key(*id));
        different.extend(strange.map(|id| format!("Redis: {id} is not in MongoDB")));
        Ok(different)
    }

    /// Compares every video's comments: sequence numbers 1, 2, … without holes, each text as it was posted, as many
    /// comments as the video's `last_seq`, and viewers that have all of them.
    async fn compare_comments(
        &self,
        archive: &mut Member,
        videos: &BTreeMap<String, ArchivedVideo>,
    ) -> anyhow::Result<Vec<String>> {
        let fields = doc! { "_id": 0, "seq": 1, "comment": 1 };
        let mut different = Vec::new();
        for (nth, id) in self.our_videos() {
            let filter = doc! { "video_id": &id };
            let sort = doc! { "seq": 1 };
            let found = archive.find(&self.database_name(), "comments", filter, fields.clone(), sort).await?;
            let mut history = Vec::new();
            for comment in &found {
                let number = comment_number(comment.get_str("comment")?);
                history.push((whole_number(comment, "seq")? as u64, number));
            }
            let faults = self.traffic.record.comment_oracle.check_history(nth, &history);
            different.extend(faults.into_iter().map(|fault| format!("MongoDB, {id}: {}", fault.description)));
            let head = videos.get(&id).map_or(0, |video| video.last_seq);
            if head != history.len() as u64 {
                different.push(format!("MongoDB: {id} says {head} comments, and has {}", history.len()));
            }
            for viewer in self.traffic.viewers.iter().filter(|viewer| viewer.video == nth) {
                let faults = lock_ignoring_poison(&viewer.log).check(head);
                different.extend(faults.into_iter().map(|fault| fault.description));
            }
        }
        Ok(different)
    }

    /// Compares the list of every gateway and the last list of the WebSocket client; for `patience`, because lists
    /// follow the boards a moment later.
    async fn compare_lists(
        &self,
        videos: &BTreeMap<String, ArchivedVideo>,
        patience: Duration,
    ) -> Vec<String> {
        let expected: BTreeMap<&str, (f64, &str)> =
            videos.iter().map(|(id, video)| (id.as_str(), (video.score, video.owner.as_str()))).collect();
        // The WebSocket client keeps what the load posts to, and not the moderator's videos.
        let of_load = expected.iter().filter(|(id, _)| !id.starts_with(moderator::PREFIX));
        let of_load = of_load.map(|(id, line)| (*id, *line)).collect();
        let deadline = Instant::now() + patience;
        loop {
            let mut different = compare("the WebSocket list", &self.traffic.watchers.last_list(), &of_load);
            for gateway in &self.system.gateways {
                match fetch_ranking(gateway).await {
                    Ok(lines) => different.extend(compare(gateway, &lines, &expected)),
                    Err(error) => different.push(format!("{gateway} does not answer: {error:#}")),
                }
            }
            if different.is_empty() || Instant::now() >= deadline {
                return different;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

async fn fetch_ranking(gateway: &str) -> anyhow::Result<Vec<ListLine>> {
    let answer = reqwest::get(format!("{gateway}/videos?limit=1000")).await?.error_for_status()?;
    let mut body: serde_json::Value = answer.json().await?;
    Ok(serde_json::from_value(body["videos"].take())?)
}

fn compare(name: &str, lines: &[ListLine], expected: &BTreeMap<&str, (f64, &str)>) -> Vec<String> {
    let mut different = Vec::new();
    if !is_best_first(lines) {
        different.push(format!("{name} is not in order"));
    }
    let mut missing = expected.clone();
    for line in lines {
        match missing.remove(line.video_id.as_str()) {
            Some((score, owner)) if (score - line.score).abs() < 1e-6 && owner == line.user_id => {}
            due => different.push(format!("{name} has {line:?} instead of {due:?}")),
        }
    }
    different.extend(missing.keys().map(|id| format!("{name} lacks {id}")));
    different
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_differs_is_reported() {
        let expected = [("a", (3.0, "o")), ("b", (2.0, "o"))].into();
        let count = |lines: &[(&str, f64)]| {
            let line = |(id, score): &(&str, f64)| ListLine {
                video_id: (*id).into(),
                score: *score,
                user_id: "o".into(),
            };
            compare("it", &lines.iter().map(line).collect::<Vec<_>>(), &expected).len()
        };
        assert_eq!(count(&[("a", 3.0), ("b", 2.0)]), 0);
        assert_eq!(count(&[("b", 2.0), ("a", 3.0)]), 1);
        assert_eq!(count(&[("a", 3.0)]), 1);
        assert_eq!(count(&[("a", 4.0), ("b", 2.0)]), 1);
        assert_eq!(count(&[("a", 3.0), ("b", 2.0), ("c", 1.0)]), 1);
    }
}
