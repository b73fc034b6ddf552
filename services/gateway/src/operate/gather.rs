//! Gathers the state of the system: asks all managers, stores and services at once, each for a bounded time, and
//! merges the answers. Whatever does not answer is listed as away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use liverank_adapters::StoreError;
use liverank_adapters::lag::{OffsetsByPartition, PartitionBacklog, PartitionLag};
use liverank_runtime::now_ms;
use liverank_runtime::peer::ServiceReplicas;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::demo;
use super::rates::Rates;
use crate::Gateway;
use crate::dependency::Peer;

/// Maximum time for the stores to answer.
const STORES_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of managers that are asked: each knows all readers, but only its own moves.
const MAX_MANAGERS_ASKED: usize = 8;
/// Maximum number of moves that are shown, over all managers.
const MAX_MOVES_SHOWN: usize = 80;
/// Maximum number of partitions that are shown, those with the longest wait first.
const MAX_PARTITIONS_SHOWN: usize = 64;

/// The state that is kept from one gathering to the next: the backlogs of partitions, and the last counts.
#[derive(Default)]
pub(crate) struct Memory {
    backlogs: BTreeMap<u32, PartitionBacklog>,
    rates: Rates,
}

pub(super) async fn gather_overview(gateway: &Gateway, memory: &mut Memory) -> Value {
    let (managers, offsets, statistics, comment, websocket) = tokio::join!(
        ask_all_managers(&gateway.manager),
        timeout(STORES_TIMEOUT, read_offsets(gateway)),
        ask_manager(&gateway.statistics, "statistics"),
        ask_manager(&gateway.comment, "health"),
        ask_manager(&gateway.websocket, "health"),
    );
    let offsets = offsets.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    let mut parts = Vec::new();
    let mut part = |name: &str, state: Result<(), &str>| {
        parts.push(json!({ "name": name, "away": state.is_err(), "detail": state.err() }));
    };
    let stores = [("log", &gateway.log), ("archive", &gateway.archive), ("boards", &gateway.ranking)];
    for (name, store) in &stores {
        part(name, if store.is_away() { Err("it does not answer") } else { Ok(()) });
    }
    if let Err(reason) = &offsets
        && stores.iter().all(|(_, store)| !store.is_away())
    {
        part("stores", Err(reason));
    }
    for (url, answer) in &managers {
        part(&format!("manager {url}"), answer.as_ref().map(|_| ()).map_err(String::as_str));
    }
    let services = [("statistics", &statistics), ("comment", &comment), ("websocket", &websocket)];
    for (name, answer) in services {
        if let Some(answer) = answer {
            part(name, answer.as_ref().map(|_| ()).map_err(String::as_str));
        }
    }
    let statistics = statistics.and_then(Result::ok).unwrap_or_default();
    let mut counts = gateway.metrics.counts();
    counts.extend(take_count("delivered", &statistics["readerApis"]["totalMessagesSent"]));
    counts.extend(take_count("comments", &statistics["commentApi"]["totalComments"]));
    let lag = offsets.ok().map(|offsets| measure_lag(&offsets, memory, &mut counts));
    json!({
        "at": now_ms(),
        "placement": merge_placements(managers.into_iter().filter_map(|(_, answer)| answer.ok()).collect()),
        "lag": lag,
        "counts": counts.clone(),
        "rates": memory.rates.look(Instant::now(), counts),
        "streams": gateway.metrics.open_streams.get(),
        "parts": parts,
        "demo": demo::demo_state(gateway),
        "freshness": gateway.metrics.freshness.shown(),
    })
}

fn take_count(name: &'static str, value: &Value) -> Option<(&'static str, u64)> {
    value.as_u64().map(|count| (name, count))
}

/// Returns each manager's answer to `GET /overview`, or the reason for which there is none, by the manager's host and
/// port.
async fn ask_all_managers(peer: &Peer) -> Vec<(String, Result<Value, String>)> {
    let Some(replicas) = &peer.replicas else { return Vec::new() };
    let asked = replicas.urls().iter().take(MAX_MANAGERS_ASKED).map(|url| async move {
        let answer = replicas.peers().get::<Value>(url, &["overview"]).await;
        let name = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        (name, answer.map_err(|error| error.to_string()))
    });
    join_all(asked).await
}

/// Merges several managers' answers: the readers of the first manager that reaches the store, the moves of all
/// managers, and the decisions of the manager that plans.
fn merge_placements(mut answers: Vec<Value>) -> Value {
    let is = |answer: &Value, what: &str| answer.pointer(what) == Some(&Value::Bool(true));
    let best = answers.iter().position(|answer| is(answer, "/fresh")).unwrap_or(0);
    if answers.is_empty() {
        return Value::Null;
    }
    let mut picture = answers.swap_remove(best);
    let leading = answers.iter_mut().find(|answer| is(answer, "/planner/leading"));
    if let Some(leading) = leading.filter(|_| !is(&picture, "/planner/leading")) {
        picture["planner"] = leading["planner"].take();
    }
    let mut moves: Vec<Value> = Vec::new();
    for answer in std::iter::once(&mut picture).chain(&mut answers) {
        if let Value::Array(own) = answer["moves"].take() {
            moves.extend(own);
        }
    }
    moves.sort_by_key(|it| it["age_ms"].as_u64());
    moves.truncate(MAX_MOVES_SHOWN);
    picture["moves"] = Value::Array(moves);
    picture
}

async fn ask_manager(peer: &Peer, path: &str) -> Option<Result<Value, String>> {
    let replicas: &ServiceReplicas = peer.replicas.as_ref()?;
    Some(replicas.get::<Value>(&[path]).await.map_err(|error| error.to_string()))
}

async fn read_offsets(gateway: &Gateway) -> Result<OffsetsByPartition, String> {
    let backends = &gateway.backends;
    let read = async {
        let partitions = backends.log.end_offsets().await?.len() as u32;
        OffsetsByPartition::read_offsets(backends, &(0..partitions).collect::<Vec<_>>()).await
    };
    let read: Result<OffsetsByPartition, StoreError> = read.await;
    if read.is_err() {
        // Finds out which of the stores failed.
        let _ = gateway.log.noted(backends.log.write_health());
        let _ = gateway.ranking.noted(backends.ranking.checkpoint().await);
        let _ = gateway.archive.noted(backends.archive.archive_meta().await);
    }
    read.map_err(|error| error.to_string())
}

/// Returns how many records counting and the boards are behind the log, in total and by partition. Adds the counts of
/// logged, counted and shown records to `counts`.
fn measure_lag(
    offsets: &OffsetsByPartition,
    memory: &mut Memory,
    counts: &mut BTreeMap<&'static str, u64>,
) -> Value {
    let now = now_ms();
    memory.backlogs.retain(|partition, _| offsets.0.iter().any(|(known, _)| known == partition));
    let mut partitions: Vec<(u32, PartitionLag)> = Vec::new();
    let (mut logged, mut counted, mut shown) = (0_u64, 0_u64, 0_u64);
    for (partition, at) in &offsets.0 {
        let lag = memory.backlogs.entry(*partition).or_default().lag_at(at, now);
        partitions.push((*partition, lag));
        logged += at.log_end;
        counted += at.counted_to.next_offset;
        shown += at.shown_to;
    }
    counts.extend([("logged", logged), ("counted", counted), ("shown", shown)]);
    partitions.sort_by_key(|(partition, lag)| (std::cmp::Reverse(lag.oldest_wait_ms), *partition));
    let line = |(partition, lag): &(u32, PartitionLag)| json!({ "partition": partition, "records": lag.uncounted_records, "waited_ms": lag.oldest_wait_ms, "projection": lag.unprojected_records });
    json!({
        "records": partitions.iter().map(|(_, lag)| lag.uncounted_records).sum::<u64>(),
        "waited_ms": partitions.iter().map(|(_, lag)| lag.oldest_wait_ms).max(),
        "projection": partitions.iter().map(|(_, lag)| lag.unprojected_records).sum::<u64>(),
        "partitions": partitions.iter().take(MAX_PARTITIONS_SHOWN).map(line).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_several_managers_are_merged() {
        let manager = |fresh, leading, age| {
            json!({ "fresh": fresh, "viewers": age, "moves": [{ "age_ms": age }],
                "planner": { "leading": leading, "decisions": [age] } })
        };
        let picture =
            merge_placements(vec![manager(false, false, 5), manager(true, false, 1), manager(true, true, 3)]);
        assert_eq!(picture["viewers"], 1, "of the first that sees the store");
        assert_eq!(picture["moves"], json!([{ "age_ms": 1 }, { "age_ms": 3 }, { "age_ms": 5 }]));
        assert_eq!(picture["planner"]["decisions"], json!([3]), "of the one that plans");
        assert_eq!(
            merge_placements(vec![manager(false, false, 7)])["viewers"],
            7,
            "an old picture is better than none"
        );
        assert_eq!(merge_placements(vec![]), Value::Null);
    }
}
