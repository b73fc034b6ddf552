//! The planner: what to change in who serves what, and why.
//!
//! The problem, the properties and the method are set out in `docs/planner.md`. In short: viewers without a reader are
//! placed; readers that are to be emptied are emptied; hot videos are spread and cooled ones drawn together; overloaded
//! readers give and underloaded ones get, until every open reader is within the tolerance of its fair share, or nothing
//! that helps is left, or the budget is. What is found is worked on again until a pass changes nothing, so that
//! planning again on the result changes nothing either; then each video that ended up elsewhere is one order.

mod balance;
mod chain;
mod heat;
mod model;
mod orders;
mod safety;
mod shares;
mod size_index;

use super::plan::{MetLimit, Plan};
use super::situation::{PlanLimits, Situation};
use super::zones::ReaderZones;
use model::Model;

/// Passes over the situation. Each step of a pass takes something down that never goes up again (see [`balance`]), so
/// they end by themselves, in nearly all cases after two or three; the bound is there because a plan has to end.
const MAX_PASSES: usize = 64;

/// Returns what to change, and why.
///
/// Pure and deterministic: the same situation and limits give the same plan. With enough budget, planning on the
/// situation that a plan leads to gives a plan without orders. No order adds viewers to a reader that is not open, or
/// past its capacity. What is moved keeps to the budget as [`Budget`](super::ViewerMoveBudget) says.
pub fn make_plan(situation: &Situation, limits: &PlanLimits) -> Plan {
    plan_in_zones(situation, limits, &ReaderZones::default())
}

/// As [`make_plan`], but that a hot video gets its next reader in the zone in which it has the fewest, among those that are as
/// empty within half the tolerance and take as many of its viewers.
pub fn plan_in_zones(situation: &Situation, limits: &PlanLimits, zones: &ReaderZones) -> Plan {
    let mut model = Model::new(situation, limits);
    model.zones = zones.numbers(&situation.readers);
    let before = model.viewer_balance();
    for _ in 0..MAX_PASSES {
        let changed = model.shift_count;
        model.limits_met.clear();
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
    Plan { orders, before, after: model.viewer_balance(), moved, bound_by: model.limits_met, rejected }
}

fn plan_once(model: &mut Model) {
    safety::place_unserved(model);
    let covered = safety::drain_readers(model);
    if !model.limits.rebalance {
        model.note_limit_met(MetLimit::SafetyOnly);
    } else if covered {
        // Drains come first: what they still wait for is not spent on anything else.
        heat::split_hot_videos(model);
        heat::join_cooled_videos(model);
        balance::balance(model);
    }
}

#[cfg(test)]
mod tests;
