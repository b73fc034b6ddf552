//! Two replicas of the operator share three shards; one is killed, and all clusters are looked after, none by two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::audience;
use crate::kube::{self, CLUSTER, LEASE, NAMESPACE};
use crate::wait::{until, until_true};
use crate::world::{OPERATOR, OPERATOR_NAMESPACE, SETTLE, World};

const SHARDS: usize = 3;
/// By what the hash says of these names (`operator/src/run/shard.rs`), each shard has some of them.
const NAMESPACES: usize = 6;
const NAME: &str = "sharded";
/// A dead replica's Leases run out in 15 s, and the others leave each to who has fewer for 3 s at most.
const TAKEOVER: Duration = Duration::from_secs(20);

fn namespaces() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(|nth| format!("liverank-e2e-shard-{nth}"))
}

fn lease_name(shard: usize) -> String {
    if shard == 0 { OPERATOR.to_owned() } else { format!("{OPERATOR}-shard-{shard}") }
}

pub async fn shared_by_two(world: &World) -> anyhow::Result<String> {
    audience::start_attendants(world).await?;
    let result = share(world).await;
    for namespace in namespaces() {
        world.kube.delete(&NAMESPACE.path("", &namespace)).await?;
    }
    let gone = async || {
        for namespace in namespaces() {
            if world.kube.get(&NAMESPACE.path("", &namespace)).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let cleaned = until_true("the sharded clusters are gone", SETTLE, gone).await;
    world.install_operator(&[]).await?;
    let figures = result?;
    cleaned?;
    Ok(figures)
}

async fn share(world: &World) -> anyhow::Result<String> {
    world.install_operator(&[]).await?;
    for namespace in namespaces() {
        world.namespace(&namespace).await?;
        let mut cluster = world.cluster(&namespace, NAME);
        // No pods: it is about who looks after it.
        cluster["spec"]["hibernate"] = json!(true);
        world.kube.apply(CLUSTER, &cluster).await?;
    }
    until("one replica looks after all", SETTLE, async || all_by(world, 1).await).await?;
    let start = Instant::now();
    world.install_operator(&["--set", &format!("shards={SHARDS}")]).await?;
    let holders = until("two replicas share the shards", SETTLE, async || spread(world).await).await?.0;
    let shared = start.elapsed();
    until("each shard looks after its own", SETTLE, async || all_by(world, SHARDS).await).await?;
    let moved = start.elapsed();

    let operators = world.operators().await?;
    let busy = &holders[1];
    let victim = operators.iter().find(|pod| busy.starts_with(kube::name(pod)));
    let victim = victim.ok_or_else(|| anyhow::anyhow!("{busy} holds a Lease and is no pod"))?;
    audience::kill(world, victim).await?;
    let start = Instant::now();
    for namespace in namespaces() {
        let change = json!({"spec": {"gateway": {"drainSeconds": 7}}});
        world.kube.merge(&CLUSTER.path(&namespace, NAME), &change).await?.good()?;
    }
    let left = async || {
        let now = holders_now(world).await?;
        Ok(if now.values().any(|holder| holder == busy) { Err(format!("{now:?}")) } else { Ok(()) })
    };
    let ((), takeover) = until("its shards are led by others", SETTLE, left).await?;
    ensure!(takeover <= TAKEOVER + Duration::from_secs(4), "its shards were led after {takeover:?}");
    until("all clusters are looked after", SETTLE, async || all_by(world, SHARDS).await).await?;
    Ok(format!(
        "{:.1} s until two shared them, {:.1} s until all clusters were the shards'; one killed: led by others after {:.1} s, \
         all changes carried out after {:.1} s",
        shared.as_secs_f64(),
        moved.as_secs_f64(),
        takeover.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ))
}

/// The holder of each shard's Lease.
async fn holders_now(world: &World) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut holders = BTreeMap::new();
    for shard in 0..SHARDS {
        let lease = world.kube.get(&LEASE.path(OPERATOR_NAMESPACE, &lease_name(shard))).await?;
        let holder = lease.as_ref().map(|lease| kube::text(lease, "/spec/holderIdentity").to_owned());
        holders.insert(shard, holder.unwrap_or_default());
    }
    Ok(holders)
}

/// The holders, once they are two pods that are there.
async fn spread(world: &World) -> anyhow::Result<Result<Vec<String>, String>> {
    let pods = world.operators().await?;
    let holders = holders_now(world).await?;
    let lives = |holder: &String| pods.iter().any(|pod| holder.starts_with(kube::name(pod)));
    let different: BTreeSet<&String> = holders.values().collect();
    let good = holders.values().all(|holder| lives(holder) && holder.ends_with("/3")) && different.len() == 2;
    Ok(if good { Ok(holders.into_values().collect()) } else { Err(format!("{holders:?}")) })
}

/// Whether all clusters' newest specs are carried out, each by who leads the shard that holds its claim, of so many. Claims
/// changed hands as often as the number of shards did: two that both looked after a cluster would have taken it in turn.
async fn all_by(world: &World, shards: usize) -> anyhow::Result<Result<(), String>> {
    let holders = holders_now(world).await?;
    let mut late = Vec::new();
    let mut used = BTreeSet::new();
    for namespace in namespaces() {
        let cluster = world.kube.named(CLUSTER, &namespace, NAME).await?;
        let by = kube::text(&cluster, "/status/operator/identity");
        let claim = world.kube.named(LEASE, &namespace, &format!("{NAME}-operator")).await?;
        let shard = shard_of(kube::text(&claim, "/spec/holderIdentity"), shards);
        let leads = shard.is_some_and(|shard| holders[&shard].starts_with(by) && !by.is_empty());
        let is_newest = cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
        let changes = claim["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
        used.extend(shard);
        if !leads || !is_newest || changes != if shards == 1 { 1 } else { 2 } {
            let ready = kube::condition(&cluster, "Ready").cloned().unwrap_or_default();
            late.push(format!("{namespace}: {shard:?}, by {by:?}, {changes} changes, {}", ready["message"]));
        }
    }
    let complete = late.is_empty() && used.len() == shards;
    Ok(if complete { Ok(()) } else { Err(format!("{late:?}; {used:?} have clusters; {holders:?}")) })
}

/// Which shard of so many holds a claim.
fn shard_of(claimant: &str, shards: usize) -> Option<usize> {
    let installation = format!("{OPERATOR_NAMESPACE}/{OPERATOR}");
    if shards == 1 {
        return (claimant == installation).then_some(0);
    }
    let rest = claimant.strip_prefix(&format!("{installation}, shard "))?;
    rest.strip_suffix(&format!(" of {shards}"))?.parse().ok()
}
