use std::sync::Mutex as StdMutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use liverank_protocol::access::CalledService;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::net::TcpListener;
use tower_service::Service as _;

use super::http::TRACEPARENT_HEADER;
use super::*;
use crate::Metrics;
use crate::http_metrics::with_measuring_layers;
use crate::tls::PeerTls;

const SAMPLED_TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn args(endpoint: Option<&str>, ratio: f64, per_minute: u32) -> TraceArgs {
    let otlp_endpoint = endpoint.map(|endpoint| endpoint.parse().unwrap());
    TraceArgs { otlp_endpoint, trace_ratio: ratio, traces_per_minute: per_minute }
}

/// Returns a router whose answer is the `traceparent` that its handler would pass on.
fn traced_router(tracer: &Tracer, metrics: &Metrics) -> Router {
    let seen = |headers: axum::http::HeaderMap| async move {
        let header = headers.get(TRACEPARENT_HEADER).map_or("", |value| value.to_str().unwrap()).to_owned();
        format!("{header} {}", current_context().map_or_else(String::new, |context| context.to_string()))
    };
    let router = Router::new()
        .route("/videos", get(seen))
        .route("/interact", post(|| async { StatusCode::BAD_GATEWAY }));
    with_measuring_layers(router, CalledService::Gateway, metrics.http(), tracer)
}

async fn ask_traced(router: &mut Router, headers: &[(&str, &str)]) -> (Option<String>, String) {
    let mut request = axum::http::Request::builder().uri("/videos");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
    let header = answer.headers().get(TRACEPARENT_HEADER).map(|value| value.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
    (header, String::from_utf8(body.to_vec()).unwrap())
}

/// Starts a collector that answers with `status`, and returns its address and the requests that it got.
async fn fake_collector(status: StatusCode) -> (String, Arc<StdMutex<Vec<ExportTraceServiceRequest>>>) {
    let taken: Arc<StdMutex<Vec<ExportTraceServiceRequest>>> = Arc::default();
    let take = |State(taken): State<Arc<StdMutex<Vec<ExportTraceServiceRequest>>>>, body: Bytes| async move {
        taken.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    };
    let take = if status.is_success() { post(take) } else { post(move || async move { status }) };
    let router = Router::new().route("/base/v1/traces", take).with_state(Arc::clone(&taken));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, taken)
}

#[tokio::test]
async fn without_an_endpoint_no_trace_is_recorded() {
    let metrics = Metrics::default();
    let (tracer, export) = args(None, 1.0, 1).open_tracer(&PeerTls::default(), &metrics, None);
    assert!(!tracer.is_on() && export.is_none());
    let (header, seen) =
        ask_traced(&mut traced_router(&tracer, &metrics), &[(TRACEPARENT_HEADER, SAMPLED_TRACEPARENT)]).await;
    assert_eq!(
        (header, seen.as_str()),
        (None, format!("{SAMPLED_TRACEPARENT} ").as_str()),
        "passed on as it came"
    );
    assert!(!metrics.encode_text().contains("liverank_traces"));
}

#[tokio::test]
async fn a_request_is_a_span_under_its_parent_and_says_so() {
    let metrics = Metrics::default();
    let (url, taken) = fake_collector(StatusCode::OK).await;
    let (tracer, export) =
        args(Some(&url), 0.0, 60).open_tracer(&PeerTls::default(), &metrics, Some("pod-1".to_owned()));
    let asked = async {
        let mut router = traced_router(&tracer, &metrics);
        let failing = axum::http::Request::post("/interact").header(TRACEPARENT_HEADER, SAMPLED_TRACEPARENT);
        router.call(failing.body(Body::empty()).unwrap()).await.unwrap();
        ask_traced(&mut router, &[(TRACEPARENT_HEADER, SAMPLED_TRACEPARENT), ("x-request-id", "of-mine")])
            .await
    };
    let (header, seen) = run_with_export(export, asked).await;
    let context = header.unwrap();
    assert_eq!(seen, format!("{context} {context}"));
    let parsed = TraceContext::parse(context.as_bytes()).unwrap();
    let parent = TraceContext::parse(SAMPLED_TRACEPARENT.as_bytes()).unwrap();
    assert!(parsed.sampled && parsed.trace_id == parent.trace_id && parsed.span_id != parent.span_id);
    let taken = taken.lock().unwrap();
    let [request] = taken.as_slice() else { panic!("{} requests", taken.len()) };
    let [resource] = request.resource_spans.as_slice() else { panic!("{request:?}") };
    let of_resource = format!("{:?}", resource.resource);
    assert!(of_resource.contains("liverank-gateway") && of_resource.contains("pod-1"), "{of_resource}");
    let [failed, span] = resource.scope_spans[0].spans.as_slice() else { panic!("{request:?}") };
    assert_eq!(
        (span.name.as_str(), span.parent_span_id.as_slice()),
        ("gateway GET /videos", &parent.span_id[..])
    );
    assert_eq!(
        (span.span_id.as_slice(), span.trace_id.as_slice()),
        (&parsed.span_id[..], &parent.trace_id[..])
    );
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    assert!(format!("{:?}", span.attributes).contains("of-mine") && span.status.is_none());
    assert!(
        failed.name == "gateway POST /interact"
            && failed.status.as_ref().is_some_and(|status| status.code == 2)
    );
    assert!(metrics.encode_text().contains(r#"liverank_traces_spans_total{outcome="exported"} 2"#));
}

#[tokio::test]
async fn a_trace_that_begins_here_has_the_id_of_its_request_unless_a_stranger_chose_that() {
    let metrics = Metrics::default();
    let (tracer, _export) =
        args(Some("http://127.0.0.1:9"), 1.0, 60).open_tracer(&PeerTls::default(), &metrics, None);
    let mut router = traced_router(&tracer, &metrics);
    let request = axum::http::Request::get("/videos").body(Body::empty()).unwrap();
    let answer = router.call(request).await.unwrap();
    let [id, parent] =
        ["x-request-id", TRACEPARENT_HEADER].map(|name| answer.headers()[name].to_str().unwrap());
    assert!(parent[3..].starts_with(id) && parent.ends_with("-01"), "{id} {parent}");
    let chosen = "0".repeat(31) + "1";
    let (header, _) = ask_traced(&mut router, &[("x-request-id", &chosen)]).await;
    assert!(!header.unwrap().contains(&chosen));
}

#[tokio::test]
async fn a_flood_of_sampled_parents_is_not_recorded_and_leaves_room_for_others() {
    let metrics = Metrics::default();
    let (tracer, _export) =
        args(Some("http://127.0.0.1:9"), 1.0, 5).open_tracer(&PeerTls::default(), &metrics, None);
    let mut router = traced_router(&tracer, &metrics);
    let mut sampled = 0;
    for _ in 0..100 {
        let (header, seen) = ask_traced(&mut router, &[(TRACEPARENT_HEADER, SAMPLED_TRACEPARENT)]).await;
        let header = header.unwrap();
        assert!(seen.starts_with(&header), "who is asked next hears the same");
        sampled += u32::from(header.ends_with("-01"));
    }
    assert_eq!(sampled, 5);
    assert!(ask_traced(&mut router, &[]).await.0.unwrap().ends_with("-01"), "the share has room of its own");
    let text = metrics.encode_text();
    assert!(text.contains(r#"liverank_traces_over_limit_total{reason="asked"} 95"#), "{text}");
    for hostile in ["", "00-", "x", &"0".repeat(5_000)] {
        let (header, _) = ask_traced(&mut router, &[(TRACEPARENT_HEADER, hostile)]).await;
        assert!(
            TraceContext::parse(header.unwrap().as_bytes()).is_some(),
            "a parent that is none begins a trace"
        );
    }
}

/// Runs `end`, which ends a process, until it took less than four seconds; returns how long it took. Some tries take long
/// on a busy machine; a process that waits for its collector takes long each time.
async fn end_in_time(end: impl AsyncFn()) -> Duration {
    let mut took = Vec::new();
    loop {
        let begun = Instant::now();
        end().await;
        took.push(begun.elapsed());
        if begun.elapsed() < Duration::from_secs(4) {
            return begun.elapsed();
        }
        assert!(took.len() < 4, "{took:?}");
    }
}

#[tokio::test]
async fn a_collector_that_refuses_or_is_away_costs_a_counter() {
    let (refusing, _) = fake_collector(StatusCode::SERVICE_UNAVAILABLE).await;
    for url in [refusing.as_str(), "http://127.0.0.1:9"] {
        end_in_time(async || {
            let metrics = Metrics::default();
            let (tracer, export) = args(Some(url), 1.0, 60).open_tracer(&PeerTls::default(), &metrics, None);
            let asked = async { ask_traced(&mut traced_router(&tracer, &metrics), &[]).await };
            run_with_export(export, asked).await;
            let text = metrics.encode_text();
            assert!(text.contains(r#"liverank_traces_spans_total{outcome="failed"} 1"#), "{url}: {text}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_process_ends_within_a_bound_whatever_the_collector_does() {
    // The collector accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let took = end_in_time(async || {
        let metrics = Metrics::default();
        let (tracer, export) = args(Some(&url), 1.0, 60).open_tracer(&PeerTls::default(), &metrics, None);
        let asked = async { ask_traced(&mut traced_router(&tracer, &metrics), &[]).await };
        run_with_export(export, asked).await;
    })
    .await;
    assert!(took >= Duration::from_secs(1), "the collector has a moment: {took:?}");
}

#[tokio::test]
async fn a_full_span_queue_drops_and_counts() {
    let metrics = Metrics::default();
    let sampling = SamplingRates { recorded_share: 1.0, per_minute: 60_000 };
    let (tracer, _finished) = Tracer::new_recording(sampling, TraceMetrics::register(&metrics));
    let parent = TraceContext::parse(SAMPLED_TRACEPARENT.as_bytes()).unwrap();
    let first = tracer.continue_trace("consumer", "consumer count", &parent).unwrap();
    assert_eq!(first.begin_child("consumer project").trace_context().trace_id, parent.trace_id);
    for _ in 0..MAX_SPANS_QUEUED + 10 {
        drop(first.begin_child("consumer project"));
    }
    // The first child is among the spans for which the queue had room.
    assert!(metrics.encode_text().contains(r#"liverank_traces_spans_total{outcome="dropped"} 11"#));
    let unsampled = TraceContext { sampled: false, ..parent };
    assert!(tracer.continue_trace("consumer", "consumer count", &unsampled).is_none());
}
