//! Histograms of latencies with exemplars: each bucket names the trace of a recorded request that fell into it.

use std::time::SystemTime;

use liverank_core::trace::TraceContext;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The label of an exemplar. Prometheus keeps at most 128 characters of an exemplar's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabel {
    trace_id: String,
}

/// A histogram whose buckets each name the last recorded trace that fell into it. Cheap to clone: all clones share the
/// values. Without traces it is an ordinary histogram.
#[derive(Debug, Clone)]
pub struct TracedHistogram(HistogramWithExemplars<TraceLabel>);

impl TracedHistogram {
    /// Creates a histogram with these upper bounds of its buckets.
    pub fn new(buckets: impl IntoIterator<Item = f64>) -> Self {
        Self(HistogramWithExemplars::new(buckets.into_iter()))
    }

    /// Observes a value; `trace` is the context of its span, if the span is recorded.
    pub fn observe(&self, value: f64, trace: Option<TraceContext>) {
        let label = trace
            .filter(|trace| trace.sampled)
            .map(|trace| TraceLabel { trace_id: format!("{:032x}", u128::from_be_bytes(trace.trace_id)) });
        let now = label.is_some().then(SystemTime::now);
        self.0.observe(value, label, now);
    }
}

impl TypedMetric for TracedHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for TracedHistogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_bucket_names_the_trace_of_a_recorded_request() {
        let histogram = TracedHistogram::new([0.1, 1.0]);
        let mut registry = Registry::default();
        registry.register("time", "Time", histogram.clone());
        let context = |sampled| TraceContext { trace_id: [1; 16], span_id: [2; 8], sampled };
        histogram.observe(0.05, None);
        histogram.observe(0.05, Some(context(false)));
        let text = |registry: &Registry| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            text
        };
        assert!(!text(&registry).contains("trace_id"), "{}", text(&registry));
        histogram.observe(0.5, Some(context(true)));
        let text = text(&registry);
        let line = text.lines().find(|line| line.contains("trace_id")).unwrap();
        let begin = format!("time_bucket{{le=\"1.0\"}} 3 # {{trace_id=\"{}\"}} 0.5 ", "01".repeat(16));
        assert!(line.starts_with(&begin), "{line}");
    }
}
