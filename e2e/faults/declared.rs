//! Compares every declared board with a recount of the log: one with weights, one by category, and one of hours, of
//! which the hour that ended during the run is final.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, ensure};
use liverank_core::canary;
use liverank_core::windows::{WindowKind, WindowUnit};
use serde_json::Value;
use tokio::time::Instant;

use crate::moderator::Moderator;
use crate::recount::{EventCounts, HOUR_MS, LoggedRecord, VideoByLog, recount};
use crate::rest::RestChecker;

/// The boards that are declared.
pub const DECLARED: &str = r#"[
    {"name": "liked", "weights": {"like": 1, "share": 2}, "minimum": 3},
    {"name": "pets", "category": "pets"},
    {"name": "hourly", "window": "hour", "keep": 24, "weights": {"view": 1, "like": 4, "comment": 2, "share": 3, "watch_long": 2}}
]"#;
/// The weights of `hourly`, as the declaration has them, and those of all boards.
const HOURLY: EventCounts =
    EventCounts { view: 1, like: 4, comment: 2, share: 3, watch_short: 0, watch_long: 2 };
const WEIGHTS_OF_ALL_EVENTS: EventCounts =
    EventCounts { view: 1, like: 2, comment: 2, share: 3, watch_short: 1, watch_long: 2 };
const LIKED: EventCounts =
    EventCounts { view: 0, like: 1, comment: 0, share: 2, watch_short: 0, watch_long: 0 };
/// The points from which a video is on the board `liked`.
const LIKED_MINIMUM: i64 = 3;
/// The time after the end of an hour after which every later record is surely in a later one: a minute that an event
/// may be late, and half of one by which the clocks of brokers may differ. A second is for the waiting itself.
const FINAL_AFTER_MS: i64 = 91_000;
/// The pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The number of times that the log is read, until it is read as a whole.
const MAX_READS: usize = 4;

/// Videos and their points.
type Points = BTreeMap<String, i64>;

fn points(counts: &EventCounts, weights: &EventCounts) -> i64 {
    counts.view * weights.view
        + counts.like * weights.like
        + counts.comment * weights.comment
        + counts.share * weights.share
        + counts.watch_short * weights.watch_short
        + counts.watch_long * weights.watch_long
}

/// Returns what a board must show, by its name; `hour` is the number of the hour since 1970. Videos without points are
/// left out: whether they are on a board is not the question here.
fn expected_points(board: &str, videos: &HashMap<String, VideoByLog>, hour: i64) -> Points {
    let of = |video: &VideoByLog| match board {
        "liked" => Some(points(&video.counts, &LIKED)).filter(|points| *points >= LIKED_MINIMUM),
        "pets" if video.category.as_deref() == Some("pets") => {
            Some(points(&video.counts, &WEIGHTS_OF_ALL_EVENTS))
        }
        "hourly" => video.hours.get(&hour).map(|counts| points(counts, &HOURLY)),
        _ => None,
    };
    let ours = videos.iter().filter(|(id, _)| *id != canary::CANARY_ID);
    ours.filter_map(|(id, video)| Some((id.clone(), of(video).filter(|points| *points != 0)?))).collect()
}

impl RestChecker<'_> {
    /// Waits until the hour that ended at `hour_end_ms` is final by the log's own time, and compares every declared board
    /// at every gateway with the log. Returns the number of videos on each board.
    pub async fn compare_declared(
        &self,
        hour_end_ms: i64,
        moderator: &Moderator,
        patience: Duration,
    ) -> anyhow::Result<BTreeMap<String, usize>> {
        let left = hour_end_ms + FINAL_AFTER_MS - self.system.clock.now_ms();
        tokio::time::sleep(Duration::from_millis(left.max(0) as u64)).await;
        // An idle partition says nothing of the log's time: each gets one more record.
        self.traffic.append_to_each_partition(self.topic).await?;
        self.wait_until_at_rest(patience).await?;
        let videos = recount(&self.read_whole_log().await?);
        compare_acknowledged(&videos, moderator)?;
        let ended = hour_end_ms / HOUR_MS - 1;
        let mut sizes = BTreeMap::new();
        for (name, board, hour) in [
            ("liked", "liked", 0),
            ("pets", "pets", 0),
            ("the ended hour", "hourly", ended),
            ("the running hour", "hourly", ended + 1),
        ] {
            let due = expected_points(board, &videos, hour);
            ensure!(!due.is_empty(), "{name} is empty by the log: the run had nothing for it");
            let window = (board == "hourly").then_some(hour);
            self.compare_board(board, window, hour == ended && window.is_some(), &due, patience)
                .await
                .with_context(|| format!("the board {board}, {name}"))?;
            sizes.insert(name.to_owned(), due.len());
        }
        Ok(sizes)
    }

    /// Reads the log until it is read as a whole: the consumer ends where nothing comes for some seconds, which a broker
    /// on a busy machine may take.
    async fn read_whole_log(&self) -> anyhow::Result<Vec<LoggedRecord>> {
        for _ in 1..MAX_READS {
            if let Ok(log) = self.read_log().await {
                return Ok(log);
            }
        }
        self.read_log().await
    }

    /// Returns the whole log as it is now, as Kafka's own console consumer reads it.
    async fn read_log(&self) -> anyhow::Result<Vec<LoggedRecord>> {
        let ends = self.topic.end_offsets().await?;
        let topic = format!("{}video_interactions", self.prefix);
        // Until nothing more comes: the canary goes on, so a number of records would be full before all partitions are read.
        let words = ["consume", &topic, "--property", "print.timestamp=true"];
        let text = self.parts.testbed(&words).await?;
        let log: Vec<LoggedRecord> = text
            .lines()
            .map(|line| LoggedRecord::parse(line).with_context(|| line.to_owned()))
            .collect::<anyhow::Result<_>>()?;
        let log: Vec<LoggedRecord> =
            log.into_iter().filter(|record| record.offset < ends[record.partition]).collect();
        let count: i64 = ends.iter().sum();
        ensure!(log.len() as i64 == count, "{} of {count} records are read", log.len());
        Ok(log)
    }

    async fn compare_board(
        &self,
        board: &str,
        hour: Option<i64>,
        is_final: bool,
        due: &Points,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        for gateway in &self.system.gateways {
            loop {
                let compared = compare_list(gateway, board, hour, is_final, due).await;
                match compared {
                    Ok(()) => break,
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        }
        Ok(())
    }
}

async fn compare_list(
    gateway: &str,
    board: &str,
    hour: Option<i64>,
    is_final: bool,
    due: &Points,
) -> anyhow::Result<()> {
    let window = match hour {
        Some(hour) => format!("&window={}", hour_name(hour)?),
        None => String::new(),
    };
    let url = format!("{gateway}/videos?board={board}&limit=1000{window}");
    let list: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
    let line = |line: &Value| {
        let points = line["score"].as_f64().filter(|score| *score != 0.0)?;
        Some((line["video_id"].as_str()?.to_owned(), points))
    };
    let lines: BTreeMap<String, f64> =
        list["videos"].as_array().context("no list")?.iter().filter_map(line).collect();
    let due: BTreeMap<String, f64> = due.iter().map(|(id, points)| (id.clone(), *points as f64)).collect();
    ensure!(lines == due, "{gateway} shows {lines:?}, and the log makes {due:?}");
    let state = &list["window"]["state"];
    ensure!(!is_final || state == "final", "{gateway} says of the hour that ended: {state}");
    ensure!(hour.is_none() || list["window"]["whole"] == true, "{gateway} says {}", list["window"]);
    Ok(())
}

/// Returns the name of an hour, as 2026-11-28T14.
fn hour_name(hour: i64) -> anyhow::Result<String> {
    let kind = WindowKind::new(WindowUnit::Hour, "UTC")?;
    Ok(kind.window_name(&kind.window_of(hour * HOUR_MS)))
}

/// Compares the log with what was acknowledged: each like is there or it is not, and each thing that was said of a
/// video was said.
fn compare_acknowledged(videos: &HashMap<String, VideoByLog>, moderator: &Moderator) -> anyhow::Result<()> {
    let known = moderator.acknowledged();
    for (id, likers) in &known.likers {
        let found: Vec<&String> =
            videos.get(id).map(|video| video.likers.keys().collect()).unwrap_or_default();
        let due: Vec<&String> = likers.iter().collect();
        ensure!(found == due, "{id} is liked by {found:?} in the log, and by {due:?} as acknowledged");
    }
    for (id, title) in &known.titles {
        let found = videos.get(id).and_then(|video| video.title.as_ref());
        ensure!(found == Some(title), "{id} is called {found:?} in the log, and {title:?} as acknowledged");
    }
    ensure!(!known.titles.is_empty() && !known.likers.is_empty(), "the moderator did nothing");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_shows_the_videos_that_its_declaration_takes() {
        let video = |like, category: &str| VideoByLog {
            counts: EventCounts { view: 1, like, ..EventCounts::default() },
            hours: [(7, EventCounts { view: 1, ..EventCounts::default() })].into(),
            category: Some(category.to_owned()),
            ..VideoByLog::default()
        };
        let videos = [("a".to_owned(), video(2, "pets")), ("b".to_owned(), video(3, "other"))].into();
        assert_eq!(expected_points("liked", &videos, 0), [("b".to_owned(), 3)].into());
        assert_eq!(expected_points("pets", &videos, 0), [("a".to_owned(), 5)].into());
        assert_eq!(expected_points("hourly", &videos, 7), [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
        assert_eq!(expected_points("hourly", &videos, 8), Points::new());
        assert_eq!(hour_name(487_727).unwrap(), "2025-08-21T23");
    }
}
