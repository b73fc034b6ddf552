//! The differences between v1alpha1 and v1beta1. Pure data: the conversion, the schema of v1beta1 and its page of the
//! reference are made from this table. Fields that are not listed are the same in both versions.
//!
//! The rules by which names were chosen:
//! - a name that Kubernetes users know wins: `topologySpreadConstraints`, `secretKeyRef`, `podDisruptionBudget`;
//! - a boolean becomes a list of words if a third word is conceivable (`comment.mode: ReadOnly`); one that can only be
//!   on or off (`hibernate`, `statistics.enabled`) stays;
//! - a time is a duration such as `90s`, and its name has no unit. `terminationGracePeriodSeconds` stays, because pods
//!   have a field of that name; so does `scoring.watchTimeThresholdSeconds`, which is a decimal like the weights.

use super::duration::Unit;

/// How a field's value is written in v1beta1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The value is written as in v1alpha1.
    Same,
    /// A word is written in place of a boolean.
    Word {
        /// The word for `true`.
        yes: &'static str,
        /// The word for `false`.
        no: &'static str,
    },
    /// A duration is written in place of a number of this unit.
    Duration(Unit),
}

/// A difference between v1alpha1 and v1beta1 in one field.
#[derive(Debug, Clone, Copy)]
pub struct FieldChange {
    /// The objects of the spec in which the field is, as paths of v1alpha1; `[]` stands for a list's items.
    pub parents: &'static [&'static str],
    /// The field's name in v1alpha1.
    pub old: &'static str,
    /// The field's path in v1beta1 from the same object on; more than one name if the field is grouped with others.
    pub new: &'static str,
    /// How the value is written in v1beta1.
    pub form: Form,
    /// The field's description in v1beta1; that of v1alpha1 if empty.
    pub description: &'static str,
}

impl FieldChange {
    /// Returns whether v1beta1 gathers the field with others in an object.
    pub fn is_grouped(&self) -> bool {
        self.new.contains('.')
    }

    /// Returns the first name of the field's path in v1beta1: that of its group, or its own.
    pub fn group(&self) -> &'static str {
        self.new.split('.').next().unwrap_or_default()
    }
}

/// All components.
const COMPONENTS: &[&str] =
    &["gateway", "websocket", "comment", "consumer", "manager", "statistics", "readers"];
/// The components that serve clients.
const CLIENT_FACING_COMPONENTS: &[&str] = &["gateway", "websocket", "comment"];
/// The paths of the autoscalers of the components that serve clients.
const AUTOSCALERS: &[&str] = &["gateway.autoscaling", "websocket.autoscaling", "comment.autoscaling"];
/// The pods of all components.
const PODS: &[&str] = &[
    "gateway.pod",
    "websocket.pod",
    "comment.pod",
    "consumer.pod",
    "manager.pod",
    "statistics.pod",
    "readers.pod",
];

const DURATION_OF_SECONDS: Form = Form::Duration(Unit::Seconds);
const DURATION_OF_MINUTES: Form = Form::Duration(Unit::Minutes);
const DURATION_OF_MILLISECONDS: Form = Form::Duration(Unit::Milliseconds);

const fn renamed_field(
    parents: &'static [&'static str],
    old: &'static str,
    new: &'static str,
    description: &'static str,
) -> FieldChange {
    FieldChange { parents, old, new, form: Form::Same, description }
}

const fn bool_to_word(
    parents: &'static [&'static str],
    old: &'static str,
    new: &'static str,
    (yes, no): (&'static str, &'static str),
    description: &'static str,
) -> FieldChange {
    FieldChange { parents, old, new, form: Form::Word { yes, no }, description }
}

const fn number_to_duration(
    parents: &'static [&'static str],
    old: &'static str,
    new: &'static str,
    form: Form,
    description: &'static str,
) -> FieldChange {
    FieldChange { parents, old, new, form, description }
}

/// All differences between the specs of v1alpha1 and v1beta1.
pub const CHANGES: &[FieldChange] = &[
    // Words in place of booleans.
    bool_to_word(
        &[""],
        "paused",
        "reconciliation",
        ("Paused", "Active"),
        "`Paused`: the operator observes and reports, and writes nothing but status. Node drains and evictions still empty readers, which needs no operator.",
    ),
    bool_to_word(
        &["auth"],
        "enabled",
        "mode",
        ("JWT", "None"),
        "`JWT`: users who post or watch must send a token, and `jwks`, `issuer` and `audience` are required. `None`: anybody may.",
    ),
    bool_to_word(
        &["networkPolicy"],
        "enabled",
        "mode",
        ("Kubernetes", "None"),
        "`Kubernetes`: NetworkPolicies are created. `None`: none are.",
    ),
    bool_to_word(
        &["comment"],
        "enabled",
        "mode",
        ("Enabled", "Disabled"),
        "`Disabled`: there are no comments, and readers and managers do not run either.",
    ),
    bool_to_word(
        &["monitoring"],
        "serviceMonitor",
        "serviceMonitor.mode",
        ("Managed", "None"),
        "`Managed`: a ServiceMonitor is made, for a cluster where the Prometheus operator runs.",
    ),
    renamed_field(&["monitoring"], "serviceMonitorLabels", "serviceMonitor.labels", ""),
    renamed_field(&["monitoring"], "interval", "serviceMonitor.interval", ""),
    renamed_field(&["monitoring"], "relabelings", "serviceMonitor.relabelings", ""),
    // Secrets.
    renamed_field(&["kafka", "redis", "mongodb"], "caSecret", "caSecretKeyRef", ""),
    renamed_field(&["kafka"], "credentialsSecret", "credentialsSecretName", ""),
    renamed_field(
        &["redis"],
        "urlSecret",
        "urlSecretKeyRef",
        "The Secret with the URL, `redis://` or `rediss://` with its credentials; several, separated by commas, for a Cluster. Another Secret can only be named while `comment.mode` is Disabled: viewers are at readers that are known to one Redis.",
    ),
    renamed_field(&["mongodb"], "uriSecret", "uriSecretKeyRef", ""),
    renamed_field(&["auth.jwks"], "secretKey", "secretKeyRef", ""),
    renamed_field(&["auth"], "revokedSecret", "revokedSecretKeyRef", ""),
    renamed_field(&["comment.hook"], "keySecret", "keySecretKeyRef", ""),
    renamed_field(&["exposure"], "tlsSecret", "tlsSecretName", ""),
    // Names that Kubernetes users expect.
    renamed_field(&["exposure"], "className", "ingressClassName", ""),
    renamed_field(AUTOSCALERS, "targetCPUUtilization", "targetCPUUtilizationPercentage", ""),
    renamed_field(COMPONENTS, "pdb", "podDisruptionBudget", ""),
    renamed_field(COMPONENTS, "pod", "podTemplate", ""),
    // Durations.
    number_to_duration(
        &["boards[]"],
        "halfLifeMinutes",
        "halfLife",
        DURATION_OF_MINUTES,
        "The time after which an interaction counts half; only with the order Trending. The half-life of `scoring` when absent.",
    ),
    number_to_duration(
        &["scoring"],
        "trendingHalfLifeMinutes",
        "trendingHalfLife",
        DURATION_OF_MINUTES,
        "The time after which an interaction counts half on the trending board.",
    ),
    number_to_duration(
        CLIENT_FACING_COMPONENTS,
        "drainSeconds",
        "drainTimeout",
        DURATION_OF_SECONDS,
        "The time that an ending pod has for sending its clients away. Scaling in removes one pod per this time.",
    ),
    number_to_duration(
        AUTOSCALERS,
        "scaleDownStabilizationSeconds",
        "scaleDownStabilizationWindow",
        DURATION_OF_SECONDS,
        "The time for which fewer pods must have been enough before one is removed.",
    ),
    number_to_duration(
        &["comment.hook"],
        "timeoutMilliseconds",
        "timeout",
        DURATION_OF_MILLISECONDS,
        "The hook's time limit.",
    ),
    number_to_duration(
        &["comment.rules"],
        "slowSeconds",
        "slowInterval",
        DURATION_OF_SECONDS,
        "Slow mode: the time that has to pass between two comments of a user.",
    ),
    number_to_duration(
        &["comment.rules"],
        "ownRepeatSeconds",
        "ownRepeatInterval",
        DURATION_OF_SECONDS,
        "The time for which a user may not say the same again.",
    ),
    number_to_duration(
        &["comment.rules"],
        "anyRepeatSeconds",
        "anyRepeatInterval",
        DURATION_OF_SECONDS,
        "The time for which nobody may say again what somebody said.",
    ),
    number_to_duration(
        &["readers.scaling"],
        "scaleDownStabilizationSeconds",
        "scaleDownStabilizationWindow",
        DURATION_OF_SECONDS,
        "The time for which fewer readers must have been enough before one is removed.",
    ),
    number_to_duration(
        &["readers.scaling"],
        "loadMaxAgeSeconds",
        "loadMaxAge",
        DURATION_OF_SECONDS,
        "Maximal age of a reader's report to decide by. Without reports nothing shrinks.",
    ),
    number_to_duration(
        &["readers.scaling.fallback"],
        "afterSeconds",
        "after",
        DURATION_OF_SECONDS,
        "The time for which the load must have been unknown.",
    ),
    number_to_duration(
        &["readers.drain"],
        "timeoutSeconds",
        "timeout",
        DURATION_OF_SECONDS,
        "The time limit for emptying a reader.",
    ),
    number_to_duration(
        &["readers.rollout"],
        "readyTimeoutSeconds",
        "readyTimeout",
        DURATION_OF_SECONDS,
        "The time that a new reader may take to become ready before the rollout halts.",
    ),
    // Pods, in the shape of a pod's template: what is of the pod's metadata, of its spec, and of liverank's container.
    renamed_field(PODS, "labels", "metadata.labels", ""),
    renamed_field(PODS, "annotations", "metadata.annotations", ""),
    renamed_field(PODS, "nodeSelector", "spec.nodeSelector", ""),
    renamed_field(PODS, "tolerations", "spec.tolerations", ""),
    renamed_field(PODS, "affinity", "spec.affinity", ""),
    renamed_field(PODS, "topologySpread", "spec.topologySpreadConstraints", ""),
    renamed_field(PODS, "priorityClassName", "spec.priorityClassName", ""),
    renamed_field(PODS, "runtimeClassName", "spec.runtimeClassName", ""),
    renamed_field(PODS, "schedulerName", "spec.schedulerName", ""),
    renamed_field(PODS, "imagePullSecrets", "spec.imagePullSecrets", ""),
    renamed_field(PODS, "hostAliases", "spec.hostAliases", ""),
    renamed_field(PODS, "securityContext", "spec.securityContext", ""),
    renamed_field(PODS, "volumes", "spec.volumes", ""),
    renamed_field(PODS, "initContainers", "spec.initContainers", ""),
    renamed_field(PODS, "sidecars", "spec.sidecars", ""),
    renamed_field(PODS, "resources", "container.resources", ""),
    renamed_field(
        PODS,
        "containerSecurityContext",
        "container.securityContext",
        "The privileges of liverank's own container. Each field that is given replaces the operator's.",
    ),
    renamed_field(PODS, "logLevel", "container.logLevel", ""),
    renamed_field(PODS, "extraArgs", "container.extraArgs", ""),
    renamed_field(PODS, "startupProbe", "container.startupProbe", ""),
    renamed_field(PODS, "readinessProbe", "container.readinessProbe", ""),
    renamed_field(PODS, "livenessProbe", "container.livenessProbe", ""),
    renamed_field(PODS, "env", "container.env", ""),
    renamed_field(PODS, "envFrom", "container.envFrom", ""),
    renamed_field(PODS, "volumeMounts", "container.volumeMounts", ""),
];

/// The descriptions of the groups into which v1beta1 gathers fields, by the group's name.
pub const GROUPS: &[(&str, &str)] = &[
    ("serviceMonitor", "The ServiceMonitor, by which the Prometheus operator finds the pods."),
    ("metadata", "Labels and annotations of the pods."),
    ("spec", "Settings of the pods as a whole."),
    ("container", "Settings of liverank's own container."),
];

/// A validation rule (CEL) that names a changed field, as v1alpha1 and as v1beta1 have it.
#[derive(Debug, Clone, Copy)]
pub struct RuleChange {
    /// The rule of v1alpha1.
    pub old: &'static str,
    /// The same rule for v1beta1.
    pub new: &'static str,
    /// The message of v1beta1.
    pub message: &'static str,
}

/// Every rule that names a changed field. Rules that are not listed are the same in both versions.
pub const RULES: &[RuleChange] = &[
    RuleChange {
        old: "self.exposure.readers != 'PerReader' || !self.auth.enabled || !has(self.auth.jwks)",
        new: "self.exposure.readers != 'PerReader' || self.auth.mode == 'None' || !has(self.auth.jwks)",
        message: "viewers' tokens are checked at the front door only: set exposure.readers to FrontDoor or remove auth.jwks",
    },
    RuleChange {
        old: "self.redis.urlSecret == oldSelf.redis.urlSecret || !self.comment.enabled",
        new: "self.redis.urlSecretKeyRef == oldSelf.redis.urlSecretKeyRef || self.comment.mode == 'Disabled'",
        message: "viewers would be stranded at readers that another Redis does not know: for new credentials change the \
                  Secret's value and set restartAt; for another Redis set comment.mode to Disabled first",
    },
    RuleChange {
        old: "!self.enabled || (has(self.jwks) && has(self.issuer) && has(self.audience))",
        new: "self.mode == 'None' || (has(self.jwks) && has(self.issuer) && has(self.audience))",
        message: "set jwks, issuer and audience, or mode: None",
    },
    RuleChange {
        old: "has(self.secretKey) != has(self.url)",
        new: "has(self.secretKeyRef) != has(self.url)",
        message: "set secretKeyRef or url: one of the two",
    },
    RuleChange {
        old: "!has(self.weights) || !has(self.order) || self.order != 'Trending' || has(self.halfLifeMinutes)",
        new: "!has(self.weights) || !has(self.order) || self.order != 'Trending' || has(self.halfLife)",
        message: "weights go together with the order Trending where halfLife is set only",
    },
    RuleChange {
        old: "!has(self.halfLifeMinutes) || (has(self.order) && self.order == 'Trending')",
        new: "!has(self.halfLife) || (has(self.order) && self.order == 'Trending')",
        message: "halfLife goes together with the order Trending only",
    },
    RuleChange {
        old: "self.type != 'HTTPRoute' || !(has(self.tlsSecret) || has(self.className))",
        new: "self.type != 'HTTPRoute' || !(has(self.tlsSecretName) || has(self.ingressClassName))",
        message: "remove tlsSecretName and ingressClassName: an HTTPRoute has those of its Gateway",
    },
    RuleChange {
        old: "self.type != 'Ingress' || !has(self.parentRefs) || size(self.parentRefs) == 0",
        new: "self.type != 'Ingress' || !has(self.parentRefs) || size(self.parentRefs) == 0",
        message: "remove parentRefs: an Ingress has ingressClassName",
    },
    RuleChange {
        old: "!has(self.autoscaling) || (has(self.autoscaling.metrics) && size(self.autoscaling.metrics) > 0) \
              || !has(self.pod.resources) \
              || (has(self.pod.resources.requests) && 'cpu' in self.pod.resources.requests) \
              || (has(self.pod.resources.limits) && 'cpu' in self.pod.resources.limits)",
        new: "!has(self.autoscaling) || (has(self.autoscaling.metrics) && size(self.autoscaling.metrics) > 0) \
              || !has(self.podTemplate.container) || !has(self.podTemplate.container.resources) \
              || (has(self.podTemplate.container.resources.requests) && 'cpu' in self.podTemplate.container.resources.requests) \
              || (has(self.podTemplate.container.resources.limits) && 'cpu' in self.podTemplate.container.resources.limits)",
        message: "set podTemplate.container.resources.requests.cpu: autoscaling measures against it",
    },
];
