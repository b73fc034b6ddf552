//! One viewer of the audience: holds a stream of a video's comments, resumes the stream whenever it ends, and notes
//! whether each comment came exactly once and in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use reqwest::{Client, Response, Url, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::stream::{EventParser, StreamEvent};

/// The time limit until a server begins its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without any byte after which a stream counts as dead: a server sends something every 15 s, so three times
/// that.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
/// The bounds of the wait before a reconnect, in milliseconds, whatever the server asks for.
const RETRY_RANGE_MS: std::ops::RangeInclusive<u64> = 200..=3_000;
/// The most faults of one viewer that are kept in words; all faults are counted.
const MAX_FAULTS_KEPT: usize = 3;
/// The most attempts to open a stream again that are kept in words.
const MAX_ATTEMPTS_KEPT: usize = 20;

/// The most moves of one viewer that are kept in words.
const MAX_MOVES_KEPT: usize = 5;

/// The way a viewer connects to its video's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectMode {
    /// Through the gateway, which follows moves by itself.
    FrontDoor,
    /// The viewer asks the gateway which reader serves its video, and connects to that reader itself.
    Direct,
}

/// The state of one viewer: the position in its video's comments, and what happened to its streams.
#[derive(Debug, Default)]
pub struct ViewerRecord {
    /// Whether the viewer has an open stream on which a greeting came.
    pub connected: bool,
    /// The name of the reader that greeted the viewer last; `None` before the first greeting.
    pub instance: Option<String>,
    /// The comment epoch and the sequence number of the last comment; `None` before the first greeting or comment.
    pub position: Option<(String, u64)>,
    /// The last event id of the stream, which the next request sends as `Last-Event-ID`.
    last_event_id: Option<String>,
    /// The number of comments received since the last reset.
    pub comments: u64,
    /// The number of streams opened after an earlier stream had ended.
    pub reconnects: u64,
    /// The number of greetings by another reader than the reader before.
    pub moves: u64,
    /// A description of each move: old reader, new reader, time, and the reason why the stream before it ended.
    pub moves_in_words: Vec<String>,
    /// The time of the last reset, from which the times in `moves_in_words` are counted; `None` before the first
    /// reset.
    counted_since: Option<Instant>,
    /// The time at which the last stream ended; `None` while a stream is open.
    away_since: Option<Instant>,
    /// The result of each attempt to connect since `away_since`, with its time after the stream's end.
    attempts: Vec<String>,
    /// The attempts to connect during the longest time without a stream.
    pub longest_attempts: Vec<String>,
    /// The longest time between the end of a stream and the next greeting.
    pub longest_away: Duration,
    /// The first faults, in words: comments missing, repeated or out of order, gaps.
    pub faults: Vec<String>,
    /// The number of all faults.
    pub fault_count: u64,
    /// The reason why the last stream ended or could not be opened.
    pub last_end: String,
    retry_ms: u64,
}

impl ViewerRecord {
    fn note_fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS_KEPT {
            self.faults.push(what);
        }
    }

    /// Evaluates the events of a stream, in the order in which they arrived.
    pub fn apply_events(&mut self, events: &[StreamEvent]) {
        for event in events {
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: &StreamEvent) {
        if let Some(retry_ms) = event.retry_ms {
            self.retry_ms = retry_ms;
        }
        if event.id.is_some() {
            self.last_event_id.clone_from(&event.id);
        }
        let place = event.id.as_deref().and_then(parse_event_id);
        if event.name == "gap" {
            self.note_fault(format!("was told of a gap: {}", event.data));
            self.position = place;
            return;
        }
        if event.data.is_empty() {
            return;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if data["type"] == "connected" {
            self.apply_greeting(place, data["instance"].as_str());
        } else {
            self.apply_comment(place);
        }
    }

    fn apply_greeting(&mut self, place: Option<(String, u64)>, instance: Option<&str>) {
        self.connected = true;
        if let Some(since) = self.away_since.take() {
            self.reconnects += 1;
            let attempts = std::mem::take(&mut self.attempts);
            if since.elapsed() > self.longest_away {
                (self.longest_away, self.longest_attempts) = (since.elapsed(), attempts);
            }
        }
        let before = std::mem::replace(&mut self.instance, instance.map(str::to_owned));
        if let Some(before) = before.filter(|before| Some(before) != self.instance.as_ref()) {
            self.note_move(&before);
        }
        // The first greeting sets the viewer's position; a later greeting must name the same position.
        match (&self.position, place) {
            (None, place) => self.position = place,
            (Some(at), Some(place)) if *at != place => {
                let fault = format!("stood at {at:?} and was greeted at {place:?}");
                self.note_fault(fault);
            }
            _ => {}
        }
    }

    fn note_move(&mut self, before: &str) {
        self.moves += 1;
        if self.moves_in_words.len() < MAX_MOVES_KEPT {
            let seconds = self.counted_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
            let now = self.instance.as_deref().unwrap_or_default();
            self.moves_in_words.push(format!("{before} to {now} at {seconds:.1} s after {}", self.last_end));
        }
    }

    fn apply_comment(&mut self, place: Option<(String, u64)>) {
        self.comments += 1;
        let Some((numbering, seq)) = place else {
            return self.note_fault("was given a comment without a place".to_owned());
        };
        // A viewer that was greeted before its video's first comment does not know a comment epoch yet.
        let expected = self.position.as_ref().map_or(1, |(_, last)| last + 1);
        let same = self.position.as_ref().is_none_or(|(before, _)| *before == numbering);
        if seq != expected || !same {
            self.note_fault(format!(
                "expected {expected} after {:?} and was given {numbering}-{seq}",
                self.position
            ));
        }
        self.position = Some((numbering, seq));
    }

    /// Notes that a stream ended or could not be opened, with the reason.
    fn note_stream_end(&mut self, why: String) {
        if std::mem::take(&mut self.connected) {
            self.away_since = Some(Instant::now());
            self.attempts.clear();
        }
        if let Some(since) = self.away_since.filter(|_| self.attempts.len() < MAX_ATTEMPTS_KEPT) {
            self.attempts.push(format!("{:.1} s: {why}", since.elapsed().as_secs_f64()));
        }
        self.last_end = why;
    }

    /// Resets the counts of comments, reconnects and moves; the position and the faults are kept.
    pub fn forget_events(&mut self) {
        (self.comments, self.reconnects, self.moves) = (0, 0, 0);
        self.longest_away = Duration::ZERO;
        self.longest_attempts.clear();
        self.moves_in_words.clear();
        self.counted_since = Some(Instant::now());
    }
}

/// Parses an event id `epoch-seq`; `None` if the id has another form.
fn parse_event_id(id: &str) -> Option<(String, u64)> {
    let (numbering, seq) = id.rsplit_once('-')?;
    Some((numbering.to_owned(), seq.parse().ok()?))
}

/// One viewer of the audience.
pub struct AudienceViewer {
    /// The user id of the viewer.
    pub user: String,
    /// The video that the viewer watches.
    pub video: String,
    /// How the viewer connects.
    pub connect_mode: ConnectMode,
    record: Mutex<ViewerRecord>,
}

impl AudienceViewer {
    /// Creates a viewer that has not connected yet.
    pub fn new(user: String, video: String, connect_mode: ConnectMode) -> Arc<Self> {
        Arc::new(Self { user, video, connect_mode, record: Mutex::default() })
    }

    /// Returns the record of what the viewer saw.
    pub fn record(&self) -> MutexGuard<'_, ViewerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a stream open for ever; the caller ends the viewer by aborting its task.
    pub async fn watch_forever(self: Arc<Self>, client: Client, gateway: Url) {
        loop {
            let ended = self.read_stream(&client, &gateway).await;
            let end = ended.map_or_else(|error| format!("{error:#}"), |()| "its end".to_owned());
            let wait = {
                let mut seen = self.record();
                seen.note_stream_end(end);
                seen.retry_ms.clamp(*RETRY_RANGE_MS.start(), *RETRY_RANGE_MS.end())
            };
            // Without jitter, as browsers do: the wait that readers ask for already differs from viewer to viewer.
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    async fn read_stream(&self, client: &Client, gateway: &Url) -> anyhow::Result<()> {
        let reader = match self.connect_mode {
            ConnectMode::FrontDoor => gateway.clone(),
            ConnectMode::Direct => timeout(ANSWER_TIMEOUT, self.resolve_reader(client, gateway)).await??,
        };
        let mut url = reader.join("/connect")?;
        url.query_pairs_mut().append_pair("userid", &self.user).append_pair("videoid", &self.video);
        let mut request =
            client.get(url).header(header::ACCEPT, "text/event-stream, application/problem+json");
        let last = self.record().last_event_id.clone();
        if let Some(id) = last {
            request = request.header("Last-Event-ID", id);
        }
        // Errors name the host of the request: the answer may come from another reader, to which this one redirects.
        let sent_to = || format!("sent to {}", reader.host_str().unwrap_or_default());
        let answer = timeout(ANSWER_TIMEOUT, request.send()).await?.with_context(sent_to)?;
        let answer = expect_success(answer).await.with_context(sent_to)?;
        let (mut body, mut events) = (answer.bytes_stream(), EventParser::default());
        while let Some(piece) = timeout(SILENCE_TIMEOUT, body.next()).await? {
            let whole = events.feed_piece(&piece?);
            self.record().apply_events(&whole);
        }
        Ok(())
    }

    async fn resolve_reader(&self, client: &Client, gateway: &Url) -> anyhow::Result<Url> {
        let body = json!({"videoid": self.video});
        let answer =
            expect_success(client.post(gateway.join("/register")?).json(&body).send().await?).await?;
        let answer: Value = answer.json().await?;
        Ok(answer["readerUrl"].as_str().context("no readerUrl")?.parse()?)
    }
}

/// Returns the answer if its status is a success; else an error with the `detail` of the problem in its body.
async fn expect_success(answer: Response) -> anyhow::Result<Response> {
    let (status, host) = (answer.status(), answer.url().host_str().unwrap_or_default().to_owned());
    if status.is_success() {
        return Ok(answer);
    }
    let problem = answer.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&problem).unwrap_or_default();
    anyhow::bail!("{host} answers {status}: {}", problem["detail"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment_event(seq: u64) -> StreamEvent {
        StreamEvent { id: Some(format!("a-b-{seq}")), data: "{\"seq\":1}".into(), ..StreamEvent::default() }
    }

    fn greeting_event(instance: &str, seq: u64) -> StreamEvent {
        let data = json!({"type": "connected", "instance": instance}).to_string();
        StreamEvent { id: Some(format!("a-b-{seq}")), data, ..StreamEvent::default() }
    }

    #[test]
    fn comments_once_and_in_order_are_right_also_over_a_move() {
        let mut seen = ViewerRecord::default();
        seen.apply_events(&[greeting_event("r1", 4), comment_event(5), comment_event(6)]);
        seen.note_stream_end("its end".to_owned());
        seen.apply_events(&[greeting_event("r2", 6), comment_event(7)]);
        assert_eq!((seen.fault_count, seen.moves, seen.reconnects, seen.comments), (0, 1, 1, 3));
        assert_eq!(seen.position, Some(("a-b".to_owned(), 7)));
    }

    #[test]
    fn holes_repeats_gaps_and_jumps_are_wrong() {
        for wrong in [
            comment_event(7),
            comment_event(5),
            StreamEvent { name: "gap".into(), data: "{}".into(), ..StreamEvent::default() },
            greeting_event("r1", 9),
            StreamEvent { id: Some("other-6".into()), data: "{}".into(), ..StreamEvent::default() },
        ] {
            let mut seen = ViewerRecord::default();
            seen.apply_events(&[greeting_event("r1", 4), comment_event(5), wrong.clone()]);
            assert_eq!(seen.fault_count, 1, "{wrong:?}");
        }
    }

    #[test]
    fn who_came_before_the_first_comment_is_given_number_one() {
        let mut seen = ViewerRecord::default();
        let unplaced = StreamEvent { id: None, ..greeting_event("r1", 0) };
        seen.apply_events(&[unplaced, comment_event(1)]);
        assert_eq!(seen.fault_count, 0);
    }
}
