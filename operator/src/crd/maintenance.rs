//! Settings of maintenance windows and of the work that waits for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// The times for work that the operator begins by itself and that can wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MaintenanceSettings {
    /// The windows for the work in `holds`. Without windows nothing waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<MaintenanceWindow>,
    /// The work that waits for a window. Changes of the spec, `restartAt`, draining readers and adding readers never
    /// wait.
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub holds: Vec<DeferrableWork>,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self { windows: Vec::new(), holds: vec![DeferrableWork::OperatorUpdates] }
    }
}

/// Work that can wait for a maintenance window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DeferrableWork {
    /// Changes that a newer operator makes for an unchanged spec. They are rolled out in the next window, not with an
    /// earlier change of the spec.
    OperatorUpdates,
    /// Moving viewers to balance the load, in `rebalance.mode: Auto`.
    Rebalancing,
    /// Removing readers that are not needed.
    ScaleIn,
}

/// A weekly window. It begins and ends by the clock of its time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::window()))]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// The days on which the window begins; every day when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// The beginning of the window, such as 02:00.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// The time of day at which the window ends, such as 05:30; on the next day if not later than `from`.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// The time zone of `from` and `to`, such as Europe/Berlin.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

/// A day of the week.
#[expect(missing_docs, reason = "they have no more to say")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
