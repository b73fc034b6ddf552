//! The metrics of a comment service.

use liverank_core::moderation::RuleName;
use liverank_runtime::{Metrics, TracedHistogram, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;

use crate::hook::metrics::HookMetrics;

label_values! {
    /// The rule that refused a comment.
    enum RuleLabel {
        /// A user may post one comment in a period.
        SlowMode = "slow_mode",
        /// Only members may comment.
        MembersOnly = "members_only",
        /// The same text was posted before.
        Repeat = "repeat",
        /// The comment is too long.
        Length = "length",
        /// The comment has a link.
        Links = "links",
        /// The comment has a forbidden word.
        Words = "words",
        /// The comment matches a forbidden pattern.
        Patterns = "patterns",
        /// Every comment waits for a moderator.
        HoldAll = "hold_all",
        /// The hook refused the comment.
        Hook = "hook",
    }
}

impl From<RuleName> for RuleLabel {
    fn from(rule: RuleName) -> Self {
        match rule {
            RuleName::SlowMode => Self::SlowMode,
            RuleName::MembersOnly => Self::MembersOnly,
            RuleName::Repeat => Self::Repeat,
            RuleName::Length => Self::Length,
            RuleName::Links => Self::Links,
            RuleName::Words => Self::Words,
            RuleName::Patterns => Self::Patterns,
            RuleName::HoldAll => Self::HoldAll,
            RuleName::Hook => Self::Hook,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: RuleLabel,
}

/// The metrics of a comment service. Cheap to clone: all clones share the same counters.
#[derive(Clone)]
pub struct CommentMetrics {
    /// Comments that the log has durably.
    pub comments_acknowledged: Counter,
    /// Posts answered with the comment that an earlier post with the same idempotency key made.
    pub posts_repeated: Counter,
    /// Posts refused because the log is unavailable.
    pub posts_unavailable: Counter,
    /// Comments refused because their user is banned or muted.
    pub comments_restricted: Counter,
    /// The number of restrictions in force, as far as this service has read them.
    pub restrictions_in_force: Gauge,
    /// Comments refused, by the rule that refused them.
    refusals_by_rule: Family<RuleLabels, Counter>,
    /// Comments of shadow-banned users, which only their authors are shown.
    pub comments_shadowed: Counter,
    /// Comments written to the log to wait for a moderator.
    pub comments_held: Counter,
    /// Comments accepted with a part of the text masked.
    pub comments_masked: Counter,
    /// The number of scopes (everywhere, an owner, a video) that have rules of comments.
    pub ruled_scopes: Gauge,
    /// The metrics of the hook.
    pub(crate) hook_metrics: HookMetrics,
    /// A histogram of the time until the log answered an append, in seconds.
    pub append_seconds: TracedHistogram,
    /// Videos that were not registered because too many were waiting.
    pub registrations_dropped: Counter,
}

impl CommentMetrics {
    /// Makes and registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            comments_acknowledged: Counter::default(),
            posts_repeated: Counter::default(),
            posts_unavailable: Counter::default(),
            comments_restricted: Counter::default(),
            restrictions_in_force: Gauge::default(),
            refusals_by_rule: Family::default(),
            comments_shadowed: Counter::default(),
            comments_held: Counter::default(),
            comments_masked: Counter::default(),
            ruled_scopes: Gauge::default(),
            hook_metrics: HookMetrics::default(),
            append_seconds: TracedHistogram::new(exponential_buckets(0.0005, 2.0, 15)),
            registrations_dropped: Counter::default(),
        };
        // All series exist from the start, so that a first event is seen as an increase.
        for rule in RuleName::ALL {
            drop(all.refusals_by_rule.get_or_create(&RuleLabels { rule: rule.into() }));
        }
        metrics.register("comment", |registry| {
            let m = all.clone();
            registry.register("acknowledged", "Comments that the log has", m.comments_acknowledged);
            registry.register("repeated", "Posts answered with an earlier one's comment", m.posts_repeated);
            registry.register("unavailable", "Posts turned away: the log is away", m.posts_unavailable);
            registry.register(
                "restricted",
                "Comments refused: their user is banned or muted",
                m.comments_restricted,
            );
            registry.register("restrictions", "Bans and mutes known", m.restrictions_in_force);
            registry.register("ruled", "Comments refused by a rule of comments", m.refusals_by_rule);
            registry.register("shadowed", "Comments that their authors alone are shown", m.comments_shadowed);
            registry.register("held", "Comments that were to wait for a moderator", m.comments_held);
            registry.register("masked", "Comments taken with something masked", m.comments_masked);
            registry.register("ruled_scopes", "Places that have rules of comments", m.ruled_scopes);
            m.hook_metrics.register(registry);
            registry.register("append_seconds", "Time until the log answered", m.append_seconds);
            registry.register(
                "registrations_dropped",
                "Videos not registered: too many were waiting",
                m.registrations_dropped,
            );
        });
        all
    }

    /// Counts a comment that was refused by this rule.
    pub fn count_refusal(&self, rule: RuleName) {
        self.refusals_by_rule.get_or_create(&RuleLabels { rule: rule.into() }).inc();
    }
}
