//! A collector of traces in the test's process, which accepts OTLP (HTTP with protobuf).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use tokio::net::TcpListener;

use crate::wait;

/// A span that the collector received, with its ids in hexadecimal digits.
#[derive(Debug, Clone)]
pub struct RecordedSpan {
    /// The service that recorded the span, such as `liverank-gateway`.
    pub service: String,
    /// The name of the span.
    pub name: String,
    /// The id of the trace to which the span belongs.
    pub trace_id: String,
    /// The id of the span.
    pub span_id: String,
    /// The id of the parent span; empty if the span has none.
    pub parent: String,
}

type TakenSpans = Arc<Mutex<Vec<RecordedSpan>>>;

/// A collector of traces that listens on a port of 127.0.0.1.
pub struct Collector {
    /// The collector's URL, for the flag `--otlp-endpoint`.
    pub url: String,
    taken_spans: TakenSpans,
}

impl Collector {
    /// Starts a collector that listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let taken_spans = TakenSpans::default();
        let router = Router::new().route("/v1/traces", post(take_spans)).with_state(Arc::clone(&taken_spans));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, taken_spans }
    }

    /// Returns the received spans of a trace, in the order of their arrival.
    pub fn of_trace(&self, trace: &str) -> Vec<RecordedSpan> {
        let taken = self.taken_spans.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().filter(|span| span.trace_id == trace).cloned().collect()
    }

    /// Waits until a trace has a chain of spans for each list of names, as [`Self::wait_for_span_chain`] does, but not
    /// longer than twenty seconds; returns the names that are missing then.
    pub async fn missing_spans(&self, trace: &str, parent: &str, chains: &[Vec<&str>]) -> Vec<String> {
        let deadline = std::time::Instant::now() + SPANS_TIMEOUT;
        loop {
            let spans = self.of_trace(trace);
            let missing: Vec<String> = chains
                .iter()
                .filter_map(|names| first_missing_span(&spans, parent, names))
                .map(str::to_owned)
                .collect();
            if missing.is_empty() || std::time::Instant::now() > deadline {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a trace has a chain of spans with these names, each the parent of the next one, whose first span
    /// has the parent `parent`. Panics after a minute.
    pub async fn wait_for_span_chain(&self, trace: &str, parent: &str, names: &[&str]) {
        let within = Duration::from_mins(1);
        let deadline = std::time::Instant::now() + within;
        wait::until("the way of a trace", within + Duration::from_secs(1), || async {
            let spans = self.of_trace(trace);
            let missing = first_missing_span(&spans, parent, names);
            assert!(
                missing.is_none() || std::time::Instant::now() < deadline,
                "{missing:?} is not in its place in {spans:#?}"
            );
            missing.is_none().then_some(())
        })
        .await;
    }
}

/// The time limit until all spans of a post are received: processes send their spans every few seconds.
const SPANS_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the first of these names that has no span whose parent is the span before it in the chain; `None` if the
/// chain is complete.
fn first_missing_span<'a>(spans: &[RecordedSpan], parent: &str, names: &[&'a str]) -> Option<&'a str> {
    let (first, rest) = names.split_first()?;
    let candidates = spans.iter().filter(|span| span.name == *first && span.parent == parent);
    // The first word of a span's name is the role of the service that must have recorded it.
    let of_service = candidates.filter(|span| span.service == format!("liverank-{}", span_word(first)));
    let missing: Vec<Option<&str>> =
        of_service.map(|span| first_missing_span(spans, &span.span_id, rest)).collect();
    if missing.is_empty() { Some(first) } else { missing.into_iter().min_by_key(Option::is_some)? }
}

fn span_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or_default()
}

async fn take_spans(State(taken): State<TakenSpans>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap_or_default().attributes;
        let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
        let service = match name.and_then(|name| name.value?.value) {
            Some(Value::StringValue(name)) => name,
            other => panic!("service.name is {other:?}"),
        };
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let hex = |bytes: &[u8]| liverank_core::comment::to_hex(bytes);
            taken.push(RecordedSpan {
                service: service.clone(),
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
            });
        }
    }
}
