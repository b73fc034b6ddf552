//! A viewer at the front door: passes on the stream of the reader that serves the video now, and remembers what the
//! client has seen.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use liverank_core::ReaderId;
use liverank_core::handover::viewer_session::{RetryPolicy, SessionStep, ViewerSession};

use super::reader::{ConnectAttempt, ConnectResult, ReaderStream};
use super::scan::{EventKind, EventScanner, event_kind, last_event_id, split_first_event};
use super::{StreamRequest, UNREADABLE_ID, reconnect_event};
use crate::Gateway;
use crate::auth::session::TokenEnd;
use crate::metrics::RerouteReason;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::streams::StreamPermit;

/// Maximum silence of a reader, after which it counts as gone. A reader sends something at least every 15 s, so this
/// is three times as long.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
/// Interval of heartbeats to the client while there is no reader: a client takes a silent connection for a dead one.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
const HEARTBEAT: Bytes = Bytes::from_static(b": looking for a reader\n\n");
/// The bytes (an empty comment of the event stream) that are written to learn whether a client that has closed its
/// sending side still reads.
const PROBE_BYTES: Bytes = Bytes::from_static(b":\n\n");
/// Pause between the two probes of a client: by then, the answer to the first one has come back.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of readers that a viewer remembers as tried; the earliest one is forgotten for a further one.
const MAX_TRIED_READERS: usize = 16;
/// The policy of looking for a reader; `give_up_after` is replaced by the configured time. The videos of a dead reader
/// have another reader after some seconds.
const SEARCH_POLICY: RetryPolicy = RetryPolicy {
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(2),
    stable_after: Duration::from_secs(2),
    give_up_after: Duration::MAX,
};

/// A viewer's comment stream: the client's request, and the reader that it is connected to.
pub(super) struct ViewerStream {
    gateway: Arc<Gateway>,
    stream_request: StreamRequest,
    permit: StreamPermit,
    phase: ViewerPhase,
    /// The client's position in the stream, and the decision what to do when a reader's stream ends. The session's
    /// times are relative to `start`.
    session: ViewerSession,
    start: Instant,
    /// The time at which the last reader's stream ended; `None` while there is a stream.
    interrupted_at: Option<Instant>,
    /// The readers that have not accepted the viewer since the viewer last had a stream.
    tried_readers: Vec<ReaderId>,
    half_close: ClientHalfClose,
}

/// The state of the check whether a client that has closed its sending side still reads. The client may be gone, or it
/// has sent everything and still reads. The gateway finds out by writing twice: if the connection is gone, the second
/// write fails, once the first has arrived.
enum ClientHalfClose {
    AwaitingClose(Pin<Box<dyn Future<Output = ()> + Send>>),
    AwaitingSecondProbe(Pin<Box<tokio::time::Sleep>>),
    Probed,
}

impl ClientHalfClose {
    /// Waits until the next probe of the client is to be written.
    async fn next_probe(&mut self) {
        match self {
            Self::AwaitingClose(left) => {
                left.as_mut().await;
                *self = Self::AwaitingSecondProbe(Box::pin(tokio::time::sleep(PROBE_INTERVAL)));
            }
            Self::AwaitingSecondProbe(pause) => {
                pause.as_mut().await;
                *self = Self::Probed;
            }
            Self::Probed => std::future::pending().await,
        }
    }
}

enum ViewerPhase {
    /// The gateway is connecting the viewer to a reader.
    Seeking(Pin<Box<dyn Future<Output = ConnectResult> + Send>>),
    /// The gateway passes on what a reader sends.
    Watching(WatchedStream),
    /// The last event was sent; the stream ends.
    Over,
}

struct WatchedStream {
    stream: ReaderStream,
    scanner: EventScanner,
    /// True if the reader's greeting may still come.
    expects_greeting: bool,
}

impl ViewerStream {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        stream_request: StreamRequest,
        permit: StreamPermit,
        exchange: RequestExchange,
    ) -> Self {
        let patience = RetryPolicy { give_up_after: gateway.reader_wait, ..SEARCH_POLICY };
        let session = ViewerSession::new(Duration::ZERO, stream_request.last_id.clone(), patience);
        let (start, phase) = (Instant::now(), ViewerPhase::Over);
        let half_close =
            ClientHalfClose::AwaitingClose(Box::pin(async move { exchange.client_closed_sending().await }));
        let (interrupted_at, tried_readers) = (None, Vec::new());
        let mut viewer = Self {
            gateway,
            stream_request,
            permit,
            phase,
            session,
            start,
            interrupted_at,
            tried_readers,
            half_close,
        };
        viewer.seek_reader(Duration::ZERO, 0, None);
        viewer
    }

    /// Returns the next bytes for the client, whole events only; `None` at the end.
    pub(super) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let bytes = match &mut self.phase {
                ViewerPhase::Over => return None,
                ViewerPhase::Seeking(attempt) => tokio::select! {
                    biased;
                    () = self.permit.leave_signal.as_mut() => Some(self.end_stream()),
                    end = self.stream_request.token_end.as_mut() => Some(self.end_on_invalid_token(end)),
                    found = attempt.as_mut() => self.handle_attempt_end(found),
                    () = self.half_close.next_probe() => Some(PROBE_BYTES),
                    () = tokio::time::sleep(HEARTBEAT_EVERY) => Some(HEARTBEAT),
                },
                ViewerPhase::Watching(watching) => tokio::select! {
                    biased;
                    () = self.permit.leave_signal.as_mut() => Some(self.end_stream()),
                    end = self.stream_request.token_end.as_mut() => Some(self.end_on_invalid_token(end)),
                    () = self.half_close.next_probe() => Some(PROBE_BYTES),
                    came = next_bytes(&mut watching.stream.body) => self.handle_reader_bytes(came),
                },
            };
            if let Some(bytes) = bytes {
                return Some((Ok(bytes), self));
            }
        }
    }

    /// Begins to connect to a reader after `pause`: the `choice`-th of the route that the managers name at `since` or
    /// later.
    fn seek_reader(&mut self, pause: Duration, choice: u32, since: Option<Instant>) {
        let attempt = ConnectAttempt {
            gateway: Arc::clone(&self.gateway),
            user_id: self.stream_request.user_id.clone(),
            video_id: self.stream_request.video_id.clone(),
            asked_by_post: self.stream_request.is_post,
            requested_events: self.stream_request.requested_events,
            last_id: if self.session.lacks_position() { UNREADABLE_ID } else { self.session.last_id() }
                .to_owned(),
            reader_choice: choice,
            tried_readers: self.tried_readers.clone(),
            min_route_request_time: since,
            pause_before: pause,
        };
        self.phase = ViewerPhase::Seeking(Box::pin(attempt.run()));
    }

    /// Handles the end of an attempt to connect to a reader: begins to pass on its stream, or looks for another
    /// reader.
    fn handle_attempt_end(&mut self, attempted: ConnectResult) -> Option<Bytes> {
        match attempted {
            Ok(stream) => {
                self.note_interruption_end();
                self.session.note_stream_opened(self.start.elapsed());
                self.tried_readers.clear();
                self.phase = ViewerPhase::Watching(WatchedStream {
                    stream,
                    scanner: EventScanner::default(),
                    expects_greeting: true,
                });
                None
            }
            Err(reader) => {
                self.note_tried(reader);
                self.gateway.metrics.count_reroute(RerouteReason::Unreachable);
                self.retry_elsewhere()
            }
        }
    }

    /// Remembers a reader that did not accept the viewer.
    fn note_tried(&mut self, reader: Option<ReaderId>) {
        let Some(reader) = reader.filter(|reader| !self.tried_readers.contains(reader)) else { return };
        if self.tried_readers.len() >= MAX_TRIED_READERS {
            self.tried_readers.remove(0);
        }
        self.tried_readers.push(reader);
    }

    /// Handles bytes of the reader, or the end of its stream (`None`). Returns the bytes for the client, if there are
    /// any.
    fn handle_reader_bytes(&mut self, came: Option<Bytes>) -> Option<Bytes> {
        let ViewerPhase::Watching(watching) = &mut self.phase else { return None };
        let Some(Ok(mut events)) = came.map(|bytes| watching.scanner.push_bytes(&bytes)) else {
            return self.handle_stream_end();
        };
        if watching.expects_greeting {
            events = filter_first_events(watching, &mut self.session, events);
        }
        // Ids that our readers give are ASCII; an id with other characters could not be sent back in a header.
        if let Some(id) = last_event_id(&events).and_then(|id| str::from_utf8(id).ok()) {
            self.session.note_position(id);
        }
        (!events.is_empty()).then_some(events)
    }

    fn handle_stream_end(&mut self) -> Option<Bytes> {
        self.interrupted_at.get_or_insert_with(Instant::now);
        self.gateway.metrics.count_reroute(RerouteReason::Ended);
        self.retry_elsewhere()
    }

    /// Looks for another reader, or ends the stream if the search has taken too long.
    fn retry_elsewhere(&mut self) -> Option<Bytes> {
        let now = self.start.elapsed();
        match self.session.next_step_after_loss(now, rand::random()) {
            SessionStep::AskForReader { at, choice } => {
                self.seek_reader(at.saturating_sub(now), choice, Some(Instant::now()));
                None
            }
            SessionStep::GiveUp => {
                self.gateway.metrics.turned_away_viewers.inc();
                Some(self.end_stream())
            }
        }
    }

    /// Records the length of an interruption in which the viewer had no reader, if there was one.
    fn note_interruption_end(&mut self) {
        if let Some(since) = self.interrupted_at.take() {
            self.gateway.metrics.interruptions.note_end(since);
        }
    }

    fn end_stream(&mut self) -> Bytes {
        self.note_interruption_end();
        self.phase = ViewerPhase::Over;
        reconnect_event()
    }

    /// Ends the stream because the viewer's token is not valid any more. The client may come back with another token.
    fn end_on_invalid_token(&mut self, why: TokenEnd) -> Bytes {
        [why.last_event(), self.end_stream()].concat().into()
    }
}

/// Returns the next bytes of a reader; `None` if its stream ended or failed, or if the reader was silent for too long.
async fn next_bytes(stream: &mut Incoming) -> Option<Bytes> {
    loop {
        let frame = tokio::time::timeout(SILENCE_TIMEOUT, stream.frame()).await.ok()??.ok()?;
        if let Ok(bytes) = frame.into_data() {
            return Some(bytes);
        }
    }
}

/// Filters a reader's first events: the greeting is passed on only to a client that has had none.
fn filter_first_events(
    watching: &mut WatchedStream,
    session: &mut ViewerSession,
    mut events: Bytes,
) -> Bytes {
    let mut before = Vec::new();
    while watching.expects_greeting && !events.is_empty() {
        let (event, rest) = split_first_event(&events);
        match event_kind(&event) {
            EventKind::WithoutData => before.extend_from_slice(&event),
            EventKind::Data => {
                watching.expects_greeting = false;
                break;
            }
            EventKind::Connected => {
                watching.expects_greeting = false;
                if session.note_greeting() {
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
