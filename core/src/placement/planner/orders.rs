//! From where every video was and is to orders.

use std::collections::HashSet;

use super::model::{Model, Touched, parts_of, shared};
use crate::placement::plan::{Kind, Order, Why};

/// One order for every video that ended up elsewhere, in the order of carrying them out.
pub(super) fn of(model: &Model) -> Vec<Order> {
    let changed: Vec<&Touched> = model
        .touched
        .iter()
        .filter(|touched| touched.why.is_none() || touched.before != model.films[touched.video as usize].spot)
        .collect();
    let mut orders: Vec<Order> = changed.iter().map(|touched| order(model, touched)).collect();
    unpair(&mut orders, model);
    orders.sort_by_key(|order| order.kind.min(Kind::Move));
    orders
}

fn order(model: &Model, touched: &Touched) -> Order {
    let video = touched.video as usize;
    let film = &model.films[video];
    let epoch = film.epoch;
    let Some(why) = &touched.why else {
        let to = shared(&film.spot, film.viewers);
        let why = Why::Unserved { waiting: film.viewers };
        return Order { video, epoch, kind: Kind::Place, from: Vec::new(), to, moved: 0, why };
    };
    let from = parts_of(&touched.before, film.viewers);
    let to = parts_of(&film.spot, film.viewers);
    let stays = |reader: u32, viewers: u64| {
        to.iter().find(|part| part.0 == reader).map_or(0, |part| part.1).min(viewers)
    };
    let moved: u64 = from.iter().map(|&(reader, viewers)| viewers - stays(reader, viewers)).sum();
    // Those who wait have no reader to leave.
    let moved = moved.saturating_sub(model.situation.videos[video].waiting);
    let same = from.len() == to.len() && from.iter().zip(&to).all(|(from, to)| from.0 == to.0);
    let kind = match **why {
        Why::Emptying { .. } => Kind::Drain,
        _ if same => Kind::Reshare,
        _ if to.len() > from.len() => Kind::Split,
        _ if to.len() < from.len() => Kind::Join,
        Why::Exchange { .. } => Kind::Swap,
        _ => Kind::Move,
    };
    let (from, to) = (shared(&touched.before, film.viewers), shared(&film.spot, film.viewers));
    Order { video, epoch, kind, from, to, moved, why: (**why).clone() }
}

/// An exchange whose other half came to nothing, by what was decided after it, is a plain move.
fn unpair(orders: &mut [Order], model: &Model) {
    if !orders.iter().any(|order| matches!(order.why, Why::Exchange { .. })) {
        return;
    }
    let ordered: HashSet<usize> = orders.iter().map(|order| order.video).collect();
    for order in orders {
        let Why::Exchange { with, reader, load, fair } = order.why else { continue };
        if ordered.contains(&with) {
            continue;
        }
        let seat = &model.seats[reader];
        order.why = match load > fair {
            true => Why::Over { reader, load, fair, most: seat.most },
            false => Why::Under { reader, load, fair, least: seat.least },
        };
        order.kind = if order.kind == Kind::Swap { Kind::Move } else { order.kind };
    }
}
