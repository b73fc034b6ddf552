//! Records a span for each request at an HTTP port, and reads and writes the header `traceparent`.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use liverank_core::comment::to_hex;
use liverank_core::trace::TraceContext;
use liverank_protocol::access::CalledService;
use tracing::Instrument as _;

use super::{CURRENT_SPAN, RecordedSpan, Tracer};
use crate::{http_metrics, request_id};

/// The header with the trace context (W3C Trace Context).
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// The tracer and the service of a port whose requests are recorded as spans.
pub(crate) struct TracedPort {
    pub(crate) tracer: Tracer,
    pub(crate) service: CalledService,
}

/// A middleware: answers a request within a span of its own, if its trace is recorded. Requests that the handler sends
/// to other services get this span as their parent, and the answer names it to the client.
pub(crate) async fn record_request_span(
    State(port): State<Arc<TracedPort>>,
    mut request: Request,
    next: Next,
) -> Response {
    let parent =
        request.headers().get(TRACEPARENT_HEADER).and_then(|value| TraceContext::parse(value.as_bytes()));
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let (method, route) = http_metrics::bounded_request_name(port.service, request.method(), path);
    let service = port.service.name();
    let id = request_id::current_id().unwrap_or_default();
    let name = || format!("{service} {method} {route}");
    // If this process made the request's id, the same bytes are the id of a new trace: so either finds the other.
    match port.tracer.begin_request_span(
        service,
        name,
        parent,
        request_id::random_bytes_of_current_id().unwrap_or_else(rand::random),
    ) {
        None => next.run(request).await,
        Some(Err(context)) => {
            let header = set_traceparent(request.headers_mut(), &context);
            let mut response = next.run(request).await;
            response.headers_mut().insert(TRACEPARENT_HEADER, header);
            response
        }
        Some(Ok(mut span)) => {
            let context = span.trace_context();
            let header = set_traceparent(request.headers_mut(), &context);
            span.set_attribute("http.request.method", method);
            span.set_attribute("http.route", route);
            span.set_attribute("liverank.request_id", id.as_str());
            let trace = tracing::info_span!("trace", trace_id = %to_hex(&context.trace_id));
            let mut response = CURRENT_SPAN.scope(context, next.run(request).instrument(trace)).await;
            note_answer(&mut span, &response);
            response.headers_mut().insert(TRACEPARENT_HEADER, header);
            response
        }
    }
}

fn note_answer(span: &mut RecordedSpan, response: &Response) {
    let status = response.status();
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_failed("the answer is an error of ours");
    }
}

fn set_traceparent(headers: &mut HeaderMap, context: &TraceContext) -> HeaderValue {
    let header = HeaderValue::try_from(context.to_string()).expect("digits and dashes make a header");
    headers.insert(TRACEPARENT_HEADER, header.clone());
    header
}
