//! The metrics of traces and spans.

use liverank_core::trace::SamplingReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::{Metrics, label_values};

label_values! {
    /// The reason why a trace is recorded, as a label.
    pub(super) enum RecordedBecause {
        /// The trace was chosen by the configured share of requests.
        Share = "share",
        /// The client's `traceparent` asks for it.
        Requested = "asked",
        /// Another liverank process began the trace, and this process continues it.
        Continued = "goes_on",
    }
}

label_values! {
    /// The outcome of a span, as a label.
    pub(super) enum SpanOutcome {
        /// The collector accepted the span.
        Exported = "exported",
        /// The collector did not answer, or refused the span.
        Failed = "failed",
        /// The queue was full, and the span was dropped.
        Dropped = "dropped",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: RecordedBecause,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: SpanOutcome,
}

/// The metrics of traces and spans of one process.
#[derive(Clone, Default)]
pub(super) struct TraceMetrics {
    recorded_traces: Family<ReasonLabel, Counter>,
    traces_over_limit: Family<ReasonLabel, Counter>,
    spans_by_outcome: Family<OutcomeLabel, Counter>,
}

impl TraceMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let all = Self::default();
        metrics.register("traces", |registry| {
            let recorded = "Traces that this process records a part of, by why";
            registry.register("recorded", recorded, all.recorded_traces.clone());
            let over_limit = "Traces that were not recorded, for there were as many already as a minute may have";
            registry.register("over_limit", over_limit, all.traces_over_limit.clone());
            let spans = "Spans by what became of them: exported; failed, for the collector was away or refused them; dropped, for the queue was full";
            registry.register("spans", spans, all.spans_by_outcome.clone());
        });
        for reason in [RecordedBecause::Share, RecordedBecause::Requested, RecordedBecause::Continued] {
            drop(all.traces_over_limit.get_or_create(&ReasonLabel { reason }));
        }
        for outcome in [SpanOutcome::Exported, SpanOutcome::Failed, SpanOutcome::Dropped] {
            all.add_span_outcomes(outcome, 0);
        }
        all
    }

    pub(super) fn count_sampling_decision(&self, reason: SamplingReason, admitted: bool) {
        let reason = match reason {
            SamplingReason::Share => RecordedBecause::Share,
            SamplingReason::Requested => RecordedBecause::Requested,
            SamplingReason::Continued => RecordedBecause::Continued,
        };
        let counter = if admitted { &self.recorded_traces } else { &self.traces_over_limit };
        counter.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn add_span_outcomes(&self, outcome: SpanOutcome, count: usize) {
        self.spans_by_outcome.get_or_create(&OutcomeLabel { outcome }).inc_by(count as u64);
    }
}
