//! The input of a round of decisions about readers: readers as Kubernetes shows them, load as the managers report it.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::Millis;
use liverank_protocol;
use serde::{Deserialize, Serialize};

use super::settings::ReaderSettings;

/// The input of a round of decisions about readers, besides [`super::ReaderMemory`]. Times are milliseconds since 1970
/// by one clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoundInput {
    /// The present time.
    pub now: Millis,
    /// The resource's name: readers are named `{cluster}-reader-{n}`.
    pub cluster: String,
    /// The settings of the readers, from the resource.
    pub settings: ReaderSettings,
    /// The hash of the pod template that readers are to have.
    pub template: String,
    /// The reason why readers may not be replaced yet although their template changed: a component before them is being
    /// rolled out.
    pub held: Option<String>,
    /// Every reader's Deployment, including those being deleted.
    pub readers: Vec<ObservedReader>,
    /// The names of readers that have pods but no Deployment any more; the value is `true` if one of these pods was not
    /// told to end yet.
    pub orphans: BTreeMap<String, bool>,
    /// Names of plans that somebody approved.
    pub approved: BTreeSet<String>,
    /// The last answer of each manager; empty if none ever answered.
    pub managers: Vec<ManagerReport>,
}

/// A reader's Deployment and its pod, as observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReader {
    /// The name of the Deployment, and of the reader.
    pub name: String,
    /// The uid of the Deployment.
    pub uid: String,
    /// The hash of the Deployment's pod template.
    pub template: String,
    /// The time at which the Deployment was created.
    pub created: Millis,
    /// Whether the Deployment is being deleted.
    pub deleting: bool,
    /// The drain in the Deployment's annotations; `None` if the reader is not to be emptied.
    pub drain: Option<ReaderDrain>,
    /// The reader's pod; if there are two, the one that does not terminate.
    pub pod: Option<ReaderPod>,
    /// The reader's own last answer; `None` if it has given none.
    pub own: Option<ReaderSelfReport>,
}

/// The drain of a reader that is to be emptied and then removed, as the annotations of its Deployment say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderDrain {
    /// The reason of the drain.
    pub why: DrainReason,
    /// The time at which the drain began; `None` if the annotation is missing or cannot be parsed.
    pub since: Option<Millis>,
}

/// The reason why a reader is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainReason {
    /// Fewer readers are wanted.
    ScaleDown,
    /// A reader with the new template replaces the reader.
    Upgrade,
    /// A person annotated the reader by hand; the operator never cancels such a drain.
    ByHand,
}

impl DrainReason {
    /// Returns the reason's name in the annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale-down",
            Self::Upgrade => "upgrade",
            Self::ByHand => "hand",
        }
    }

    /// Parses the annotation: any value that the operator does not write counts as written by hand.
    pub fn parse(text: &str) -> Self {
        match text {
            "scale-down" => Self::ScaleDown,
            "upgrade" => Self::Upgrade,
            _ => Self::ByHand,
        }
    }
}

/// A reader's pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderPod {
    /// Whether the pod is ready.
    pub ready: bool,
    /// The time since which the pod is ready or not: its condition's last transition, else its creation.
    pub since: Millis,
    /// Whether the pod was told to end.
    pub terminating: bool,
    /// Whether no node accepts the pod.
    pub unschedulable: bool,
    /// The node that the pod runs on.
    pub node: Option<String>,
    /// The zone of the node that the pod runs on; `None` if the zone is unknown.
    #[serde(default)]
    pub zone: Option<String>,
    /// The reason why the pod is not ready, in a few words.
    pub reason: Option<String>,
}

/// A report of a reader about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderSelfReport {
    /// Number of viewers connected to the reader.
    pub viewers: u64,
    /// The time at which the reader was queried.
    pub at: Millis,
}

/// An answer of a manager about the readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerReport {
    /// The name of the manager.
    pub manager: String,
    /// The time at which the manager was queried.
    pub at: Millis,
    /// The load of the readers as the manager reported it.
    pub load: liverank_protocol::ClusterLoad,
}
