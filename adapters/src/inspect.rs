//! What a store says of itself, for whoever looks after it: its version, its clock, and which of its settings we would have
//! made otherwise. Nothing here changes anything.

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
    /// Settings that we would have made otherwise.
    pub remarks: Vec<SettingRemark>,
}

/// A setting that we would have made otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRemark {
    /// The problem with the setting.
    pub problem: String,
    /// The command or the configuration line that mends it.
    pub remedy: String,
}

impl SettingRemark {
    pub(crate) fn new(wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { problem: wrong.into(), remedy: mend.into() }
    }
}
