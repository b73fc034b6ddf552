//! Sends finished spans from the queue to the trace collector.
//!
//! While a collector does not answer, this costs one failed request a second, a counter, and one line in the log until
//! the collector is back. Nothing is sent twice: spans that were not accepted are lost.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderValue;
use prost::Message;
use reqwest::Url;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::metrics::{SpanOutcome, TraceMetrics};
use super::{FinishedSpan, otlp};
use crate::client::{Client, ConnectionSettings};
use crate::peer::{join_path, root_cause};
use crate::tls::PeerTls;

/// The largest number of spans in one request to the collector: some 200 KB.
const MAX_SPANS_A_BATCH: usize = 512;
/// The time for which a span waits for others that are sent with it.
const BATCH_DELAY: Duration = Duration::from_millis(500);
/// The time within which the collector must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which a process that ends goes on sending the spans that are left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The task that sends the spans of this process to the collector.
pub struct SpanExport {
    span_receiver: mpsc::Receiver<FinishedSpan>,
    /// The spans of the batch that is being collected or sent.
    batch: Vec<FinishedSpan>,
    client: Client,
    url: Url,
    metrics: TraceMetrics,
    instance: Option<String>,
    /// Whether the collector did not accept the last batch.
    is_away: bool,
}

impl SpanExport {
    pub(super) fn new(
        span_receiver: mpsc::Receiver<FinishedSpan>,
        endpoint: &Url,
        tls: &PeerTls,
        metrics: TraceMetrics,
        instance: Option<String>,
    ) -> Self {
        let connections =
            ConnectionSettings { connect_timeout: Some(ANSWER_TIMEOUT), ..ConnectionSettings::default() };
        let (client, url) = (Client::new(tls, connections), join_path(endpoint, &["v1", "traces"]));
        Self { span_receiver, batch: Vec::new(), client, url, metrics, instance, is_away: false }
    }

    /// Sends spans in batches, for ever.
    async fn export_forever(&mut self) -> Infallible {
        loop {
            if self.span_receiver.recv_many(&mut self.batch, MAX_SPANS_A_BATCH).await == 0 {
                // Every tracer is gone, so no span can come any more.
                return std::future::pending().await;
            }
            let more = async {
                while self.batch.len() < MAX_SPANS_A_BATCH {
                    let room = MAX_SPANS_A_BATCH - self.batch.len();
                    if self.span_receiver.recv_many(&mut self.batch, room).await == 0 {
                        return;
                    }
                }
            };
            let _ = timeout(BATCH_DELAY, more).await;
            self.send_batch().await;
        }
    }

    /// Sends the spans that are left, for at most `FLUSH_TIMEOUT`.
    async fn flush_queue(&mut self) {
        self.span_receiver.close();
        let all = async {
            loop {
                while self.batch.len() < MAX_SPANS_A_BATCH
                    && let Ok(next) = self.span_receiver.try_recv()
                {
                    self.batch.push(next);
                }
                if self.batch.is_empty() {
                    return;
                }
                self.send_batch().await;
            }
        };
        if timeout(FLUSH_TIMEOUT, all).await.is_err() {
            let left = self.batch.len() + self.span_receiver.len();
            tracing::warn!(spans = left, "traces were left at the end: the collector took too long");
        }
    }

    async fn send_batch(&mut self) {
        let request = otlp::encode_request(&self.batch, self.instance.as_deref());
        let kind = HeaderValue::from_static("application/x-protobuf");
        let post = self.client.post(self.url.clone()).body(kind, request.encode_to_vec().into());
        let outcome = match post.timeout(ANSWER_TIMEOUT).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) => Err(root_cause(&error)),
        };
        let (spans, was_away) = (self.batch.len(), self.is_away);
        self.batch.clear();
        self.is_away = outcome.is_err();
        self.metrics
            .add_span_outcomes(if self.is_away { SpanOutcome::Failed } else { SpanOutcome::Exported }, spans);
        match outcome {
            Ok(()) if was_away => tracing::info!(collector = %self.url, "traces are taken again"),
            Err(error) if !was_away => tracing::warn!(
                collector = %self.url, error,
                "traces are not taken: those of now are lost, all else goes on; said once until they are taken again"
            ),
            _ => {}
        }
    }
}

/// Runs `process` to its end, and sends its spans meanwhile; at the end sends those that are left.
pub async fn run_with_export<T>(export: Option<SpanExport>, process: impl Future<Output = T>) -> T {
    let Some(mut export) = export else { return process.await };
    let ended = tokio::select! {
        ended = process => ended,
        never = export.export_forever() => match never {},
    };
    export.flush_queue().await;
    ended
}
