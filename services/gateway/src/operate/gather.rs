//! Gathers the state of the system: asks all managers, stores and services at once, each for a bounded time, and
//! merges the answers. Whatever does not answer is listed as away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use liverank_adapters::StoreError;
use liverank_adapters::lag::{OffsetsByPartition, PartitionBacklog, PartitionLag};
use liverank_protocol::{LagOfPartition, Overview, PartState, StatisticsTotals, SystemLag, SystemState};
use liverank_runtime::now_ms;
use liverank_runtime::peer::ServiceReplicas;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;

use super::demo;
use super::rates::LastCounts;
use crate::Gateway;
use crate::dependency::PeerService;
use crate::videos::counting_rules;

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
pub(crate) struct GatherState {
    backlogs: BTreeMap<u32, PartitionBacklog>,
    last_counts: LastCounts,
}

pub(super) async fn gather_overview(gateway: &Gateway, memory: &mut GatherState) -> SystemState {
    let (managers, offsets, weights, statistics, comment, websocket) = tokio::join!(
        ask_all_managers(&gateway.manager),
        timeout(STORES_TIMEOUT, read_offsets(gateway)),
        timeout(STORES_TIMEOUT, counting_rules(gateway)),
        ask_service::<StatisticsTotals>(&gateway.statistics, "statistics"),
        ask_service::<IgnoredAny>(&gateway.comment, "health"),
        ask_service::<IgnoredAny>(&gateway.websocket, "health"),
    );
    let offsets = offsets.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    let mut parts = Vec::new();
    let mut part = |name: &str, reason: Option<&str>| {
        let detail = reason.map(ToOwned::to_owned);
        parts.push(PartState { name: name.to_owned(), away: detail.is_some(), detail });
    };
    let stores = [
        ("log", &gateway.log_dependency),
        ("archive", &gateway.archive_dependency),
        ("boards", &gateway.ranking_dependency),
    ];
    for (name, store) in &stores {
        part(name, store.is_away().then_some("it does not answer"));
    }
    if let Err(reason) = &offsets
        && stores.iter().all(|(_, store)| !store.is_away())
    {
        part("stores", Some(reason));
    }
    for (url, answer) in &managers {
        part(&format!("manager {url}"), answer.as_ref().err().map(String::as_str));
    }
    let totals = statistics.as_ref().and_then(|answer| answer.as_ref().ok()).cloned();
    let services = [
        ("statistics", statistics.map(Result::err)),
        ("comment", comment.map(Result::err)),
        ("websocket", websocket.map(Result::err)),
    ];
    for (name, reason) in &services {
        if let Some(reason) = reason {
            part(name, reason.as_deref());
        }
    }
    let mut counts = gateway.metrics.counts();
    if let Some(totals) = totals {
        counts.insert("delivered", totals.reader_apis.total_messages_sent);
        counts.insert("comments", totals.comment_api.total_comments);
    }
    let lag = offsets.ok().map(|offsets| measure_lag(&offsets, memory, &mut counts));
    SystemState {
        at: now_ms(),
        placement: merge_placements(managers.into_iter().filter_map(|(_, answer)| answer.ok()).collect()),
        lag,
        weights: weights.ok().and_then(Result::ok).flatten().map(|rules| rules.weights.to_json()),
        counts: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        rates: memory.last_counts.growth_per_second(Instant::now(), counts),
        streams: gateway.metrics.open_streams.get(),
        parts,
        demo: demo::demo_state(gateway),
        freshness: gateway.metrics.freshness.summary_json(),
    }
}

/// Returns each manager's answer to `GET /overview`, or the reason for which there is none, by the manager's host and
/// port.
async fn ask_all_managers(peer: &PeerService) -> Vec<(String, Result<Overview, String>)> {
    let Some(replicas) = &peer.replicas else { return Vec::new() };
    let asked = replicas.urls().iter().take(MAX_MANAGERS_ASKED).map(|url| async move {
        let answer = replicas.peers().get::<Overview>(url, &["overview"]).await;
        let name = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        (name, answer.map_err(|error| error.to_string()))
    });
    join_all(asked).await
}

/// Merges several managers' answers: the readers of the first manager that reaches the store, the moves of all
/// managers, and the decisions of the manager that plans.
fn merge_placements(mut answers: Vec<Overview>) -> Option<Overview> {
    if answers.is_empty() {
        return None;
    }
    let mut picture = answers.swap_remove(answers.iter().position(|answer| answer.fresh).unwrap_or(0));
    let leading = answers.iter_mut().find(|answer| answer.planner.leading);
    if let Some(leading) = leading.filter(|_| !picture.planner.leading) {
        picture.planner = std::mem::take(&mut leading.planner);
    }
    // A manager that has just begun has not been told yet what the planner outside decided.
    let told_at = |answer: &Overview| answer.planner.outside.first().map(|decision| decision.at);
    let latest = answers.iter_mut().max_by_key(|answer| told_at(answer));
    if let Some(told) = latest.filter(|it| told_at(it) > told_at(&picture)) {
        picture.planner.outside = std::mem::take(&mut told.planner.outside);
    }
    picture.moves.extend(answers.into_iter().flat_map(|answer| answer.moves));
    picture.moves.sort_by_key(|it| it.state.age_ms);
    picture.moves.truncate(MAX_MOVES_SHOWN);
    Some(picture)
}

/// Returns a service's answer to `GET path`, or the reason for which there is none. `None` if the system has no such
/// service.
async fn ask_service<T: DeserializeOwned>(peer: &PeerService, path: &str) -> Option<Result<T, String>> {
    let replicas: &ServiceReplicas = peer.replicas.as_ref()?;
    Some(replicas.get::<T>(&[path]).await.map_err(|error| error.to_string()))
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
        let _ = gateway.log_dependency.note_result(backends.log.check_writable());
        let _ = gateway.ranking_dependency.note_result(backends.ranking.checkpoint().await);
        let _ = gateway.archive_dependency.note_result(backends.archive.archive_meta().await);
    }
    read.map_err(|error| error.to_string())
}

/// Returns how many records counting and the boards are behind the log, in total and by partition. Adds the counts of
/// logged, counted and shown records to `counts`.
fn measure_lag(
    offsets: &OffsetsByPartition,
    memory: &mut GatherState,
    counts: &mut BTreeMap<&'static str, u64>,
) -> SystemLag {
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
    let line = |(partition, lag): &(u32, PartitionLag)| LagOfPartition {
        partition: *partition,
        records: lag.uncounted_record_count,
        waited_ms: lag.oldest_wait_ms,
        projection: lag.unprojected_record_count,
    };
    SystemLag {
        records: partitions.iter().map(|(_, lag)| lag.uncounted_record_count).sum(),
        waited_ms: partitions.iter().map(|(_, lag)| lag.oldest_wait_ms).max(),
        projection: partitions.iter().map(|(_, lag)| lag.unprojected_record_count).sum(),
        partitions: partitions.iter().take(MAX_PARTITIONS_SHOWN).map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::VideoId;
    use liverank_protocol::{
        MoveKind, MovePhase, MoveState, OrderedBy, OutsideDecision, OverviewMove, PlannerState,
    };

    use super::*;

    fn moved(age_ms: u64) -> OverviewMove {
        let state = MoveState {
            id: 1,
            videoid: VideoId::parse("v").unwrap(),
            state: MovePhase::Done.into(),
            from: Vec::new(),
            to: Vec::new(),
            epoch: 1,
            viewers: 0,
            left: 0,
            by: OrderedBy::Order.into(),
            why: String::new(),
            term: None,
            detail: None,
            age_ms,
        };
        OverviewMove { state, kind: MoveKind::Move.into() }
    }

    #[test]
    fn answers_of_several_managers_are_merged() {
        let manager = |fresh, leading, age| Overview {
            fresh,
            viewers: age,
            moves: vec![moved(age)],
            planner: PlannerState { leading, term: Some(age), ..PlannerState::default() },
            ..Overview::default()
        };
        let answers = vec![manager(false, false, 5), manager(true, false, 1), manager(true, true, 3)];
        let picture = merge_placements(answers).unwrap();
        assert_eq!(picture.viewers, 1, "of the first that sees the store");
        assert_eq!(picture.moves, [moved(1), moved(3), moved(5)]);
        assert_eq!(picture.planner.term, Some(3), "of the one that plans");
        let old = merge_placements(vec![manager(false, false, 7)]).unwrap();
        assert_eq!(old.viewers, 7, "an old picture is better than none");
        assert_eq!(merge_placements(vec![]), None);
    }

    #[test]
    fn the_latest_decisions_of_a_planner_outside_are_shown() {
        let told = |at| vec![OutsideDecision { at, ..OutsideDecision::default() }];
        let manager = |fresh, outside| Overview {
            fresh,
            planner: PlannerState { outside, ..PlannerState::default() },
            ..Overview::default()
        };
        let outside = |answers| merge_placements(answers).unwrap().planner.outside;
        let answers = vec![manager(true, vec![]), manager(true, told(5)), manager(false, told(7))];
        assert_eq!(outside(answers), told(7));
        assert_eq!(outside(vec![manager(true, told(9)), manager(true, told(5))]), told(9));
    }
}
