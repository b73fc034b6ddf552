//! The output of `approve` and `history`, and the annotation by which a plan is approved. All functions are pure.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;

use super::words::{TextTable, time_ago, with_commas};
use crate::crd::{PastDecision, RankingCluster, WaitingPlan};

/// Returns the plans that wait for approval.
pub fn waiting_plans(cluster: &RankingCluster) -> &[WaitingPlan] {
    cluster.status.as_ref().map(|status| status.proposals.as_slice()).unwrap_or_default()
}

/// Renders the plans that wait for approval, each with its cost and the command that approves it.
pub fn render_waiting_plans(cluster: &RankingCluster, now: Timestamp) -> String {
    let plans = waiting_plans(cluster);
    if plans.is_empty() {
        return "no plan waits to be approved\n".to_owned();
    }
    let mut out = String::new();
    for plan in plans {
        let made = plan.time.as_ref().map_or_else(String::new, |time| format!(", {}", time_ago(time.0, now)));
        let _ = writeln!(out, "{} {}{made}", plan.subject, plan.id);
        let _ = writeln!(out, "  {}", plan.summary);
        let _ =
            writeln!(out, "  cost: {} viewers change readers", with_commas(plan.viewers_moved.max(0) as u64));
        let _ = writeln!(out, "  effect: {}", plan.effect);
        for step in &plan.steps {
            let _ = writeln!(out, "  - {step}");
        }
        let _ = writeln!(out, "  approve: kubectl liverank approve rkc/{} {}", cluster.name(), plan.id);
    }
    out
}

/// Returns the value of the annotation that approves `id` in addition to earlier approvals; approvals of plans that do
/// not wait any more are dropped.
///
/// # Errors
/// Returns a message for the user if no plan of that name waits.
pub fn approval_annotation(cluster: &RankingCluster, id: &str, before: &str) -> Result<String, String> {
    let ids: BTreeSet<&str> = waiting_plans(cluster).iter().map(|plan| plan.id.as_str()).collect();
    if !ids.contains(id) {
        let there: Vec<&str> = ids.into_iter().collect();
        let there = if there.is_empty() { "none waits".to_owned() } else { there.join(", ") };
        return Err(format!(
            "no plan {id} waits to be approved: {there}. Has what it was made from changed?"
        ));
    }
    let kept = before.split(',').map(str::trim).filter(|before| ids.contains(before));
    let all: BTreeSet<&str> = kept.chain([id]).collect();
    Ok(all.into_iter().collect::<Vec<_>>().join(","))
}

/// Returns the decisions that the status remembers, the latest last.
pub fn past_decisions(cluster: &RankingCluster) -> &[PastDecision] {
    cluster.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default()
}

/// Renders the decisions that the status remembers, one a line, the latest last.
pub fn render_history(cluster: &RankingCluster) -> String {
    let past = past_decisions(cluster);
    if past.is_empty() {
        return "nothing has been decided yet\n".to_owned();
    }
    let mut table = TextTable::new(&["TIME", "ID", "ACTION", "WHY"]);
    for PastDecision { id, time, action, reason } in past {
        let time = time.as_ref().map_or_else(String::new, |time| time.0.to_string());
        table.add_row([time, id.clone(), action.clone(), reason.clone()]);
    }
    table.render("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::RankingClusterStatus;

    fn cluster(ids: &[&str]) -> RankingCluster {
        let mut cluster: RankingCluster =
            serde_yaml::from_str(include_str!("../../tests/build/clusters/minimal.yaml")).unwrap();
        let plan = |id: &&str| WaitingPlan {
            subject: "Scaling".to_owned(),
            id: (*id).to_owned(),
            summary: "4 readers instead of 3".to_owned(),
            viewers_moved: 12_345,
            effect: "fewer".to_owned(),
            steps: vec!["create 1 readers".to_owned()],
            ..WaitingPlan::default()
        };
        let proposals = ids.iter().map(plan).collect();
        cluster.status = Some(RankingClusterStatus { proposals, ..RankingClusterStatus::default() });
        cluster
    }

    #[test]
    fn only_waiting_plans_are_approved_and_old_approvals_are_dropped() {
        let both = cluster(&["aa", "bb"]);
        assert_eq!(approval_annotation(&both, "bb", ""), Ok("bb".to_owned()));
        assert_eq!(approval_annotation(&both, "bb", "aa, old"), Ok("aa,bb".to_owned()));
        let refused = approval_annotation(&both, "cc", "").unwrap_err();
        assert!(refused.contains("no plan cc waits") && refused.contains("aa, bb"), "{refused}");
        assert!(approval_annotation(&cluster(&[]), "aa", "aa").unwrap_err().contains("none waits"));
    }

    #[test]
    fn a_plan_is_shown_with_its_cost_and_how_to_approve_it() {
        let text = render_waiting_plans(&cluster(&["aa"]), Timestamp::UNIX_EPOCH);
        for words in ["Scaling aa", "4 readers", "effect: fewer", "- create 1", "approve rkc/live aa"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(render_waiting_plans(&cluster(&[]), Timestamp::UNIX_EPOCH).contains("no plan waits"));
    }

    #[test]
    fn history_has_one_line_for_each_decision() {
        let mut cluster = cluster(&[]);
        assert!(render_history(&cluster).contains("nothing has been decided"));
        let past = |id: &str| PastDecision {
            id: id.to_owned(),
            action: "ScaleUp".to_owned(),
            reason: "more viewers".to_owned(),
            ..PastDecision::default()
        };
        cluster.status.as_mut().unwrap().history = vec![past("one"), past("two")];
        let text = render_history(&cluster);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("one") && text.contains("more viewers"), "{text}");
    }
}
