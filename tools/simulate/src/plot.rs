//! Draws two pictures: the balance of the readers over time, and the readers' loads at the end.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use plotters::prelude::*;

use crate::experiment::PolicyOutcome;
use crate::policy::PolicyName;
use crate::scenario::Scenario;

const PICTURE_SIZE: (u32, u32) = (1000, 560);

/// Returns the colour of a policy, from a palette that colour-blind people can tell apart (Okabe and Ito).
const fn policy_colour(policy: PolicyName) -> RGBColor {
    match policy {
        PolicyName::RoundRobin => RGBColor(213, 94, 0),
        PolicyName::ConsistentHash => RGBColor(230, 159, 0),
        PolicyName::BoundedLoad => RGBColor(204, 121, 167),
        PolicyName::TwoChoices => RGBColor(0, 114, 178),
        PolicyName::Planner => RGBColor(0, 158, 115),
    }
}

/// Draws the pictures into `folder`. Returns the paths of the files.
pub fn draw_pictures(
    scenario: &Scenario,
    outcomes: &[PolicyOutcome],
    folder: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let (balance, readers) = (folder.join("balance.svg"), folder.join("readers.svg"));
    // The drawing library's errors borrow their subject, so they are turned into text here.
    draw_balance(scenario, outcomes, &balance).map_err(|error| anyhow!("{}: {error}", balance.display()))?;
    draw_readers(scenario, outcomes, &readers).map_err(|error| anyhow!("{}: {error}", readers.display()))?;
    Ok(vec![balance, readers])
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

/// Draws the viewers of the fullest reader divided by the mean, over time.
fn draw_balance(scenario: &Scenario, outcomes: &[PolicyOutcome], path: &Path) -> DrawResult {
    let area = SVGBackend::new(path, PICTURE_SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let moments = || outcomes.iter().flat_map(|outcome| &outcome.samples);
    let minutes = moments().map(|moment| moment.seconds / 60.0).fold(0.1, f64::max);
    let worst = moments().map(|moment| moment.max_over_mean).fold(1.5, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: the fullest reader over the mean", scenario.name), ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..minutes, (1.0..worst * 1.1).log_scale())?;
    chart.configure_mesh().x_desc("minutes").y_desc("max / mean").light_line_style(WHITE).draw()?;
    for outcome in outcomes {
        let colour = policy_colour(outcome.policy);
        let points = outcome.samples.iter().map(|moment| (moment.seconds / 60.0, moment.max_over_mean));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(outcome.policy.title())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

/// Draws the viewers of each reader at the end, the fullest reader first.
fn draw_readers(scenario: &Scenario, outcomes: &[PolicyOutcome], path: &Path) -> DrawResult {
    let area = SVGBackend::new(path, PICTURE_SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let loads: Vec<Vec<u64>> = outcomes
        .iter()
        .map(|outcome| {
            let mut loads = outcome.final_world.reader_loads();
            loads.sort_unstable_by(|a, b| b.cmp(a));
            loads
        })
        .collect();
    let most = loads.iter().flatten().copied().max().unwrap_or(1).max(1);
    let readers = loads.iter().map(Vec::len).max().unwrap_or(1).max(2);
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: viewers of each reader at the end", scenario.name), ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d(1..readers, (1..most + most / 10 + 1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("readers, the fullest first")
        .y_desc("viewers")
        .light_line_style(WHITE)
        .draw()?;
    for (outcome, loads) in outcomes.iter().zip(&loads) {
        let colour = policy_colour(outcome.policy);
        let points = loads.iter().enumerate().map(|(at, load)| (at + 1, (*load).max(1)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(outcome.policy.title())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::experiment;
    use crate::scenario::ScenarioName;

    #[test]
    fn every_policy_is_in_both_pictures() {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::from_mins(1));
        let outcomes: Vec<PolicyOutcome> =
            PolicyName::ALL.iter().map(|policy| experiment::run(&scenario, *policy, 1, || ())).collect();
        let folder = tempfile::tempdir().unwrap();
        for path in draw_pictures(&scenario, &outcomes, folder.path()).unwrap() {
            let picture = std::fs::read_to_string(path).unwrap();
            for policy in PolicyName::ALL {
                assert!(picture.contains(policy.title()), "{} is missing", policy.title());
            }
        }
    }
}
