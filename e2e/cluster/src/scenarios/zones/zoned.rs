//! The zones of readers and gateways, and what managers say of the readers of a video.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kube;
use crate::world::{ClusterWorld, NAMESPACE_NAME};

pub(super) const ZONES: [&str; 2] = ["e2e-a", "e2e-b"];
/// The number of readers: two in each zone, so that a video's second reader could be in the zone of the first.
pub(super) const READERS: usize = 4;
/// The time limit until the planner has given a hot video more readers: an assignment rests for 10 s, and a plan is made
/// every 5 s; that twice, for a plan that is made just before the viewers are reported.
pub(super) const SPREAD_TIMEOUT: Duration = Duration::from_secs(40);

/// The zone of each reader, by the reader's name.
pub(super) type ZoneByReader = BTreeMap<String, String>;

/// A gateway's pod.
pub(super) struct ZonedGateway {
    pub(super) zone: &'static str,
    pub(super) address: SocketAddr,
}

pub(super) fn readers_in_load(load: &Value) -> impl Iterator<Item = &Value> {
    load["readers"].as_array().into_iter().flatten()
}

/// Returns the readers that serve a video, according to a manager's load.
pub(super) fn readers_of(load: &Value, video: &str) -> Vec<String> {
    let assignments = load["assignments"].as_array().into_iter().flatten();
    let shares =
        assignments.filter(|it| it["videoid"] == video).filter_map(|it| it["readers"].as_array()).flatten();
    shares.filter_map(|share| share["reader"].as_str().map(str::to_owned)).collect()
}

/// Returns the number of a video's viewers at each reader, according to a manager's load.
pub(super) fn viewers_by_reader<'a>(load: &'a Value, video: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    readers_in_load(load).filter_map(move |reader| {
        let videos = reader["videos"].as_array()?;
        let viewers = videos.iter().find(|it| it[0] == video)?[1].as_u64()?;
        Some((reader["id"].as_str()?, viewers))
    })
}

/// The port of every pod's metrics.
const ADMIN_PORT: u16 = 9060;

/// Returns the metrics of a pod as text.
pub(super) async fn fetch_metrics(world: &ClusterWorld, pod: &Value) -> anyhow::Result<String> {
    let name = kube::object_name(pod);
    let answer =
        world.kube.request_to_pod(NAMESPACE_NAME, name, ADMIN_PORT, Method::GET, "/metrics", None).await?;
    let metrics = answer.expect_success().with_context(|| format!("the metrics of {name}"))?;
    Ok(metrics.as_str().context("metrics are text")?.to_owned())
}

/// Returns what a manager tells a gateway about the readers of a video.
pub(super) async fn fetch_route(world: &ClusterWorld, video: &str) -> anyhow::Result<Value> {
    world.ask_manager("gateway", Method::POST, "route", Some(&json!({"videoid": video}))).await
}
