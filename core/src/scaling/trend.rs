//! The trend of demand: the slope of a straight line through the recent counts (least squares).

use super::inputs::ScalingInputs;
use super::policy::ScalingPolicy;

/// The least number of counts that make a trend.
const MIN_COUNTS_FOR_TREND: usize = 4;

/// Returns the number of viewers a minute by which demand rises, from the present count and those of the last two lead
/// times. 0 if demand falls, if there are too few counts, or if they reach back less than half a lead time. A fall is
/// never anticipated.
pub(super) fn viewer_rise_per_minute(inputs: &ScalingInputs, policy: &ScalingPolicy, viewers: u64) -> u64 {
    let lead = policy.lead_ms.max(1);
    let counts = inputs.history.iter().filter_map(|past| Some((past.at, past.viewers?)));
    let mut points: Vec<(f64, f64)> = counts
        .map(|(at, viewers)| (inputs.now.saturating_sub(at), viewers))
        .filter(|&(age, _)| age > 0 && age <= lead.saturating_mul(2))
        .map(|(age, viewers)| (-(age as f64) / 60_000.0, viewers as f64))
        .collect();
    points.push((0.0, viewers as f64));
    let oldest = points.iter().map(|point| point.0).fold(0.0, f64::min);
    if points.len() < MIN_COUNTS_FOR_TREND || -oldest * 60_000.0 < lead as f64 / 2.0 {
        return 0;
    }
    // The points are summed in the order of time, so that the order of the history changes nothing.
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let count = points.len() as f64;
    let mean_at = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean = points.iter().map(|point| point.1).sum::<f64>() / count;
    let (mut both, mut square) = (0.0, 0.0);
    for (at, viewers) in &points {
        both += (at - mean_at) * (viewers - mean);
        square += (at - mean_at) * (at - mean_at);
    }
    if square > 0.0 { (both / square).max(0.0).round() as u64 } else { 0 }
}
