//! The planner: which assignments of videos to readers are to change, and why.
//!
//! The problem, the properties and the method are described in `docs/planner.md`. In short: viewers without a reader
//! are placed; draining readers are emptied; hot videos are spread over more readers, and cooled ones are joined onto
//! fewer; then overloaded readers give viewers to underloaded ones, until every open reader is within the tolerance of
//! its fair share, or nothing that helps is left, or the budget is spent. The result is planned again until a pass
//! changes nothing, so that a plan for the result has no orders; then each video whose readers changed becomes one
//! order.

mod balance;
mod chain;
mod heat;
mod model;
mod orders;
mod safety;
mod shares;
mod size_index;

use super::plan::{Plan, ReachedLimit};
use super::situation::{PlanLimits, Situation};
use super::zones::ReaderZones;
use model::Model;

/// The most passes over the situation. Each step of a pass lowers a sum that never rises again (see [`balance`]), so
/// the passes end by themselves, in nearly all cases after two or three; the bound guarantees that a plan ends.
const MAX_PASSES: usize = 64;

/// Returns the plan for a situation: the changes of videos' readers to make, with their reasons.
///
/// Pure and deterministic: the same situation and limits give the same plan. With enough budget, a plan for the
/// situation that a plan leads to has no orders. No order adds viewers to a reader that is not open, or beyond its
/// capacity. The number of moved viewers keeps to the budget as [`Budget`](super::ViewerMoveBudget) says.
pub fn make_plan(situation: &Situation, limits: &PlanLimits) -> Plan {
    plan_in_zones(situation, limits, &ReaderZones::default())
}

/// Plans as [`make_plan`] does, and spreads hot videos over zones: a hot video gets its next reader in the zone in
/// which it has the fewest readers. The choice is among readers whose loads differ by at most half the tolerance and
/// that can take equally many viewers of the video.
pub fn plan_in_zones(situation: &Situation, limits: &PlanLimits, zones: &ReaderZones) -> Plan {
    let mut model = Model::new(situation, limits);
    model.zones = zones.zone_numbers(&situation.readers);
    let before = model.viewer_balance();
    for _ in 0..MAX_PASSES {
        let changed = model.shift_count;
        model.reached_limits.clear();
        model.rejected.clear();
        plan_once(&mut model);
        if model.shift_count == changed {
            break;
        }
    }
    let orders = orders::orders_of(&model);
    let mut rejected = std::mem::take(&mut model.rejected);
    rejected.sort_by_key(|rejected| (std::cmp::Reverse(rejected.viewers), rejected.video, rejected.reader));
    rejected.truncate(Plan::MAX_REJECTED);
    let moved = orders.iter().map(|order| order.moved).sum();
    Plan { orders, before, after: model.viewer_balance(), moved, bound_by: model.reached_limits, rejected }
}

fn plan_once(model: &mut Model) {
    safety::place_unserved(model);
    let covered = safety::drain_readers(model);
    if !model.limits.rebalance {
        model.note_reached_limit(ReachedLimit::SafetyOnly);
    } else if covered {
        // Drains come first: budget that they still need is not spent on anything else.
        heat::split_hot_videos(model);
        heat::join_cooled_videos(model);
        balance::balance(model);
    }
}

#[cfg(test)]
mod tests;
