//! The scenario `kills`: a reader, a manager and the leading operator are killed in the middle of a drain. Another
//! operator leads soon, and the same drain goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::viewer::ConnectMode;
use crate::audience;
use crate::kube::{self, DEPLOYMENT_KIND};
use crate::wait::{Look, wait_and_measure, wait_and_watch, wait_until_some};
use crate::world::{CLUSTER_NAME, ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME, SETTLE_TIMEOUT};

/// The time limit until another operator leads: the Lease's duration of 15 s, and one try of 2 s. The time that the
/// API server needs for the try's two requests (`EXTRA_REQUESTS`) is added.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(17);
const EXTRA_REQUESTS: u32 = 2;
const VIDEO_COUNT: usize = 12;
const VIEWERS_A_VIDEO: usize = 30;
/// The annotations that mark a reader's Deployment as draining, as JSON pointers.
const DRAIN_POINTER: &str = "/metadata/annotations/liverank.dev~1drain";
const DRAIN_SINCE_POINTER: &str = "/metadata/annotations/liverank.dev~1drain-since";

pub async fn check_kills_during_drain(world: &ClusterWorld) -> anyhow::Result<String> {
    audience::ensure_audience(world).await?;
    // 240 viewers a minute are four a second, so the drain of a third of the 360 viewers takes half a minute.
    let slowly = json!({"readers": {
        "minReplicas": 2, "replicas": 3, "scaling": {"mode": "Manual"},
        "rebalance": {"maxViewersMovedPerMinute": 240, "mode": "Paused"},
    }});
    let (mode, rest) = (json!({"readers": {"scaling": {"mode": "Manual"}}}), slowly);
    world.change_spec(mode).await?;
    world.change_spec(rest).await?;
    super::objects::wait_for_readers(world, 3).await?;
    for nth in 0..VIDEO_COUNT {
        audience::set_crowd(
            world,
            &format!("kill-{nth}"),
            &format!("kill-{nth}"),
            VIEWERS_A_VIDEO,
            ConnectMode::Direct,
        )
        .await?;
    }
    audience::wait_until_complete(world).await?;
    let videos = (0..VIDEO_COUNT).map(|nth| (format!("kill-{nth}"), 1)).collect::<BTreeMap<_, _>>();
    audience::set_posting(world, 20.0, videos).await?;
    audience::forget_events(world).await?;
    world.change_spec(json!({"readers": {"replicas": 2}})).await?;
    let (draining, _) =
        wait_until_some("a reader is drained", SETTLE_TIMEOUT, async || find_drained_reader(world).await)
            .await?;
    let (takeover, served) = kill_three(world, &draining).await?;
    let drain = check_drain_resumed(world, &draining).await?;
    super::objects::wait_for_readers(world, 2).await?;
    audience::wait_until_complete(world).await?;
    audience::expect_all_right(world).await?;
    for nth in 0..VIDEO_COUNT {
        audience::set_crowd(world, &format!("kill-{nth}"), "", 0, ConnectMode::Direct).await?;
    }
    let quick = json!({"readers": {
        "scaling": {"mode": "Auto"}, "rebalance": {"maxViewersMovedPerMinute": 1200, "mode": "Auto"},
    }});
    world.change_spec(quick).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    Ok(format!(
        "takeover {:.1} s, drain over {:.0} s after the kills, a killed reader's viewers served again after {served} ms",
        takeover.as_secs_f64(),
        drain.as_secs_f64()
    ))
}

/// Returns the Deployment of the reader that is being drained, or the reason that there is none.
async fn find_drained_reader(world: &ClusterWorld) -> anyhow::Result<Result<Value, String>> {
    let readers = world
        .kube
        .list_objects(DEPLOYMENT_KIND, NAMESPACE_NAME, &format!("{MANAGED_SELECTOR},liverank.dev/reader"))
        .await?;
    Ok(readers
        .into_iter()
        .find(|reader| reader.pointer(DRAIN_POINTER).is_some())
        .ok_or_else(|| "none is".to_owned()))
}

/// Kills a reader that is not drained, a manager and the leading operator. Returns the time until another operator
/// led, and the time until the killed reader's viewers had a stream again, in milliseconds.
async fn kill_three(world: &ClusterWorld, draining: &Value) -> anyhow::Result<(Duration, u64)> {
    let own = |pod: &Value| {
        kube::text_at(pod, "/metadata/labels/liverank.dev~1reader") == kube::object_name(draining)
    };
    let readers = world.pods_of("reader").await?;
    let reader = readers.iter().find(|pod| !own(pod)).context("no other reader")?;
    let managers = world.pods_of("manager").await?;
    let lease = world.operator_lease().await?;
    let holder = kube::text_at(&lease, "/spec/holderIdentity").to_owned();
    let operators = world.operator_pods().await?;
    let leader = operators.iter().find(|pod| holder.starts_with(kube::object_name(pod)));
    let leader = leader.with_context(|| format!("{holder} leads and is no pod"))?;
    let manager = managers.first().context("no manager")?;
    audience::kill_pod(world, leader).await?;
    // The others are killed while the Lease is looked at: the time that the kills take is not the operators'.
    let kill_others = async {
        audience::kill_pod(world, reader).await?;
        audience::kill_pod(world, manager).await
    };
    let (takeover, ()) = tokio::try_join!(wait_for_other_leader(world, &holder), kill_others)?;
    let report = audience::wait_until_complete(world).await?;
    Ok((takeover, report.longest_away_ms))
}

/// Waits until another operator than `holder` leads, and checks that it did in time. Returns the time that it took.
async fn wait_for_other_leader(world: &ClusterWorld, holder: &str) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    let other = async || {
        let asked = Instant::now();
        let now = world.operator_lease().await?;
        slowest = slowest.max(asked.elapsed());
        let now = kube::text_at(&now, "/spec/holderIdentity");
        Ok(if !now.is_empty() && now != holder { Ok(()) } else { Err(now.to_owned()) })
    };
    let takeover = wait_and_measure("another operator leads", SETTLE_TIMEOUT, other).await?;
    ensure!(
        takeover.at_least <= TAKEOVER_TIMEOUT + EXTRA_REQUESTS * slowest,
        "{holder} still led after {:.1} s; the API server answered within {:.1} s",
        takeover.at_least.as_secs_f64(),
        slowest.as_secs_f64()
    );
    Ok(takeover.at_most)
}

/// Checks that the drain that was under way ends with the reader's removal, and that no other drain began. Returns the
/// time that it took.
async fn check_drain_resumed(world: &ClusterWorld, draining: &Value) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let path = DEPLOYMENT_KIND.object_path(NAMESPACE_NAME, kube::object_name(draining));
    let still = world.kube.get_object(&path).await?;
    let since = |reader: &Value| kube::text_at(reader, DRAIN_SINCE_POINTER).to_owned();
    if let Some(still) = &still {
        ensure!(
            since(still) == since(draining),
            "the drain began anew: {} {}",
            since(draining),
            since(still)
        );
    }
    let gone = async || {
        let drained = find_drained_reader(world).await?;
        let other = drained.ok().filter(|it| kube::object_name(it) != kube::object_name(draining));
        if let Some(other) = other {
            return Ok(Look::Wrong(format!("{} is drained instead", kube::object_name(&other))));
        }
        Ok(match world.kube.get_object(&path).await? {
            None => Look::Found(()),
            Some(reader) => Look::NotYet(format!("{} is there", kube::object_name(&reader))),
        })
    };
    wait_and_watch("the drained reader is removed", SETTLE_TIMEOUT, gone).await?;
    Ok(start.elapsed())
}
