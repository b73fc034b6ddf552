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
        Asked = "asked",
        /// Another liverank process began the trace, and this process continues it.
        GoesOn = "goes_on",
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
    recorded: Family<ReasonLabel, Counter>,
    over_limit: Family<ReasonLabel, Counter>,
    count_spans: Family<OutcomeLabel, Counter>,
}

impl TraceMetrics {
    pub(super) fn registered(metrics: &Metrics) -> Self {
        let all = Self::default();
        metrics.register("traces", |registry| {
            let recorded = "Traces that this process records a part of, by why";
            registry.register("recorded", recorded, all.recorded.clone());
            let over_limit = "Traces that were not recorded, for there were as many already as a minute may have";
            registry.register("over_limit", over_limit, all.over_limit.clone());
            let spans = "Spans by what became of them: exported; failed, for the collector was away or refused them; dropped, for the queue was full";
            registry.register("spans", spans, all.count_spans.clone());
        });
        for reason in [RecordedBecause::Share, RecordedBecause::Asked, RecordedBecause::GoesOn] {
            drop(all.over_limit.get_or_create(&ReasonLabel { reason }));
        }
        for outcome in [SpanOutcome::Exported, SpanOutcome::Failed, SpanOutcome::Dropped] {
            all.spans(outcome, 0);
        }
        all
    }

    pub(super) fn judged(&self, reason: SamplingReason, admitted: bool) {
        let reason = match reason {
            SamplingReason::Share => RecordedBecause::Share,
            SamplingReason::Asked => RecordedBecause::Asked,
            SamplingReason::GoesOn => RecordedBecause::GoesOn,
        };
        let counter = if admitted { &self.recorded } else { &self.over_limit };
        counter.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn spans(&self, outcome: SpanOutcome, count: usize) {
        self.count_spans.get_or_create(&OutcomeLabel { outcome }).inc_by(count as u64);
    }
}
