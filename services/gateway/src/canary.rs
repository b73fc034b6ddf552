//! The canary ([`liverank_core::canary`]): measures end to end how long an interaction takes to reach the boards and a
//! WebSocket, and a comment to reach a stream, also while there is no other traffic.
//!
//! In each round the gateway is a viewer of a video of the system's own, through its own front door, and watches the
//! list of that video's owner at a websocket service. The gateway appends an interaction and a comment to the log, and
//! measures when each arrives. The video is on no board. Whether the boards have the interaction is read from their
//! offsets; the list shows the revision of the video's state in place of its score. Several gateways share the video;
//! each recognises its own comments by their text.
//!
//! A round takes at most [`ROUND_TIMEOUT`] and the time of its beginning; the next round begins after it. An event
//! that has not arrived by then is recorded with that age. A measurement that cannot begin (no reader, no websocket
//! service, the log is away) is counted as a failure and records no time: an alert looks for missing measurements.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use liverank_adapters::event_log::RecordPosition;
use liverank_core::comment::to_hex;
use liverank_core::{Interaction, canary};
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
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
use crate::front_door::canary_stream;

mod socket;

use socket::Socket;

/// Maximum time of a round; events that have not arrived by then count as this old.
const ROUND_TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum time for the stream and the WebSocket to open: a dead reader's videos have another reader after some
/// seconds.
const STREAM_START_TIMEOUT: Duration = Duration::from_secs(20);

/// Pauses after which the canary posts another interaction, if the list has not shown the first. A list that began
/// anew meanwhile (after a repair of the boards, or a lost change) shows the canary from the canary's next event on.
/// Real lists are complete when they begin anew, so the canary must not measure a longer time than theirs.
const RETRY_PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// The flag for the interval at which a gateway measures the system.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CanaryArgs {
    /// The time between two measurements end to end, by an interaction and a comment on a video of the system's own; 0: none.
    ///
    /// That video is on no board and in no list. Each measurement is two records in the log.
    #[arg(long, env = "LIVERANK_CANARY_SECONDS", help_heading = "The canary", value_name = "DURATION", default_value = "15s",
          value_parser = parser_in_unit::<u16>(SettingUnit::Seconds, 0, 3_600))]
    pub canary_seconds: u16,
}

label_values! {
    /// The path that a measured event takes.
    pub(crate) enum MeasuredPath {
        /// An interaction: from posting to the boards.
        Board = "interaction_to_board",
        /// An interaction: from posting to a client of a websocket service.
        Socket = "interaction_to_socket",
        /// A comment: from posting to a viewer's stream.
        Stream = "comment_to_stream",
    }
}

label_values! {
    /// The reason for which a measurement could not begin.
    pub(crate) enum CanaryFailure {
        /// No reader accepts the canary's viewer.
        Stream = "no_stream",
        /// No websocket service accepts the canary's client.
        Socket = "no_socket",
        /// The log did not acknowledge the event.
        Log = "log_unavailable",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    way: MeasuredPath,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: CanaryFailure,
}

/// The metrics of the canary.
pub(crate) struct CanaryMetrics {
    arrival_seconds: Family<PathLabels, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter>,
    /// Seconds between two rounds; 0 if the canary is off.
    pub(crate) interval: Gauge,
}

impl Default for CanaryMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 14));
        let arrival_seconds = Family::new_with_constructor(histogram);
        Self { arrival_seconds, failures: Family::default(), interval: Gauge::default() }
    }
}

impl CanaryMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let seconds = "End to end, on a video of the system's own: from posting to arriving, by the way";
        registry.register("canary_seconds", seconds, self.arrival_seconds.clone());
        let failures = "Measurements end to end that could not begin, by why";
        registry.register("canary_failures", failures, self.failures.clone());
        let interval = "Seconds between two measurements end to end; 0: there are none";
        registry.register("canary_interval_seconds", interval, self.interval.clone());
    }

    /// Creates every series at the start, so that a series that gets no values can be told from a missing one.
    fn create_series(&self, gateway: &Gateway) {
        let lists = gateway.websocket.replicas.is_some().then_some(MeasuredPath::Socket);
        let comments = gateway.manager.replicas.is_some().then_some(MeasuredPath::Stream);
        for way in [Some(MeasuredPath::Board), lists, comments].into_iter().flatten() {
            drop(self.arrival_seconds.get_or_create(&PathLabels { way }));
        }
        for reason in [CanaryFailure::Stream, CanaryFailure::Socket, CanaryFailure::Log] {
            drop(self.failures.get_or_create(&FailureLabels { reason }));
        }
    }

    fn note_arrival(&self, way: MeasuredPath, asked: Instant, at: Option<Instant>) {
        let age = at.map_or(ROUND_TIMEOUT, |at| at.saturating_duration_since(asked));
        self.arrival_seconds.get_or_create(&PathLabels { way }).observe(age.as_secs_f64());
    }

    fn note_failure(&self, reason: CanaryFailure) {
        self.failures.get_or_create(&FailureLabels { reason }).inc();
    }
}

/// Measures in rounds for as long as the gateway runs, with about `every` between two rounds.
pub(crate) async fn run(gateway: Arc<Gateway>, every: Duration) {
    gateway.metrics.canary.create_series(&gateway);
    loop {
        // A random part of the pause keeps gateways that start together from measuring together.
        sleep(every.mul_f64(rand::random_range(0.75..1.25))).await;
        // If one of the two measurements cannot begin, the other still runs.
        let measured = tokio::join!(measure_interaction(&gateway), measure_comment(&gateway));
        for reason in [measured.0.err(), measured.1.err()].into_iter().flatten() {
            gateway.metrics.canary.note_failure(reason);
        }
    }
}

/// Measures the time of an interaction to the boards and to a WebSocket. Returns the reason if the measurement could
/// not begin.
async fn measure_interaction(gateway: &Arc<Gateway>) -> Result<(), CanaryFailure> {
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
    metrics.note_arrival(MeasuredPath::Board, asked, shown.is_ok().then(Instant::now));
    if gateway.websocket.replicas.is_none() {
        return Ok(());
    }
    let mut socket = socket?;
    let seen =
        timeout(ROUND_TIMEOUT.saturating_sub(asked.elapsed()), wait_until_shown(gateway, &mut socket)).await;
    metrics.note_arrival(MeasuredPath::Socket, asked, seen.ok().flatten());
    socket.close().await;
    Ok(())
}

fn canary_view() -> Value {
    json!({"video_id": canary::CANARY_ID, "user_id": canary::CANARY_ID, "type": "view"})
}

/// Waits until the list shows the state that the boards have now. Returns the time at which it did; `None` if the
/// socket ended before.
async fn wait_until_shown(gateway: &Gateway, socket: &mut Socket) -> Option<Instant> {
    let revision = board_revision(gateway).await?;
    for pause in RETRY_PAUSES {
        if let Ok(seen) = timeout(pause, socket.wait_for_revision(revision)).await {
            return seen;
        }
        // An error of the log is ignored here, because the next round reports it.
        let _ = append_event(gateway, &canary_view()).await;
    }
    socket.wait_for_revision(revision).await
}

/// Measures the time of a comment to a viewer's stream. Returns the reason if the measurement could not begin.
async fn measure_comment(gateway: &Arc<Gateway>) -> Result<(), CanaryFailure> {
    if gateway.manager.replicas.is_none() {
        return Ok(());
    }
    let mut stream = Box::pin(canary_stream(gateway).ok_or(CanaryFailure::Stream)?);
    let begun = timeout(STREAM_START_TIMEOUT, wait_for_text(&mut stream, b"\"connected\"")).await;
    begun.ok().flatten().ok_or(CanaryFailure::Stream)?;
    let (asked, text) = (Instant::now(), to_hex(&rand::random::<u128>().to_be_bytes()));
    let event = json!({"video_id": canary::CANARY_ID, "user_id": canary::CANARY_ID, "type": "comment",
        "comment_id": format!("canary-{text}"), "comment": text});
    append_event(gateway, &event).await?;
    let seen = timeout(ROUND_TIMEOUT, wait_for_text(&mut stream, text.as_bytes())).await;
    gateway.metrics.canary.note_arrival(MeasuredPath::Stream, asked, seen.ok().flatten());
    Ok(())
}

async fn append_event(gateway: &Gateway, event: &Value) -> Result<RecordPosition, CanaryFailure> {
    let event = Interaction::parse(event, now_ms()).expect("the canary's events are readable");
    let appended = gateway.backends.log.append(canary::CANARY_ID.as_bytes(), event.to_json()).await;
    appended.map_err(|_| CanaryFailure::Log)
}

/// Returns the revision of the canary video's state in the archive, which the boards should show; `None` if the archive
/// does not answer or has no such video.
async fn board_revision(gateway: &Gateway) -> Option<u64> {
    gateway.backends.archive.video(&canary::video()).await.ok()?.map(|state| state.revision())
}

/// Waits for `text` in a stream of whole events. Returns the time at which it arrived; `None` if the stream ended
/// before.
async fn wait_for_text(stream: &mut (impl Stream<Item = Bytes> + Unpin), text: &[u8]) -> Option<Instant> {
    while let Some(events) = stream.next().await {
        if memmem::find(&events, text).is_some() {
            return Some(Instant::now());
        }
    }
    None
}
