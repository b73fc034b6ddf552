//! Tests all actors together, on an API server and managers of which some hang.

mod rest;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use futures::future::pending;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use liverank_protocol::{ClusterLoad, TermState};
use liverank_runtime::Metrics;
use liverank_runtime::peer::PeerClient;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::build::CURRENT_REVISION;
use crate::build::OperatorFacts;
use crate::policy::Policy;
use crate::run::answer_budget::AnswerBudget;
use crate::run::apply::Stores;
use crate::run::cache::CachedCluster;
use crate::run::events::EventPublisher;
use crate::run::fleet;
use crate::run::lanes::RequestLimit;
use crate::run::lease::{Candidate, HeldLease};
use crate::run::managers::UrlTemplates;
use crate::run::metrics::OperatorMetrics;
use crate::run::shard::{Installation, Shard};
use crate::run::store::ClusterStore;
use crate::run::tokens::{OperatorTokens, PublicKeys};

/// Number of clusters that hang: three times the former limit of requests, when a sick cluster held a place while it
/// waited.
const HANGING_CLUSTERS: usize = 24;
const HEALTHY: usize = 5;
/// The time after which managers consider a planner gone that does not renew its term.
const TERM: Duration = Duration::from_secs(15);
/// The time that the API server takes for a write of the status while a conversion webhook hangs.
const SLOW_STATUS_WRITE: Duration = Duration::from_secs(4);
/// The time that a look takes at most while a write of the status is not answered: less than the apply that is tried
/// first. A look waits for a second of the write, and the rest is for a busy machine.
const LONGEST_LOOK: Duration = Duration::from_secs(4);

/// The log of the test's events, by namespace.
#[derive(Default)]
struct Log {
    /// The times at which managers got a beginning or a renewal of a term.
    terms: BTreeMap<String, Vec<Instant>>,
    /// Number of objects that were applied.
    applied: BTreeMap<String, u32>,
    /// Number of requests that hang now.
    hanging: BTreeMap<String, u32>,
    most_hanging: u32,
    /// Number of times that the status was replaced.
    replaced_statuses: u32,
}

type SharedLog = Arc<Mutex<Log>>;

fn locked(log: &SharedLog) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_sick(namespace: &str) -> bool {
    namespace.starts_with("sick")
}

/// Returns whether the conversion webhook hangs for the resource in this namespace.
fn is_unconverted(namespace: &str) -> bool {
    namespace.starts_with("unconverted")
}

/// Answers every write, except that the webhook on a sick namespace's Ingresses and Services never answers, nor does the
/// conversion webhook in an unconverted one.
async fn api_server(log: SharedLog, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
    let namespace = namespace.unwrap_or_default().to_owned();
    let hooked = path.contains("/ingresses/") || path.contains("/services/");
    if is_sick(&namespace) && hooked && head.method == Method::PATCH {
        let _hangs = HangingRequest::begin(&log, namespace);
        return pending().await;
    }
    let answer = |status: StatusCode, body: &Value| {
        Ok(Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap())
    };
    if head.method == Method::GET {
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
            "reason": "NotFound", "message": "not found", "metadata": {}});
        return answer(StatusCode::NOT_FOUND, &missing);
    }
    if path.ends_with("/token") {
        let made = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"audiences": []}, "status": {"token": "t", "expirationTimestamp": "2100-01-01T00:00:00Z"}});
        return answer(StatusCode::CREATED, &made);
    }
    let bytes = body.collect().await.unwrap().to_bytes();
    let mut object: Value = serde_json::from_slice(&bytes).unwrap();
    if path.ends_with("/status") {
        if is_unconverted(&namespace) {
            if head.headers["content-type"] == "application/apply-patch+yaml" {
                return pending().await;
            }
            sleep(SLOW_STATUS_WRITE).await;
            locked(&log).replaced_statuses += 1;
        }
        object = resource(&namespace);
    } else {
        *locked(&log).applied.entry(namespace).or_default() += 1;
    }
    object["metadata"]["uid"] = json!("u");
    object["metadata"]["resourceVersion"] = json!("told by no watch");
    answer(StatusCode::OK, &object)
}

/// Counts a hanging request for as long as the request is not given up.
struct HangingRequest(SharedLog, String);

impl HangingRequest {
    fn begin(log: &SharedLog, namespace: String) -> Self {
        let mut now = locked(log);
        let hanging = now.hanging.entry(namespace.clone()).or_default();
        *hanging += 1;
        let most = *hanging;
        now.most_hanging = now.most_hanging.max(most);
        Self(Arc::clone(log), namespace)
    }
}

impl Drop for HangingRequest {
    fn drop(&mut self) {
        if let Some(hanging) = locked(&self.0).hanging.get_mut(&self.1) {
            *hanging -= 1;
        }
    }
}

/// Serves the managers of all clusters; those of sick clusters never answer.
async fn managers(log: SharedLog) -> String {
    let load = async |Path((namespace, _)): Path<(String, String)>| {
        if is_sick(&namespace) {
            pending::<()>().await;
        }
        axum::Json(ClusterLoad { fresh: true, ..ClusterLoad::default() })
    };
    let term = async move |Path((namespace, _)): Path<(String, String)>| {
        locked(&log).terms.entry(namespace).or_default().push(Instant::now());
        axum::Json(TermState { term: 7, holder: "test".into(), lease: None })
    };
    let routes = Router::new()
        .route("/{namespace}/{cluster}/load", get(load))
        .route("/{namespace}/{cluster}/term", post(term));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}/{{namespace}}/{{cluster}}/")
}

fn resource(namespace: &str) -> Value {
    let text = include_str!("../../../tests/build/clusters/per-reader.yaml");
    let mut resource: Value = serde_yaml::from_str(text).unwrap();
    resource["metadata"]["namespace"] = json!(namespace);
    resource["metadata"]["resourceVersion"] = json!("1");
    resource
}

fn world(client: &Client, manager: String, namespaces: impl Iterator<Item = String>) -> OperatorContext {
    let metrics = OperatorMetrics::new(&Metrics::default());
    let stores =
        Kind::ALL.into_iter().map(|kind| (kind, Arc::new(ClusterStore::default()))).collect::<Stores>();
    for store in stores.values() {
        store.replace_part("", Vec::new(), "1");
    }
    let pods = Arc::new(ClusterStore::default());
    pods.replace_part("", Vec::new(), "1");
    let clusters = Arc::new(ClusterStore::default());
    let kept = namespaces
        .map(|name| CachedCluster::from_watched(serde_json::from_value(resource(&name)).unwrap()).unwrap());
    clusters.replace_part("", kept.collect(), "1");
    OperatorContext {
        policy: Policy::default(),
        stores,
        pods,
        clusters,
        wakers: Arc::default(),
        request_limit: RequestLimit::new(metrics.clone()),
        installation: Installation { namespace: "system".into(), lease_name: "operator".into() },
        event_publisher: EventPublisher::new(client.clone(), "test", metrics.clone()),
        metrics,
        tokens: OperatorTokens::new(client.clone(), "system", "operator"),
        public_keys: Arc::new(PublicKeys::of_keys("{}")),
        url_templates: UrlTemplates { manager: Some(manager), reader: None },
        peers: (PeerClient::default(), AnswerBudget::of_mib(16)),
        newest_revision: CURRENT_REVISION,
        operator_class: "default".into(),
        operator: OperatorFacts::default(),
        client: client.clone(),
    }
}

fn leadership(client: &Client, metrics: OperatorMetrics) -> Arc<Leadership> {
    let lease = ("system", "operator");
    let candidate = Candidate::for_shards(client, lease, 1, "test", &metrics).0.remove(0);
    Arc::new(Leadership {
        held_lease: HeldLease { uid: "l".into(), transitions: 1 },
        identity: "test".into(),
        shard: Shard::WHOLE,
        candidate,
        ended: CancellationToken::new(),
        metrics,
    })
}

/// Returns a client of the API server that notes what happens in `log`.
fn client_of(log: &SharedLog) -> Client {
    let served = Arc::clone(log);
    Client::new(tower::service_fn(move |request| api_server(Arc::clone(&served), request)), "default")
}

/// Returns the longest time from `began` until now in which the namespace's managers heard nothing of the planner.
fn longest_without_planner(log: &Log, namespace: &str, began: Instant) -> Duration {
    let terms = log.terms.get(namespace).unwrap_or_else(|| panic!("{namespace} never had a planner"));
    let ends: Vec<Instant> =
        [began].into_iter().chain(terms.iter().copied()).chain([Instant::now()]).collect();
    ends.windows(2).map(|two| two[1].saturating_duration_since(two[0])).max().unwrap()
}

#[tokio::test]
async fn a_status_that_waits_for_a_conversion_webhook_holds_no_look() {
    let (namespace, log) = ("unconverted", SharedLog::default());
    let client = client_of(&log);
    let managers = managers(Arc::clone(&log)).await;
    let world = Arc::new(world(&client, managers, std::iter::once(namespace.to_owned())));
    let key = world.clusters.clusters().remove(0);
    let cluster = world.cluster(&key).unwrap();
    let mut actor = Actor::new(&world, &leadership(&client, world.metrics.clone()), &key, &cluster);
    actor.reporter.note_applies_failed_for_long();
    let (began, mut looks) = (Instant::now(), Vec::new());
    while locked(&log).replaced_statuses == 0 {
        let look = Instant::now();
        let NextLook::At(Some(next)) = Box::pin(actor.look_and_act()).await else {
            panic!("the cluster has an actor for ever")
        };
        looks.push(look.elapsed());
        sleep_until(next.into()).await;
    }
    assert!(looks.iter().all(|took| *took < LONGEST_LOOK) && looks.len() > 3, "{looks:?}");
    let longest = longest_without_planner(&locked(&log), namespace, began);
    assert!(longest < TERM, "the managers were without a planner for {longest:?}");
    // While a write goes on, no look begins another one.
    assert_eq!(locked(&log).replaced_statuses, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_whose_managers_and_webhooks_hang_keep_no_other_waiting() {
    const WINDOW: Duration = Duration::from_secs(25);
    let log = SharedLog::default();
    let client = client_of(&log);
    let sick = (0..HANGING_CLUSTERS).map(|at| format!("sick-{at}"));
    let namespaces = sick.chain((0..HEALTHY).map(|at| format!("well-{at}")));
    let world = Arc::new(world(&client, managers(Arc::clone(&log)).await, namespaces));
    let office = leadership(&client, world.metrics.clone());
    let began = Instant::now();
    // This timeout waits for nothing: it is the length of the measurement.
    let led = tokio::time::timeout(WINDOW, fleet::run_actors(world, office)).await;
    assert!(led.is_err(), "it does not end by itself");
    let log = locked(&log);
    for at in 0..HEALTHY {
        let namespace = format!("well-{at}");
        let longest = longest_without_planner(&log, &namespace, began);
        assert!(longest < TERM, "{namespace} was without a planner for {longest:?}");
        assert!(log.applied[&namespace] > 30, "{namespace}: {} objects", log.applied[&namespace]);
    }
    for at in 0..HANGING_CLUSTERS {
        let namespace = format!("sick-{at}");
        // Objects whose writes do not hang are made all the same, even Deployments that come after refused Services.
        assert!(log.applied[&namespace] > 15, "{namespace}: {} objects", log.applied[&namespace]);
    }
    assert_eq!(log.most_hanging, 1, "each cluster waits for one request at a time");
}
