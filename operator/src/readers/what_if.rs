//! A forecast for another number of readers, made by the operator's own planner.

use std::collections::BTreeMap;

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::placement::{
    PlacementReader, Plan, PlanLimits, ReaderAvailability, ReaderZones, Situation, ViewerMoveBudget,
    make_plan, plan_in_zones,
};
use liverank_core::{Millis, ReaderId, ZoneId};
use liverank_protocol::ClusterLoad;
use serde::{Deserialize, Serialize};

use super::balance::situation;
use super::settings::ReaderSettings;
use super::view::reader_id;

/// Maximal number of planning rounds. Each round plans from the result of the round before; nearly always the second
/// round finds nothing to do.
const MAX_ROUNDS: usize = 16;

/// The forecast of readers and viewers after an assumed change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIfAnswer {
    /// The readers before the change.
    pub now: Vec<ReaderForecast>,
    /// The readers after the change.
    pub then: Vec<ReaderForecast>,
    /// Number of all viewers.
    pub viewers: u64,
    /// Number of viewers who would be moved.
    pub moved: u64,
    /// Number of videos that would get other readers.
    pub orders: usize,
    /// The duration of the moves at the permitted rate, in seconds.
    pub seconds: u64,
    /// The amount by which the fullest reader is above its fair share before the change, in percent.
    pub imbalance_now_percent: u32,
    /// The amount by which the fullest reader is above its fair share after the change, in percent.
    pub imbalance_then_percent: u32,
    /// The part of its capacity that the fullest reader would use, in percent.
    pub fullest_then_percent: u32,
    /// The limits that kept the plan from doing better.
    pub bound_by: Vec<String>,
    /// Further notes for the person who requested the forecast.
    pub notes: Vec<String>,
}

/// A reader and its load, before or after the assumed change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderForecast {
    /// The reader's name; `new-1` and so on for one that does not exist yet.
    pub reader: String,
    /// Number of viewers.
    pub viewers: u64,
    /// Number of viewers that the reader can hold.
    pub capacity: u64,
    /// Number of videos with viewers at the reader.
    pub videos: u64,
    /// The reader's state: `open`, `closed` or `draining`.
    pub state: String,
    /// The zone that the reader reports; absent if it is not known, or if the reader does not exist yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Returns the forecast for another number of open readers. `load` has to contain all assignments; an error if it does
/// not contain them, or if `readers` is 0.
pub fn answer_what_if(
    load: &ClusterLoad,
    settings: &ReaderSettings,
    readers: u32,
) -> Result<WhatIfAnswer, String> {
    if load.assignments.is_none() {
        return Err("the load has no assignments: ask for it with them".to_owned());
    }
    if readers == 0 {
        return Err("without readers nobody is served".to_owned());
    }
    // Everything that rests or moves now is assumed to have come to rest.
    let at: Millis = i64::MAX / 4;
    let mut situation = situation(load, at);
    situation.videos.iter_mut().for_each(|video| (video.changed, video.moving) = (0, false));
    let zones = known_zones(load);
    let now = reader_forecasts(&situation, &zones);
    let first = make_plan(&situation, &unlimited_limits(settings)).before;
    let gone = resize_fleet(&mut situation, settings, readers, &zones);
    let situation = situation.sorted_by_name();
    let (mut then, moved, orders, last) = carry_out_plans(situation, settings, &zones);
    let mut notes = answer_notes(load, settings, readers);
    if !gone.is_empty() {
        notes.push(format!("emptied and removed: {}", gone.join(", ")));
    }
    let mut rows = reader_forecasts(&then, &zones);
    rows.retain(|row| !gone.contains(&row.reader));
    then.readers.clear();
    let percent = |millionths: u64| (millionths / 10_000).saturating_sub(100) as u32;
    Ok(WhatIfAnswer {
        now,
        then: rows,
        viewers: first.viewers,
        moved,
        orders,
        seconds: moved.saturating_mul(60).div_ceil(settings.viewers_per_minute.max(1)),
        imbalance_now_percent: percent(first.max_over_mean),
        imbalance_then_percent: percent(last.after.max_over_mean),
        fullest_then_percent: last.after.max_utilisation.div_ceil(10) as u32,
        bound_by: last.bound_by.iter().map(|bound| format!("{bound:?}")).collect(),
        notes,
    })
}

fn unlimited_limits(settings: &ReaderSettings) -> PlanLimits {
    PlanLimits { budget: ViewerMoveBudget::without_limit(), ..settings.plan_limits(0) }
}

/// Adds readers, or marks surplus readers with the fewest viewers as draining and returns their names.
fn resize_fleet(
    situation: &mut Situation,
    settings: &ReaderSettings,
    readers: u32,
    zones: &BTreeMap<ReaderId, ZoneId>,
) -> Vec<String> {
    let loads = reader_forecasts(situation, zones);
    let is_open = |reader: &PlacementReader| reader.standing == ReaderAvailability::Open;
    let mut open: Vec<usize> =
        (0..situation.readers.len()).filter(|&at| is_open(&situation.readers[at])).collect();
    for number in open.len()..readers as usize {
        let name = format!("new-{}", number - open.len() + 1);
        situation.readers.push(PlacementReader {
            id: reader_id(&name),
            capacity: settings.viewers_per_reader,
            standing: ReaderAvailability::Open,
        });
    }
    open.sort_by_key(|&at| (loads[at].viewers, std::cmp::Reverse(at)));
    let surplus = open.len().saturating_sub(readers as usize);
    let mut gone = Vec::new();
    for &at in &open[..surplus] {
        situation.readers[at].standing = ReaderAvailability::Draining;
        gone.push(loads[at].reader.clone());
    }
    gone
}

fn carry_out_plans(
    mut situation: Situation,
    settings: &ReaderSettings,
    zones: &BTreeMap<ReaderId, ZoneId>,
) -> (Situation, u64, usize, Plan) {
    let zones: ReaderZones = zones.iter().map(|(reader, zone)| (reader.clone(), zone.to_string())).collect();
    let limits = unlimited_limits(settings);
    let (mut moved, mut orders) = (0, 0);
    for _ in 1..MAX_ROUNDS {
        let plan = plan_in_zones(&situation, &limits, &zones);
        moved += plan.moved;
        orders += plan.orders.len();
        situation.apply_plan(&plan, 0);
        if plan.orders.is_empty() {
            return (situation, moved, orders, plan);
        }
    }
    let last = plan_in_zones(&situation, &limits, &zones);
    (situation, moved, orders, last)
}

/// Returns the zones of the readers that report theirs.
fn known_zones(load: &ClusterLoad) -> BTreeMap<ReaderId, ZoneId> {
    load.readers.iter().filter_map(|reader| Some((reader.id.clone(), reader.zone.clone()?))).collect()
}

fn reader_forecasts(situation: &Situation, zones: &BTreeMap<ReaderId, ZoneId>) -> Vec<ReaderForecast> {
    let mut rows: Vec<ReaderForecast> = situation
        .readers
        .iter()
        .map(|reader| ReaderForecast {
            reader: reader.id.to_string(),
            viewers: 0,
            capacity: reader.capacity,
            videos: 0,
            state: availability_name(reader.standing).to_owned(),
            zone: zones.get(&reader.id).map(ToString::to_string),
        })
        .collect();
    for part in situation.videos.iter().flat_map(|video| &video.parts).filter(|part| part.viewers > 0) {
        rows[part.reader].viewers += part.viewers;
        rows[part.reader].videos += 1;
    }
    rows
}

const fn availability_name(standing: ReaderAvailability) -> &'static str {
    match standing {
        ReaderAvailability::Open => "open",
        ReaderAvailability::Closed => "closed",
        ReaderAvailability::Draining => "draining",
    }
}

fn answer_notes(load: &ClusterLoad, settings: &ReaderSettings, readers: u32) -> Vec<String> {
    let mut notes = Vec::new();
    let (min, max) = (settings.min, settings.max);
    if readers > max {
        notes.push(format!("{readers} is more than maxReplicas, {max}"));
    }
    if readers < min {
        notes.push(format!("{readers} is less than minReplicas, {min}"));
    }
    if !load.fresh {
        notes.push("the manager does not see the store: this is what it last saw".to_owned());
    }
    if let Some(hold) = &load.hold {
        notes.push(format!("the manager holds: {hold}"));
    }
    let viewers: u64 = load
        .readers
        .iter()
        .filter(|reader| reader.state != ReaderStatus::Gone)
        .map(|reader| reader.viewers)
        .sum();
    let room = u64::from(readers).saturating_mul(settings.viewers_per_reader);
    if viewers > room {
        notes.push(format!("{viewers} viewers are more than {readers} readers are to hold, {room}"));
    }
    notes
}
