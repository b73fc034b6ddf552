//! Simulated viewers: each holds one stream of comments, resumes it whenever it is lost, and records what it was sent.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liverank_core::StreamPosition;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::oracle::{FoundFault, OracleFaultKind, ViewerLog};
use crate::plan::comment_number;
use crate::record::{RunRecord, lock_ignoring_poison};
use crate::sse::{EventStream, ServerSentEvent};
use crate::targets::{TargetAddresses, connect_to, url_at};

/// The time within which a server must accept a connection, and answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time of silence after which a stream is taken for dead. A reader sends something every 15 s, so this is three
/// times as long.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
/// The shortest and the longest wait before a viewer reconnects; a wait that the server asks for is limited to this
/// range, too. A random part of up to half of the wait is left out, and nothing is added: a client that was asked to
/// wait 3 s waits no longer, as browsers do.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// The number of redirects from reader to reader that a viewer follows in a row.
const MAX_REDIRECTS: u32 = 3;
/// The number of bytes that a viewer reads at once: comments are short, and there are thousands of viewers.
const READ_BYTES: usize = 2048;
/// The receive buffer of a slow viewer, in bytes: small, so that it is soon full.
const SLOW_RECEIVE_BUFFER_BYTES: u32 = 4096;

/// The way in which viewers connect.
pub enum ConnectMode {
    /// Viewers connect to a gateway, which finds the reader.
    ThroughGateway(TargetAddresses),
    /// Viewers ask a manager and then connect to the reader itself, as the comments seed's client does.
    Direct(Client, TargetAddresses),
}

/// The settings and state that all viewers share who connect in the same way.
pub struct ViewerGroup {
    /// The way in which these viewers connect.
    pub connect_mode: ConnectMode,
    /// The record that the viewers write their observations to.
    pub record: Arc<RunRecord>,
    /// True until the first post: a viewer who connects before is at the beginning of its video.
    pub nothing_posted_yet: AtomicBool,
    /// Cancelled when the posting is over, so that slow viewers read again.
    pub posting_over: CancellationToken,
    /// Cancelled when the run is over.
    pub run_over: CancellationToken,
}

/// One simulated viewer.
pub struct LoadViewer {
    /// The number of the viewer among all viewers.
    pub index: usize,
    /// The user id of the viewer.
    pub user: String,
    /// The number of the video in the plan.
    pub video: usize,
    /// The id of the video.
    pub video_id: String,
    /// True if the viewer does not read while others are posting.
    pub reads_slowly: bool,
    /// The record of the comments that the viewer was sent.
    pub log: Mutex<ViewerLog>,
    /// The time that the server asked to wait before reconnecting, in milliseconds.
    retry_ms: AtomicU64,
}

/// The data of an event: a comment, or the greeting at the start of a stream.
#[derive(Deserialize)]
struct EventData {
    r#type: Option<String>,
    comment: Option<String>,
    seq: Option<u64>,
}

/// The data of an event `gap`: the first and the last sequence number that were left out.
#[derive(Deserialize)]
struct GapData {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
struct RegisterAnswer {
    #[serde(rename = "readerUrl")]
    reader_url: String,
}

impl LoadViewer {
    /// Creates a viewer who has not connected yet.
    pub fn new(nth: usize, prefix: &str, video: usize, video_id: String, slow: bool) -> Arc<Self> {
        let user = format!("{prefix}-w{nth}");
        let log = Mutex::new(ViewerLog::new(format!("viewer {nth} of {video_id}"), slow));
        Arc::new(Self {
            index: nth,
            user,
            video,
            video_id,
            reads_slowly: slow,
            log,
            retry_ms: AtomicU64::new(0),
        })
    }

    /// Keeps a stream open, with reconnections, until the run is over.
    pub async fn watch_until_over(self: Arc<Self>, audience: Arc<ViewerGroup>) {
        let mut last_id: Option<String> = None;
        let mut times = 0u64;
        let mut lost_us = None;
        loop {
            let mut session = ViewerConnection {
                viewer: &self,
                viewer_group: &audience,
                last_id: &mut last_id,
                greeted_us: None,
                lost_us,
            };
            tokio::select! {
                // Whatever ended the stream, the viewer reconnects.
                _ = session.read_stream() => {}
                () = audience.run_over.cancelled() => return,
            }
            let greeted = session.greeted_us.is_some();
            drop(session);
            if greeted {
                times += 1;
                lost_us = Some(audience.record.now_us());
                audience.record.counts.reconnects.fetch_add(1, Relaxed);
            }
            // After the first loss the viewer reconnects soon, because nothing shows yet that more is wrong.
            let asked =
                Duration::from_millis(self.retry_ms.load(Relaxed)).clamp(RETRY_PAUSES.0, RETRY_PAUSES.1);
            let wait = if greeted && times == 1 { RETRY_PAUSES.0 } else { asked };
            tokio::select! {
                () = tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..=1.0))) => {}
                () = audience.run_over.cancelled() => return,
            }
        }
    }
}

/// One connection of a viewer.
struct ViewerConnection<'a> {
    viewer: &'a LoadViewer,
    viewer_group: &'a ViewerGroup,
    last_id: &'a mut Option<String>,
    /// The time at which this connection's stream began, in microseconds since the start of the run.
    greeted_us: Option<u64>,
    /// The time at which the viewer's stream before was lost, in microseconds since the start of the run.
    lost_us: Option<u64>,
}

impl Drop for ViewerConnection<'_> {
    fn drop(&mut self) {
        if self.greeted_us.is_some() {
            self.viewer_group.record.counts.connected_viewers.fetch_sub(1, Relaxed);
        }
    }
}

impl ViewerConnection<'_> {
    async fn read_stream(&mut self) -> anyhow::Result<()> {
        let mut socket = tokio::time::timeout(ANSWER_TIMEOUT, self.open_stream()).await??;
        let mut stream = EventStream::default();
        let mut bytes = [0; READ_BYTES];
        let mut events = Vec::new();
        let mut redirects = 0;
        loop {
            let count = tokio::time::timeout(SILENCE_TIMEOUT, socket.read(&mut bytes)).await??;
            anyhow::ensure!(count > 0, "the stream ended");
            let fed = stream.push_bytes(&bytes[..count], &mut |event| events.push(event));
            match (stream.status(), &stream.location) {
                (None | Some(200), _) => {}
                // A redirect is followed at once and with the same request, as browsers and the comments seed's client
                // do.
                (Some(307), Some(location)) if redirects < MAX_REDIRECTS => {
                    redirects += 1;
                    let url: Url = location.parse()?;
                    let method = if matches!(self.viewer_group.connect_mode, ConnectMode::Direct(..)) {
                        "POST"
                    } else {
                        "GET"
                    };
                    socket = tokio::time::timeout(ANSWER_TIMEOUT, self.connect_and_request(method, &url))
                        .await??;
                    stream = EventStream::default();
                    continue;
                }
                (Some(status), _) => anyhow::bail!("status {status}"),
            }
            events.drain(..).for_each(|event| self.handle_event(&event));
            anyhow::ensure!(fed.is_ok() && !stream.is_over(), "the stream ended");
            if self.viewer.reads_slowly && self.greeted_us.is_some() {
                self.viewer_group.posting_over.cancelled().await;
            }
        }
    }

    async fn open_stream(&self) -> anyhow::Result<TcpStream> {
        match &self.viewer_group.connect_mode {
            ConnectMode::ThroughGateway(targets) => {
                let target = targets.next_target();
                let (user, video) = (&self.viewer.user, &self.viewer.video_id);
                let url = target.url(&format!("/connect?userid={user}&videoid={video}"));
                self.connect_and_request("GET", &url).await.inspect_err(|_| targets.note_failed(&target))
            }
            ConnectMode::Direct(client, managers) => {
                let manager = managers.next_target();
                let body = json!({"videoid": self.viewer.video_id});
                let asked = client.post(manager.url("/register")).json(&body);
                let answer = asked.send().await.and_then(reqwest::Response::error_for_status);
                let answer = answer.inspect_err(|_| managers.note_failed(&manager))?;
                let url = url_at(&answer.json::<RegisterAnswer>().await?.reader_url.parse()?, "/connect");
                self.connect_and_request("POST", &url).await
            }
        }
    }

    /// Returns the header line with the token, for gateways; no reader is shown it.
    fn authorization(&self) -> String {
        let ConnectMode::ThroughGateway(targets) = &self.viewer_group.connect_mode else {
            return String::new();
        };
        targets.authorization().map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default()
    }

    /// Connects to the host of `url` and sends the request for the stream, with the last event id.
    async fn connect_and_request(&self, method: &str, url: &Url) -> anyhow::Result<TcpStream> {
        let viewer = self.viewer;
        let resume = self.last_id.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let (headers, body) = if method == "POST" {
            let body = json!({"userid": viewer.user, "videoid": viewer.video_id}).to_string();
            (format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()), body)
        } else {
            (String::new(), String::new())
        };
        let head = request_head(method, url, &format!("{resume}{headers}{}", self.authorization()));
        let mut socket =
            connect_to(url, viewer.index, viewer.reads_slowly.then_some(SLOW_RECEIVE_BUFFER_BYTES)).await?;
        socket.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
        Ok(socket)
    }

    fn handle_event(&mut self, event: &ServerSentEvent) {
        if let Some(retry) = event.retry {
            self.viewer.retry_ms.store(retry, Relaxed);
        }
        if let Some(remark) = &event.comment_line {
            if let Some((from, to)) = parse_gap_remark(remark) {
                self.handle_gap(from, to);
            }
            return;
        }
        if event.event_type == "gap" {
            match serde_json::from_str::<GapData>(&event.data) {
                Ok(gap) => self.handle_gap(gap.from, gap.to),
                Err(_) => self.note_format_fault(&format!("a gap that cannot be read: {}", event.data)),
            }
        } else if !event.data.is_empty() {
            self.handle_message(event);
        }
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
    }

    fn handle_message(&mut self, event: &ServerSentEvent) {
        let Ok(data) = serde_json::from_str::<EventData>(&event.data) else {
            return self.note_format_fault(&format!("data that cannot be read: {}", event.data));
        };
        let at = event.id.as_deref().and_then(|id| StreamPosition::parse(id).ok());
        if data.r#type.as_deref() == Some("connected") {
            let fresh = self.viewer_group.nothing_posted_yet.load(Relaxed);
            lock_ignoring_poison(&self.viewer.log).note_first_connection(at.as_ref(), fresh);
            let record = &self.viewer_group.record;
            let now_us = record.now_us();
            if self.greeted_us.replace(now_us).is_none() {
                record.counts.connected_viewers.fetch_add(1, Relaxed);
                if let Some(lost_us) = self.lost_us {
                    record
                        .interruption_latency
                        .note_latency(self.viewer.index, now_us.saturating_sub(lost_us));
                }
            }
            return;
        }
        match at.filter(|at| data.seq == Some(at.seq)) {
            Some(at) => self.handle_comment(&at, data.comment.as_deref().unwrap_or_default()),
            None => {
                self.note_format_fault(&format!(
                    "a comment whose id {:?} is not its place: {}",
                    event.id, event.data
                ));
            }
        }
    }

    fn handle_comment(&self, at: &StreamPosition, text: &str) {
        let record = &self.viewer_group.record;
        record.counts.delivered.fetch_add(1, Relaxed);
        match record.comment_oracle.note_shown(comment_number(text), self.viewer.video, at.seq) {
            // The latencies of a slow viewer are caused by the viewer itself, so they are not recorded.
            Ok(posted_us) if !self.viewer.reads_slowly => {
                let latency_us = record.now_us().saturating_sub(posted_us);
                record.delivery_latency.note_latency(self.viewer.index, latency_us);
                // A comment that was posted while the viewer had no stream had to wait for the stream.
                if self.greeted_us.is_some_and(|greeted_us| greeted_us <= posted_us) {
                    record.live_delivery_latency.note_latency(self.viewer.index, latency_us);
                }
            }
            Ok(_) => {}
            Err(fault) => record.note_fault(fault),
        }
        let fault = lock_ignoring_poison(&self.viewer.log).note_comment(at);
        if let Some(fault) = fault {
            record.note_fault(fault);
        }
    }

    fn handle_gap(&self, from: u64, to: u64) {
        let fault = lock_ignoring_poison(&self.viewer.log).note_gap(from, to);
        if let Some(fault) = fault {
            self.viewer_group.record.note_fault(fault);
        }
    }

    fn note_format_fault(&self, what: &str) {
        let what = format!("viewer {} was given {what}", self.viewer.index);
        self.viewer_group.record.note_fault(FoundFault::new(OracleFaultKind::Different, 1, what));
    }
}

pub(crate) fn request_head(method: &str, url: &Url, headers: &str) -> String {
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let host = url.host_str().unwrap_or("localhost");
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{headers}")
}

/// Parses a comment line of the form `gap from=3 to=9`.
fn parse_gap_remark(remark: &str) -> Option<(u64, u64)> {
    let (from, to) = remark.strip_prefix("gap from=")?.split_once(" to=")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_for_clients_that_post_is_a_remark() {
        assert_eq!(parse_gap_remark("gap from=3 to=9"), Some((3, 9)));
        assert_eq!(parse_gap_remark(""), None);
        assert_eq!(parse_gap_remark("gap from=x to=9"), None);
    }

    #[test]
    fn a_request_names_its_host_and_path() {
        let url: Url = "http://h:8080/connect?userid=a&videoid=b".parse().unwrap();
        let head = request_head("GET", &url, "Last-Event-ID: n-1\r\n");
        assert!(head.starts_with("GET /connect?userid=a&videoid=b HTTP/1.1\r\nHost: h:8080\r\n"), "{head}");
        assert!(head.ends_with("Last-Event-ID: n-1\r\n"));
    }
}
