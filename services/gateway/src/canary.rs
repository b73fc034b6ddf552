//! The canary ([`liverank_core::canary`]): how long it takes an interaction to the boards and to a socket, and a comment to
//! a stream, measured end to end and also while nobody else does anything.
//!
//! In each round the gateway is a viewer of a video of the system's own, by its own front door, and watches the list of that
//! video's owner at a websocket service. Then it puts an interaction and a comment into the log, and looks when they arrive.
//! The video is on no board: that the boards have the interaction, their offsets tell, and the list shows the number of the
//! video's state in place of its score. Several gateways share the video; each knows its comments by their text.
//!
//! A round takes [`ROUND_TIMEOUT`] and what its beginning takes; the next one begins after it. What has not arrived by then counts
//! as that old. What cannot begin (no reader, no websocket service, the log is away) is counted, and measures nothing: the
//! silence is what an alert looks at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use liverank_adapters::event_log::RecordPosition;
use liverank_core::comment::to_hex;
use liverank_core::{Interaction, canary};
use liverank_runtime::{label_values, now_ms};
use memchr::memmem;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::Gateway;
use crate::freshness::wait_for_boards;
use crate::front_door::of_the_canary;

mod socket;

use socket::Socket;

/// When a round ends, whatever has not arrived.
const ROUND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the stream and the socket may take to begin: a dead reader's videos are elsewhere after some seconds.
const STREAM_START_TIMEOUT: Duration = Duration::from_secs(20);

/// A list that began anew meanwhile (a repair of the boards, a change that was lost) knows the canary from its next event on.
/// So one more is posted after each of these: real lists are whole when they begin anew, and the canary must not look later.
const RETRY_PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// Whether, and how often, a gateway measures the system.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CanaryArgs {
    /// Seconds between two measurements end to end, by an interaction and a comment on a video of the system's own; 0: none.
    ///
    /// That video is on no board and in no list. Each measurement is two records in the log.
    #[arg(long, env = "LIVERANK_CANARY_SECONDS", help_heading = "The canary", value_name = "SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u16).range(0..=3600))]
    pub canary_seconds: u16,
}

label_values! {
    /// From where to where.
    pub(crate) enum Way {
        /// An interaction, to the boards.
        Board = "interaction_to_board",
        /// An interaction, to a client of a websocket service.
        Socket = "interaction_to_socket",
        /// A comment, to a viewer's stream.
        Stream = "comment_to_stream",
    }
}

label_values! {
    /// Why a measurement could not begin.
    pub(crate) enum CanaryFailure {
        /// No reader takes a viewer.
        Stream = "no_stream",
        /// No websocket service takes a client.
        Socket = "no_socket",
        /// The log did not acknowledge the event.
        Log = "log_unavailable",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabels {
    way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: CanaryFailure,
}

/// The metrics of the canary.
pub(crate) struct CanaryMetrics {
    seconds: Family<WayLabels, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter>,
    /// Seconds between two rounds; 0 where there are none.
    pub(crate) interval: Gauge,
}

impl Default for CanaryMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 14));
        let seconds = Family::new_with_constructor(histogram);
        Self { seconds, failures: Family::default(), interval: Gauge::default() }
    }
}

impl CanaryMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let seconds = "End to end, on a video of the system's own: from posting to arriving, by the way";
        registry.register("canary_seconds", seconds, self.seconds.clone());
        let failures = "Measurements end to end that could not begin, by why";
        registry.register("canary_failures", failures, self.failures.clone());
        let interval = "Seconds between two measurements end to end; 0: there are none";
        registry.register("canary_interval_seconds", interval, self.interval.clone());
    }

    /// Has every series there from the start, so that one that stands still can be told from one that is not there.
    fn begin_series(&self, gateway: &Gateway) {
        let lists = gateway.websocket.replicas.is_some().then_some(Way::Socket);
        let comments = gateway.manager.replicas.is_some().then_some(Way::Stream);
        for way in [Some(Way::Board), lists, comments].into_iter().flatten() {
            drop(self.seconds.get_or_create(&WayLabels { way }));
        }
        for reason in [CanaryFailure::Stream, CanaryFailure::Socket, CanaryFailure::Log] {
            drop(self.failures.get_or_create(&FailureLabels { reason }));
        }
    }

    fn note_arrival(&self, way: Way, asked: Instant, at: Option<Instant>) {
        let age = at.map_or(ROUND_TIMEOUT, |at| at.saturating_duration_since(asked));
        self.seconds.get_or_create(&WayLabels { way }).observe(age.as_secs_f64());
    }

    fn note_failure(&self, reason: CanaryFailure) {
        self.failures.get_or_create(&FailureLabels { reason }).inc();
    }
}

/// Measures for as long as the gateway lives.
pub(crate) async fn run(gateway: Arc<Gateway>, every: Duration) {
    gateway.metrics.canary.begin_series(&gateway);
    loop {
        // Gateways that start together do not measure together.
        sleep(every.mul_f64(rand::random_range(0.75..1.25))).await;
        // That one cannot begin says nothing of the other.
        let measured = tokio::join!(try_interaction(&gateway), try_comment(&gateway));
        for reason in [measured.0.err(), measured.1.err()].into_iter().flatten() {
            gateway.metrics.canary.note_failure(reason);
        }
    }
}

/// An interaction, to the boards and to a socket.
async fn try_interaction(gateway: &Arc<Gateway>) -> Result<(), CanaryFailure> {
    let metrics = &gateway.metrics.canary;
    let socket = match gateway.websocket.replicas {
        Some(_) => timeout(STREAM_START_TIMEOUT, Socket::open(gateway))
            .await
            .ok()
            .flatten()
            .ok_or(CanaryFailure::Socket),
        None => Err(CanaryFailure::Socket),
    };
    let asked = Instant::now();
    let position = append_event(gateway, &canary_view()).await?;
    let shown = timeout(ROUND_TIMEOUT, wait_for_boards(&*gateway.backends.ranking, position, asked)).await;
    metrics.note_arrival(Way::Board, asked, shown.is_ok().then(Instant::now));
    if gateway.websocket.replicas.is_none() {
        return Ok(());
    }
    let mut socket = socket?;
    let seen =
        timeout(ROUND_TIMEOUT.saturating_sub(asked.elapsed()), wait_until_shown(gateway, &mut socket)).await;
    metrics.note_arrival(Way::Socket, asked, seen.ok().flatten());
    socket.close().await;
    Ok(())
}

fn canary_view() -> Value {
    json!({"video_id": canary::CANARY_ID, "user_id": canary::CANARY_ID, "type": "view"})
}

/// When the list showed what the boards have now; `None` where the socket ends before.
async fn wait_until_shown(gateway: &Gateway, socket: &mut Socket) -> Option<Instant> {
    let revision = board_revision(gateway).await?;
    for pause in RETRY_PAUSES {
        if let Ok(seen) = timeout(pause, socket.shows(revision)).await {
            return seen;
        }
        // That the log is away now is for the next round to say.
        let _ = append_event(gateway, &canary_view()).await;
    }
    socket.shows(revision).await
}

/// A comment, to a stream.
async fn try_comment(gateway: &Arc<Gateway>) -> Result<(), CanaryFailure> {
    if gateway.manager.replicas.is_none() {
        return Ok(());
    }
    let mut stream = Box::pin(of_the_canary(gateway).ok_or(CanaryFailure::Stream)?);
    let begun = timeout(STREAM_START_TIMEOUT, wait_for_text(&mut stream, b"\"connected\"")).await;
    begun.ok().flatten().ok_or(CanaryFailure::Stream)?;
    let (asked, text) = (Instant::now(), to_hex(&rand::random::<u128>().to_be_bytes()));
    let event = json!({"video_id": canary::CANARY_ID, "user_id": canary::CANARY_ID, "type": "comment",
        "comment_id": format!("canary-{text}"), "comment": text});
    append_event(gateway, &event).await?;
    let seen = timeout(ROUND_TIMEOUT, wait_for_text(&mut stream, text.as_bytes())).await;
    gateway.metrics.canary.note_arrival(Way::Stream, asked, seen.ok().flatten());
    Ok(())
}

async fn append_event(gateway: &Gateway, event: &Value) -> Result<RecordPosition, CanaryFailure> {
    let event = Interaction::parse(event, now_ms()).expect("the canary's events are readable");
    let appended = gateway.backends.log.append(canary::CANARY_ID.as_bytes(), event.to_json()).await;
    appended.map_err(|_| CanaryFailure::Log)
}

/// The number of the video's state, which has what the boards have; `None` where the archive does not say it.
async fn board_revision(gateway: &Gateway) -> Option<u64> {
    gateway.backends.archive.video(&canary::video()).await.ok()?.map(|state| state.revision())
}

/// When `text` arrives in a stream of whole events; `None` where the stream ends before.
async fn wait_for_text(stream: &mut (impl Stream<Item = Bytes> + Unpin), text: &[u8]) -> Option<Instant> {
    while let Some(events) = stream.next().await {
        if memmem::find(&events, text).is_some() {
            return Some(Instant::now());
        }
    }
    None
}
