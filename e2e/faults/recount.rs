//! Counts the log anew, in a way of its own: what each video must have, of all time and of each hour. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use serde_json::Value;

/// The delay, in milliseconds, up to which an event counts in the hour of its own time.
const LATE_MS: i64 = 60_000;
/// One hour, in milliseconds.
pub const HOUR_MS: i64 = 3_600_000;
/// The watch time from which a watch is a long one, in seconds.
const LONG_WATCH_SECONDS: f64 = 2.0;

/// A record of the log.
#[derive(Debug)]
pub struct LoggedRecord {
    /// The partition of the record.
    pub partition: usize,
    /// The offset of the record in its partition.
    pub offset: i64,
    /// The time at which the broker took the record, in milliseconds since 1970.
    pub broker_ms: i64,
    /// The record's JSON.
    pub value: Value,
}

impl LoggedRecord {
    /// Reads a line of the console consumer with `print.timestamp`, `print.partition` and `print.offset`.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let mut parts = line.splitn(5, '\t');
        let mut member = |name: &str| {
            let text = parts.next().and_then(|part| part.strip_prefix(name)?.strip_prefix(':'));
            text.with_context(|| format!("no {name}"))
        };
        // The broker's time, and no other.
        let (time, partition, offset) = (member("LogAppendTime")?, member("Partition")?, member("Offset")?);
        let (broker_ms, partition, offset) = (time.parse()?, partition.parse()?, offset.parse()?);
        let value = serde_json::from_str(parts.nth(1).context("no value")?)?;
        Ok(Self { partition, offset, broker_ms, value })
    }

    fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }

    fn identity(&self) -> Option<String> {
        let of_event = |id: &str| format!("{} {} {id}", self.text("video_id"), self.text("user_id"));
        let comment = self.value["comment_id"].as_str().map(|id| format!("comment {id}"));
        comment.or_else(|| self.value["event_id"].as_str().map(of_event))
    }

    /// The time as of which the record counts.
    fn counted_ms(&self) -> i64 {
        let own = self.value["timestamp"].as_f64().map_or(self.broker_ms, |at| (at * 1000.0).round() as i64);
        own.clamp(self.broker_ms - LATE_MS, self.broker_ms)
    }
}

/// The number of counted events of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Views.
    pub view: i64,
    /// Likes that were not taken back.
    pub like: i64,
    /// Comments.
    pub comment: i64,
    /// Shares.
    pub share: i64,
    /// Watches of less than two seconds.
    pub watch_short: i64,
    /// Other watches.
    pub watch_long: i64,
}

impl EventCounts {
    fn counter(&mut self, record: &LoggedRecord) -> Option<&mut i64> {
        let is_long = record.value["watch_time"].as_f64().unwrap_or(0.0) >= LONG_WATCH_SECONDS;
        Some(match record.text("type") {
            "view" => &mut self.view,
            "like" => &mut self.like,
            "comment" => &mut self.comment,
            "share" => &mut self.share,
            "watch_time" if is_long => &mut self.watch_long,
            "watch_time" => &mut self.watch_short,
            _ => return None,
        })
    }
}

/// A video by the log.
#[derive(Debug, Clone, Default)]
pub struct VideoByLog {
    /// The counted events of all time.
    pub counts: EventCounts,
    /// The counted events of each hour, by the hour's number since 1970.
    pub hours: BTreeMap<i64, EventCounts>,
    /// The users who like the video, with the time as of which each like counts.
    pub likers: BTreeMap<String, i64>,
    /// The title and the category that the video was given last.
    pub title: Option<String>,
    /// The category.
    pub category: Option<String>,
}

/// Counts the log, of which records of one video by its users are in the order of the log. Likes count once a user.
pub fn recount(log: &[LoggedRecord]) -> HashMap<String, VideoByLog> {
    let mut videos: HashMap<String, VideoByLog> = HashMap::new();
    let mut counted = HashSet::new();
    for record in log {
        if record.identity().is_some_and(|identity| !counted.insert(identity)) {
            continue;
        }
        let (kind, user) = (record.text("type"), record.text("user_id"));
        if kind == "moderation" {
            describe(&mut videos, record);
            continue;
        }
        let video = videos.entry(record.text("video_id").to_owned()).or_default();
        let at = record.counted_ms();
        let hour = video.hours.entry(at / HOUR_MS).or_default();
        match kind {
            "unlike" => {
                if let Some(liked_at) = video.likers.remove(user) {
                    video.counts.like -= 1;
                    hour.like -= i64::from(liked_at / HOUR_MS == at / HOUR_MS);
                }
                continue;
            }
            "like" if video.likers.contains_key(user) => continue,
            "like" => {
                video.likers.insert(user.to_owned(), at);
            }
            _ => {}
        }
        for counts in [&mut video.counts, hour] {
            if let Some(counter) = counts.counter(record) {
                *counter += 1;
            }
        }
    }
    videos
}

fn describe(videos: &mut HashMap<String, VideoByLog>, record: &LoggedRecord) {
    let action = &record.value["moderation"];
    if action["action"] == "put_video" {
        let video = videos.entry(record.text("video_id").to_owned()).or_default();
        let text = |field: &str| action["metadata"][field].as_str().map(str::to_owned);
        (video.title, video.category) = (text("title"), text("category"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(records: &[(i64, Value)]) -> Vec<LoggedRecord> {
        let record = |(broker_ms, value): &(i64, Value)| LoggedRecord {
            partition: 0,
            offset: 0,
            broker_ms: *broker_ms,
            value: {
                let mut value = value.clone();
                value["video_id"] = "v".into();
                value
            },
        };
        records.iter().map(record).collect()
    }

    #[test]
    fn an_event_counts_once_in_the_hour_of_its_own_time_as_far_as_the_log_allows() {
        let view =
            |id: &str, at: Value| json!({"type": "view", "user_id": "u", "event_id": id, "timestamp": at});
        let records = [
            (HOUR_MS + 10_000, view("in time", json!(3599.0))),
            (HOUR_MS + 10_000, view("in time", json!(3601.0))),
            (HOUR_MS + 90_000, view("too late", json!(3599.0))),
            (HOUR_MS - 1, view("ahead", json!(9999.0))),
            (HOUR_MS, view("without a time", Value::Null)),
        ];
        let video = &recount(&log(&records))["v"];
        assert_eq!((video.counts.view, video.hours[&0].view, video.hours[&1].view), (4, 2, 2));
    }

    #[test]
    fn a_like_counts_once_a_user_and_is_taken_back_within_its_hour_only() {
        let by = |kind: &str, user: &str, id: u32| json!({"type": kind, "user_id": user, "event_id": format!("{id}")});
        let records = [
            (1, by("like", "ann", 1)),
            (2, by("like", "ann", 2)),
            (3, by("unlike", "ann", 3)),
            (4, by("unlike", "ann", 4)),
            (5, by("like", "ben", 5)),
            (HOUR_MS + 1, by("unlike", "ben", 6)),
            (HOUR_MS + 2, by("like", "ann", 7)),
        ];
        let video = &recount(&log(&records))["v"];
        assert_eq!((video.counts.like, video.hours[&0].like, video.hours[&1].like), (1, 1, 1));
        assert_eq!(video.likers.keys().collect::<Vec<_>>(), ["ann"]);
    }

    #[test]
    fn what_was_said_last_of_a_video_holds_and_held_comments_do_not_count() {
        let put = |category: &str| json!({"type": "moderation", "moderation": {"action": "put_video", "metadata": {"category": category}}});
        let held = json!({"type": "moderation", "moderation": {"action": "hold"}});
        let comment = json!({"type": "comment", "comment_id": "c"});
        let records = [(1, put("pets")), (2, put("other")), (3, held), (4, comment.clone()), (5, comment)];
        let video = &recount(&log(&records))["v"];
        assert_eq!((video.category.as_deref(), video.counts.comment), (Some("other"), 1));
    }

    #[test]
    fn a_line_of_the_consumer_is_read() {
        let line = "LogAppendTime:1700000000123\tPartition:3\tOffset:7\tnull\t{\"type\":\"view\"}";
        let record = LoggedRecord::parse(line).unwrap();
        assert_eq!((record.broker_ms, record.text("type")), (1_700_000_000_123, "view"));
        assert!(LoggedRecord::parse("CreateTime:1\tPartition:3\tOffset:7\tnull\t{}").is_err());
    }
}
