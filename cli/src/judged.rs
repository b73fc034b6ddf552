//! Checks a role's settings as a whole, before the process opens a port or connects to a store.
//!
//! The command line's parser checks each value by itself. What is left to check are settings that need or contradict
//! each other, and settings that must fit the machine.

use std::net::SocketAddr;

use liverank_runtime::Identity;

/// The settings of a role that can be checked as a whole.
pub trait CheckedSettings {
    /// Checks that a process could run with these settings, listening on `at` and with this identity.
    ///
    /// # Errors
    /// An error names the flags of the settings that do not fit.
    fn check_settings(&self, at: SocketAddr, identity: &Identity) -> anyhow::Result<()>;
}

impl CheckedSettings for liverank_gateway::Config {
    fn check_settings(&self, _: SocketAddr, _: &Identity) -> anyhow::Result<()> {
        self.boards.read_declarations()?;
        self.auth.check()
    }
}

impl CheckedSettings for liverank_websocket::Config {
    fn check_settings(&self, _: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
        self.boards.read_declarations()?;
        identity.check_can_verify_gateways()
    }
}

impl CheckedSettings for liverank_comment::Config {
    fn check_settings(&self, _: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
        self.hook.check()?;
        identity.check_can_verify_gateways()
    }
}

impl CheckedSettings for liverank_consumer::Config {
    fn check_settings(&self, _: SocketAddr, _: &Identity) -> anyhow::Result<()> {
        self.boards.read_declarations().map(drop)
    }
}

impl CheckedSettings for liverank_reader::Config {
    fn check_settings(&self, at: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
        self.reader_id_and_identity(at.port(), identity).map(drop)
    }
}

/// Implements `CheckedSettings` for roles whose settings are independent of each other, so that nothing is left to
/// check.
macro_rules! judged_one_by_one {
    ($($config:ty),+) => {
        $(impl CheckedSettings for $config {
            fn check_settings(&self, _: SocketAddr, _: &Identity) -> anyhow::Result<()> {
                Ok(())
            }
        })+
    };
}

judged_one_by_one!(liverank_manager::Config, liverank_statistics::Config);
