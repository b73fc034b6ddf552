//! Makes the orders of a plan, from every video's placement before and after the plan.

use std::collections::HashSet;

use super::model::{ChangedVideo, Model};
use super::shares::{parts_of, parts_with_shares};
use crate::placement::plan::{ChangeKind, OrderReason, PlannedOrder};

/// Returns one order for every video whose placement changed, in the order in which they are to be carried out.
pub(super) fn orders_of(model: &Model) -> Vec<PlannedOrder> {
    let changed: Vec<&ChangedVideo> = model
        .changed_videos
        .iter()
        .filter(|touched| {
            touched.first_reason.is_none()
                || touched.placement_before != model.videos[touched.video as usize].placement
        })
        .collect();
    let mut orders: Vec<PlannedOrder> =
        changed.iter().map(|touched| order_for_video(model, touched)).collect();
    unpair_lost_exchanges(&mut orders, model);
    orders.sort_by_key(|order| order.kind.min(ChangeKind::Move));
    orders
}

fn order_for_video(model: &Model, touched: &ChangedVideo) -> PlannedOrder {
    let video = touched.video as usize;
    let planned = &model.videos[video];
    let epoch = planned.epoch;
    let Some(why) = &touched.first_reason else {
        let to = parts_with_shares(&planned.placement, planned.viewer_count);
        let why = OrderReason::Unserved { waiting: planned.viewer_count };
        return PlannedOrder { video, epoch, kind: ChangeKind::Place, from: Vec::new(), to, moved: 0, why };
    };
    let from = parts_of(&touched.placement_before, planned.viewer_count);
    let to = parts_of(&planned.placement, planned.viewer_count);
    let stays = |reader: u32, viewers: u64| {
        to.iter().find(|part| part.0 == reader).map_or(0, |part| part.1).min(viewers)
    };
    let moved: u64 = from.iter().map(|&(reader, viewers)| viewers - stays(reader, viewers)).sum();
    // Waiting viewers leave no reader.
    let moved = moved.saturating_sub(model.situation.videos[video].waiting);
    let same = from.len() == to.len() && from.iter().zip(&to).all(|(from, to)| from.0 == to.0);
    let kind = match **why {
        OrderReason::Emptying { .. } => ChangeKind::Drain,
        _ if same => ChangeKind::Reshare,
        _ if to.len() > from.len() => ChangeKind::Split,
        _ if to.len() < from.len() => ChangeKind::Join,
        OrderReason::Exchange { .. } => ChangeKind::Swap,
        _ => ChangeKind::Move,
    };
    let (from, to) = (
        parts_with_shares(&touched.placement_before, planned.viewer_count),
        parts_with_shares(&planned.placement, planned.viewer_count),
    );
    PlannedOrder { video, epoch, kind, from, to, moved, why: (**why).clone() }
}

/// Turns an exchange into a plain move if the other video of the exchange has no order in the plan.
fn unpair_lost_exchanges(orders: &mut [PlannedOrder], model: &Model) {
    if !orders.iter().any(|order| matches!(order.why, OrderReason::Exchange { .. })) {
        return;
    }
    let ordered: HashSet<usize> = orders.iter().map(|order| order.video).collect();
    for order in orders {
        let OrderReason::Exchange { with, reader, load, fair } = order.why else { continue };
        if ordered.contains(&with) {
            continue;
        }
        let seat = &model.readers[reader];
        order.why = if load > fair {
            OrderReason::Over { reader, load, fair, most: seat.overloaded_above }
        } else {
            OrderReason::Under { reader, load, fair, least: seat.underloaded_below }
        };
        order.kind = if order.kind == ChangeKind::Swap { ChangeKind::Move } else { order.kind };
    }
}
