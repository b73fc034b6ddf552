//! What can be said of a role's settings before it takes a port or asks a store for anything.
//!
//! Values are judged one by one where the command line is read. What is left are settings that need or contradict each
//! other, and those that the machine has to fit.

use std::net::SocketAddr;

use liverank_runtime::Identity;

/// A role's settings.
pub trait CheckedSettings {
    /// Whether a process could run with them, listening on `at` and known to others by `identity`.
    ///
    /// # Errors
    /// What does not fit, by the names of the flags.
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
        identity.expect_gateways_known()
    }
}

impl CheckedSettings for liverank_comment::Config {
    fn check_settings(&self, _: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
        self.hook.check()?;
        identity.expect_gateways_known()
    }
}

impl CheckedSettings for liverank_consumer::Config {
    fn check_settings(&self, _: SocketAddr, _: &Identity) -> anyhow::Result<()> {
        self.boards.read_declarations().map(drop)
    }
}

impl CheckedSettings for liverank_reader::Config {
    fn check_settings(&self, at: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
        self.names_of_reader(at.port(), identity).map(drop)
    }
}

/// Of these every setting stands for itself.
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
