//! The scenario `sick`: 20 clusters whose managers keep the operator waiting, and whose Deployments an admission webhook keeps
//! from being written. The five clusters beside them are looked after as if they were alone, and the status of each sick
//! one says what is wrong.
//!
//! One of the healthy clusters is the cluster under test, whose managers really run. The pods of all others are simulated:
//! the sick clusters' manager pods are said to be at the addresses of two agents that keep everybody waiting.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::agent::unresponsive::UNRESPONSIVE_PORT;
use crate::audience::{self, TOOLS_NAMESPACE, UNRESPONSIVE_SERVICE};
use crate::kube::{
    self, DEPLOYMENT_KIND, DISRUPTION_BUDGET_KIND, POD_KIND, RANKING_CLUSTER_KIND, VALIDATING_WEBHOOK_KIND,
};
use crate::metrics::{GapMeter, Histogram, fetch_metrics, sum_of};
use crate::simulated::{self, SimulatedSite};
use crate::wait::wait_until_some;
use crate::world::{
    CLUSTER_NAME, COMPONENT_LABEL, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, SETTLE_TIMEOUT, is_true,
};

const SICK_NAMESPACE: &str = "liverank-e2e-sick";
const SICK_CLUSTERS: usize = 20;
/// Pods of a sick cluster: one of each of five components, and two readers.
const PODS_A_SICK_CLUSTER: usize = 7;
const WELL_NAMESPACE: &str = "liverank-e2e-well";
/// Number of healthy clusters beside the cluster under test.
const SIMULATED_WELL_CLUSTERS: usize = 4;
/// Pods of a simulated healthy cluster, which has no comments: two gateways, a websocket service, a consumer.
const PODS_A_WELL_CLUSTER: usize = 4;
const NODES: usize = 2;
/// The name of the admission webhook that never answers.
const WEBHOOK_NAME: &str = "liverank-e2e-sick";
/// The time for which nobody may get an answer from what is to keep everybody waiting: as long as the operator waits for a
/// manager.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// The length of the measurement: a sick cluster's first look with the webhook takes 13 s (3 s for its manager, 10 s for
/// the write), and others follow.
const WINDOW: Duration = Duration::from_secs(25);
/// The time between two samples. A gap counts from the end of one sample to the begin of another, so it is seen shorter than
/// it is, by twice this and what the samples take.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// The components whose disruption budgets are edited during the measurement, each at a time of its own: an object that is
/// edited again and again would be contested.
const EDITED: [(&str, Duration); 3] = [
    ("gateway", Duration::from_secs(1)),
    ("websocket", Duration::from_secs(9)),
    ("consumer", Duration::from_secs(17)),
];
/// The edited number, which no budget has otherwise.
const EDITED_NUMBER: u64 = 77;
/// The time limit of a repair: less than a hanging write takes (10 s), so that a cluster that waits for a sick one is late.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest time between two questions to the managers of a healthy cluster, which come every 2 s: less than a hanging
/// write takes.
const LOOK_GAP_LIMIT: Duration = Duration::from_secs(8);
/// The time after which managers take a planner for gone that does not renew its term.
const TERM: Duration = Duration::from_secs(15);
/// The longest look that is permitted, in seconds: the greatest bound of the operator's histogram.
const LOOK_LIMIT_SECONDS: f64 = 24.0;
/// The memory by which the operator may grow while clusters are sick, in KiB.
const GROWTH_LIMIT_KIB: u64 = 8 * 1024;
/// What the status of a sick cluster says of its managers and of its webhook.
const SAID_OF_SICK: [&str; 2] =
    ["no manager has said of late what load there is", "an admission webhook hangs"];
/// The most requests that are sent at the same time.
const MAX_REQUESTS_AT_ONCE: usize = 8;

pub async fn check_healthy_beside_sick(world: &ClusterWorld) -> anyhow::Result<String> {
    audience::start_attendants(world).await?;
    let agents = audience::start_unresponsive(world).await?;
    let site = SimulatedSite {
        namespaces: &[SICK_NAMESPACE, WELL_NAMESPACE],
        nodes: NODES,
        gone_timeout: SETTLE_TIMEOUT,
    };
    let result = site.run(world, async || Box::pin(fall_sick_and_watch(world, &agents)).await).await;
    audience::stop_unresponsive(world).await?;
    result
}

async fn fall_sick_and_watch(world: &ClusterWorld, agents: &[(String, String)]) -> anyhow::Result<String> {
    create_clusters(world).await?;
    let before = OperatorReading::take(world).await?;
    check_nobody_answers(world, agents).await?;
    let start = Instant::now();
    let addresses: Vec<&str> = agents.iter().map(|(_, address)| address.as_str()).collect();
    move_managers(world, &addresses).await?;
    let watched = Box::pin(hang_writes_and_watch(world, start)).await;
    // Before the namespaces go, and whatever was seen.
    world.kube.delete_object(&VALIDATING_WEBHOOK_KIND.object_path("", WEBHOOK_NAME)).await?;
    let seen = watched?;
    let operators = OperatorReading::take(world).await?.compare(&before)?;
    Ok(format!("{seen}; {operators}"))
}

/// Creates all clusters and waits until their pods run and the healthy ones are ready.
async fn create_clusters(world: &ClusterWorld) -> anyhow::Result<()> {
    for nth in 0..SIMULATED_WELL_CLUSTERS {
        world.kube.apply_object(RANKING_CLUSTER_KIND, &well_cluster(world, nth)).await?;
    }
    for nth in 0..SICK_CLUSTERS {
        world.kube.apply_object(RANKING_CLUSTER_KIND, &sick_cluster(world, nth)).await?;
    }
    for (namespace, pods) in [
        (SICK_NAMESPACE, SICK_CLUSTERS * PODS_A_SICK_CLUSTER),
        (WELL_NAMESPACE, SIMULATED_WELL_CLUSTERS * PODS_A_WELL_CLUSTER),
    ] {
        simulated::wait_until_pods_run(world, namespace, pods, SETTLE_TIMEOUT).await?;
    }
    for (namespace, name) in healthy() {
        world.wait_until_ready(namespace, &name).await.context("before anything is sick")?;
    }
    // What a scenario before left may be told as wrong for a while.
    let calm = async || Ok(healthy_problem(world).await?.map_or(Ok(()), Err));
    wait_until_some("nothing is wrong with healthy clusters before", SETTLE_TIMEOUT, calm).await.map(drop)
}

fn well_cluster(world: &ClusterWorld, nth: usize) -> Value {
    let mut cluster = world.new_cluster(WELL_NAMESPACE, &well_name(nth));
    cluster["spec"]["comment"] = json!({"enabled": false});
    for (component, replicas) in [("gateway", 2), ("websocket", 1), ("consumer", 1)] {
        cluster["spec"][component] = simulated::simulated_component(replicas);
    }
    cluster["spec"]["statistics"] = json!({"enabled": false});
    cluster
}

fn sick_cluster(world: &ClusterWorld, nth: usize) -> Value {
    let mut cluster = world.new_cluster(SICK_NAMESPACE, &sick_name(nth));
    for component in ["gateway", "websocket", "comment", "consumer", "manager"] {
        cluster["spec"][component] = simulated::simulated_component(1);
    }
    cluster["spec"]["readers"] = simulated::simulated_component(2);
    cluster["spec"]["readers"]["scaling"] = json!({"mode": "Manual"});
    cluster["spec"]["statistics"] = json!({"enabled": false});
    cluster
}

fn well_name(nth: usize) -> String {
    format!("well-{nth}")
}

fn sick_name(nth: usize) -> String {
    format!("sick-{nth}")
}

/// Returns the namespace and the name of each healthy cluster.
fn healthy() -> impl Iterator<Item = (&'static str, String)> {
    let simulated = (0..SIMULATED_WELL_CLUSTERS).map(|nth| (WELL_NAMESPACE, well_name(nth)));
    std::iter::once((NAMESPACE_NAME, CLUSTER_NAME.to_owned())).chain(simulated)
}

/// Checks that the agents keep everybody waiting: all of the scenario rests on that.
async fn check_nobody_answers(world: &ClusterWorld, agents: &[(String, String)]) -> anyhow::Result<()> {
    let asked = agents.iter().map(|(name, _)| async move {
        let request =
            world.kube.request_to_pod(TOOLS_NAMESPACE, name, UNRESPONSIVE_PORT, Method::GET, "/load", None);
        match timeout(SILENT_FOR, request).await {
            Err(_) => Ok(()),
            Ok(answer) => anyhow::bail!("{name} is to keep everybody waiting, and answers: {answer:?}"),
        }
    });
    futures::future::try_join_all(asked).await.map(drop)
}

/// Says of the sick clusters' manager pods that they are at `addresses`, in turn.
async fn move_managers(world: &ClusterWorld, addresses: &[&str]) -> anyhow::Result<()> {
    let selector = format!("{MANAGED_SELECTOR},{COMPONENT_LABEL}=manager");
    let managers = world.kube.list_objects(POD_KIND, SICK_NAMESPACE, &selector).await?;
    ensure!(managers.len() == SICK_CLUSTERS, "{} sick managers", managers.len());
    for (manager, address) in managers.iter().zip(addresses.iter().cycle()) {
        let path = format!("{}/status", POD_KIND.object_path(SICK_NAMESPACE, kube::object_name(manager)));
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        world.kube.merge_patch(&path, &status).await?.expect_success().context("a manager's address")?;
    }
    Ok(())
}

/// Lets every write of the sick clusters' Deployments hang, changes their specs, and watches the healthy clusters meanwhile.
/// Returns what was seen.
async fn hang_writes_and_watch(world: &ClusterWorld, start: Instant) -> anyhow::Result<String> {
    start_hanging_webhook(world).await?;
    let patches = stream::iter(0..SICK_CLUSTERS).map(|nth| async move {
        let path = RANKING_CLUSTER_KIND.object_path(SICK_NAMESPACE, &sick_name(nth));
        let change = json!({"spec": {"gateway": {"drainSeconds": 7}}});
        world.kube.merge_patch(&path, &change).await?.expect_success().map(drop)
    });
    patches.buffer_unordered(MAX_REQUESTS_AT_ONCE).try_collect::<()>().await?;
    let (gaps, repaired) = tokio::try_join!(Box::pin(watch_healthy(world)), Box::pin(edit_and_wait(world)))?;
    let look = async || sick_statuses(world).await;
    wait_until_some("every sick cluster says what is wrong with it", SETTLE_TIMEOUT, look).await?;
    Ok(format!(
        "{SICK_CLUSTERS} sick for {:.0} s; of {} healthy ones: repaired within {:.1} s, managers asked after {:.0} s at most, \
         terms renewed after {:.0} s at most",
        start.elapsed().as_secs_f64(),
        healthy().count(),
        repaired.as_secs_f64(),
        gaps.questions.as_secs_f64(),
        gaps.renewals.as_secs_f64(),
    ))
}

/// Creates an admission webhook that is asked about each change of a sick cluster's Deployment and never answers, and
/// waits until the API server asks it.
async fn start_hanging_webhook(world: &ClusterWorld) -> anyhow::Result<()> {
    let webhook = json!({
        "apiVersion": VALIDATING_WEBHOOK_KIND.api, "kind": VALIDATING_WEBHOOK_KIND.name,
        "metadata": {"name": WEBHOOK_NAME},
        "webhooks": [{
            "name": "never-answers.liverank.dev",
            "clientConfig": {"service": {"namespace": TOOLS_NAMESPACE, "name": UNRESPONSIVE_SERVICE, "port": 443}},
            "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SICK_NAMESPACE}},
            // The longest that Kubernetes permits, and longer than the operator waits for a write.
            "timeoutSeconds": 30, "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    });
    world.kube.apply_object(VALIDATING_WEBHOOK_KIND, &webhook).await?;
    let gateway_of = |namespace: &str, cluster: &str| {
        format!("{}?dryRun=All", DEPLOYMENT_KIND.object_path(namespace, &format!("{cluster}-gateway")))
    };
    let (sick, well) = (gateway_of(SICK_NAMESPACE, &sick_name(0)), gateway_of(WELL_NAMESPACE, &well_name(0)));
    let note = json!({"metadata": {"annotations": {"example.org/note": "asked"}}});
    let change = async |path: &str| {
        let written =
            world.kube.send_request(Method::PATCH, path, Some(("application/merge-patch+json", &note)));
        timeout(SILENT_FOR, written).await.ok().transpose()
    };
    let write = async || {
        if let Some(answer) = change(&sick).await? {
            return Ok(Err(format!("a change of a Deployment is answered: {:?}", answer.status)));
        }
        // What no webhook is asked about is answered as ever: else the API server itself is slow.
        let answer = change(&well).await?;
        Ok(answer.map(drop).ok_or_else(|| "no change of a Deployment is answered in time".to_owned()))
    };
    wait_until_some("the webhook keeps writes waiting", SETTLE_TIMEOUT, write).await.map(|_| ())
}

/// The longest times without something that should happen again and again.
struct LongestGaps {
    /// The longest time without a question to a manager of the cluster under test.
    questions: Duration,
    /// The longest time without a renewal of the planner's term there.
    renewals: Duration,
}

/// Looks at the healthy clusters again and again while the measurement lasts: each stays ready with nothing wrong, and the
/// managers of the one that has some hear from the planner in time.
async fn watch_healthy(world: &ClusterWorld) -> anyhow::Result<LongestGaps> {
    let managers = world.pods_of("manager").await?;
    let (mut questions, mut renewals) = (GapMeter::default(), GapMeter::default());
    let end = Instant::now() + WINDOW;
    loop {
        let asked = Instant::now();
        let text = fetch_metrics(&world.kube, &managers).await?;
        let answered = Instant::now();
        let requests = |method: &str, route: &str| {
            let labels = [method, route, "status=\"2xx\""];
            sum_of(&text, "liverank_http_requests_total", &labels)
        };
        questions.note(requests("method=\"GET\"", "route=\"/load\""), asked, answered);
        renewals.note(requests("method=\"POST\"", "route=\"/term\""), asked, answered);
        let problem = healthy_problem(world).await?;
        ensure!(problem.is_none(), "beside sick clusters: {}", problem.unwrap_or_default());
        if asked >= end {
            break;
        }
        // This sleep waits for nothing: it is the time between two samples.
        sleep(SAMPLE_EVERY).await;
    }
    let gaps = LongestGaps { questions: questions.longest, renewals: renewals.longest };
    ensure!(
        questions.count > 0 && renewals.count > 0,
        "the managers' metrics count no questions or no renewals"
    );
    let late = |what: &str, gap: Duration, limit: Duration| {
        format!(
            "the operator did not {what} for {:.0} s, the limit is {} s",
            gap.as_secs_f64(),
            limit.as_secs()
        )
    };
    ensure!(gaps.questions < LOOK_GAP_LIMIT, late("ask healthy managers", gaps.questions, LOOK_GAP_LIMIT));
    ensure!(gaps.renewals < TERM, late("renew its term at healthy managers", gaps.renewals, TERM));
    Ok(gaps)
}

/// Returns what is wrong with a healthy cluster by its status; `None` if nothing is.
async fn healthy_problem(world: &ClusterWorld) -> anyhow::Result<Option<String>> {
    let mut clusters = world.kube.list_objects(RANKING_CLUSTER_KIND, WELL_NAMESPACE, "").await?;
    clusters.push(world.live_cluster().await?);
    let sick = clusters.iter().find(|cluster| !is_true(cluster, "Ready") || is_true(cluster, "Degraded"));
    Ok(sick.map(|cluster| format!("{}: {}", kube::object_name(cluster), cluster["status"]["conditions"])))
}

/// Edits an object of each healthy cluster, some times during the measurement, and waits until it is as it was. Returns
/// the longest time that this took.
async fn edit_and_wait(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    for (component, at) in EDITED {
        // This sleep waits for nothing: the edits are spread over the measurement.
        sleep(at.saturating_sub(start.elapsed())).await;
        let repairs = healthy().map(|(namespace, name)| async move {
            let path = DISRUPTION_BUDGET_KIND.object_path(namespace, &format!("{name}-{component}"));
            let edit = json!({"spec": {"maxUnavailable": EDITED_NUMBER}});
            world.kube.merge_patch(&path, &edit).await?.expect_success().context("editing a budget")?;
            let edited = Instant::now();
            let repaired = async || {
                let budget = world.kube.get_object(&path).await?.context("it is gone")?;
                let now = &budget["spec"]["maxUnavailable"];
                Ok(if *now == EDITED_NUMBER { Err(format!("it is still {now}")) } else { Ok(()) })
            };
            let what = format!("the operator repairs {name}-{component} beside sick clusters");
            wait_until_some(&what, REPAIR_TIMEOUT, repaired).await?;
            anyhow::Ok(edited.elapsed())
        });
        for took in futures::future::try_join_all(repairs).await? {
            longest = longest.max(took);
        }
    }
    Ok(longest)
}

/// Checks that each sick cluster's status says what is wrong; otherwise returns one that does not, with its words.
async fn sick_statuses(world: &ClusterWorld) -> anyhow::Result<Result<(), String>> {
    let clusters = world.kube.list_objects(RANKING_CLUSTER_KIND, SICK_NAMESPACE, "").await?;
    let says_all = |cluster: &Value| {
        let degraded = kube::status_condition(cluster, "Degraded").cloned().unwrap_or_default();
        let words = kube::text_at(&degraded, "/message");
        is_true(cluster, "Degraded") && SAID_OF_SICK.iter().all(|said| words.contains(said))
    };
    let silent = clusters.iter().filter(|cluster| !says_all(cluster)).collect::<Vec<_>>();
    Ok(match silent.first() {
        None if clusters.len() == SICK_CLUSTERS => Ok(()),
        None => Err(format!("{} clusters", clusters.len())),
        Some(cluster) => Err(format!(
            "{} of {} do not; {}: {}",
            silent.len(),
            clusters.len(),
            kube::object_name(cluster),
            cluster["status"]["conditions"]
        )),
    })
}

/// What the operators say of themselves: their memory, and how long their looks took.
struct OperatorReading {
    /// The greatest resident memory of an operator, in KiB.
    resident_kib: u64,
    looks: Histogram,
    /// The number of questions to managers that failed.
    failed_questions: u64,
}

impl OperatorReading {
    async fn take(world: &ClusterWorld) -> anyhow::Result<Self> {
        let operators = world.operator_pods().await?;
        let mut resident_kib = 0;
        for operator in &operators {
            resident_kib = resident_kib.max(audience::memory(world, operator).await?.resident_kib);
        }
        let text = fetch_metrics(&world.kube, &operators).await?;
        let looks = Histogram::read(&text, "liverank_operator_reconcile_seconds");
        let failed_questions = sum_of(&text, "liverank_operator_errors_total", &["reason=\"manager\""]);
        Ok(Self { resident_kib, looks, failed_questions })
    }

    /// Checks memory and times against their bounds; returns them in words.
    fn compare(&self, before: &Self) -> anyhow::Result<String> {
        let (now, then) = (self.resident_kib, before.resident_kib);
        let grown = now.saturating_sub(then);
        ensure!(
            grown <= GROWTH_LIMIT_KIB,
            "an operator grew by {grown} KiB while clusters were sick, from {then} KiB"
        );
        let (looks, longest) = self.looks.since(&before.looks);
        let failed = self.failed_questions.saturating_sub(before.failed_questions);
        let least = SICK_CLUSTERS as u64;
        ensure!(failed >= least, "only {failed} questions to managers failed: the sick ones are not asked");
        ensure!(longest <= LOOK_LIMIT_SECONDS, "a look took longer than {LOOK_LIMIT_SECONDS} s");
        Ok(format!(
            "{failed} questions to sick managers; {looks:.0} looks, each within {longest:.1} s; the operator holds {} MiB ({} more)",
            now / 1024,
            grown / 1024
        ))
    }
}
