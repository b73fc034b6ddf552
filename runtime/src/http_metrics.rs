//! The metrics of every HTTP port: one layer around the service's router counts and times each request by its route.
//!
//! The number of label values is bounded, whatever a client sends: `route` is a pattern in the table of endpoints
//! ([`liverank_protocol::access`]), never the path of the request, and `method` is one of the table's methods or
//! `other`.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use liverank_core::trace::TraceContext;
use liverank_protocol::access::{CalledService, endpoints_of};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::traced_histogram::TracedHistogram;
use crate::traces::Tracer;
use crate::{request_id, traces};

/// The value of the label `route` for paths that the service serves and the table of endpoints does not list: the files
/// of the console page.
const PAGE_ROUTE: &str = "page";
/// The value of the label `route` for a path that the service does not serve.
const NO_ROUTE: &str = "none";
/// The upper bounds, in seconds, of the histogram of the time until an answer begins. An append to the log takes one to
/// ten milliseconds; the longest deadline of a service is five seconds.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    service: &'static str,
    method: &'static str,
    route: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    service: &'static str,
    method: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    service: &'static str,
    route: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: &'static str,
}

/// The metrics of all HTTP ports of a process. Cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, TracedHistogram, fn() -> TracedHistogram>,
    refusals: Family<RefusalLabels, Counter>,
    requests_in_flight: Family<RouteLabels, Gauge>,
    displaced_connections: Family<ServiceLabel, Counter>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| TracedHistogram::new(DURATION_BUCKETS)),
            refusals: Family::default(),
            requests_in_flight: Family::default(),
            displaced_connections: Family::default(),
        }
    }
}

impl HttpMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let requests =
            "Requests answered, by the class of their status; gone: the client left before the answer";
        registry.register("requests", requests, self.requests.clone());
        registry.register("request_seconds", "Time until an answer began", self.request_seconds.clone());
        registry.register("refusals", "Requests refused, by why", self.refusals.clone());
        registry.register(
            "in_flight",
            "Requests that wait for their answer to begin",
            self.requests_in_flight.clone(),
        );
        registry.register(
            "connections_ended_for_others",
            "Connections of an address with many that had to leave for one of an address with fewer, where all were taken",
            self.displaced_connections.clone(),
        );
    }

    /// Returns the counter of connections to `service` that were closed to make room for a client with fewer
    /// connections.
    pub(crate) fn displaced_connections(&self, service: CalledService) -> Counter {
        self.displaced_connections.get_or_create(&ServiceLabel { service: service.name() }).clone()
    }
}

/// Returns `router` with layers that count and time each request, give it a request id, and, if traces are on, record a
/// span for it.
pub(crate) fn with_measuring_layers(
    router: Router,
    service: CalledService,
    metrics: &HttpMetrics,
    tracer: &Tracer,
) -> Router {
    // Creates the gauges at once: an alert and a dashboard must see that a service is there before its first request.
    for endpoint in endpoints_of(service) {
        let labels = RouteLabels {
            service: service.name(),
            method: known_method_label(endpoint.method),
            route: endpoint.path,
        };
        drop(metrics.requests_in_flight.get_or_create(&labels));
    }
    let port = MeasuredPort { service, metrics: metrics.clone() };
    let mut router = router.layer(from_fn_with_state(Arc::new(port), measure_request));
    if tracer.is_on() {
        let port = traces::http::TracedPort { tracer: tracer.clone(), service };
        router = router.layer(from_fn_with_state(Arc::new(port), traces::http::record_request_span));
    }
    router.layer(from_fn(request_id::assign_request_id))
}

/// Returns the bounded name of a request: its method label and its route label.
pub(crate) fn bounded_request_name(
    service: CalledService,
    method: &Method,
    path: Option<&str>,
) -> (&'static str, &'static str) {
    (method_label(method), route_label(service, path))
}

/// The state of the measuring layer around the ports of one service.
struct MeasuredPort {
    service: CalledService,
    metrics: HttpMetrics,
}

async fn measure_request(State(port): State<Arc<MeasuredPort>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let mut exchange = port.start_measuring(request.method(), path);
    let response = next.run(request).await;
    exchange.status = Some(response.status());
    response
}

impl MeasuredPort {
    fn start_measuring(&self, method: &Method, path: Option<&str>) -> MeasuredRequest<'_> {
        let service = self.service.name();
        let (method, route) = bounded_request_name(self.service, method, path);
        let labels = RouteLabels { service, method, route };
        let in_flight = self.metrics.requests_in_flight.get_or_create(&labels).clone();
        in_flight.inc();
        let trace = traces::current_context();
        MeasuredRequest {
            metrics: &self.metrics,
            labels,
            in_flight,
            started_at: Instant::now(),
            trace,
            status: None,
        }
    }
}

/// One request that is being measured. The request is counted when this value is dropped, because a client may leave
/// before there is an answer.
struct MeasuredRequest<'a> {
    metrics: &'a HttpMetrics,
    labels: RouteLabels,
    /// The number of requests of the same route that wait for their answer to begin; this request is one of them.
    in_flight: Gauge,
    started_at: Instant,
    /// The context of the request's span, if the span is recorded.
    trace: Option<TraceContext>,
    status: Option<StatusCode>,
}

impl Drop for MeasuredRequest<'_> {
    fn drop(&mut self) {
        let RouteLabels { service, method, route } = self.labels.clone();
        let status = self.status.map_or("gone", status_class);
        self.in_flight.dec();
        self.metrics.requests.get_or_create(&RequestLabels { service, method, route, status }).inc();
        self.metrics
            .request_seconds
            .get_or_create(&self.labels)
            .observe(self.started_at.elapsed().as_secs_f64(), self.trace);
        if let Some(reason) = self.status.and_then(refusal_reason) {
            self.metrics.refusals.get_or_create(&RefusalLabels { service, route, reason }).inc();
        }
    }
}

/// Returns the label `route` for the pattern that the router matched; `NO_ROUTE` if it matched none.
fn route_label(service: CalledService, matched: Option<&str>) -> &'static str {
    let Some(matched) = matched else { return NO_ROUTE };
    endpoints_of(service)
        .find(|endpoint| endpoint.path == matched)
        .map_or(PAGE_ROUTE, |endpoint| endpoint.path)
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        // axum answers HEAD by the handler of GET.
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Returns the label of a method that stands in the table of endpoints.
fn known_method_label(method: &'static str) -> &'static str {
    Method::from_bytes(method.as_bytes()).map_or("other", |method| method_label(&method))
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// Returns the value of the label `reason` for a request that was answered with this status; `None` if it was not
/// refused.
fn refusal_reason(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::UNAUTHORIZED => "unauthenticated",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method",
        StatusCode::REQUEST_TIMEOUT => "too_slow",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type",
        StatusCode::TOO_MANY_REQUESTS => "too_many",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "unavailable"
        }
        other if other.is_client_error() => "invalid",
        other if other.is_server_error() => "error",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower_service::Service as _;

    use super::*;
    use crate::Metrics;
    use crate::problem::PortOwner;
    use crate::server::with_problem_fallbacks;

    async fn send_request(router: &Router, method: &str, path: &str) {
        let request = axum::http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        router.clone().call(request).await.unwrap();
    }

    fn router(metrics: &Metrics) -> Router {
        let router = Router::new()
            .route("/videos/{video_id}", get(|| async { StatusCode::NOT_FOUND }))
            .route("/favicon.ico", get(|| async { "" }));
        with_measuring_layers(
            with_problem_fallbacks(PortOwner::Service(CalledService::Gateway), router),
            CalledService::Gateway,
            metrics.http(),
            &Tracer::default(),
        )
    }

    #[tokio::test]
    async fn a_request_is_counted_by_its_pattern_whatever_its_path() {
        let metrics = Metrics::default();
        let router = router(&metrics);
        for id in 0..200 {
            send_request(&router, "GET", &format!("/videos/{id}")).await;
            send_request(&router, "GET", &format!("/nothing/{id}")).await;
            send_request(&router, &format!("M{id}"), "/favicon.ico").await;
        }
        let text = metrics.encode_text();
        let has = |line: &str| assert!(text.contains(line), "{line}: {text}");
        has(
            r#"liverank_http_requests_total{service="gateway",method="GET",route="/videos/{video_id}",status="4xx"} 200"#,
        );
        has(r#"liverank_http_requests_total{service="gateway",method="GET",route="none",status="4xx"} 200"#);
        has(
            r#"liverank_http_requests_total{service="gateway",method="other",route="page",status="4xx"} 200"#,
        );
        has(
            r#"liverank_http_refusals_total{service="gateway",route="/videos/{video_id}",reason="not_found"} 200"#,
        );
        has(r#"liverank_http_in_flight{service="gateway",method="GET",route="/videos/{video_id}"} 0"#);
        has(r#"liverank_http_in_flight{service="gateway",method="other",route="page"} 0"#);
        let series = text.lines().filter(|line| line.starts_with("liverank_http_")).count();
        let of_routes = endpoints_of(CalledService::Gateway).count();
        assert!(series < 60 + of_routes, "{series} series of 600 hostile requests");
    }

    #[test]
    fn every_method_of_the_table_has_a_label_of_its_own() {
        for endpoint in liverank_protocol::access::ENDPOINTS {
            assert_eq!(known_method_label(endpoint.method), endpoint.method, "{}", endpoint.path);
        }
    }

    #[test]
    fn every_route_has_its_gauge_before_the_first_request() {
        let metrics = Metrics::default();
        drop(router(&metrics));
        let text = metrics.encode_text();
        for endpoint in endpoints_of(CalledService::Gateway) {
            let (method, path) = (endpoint.method, endpoint.path);
            let gauge =
                format!(r#"liverank_http_in_flight{{service="gateway",method="{method}",route="{path}"}} 0"#);
            assert!(text.contains(&gauge), "{gauge}: {text}");
        }
    }

    #[tokio::test]
    async fn requests_that_wait_are_counted_by_their_route() {
        let metrics = Metrics::default();
        let router = Router::new().route("/videos", get(std::future::pending::<()>));
        let router =
            with_measuring_layers(router, CalledService::Gateway, metrics.http(), &Tracer::default());
        let asked: Vec<_> = (0..3)
            .map(|_| {
                let request = axum::http::Request::builder().uri("/videos").body(Body::empty()).unwrap();
                Box::pin(router.clone().call(request))
            })
            .collect();
        let mut all = futures::future::join_all(asked);
        assert!(futures::poll!(&mut all).is_pending());
        let of_route = |waiting: u32| {
            let gauge = format!(
                r#"liverank_http_in_flight{{service="gateway",method="GET",route="/videos"}} {waiting}"#
            );
            let text = metrics.encode_text();
            assert!(text.contains(&gauge), "{gauge}: {text}");
        };
        of_route(3);
        drop(all);
        of_route(0);
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_counted_too() {
        let metrics = Metrics::default();
        let router = Router::new().route("/videos", get(std::future::pending::<()>));
        let mut router =
            with_measuring_layers(router, CalledService::Gateway, metrics.http(), &Tracer::default());
        let request = axum::http::Request::builder().uri("/videos").body(Body::empty()).unwrap();
        let answer = router.call(request);
        let soon = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, answer).await.is_err());
        let text = metrics.encode_text();
        assert!(text.contains(r#"route="/videos",status="gone"} 1"#), "{text}");
        assert!(
            text.contains(r#"liverank_http_in_flight{service="gateway",method="GET",route="/videos"} 0"#),
            "{text}"
        );
    }
}
