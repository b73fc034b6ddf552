//! The scenario `shards`: two replicas of the operator share three shards. One replica is killed; every cluster is
//! still reconciled, and none by two replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::audience;
use crate::kube::{self, LEASE_KIND, RANKING_CLUSTER_KIND};
use crate::wait::{wait_and_measure, wait_until_some};
use crate::world::{ClusterWorld, OPERATOR_NAME, OPERATOR_NAMESPACE, SETTLE_TIMEOUT};

const SHARDS: usize = 3;
/// By the hash of these names (`operator/src/run/shard.rs`), each shard has some of the namespaces.
const NAMESPACES: usize = 6;
const CLUSTER_NAME: &str = "sharded";
/// The time limit until the shards of a dead replica have another leader: its Leases run out after 15 s, and a replica
/// leaves each Lease to replicas with fewer shards for 3 s at most.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit of the two requests by which a Lease is taken.
const LEASE_REQUESTS_TIMEOUT: Duration = Duration::from_secs(4);

fn namespaces() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(|nth| format!("liverank-e2e-shard-{nth}"))
}

fn lease_name(shard: usize) -> String {
    if shard == 0 { OPERATOR_NAME.to_owned() } else { format!("{OPERATOR_NAME}-shard-{shard}") }
}

pub async fn check_shards(world: &ClusterWorld) -> anyhow::Result<String> {
    audience::start_attendants(world).await?;
    let result = run_sharded(world).await;
    // All at once, while the operator of one shard is installed again: neither needs the other.
    let namespaces: Vec<String> = namespaces().collect();
    let gone = futures::future::try_join_all(namespaces.iter().map(|it| world.remove_namespace(it)));
    let (cleaned, installed) = tokio::join!(gone, world.install_operator(&[]));
    let figures = result?;
    cleaned?;
    installed?;
    Ok(figures)
}

async fn run_sharded(world: &ClusterWorld) -> anyhow::Result<String> {
    world.install_operator(&[]).await?;
    for namespace in namespaces() {
        world.create_namespace(&namespace).await?;
        let mut cluster = world.new_cluster(&namespace, CLUSTER_NAME);
        // A hibernating cluster has no pods: the scenario only tests which replica reconciles it.
        cluster["spec"]["hibernate"] = json!(true);
        world.kube.apply_object(RANKING_CLUSTER_KIND, &cluster).await?;
    }
    wait_until_some("one replica looks after all", SETTLE_TIMEOUT, async || {
        check_all_reconciled(world, 1).await
    })
    .await?;
    let start = Instant::now();
    world.install_operator(&["--set", &format!("shards={SHARDS}")]).await?;
    let holders = wait_until_some("two replicas share the shards", SETTLE_TIMEOUT, async || {
        holders_if_two(world).await
    })
    .await?
    .0;
    let shared = start.elapsed();
    wait_until_some("each shard looks after its own", SETTLE_TIMEOUT, async || {
        check_all_reconciled(world, SHARDS).await
    })
    .await?;
    let moved = start.elapsed();

    let claims = claim_transitions(world).await?;
    let operators = world.operator_pods().await?;
    let busy = &holders[1];
    let victim = operators.iter().find(|pod| busy.starts_with(kube::object_name(pod)));
    let victim = victim.ok_or_else(|| anyhow::anyhow!("{busy} holds a Lease and is no pod"))?;
    audience::kill_pod(world, victim).await?;
    let start = Instant::now();
    for namespace in namespaces() {
        let change = json!({"spec": {"gateway": {"drainSeconds": 7}}});
        world
            .kube
            .merge_patch(&RANKING_CLUSTER_KIND.object_path(&namespace, CLUSTER_NAME), &change)
            .await?
            .expect_success()?;
    }
    let left = async || {
        let now = holders_now(world).await?;
        Ok(if now.values().any(|holder| holder == busy) { Err(format!("{now:?}")) } else { Ok(()) })
    };
    let ended = start.elapsed();
    let takeover = wait_and_measure("its shards are led by others", SETTLE_TIMEOUT, left).await?;
    // The harness began to look some time after the kill: only a look that still found the dead replica proves it late.
    let still_led = if takeover.at_least.is_zero() { Duration::ZERO } else { ended + takeover.at_least };
    ensure!(
        still_led <= TAKEOVER_TIMEOUT + LEASE_REQUESTS_TIMEOUT,
        "{busy} still led shards after {still_led:?}"
    );
    let takeover = ended + takeover.at_most;
    wait_until_some("all clusters are looked after", SETTLE_TIMEOUT, async || {
        check_all_reconciled(world, SHARDS).await
    })
    .await?;
    let after = claim_transitions(world).await?;
    ensure!(after == claims, "claims changed hands though shards did not: {claims:?}, {after:?}");
    Ok(format!(
        "{:.1} s until two shared them, {:.1} s until all clusters were the shards'; one killed: led by others after {:.1} s, \
         all changes carried out after {:.1} s",
        shared.as_secs_f64(),
        moved.as_secs_f64(),
        takeover.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ))
}

/// Returns the holder of each shard's Lease, empty if the Lease has none.
async fn holders_now(world: &ClusterWorld) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut holders = BTreeMap::new();
    for shard in 0..SHARDS {
        let lease =
            world.kube.get_object(&LEASE_KIND.object_path(OPERATOR_NAMESPACE, &lease_name(shard))).await?;
        let holder = lease.as_ref().map(|lease| kube::text_at(lease, "/spec/holderIdentity").to_owned());
        holders.insert(shard, holder.unwrap_or_default());
    }
    Ok(holders)
}

/// Returns the holders of the shards' Leases, once they are two different pods that exist.
async fn holders_if_two(world: &ClusterWorld) -> anyhow::Result<Result<Vec<String>, String>> {
    let pods = world.operator_pods().await?;
    let holders = holders_now(world).await?;
    let lives = |holder: &String| pods.iter().any(|pod| holder.starts_with(kube::object_name(pod)));
    let different: BTreeSet<&String> = holders.values().collect();
    let good = holders.values().all(|holder| lives(holder) && holder.ends_with("/3")) && different.len() == 2;
    Ok(if good { Ok(holders.into_values().collect()) } else { Err(format!("{holders:?}")) })
}

/// Returns for each cluster the number of times that its claim changed its holder, between shards. Two shards that
/// both reconciled a cluster would take the claim from each other in turn.
async fn claim_transitions(world: &ClusterWorld) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut changes = BTreeMap::new();
    for namespace in namespaces() {
        let claim = world.kube.get_named(LEASE_KIND, &namespace, &format!("{CLUSTER_NAME}-operator")).await?;
        changes.insert(namespace, claim["spec"]["leaseTransitions"].as_u64().unwrap_or_default());
    }
    Ok(changes)
}

/// Checks that every cluster's newest spec is reconciled, by the replica that leads the shard that holds the cluster's
/// claim, and that all `shards` shards have clusters. Otherwise returns what is missing, in words.
async fn check_all_reconciled(world: &ClusterWorld, shards: usize) -> anyhow::Result<Result<(), String>> {
    let holders = holders_now(world).await?;
    let mut late = Vec::new();
    let mut used = BTreeSet::new();
    for namespace in namespaces() {
        let cluster = world.kube.get_named(RANKING_CLUSTER_KIND, &namespace, CLUSTER_NAME).await?;
        let by = kube::text_at(&cluster, "/status/operator/identity");
        let claim = world.kube.get_named(LEASE_KIND, &namespace, &format!("{CLUSTER_NAME}-operator")).await?;
        let shard = shard_of(kube::text_at(&claim, "/spec/holderIdentity"), shards);
        let leads = shard.is_some_and(|shard| holders[&shard].starts_with(by) && !by.is_empty());
        let is_newest = cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
        used.extend(shard);
        if !leads || !is_newest {
            let ready = kube::status_condition(&cluster, "Ready").cloned().unwrap_or_default();
            late.push(format!("{namespace}: {shard:?}, by {by:?}, {}", ready["message"]));
        }
    }
    let complete = late.is_empty() && used.len() == shards;
    Ok(if complete { Ok(()) } else { Err(format!("{late:?}; {used:?} have clusters; {holders:?}")) })
}

/// Returns the shard, of `shards` shards, that holds a claim; `None` if the claimant is no shard of that number.
fn shard_of(claimant: &str, shards: usize) -> Option<usize> {
    let installation = format!("{OPERATOR_NAMESPACE}/{OPERATOR_NAME}");
    if shards == 1 {
        return (claimant == installation).then_some(0);
    }
    let rest = claimant.strip_prefix(&format!("{installation}, shard "))?;
    rest.strip_suffix(&format!(" of {shards}"))?.parse().ok()
}
