//! What can be said of a role's settings before it takes a port or asks a store for anything.
//!
//! Values are judged one by one where the command line is read. What is left are settings that need or contradict each
//! other, and those that the machine has to fit.

use std::net::SocketAddr;

use liverank_runtime::Identity;

/// A role's settings.
pub trait JudgedSettings {
    /// Whether a process could run with them, listening on `at` and known to others by `identity`.
    ///
    /// # Errors
    /// What does not fit, by the names of the flags.
    fn judge_settings(&self, at: SocketAddr, identity: &Identity) -> anyhow::Result<()>;
}

impl JudgedSettings for liverank_gateway::Config {
    fn judge(&self, _: SocketAddr, _: &Identity) -> anyhow::Result<()> {
        self.auth.check_flags()
    }
}

impl JudgedSettings for liverank_reader::Config {
    fn judge(&self, at: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
        self.identity(at.port(), identity).map(drop)
    }
}

/// Of those that take viewers of gateways, where they are told so, and know a gateway by its token.
macro_rules! judged_by_whom_they_know {
    ($($config:ty),+) => {
        $(impl JudgedSettings for $config {
            fn judge_settings(&self, _: SocketAddr, identity: &Identity) -> anyhow::Result<()> {
                identity.expect_gateways_known()
            }
        })+
    };
}

judged_by_whom_they_know!(liverank_websocket::Config, liverank_comment::Config);

/// Of these every setting stands for itself.
macro_rules! judged_one_by_one {
    ($($config:ty),+) => {
        $(impl JudgedSettings for $config {
            fn judge_settings(&self, _: SocketAddr, _: &Identity) -> anyhow::Result<()> {
                Ok(())
            }
        })+
    };
}

judged_one_by_one!(liverank_consumer::Config, liverank_manager::Config, liverank_statistics::Config);
