//! What is measured of the hook.

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
    /// What was said of a comment.
    enum HookOutcome {
        /// It is taken.
        Accept = "accept",
        /// It is refused.
        Refuse = "refuse",
        /// It waits for a moderator.
        Hold = "hold",
        /// It is taken with another text.
        Mask = "mask",
        /// Nothing: the hook is away.
        Away = "away",
        /// Nothing: too many wait for it.
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

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub(crate) struct HookMetrics {
    comments: Family<OutcomeLabels, Counter>,
    /// Seconds that requests took, those that failed included.
    pub(super) request_seconds: Histogram,
    /// Whether it is away: 1, or 0.
    pub(super) is_away: Gauge,
}

impl Default for HookMetrics {
    fn default() -> Self {
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 12));
        let new = Self { comments: Family::default(), request_seconds: seconds, is_away: Gauge::default() };
        // From the start, so that a first one is seen as one more.
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
