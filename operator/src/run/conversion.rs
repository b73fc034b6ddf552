//! The webhook that converts `RankingCluster`s between v1alpha1 and v1beta1. The webhook runs only with
//! `--conversion-listen`, in every replica; the API server calls it through the operator's Service.
//!
//! The conversion itself is [`crate::crd::v1beta1`]: it knows no secret and changes nothing, so that anybody may ask.
//! The port shows the certificate of the admin port if there is one (`--tls-cert-file`), and then whoever made it tells
//! the API server its authority. Otherwise it shows a certificate of the operator's own ([`certificate`]): the leader
//! keeps it in a Secret and tells the API server ([`keeping`]), and each replica reads it from there.

pub mod certificate;
pub mod keeping;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use liverank_runtime::free_shares::CallerUnitPool;
use liverank_runtime::problem::PortOwner;
use liverank_runtime::tls::ListenerTls;
use liverank_runtime::{HttpSettings, body, server};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::metrics::{ConversionPart, ConversionResult, OperatorMetrics};
use crate::crd::v1beta1::{CONVERT_PATH, answer_review};
use certificate::HeldCertificate;

/// The largest request, in bytes. The API server sends a whole page of a list, usually 500 objects of some 12 KB.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// The number of bytes of requests that are in memory at once. One client has at most half of them: two of the largest
/// requests of the API server, whatever others send.
const MAX_BYTES_HELD: usize = 4 * MAX_BODY_BYTES;
/// The number of requests that are converted at the same time: each may take twice its size in memory.
const MAX_CONVERTING: usize = 2;
/// The time between two reads of the Secret. For that long after a renewal, replicas may show the former certificate,
/// which the API server still accepts.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two reads of the Secret as long as it has no certificate.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit of a request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of the webhook.
#[derive(Debug, Clone)]
pub struct ConversionSettings {
    /// The address of the webhook's port.
    pub listen: SocketAddr,
    /// The operator's own namespace.
    pub namespace: String,
    /// The name of the Service by which the API server finds the port.
    pub service: String,
    /// The name of the Secret with the operator's own certificate.
    pub secret: String,
}

/// Serves the webhook until this future is dropped. The future ends only if the port cannot be listened on.
pub async fn serve_webhook(
    client: kube::Client,
    settings: ConversionSettings,
    given: Option<ListenerTls>,
    metrics: OperatorMetrics,
) {
    let api: Api<Secret> = Api::namespaced(client, &settings.namespace);
    let own = given.is_none();
    let (tls, first) = match given {
        Some(tls) => (tls.without_client_certificates(), None),
        None => wait_for_first_certificate(&api, &settings.secret).await,
    };
    let listener =
        match server::bind_listener(settings.listen, "the conversion webhook", "--conversion-listen").await {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(error = format!("{error:#}"), "v1beta1 is not converted"),
        };
    tracing::info!(address = %settings.listen, own_certificate = own, "converting between versions");
    let upload_room = CallerUnitPool::new(MAX_BYTES_HELD);
    let http = HttpSettings { tls: Some(tls.clone()), upload_room, ..HttpSettings::default() };
    let serving = server::serve_until_dropped(listener, router(metrics), http);
    tokio::select! {
        ended = serving => drop(ended),
        () = follow_secret(&api, &settings.secret, &tls, first), if own => {}
    }
}

/// Waits until the Secret has a certificate, and returns it in the form that a listener uses.
async fn wait_for_first_certificate(api: &Api<Secret>, name: &str) -> (ListenerTls, Option<HeldCertificate>) {
    loop {
        if let Ok(Some(held)) = read_secret(api, name).await
            && let Ok(tls) =
                ListenerTls::from_pem(held.certificate.as_bytes(), held.key.as_bytes(), Timestamp::now())
        {
            return (tls, Some(held));
        }
        sleep(FIRST_LOOK_INTERVAL).await;
    }
}

/// Makes the webhook use the certificate in the Secret whenever that certificate changes. Never returns.
async fn follow_secret(api: &Api<Secret>, name: &str, tls: &ListenerTls, mut shown: Option<HeldCertificate>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        // A Secret that is away or cannot be read is the leader's to report; the former certificate stays.
        let Ok(Some(held)) = read_secret(api, name).await else { continue };
        if shown.as_ref() == Some(&held) {
            continue;
        }
        match tls.replace_pem(held.certificate.as_bytes(), held.key.as_bytes(), Timestamp::now()) {
            Ok(()) => tracing::info!("the conversion webhook shows a renewed certificate"),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the renewed certificate is of no use");
            }
        }
        shown = Some(held);
    }
}

/// Returns the certificate in the Secret; `None` if there is no Secret, or no certificate in it.
async fn read_secret(api: &Api<Secret>, name: &str) -> anyhow::Result<Option<HeldCertificate>> {
    let found = timeout(REQUEST_TIMEOUT, api.get_opt(name)).await.context("no answer in time")??;
    Ok(found.as_ref().and_then(HeldCertificate::of_secret))
}

struct ConversionState {
    conversion_permits: Semaphore,
    metrics: OperatorMetrics,
}

/// Returns the router of the webhook's port.
pub fn router(metrics: OperatorMetrics) -> Router {
    let state = ConversionState { conversion_permits: Semaphore::new(MAX_CONVERTING), metrics };
    server::with_problem_fallbacks(
        PortOwner::Webhook,
        Router::new().route(CONVERT_PATH, post(convert)).with_state(Arc::new(state)),
    )
}

/// Answers the API server's request to convert objects.
async fn convert(State(state): State<Arc<ConversionState>>, headers: HeaderMap, body: Body) -> Response {
    let body = match body::read_body(&headers, body, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(problem) => {
            state.metrics.count_conversion(ConversionResult::Unreadable);
            let answer = problem.into_response();
            if answer.status() != StatusCode::PAYLOAD_TOO_LARGE {
                return answer;
            }
            let text = format!("more than {MAX_BODY_BYTES} bytes: ask for fewer objects at a time\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
    };
    // The place is taken once the body is there: anybody may send slowly, and the API server must not wait for that.
    let Ok(_place) = state.conversion_permits.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match answer_review(&body) {
        Ok(answered) => {
            let result = match &answered.refusal {
                None => ConversionResult::Converted,
                Some(_) => ConversionResult::Refused,
            };
            state.metrics.count_conversion(result);
            if let Some(reason) = answered.refusal {
                tracing::info!(reason, "a RankingCluster cannot be converted");
            }
            ([(header::CONTENT_TYPE, "application/json")], answered.body).into_response()
        }
        Err(error) => {
            state.metrics.count_conversion(ConversionResult::Unreadable);
            (StatusCode::BAD_REQUEST, format!("no ConversionReview: {error}\n")).into_response()
        }
    }
}

/// Logs whether a part of the webhook is in order, once for each change, and sets its metric.
struct PartReport {
    part: ConversionPart,
    last_result: Option<Result<(), String>>,
}

impl PartReport {
    const fn new(part: ConversionPart) -> Self {
        Self { part, last_result: None }
    }

    fn note_result(&mut self, metrics: &OperatorMetrics, result: &anyhow::Result<()>) {
        let result = result.as_ref().map_err(|error| format!("{error:#}")).copied();
        metrics.note_conversion_part(self.part, result.is_ok());
        if self.last_result.as_ref() == Some(&result) {
            return;
        }
        match &result {
            Ok(()) => tracing::info!(part = self.part.name(), "the conversion webhook is in order"),
            Err(error) => tracing::warn!(
                part = self.part.name(),
                error,
                "users of v1beta1 are not served; v1alpha1 goes on"
            ),
        }
        self.last_result = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_those_who_do_not_send() {
        let state = Arc::new(ConversionState {
            conversion_permits: Semaphore::new(MAX_CONVERTING),
            metrics: OperatorMetrics::new(&liverank_runtime::Metrics::default()),
        });
        let ask = |body| convert(State(Arc::clone(&state)), HeaderMap::new(), body);
        let unsent = || Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
        let mut waiting: Vec<_> = (0..2 * MAX_CONVERTING).map(|_| Box::pin(ask(unsent()))).collect();
        for request in &mut waiting {
            assert!(futures::poll!(request).is_pending());
        }
        let answer = futures::poll!(Box::pin(ask(Body::from("{}"))));
        assert_eq!(answer.map(|answer| answer.status()), std::task::Poll::Ready(StatusCode::BAD_REQUEST));
        for request in waiting {
            assert_eq!(request.await.status(), StatusCode::REQUEST_TIMEOUT);
        }
    }
}
