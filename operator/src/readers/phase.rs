//! The state of replacing readers by readers with a new template, and what halts it.

use super::decision::{DecisionAction, DecisionEvent};
use super::fleet::{FleetReader, ReaderFleet};
use super::memory::ReaderMemory;
use super::seen::RoundInput;
use super::view::LoadView;

/// The state of replacing readers by readers with the wanted template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UpgradePhase {
    /// All readers have the wanted template.
    Done,
    /// Readers are not replaced yet, because a component before them is being rolled out; with the reason.
    Waiting(String),
    /// Replacing is halted, because a new reader does not serve; with the description.
    Unready(String),
    /// Replacing is halted, because too many viewers who were moved failed to reconnect; with the description.
    ReconnectErrors(String),
    /// Readers are being replaced now.
    Running,
}

impl UpgradePhase {
    /// Returns the present state of replacing readers. After reconnect errors, replacing pauses, twice as long each
    /// time; the pause ends when the template changes again.
    pub fn of(
        seen: &RoundInput,
        view: &LoadView<'_>,
        fleet: &ReaderFleet,
        memory: &mut ReaderMemory,
    ) -> Self {
        if memory.upgrade_pause.as_ref().is_some_and(|rest| rest.template != seen.template) {
            memory.upgrade_pause = None;
        }
        if !fleet.has_old_template() {
            return Self::Done;
        }
        if let Some(why) = &seen.held {
            return Self::Waiting(why.clone());
        }
        if let Some(member) = readers_unready_too_long(seen, fleet).find(|member| member.has_wanted_template)
        {
            return Self::Unready(describe_unready(seen, member));
        }
        let rests = memory.upgrade_pause.as_ref().is_some_and(|rest| seen.now < rest.paused_until);
        let bad = view.excess_reconnect_errors(seen.settings.max_reconnect_error_percent);
        if let Some(errors) = bad.filter(|_| !rests && view.trouble.is_none()) {
            memory.begin_upgrade_pause(&seen.template, seen.now, errors);
        }
        match memory.upgrade_pause.as_ref().filter(|rest| seen.now < rest.paused_until) {
            Some(rest) => Self::ReconnectErrors(format!(
                "{} of {} viewers who came from elsewhere within a minute failed, more than {} %: it rests for {} min",
                rest.failures_and_attempts.0,
                rest.failures_and_attempts.1,
                seen.settings.max_reconnect_error_percent,
                rest.length_ms / 60_000,
            )),
            None => Self::Running,
        }
    }

    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Returns the reason why replacing is halted; `None` if it is not.
    pub fn halt_reason(&self) -> Option<&str> {
        match self {
            Self::Unready(why) | Self::ReconnectErrors(why) => Some(why),
            Self::Done | Self::Waiting(_) | Self::Running => None,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting(_) => "waits",
            Self::Unready(_) => "unready",
            Self::ReconnectErrors(_) => "errors",
            Self::Running => "runs",
        }
    }

    /// Returns an event if replacing readers began, halted, continued or ended in this round; `None` if nothing
    /// changed.
    pub fn upgrade_state_event(
        &self,
        seen: &RoundInput,
        fleet: &ReaderFleet,
        memory: &mut ReaderMemory,
    ) -> Option<DecisionEvent> {
        const UPGRADE_TOPIC: &str = "upgrade";
        let before = memory.announced_states.last_state(UPGRADE_TOPIC).map(str::to_owned);
        let new =
            fleet.members.iter().filter(|member| member.has_wanted_template && !member.deleting).count();
        let all = fleet.members.iter().filter(|member| !member.deleting).count();
        let progress = format!("{new} of {all} readers have template {}", seen.template);
        let was_halted = matches!(before.as_deref(), Some("unready" | "errors"));
        let tale = match self {
            Self::Waiting(_) => return None,
            Self::Done if before.is_some() => Some(DecisionEvent::new(DecisionAction::Upgraded, progress)),
            Self::Running if was_halted => {
                Some(DecisionEvent::new(DecisionAction::Resume, format!("{progress}: goes on")))
            }
            Self::Running if before.is_none() && new == 0 => {
                let words = format!(
                    "{progress}: each reader is emptied into new ones, at most {} more at a time",
                    seen.settings.max_surge
                );
                Some(DecisionEvent::new(DecisionAction::Upgrade, words))
            }
            Self::Done | Self::Running => None,
            Self::Unready(why) | Self::ReconnectErrors(why) => {
                let bound =
                    if matches!(self, Self::Unready(_)) { "ReadersUnready" } else { "ReconnectErrors" };
                let tale = DecisionEvent::new(DecisionAction::Halt, format!("{progress}: {why}"))
                    .with_bound_by([bound.to_owned()]);
                return memory
                    .announced_states
                    .is_news(seen.now, UPGRADE_TOPIC, Some((self.name(), &tale)))
                    .then_some(tale);
            }
        };
        let state = (*self != Self::Done).then_some(self.name());
        memory.announced_states.note_state(seen.now, UPGRADE_TOPIC, state);
        tale
    }
}

/// Returns readers that have not served for longer than permitted, by their own fault.
pub(super) fn readers_unready_too_long<'a>(
    seen: &'a RoundInput,
    fleet: &'a ReaderFleet,
) -> impl Iterator<Item = &'a FleetReader> {
    let overdue = |ms: i64| ms > seen.settings.ready_timeout_ms;
    let active = fleet.members.iter().filter(|member| !member.deleting && member.drain.is_none());
    active.filter(move |member| member.unready_ms.is_some_and(overdue))
}

/// Describes in words that a reader does not serve, and why.
pub(super) fn describe_unready(seen: &RoundInput, member: &FleetReader) -> String {
    let limit = seen.settings.ready_timeout_ms / 1000;
    format!("{} has not been ready for more than {limit} s: {}", member.name, member.unready_reason)
}
