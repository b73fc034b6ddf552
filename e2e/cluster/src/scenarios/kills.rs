//! A reader, a manager and the leader die in the middle of a drain: another leads soon, and the same drain goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::viewer::Way;
use crate::audience;
use crate::kube::{self, DEPLOYMENT};
use crate::wait::until;
use crate::world::{MANAGED, NAME, NAMESPACE_NAME, SETTLE, World};

/// Another leads within: the Lease of 15 s, and one try of 2 s. What the API server needs for the two requests of that try
/// comes on top.
const TAKEOVER: Duration = Duration::from_secs(17);
const REQUESTS: u32 = 2;
const VIDEOS: usize = 12;
const VIEWERS: usize = 30;
/// The annotations of a drain, as JSON pointers.
const DRAIN: &str = "/metadata/annotations/liverank.dev~1drain";
const SINCE: &str = "/metadata/annotations/liverank.dev~1drain-since";

pub async fn in_the_middle_of_a_drain(world: &World) -> anyhow::Result<String> {
    audience::ensure(world).await?;
    // Four viewers a second: the drain of a third of them takes half a minute.
    let slowly = json!({"readers": {
        "minReplicas": 2, "replicas": 3, "scaling": {"mode": "Manual"},
        "rebalance": {"maxViewersMovedPerMinute": 240, "mode": "Paused"},
    }});
    let (mode, rest) = (json!({"readers": {"scaling": {"mode": "Manual"}}}), slowly);
    world.change(mode).await?;
    world.change(rest).await?;
    super::objects::readers(world, 3).await?;
    for nth in 0..VIDEOS {
        audience::crowd(world, &format!("kill-{nth}"), &format!("kill-{nth}"), VIEWERS, Way::Direct).await?;
    }
    audience::complete(world).await?;
    let videos = (0..VIDEOS).map(|nth| (format!("kill-{nth}"), 1)).collect::<BTreeMap<_, _>>();
    audience::post(world, 20.0, videos).await?;
    audience::forget(world).await?;
    world.change(json!({"readers": {"replicas": 2}})).await?;
    let (draining, _) = until("a reader is drained", SETTLE, async || drained(world).await).await?;
    let (takeover, served) = kill(world, &draining).await?;
    let drain = resumed(world, &draining).await?;
    super::objects::readers(world, 2).await?;
    audience::complete(world).await?;
    audience::expect_all_right(world).await?;
    for nth in 0..VIDEOS {
        audience::crowd(world, &format!("kill-{nth}"), "", 0, Way::Direct).await?;
    }
    let quick = json!({"readers": {
        "scaling": {"mode": "Auto"}, "rebalance": {"maxViewersMovedPerMinute": 1200, "mode": "Auto"},
    }});
    world.change(quick).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    Ok(format!(
        "takeover {:.1} s, drain over {:.0} s after the kills, a killed reader's viewers served again after {served} ms",
        takeover.as_secs_f64(),
        drain.as_secs_f64()
    ))
}

/// The reader that is being drained.
async fn drained(world: &World) -> anyhow::Result<Result<Value, String>> {
    let readers =
        world.kube.list(DEPLOYMENT, NAMESPACE_NAME, &format!("{MANAGED},liverank.dev/reader")).await?;
    Ok(readers.into_iter().find(|reader| reader.pointer(DRAIN).is_some()).ok_or_else(|| "none is".to_owned()))
}

/// Kills a reader that stays, a manager and the leader, and answers how long it took until another led, and until the
/// dead reader's viewers were served.
async fn kill(world: &World, draining: &Value) -> anyhow::Result<(Duration, u64)> {
    let own = |pod: &Value| kube::text(pod, "/metadata/labels/liverank.dev~1reader") == kube::name(draining);
    let readers = world.pods_of("reader").await?;
    let reader = readers.iter().find(|pod| !own(pod)).context("no other reader")?;
    let managers = world.pods_of("manager").await?;
    let lease = world.lease().await?;
    let holder = kube::text(&lease, "/spec/holderIdentity").to_owned();
    let operators = world.operators().await?;
    let leader = operators.iter().find(|pod| holder.starts_with(kube::name(pod)));
    let leader = leader.with_context(|| format!("{holder} leads and is no pod"))?;
    audience::kill(world, leader).await?;
    let start = Instant::now();
    audience::kill(world, reader).await?;
    audience::kill(world, managers.first().context("no manager")?).await?;
    let mut slowest = Duration::ZERO;
    let other = async || {
        let asked = Instant::now();
        let now = world.lease().await?;
        slowest = slowest.max(asked.elapsed());
        let now = kube::text(&now, "/spec/holderIdentity");
        Ok(if !now.is_empty() && now != holder { Ok(()) } else { Err(now.to_owned()) })
    };
    until("another operator leads", SETTLE, other).await?;
    let takeover = start.elapsed();
    ensure!(
        takeover <= TAKEOVER + REQUESTS * slowest,
        "another operator led after {:.1} s only; the API server answered within {:.1} s",
        takeover.as_secs_f64(),
        slowest.as_secs_f64()
    );
    let report = audience::complete(world).await?;
    Ok((takeover, report.longest_away_ms))
}

/// The drain that was under way comes to its end, and no other began.
async fn resumed(world: &World, draining: &Value) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let path = DEPLOYMENT.path(NAMESPACE_NAME, kube::name(draining));
    let still = world.kube.get(&path).await?;
    let since = |reader: &Value| kube::text(reader, SINCE).to_owned();
    if let Some(still) = &still {
        ensure!(
            since(still) == since(draining),
            "the drain began anew: {} {}",
            since(draining),
            since(still)
        );
    }
    let gone = async || {
        let others = drained(world).await?;
        if let Ok(other) = &others {
            ensure!(kube::name(other) == kube::name(draining), "{} is drained instead", kube::name(other));
        }
        Ok(match world.kube.get(&path).await? {
            None => Ok(()),
            Some(reader) => Err(format!("{} is there", kube::name(&reader))),
        })
    };
    until("the drained reader is removed", SETTLE, gone).await?;
    Ok(start.elapsed())
}
