//! The audience agent: all viewers of the pod, in named crowds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::StreamExt;
use reqwest::{Client, Url};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::poster::CommentPoster;
use super::viewer::{AudienceViewer, ConnectMode};
use super::{AudienceReport, SettledAnswer, WantedCrowd, WantedList};

/// The most faults of a kind that a report describes in words.
const MAX_FAULTS_REPORTED: usize = 10;
/// The pause before a WebSocket that ended is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(300);

struct WatchingViewer {
    viewer: Arc<AudienceViewer>,
    task: JoinHandle<()>,
}

impl Drop for WatchingViewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A crowd, with the viewers of it that have arrived.
#[derive(Default)]
struct PresentCrowd {
    wanted: usize,
    viewers: Vec<WatchingViewer>,
    /// The faults of viewers that have left the crowd.
    faults_of_departed: ViewerFaults,
}

#[derive(Debug, Clone, Default)]
struct ViewerFaults {
    count: u64,
    descriptions: Vec<String>,
}

impl ViewerFaults {
    fn add_viewer_faults(&mut self, viewer: &AudienceViewer) {
        let seen = viewer.record();
        self.count += seen.fault_count;
        let room = MAX_FAULTS_REPORTED.saturating_sub(self.descriptions.len());
        let told = seen.faults.iter().take(room);
        self.descriptions.extend(told.map(|fault| format!("{} of {}: {fault}", viewer.user, viewer.video)));
    }
}

/// All viewers of the audience agent by the name of their crowd, and the poster of comments.
pub struct ClusterAudience {
    client: Client,
    gateway: Url,
    crowds: Mutex<BTreeMap<String, PresentCrowd>>,
    /// The task that posts comments.
    pub poster: Arc<CommentPoster>,
}

impl ClusterAudience {
    /// Creates an audience without viewers; `gateway` is the URL that viewers and the poster use.
    pub fn new(gateway: Url) -> anyhow::Result<Arc<Self>> {
        // Each connection resolves its host name anew (the client has no DNS cache), because a reader's Service is
        // deleted with the reader.
        let client = Client::builder().connect_timeout(Duration::from_secs(3)).no_proxy().build()?;
        let poster = CommentPoster::new(client.clone(), gateway.clone());
        Ok(Arc::new(Self { client, gateway, crowds: Mutex::default(), poster }))
    }

    fn lock_crowds(&self) -> MutexGuard<'_, BTreeMap<String, PresentCrowd>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the number of viewers of the crowd `name`: new viewers arrive at the crowd's rate, viewers too many leave
    /// at once.
    pub fn set_crowd(self: &Arc<Self>, name: String, crowd: WantedCrowd) {
        {
            let mut crowds = self.lock_crowds();
            let present = crowds.entry(name.clone()).or_default();
            present.wanted = crowd.viewers;
            while present.viewers.len() > crowd.viewers {
                let gone = present.viewers.pop().expect("there are some");
                present.faults_of_departed.add_viewer_faults(&gone.viewer);
            }
        }
        let audience = Arc::clone(self);
        tokio::spawn(async move {
            let pace = Duration::from_secs_f64(1.0 / crowd.arrivals.max(1) as f64);
            while audience.admit_one(&name, &crowd) {
                tokio::time::sleep(pace).await;
            }
        });
    }

    /// Adds one viewer to a crowd if it has fewer than are wanted; returns whether a viewer was added.
    fn admit_one(&self, name: &str, crowd: &WantedCrowd) -> bool {
        let mut crowds = self.lock_crowds();
        let Some(present) = crowds.get_mut(name) else { return false };
        if present.viewers.len() >= present.wanted.min(crowd.viewers) {
            return false;
        }
        let user = format!("{name}-{}", present.viewers.len());
        let viewer = AudienceViewer::new(user, crowd.video.clone(), crowd.way);
        let pod = crowd.gateway.map(|address| format!("http://{address}").parse());
        let gateway = pod.map_or_else(|| self.gateway.clone(), |url| url.expect("an address makes a URL"));
        let task = tokio::spawn(Arc::clone(&viewer).watch_forever(self.client.clone(), gateway));
        present.viewers.push(WatchingViewer { viewer, task });
        true
    }

    fn for_each_viewer(&self, mut what: impl FnMut(&AudienceViewer)) {
        for present in self.lock_crowds().values() {
            present.viewers.iter().for_each(|watching| what(&watching.viewer));
        }
    }

    /// Returns the number of viewers of the crowd `name` that each reader greeted last, by the reader's name. Viewers
    /// that have no stream are left out.
    pub fn crowd_by_reader(&self, name: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for watching in self.lock_crowds().get(name).into_iter().flat_map(|present| &present.viewers) {
            let seen = watching.viewer.record();
            if let Some(reader) = seen.instance.clone().filter(|_| seen.connected) {
                *counts.entry(reader).or_default() += 1;
            }
        }
        counts
    }

    /// Returns the report of what all viewers saw.
    pub fn report(&self) -> AudienceReport {
        let mut report = AudienceReport::default();
        let mut faults = ViewerFaults::default();
        for present in self.lock_crowds().values() {
            report.viewers += present.wanted;
            faults.count += present.faults_of_departed.count;
            faults.descriptions.extend(present.faults_of_departed.descriptions.iter().cloned());
        }
        self.for_each_viewer(|viewer| {
            let seen = viewer.record();
            report.connected += usize::from(seen.connected);
            if !seen.connected && report.without.len() < MAX_FAULTS_REPORTED {
                let (user, video) = (&viewer.user, &viewer.video);
                report.without.push(format!("{user} of {video} since {}", seen.last_end));
            }
            report.comments += seen.comments;
            report.reconnects += seen.reconnects;
            let away_ms = seen.longest_away.as_millis() as u64;
            if away_ms > report.longest_away_ms {
                report.longest_away_ms = away_ms;
                let attempts = seen.longest_attempts.join(", ");
                report.longest_attempts = format!("{} ({:?}): {attempts}", viewer.user, viewer.connect_mode);
            }
            if viewer.connect_mode == ConnectMode::Direct {
                report.moved += usize::from(seen.moves > 0);
                if seen.moves > report.most_moves {
                    report.most_moves = seen.moves;
                    let moves = seen.moves_in_words.join(", ");
                    report.most_moves_in_words = format!("{} of {}: {moves}", viewer.user, viewer.video);
                }
                report.moved_twice += usize::from(seen.moves > 1);
            }
            drop(seen);
            faults.add_viewer_faults(viewer);
        });
        (report.fault_count, report.faults) = (faults.count, faults.descriptions);
        report
    }

    /// Resets the counts of comments, reconnects and moves of all viewers; faults are kept.
    pub fn forget_events(&self) {
        self.for_each_viewer(|viewer| viewer.record().forget_events());
    }

    /// Checks that every acknowledged comment has a sequence number, and that every viewer received every comment.
    pub async fn check_settled(&self) -> SettledAnswer {
        let mut settled = SettledAnswer::default();
        let posted = self.poster.posted_counts();
        let mut videos: BTreeSet<String> = posted.acknowledged.keys().cloned().collect();
        self.for_each_viewer(|viewer| {
            videos.insert(viewer.video.clone());
        });
        let mut heads = BTreeMap::new();
        for video in videos {
            match self.fetch_last_comment_seq(&video).await {
                Ok(head) => {
                    let acknowledged = posted.acknowledged.get(&video).copied().unwrap_or(0);
                    if head != acknowledged {
                        settled
                            .wrong
                            .push(format!("{video}: {acknowledged} acknowledged and {head} numbered"));
                    }
                    heads.insert(video, head);
                }
                Err(error) => settled.wrong.push(format!("{video}: {error:#}")),
            }
        }
        if posted.pending > 0 {
            settled.wrong.push(format!("{} comments are not acknowledged", posted.pending));
        }
        self.for_each_viewer(|viewer| {
            let at = viewer.record().position.as_ref().map_or(0, |(_, seq)| *seq);
            if heads.get(&viewer.video) == Some(&at) {
                settled.level += 1;
            } else if settled.wrong.len() < MAX_FAULTS_REPORTED {
                settled.wrong.push(format!("{} of {} stands at {at}", viewer.user, viewer.video));
            }
        });
        settled
    }

    /// Reads what the WebSocket `/ws/videos` pushes until it is the wanted list, and returns that list; the error names the
    /// last list. The first list may be an older one: the service's copy of the ranking gets a change a moment after the
    /// ranking itself. A WebSocket that ends is opened again.
    pub async fn wait_for_pushed_list(&self, wanted: &WantedList) -> anyhow::Result<Value> {
        let mut url = self.gateway.join("/ws/videos")?;
        url.set_scheme("ws").map_err(|()| anyhow!("{url} cannot be a WebSocket's"))?;
        let (mut last, mut end) = (Value::Null, String::new());
        let read = async {
            loop {
                match read_lists(url.as_str(), wanted, &mut last).await {
                    Ok(found) => return found,
                    Err(error) => end = format!("{error:#}"),
                }
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
        };
        let read = tokio::time::timeout(Duration::from_millis(wanted.within_ms), read).await;
        read.map_err(|_| {
            let (lines, ms) = (&wanted.lines, wanted.within_ms);
            anyhow!("{lines:?} were not pushed within {ms} ms; the last list: {last}; the WebSocket's last end: {end:?}")
        })
    }

    /// The sequence number of a video's last comment; 0 if the video has no comments.
    async fn fetch_last_comment_seq(&self, video: &str) -> anyhow::Result<u64> {
        let url = self.gateway.join(&format!("/comments/{video}?limit=1"))?;
        let answer =
            self.client.get(url).timeout(Duration::from_secs(10)).send().await?.error_for_status()?;
        let history: Value = answer.json().await?;
        let comments = history["comments"].as_array().context("no comments in a history")?;
        Ok(comments.first().and_then(|comment| comment["seq"].as_u64()).unwrap_or(0))
    }
}

/// Opens a WebSocket and returns the first list on it that is the wanted one. `last` gets each list that comes; an error
/// means that the WebSocket could not be opened, or ended.
async fn read_lists(url: &str, wanted: &WantedList, last: &mut Value) -> anyhow::Result<Value> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    loop {
        let message = socket.next().await.context("the WebSocket ended")??;
        if !message.is_text() {
            continue;
        }
        *last = serde_json::from_str(message.to_text()?)?;
        if wanted.is_in(last) {
            return Ok(last.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::{Bytes, Message};

    use super::*;

    fn list(lines: &[(&str, f64)]) -> Value {
        lines.iter().map(|(id, score)| json!({"video_id": id, "score": score, "user_id": "o"})).collect()
    }

    fn wanted(within_ms: u64) -> WantedList {
        WantedList { lines: vec![("first".to_owned(), 6.0), ("second".to_owned(), 2.0)], within_ms }
    }

    /// Starts a server. Its first WebSocket pushes the first of these groups of lists and ends, and so on; after the last group
    /// the WebSocket stays open.
    async fn audience_of_server(sockets: Vec<Vec<Value>>) -> Arc<ClusterAudience> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            let count = sockets.len();
            for (nth, lists) in sockets.into_iter().enumerate() {
                let (stream, _) = listener.accept().await.unwrap();
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                socket.send(Message::Ping(Bytes::new())).await.unwrap();
                for list in lists {
                    socket.send(Message::text(list.to_string())).await.unwrap();
                }
                if nth + 1 == count {
                    open.push(socket);
                }
            }
            std::future::pending::<()>().await;
        });
        ClusterAudience::new(format!("http://{address}").parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_pushed_list_is_waited_for_over_older_lists_and_ended_sockets() {
        let right = list(&[("other", 9.0), ("first", 6.0), ("second", 2.0)]);
        let lists = vec![vec![list(&[])], vec![list(&[("first", 4.0)]), right.clone(), list(&[])]];
        let audience = audience_of_server(lists).await;
        assert_eq!(audience.wait_for_pushed_list(&wanted(60_000)).await.unwrap(), right);
    }

    #[tokio::test]
    async fn a_list_that_never_comes_is_told_with_the_last_one() {
        let wrong_order = list(&[("second", 2.0), ("first", 6.0)]);
        let audience = audience_of_server(vec![vec![list(&[]), wrong_order.clone()]]).await;
        let error = audience.wait_for_pushed_list(&wanted(2_000)).await.unwrap_err().to_string();
        assert!(error.contains(&format!("the last list: {wrong_order}")), "{error}");
    }
}
