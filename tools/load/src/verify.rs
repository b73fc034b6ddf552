//! Compares, after the posting, the system's counts, comments and lists with the acknowledged events, and waits for at
//! most a given time until they agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, stream};
use liverank_core::score::{Counters, Weights};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::oracle::{FoundFault, OracleFaultKind};
use crate::plan::{PostingPlan, comment_number};
use crate::record::{RunRecord, lock_ignoring_poison};
use crate::targets::TargetAddresses;
use crate::viewer::LoadViewer;
use crate::ws::{ListLine, ListWatchers, is_best_first};

/// The time between two checks of everything that is not right yet.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// The number of requests in flight at once.
const MAX_REQUESTS_AT_ONCE: usize = 16;
/// The number of items in a page of a history or of the ranking: the largest that the API allows.
const PAGE_ITEMS: usize = 1000;
/// The time within which the system must tell the weights by which it counts.
const WEIGHTS_TIMEOUT: Duration = Duration::from_secs(10);
/// The time within which a server must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The answer of `GET /videos/{video_id}`.
#[derive(Debug, Deserialize)]
pub(crate) struct VideoAnswer {
    user_id: String,
    score: f64,
    views: i64,
    likes: i64,
    comments: i64,
    shares: i64,
    /// The watched time, in seconds.
    watch_time_total: f64,
    watch_short: i64,
    watch_long: i64,
}

impl VideoAnswer {
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            views: self.views,
            likes: self.likes,
            comments: self.comments,
            shares: self.shares,
            watch_ms: (self.watch_time_total * 1000.0).round() as i64,
            watch_short: self.watch_short,
            watch_long: self.watch_long,
        }
    }
}

#[derive(Deserialize)]
struct HistoryPage {
    comments: Vec<HistoryComment>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct HistoryComment {
    seq: u64,
    comment: String,
}

#[derive(Deserialize)]
struct RankingPage {
    videos: Vec<ListLine>,
    next: Option<String>,
}

/// Compares what the system answers with what the run has recorded.
pub struct RunVerifier {
    /// The HTTP client of all requests.
    pub client: Client,
    /// The addresses of the gateways.
    pub targets: TargetAddresses,
    /// The plan of the run.
    pub plan: PostingPlan,
    /// The record of what was posted and acknowledged.
    pub record: Arc<RunRecord>,
    /// All viewers of the run.
    pub viewers: Vec<Arc<LoadViewer>>,
    /// The WebSocket clients, one of which keeps the last list; `None` if the run has no such clients.
    pub watchers: Option<Arc<ListWatchers>>,
}

impl RunVerifier {
    /// Checks everything again and again until all is right, or `patience` is over; what is wrong then is noted as a
    /// fault. Returns true if the system came to rest in time.
    pub async fn wait_until_right(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (scores, counted) = self.verify_counts(deadline).await;
        let (heads, remembered) = self.verify_histories(deadline).await;
        let seen = self.verify_viewers(&heads, deadline).await;
        let expected = self.expected_list(&scores);
        let ranked = self.verify_ranking(&expected, deadline).await;
        let listed = self.verify_last_list(&expected, deadline).await;
        counted && remembered && seen && ranked && listed
    }

    /// Checks every video's counts. Returns the scores by video, and whether all counts are right.
    async fn verify_counts(&self, deadline: Instant) -> (BTreeMap<usize, f64>, bool) {
        let weights = match self.fetch_weights(deadline).await {
            Ok(weights) => Some(weights),
            Err(error) => {
                self.record.note_scores_not_compared(format!("{error:#}"));
                None
            }
        };
        let mut scores = BTreeMap::new();
        let mut pending: Vec<usize> = (0..=self.plan.video_count()).collect();
        loop {
            let looked: Vec<_> = stream::iter(pending)
                .map(|video| self.verify_video_counts(video, weights.as_ref()))
                .buffer_unordered(MAX_REQUESTS_AT_ONCE)
                .collect()
                .await;
            let mut wrong = Vec::new();
            for (video, score, faults) in looked {
                scores.extend(score.map(|score| (video, score)));
                if !faults.is_empty() {
                    wrong.push((video, faults));
                }
            }
            if wrong.is_empty() || Instant::now() >= deadline {
                let right = wrong.is_empty();
                self.note_faults(wrong.into_iter().flat_map(|(_, faults)| faults));
                return (scores, right);
            }
            pending = wrong.into_iter().map(|(video, _)| video).collect();
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Returns the weights by which the system counts now; asks again, for at most [`WEIGHTS_TIMEOUT`], if the system
    /// does not return them.
    pub(crate) async fn fetch_weights(&self, deadline: Instant) -> anyhow::Result<Weights> {
        let until = deadline.min(Instant::now() + WEIGHTS_TIMEOUT);
        loop {
            let told = self.get_json::<Value>("/operate").await;
            let told = told.context("the system does not tell its weights").and_then(|answer| {
                Weights::from_json(&answer["weights"])
                    .context("the system does not tell its weights, or has others than this release knows")
            });
            match told {
                Err(_) if Instant::now() < until => tokio::time::sleep(POLL_EVERY).await,
                told => return told,
            }
        }
    }

    async fn verify_video_counts(
        &self,
        video: usize,
        weights: Option<&Weights>,
    ) -> (usize, Option<f64>, Vec<FoundFault>) {
        let id = self.plan.video_id(video);
        let found = match self.get_json::<VideoAnswer>(&format!("/videos/{id}")).await {
            Ok(found) => found,
            Err(error) => {
                let what = format!("{id} cannot be read: {error:#}");
                return (video, None, vec![FoundFault::new(OracleFaultKind::Missing, 1, what)]);
            }
        };
        let mut faults =
            self.record.tally_of_video(video).check(&id, &found.counters(), found.score, weights);
        if found.user_id != self.plan.owner_of(video) {
            let what = format!("{id} belongs to {} instead of {}", found.user_id, self.plan.owner_of(video));
            faults.push(FoundFault::new(OracleFaultKind::Different, 1, what));
        }
        (video, Some(found.score), faults)
    }

    /// Checks every video's comments. Returns the number of comments by video, and whether all histories are right.
    async fn verify_histories(&self, deadline: Instant) -> (BTreeMap<usize, u64>, bool) {
        let mut heads = BTreeMap::new();
        let mut pending: Vec<usize> = (0..self.plan.video_count()).collect();
        loop {
            let looked: Vec<_> = stream::iter(pending)
                .map(|video| self.verify_history(video))
                .buffer_unordered(MAX_REQUESTS_AT_ONCE)
                .collect()
                .await;
            let mut wrong = Vec::new();
            for (video, head, faults) in looked {
                heads.insert(video, head);
                if !faults.is_empty() {
                    wrong.push((video, faults));
                }
            }
            if wrong.is_empty() || Instant::now() >= deadline {
                let right = wrong.is_empty();
                self.note_faults(wrong.into_iter().flat_map(|(_, faults)| faults));
                return (heads, right);
            }
            pending = wrong.into_iter().map(|(video, _)| video).collect();
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn verify_history(&self, video: usize) -> (usize, u64, Vec<FoundFault>) {
        match self.read_history(video).await {
            Ok(history) => {
                let faults = self.record.comment_oracle.check_history(video, &history);
                (video, history.last().map_or(0, |(seq, _)| *seq), faults)
            }
            Err(error) => {
                let what = format!("the comments of video {video} cannot be read: {error:#}");
                (video, 0, vec![FoundFault::new(OracleFaultKind::Missing, 1, what)])
            }
        }
    }

    /// Returns a video's comments, ascending by seq; they are read newest first, as clients do.
    async fn read_history(&self, video: usize) -> anyhow::Result<Vec<(u64, Option<usize>)>> {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let from = before.map(|seq| format!("&before={seq}")).unwrap_or_default();
            let path = format!("/comments/{}?limit={PAGE_ITEMS}{from}", self.plan.video_id(video));
            let page = self.get_json::<HistoryPage>(&path).await?;
            all.extend(page.comments.iter().map(|comment| (comment.seq, comment_number(&comment.comment))));
            match page.next {
                Some(next) if before.is_none_or(|before| next < before) => before = Some(next),
                Some(next) => anyhow::bail!("the history goes on at {next} after {before:?}"),
                None => break,
            }
        }
        all.reverse();
        Ok(all)
    }

    async fn verify_viewers(&self, heads: &BTreeMap<usize, u64>, deadline: Instant) -> bool {
        let head = |viewer: &LoadViewer| heads.get(&viewer.video).copied().unwrap_or(0);
        loop {
            let all = self
                .viewers
                .iter()
                .all(|viewer| lock_ignoring_poison(&viewer.log).has_everything_up_to(head(viewer)));
            if all || Instant::now() >= deadline {
                for viewer in &self.viewers {
                    let faults = lock_ignoring_poison(&viewer.log).check(head(viewer));
                    self.note_faults(faults);
                }
                return all;
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    fn expected_list(&self, scores: &BTreeMap<usize, f64>) -> BTreeMap<String, (f64, String)> {
        let line = |(video, score): (&usize, &f64)| {
            (self.plan.video_id(*video), (*score, self.plan.owner_of(*video)))
        };
        scores.iter().map(line).collect()
    }

    async fn verify_ranking(&self, expected: &BTreeMap<String, (f64, String)>, deadline: Instant) -> bool {
        loop {
            let faults = match self.read_ranking().await {
                Ok(lines) => compare_list("the ranking", &lines, expected),
                Err(error) => {
                    vec![FoundFault::new(
                        OracleFaultKind::Missing,
                        1,
                        format!("the ranking cannot be read: {error:#}"),
                    )]
                }
            };
            if let Some(right) = self.conclude_check(faults, deadline).await {
                return right;
            }
        }
    }

    async fn verify_last_list(&self, expected: &BTreeMap<String, (f64, String)>, deadline: Instant) -> bool {
        let Some(watchers) = &self.watchers else { return true };
        loop {
            let faults = compare_list("the last WebSocket list", &watchers.last_list(), expected);
            if let Some(right) = self.conclude_check(faults, deadline).await {
                return right;
            }
        }
    }

    fn note_faults(&self, faults: impl IntoIterator<Item = FoundFault>) {
        for fault in faults {
            self.record.note_fault(fault);
        }
    }

    /// Returns `Some(true)` if the check found no fault, `Some(false)` at the deadline, and `None` if the check has to
    /// be repeated. At the deadline, the faults are noted.
    async fn conclude_check(&self, faults: Vec<FoundFault>, deadline: Instant) -> Option<bool> {
        if faults.is_empty() {
            return Some(true);
        }
        if Instant::now() >= deadline {
            self.note_faults(faults);
            return Some(false);
        }
        tokio::time::sleep(POLL_EVERY).await;
        None
    }

    /// Returns this run's lines of the whole ranking, in the ranking's order.
    async fn read_ranking(&self) -> anyhow::Result<Vec<ListLine>> {
        let prefix = format!("{}-v", self.plan.prefix());
        let mut ours = Vec::new();
        let mut cursor = String::new();
        loop {
            let from = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
            let page = self.get_json::<RankingPage>(&format!("/videos?limit={PAGE_ITEMS}{from}")).await?;
            ours.extend(page.videos.into_iter().filter(|line| line.video_id.starts_with(&prefix)));
            match page.next {
                Some(next) if next != cursor => cursor = next,
                Some(next) => anyhow::bail!("the ranking goes on at {next} again"),
                None => return Ok(ours),
            }
        }
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let target = self.targets.next_target();
        let answer = self.client.get(target.url(path)).timeout(ANSWER_TIMEOUT).send().await;
        let answer = answer.inspect_err(|_| self.targets.note_failed(&target))?;
        let status = answer.status();
        let body = answer.bytes().await?;
        anyhow::ensure!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("the answer to {path}"))
    }
}

/// Compares a list with what it must be: the same videos, scores and owners, best first.
fn compare_list(
    name: &str,
    lines: &[ListLine],
    expected: &BTreeMap<String, (f64, String)>,
) -> Vec<FoundFault> {
    let mut faults = Vec::new();
    if !is_best_first(lines) {
        faults.push(FoundFault::new(OracleFaultKind::OutOfOrder, 1, format!("{name} is not in order")));
    }
    let mut missing = expected.clone();
    for line in lines {
        match missing.remove(&line.video_id) {
            Some((score, owner)) if (score - line.score).abs() < 1e-6 && owner == line.user_id => {}
            Some((score, owner)) => {
                let what = format!("{name} has {line:?} instead of {score} of {owner}");
                faults.push(FoundFault::new(OracleFaultKind::Different, 1, what));
            }
            None => {
                let what = format!("{name} has {} and should not, or not again", line.video_id);
                faults.push(FoundFault::new(OracleFaultKind::Repeated, 1, what));
            }
        }
    }
    faults.extend(
        missing.keys().map(|id| FoundFault::new(OracleFaultKind::Missing, 1, format!("{name} lacks {id}"))),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(lines: &[(&str, f64)]) -> Vec<OracleFaultKind> {
        let expected = [("a", 3.0), ("b", 2.0), ("c", 2.0)];
        let expected = expected.map(|(id, score)| (id.to_owned(), (score, "o".to_owned()))).into();
        let lines: Vec<ListLine> = lines
            .iter()
            .map(|(id, score)| ListLine { video_id: (*id).into(), score: *score, user_id: "o".into() })
            .collect();
        compare_list("it", &lines, &expected).into_iter().map(|fault| fault.kind).collect()
    }

    #[test]
    fn a_list_that_differs_is_a_fault() {
        assert_eq!(wrongs(&[("a", 3.0), ("c", 2.0), ("b", 2.0)]), []);
        assert_eq!(wrongs(&[("a", 3.0), ("c", 2.0)]), [OracleFaultKind::Missing]);
        assert_eq!(wrongs(&[("a", 3.0), ("b", 2.0), ("c", 2.0)]), [OracleFaultKind::OutOfOrder]);
        assert_eq!(wrongs(&[("a", 4.0), ("c", 2.0), ("b", 2.0)]), [OracleFaultKind::Different]);
        assert_eq!(wrongs(&[("a", 3.0), ("c", 2.0), ("b", 2.0), ("d", 1.0)]), [OracleFaultKind::Repeated]);
        assert_eq!(wrongs(&[]), [OracleFaultKind::Missing; 3]);
    }
}
