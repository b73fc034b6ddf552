//! What a round looks at: readers as Kubernetes shows them, load as the managers tell it.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::Millis;
use liverank_protocol;
use serde::{Deserialize, Serialize};

use super::settings::ReaderSettings;

/// Everything that a round is decided from, besides [`super::Memory`]. Times are milliseconds since 1970 by one clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoundInput {
    /// The present time.
    pub now: Millis,
    /// The resource's name: readers are called `{cluster}-reader-{n}`.
    pub cluster: String,
    /// The settings of the readers, from the resource.
    pub settings: ReaderSettings,
    /// The hash of the pod template that readers are to have.
    pub template: String,
    /// Why readers may not be replaced yet, although their template changed: something before them is being rolled.
    pub held: Option<String>,
    /// Every reader's Deployment, those being deleted too.
    pub readers: Vec<ObservedReader>,
    /// Readers that have pods and no Deployment any more; `true`: one of these was not told to end yet.
    pub orphans: BTreeMap<String, bool>,
    /// Names of plans that somebody approved.
    pub approved: BTreeSet<String>,
    /// The last answer of each manager; empty where none ever answered.
    pub managers: Vec<ManagerReport>,
}

/// A reader's Deployment and its pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReader {
    /// The Deployment's name, and the reader's.
    pub name: String,
    /// The Deployment's.
    pub uid: String,
    /// The hash of its pod template.
    pub template: String,
    /// When the Deployment was created.
    pub created: Millis,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// That it is to be emptied, by its annotations.
    pub drain: Option<ReaderDrain>,
    /// Its pod: the one that does not terminate where there are two.
    pub pod: Option<ReaderPod>,
    /// The reader's own last answer; `None`: it has given none.
    pub own: Option<ReaderSelfReport>,
}

/// That a reader is to be emptied and then to go: the annotations [`DRAIN_ANNOTATION`] and [`DRAIN_SINCE_ANNOTATION`].
///
/// [`DRAIN_ANNOTATION`]: crate::build::names::DRAIN_ANNOTATION
/// [`DRAIN_SINCE_ANNOTATION`]: crate::build::names::DRAIN_SINCE_ANNOTATION
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderDrain {
    /// The reason of the drain.
    pub why: DrainWhy,
    /// Since when; `None` where the annotation is missing or cannot be read.
    pub since: Option<Millis>,
}

/// Why a reader is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainWhy {
    /// Fewer readers are wanted.
    ScaleDown,
    /// Another one with the new template takes its place.
    Upgrade,
    /// Somebody annotated it by hand. Nothing but that hand calls it off.
    ByHand,
}

impl DrainWhy {
    /// The name of the reason in the annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale-down",
            Self::Upgrade => "upgrade",
            Self::ByHand => "hand",
        }
    }

    /// From the annotation: whatever we did not write, somebody wrote by hand.
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
    /// Whether it is ready.
    pub ready: bool,
    /// Since when it is ready or not: its condition's last transition, else its creation.
    pub since: Millis,
    /// Whether it was told to end.
    pub terminating: bool,
    /// Whether no node takes it.
    pub unschedulable: bool,
    /// The node that the pod runs on.
    pub node: Option<String>,
    /// The zone of that node, where it is known.
    #[serde(default)]
    pub zone: Option<String>,
    /// Why it is not ready, in a few words.
    pub reason: Option<String>,
}

/// A report of a reader about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderSelfReport {
    /// Viewers connected to it.
    pub viewers: u64,
    /// When it was asked.
    pub at: Millis,
}

/// An answer of a manager about the readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerReport {
    /// The name of the manager.
    pub manager: String,
    /// When it was asked.
    pub at: Millis,
    /// Its answer.
    pub load: liverank_protocol::ClusterLoad,
}
