//! Tests whole replicas, with their real candidates and claims, on an API server that stores Leases: they start, stop,
//! die and lose their connection while the number of shards changes, and no two ever work on one cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::client::Body;
use liverank_runtime::Metrics;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::run::claim::{Claim, ClaimState};
use crate::run::lanes::RequestLimit;
use crate::run::shard::Installation;
use crate::run::store::ClusterKey;

const NAMESPACES: [&str; 8] =
    ["default", "video", "team-a", "team-b", "team-c", "live-shop", "staging", "tv"];
/// The time after the last change within which each cluster must be managed again: by then the Leases and claims of
/// dead replicas have run out.
const SETTLED_AFTER: Duration = Duration::from_mins(1);

/// The content of the API server, and the replicas that work on clusters.
#[derive(Default)]
struct State {
    version: u64,
    leases: BTreeMap<String, Value>,
    /// Each write of a Lease with its version, for watches.
    written: Vec<(u64, Value)>,
    /// The replica and shard that work on a namespace's cluster now.
    at_work: BTreeMap<String, String>,
    /// The replica and shard that last worked on a namespace's cluster, and when.
    worked: BTreeMap<String, (String, Shard, Instant)>,
    chance: u64,
}

type SharedState = Arc<Mutex<State>>;

fn locked(state: &SharedState) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Returns a random number below `below`.
    fn chance(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below
    }

    fn write(&mut self, path: &str, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.written.push((self.version, lease.clone()));
        self.leases.insert(path.to_owned(), lease.clone());
        lease
    }

    /// Returns the API server's answer to a request.
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        sent: Option<Value>,
    ) -> (StatusCode, String) {
        let refused = |code: StatusCode, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
                "reason": reason, "message": reason, "metadata": {}});
            (code, status.to_string())
        };
        if query.contains("watch=true") {
            let parameter = |name: &str| query.split('&').find_map(|it| it.strip_prefix(name)).unwrap();
            let from: u64 = parameter("resourceVersion=").parse().unwrap();
            let name = parameter("fieldSelector=metadata.name%3D");
            let news = self.written.iter().filter(|(version, lease)| {
                *version > from && lease["metadata"]["name"] == name && path.contains("/system/")
            });
            let lines =
                news.map(|(_, lease)| json!({"type": "MODIFIED", "object": lease}).to_string() + "\n");
            return (StatusCode::OK, lines.collect());
        }
        match (method, sent) {
            (&Method::GET, _) => match self.leases.get(path) {
                Some(lease) => (StatusCode::OK, lease.to_string()),
                None => refused(StatusCode::NOT_FOUND, "NotFound"),
            },
            (&Method::POST, Some(mut lease)) => {
                let path = format!("{path}/{}", lease["metadata"]["name"].as_str().unwrap());
                if self.leases.contains_key(&path) {
                    return refused(StatusCode::CONFLICT, "AlreadyExists");
                }
                lease["metadata"]["uid"] = json!(path);
                (StatusCode::CREATED, self.write(&path, lease).to_string())
            }
            (&Method::PUT, Some(lease)) => {
                let before = self.leases.get(path).map(|it| it["metadata"]["resourceVersion"].clone());
                if before.is_none_or(|version| version != lease["metadata"]["resourceVersion"]) {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                (StatusCode::OK, self.write(path, lease).to_string())
            }
            (method, _) => unreachable!("{method} {path}"),
        }
    }
}

/// Serves the API. A request takes up to 30 ms, and so does the answer: what is read may be old.
async fn api_server(state: SharedState, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let pause = |state: &SharedState| sleep(Duration::from_millis(locked(state).chance(30)));
    pause(&state).await;
    let sent = serde_json::from_slice(&bytes).ok();
    let query = head.uri.query().unwrap_or_default();
    let (code, text) = locked(&state).answer(&head.method, head.uri.path(), query, sent);
    pause(&state).await;
    Ok(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
}

/// A replica of the operator: a process with a number of shards.
struct Replica {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Ends the work of the replica's leaders, which runs in tasks of its own.
    dead: CancellationToken,
    /// Whether the replica reaches the API server.
    connected: Arc<AtomicBool>,
}

impl Replica {
    fn start(state: &SharedState, name: &str, shards: u32) -> Self {
        let connected = Arc::new(AtomicBool::new(true));
        let (server, reaches) = (Arc::clone(state), Arc::clone(&connected));
        let service = tower::service_fn(move |request| {
            let (server, reaches) = (Arc::clone(&server), Arc::clone(&reaches));
            async move {
                if reaches.load(Ordering::Relaxed) {
                    api_server(server, request).await
                } else {
                    Err(std::io::Error::other("cut"))
                }
            }
        });
        let client = Client::new(service, "system");
        let metrics = OperatorMetrics::new(&Metrics::default());
        let (candidates, spread) = Candidate::for_shards(&client, ("system", "op"), shards, name, &metrics);
        spread.note_ready();
        let (stop, dead) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for candidate in candidates {
            let (state, client, stop) = (Arc::clone(state), client.clone(), stop.clone());
            let (metrics, name, dead) = (metrics.clone(), name.to_owned(), dead.clone());
            tasks.spawn(async move {
                let lead = |_, over| {
                    let lanes = RequestLimit::new(metrics.clone());
                    let parts = (client.clone(), lanes, metrics.clone());
                    let led = lead(Arc::clone(&state), parts, name.clone(), candidate.shard(), over);
                    let dead = dead.clone();
                    async move {
                        tokio::select! {
                            led = led => led,
                            () = dead.cancelled() => Ok(()),
                        }
                    }
                };
                candidate.run_while_leading(stop, lead).await.unwrap();
            });
        }
        Self { tasks, stop, dead, connected }
    }

    /// Tells the replica to end, and waits until it has ended.
    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Ends the replica at once; requests that it has sent may still arrive.
    async fn kill(mut self) {
        self.dead.cancel();
        self.tasks.shutdown().await;
    }

    fn cut_off(&self) {
        self.connected.store(false, Ordering::Relaxed);
    }
}

/// Does a leader's work: an actor for each cluster of its shard, as in [`crate::run::fleet`].
async fn lead(
    state: SharedState,
    (client, lanes, metrics): (Client, RequestLimit, OperatorMetrics),
    replica: String,
    shard: Shard,
    over: CancellationToken,
) -> anyhow::Result<()> {
    let installation = Installation { namespace: "system".into(), lease_name: "op".into() };
    let mut actors = JoinSet::new();
    for namespace in NAMESPACES.into_iter().filter(|namespace| shard.includes(namespace)) {
        let owner = OwnerReference { name: "live".into(), ..OwnerReference::default() };
        let key = ClusterKey::new(namespace, "live");
        let ours = (&installation, shard);
        let mut claim = Claim::new(client.clone(), lanes.clone(), metrics.clone(), &key, owner, ours);
        let (state, replica) = (Arc::clone(&state), replica.clone());
        actors.spawn(async move {
            loop {
                let wait = match claim.take_or_renew().await {
                    ClaimState::Held => {
                        work(&state, namespace, &replica, shard).await;
                        2
                    }
                    ClaimState::HeldByShard(_) => 4,
                    ClaimState::HeldByInstallation(holder) => {
                        panic!("{holder} is taken for another installation")
                    }
                    ClaimState::Unknown(_) => 5,
                };
                sleep(Duration::from_secs(wait)).await;
            }
        });
    }
    over.cancelled().await;
    actors.shutdown().await;
    Ok(())
}

/// Works on a cluster for some time, and notes the beginning and the end.
async fn work(state: &SharedState, namespace: &str, replica: &str, shard: Shard) {
    struct WorkingReplica<'a>(&'a SharedState, &'a str, String);
    impl Drop for WorkingReplica<'_> {
        fn drop(&mut self) {
            let mut state = locked(self.0);
            if state.at_work.get(self.1) == Some(&self.2) {
                state.at_work.remove(self.1);
            }
        }
    }
    let me = format!("{replica}, {shard}");
    let before = locked(state).at_work.insert(namespace.to_owned(), me.clone());
    assert_eq!(before, None, "{me} begins to work on {namespace} while another does");
    let at_work = WorkingReplica(state, namespace, me.clone());
    let long = locked(state).chance(3_000);
    sleep(Duration::from_millis(long)).await;
    let mut now = locked(state);
    assert_eq!(now.at_work.get(namespace), Some(&me), "another worked on {namespace} meanwhile");
    now.worked.insert(namespace.to_owned(), (replica.to_owned(), shard, Instant::now()));
    drop(now);
    drop(at_work);
}

/// Replaces replicas one after the other by replicas with another number of shards, each in another way.
async fn roll(state: &SharedState, old: Vec<Replica>, shards: u32, round: u32) -> Vec<Replica> {
    let mut new = Vec::new();
    for (at, replica) in old.into_iter().enumerate() {
        new.push(Replica::start(state, &format!("r{round}-{at}"), shards));
        let (pause, way) = {
            let mut state = locked(state);
            (state.chance(40), state.chance(3))
        };
        sleep(Duration::from_secs(pause)).await;
        match way {
            0 => replica.stop().await,
            1 => replica.kill().await,
            _ => {
                replica.cut_off();
                sleep(Duration::from_secs(25)).await;
                replica.kill().await;
            }
        }
    }
    new
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_number_of_shards_never_lets_two_work_on_one_cluster() {
    for seed in 1..=12 {
        let state: SharedState = Arc::new(Mutex::new(State { chance: seed, ..State::default() }));
        let mut replicas = Vec::new();
        for (round, shards) in (0..).zip([1, 3, 2, 1, 4]) {
            replicas = if round == 0 {
                ["r0-0", "r0-1"].map(|name| Replica::start(&state, name, shards)).into()
            } else {
                roll(&state, replicas, shards, round).await
            };
            sleep(SETTLED_AFTER).await;
            let since = Instant::now();
            sleep(Duration::from_secs(15)).await;
            let worked = locked(&state).worked.clone();
            for namespace in NAMESPACES {
                let (replica, shard, at) = &worked[namespace];
                assert!(*at > since, "{seed}: {replica}, {shard} was the last on {namespace}");
                assert_eq!(shard.shard_count, shards, "{seed}: {namespace}");
                assert!(shard.includes(namespace), "{seed}: {namespace} in {shard}");
            }
            let busy: std::collections::BTreeSet<_> = worked.values().map(|(replica, ..)| replica).collect();
            assert_eq!(busy.len(), if shards == 1 { 1 } else { 2 }, "{seed}: {shards} shards, {busy:?} work");
        }
        for replica in replicas {
            replica.stop().await;
        }
        let names: Vec<String> = locked(&state).leases.keys().cloned().collect();
        let ours = names.iter().filter(|name| name.contains("/system/")).count();
        assert_eq!(ours, 4, "{names:?}");
    }
}
