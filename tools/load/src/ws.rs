//! Simulated WebSocket clients: all count the messages that they get, the first ones check them, and one keeps the
//! whole list for the comparison at the end.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use crate::oracle::{FoundFault, OracleFaultKind};
use crate::plan::PostingPlan;
use crate::poster::EventPoster;
use crate::record::{RunRecord, lock_ignoring_poison};
use crate::targets::TargetAddresses;

/// The time within which a server must accept a connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time of silence after which a connection is taken for dead. A server pings every 20 s, so this is three times as
/// long.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);
/// The time before a client reconnects.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The number of clients that check their lists. All clients get the same lists, and parsing them for thousands of
/// clients would be most of this program's work.
const MAX_CHECKING_CLIENTS: usize = 4;
/// The read buffer of a client, in bytes; it is small because there may be thousands of clients.
const READ_BYTES: usize = 16 * 1024;
/// The time between two probes, chosen so that each probe meets another phase of the interval at which lists are sent.
const PROBE_EVERY: Duration = Duration::from_millis(330);
/// The time for which a probe waits until a list shows it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// One line of a ranked list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ListLine {
    /// The id of the video.
    pub video_id: String,
    /// The score of the video, in points.
    pub score: f64,
    /// The user id of the video's owner.
    pub user_id: String,
}

/// A message of a WebSocket in the mode `delta`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ListUpdate {
    Snapshot { version: u64, videos: Vec<ListLine> },
    Delta { base: u64, version: u64, remove: Vec<String>, set: Vec<ListLine> },
}

/// A list that is kept up to date by deltas; it holds the videos of this run only.
#[derive(Debug, Default)]
struct DeltaList {
    version: Option<u64>,
    lines: HashMap<String, ListLine>,
}

impl DeltaList {
    fn apply_update(&mut self, update: ListUpdate, prefix: &str) -> Option<FoundFault> {
        let ours = |line: &ListLine| line.video_id.starts_with(prefix);
        let keep = |line: ListLine| (line.video_id.clone(), line);
        match update {
            ListUpdate::Snapshot { version, videos } => {
                self.version = Some(version);
                self.lines = videos.into_iter().filter(ours).map(keep).collect();
                None
            }
            ListUpdate::Delta { base, version, remove, set } => {
                let held = self.version.replace(version);
                for video in &remove {
                    self.lines.remove(video);
                }
                self.lines.extend(set.into_iter().filter(ours).map(keep));
                (held != Some(base)).then(|| {
                    let what = format!("a delta from version {base} came to who holds {held:?}");
                    FoundFault::new(OracleFaultKind::Different, 1, what)
                })
            }
        }
    }
}

/// Returns true if the list has the best video first, and equal scores in descending byte order of the video's id.
pub fn is_best_first(lines: &[ListLine]) -> bool {
    lines.windows(2).all(|pair| {
        let (a, b) = (&pair[0], &pair[1]);
        a.score > b.score
            || (a.score.total_cmp(&b.score).is_eq() && a.video_id.as_bytes() > b.video_id.as_bytes())
    })
}

/// The state that all WebSocket clients share.
pub struct ListWatchers {
    targets: TargetAddresses,
    record: Arc<RunRecord>,
    prefix: String,
    probe_id: String,
    kept_list: Mutex<DeltaList>,
    /// The score of the probe's video, as last seen on a list.
    probe_score: watch::Sender<f64>,
}

impl ListWatchers {
    /// Creates the clients of the gateways in `targets`.
    pub fn new(targets: TargetAddresses, record: Arc<RunRecord>, plan: &PostingPlan) -> Arc<Self> {
        Arc::new(Self {
            targets,
            record,
            prefix: format!("{}-v", plan.prefix()),
            probe_id: plan.video_id(plan.probe_video()),
            kept_list: Mutex::default(),
            probe_score: watch::Sender::new(0.0),
        })
    }

    /// Returns the last list: this run's videos, best first.
    pub fn last_list(&self) -> Vec<ListLine> {
        let mut lines: Vec<ListLine> =
            lock_ignoring_poison(&self.kept_list).lines.values().cloned().collect();
        lines.sort_by(|a, b| {
            b.score.total_cmp(&a.score).then_with(|| b.video_id.as_bytes().cmp(a.video_id.as_bytes()))
        });
        lines
    }

    /// Waits until a list shows the probe's video with at least this score. Returns false if `patience` is over before.
    pub async fn wait_for_probe_score(&self, score: f64, patience: Duration) -> bool {
        let mut seen = self.probe_score.subscribe();
        tokio::time::timeout(patience, seen.wait_for(|seen| *seen >= score)).await.is_ok()
    }

    /// Watches as the `nth` client until the run is over. Client 0 keeps the whole list by deltas; the others alternate
    /// between full lists and deltas of the top.
    pub async fn watch_until_over(self: Arc<Self>, nth: usize, over: CancellationToken) {
        let path = match nth {
            0 => "/ws/videos?mode=delta&limit=all",
            nth if nth % 2 == 1 => "/ws/videos",
            _ => "/ws/videos?mode=delta",
        };
        for time in 0.. {
            if time > 0 {
                self.record.counts.ws_reconnects.fetch_add(1, Relaxed);
            }
            tokio::select! {
                _ = self.run_session(nth, path) => {}
                () = over.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER.mul_f64(rand::random_range(0.5..=1.5))) => {}
                () = over.cancelled() => return,
            }
        }
    }

    async fn run_session(&self, nth: usize, path: &str) -> anyhow::Result<()> {
        let target = self.targets.next_target();
        let config = WebSocketConfig::default().read_buffer_size(READ_BYTES).write_buffer_size(0);
        let mut request = websocket_url(&target.url(path)).into_client_request()?;
        if let Some(value) = self.targets.authorization() {
            request.headers_mut().insert(AUTHORIZATION, value.parse()?);
        }
        let connecting = connect_async_with_config(request, Some(config), true);
        let connected = tokio::time::timeout(ANSWER_TIMEOUT, connecting).await;
        let (mut socket, _) =
            connected.map_err(anyhow::Error::from).and_then(|done| Ok(done?)).inspect_err(|_| {
                self.targets.note_failed(&target);
            })?;
        loop {
            let message = tokio::time::timeout(SILENCE_TIMEOUT, socket.next()).await?;
            match message.ok_or_else(|| anyhow::anyhow!("the connection ended"))?? {
                Message::Text(text) => {
                    self.record.counts.received_lists.fetch_add(1, Relaxed);
                    if nth < MAX_CHECKING_CLIENTS {
                        self.check_list(nth, &text);
                    }
                }
                Message::Close(_) => return Ok(()),
                _ => {}
            }
        }
    }

    fn check_list(&self, nth: usize, text: &str) {
        let fault = if nth == 0 {
            match serde_json::from_str::<ListUpdate>(text) {
                Ok(update) => self.apply_to_kept_list(update),
                Err(error) => Some(unreadable_fault(&error)),
            }
        } else if nth % 2 == 1 {
            match serde_json::from_str::<Vec<ListLine>>(text) {
                Ok(lines) if is_best_first(&lines) => None,
                Ok(_) => {
                    Some(FoundFault::new(OracleFaultKind::OutOfOrder, 1, "a ranked list is not in order"))
                }
                Err(error) => Some(unreadable_fault(&error)),
            }
        } else {
            serde_json::from_str::<ListUpdate>(text).err().as_ref().map(unreadable_fault)
        };
        if let Some(fault) = fault {
            self.record.note_fault(fault);
        }
    }

    fn apply_to_kept_list(&self, update: ListUpdate) -> Option<FoundFault> {
        let (fault, score) = {
            let mut kept = lock_ignoring_poison(&self.kept_list);
            let fault = kept.apply_update(update, &self.prefix);
            (fault, kept.lines.get(&self.probe_id).map(|line| line.score))
        };
        if let Some(score) = score {
            self.probe_score.send_if_modified(|seen| std::mem::replace(seen, score) < score);
        }
        fault
    }
}

fn unreadable_fault(error: &serde_json::Error) -> FoundFault {
    FoundFault::new(OracleFaultKind::Different, 1, format!("a list that cannot be read: {error}"))
}

fn websocket_url(url: &Url) -> String {
    let text = url.as_str();
    text.strip_prefix("http").map_or_else(|| text.to_owned(), |rest| format!("ws{rest}"))
}

/// Posts views of the probe's video again and again, and records the time until a list shows each.
pub async fn probe_lists(
    poster: &EventPoster,
    plan: &PostingPlan,
    watchers: &ListWatchers,
    record: &RunRecord,
    stop: &CancellationToken,
) {
    if record.points_per_view() <= 0.0 {
        // Where a view is worth nothing, no list shows that it came.
        return;
    }
    for number in 0.. {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PROBE_EVERY.mul_f64(rand::random_range(0.7..=1.3))) => {}
        }
        let posted_us = record.now_us();
        let event = plan.probe_event(number);
        // One view created the video, and each later view adds what a view is worth.
        let score = (number as f64 + 2.0) * record.points_per_view();
        let seen = async {
            if watchers.wait_for_probe_score(score, PROBE_TIMEOUT).await {
                record.list_latency.note_latency(0, record.now_us() - posted_us);
            }
        };
        let (acknowledged, ()) = tokio::join!(poster.post(&event), seen);
        if !acknowledged {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, score: f64) -> ListLine {
        ListLine { video_id: id.into(), score, user_id: "o".into() }
    }

    fn update(text: &str) -> ListUpdate {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn order_is_by_score_and_then_by_id_downwards() {
        assert!(is_best_first(&[line("a", 2.0), line("c", 1.0), line("b", 1.0)]));
        assert!(!is_best_first(&[line("a", 1.0), line("b", 2.0)]));
        assert!(!is_best_first(&[line("b", 1.0), line("c", 1.0)]));
        assert!(!is_best_first(&[line("b", 1.0), line("b", 1.0)]), "a video is there once");
        assert!(is_best_first(&[]));
    }

    #[test]
    fn deltas_are_kept_and_a_skipped_version_is_caught() {
        let mut kept = DeltaList::default();
        let snapshot = r#"{"type":"snapshot","version":3,"videos":[
            {"video_id":"p-1","score":2.0,"user_id":"o"},{"video_id":"other","score":1.0,"user_id":"o"}]}"#;
        assert!(kept.apply_update(update(snapshot), "p-").is_none());
        assert_eq!(kept.lines.len(), 1);
        let delta = r#"{"type":"delta","base":3,"version":4,"remove":["p-1"],"set":[{"video_id":"p-2","score":5.0,"user_id":"o"}]}"#;
        assert!(kept.apply_update(update(delta), "p-").is_none());
        assert_eq!(kept.lines.keys().collect::<Vec<_>>(), ["p-2"]);
        let skipped = r#"{"type":"delta","base":6,"version":7,"remove":[],"set":[]}"#;
        assert_eq!(kept.apply_update(update(skipped), "p-").unwrap().kind, OracleFaultKind::Different);
    }
}
