//! One viewer: holds a stream of a video's comments, resumes it whenever it ends, and notes whether each comment came
//! once and in its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use reqwest::{Client, Response, Url, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::stream::{Event, Events};

/// How long a server may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A stream says something every 15 s; after three times that it is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// Waits before coming back, whatever the server asks for.
const RETRY_MS: std::ops::RangeInclusive<u64> = 200..=3_000;
/// Faults kept in words, a viewer.
const FAULTS_KEPT: usize = 3;
/// Attempts to get a stream back that are kept in words.
const ATTEMPTS_KEPT: usize = 20;

/// How a viewer connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Through the gateway, which follows moves by itself.
    FrontDoor,
    /// Asks who serves the video, and connects to that reader.
    Direct,
}

/// Where a viewer stands, and what befell it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whether its stream greeted it and has not ended.
    pub connected: bool,
    /// The reader that greeted it last.
    pub instance: Option<String>,
    /// The numbering, and the last number in it.
    pub at: Option<(String, u64)>,
    /// The last id, to resume by.
    id: Option<String>,
    /// Comments received.
    pub comments: u64,
    /// Streams begun after one that ended.
    pub reconnects: u64,
    /// Times that another reader greeted it than before.
    pub moves: u64,
    /// When its stream ended.
    away_since: Option<Instant>,
    /// What came of each attempt since then, and after how long.
    attempts: Vec<String>,
    /// The same of the longest time without a stream.
    pub longest_attempts: Vec<String>,
    /// The longest it was without one.
    pub longest_away: Duration,
    /// What was wrong, in words.
    pub faults: Vec<String>,
    /// How often.
    pub fault_count: u64,
    /// Why its last stream ended or did not begin.
    pub last_end: String,
    retry_ms: u64,
}

impl Seen {
    fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(what);
        }
    }

    /// Takes events in the order they came.
    pub fn take_all(&mut self, events: &[Event]) {
        for event in events {
            self.take(event);
        }
    }

    fn take(&mut self, event: &Event) {
        if let Some(retry_ms) = event.retry_ms {
            self.retry_ms = retry_ms;
        }
        if event.id.is_some() {
            self.id.clone_from(&event.id);
        }
        let place = event.id.as_deref().and_then(place);
        if event.name == "gap" {
            self.fault(format!("was told of a gap: {}", event.data));
            self.at = place;
            return;
        }
        if event.data.is_empty() {
            return;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if data["type"] == "connected" {
            self.greeted(place, data["instance"].as_str());
        } else {
            self.comment(place);
        }
    }

    fn greeted(&mut self, place: Option<(String, u64)>, instance: Option<&str>) {
        self.connected = true;
        if let Some(since) = self.away_since.take() {
            self.reconnects += 1;
            let attempts = std::mem::take(&mut self.attempts);
            if since.elapsed() > self.longest_away {
                (self.longest_away, self.longest_attempts) = (since.elapsed(), attempts);
            }
        }
        let before = std::mem::replace(&mut self.instance, instance.map(str::to_owned));
        if before.is_some() && before != self.instance {
            self.moves += 1;
        }
        // A first greeting says where it stands; a later one must not move it.
        match (&self.at, place) {
            (None, place) => self.at = place,
            (Some(at), Some(place)) if *at != place => {
                let fault = format!("stood at {at:?} and was greeted at {place:?}");
                self.fault(fault);
            }
            _ => {}
        }
    }

    fn comment(&mut self, place: Option<(String, u64)>) {
        self.comments += 1;
        let Some((numbering, seq)) = place else {
            return self.fault("was given a comment without a place".to_owned());
        };
        // Who was greeted before the first comment of a video was not told a numbering.
        let expected = self.at.as_ref().map_or(1, |(_, last)| last + 1);
        let same = self.at.as_ref().is_none_or(|(before, _)| *before == numbering);
        if seq != expected || !same {
            self.fault(format!("expected {expected} after {:?} and was given {numbering}-{seq}", self.at));
        }
        self.at = Some((numbering, seq));
    }

    /// A stream ended, or did not begin.
    fn ended(&mut self, why: String) {
        if std::mem::take(&mut self.connected) {
            self.away_since = Some(Instant::now());
            self.attempts.clear();
        }
        if let Some(since) = self.away_since.filter(|_| self.attempts.len() < ATTEMPTS_KEPT) {
            self.attempts.push(format!("{:.1} s: {why}", since.elapsed().as_secs_f64()));
        }
        self.last_end = why;
    }

    /// Forgets what befell it, but not where it stands.
    pub fn forget(&mut self) {
        (self.comments, self.reconnects, self.moves) = (0, 0, 0);
        self.longest_away = Duration::ZERO;
        self.longest_attempts.clear();
    }
}

/// `numbering-seq`
fn place(id: &str) -> Option<(String, u64)> {
    let (numbering, seq) = id.rsplit_once('-')?;
    Some((numbering.to_owned(), seq.parse().ok()?))
}

/// One viewer.
pub struct Viewer {
    /// Who it is.
    pub user: String,
    /// What it watches.
    pub video: String,
    /// How.
    pub way: Way,
    seen: Mutex<Seen>,
}

impl Viewer {
    /// One who has not connected yet.
    pub fn new(user: String, video: String, way: Way) -> Arc<Self> {
        Arc::new(Self { user, video, way, seen: Mutex::default() })
    }

    /// What it saw.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches for ever; it ends by being aborted.
    pub async fn watch(self: Arc<Self>, client: Client, gateway: Url) {
        loop {
            let ended = self.stream(&client, &gateway).await;
            let end = ended.map_or_else(|error| format!("{error:#}"), |()| "its end".to_owned());
            let wait = {
                let mut seen = self.seen();
                seen.ended(end);
                seen.retry_ms.clamp(*RETRY_MS.start(), *RETRY_MS.end())
            };
            // As browsers do it: what a reader asks for differs from viewer to viewer already.
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    async fn stream(&self, client: &Client, gateway: &Url) -> anyhow::Result<()> {
        let reader = match self.way {
            Way::FrontDoor => gateway.clone(),
            Way::Direct => timeout(ANSWER, self.resolve(client, gateway)).await??,
        };
        let mut url = reader.join("/connect")?;
        url.query_pairs_mut().append_pair("userid", &self.user).append_pair("videoid", &self.video);
        let mut request = client.get(url).header(header::ACCEPT, "text/event-stream");
        let last = self.seen().id.clone();
        if let Some(id) = last {
            request = request.header("Last-Event-ID", id);
        }
        let answer = good(timeout(ANSWER, request.send()).await??).await?;
        let (mut body, mut events) = (answer.bytes_stream(), Events::default());
        while let Some(piece) = timeout(SILENCE, body.next()).await? {
            let whole = events.feed(&piece?);
            self.seen().take_all(&whole);
        }
        Ok(())
    }

    async fn resolve(&self, client: &Client, gateway: &Url) -> anyhow::Result<Url> {
        let body = json!({"videoid": self.video});
        let answer = good(client.post(gateway.join("/register")?).json(&body).send().await?).await?;
        let answer: Value = answer.json().await?;
        Ok(answer["readerUrl"].as_str().context("no readerUrl")?.parse()?)
    }
}

/// An answer that is no refusal; else an error with what it says.
async fn good(answer: Response) -> anyhow::Result<Response> {
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

    fn comment(seq: u64) -> Event {
        Event { id: Some(format!("a-b-{seq}")), data: "{\"seq\":1}".into(), ..Event::default() }
    }

    fn greeting(instance: &str, seq: u64) -> Event {
        let data = json!({"type": "connected", "instance": instance}).to_string();
        Event { id: Some(format!("a-b-{seq}")), data, ..Event::default() }
    }

    #[test]
    fn what_comes_once_and_in_its_place_is_right_over_a_move() {
        let mut seen = Seen::default();
        seen.take_all(&[greeting("r1", 4), comment(5), comment(6)]);
        seen.ended("its end".to_owned());
        seen.take_all(&[greeting("r2", 6), comment(7)]);
        assert_eq!((seen.fault_count, seen.moves, seen.reconnects, seen.comments), (0, 1, 1, 3));
        assert_eq!(seen.at, Some(("a-b".to_owned(), 7)));
    }

    #[test]
    fn holes_repeats_gaps_and_jumps_are_wrong() {
        for wrong in [
            comment(7),
            comment(5),
            Event { name: "gap".into(), data: "{}".into(), ..Event::default() },
            greeting("r1", 9),
            Event { id: Some("other-6".into()), data: "{}".into(), ..Event::default() },
        ] {
            let mut seen = Seen::default();
            seen.take_all(&[greeting("r1", 4), comment(5), wrong.clone()]);
            assert_eq!(seen.fault_count, 1, "{wrong:?}");
        }
    }

    #[test]
    fn who_came_before_the_first_comment_is_given_number_one() {
        let mut seen = Seen::default();
        let unplaced = Event { id: None, ..greeting("r1", 0) };
        seen.take_all(&[unplaced, comment(1)]);
        assert_eq!(seen.fault_count, 0);
    }
}
