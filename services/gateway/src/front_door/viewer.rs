//! One viewer at the front door: which reader the stream comes from now, and what the client has seen of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::reader::Attempt;
use super::scan::{Scanner, Sort, first, last_id, sort};
use super::{Watch, come_back};
use crate::Gateway;
use crate::metrics::Cause;
use liverank_shell::streams::Stay;

/// A reader says something at least every 15 s: one that was silent for three times as long is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// How often the client hears from us while there is no reader: it takes a silent connection for a dead one.
const BEAT: Duration = Duration::from_secs(5);
const HEARTBEAT: Bytes = Bytes::from_static(b": looking for a reader\n\n");
/// Waits between attempts: the first is spread over this, so that the viewers of a reader that died do not arrive as
/// one; later ones double up to the second. A dead reader's videos are elsewhere after some seconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A stream that lasted this long was a good one: what comes after it counts as a first failure.
const SETTLED: Duration = Duration::from_secs(2);

/// One viewer.
pub(super) struct Viewer {
    gateway: Arc<Gateway>,
    watch: Watch,
    stay: Stay,
    phase: Phase,
    /// Whether the client has had its `connected`.
    greeted: bool,
    /// Attempts in a row that came to nothing.
    failures: u32,
    /// Since when there is no reader.
    lost: Instant,
}

enum Phase {
    /// On the way to a reader.
    Seeking(Pin<Box<dyn Future<Output = Option<Incoming>> + Send>>),
    /// Passing on what a reader sends.
    Watching(Watching),
    /// The last words are spoken.
    Over,
}

struct Watching {
    stream: Incoming,
    scanner: Scanner,
    since: Instant,
    /// Whether its greeting may still come.
    fresh: bool,
}

impl Viewer {
    pub(super) fn new(gateway: Arc<Gateway>, watch: Watch, stay: Stay) -> Self {
        let mut viewer = Self {
            gateway,
            watch,
            stay,
            phase: Phase::Over,
            greeted: false,
            failures: 0,
            lost: Instant::now(),
        };
        viewer.seek(Duration::ZERO, None);
        viewer
    }

    /// The next bytes for the client, whole events only; `None` at the end.
    pub(super) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let bytes = match &mut self.phase {
                Phase::Over => return None,
                Phase::Seeking(attempt) => tokio::select! {
                    biased;
                    () = self.stay.leave.as_mut() => Some(self.end()),
                    found = attempt.as_mut() => self.found(found),
                    () = tokio::time::sleep(BEAT) => Some(HEARTBEAT),
                },
                Phase::Watching(watching) => tokio::select! {
                    biased;
                    () = self.stay.leave.as_mut() => Some(self.end()),
                    came = next_bytes(&mut watching.stream) => self.came(came),
                },
            };
            if let Some(bytes) = bytes {
                return Some((Ok(bytes), self));
            }
        }
    }

    /// Sets out for a reader.
    fn seek(&mut self, pause: Duration, since: Option<Instant>) {
        let attempt = Attempt {
            gateway: Arc::clone(&self.gateway),
            user_id: self.watch.user_id.clone(),
            video_id: self.watch.video_id.clone(),
            posted: self.watch.posted,
            last_id: self.watch.last_id.clone(),
            failures: self.failures,
            since,
            pause,
        };
        self.phase = Phase::Seeking(Box::pin(attempt.run()));
    }

    /// An attempt is over.
    fn found(&mut self, stream: Option<Incoming>) -> Option<Bytes> {
        if let Some(stream) = stream {
            let since = Instant::now();
            self.phase =
                Phase::Watching(Watching { stream, scanner: Scanner::default(), since, fresh: true });
            return None;
        }
        self.gateway.metrics.reroute(Cause::Unreachable);
        self.again()
    }

    /// Something came from the reader, or nothing will any more.
    fn came(&mut self, came: Option<Bytes>) -> Option<Bytes> {
        let Phase::Watching(watching) = &mut self.phase else { return None };
        let Some(Ok(mut events)) = came.map(|bytes| watching.scanner.feed(&bytes)) else {
            return self.stream_ended();
        };
        if watching.fresh {
            events = settle(watching, &mut self.greeted, events);
        }
        // Ids of our readers are ASCII; any other could not be sent back in a header.
        if let Some(id) = last_id(&events).and_then(|id| str::from_utf8(id).ok()) {
            self.watch.last_id.clear();
            self.watch.last_id.push_str(id);
        }
        (!events.is_empty()).then_some(events)
    }

    fn stream_ended(&mut self) -> Option<Bytes> {
        self.gateway.metrics.reroute(Cause::Ended);
        if let Phase::Watching(watching) = &self.phase
            && watching.since.elapsed() >= SETTLED
        {
            self.failures = 0;
            self.lost = Instant::now();
        }
        self.again()
    }

    /// Tries again, elsewhere, unless the client's time is better spent waiting by itself.
    fn again(&mut self) -> Option<Bytes> {
        if self.lost.elapsed() >= self.gateway.patience {
            self.gateway.metrics.turned_away.inc();
            return Some(self.end());
        }
        let most = PAUSE.0.saturating_mul(1 << self.failures.min(16)).min(PAUSE.1);
        self.seek(most.mul_f64(rand::random()), Some(Instant::now()));
        self.failures = self.failures.saturating_add(1);
        None
    }

    fn end(&mut self) -> Bytes {
        self.phase = Phase::Over;
        come_back()
    }
}

/// The next bytes of a reader; `None` when it ended, failed or fell silent.
async fn next_bytes(stream: &mut Incoming) -> Option<Bytes> {
    loop {
        let frame = tokio::time::timeout(SILENCE, stream.frame()).await.ok()??.ok()?;
        if let Ok(bytes) = frame.into_data() {
            return Some(bytes);
        }
    }
}

/// Looks at a reader's first events: its greeting is for a client that has had none.
fn settle(watching: &mut Watching, greeted: &mut bool, mut events: Bytes) -> Bytes {
    let mut before = Vec::new();
    while watching.fresh && !events.is_empty() {
        let (event, rest) = first(&events);
        match sort(&event) {
            Sort::Silent => before.extend_from_slice(&event),
            Sort::Data => {
                watching.fresh = false;
                break;
            }
            Sort::Connected => {
                watching.fresh = false;
                if !std::mem::replace(greeted, true) {
                    before.extend_from_slice(&event);
                }
            }
        }
        events = rest;
    }
    if before.is_empty() {
        return events;
    }
    before.extend_from_slice(&events);
    Bytes::from(before)
}
