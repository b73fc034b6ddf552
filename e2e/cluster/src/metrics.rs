//! What the processes of liverank tell as metrics, read at their admin ports.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::kube::{self, KubeClient};

/// The TCP port at which each process of liverank tells its metrics.
const ADMIN_PORT: u16 = 9060;

/// Fetches the metrics of all `pods`, as one text.
pub async fn fetch_metrics(kube: &KubeClient, pods: &[Value]) -> anyhow::Result<String> {
    let mut all = String::new();
    for pod in pods {
        let (namespace, name) = (kube::text_at(pod, "/metadata/namespace"), kube::object_name(pod));
        let answer = kube.request_to_pod(namespace, name, ADMIN_PORT, Method::GET, "/metrics", None).await?;
        let text = answer.expect_success().with_context(|| format!("the metrics of {name}"))?;
        all.push_str(text.as_str().context("metrics are text")?);
        all.push('\n');
    }
    Ok(all)
}

/// Returns the labels, as text, and the value of each sample of the metric `name`.
fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.trim().parse().ok()?))
    })
}

/// Returns the sum of all samples of a metric that have all these labels, each written as `name="value"`.
pub fn sum_of(text: &str, name: &str, labels: &[&str]) -> u64 {
    let has_all = |said: &str| labels.iter().all(|label| said.split(',').any(|own| own == *label));
    samples(text, name).filter(|(said, _)| has_all(said)).map(|(_, value)| value as u64).sum()
}

/// A histogram: for each bound, the smallest first, the number of values that are not above the bound.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Reads the histogram `name`; the numbers of several processes are added up.
    pub fn read(text: &str, name: &str) -> Self {
        let mut bounds: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in samples(text, &format!("{name}_bucket")) {
            let bound = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'));
            let Some(bound) = bound.and_then(|bound| bound.parse::<f64>().ok()) else { continue };
            match bounds.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, known)) => *known += count,
                None => bounds.push((bound, count)),
            }
        }
        bounds.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Self(bounds)
    }

    /// Returns the number of values since `before`, and the smallest bound that none of them is above: infinite if one is
    /// above every finite bound.
    pub fn since(&self, before: &Self) -> (f64, f64) {
        let more: Vec<(f64, f64)> = self
            .0
            .iter()
            .map(|(bound, count)| {
                let known = before.0.iter().find(|(known, _)| known.total_cmp(bound).is_eq());
                (*bound, count - known.map_or(0.0, |(_, count)| *count))
            })
            .collect();
        let all = more.last().map_or(0.0, |(_, count)| *count);
        let bound = more.iter().find(|(_, count)| *count >= all).map_or(f64::INFINITY, |(bound, _)| *bound);
        (all, bound)
    }
}

/// Measures the longest time in which a counter did certainly not change. The time between two samples in which it did is
/// not counted: how long such a time lasts is up to the process that takes the samples.
#[derive(Debug, Default)]
pub struct GapMeter {
    /// The counter, as it was last seen.
    pub count: u64,
    /// The time at which the first sample with this count had been taken.
    since: Option<Instant>,
    /// The longest time so far.
    pub longest: Duration,
}

impl GapMeter {
    /// Notes a sample of the counter, with the time at which it was asked for. The answer is there by now (`answered`).
    pub fn note(&mut self, count: u64, asked: Instant, answered: Instant) {
        match self.since {
            Some(since) if count == self.count => {
                self.longest = self.longest.max(asked.saturating_duration_since(since));
            }
            _ => (self.count, self.since) = (count, Some(answered)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_the_time_in_which_the_counter_certainly_stood_still() {
        let (mut meter, start) = (GapMeter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // The counter changes while the process that samples stands still for 20 s, and an answer takes 9 s.
        for (asked, answered, count) in
            [(0, 0, 5), (1, 1, 5), (2, 2, 6), (6, 6, 6), (7, 7, 7), (27, 27, 8), (29, 38, 9), (40, 41, 9)]
        {
            meter.note(count, at(asked), at(answered));
        }
        assert_eq!((meter.longest, meter.count), (Duration::from_secs(4), 9));
    }

    #[test]
    fn a_sum_is_over_the_samples_with_all_labels() {
        let text = "# TYPE a counter\n\
            a_total{method=\"GET\",route=\"/load\",status=\"2xx\"} 3\n\
            a_total{method=\"POST\",route=\"/load\",status=\"2xx\"} 5\n\
            a_total{method=\"GET\",route=\"/load\",status=\"2xx\"} 4\n\
            a_total_more 9\n";
        assert_eq!(sum_of(text, "a_total", &["method=\"GET\"", "route=\"/load\""]), 7);
        assert_eq!(sum_of(text, "a_total", &[]), 12);
        assert_eq!(sum_of(text, "a_total", &["route=\"/loa\""]), 0);
    }

    #[test]
    fn what_was_above_a_bound_before_does_not_count() {
        let read = |text: &str| Histogram::read(text, "a");
        let before = read("a_bucket{le=\"1.0\"} 2\na_bucket{le=\"2.5\"} 2\na_bucket{le=\"+Inf\"} 3\n");
        let after = read(
            "a_bucket{le=\"1.0\"} 4\na_bucket{le=\"2.5\"} 5\na_bucket{le=\"+Inf\"} 6\n\
             a_bucket{le=\"1.0\"} 1\na_bucket{le=\"2.5\"} 1\na_bucket{le=\"+Inf\"} 1\n",
        );
        assert_eq!(after.since(&before), (4.0, 2.5));
        let later = read("a_bucket{le=\"1.0\"} 4\na_bucket{le=\"2.5\"} 5\na_bucket{le=\"+Inf\"} 7\n");
        assert_eq!(later.since(&before), (4.0, f64::INFINITY));
        assert_eq!(before.since(&before), (0.0, 1.0));
    }
}
