//! The validation rules that the API server checks by itself (CEL), each with a message that says what to do. A rule on
//! one field is in that field's schema, other rules are on the smallest object that contains all fields they read.
//! `tests/fixtures/rules.yaml` has one refusal for each.
//!
//! Strings, lists and maps are bounded everywhere, because the API server estimates the cost of a rule from these
//! bounds.

use kube::core::Rule;
use serde_json::{Value, json};

/// Returns rules, given as pairs of a CEL expression and a message, as a schema contains them.
fn rules(all: &[(&str, &str)]) -> Value {
    json!(all.iter().map(|(rule, message)| Rule::new(*rule).message(*message)).collect::<Vec<_>>())
}

/// The regular expression of a DNS name, quoted for CEL.
macro_rules! dns_name {
    () => {
        r"'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'"
    };
}

/// The validation rules of the whole resource. Of metadata they can only read the name.
pub(super) fn resource() -> Value {
    json!([Rule::new(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    .message(
        "use a name of at most 40 of a-z, 0-9 and -, beginning with a letter: Services are named after it"
    )
    .field_path(".metadata.name")])
}

/// The validation rules of the spec.
pub(super) fn spec() -> Value {
    rules(&[
        (
            "self.operatorClass == oldSelf.operatorClass",
            "operatorClass is immutable: create a new RankingCluster",
        ),
        (
            "self.exposure.readers != 'PerReader' || !self.auth.enabled || !has(self.auth.jwks)",
            "viewers' tokens are checked at the front door only: set exposure.readers to FrontDoor or remove auth.jwks",
        ),
        (
            "self.redis.urlSecret == oldSelf.redis.urlSecret || !self.comment.enabled",
            "viewers would be stranded at readers that another Redis does not know: for new credentials change the \
             Secret's value and set restartAt; for another Redis set comment.enabled to false first",
        ),
        (
            "has(self.tls) == has(oldSelf.tls) || oldSelf.hibernate",
            "pods with TLS and pods without it do not understand each other: set hibernate to true first",
        ),
    ])
}

/// The validation rules of `kafka`.
pub(super) fn kafka() -> Value {
    rules(&[
        ("self.topic == oldSelf.topic", "topic is immutable: create a new RankingCluster"),
        (
            "(!has(self.exportComments) || !(self.exportComments in [self.topic, self.topic + '.dlq'])) && \
             (!has(self.exportBoards) || !(self.exportBoards in [self.topic, self.topic + '.dlq'])) && \
             (!has(self.exportComments) || !has(self.exportBoards) || self.exportComments != self.exportBoards)",
            "exportComments and exportBoards need a topic each, beside topic and its dead letters",
        ),
    ])
}

/// The validation rules of `kafka.exportComments` and `kafka.exportBoards`.
pub(super) fn export_topic() -> Value {
    rules(&[(
        "self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'",
        "use letters, digits, dots, dashes and underscores",
    )])
}

/// The validation rules of `kafka.bootstrapServers`.
pub(super) fn bootstrap_servers() -> Value {
    rules(&[(
        r"self.matches('^([^:/,\\s]+|\\[[0-9a-fA-F:]+\\]):[0-9]{1,5}(,([^:/,\\s]+|\\[[0-9a-fA-F:]+\\]):[0-9]{1,5})*$')",
        "write host:port, several separated by commas, without spaces",
    )])
}

/// The validation rules of `kafka.topic`.
pub(super) fn topic() -> Value {
    rules(&[(
        "size(self) <= 245 && self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'",
        "use at most 245 letters, digits, dots, dashes and underscores: dead letters go to the topic with .dlq behind it",
    )])
}

/// The validation rules of `redis`.
pub(super) fn redis() -> Value {
    rules(&[
        ("self.topology == oldSelf.topology", "topology is immutable: create a new RankingCluster"),
        (
            "has(self.prefix) == has(oldSelf.prefix) && (!has(self.prefix) || self.prefix == oldSelf.prefix)",
            "prefix is immutable: create a new RankingCluster",
        ),
    ])
}

/// The validation rules of `redis.prefix`.
pub(super) fn prefix() -> Value {
    rules(&[("self.matches('^[a-z0-9_-]+$')", "use a-z, 0-9, - and _")])
}

/// The validation rules of `mongodb`.
pub(super) fn mongodb() -> Value {
    rules(&[(
        "has(self.database) == has(oldSelf.database) && (!has(self.database) || self.database == oldSelf.database)",
        "database is immutable: create a new RankingCluster",
    )])
}

/// The validation rules of `mongodb.database`.
pub(super) fn database() -> Value {
    rules(&[("self.matches('^[a-zA-Z0-9_-]+$')", "use letters, digits, - and _")])
}

/// The validation rules of `auth`.
pub(super) fn auth() -> Value {
    rules(&[(
        "!self.enabled || (has(self.jwks) && has(self.issuer) && has(self.audience))",
        "set jwks, issuer and audience, or enabled: false",
    )])
}

/// The validation rules of `auth.jwks`.
pub(super) fn jwks() -> Value {
    rules(&[("has(self.secretKey) != has(self.url)", "set secretKey or url: one of the two")])
}

/// The validation rules of `auth.jwks.url`.
pub(super) fn jwks_url() -> Value {
    rules(&[("self.startsWith('https://') && isURL(self)", "use a URL that begins with https://")])
}

/// The validation rules of each of `boards`.
pub(super) fn board() -> Value {
    rules(&[
        (
            "self.name != 'global' && self.name != 'trending'",
            "global and trending are there without being declared",
        ),
        (
            "!has(self.weights) || !has(self.order) || self.order != 'Trending' || has(self.halfLifeMinutes)",
            "weights go together with the order Trending where halfLifeMinutes is set only",
        ),
        (
            "!has(self.halfLifeMinutes) || (has(self.order) && self.order == 'Trending')",
            "halfLifeMinutes goes together with the order Trending only",
        ),
        (
            "!has(self.window) || !has(self.order) || self.order != 'Trending'",
            "window cannot go together with the order Trending",
        ),
        (
            "has(self.window) || (!has(self.timeZone) && !has(self.keep))",
            "timeZone and keep go together with window only",
        ),
    ])
}

/// The validation rules of `comment.hook.url`.
pub(super) fn hook_url() -> Value {
    rules(&[(
        "(self.startsWith('http://') || self.startsWith('https://')) && isURL(self) && !self.contains('@')",
        "use a URL that begins with http:// or https://, without a user",
    )])
}

/// The validation rules of `monitoring.tracing.endpoint`. Users and queries are refused, because the URL is shown in
/// logs.
pub(super) fn tracing_endpoint() -> Value {
    rules(&[(
        "(self.startsWith('http://') || self.startsWith('https://')) && isURL(self) && !self.contains('@') && !self.contains('?')",
        "use a URL that begins with http:// or https:// and has no user and no query",
    )])
}

/// The validation rules of `tls.internal.caBundle`.
pub(super) fn ca_bundle() -> Value {
    rules(&[("self.contains('-----BEGIN CERTIFICATE-----')", "write certificates of authorities in PEM")])
}

/// The validation rules of each of `networkPolicy.egressCIDRs`.
pub(super) fn cidr() -> Value {
    rules(&[("isCIDR(self)", "write a network such as 10.1.0.0/16")])
}

/// The validation rules of each of `networkPolicy.ingressFrom`.
pub(super) fn peer() -> Value {
    rules(&[
        (
            "has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",
            "set podSelector, namespaceSelector or ipBlock",
        ),
        (
            "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
            "ipBlock stands alone: write another entry for the selectors",
        ),
    ])
}

/// The validation rules of `exposure`.
pub(super) fn exposure() -> Value {
    rules(&[
        ("self.type == 'None' || has(self.host)", "set exposure.host"),
        (
            "self.readers != 'PerReader' || (has(self.readerHostTemplate) && self.readerHostTemplate.contains('{reader}'))",
            "set readerHostTemplate with {reader}",
        ),
        (
            "self.readers != 'PerReader' || self.type != 'None'",
            "set type to Ingress or HTTPRoute: readers' hosts lead nowhere without",
        ),
        (
            "self.type != 'HTTPRoute' || (has(self.parentRefs) && size(self.parentRefs) > 0)",
            "set parentRefs: an HTTPRoute hangs on a Gateway",
        ),
        (
            "self.type != 'HTTPRoute' || !(has(self.tlsSecret) || has(self.className))",
            "remove tlsSecret and className: an HTTPRoute has those of its Gateway",
        ),
        (
            "self.type != 'Ingress' || !has(self.parentRefs) || size(self.parentRefs) == 0",
            "remove parentRefs: an Ingress has className",
        ),
    ])
}

/// The validation rules of `exposure.host`.
pub(super) fn host() -> Value {
    rules(&[(
        concat!("self.matches(", dns_name!(), ")"),
        "write a DNS name in lower case, such as live.example.org",
    )])
}

/// The validation rules of `exposure.readerHostTemplate`.
pub(super) fn reader_host() -> Value {
    rules(&[(
        concat!("self.replace('{reader}', 'r').matches(", dns_name!(), ")"),
        "write a DNS name in lower case, such as {reader}.live.example.org",
    )])
}

/// The validation rules of `gateway`, `websocket` and `comment`.
pub(super) fn front_service_rules() -> Value {
    rules(&[
        (
            "!(has(self.replicas) && has(self.autoscaling))",
            "set replicas or autoscaling, not both: remove one",
        ),
        (
            "!has(self.scaledBy) || self.scaledBy == 'Operator' || !(has(self.replicas) || has(self.autoscaling))",
            "scaledBy is Others: remove replicas and autoscaling",
        ),
        (
            "!has(self.autoscaling) || (has(self.autoscaling.metrics) && size(self.autoscaling.metrics) > 0) \
             || !has(self.pod.resources) \
             || (has(self.pod.resources.requests) && 'cpu' in self.pod.resources.requests) \
             || (has(self.pod.resources.limits) && 'cpu' in self.pod.resources.limits)",
            "set pod.resources.requests.cpu: autoscaling measures against it",
        ),
    ])
}

/// The validation rules of `autoscaling`.
pub(super) fn autoscaling() -> Value {
    rules(&[("self.minReplicas <= self.maxReplicas", "raise maxReplicas or lower minReplicas")])
}

/// The validation rules of `readers`.
pub(super) fn readers() -> Value {
    rules(&[
        ("self.minReplicas <= self.maxReplicas", "raise maxReplicas or lower minReplicas"),
        ("self.hotVideoViewers <= self.viewersPerReader", "a video must split before it fills a reader"),
        (
            "self.terminationGracePeriodSeconds >= \
             30 + 120 * self.viewersPerReader / self.rebalance.maxViewersMovedPerMinute",
            "raise the grace period or the move budget: a drain cannot finish",
        ),
        (
            "!(self.scaling.mode in ['Auto', 'Proposal']) || !(oldSelf.scaling.mode in ['Auto', 'Proposal']) || self.replicas == oldSelf.replicas",
            "scaling.mode is Auto or Proposal: set Manual to scale by hand",
        ),
        (
            "!has(self.scaling.fallback) || self.scaling.fallback.replicas <= self.maxReplicas",
            "raise maxReplicas or lower scaling.fallback.replicas",
        ),
    ])
}

/// The validation rules of each of `maintenance.windows`.
pub(super) fn window() -> Value {
    rules(&[("self.from != self.to", "choose another end: this window is empty")])
}

/// The validation rules of pods' labels.
pub(super) fn labels() -> Value {
    rules(&[(
        "self.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('liverank.dev/'))",
        "choose another key: app.kubernetes.io/ and liverank.dev/ are the operator's",
    )])
}

/// The validation rules of annotations.
pub(super) fn annotations() -> Value {
    rules(&[(
        "self.all(k, !k.startsWith('liverank.dev/'))",
        "choose another key: liverank.dev/ is the operator's",
    )])
}

/// The validation rules of the variables of liverank's own container.
pub(super) fn own_env() -> Value {
    rules(&[(
        "self.all(v, !v.name.startsWith('LIVERANK_'))",
        "liverank's own settings are flags here: write them into extraArgs",
    )])
}

/// The validation rules of the mounts of liverank's own container.
pub(super) fn own_mounts() -> Value {
    rules(&[(
        "self.all(m, !m.mountPath.startsWith('/etc/liverank') && !m.mountPath.startsWith('/var/run/secrets'))",
        "mount it elsewhere: /etc/liverank and /var/run/secrets hold what the operator gives the pod",
    )])
}
