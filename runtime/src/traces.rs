//! Traces over OTLP: records the spans of a request, through every process and the log, and sends them to a trace
//! collector.
//!
//! A trace begins with the span of a request at an HTTP port (`http`). The span's context is written to the log with
//! the record that the request appends. From there it goes with the consumer's batch to the boards and to the streams
//! of comments ([ADR 029](../../docs/adr/029-traces.md)). [`liverank_core::trace`] decides which traces are recorded; a
//! span of any other trace is never made.
//!
//! Without `--otlp-endpoint` tracing is off: no layer at the ports, no queue, no task. With it, nothing waits for the
//! collector: spans go into a bounded queue, and spans for which the queue has no room are counted and dropped
//! ([`SpanExport`]).

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use liverank_core::trace::{SamplingRates, SamplingReason, TraceContext, TraceSampler};
use tokio::sync::mpsc;

mod args;
mod export;
pub(crate) mod http;
mod metrics;
mod otlp;

pub use args::TraceArgs;
pub use export::{SpanExport, run_with_export};
use metrics::{SpanOutcome, TraceMetrics};

/// The largest number of spans that wait for the collector, half a kilobyte each: some seconds' worth at the limits of
/// [`TraceSampler`].
const MAX_SPANS_QUEUED: usize = 4_096;
/// The longest text of an attribute, in bytes: enough for an id, which a client may choose.
const MAX_ATTRIBUTE_TEXT_BYTES: usize = 256;

tokio::task_local! {
    /// The context of the span of the request that is being answered, if the span is recorded.
    static CURRENT_SPAN: TraceContext;
}

/// Returns the context of the span of the request that is being answered; `None` if the span is not recorded, and
/// outside of a request.
pub fn current_context() -> Option<TraceContext> {
    CURRENT_SPAN.try_with(|context| *context).ok()
}

/// Records the spans of this process and queues them for export. Cheap to clone; the default records nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<TraceRecording>>);

struct TraceRecording {
    sampling: SamplingRates,
    sampler: Mutex<TraceSampler>,
    clock_origin: Instant,
    queue: mpsc::Sender<FinishedSpan>,
    metrics: TraceMetrics,
}

impl Tracer {
    /// Creates a tracer that records, and the receiver of its queue.
    fn new_recording(sampling: SamplingRates, metrics: TraceMetrics) -> (Self, mpsc::Receiver<FinishedSpan>) {
        let (queue, finished) = mpsc::channel(MAX_SPANS_QUEUED);
        let sampler = Mutex::new(TraceSampler::new(&sampling));
        let recording = TraceRecording { sampling, sampler, clock_origin: Instant::now(), queue, metrics };
        (Self(Some(Arc::new(recording))), finished)
    }

    /// Returns true if this tracer records at all.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of the work that `service` does on a record, a change or a comment with the trace context
    /// `parent`. Returns `None` if the trace is not recorded.
    pub fn continue_trace(
        &self,
        service: &'static str,
        name: &'static str,
        parent: &TraceContext,
    ) -> Option<RecordedSpan> {
        let recording = self.0.as_ref().filter(|_| parent.sampled)?;
        recording.admits_trace(SamplingReason::Continued).then(|| {
            let context = parent.with_span(random_span_id());
            RecordedSpan::begin_span(
                recording,
                service,
                name.into(),
                SpanKind::Consumer,
                context,
                Some(parent.span_id),
            )
        })
    }

    /// Begins the span of a request to `service` if its trace is recorded; else returns the context, not sampled, that
    /// is passed on with the request and returned to the client. `fresh` is the trace id of a request that brings none.
    /// Returns `None` if tracing is off.
    fn begin_request_span(
        &self,
        service: &'static str,
        name: impl FnOnce() -> String,
        parent: Option<TraceContext>,
        fresh: [u8; 16],
    ) -> Option<Result<RecordedSpan, TraceContext>> {
        let recording = self.0.as_ref()?;
        let trace = parent.map_or(fresh, |parent| parent.trace_id);
        let reason = recording.sampling.sampling_reason(parent.as_ref(), &trace);
        let sampled = reason.is_some_and(|reason| recording.admits_trace(reason));
        let context = TraceContext { trace_id: trace, span_id: random_span_id(), sampled };
        if !sampled {
            return Some(Err(context));
        }
        let parent = parent.map(|parent| parent.span_id);
        Some(Ok(RecordedSpan::begin_span(
            recording,
            service,
            name().into(),
            SpanKind::Server,
            context,
            parent,
        )))
    }
}

impl TraceRecording {
    fn admits_trace(&self, reason: SamplingReason) -> bool {
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = sampler.admit_trace(reason, self.clock_origin.elapsed());
        drop(sampler);
        self.metrics.count_sampling_decision(reason, admitted);
        admitted
    }
}

/// Returns random bytes that are never all zeros.
fn random_span_id() -> [u8; 8] {
    rand::random_range(1..=u64::MAX).to_be_bytes()
}

/// The kind of a span, as OpenTelemetry defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpanKind {
    /// The span of answering a request.
    Server,
    /// The span of handling something that another process published.
    Consumer,
    /// A part of another span of this process.
    Internal,
}

/// The value of an attribute of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanAttribute {
    /// A text as the value of an attribute; texts of more than 256 bytes are cut.
    Text(String),
    /// A whole number as the value of an attribute.
    Integer(i64),
}

impl From<i64> for SpanAttribute {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for SpanAttribute {
    fn from(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(MAX_ATTRIBUTE_TEXT_BYTES)].to_owned())
    }
}

/// The data of a span that has ended, ready for export.
#[derive(Debug)]
struct FinishedSpan {
    service: &'static str,
    name: Cow<'static, str>,
    kind: SpanKind,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    started_at: SystemTime,
    duration: Duration,
    attributes: Vec<(&'static str, SpanAttribute)>,
    error: Option<&'static str>,
}

/// A span of a recorded trace. The span ends when this value is dropped.
pub struct RecordedSpan {
    recording: Arc<TraceRecording>,
    started_at: Instant,
    span_data: Option<FinishedSpan>,
}

impl RecordedSpan {
    fn begin_span(
        recording: &Arc<TraceRecording>,
        service: &'static str,
        name: Cow<'static, str>,
        kind: SpanKind,
        context: TraceContext,
        parent: Option<[u8; 8]>,
    ) -> Self {
        let (started_at, duration, attributes, error) = (SystemTime::now(), Duration::ZERO, Vec::new(), None);
        let data =
            FinishedSpan { service, name, kind, context, parent, started_at, duration, attributes, error };
        Self { recording: Arc::clone(recording), started_at: Instant::now(), span_data: Some(data) }
    }

    /// Begins a span of the same service that is a part of this one.
    #[must_use]
    pub fn begin_child(&self, name: &'static str) -> Self {
        let context = self.trace_context().with_span(random_span_id());
        let service = self.span_data.as_ref().map_or("", |data| data.service);
        let parent = Some(self.trace_context().span_id);
        Self::begin_span(&self.recording, service, name.into(), SpanKind::Internal, context, parent)
    }

    /// Returns the trace context of the span, which other processes need to continue the trace.
    pub fn trace_context(&self) -> TraceContext {
        self.span_data.as_ref().expect("only dropping it takes it away").context
    }

    /// Adds an attribute to the span. The attribute's name is one of a few that the code fixes; for ids that clients
    /// choose see [`SpanAttribute::Text`].
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<SpanAttribute>) {
        if let Some(data) = &mut self.span_data {
            data.attributes.push((name, value.into()));
        }
    }

    /// Marks the span as failed, with the reason.
    pub const fn set_failed(&mut self, why: &'static str) {
        if let Some(data) = &mut self.span_data {
            data.error = Some(why);
        }
    }
}

impl Drop for RecordedSpan {
    fn drop(&mut self) {
        let Some(mut data) = self.span_data.take() else { return };
        data.duration = self.started_at.elapsed();
        if self.recording.queue.try_send(data).is_err() {
            self.recording.metrics.add_span_outcomes(SpanOutcome::Dropped, 1);
        }
    }
}

#[cfg(test)]
mod tests;
