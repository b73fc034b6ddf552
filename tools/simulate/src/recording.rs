//! Traffic from recorded load reports: shows the effect of other policies and readers on the same traffic.
//!
//! A recording is text: each line is one answer of a manager's `GET /load`. Only the readers' `videos` (pairs of a
//! video and its viewers on that reader) and `capacity` are used, and `at` (milliseconds) if the line has it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::scenario::Scenario;
use crate::traffic::{Traffic, TrafficTick, ViewerChange};

/// The traffic of a recording.
#[derive(Debug, Clone)]
pub struct RecordedTraffic {
    /// The average time between two reports.
    pub tick_length: Duration,
    /// For each report after the first: the number of viewers of each video that has any.
    pub steps: Vec<Vec<(usize, u64)>>,
}

#[derive(Deserialize)]
struct RecordedLine {
    #[serde(default)]
    at: Option<u64>,
    readers: Vec<RecordedReader>,
}

#[derive(Deserialize)]
struct RecordedReader {
    capacity: u64,
    #[serde(default)]
    videos: Vec<(String, u64)>,
}

/// Returns the scenario of a recording. The recording's reports are `interval` apart, unless all of them have the time
/// `at`.
pub fn scenario(text: &str, interval: Duration) -> anyhow::Result<Scenario> {
    let lines: Vec<RecordedLine> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("line {}", at + 1)))
        .collect::<anyhow::Result<_>>()?;
    ensure!(!lines.is_empty(), "has no load report");
    let times: Vec<u64> = lines.iter().filter_map(|line| line.at).collect();
    let tick_length = match (times.first(), times.last()) {
        (Some(first), Some(last)) if times.len() == lines.len() && last > first => {
            Duration::from_millis((last - first) / (times.len() as u64 - 1))
        }
        _ => interval,
    };
    let reports: Vec<BTreeMap<String, u64>> = lines.iter().map(viewers_by_video).collect();
    let video_names: Vec<String> = reports
        .iter()
        .flat_map(BTreeMap::keys)
        .cloned()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let numbers: HashMap<&str, usize> =
        video_names.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
    let number = |report: &BTreeMap<String, u64>| -> Vec<(usize, u64)> {
        report.iter().map(|(name, viewers)| (numbers[name.as_str()], *viewers)).collect()
    };
    let mut video_audiences = vec![0; video_names.len()];
    for (video, viewers) in number(&reports[0]) {
        video_audiences[video] = viewers;
    }
    let steps = reports[1..].iter().map(number).collect();
    let first = &lines[0].readers;
    Ok(Scenario {
        name: format!("{} recorded load reports", lines.len()),
        reader_count: first.len(),
        capacity: first.iter().map(|reader| reader.capacity).max().unwrap_or(20_000).max(1),
        traffic: Traffic::Recorded(RecordedTraffic { tick_length, steps }),
        video_audiences,
        video_names,
        hot_video_viewers: 15_000,
        tolerance: 100,
        max_moved_per_minute: 20_000,
    })
}

fn viewers_by_video(line: &RecordedLine) -> BTreeMap<String, u64> {
    let mut videos = BTreeMap::new();
    for (video, viewers) in line.readers.iter().flat_map(|reader| &reader.videos) {
        *videos.entry(video.clone()).or_insert(0) += viewers;
    }
    videos
}

impl RecordedTraffic {
    /// Returns the ticks of the recording: the differences from one report to the next, starting from the audiences
    /// `begin`.
    pub fn ticks<'a>(&'a self, begin: &[u64]) -> impl Iterator<Item = TrafficTick> + use<'a> {
        let mut viewers = begin.to_vec();
        self.steps.iter().map(move |report| {
            let mut now = vec![0; viewers.len()];
            for (video, count) in report {
                now[*video] = *count;
            }
            let changes = viewers
                .iter()
                .zip(&now)
                .enumerate()
                .filter(|(_, (before, after))| before != after)
                .map(|(video, (&before, &after))| ViewerChange {
                    video,
                    arriving_viewers: after.saturating_sub(before),
                    leaving_viewers: before.saturating_sub(after),
                })
                .collect();
            viewers = now;
            TrafficTick { changes, ..TrafficTick::default() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_REPORTS: &str = r#"{"readers":[{"id":"a","capacity":100,"videos":[["x",5],["y",1]]},{"id":"b","capacity":100,"videos":[["x",2]]}]}
{"readers":[{"id":"a","capacity":100,"videos":[["z",4],["x",6]]}]}
"#;

    #[test]
    fn reports_become_arrivals_and_departures() {
        let scenario = scenario(TWO_REPORTS, Duration::from_secs(5)).unwrap();
        assert_eq!(
            (scenario.reader_count, scenario.capacity, scenario.video_audiences.clone()),
            (2, 100, vec![7, 1, 0])
        );
        let ticks: Vec<TrafficTick> = scenario.traffic.ticks(&scenario.video_audiences, 0).collect();
        let change = |video, arriving_viewers, leaving_viewers| ViewerChange {
            video,
            arriving_viewers,
            leaving_viewers,
        };
        assert_eq!(ticks[0].changes, [change(0, 0, 1), change(1, 0, 1), change(2, 4, 0)]);
        assert_eq!(scenario.traffic.tick_length(), Duration::from_secs(5));
    }

    #[test]
    fn a_wrong_line_is_named_in_the_error() {
        let error = scenario("{\"readers\":[]}\n{\"rea", Duration::from_secs(1)).unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
        assert!(scenario("", Duration::from_secs(1)).is_err());
    }
}
