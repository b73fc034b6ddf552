//! `liverank plan`: the last decisions of planners, with their reasons.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use liverank_core::Millis;
use liverank_protocol::access::CallerRole;
use liverank_protocol::{OutsideDecision, PlanAnswer, PlannerDecision};
use liverank_runtime::now_ms;
use liverank_runtime::output::format_table;
use serde::Deserialize;
use serde_json::Value;

use super::{ManagersArgs, run_on_current_thread};

/// The arguments of `liverank plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    managers: ManagersArgs,
}

impl PlanArgs {
    /// Prints the decisions of the planner in the managers, and those of a planner outside of them.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async {
            // As JSON and YAML, what came is printed as it is: managers of a later release say more than this one knows.
            let value: Value = self.managers.client_as_role(CallerRole::Cli)?.get("plan").await?;
            let plan = PlanAnswer::deserialize(&value)?;
            self.managers.output.print_value(&value, || plan_text(&plan, now_ms()))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Returns the decisions as text: a line each, and what the last one and the last change ordered and rejected.
fn plan_text(plan: &PlanAnswer, now: Millis) -> String {
    let mut text = String::new();
    let holder = plan.term.as_ref().map(|term| term.holder.as_str()).filter(|holder| !holder.is_empty());
    let _ = match holder {
        Some(holder) => writeln!(text, "{holder} plans"),
        None if plan.autopilot => writeln!(text, "nobody plans yet"),
        None => writeln!(text, "nobody plans: this manager runs without --autopilot"),
    };
    if !plan.decisions.is_empty() {
        let rows: Vec<Vec<String>> =
            plan.decisions.iter().map(|decision| decision_row(decision, now)).collect();
        let head = ["age", "readers", "videos", "orders", "viewers", "fullest", "bound by"];
        let _ = write!(text, "\n{}", format_table(&head, &rows));
    }
    let mut reasons = String::new();
    if let Some(change) = plan.decisions.iter().find(|decision| decision.chosen_total > 0) {
        for order in &change.chosen {
            let _ = writeln!(reasons, "+ {} of {}: {}", order.kind, order.videoid, order.why);
        }
    }
    for rejected in plan.decisions.first().into_iter().flat_map(|last| &last.rejected) {
        let _ = writeln!(reasons, "- {rejected}");
    }
    if !reasons.is_empty() {
        let _ = write!(text, "\n+ ordered by the last change, - rejected by the last look:\n{reasons}");
    }
    if !plan.outside.is_empty() {
        let rows: Vec<Vec<String>> = plan.outside.iter().map(|decision| outside_row(decision, now)).collect();
        let head = ["age", "outside", "bound by", "reason"];
        let _ = write!(text, "\n{}", format_table(&head, &rows));
    }
    text
}

fn decision_row(decision: &PlannerDecision, now: Millis) -> Vec<String> {
    let percent = |millionths: u64| format!("{} %", millionths / 10_000);
    let (before, after) = (decision.before.max_over_mean, decision.after.max_over_mean);
    let fullest = if decision.chosen_total == 0 || before == after {
        percent(before)
    } else {
        format!("{} → {}", percent(before), percent(after))
    };
    // The names are those of the JSON, in which they are strings.
    let limits = decision.bound_by.iter().filter_map(|limit| serde_json::to_value(limit).ok());
    let limits: Vec<String> = limits.filter_map(|limit| limit.as_str().map(str::to_owned)).collect();
    vec![
        age(decision.at, now),
        decision.readers.to_string(),
        decision.videos.to_string(),
        decision.chosen_total.to_string(),
        decision.moved.to_string(),
        fullest,
        listed(&limits),
    ]
}

fn outside_row(decision: &OutsideDecision, now: Millis) -> Vec<String> {
    vec![age(decision.at, now), decision.action.clone(), listed(&decision.bound_by), decision.reason.clone()]
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// Returns the time since `then`; a clock that is ahead of this machine's makes it 0.
fn age(then: Millis, now: Millis) -> String {
    format!("{} s", now.saturating_sub(then).max(0) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = include_str!("../../../protocol/tests/fixtures/plan.json");

    #[test]
    fn each_decision_is_a_line_and_its_reasons_follow() {
        let plan: PlanAnswer = serde_json::from_str(ANSWER).unwrap();
        let (last, order) = (&plan.decisions[0], &plan.decisions[0].chosen[0]);
        let text = plan_text(&plan, last.at + 4_000);
        let holder = &plan.term.as_ref().unwrap().holder;
        assert!(text.starts_with(&format!("{holder} plans\n\nAGE  READERS  VIDEOS  ORDERS")), "{text}");
        assert!(text.contains("\n4 s "), "{text}");
        let ordered = format!("\n+ {} of {}: {}\n", order.kind, order.videoid, order.why);
        assert!(text.contains(&ordered), "{text}");
        assert!(text.contains(&format!("\n- {}\n", last.rejected[0])), "{text}");
        assert!(text.contains(&plan.outside[0].reason), "{text}");
    }

    #[test]
    fn a_manager_without_a_planner_says_so() {
        let none = PlanAnswer::default();
        assert_eq!(plan_text(&none, 0), "nobody plans: this manager runs without --autopilot\n");
        let waits = PlanAnswer { autopilot: true, ..PlanAnswer::default() };
        assert_eq!(plan_text(&waits, 0), "nobody plans yet\n");
    }
}
