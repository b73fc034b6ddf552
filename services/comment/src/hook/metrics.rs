//! The metrics of the hook.

use liverank_core::moderation::hook::HookAnswer;
use liverank_runtime::label_values;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Said;

label_values! {
    /// The outcome of asking the hook about a comment.
    enum HookOutcome {
        /// The comment is accepted.
        Accept = "accept",
        /// The comment is refused.
        Refuse = "refuse",
        /// The comment waits for a moderator.
        Hold = "hold",
        /// The comment is accepted with another text.
        Mask = "mask",
        /// No decision: the hook is away.
        Away = "away",
        /// No decision: too many comments wait for the hook.
        Busy = "busy",
    }
}

const OUTCOMES: [HookOutcome; 6] = [
    HookOutcome::Accept,
    HookOutcome::Refuse,
    HookOutcome::Hold,
    HookOutcome::Mask,
    HookOutcome::Away,
    HookOutcome::Busy,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: HookOutcome,
}

/// The metrics of the hook. Cheap to clone: all clones share the same counters.
#[derive(Clone)]
pub(crate) struct HookMetrics {
    comments: Family<OutcomeLabels, Counter>,
    /// A histogram of the duration of requests, in seconds, failed requests included.
    pub(super) request_seconds: Histogram,
    /// 1 while the hook is away, otherwise 0.
    pub(super) is_away: Gauge,
}

impl Default for HookMetrics {
    fn default() -> Self {
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 12));
        let new = Self { comments: Family::default(), request_seconds: seconds, is_away: Gauge::default() };
        // All series exist from the start, so that a first event is seen as an increase.
        for outcome in OUTCOMES {
            drop(new.comments.get_or_create(&OutcomeLabels { outcome }));
        }
        new
    }
}

impl HookMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let comments = "Comments that the hook was asked about, by what was said";
        registry.register("hook_comments", comments, self.comments.clone());
        registry.register(
            "hook_seconds",
            "Time that requests to the hook took",
            self.request_seconds.clone(),
        );
        registry.register("hook_away", "Whether the hook does not answer", self.is_away.clone());
    }

    pub(super) fn said(&self, said: &Said) {
        let outcome = match said {
            Said::Answer(HookAnswer::Accept) => HookOutcome::Accept,
            Said::Answer(HookAnswer::Refuse { .. }) => HookOutcome::Refuse,
            Said::Answer(HookAnswer::Hold) => HookOutcome::Hold,
            Said::Answer(HookAnswer::Mask { .. }) => HookOutcome::Mask,
            Said::Away => HookOutcome::Away,
            Said::Busy => HookOutcome::Busy,
        };
        self.comments.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
