//! The results of inspecting a store for its administrator: its version, its clock, and those of its settings that
//! differ from our recommendation. An inspection changes nothing.

use liverank_core::Millis;

/// The result of an inspection of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The version of the server; `None`: the server does not tell it.
    pub version: Option<String>,
    /// The time of the server's clock; `None`: the server does not tell it.
    pub server_time: Option<Millis>,
    /// A description of the server, in words.
    pub description: String,
    /// The settings that differ from our recommendation.
    pub remarks: Vec<SettingRemark>,
}

/// A setting that differs from our recommendation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRemark {
    /// The problem with the setting.
    pub problem: String,
    /// The command or the configuration line that corrects the setting.
    pub remedy: String,
}

impl SettingRemark {
    pub(crate) fn new(wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { problem: wrong.into(), remedy: mend.into() }
    }
}
