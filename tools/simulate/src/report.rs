//! The results of all policies as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::experiment::{PolicyOutcome, percentile};
use crate::scenario::Scenario;

/// The row of one policy in the table.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The title of the policy.
    pub policy: &'static str,
    /// The viewers of the fullest reader divided by the mean, at the beginning.
    pub first: f64,
    /// The median over time of the fullest reader's viewers divided by the mean.
    pub p50: f64,
    /// The 99th percentile over time of the fullest reader's viewers divided by the mean.
    pub p99: f64,
    /// The largest value over time of the fullest reader's viewers divided by the mean.
    pub worst: f64,
    /// The number of viewers of the reader at the 99th percentile; the median over time.
    pub p99_reader_load: u64,
    /// The number of viewers above their readers' capacity; the largest value over time.
    pub over_capacity: u64,
    /// The number of viewers that the policy moved, in all.
    pub moved: u64,
    /// The number of viewers whose reader died, in all.
    pub lost: u64,
    /// The median computing time of a plan, in milliseconds.
    pub plan_ms_p50: f64,
    /// The longest computing time of a plan, in milliseconds.
    pub plan_ms_max: f64,
}

impl Row {
    fn row_of(outcome: &PolicyOutcome) -> Self {
        let sorted = |value: fn(&crate::experiment::WorldSample) -> f64| {
            let mut values: Vec<f64> = outcome.samples.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let balance = sorted(|moment| moment.max_over_mean);
        let plans = sorted(|moment| moment.plan_ms);
        let loads = sorted(|moment| moment.p99_load as f64);
        Self {
            policy: outcome.policy.title(),
            first: outcome.samples[0].max_over_mean,
            p50: percentile(&balance, 0.5),
            p99: percentile(&balance, 0.99),
            worst: percentile(&balance, 1.0),
            p99_reader_load: percentile(&loads, 0.5) as u64,
            over_capacity: outcome
                .samples
                .iter()
                .map(|moment| moment.over_capacity)
                .max()
                .unwrap_or_default(),
            moved: outcome.samples.iter().map(|moment| moment.moved).sum(),
            lost: outcome.samples.iter().map(|moment| moment.lost).sum(),
            plan_ms_p50: percentile(&plans, 0.5),
            plan_ms_max: percentile(&plans, 1.0),
        }
    }
}

const TABLE_HEAD: [&str; 11] = [
    "policy",
    "first",
    "p50",
    "p99",
    "worst",
    "p99 reader",
    "over capacity",
    "moved",
    "by deaths",
    "plan ms p50",
    "max",
];

/// Returns the table, which fits a terminal of 120 columns.
pub fn report_table(scenario: &Scenario, outcomes: &[PolicyOutcome]) -> String {
    let rows: Vec<[String; 11]> = outcomes.iter().map(|outcome| row_cells(&Row::row_of(outcome))).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].len()).chain([TABLE_HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..TABLE_HEAD.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let mut line = format!("{:<1$}", cells[0], widths[0]);
        for (cell, width) in cells[1..].iter().zip(&widths[1..]) {
            let _ = write!(line, "  {cell:>width$}");
        }
        line + "\n"
    };
    let seconds = scenario.traffic.tick_length().as_secs_f64() * scenario.traffic.tick_count() as f64;
    let viewers: u64 = scenario.video_audiences.iter().sum();
    let mut text = format!(
        "{}: {} videos, {} viewers, {} readers of {}, {} min\n\n",
        scenario.name,
        group_digits(scenario.video_audiences.len() as u64),
        group_digits(viewers),
        scenario.reader_count,
        group_digits(scenario.capacity),
        (seconds / 60.0).round(),
    );
    text += &line(&TABLE_HEAD);
    for row in &rows {
        text += &line(&row.each_ref().map(String::as_str));
    }
    text += "\nfirst, p50, p99, worst: the fullest reader's viewers over the mean, at the beginning and over time.\n\
             p99 reader: viewers of the reader at the 99th percentile. over capacity: viewers above it, at worst.\n\
             moved: viewers that the policy moved. by deaths: viewers whose reader died under them.\n";
    text
}

fn row_cells(row: &Row) -> [String; 11] {
    [
        row.policy.to_owned(),
        format!("{:.2}", row.first),
        format!("{:.2}", row.p50),
        format!("{:.2}", row.p99),
        format!("{:.2}", row.worst),
        group_digits(row.p99_reader_load),
        group_digits(row.over_capacity),
        group_digits(row.moved),
        group_digits(row.lost),
        format!("{:.2}", row.plan_ms_p50),
        format!("{:.2}", row.plan_ms_max),
    ]
}

/// Writes 1234567 as 1,234,567.
fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns the figures of the table, their values after each tick, and the assignments of videos at the end.
pub fn report_json(scenario: &Scenario, outcomes: &[PolicyOutcome]) -> Value {
    let policies: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let course: Vec<Value> = outcome
                .samples
                .iter()
                .map(|moment| {
                    json!({ "seconds": moment.seconds, "maxOverMean": moment.max_over_mean,
                        "p99ReaderLoad": moment.p99_load, "overCapacity": moment.over_capacity,
                        "viewers": moment.viewers, "moved": moment.moved, "byDeaths": moment.lost })
                })
                .collect();
            json!({ "summary": Row::row_of(outcome), "course": course, "assignments": assignments_of(outcome) })
        })
        .collect();
    json!({
        "scenario": scenario.name, "readers": scenario.reader_count, "capacity": scenario.capacity,
        "videos": scenario.video_audiences.len(), "viewers": scenario.video_audiences.iter().sum::<u64>(), "policies": policies,
    })
}

/// Returns the readers of each video, with the number of its viewers that each has.
fn assignments_of(outcome: &PolicyOutcome) -> BTreeMap<&str, BTreeMap<&str, u64>> {
    let situation = &outcome.final_world.situation;
    situation
        .videos
        .iter()
        .map(|video| {
            let parts =
                video.parts.iter().map(|part| (situation.readers[part.reader].id.as_str(), part.viewers));
            (video.id.as_str(), parts.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::experiment;
    use crate::policy::PolicyName;
    use crate::scenario::ScenarioName;

    #[test]
    fn the_table_and_the_json_say_the_same() {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::from_mins(1));
        let outcomes = [experiment::run(&scenario, PolicyName::RoundRobin, 1, || ())];
        let text = report_table(&scenario, &outcomes);
        assert!(text.contains("round robin") && text.contains("2.80"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
        let json = report_json(&scenario, &outcomes);
        assert_eq!(json["policies"][0]["summary"]["first"], json!(2.8));
        let assigned = json["policies"][0]["assignments"].as_object().unwrap();
        assert_eq!(assigned.len(), 100);
        assert!(assigned["video-000004"]["reader-004"].as_u64().unwrap() > 1000);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(group_digits), ["0", "999", "1,000", "1,234,567"]);
    }
}
