//! Demand: the number of viewers, from reports that may be old, missing or contradictory.

use std::collections::BTreeMap;

use super::inputs::{ReaderLoadReport, ScalingInputs};
use super::policy::ScalingPolicy;

/// The demand by all reports together.
pub(super) struct ReportedDemand {
    /// The number of viewers: the greatest fresh report on each reader, or its latest report if none is fresh.
    pub viewer_count: u64,
    /// The number of readers whose fresh reports agree.
    pub agreeing_readers: u32,
    /// The number of readers with any fresh report.
    pub readers_with_report: u32,
    /// The number of readers whose fresh reports contradict each other.
    pub contradicting_readers: u32,
    reader_count: u32,
}

impl ReportedDemand {
    pub fn has_fresh_report_of_all(&self) -> bool {
        self.agreeing_readers == self.reader_count
    }
}

pub(super) fn sum_reports(inputs: &ScalingInputs, policy: &ScalingPolicy) -> ReportedDemand {
    let mut of: BTreeMap<&str, Vec<&ReaderLoadReport>> =
        inputs.readers.iter().map(|id| (id.as_str(), Vec::new())).collect();
    for report in &inputs.reports {
        if let Some(reports) = of.get_mut(report.reader.as_str()) {
            reports.push(report);
        }
    }
    let reader_count = of.len() as u32;
    let mut seen = ReportedDemand {
        viewer_count: 0,
        agreeing_readers: 0,
        readers_with_report: 0,
        contradicting_readers: 0,
        reader_count,
    };
    let is_fresh =
        |report: &&&ReaderLoadReport| (0..=policy.report_max_age_ms).contains(&(inputs.now - report.at));
    for reports in of.values() {
        let fresh: Vec<u64> = reports.iter().filter(is_fresh).map(|report| report.viewers).collect();
        let (Some(least), Some(most)) = (fresh.iter().min(), fresh.iter().max()) else {
            let last = reports.iter().filter(|report| report.at <= inputs.now);
            let last =
                last.max_by_key(|report| (report.at, report.viewers)).map_or(0, |report| report.viewers);
            seen.viewer_count = seen.viewer_count.saturating_add(last);
            continue;
        };
        seen.readers_with_report += 1;
        seen.viewer_count = seen.viewer_count.saturating_add(*most);
        if policy.contradicts(*least, *most) {
            seen.contradicting_readers += 1;
        } else {
            seen.agreeing_readers += 1;
        }
    }
    seen
}
