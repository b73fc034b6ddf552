//! The metrics of the hook.

use liverank_core::moderation::hook::HookAnswer;
use liverank_runtime::label_values;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::HookVerdict;

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
    comments_by_outcome: Family<OutcomeLabels, Counter>,
    /// A histogram of the duration of requests, in seconds, failed requests included.
    pub(super) request_seconds: Histogram,
    /// 1 while the hook fails or does not answer, otherwise 0.
    pub(super) is_hook_unavailable: Gauge,
}

impl Default for HookMetrics {
    fn default() -> Self {
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 12));
        let new = Self {
            comments_by_outcome: Family::default(),
            request_seconds: seconds,
            is_hook_unavailable: Gauge::default(),
        };
        // All series exist from the start, so that a first event is seen as an increase.
        for outcome in OUTCOMES {
            drop(new.comments_by_outcome.get_or_create(&OutcomeLabels { outcome }));
        }
        new
    }
}

impl HookMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let comments = "Comments that the hook was asked about, by what was said";
        registry.register("hook_comments", comments, self.comments_by_outcome.clone());
        registry.register(
            "hook_seconds",
            "Time that requests to the hook took",
            self.request_seconds.clone(),
        );
        registry.register("hook_away", "Whether the hook does not answer", self.is_hook_unavailable.clone());
    }

    pub(super) fn count_outcome(&self, said: &HookVerdict) {
        let outcome = match said {
            HookVerdict::Answer(HookAnswer::Accept) => HookOutcome::Accept,
            HookVerdict::Answer(HookAnswer::Refuse { .. }) => HookOutcome::Refuse,
            HookVerdict::Answer(HookAnswer::Hold) => HookOutcome::Hold,
            HookVerdict::Answer(HookAnswer::Mask { .. }) => HookOutcome::Mask,
            HookVerdict::Unavailable => HookOutcome::Away,
            HookVerdict::Busy => HookOutcome::Busy,
        };
        self.comments_by_outcome.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
