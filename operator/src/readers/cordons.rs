//! What the managers are to think of each reader. Level, not edge: what is wanted follows from annotations and templates,
//! and is asked for wherever a manager has something else, whoever forgot it.

use liverank_core::handover::Closing;

use super::fleet::{Fleet, Member, prefix};
use super::phase::Phase;
use super::seen::Seen;
use super::step::Step;
use super::view::{View, id};

/// Cordons to set and to lift.
pub(super) fn cordons(seen: &Seen, view: &View<'_>, fleet: &Fleet, phase: &Phase) -> Vec<Step> {
    if view.trouble.is_some() {
        return Vec::new();
    }
    // Old readers take no new videos as soon as a new one does, so that viewers are moved into new readers only. With no
    // new one they have to.
    let closes = phase.runs() && fleet.active().any(|member| member.new && member.serving);
    let wanted = |member: &Member| match member.seen_drain {
        Some(drain) => Some((Closing::Draining, format!("it is to go: {}", drain.why.as_str()))),
        None if closes && !member.new => Some((Closing::Closed, "it is being replaced".to_owned())),
        None => None,
    };
    let mut steps = Vec::new();
    for member in fleet.members.iter().filter(|member| member.uid.is_some() && !member.deleting) {
        let wanted = wanted(member);
        let cordon = wanted.as_ref().map(|(cordon, _)| *cordon);
        if !view.has_cordon(&member.name, cordon) {
            let why = wanted.map_or_else(|| "it stays".to_owned(), |(_, why)| why);
            steps.push(Step::Cordon { reader: id(&member.name), cordon, why });
        }
    }
    let is_ours = |name: &&str| name.strip_prefix(&prefix(seen)).is_some_and(|n| n.parse::<u32>().is_ok());
    let is_gone = |name: &&str| fleet.members.iter().all(|member| member.name != *name);
    for name in view.cordoned().into_iter().filter(is_ours).filter(is_gone) {
        steps.push(Step::Cordon {
            reader: id(name),
            cordon: None,
            why: "there is no such reader any more".to_owned(),
        });
    }
    steps
}
