//! The lists of boards at rest: in order, each video once, as many as they say, and with exactly the points that the
//! counts make where the board says by which weights.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use liverank_core::score::{Weights, points_of_thousandths};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::oracle::{FoundFault, OracleFaultKind};
use crate::patient::{PatientClient, RETRY_PAUSE};
use crate::plan::PostingPlan;
use crate::record::RunRecord;
use crate::targets::TargetAddresses;
use crate::verify::VideoAnswer;
use crate::ws::ListLine;

/// The number of videos in a page: the largest that the API allows.
const PAGE_ITEMS: usize = 1000;
/// The number of requests in flight at once.
const MAX_QUESTIONS_AT_ONCE: usize = 16;
/// The greatest difference of two equal numbers of points, which are sums of thousandths.
const SAME_POINTS: f64 = 1e-6;

#[derive(Deserialize)]
struct Boards {
    boards: Vec<BoardDescription>,
}

/// A board as `GET /boards` tells it.
#[derive(Debug, Clone, Deserialize)]
struct BoardDescription {
    name: String,
    order: String,
    /// The points of one event of each kind; `None` if those of all boards count.
    weights: Option<BTreeMap<String, f64>>,
    category: Option<String>,
    minimum: f64,
    windows: Option<Value>,
}

#[derive(Deserialize)]
struct BoardPage {
    videos: Vec<ListLine>,
    total: u64,
    next: Option<String>,
}

/// A whole list, as its pages tell it.
struct WholeList {
    lines: Vec<ListLine>,
    /// The number of videos on the board, as the last page tells it.
    total: u64,
}

/// Compares the lists of boards with what the run has counted.
pub struct BoardLists {
    requests: PatientClient,
    plan: PostingPlan,
    names: Vec<String>,
}

impl BoardLists {
    /// Creates the comparison of the boards with these names.
    pub fn new(client: Client, targets: TargetAddresses, plan: PostingPlan, names: &[String]) -> Self {
        Self { requests: PatientClient::new(client, targets), plan, names: names.to_vec() }
    }

    /// Checks every board; what is wrong at the deadline is noted as a fault. Returns whether all is right. `weights` are
    /// those in force; `None`: nobody knows them, and points by them are not compared.
    pub async fn verify(&self, weights: Option<&Weights>, record: &RunRecord, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut pending = self.names.clone();
        loop {
            let mut wrong = Vec::new();
            for name in &pending {
                match self.compare(name, weights).await {
                    Ok(faults) if faults.is_empty() => {}
                    Ok(faults) => wrong.push((name.clone(), faults)),
                    Err(why) => {
                        let what = format!("the board {name} cannot be compared: {why}");
                        wrong.push((name.clone(), vec![FoundFault::new(OracleFaultKind::Missing, 1, what)]));
                    }
                }
            }
            if wrong.is_empty() || Instant::now() >= deadline {
                let is_right = wrong.is_empty();
                wrong.into_iter().flat_map(|(_, faults)| faults).for_each(|fault| record.note_fault(fault));
                return is_right;
            }
            pending = wrong.into_iter().map(|(name, _)| name).collect();
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn compare(&self, name: &str, weights: Option<&Weights>) -> Result<Vec<FoundFault>, String> {
        let Boards { boards } = read(self.requests.get("/boards").await?)?;
        let board = boards.into_iter().find(|board| board.name == name).ok_or("there is no such board")?;
        let list = self.read_list(name).await?;
        let mut faults = compare_order(name, &list);
        if let Some(weights) = board.comparable_weights(weights) {
            faults.extend(compare_points(name, &self.own_lines(&list), &self.due(&board, &weights).await?));
        }
        Ok(faults)
    }

    async fn read_list(&self, name: &str) -> Result<WholeList, String> {
        let mut lines = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/videos?board={name}&limit={PAGE_ITEMS}{from}");
            let BoardPage { videos, total, next } = read(self.requests.get(&path).await?)?;
            lines.extend(videos);
            match next {
                Some(next) if lines.len() as u64 <= total => from = format!("&cursor={next}"),
                _ => return Ok(WholeList { lines, total }),
            }
        }
    }

    fn own_lines(&self, list: &WholeList) -> BTreeMap<String, f64> {
        let prefix = format!("{}-v", self.plan.prefix());
        let own = list.lines.iter().filter(|line| line.video_id.starts_with(&prefix));
        own.map(|line| (line.video_id.clone(), line.score)).collect()
    }

    /// Returns the points that each video of the run must have on the board, of those that belong there.
    async fn due(
        &self,
        board: &BoardDescription,
        weights: &Weights,
    ) -> Result<BTreeMap<String, f64>, String> {
        let points = stream::iter(0..=self.plan.video_count()).map(|video| self.points_of(video, weights));
        let points: Vec<_> = points.buffer_unordered(MAX_QUESTIONS_AT_ONCE).try_collect().await?;
        Ok(points.into_iter().filter(|(_, points)| *points >= board.minimum).collect())
    }

    /// Returns a video's id, and the points that its counts make by these weights.
    async fn points_of(&self, video: usize, weights: &Weights) -> Result<(String, f64), String> {
        let id = self.plan.video_id(video);
        let counted: VideoAnswer = read(self.requests.get(&format!("/videos/{id}")).await?)?;
        Ok((id, points_of_thousandths(counted.counters().score(weights))))
    }
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, String> {
    serde_json::from_value(answer).map_err(|error| error.to_string())
}

impl BoardDescription {
    /// Returns the weights by which the board's points follow from a video's counts, if `all` are those of all boards;
    /// `None` if they do not follow from the counts alone, or the weights are not known.
    fn comparable_weights(&self, all: Option<&Weights>) -> Option<Weights> {
        let all = all?;
        if self.order != "points" || self.category.is_some() || self.windows.is_some() {
            return None;
        }
        let Some(own) = &self.weights else { return Some(*all) };
        let of = |kind: &str| (own.get(kind).copied().unwrap_or_default() * 1000.0).round() as i64;
        Some(Weights {
            view: of("view"),
            like: of("like"),
            comment: of("comment"),
            share: of("share"),
            watch_short: of("watch_short"),
            watch_long: of("watch_long"),
            watch_threshold_ms: all.watch_threshold_ms,
        })
    }
}

/// Compares a list with what every list must be: best first, each video once, as many as the board says that it has.
fn compare_order(name: &str, list: &WholeList) -> Vec<FoundFault> {
    let mut faults = Vec::new();
    // Of a board that decays, points are those of the moment in which a page was made: they only fall from page to page.
    if list.lines.windows(2).any(|pair| pair[0].score + SAME_POINTS < pair[1].score) {
        faults.push(FoundFault::new(
            OracleFaultKind::OutOfOrder,
            1,
            format!("the board {name} is not in order"),
        ));
    }
    let ids: std::collections::HashSet<&str> = list.lines.iter().map(|line| line.video_id.as_str()).collect();
    if ids.len() < list.lines.len() {
        let what = format!("the board {name} has a video twice");
        faults.push(FoundFault::new(OracleFaultKind::Repeated, (list.lines.len() - ids.len()) as u64, what));
    }
    if list.lines.len() as u64 != list.total {
        let what = format!("the board {name} shows {} videos and says {}", list.lines.len(), list.total);
        faults.push(FoundFault::new(OracleFaultKind::Different, 1, what));
    }
    faults
}

fn compare_points(name: &str, shown: &BTreeMap<String, f64>, due: &BTreeMap<String, f64>) -> Vec<FoundFault> {
    let wrong = due.iter().filter_map(|(id, points)| match shown.get(id) {
        Some(found) if (found - points).abs() < SAME_POINTS => None,
        Some(found) => {
            let what = format!("the board {name} has {id} with {found} points instead of {points}");
            Some(FoundFault::new(OracleFaultKind::Different, 1, what))
        }
        None => Some(FoundFault::new(OracleFaultKind::Missing, 1, format!("the board {name} lacks {id}"))),
    });
    let strange = shown.keys().filter(|id| !due.contains_key(*id));
    let strange = strange.map(|id| {
        FoundFault::new(OracleFaultKind::Different, 1, format!("the board {name} has {id} and should not"))
    });
    wrong.chain(strange).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(lines: &[(&str, f64)], total: u64) -> WholeList {
        let line = |(id, score): &(&str, f64)| ListLine {
            video_id: (*id).into(),
            score: *score,
            user_id: "o".into(),
        };
        WholeList { lines: lines.iter().map(line).collect(), total }
    }

    fn kinds(faults: Vec<FoundFault>) -> Vec<OracleFaultKind> {
        faults.into_iter().map(|fault| fault.kind).collect()
    }

    #[test]
    fn a_list_is_in_order_has_each_once_and_is_as_long_as_it_says() {
        let of = |lines: &[(&str, f64)], total| kinds(compare_order("b", &list(lines, total)));
        assert_eq!(of(&[("a", 3.0), ("b", 2.0), ("c", 2.0)], 3), []);
        assert_eq!(of(&[("a", 2.0), ("b", 3.0)], 2), [OracleFaultKind::OutOfOrder]);
        assert_eq!(of(&[("a", 2.0), ("a", 2.0)], 2), [OracleFaultKind::Repeated]);
        assert_eq!(of(&[("a", 2.0)], 2), [OracleFaultKind::Different]);
    }

    #[test]
    fn points_are_exact_and_of_the_videos_that_belong_there() {
        let points =
            |all: &[(&str, f64)]| all.iter().map(|(id, points)| ((*id).to_owned(), *points)).collect();
        let due: BTreeMap<String, f64> = points(&[("a", 3.0), ("b", 2.0)]);
        let of = |shown: &[(&str, f64)]| kinds(compare_points("b", &points(shown), &due));
        assert_eq!(of(&[("a", 3.0), ("b", 2.0)]), []);
        assert_eq!(of(&[("a", 3.5), ("b", 2.0)]), [OracleFaultKind::Different]);
        assert_eq!(of(&[("a", 3.0)]), [OracleFaultKind::Missing]);
        assert_eq!(of(&[("a", 3.0), ("b", 2.0), ("c", 1.0)]), [OracleFaultKind::Different]);
    }

    #[test]
    fn points_follow_from_counts_on_boards_of_points_alone() {
        let board = |more: Value| -> BoardDescription {
            let mut board = json!({"name": "b", "order": "points", "weights": null, "category": null, "minimum": 0.0, "windows": null});
            board.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(board).unwrap()
        };
        let all = Weights::default();
        assert_eq!(board(json!({})).comparable_weights(Some(&all)), Some(all));
        assert_eq!(board(json!({})).comparable_weights(None), None);
        let own =
            board(json!({"weights": {"view": 0.0, "like": 1.5}})).comparable_weights(Some(&all)).unwrap();
        assert_eq!((own.view, own.like, own.share), (0, 1500, 0));
        for other in
            [json!({"order": "trending"}), json!({"category": "pets"}), json!({"windows": {"unit": "day"}})]
        {
            assert_eq!(board(other).comparable_weights(Some(&all)), None);
        }
    }
}
