//! When what can wait is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// When the operator does what it begins by itself and what can wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MaintenanceSettings {
    /// The windows, in which that is done. Without any nothing waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<MaintenanceWindow>,
    /// What waits for a window. Changes of the spec, `restartAt`, readers that have to be emptied and more readers never
    /// do.
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub holds: Vec<DeferrableWork>,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self { windows: Vec::new(), holds: vec![DeferrableWork::OperatorUpdates] }
    }
}

/// What can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DeferrableWork {
    /// What a newer operator builds otherwise. It is rolled out in the next window, and by no change of the spec before.
    OperatorUpdates,
    /// Moving viewers for evenness, in `rebalance.mode: Auto`.
    Rebalancing,
    /// Taking readers away.
    ScaleIn,
}

/// A time of the week. It begins and ends by the clocks of its time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::window()))]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// On which days it begins; every day when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// When it begins, such as 02:00.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// When it ends, such as 05:30; on the next day where that is not later than `from`.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// Whose clocks, such as Europe/Berlin.
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
