//! `liverank doctor`: whether a system could run here, and what mends what is wrong. It changes nothing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use liverank_adapters::inspect::Inspection;
use liverank_core::Millis;
use liverank_protocol::Load;
use liverank_protocol::access::Role;
use liverank_protocol::roles::Store;
use liverank_runtime::{now_ms, server};
use serde::Serialize;

use crate::look::{ManagersArgs, troubles};
use crate::stores::StoreArgs;
use liverank_runtime::output::table;

/// How long a store may take for all that it is asked.
const WITHIN: Duration = Duration::from_secs(20);
/// How far clocks may be apart: the freshness that is measured is wrong by as much.
const CLOCKS_APART_MS: Millis = 1_000;
/// Files that a reader with its default capacity needs: a socket a viewer, and a few of its own.
const FILES: u64 = 20_256;
/// Connections that the kernel holds until they are accepted: what a crowd needs that comes at once.
const BACKLOG: u64 = 4_096;

/// `liverank doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    #[command(flatten)]
    managers: ManagersArgs,
    #[command(flatten)]
    stores: StoreArgs,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Wrong,
    /// There was nothing to look at.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    part: &'static str,
    state: State,
    /// What was found, or what is wrong.
    found: String,
    /// The line that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn good(part: &'static str, found: impl Into<String>) -> Self {
        Self { part, state: State::Good, found: found.into(), mend: None }
    }

    fn wrong(part: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { part, state: State::Wrong, found: found.into(), mend: Some(mend.into()) }
    }

    fn skipped(part: &'static str, found: impl Into<String>) -> Self {
        Self { part, state: State::Skipped, found: found.into(), mend: None }
    }
}

impl Doctor {
    /// Exit code 1 where something is wrong.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let checks = runtime.block_on(self.checks());
        // A store's last retry on another thread is waited for no longer.
        runtime.shutdown_background();
        self.managers.output.print(&serde_json::to_value(&checks)?, || shown(&checks))?;
        let is_wrong = checks.iter().any(|check| check.state == State::Wrong);
        Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    async fn checks(&self) -> Vec<Check> {
        let version =
            format!("{} on {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
        let mut checks = vec![Check::good("liverank", version)];
        let stores = join_all(Store::ALL.map(|store| self.store(store)));
        let (stores, managers) = tokio::join!(stores, self.managers());
        checks.extend(stores.into_iter().flatten().chain(managers));
        checks.push(files(server::raise_file_limit()));
        let backlog = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
        checks.extend(backlog.and_then(|text| text.trim().parse().ok()).map(connections));
        checks
    }

    async fn store(&self, store: Store) -> Vec<Check> {
        let name = store.name();
        let before = now_ms();
        let looked = tokio::time::timeout(WITHIN, self.stores.inspect(store)).await;
        let looked =
            looked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", WITHIN.as_secs())));
        match looked {
            Ok(Some(inspection)) => inspected(name, &inspection, (before, now_ms())),
            Ok(None) => {
                let variable = name.to_uppercase();
                vec![Check::skipped(
                    name,
                    format!("not given: --{name} (LIVERANK_{variable}) says where it is"),
                )]
            }
            Err(error) => {
                let mend = match store {
                    Store::Kafka => {
                        "is it up, and does --kafka name its listener? A topic that is absent is made by: liverank consumer"
                    }
                    Store::Redis => {
                        "is it up, and does --redis name it with its password? redis-cli -u URL ping"
                    }
                    Store::Mongodb => {
                        "is it up, and does --mongodb name it? mongosh URI --eval 'rs.status().ok'"
                    }
                };
                vec![Check::wrong(name, format!("{error:#}"), mend)]
            }
        }
    }

    async fn managers(&self) -> Vec<Check> {
        const PART: &str = "managers";
        if !self.managers.identity.is_given() {
            return vec![Check::skipped(PART, "not asked: --identity-key-file says who asks")];
        }
        let load = async { self.managers.as_role(Role::Cli)?.get::<Load>("load").await };
        match load.await {
            Err(error) => vec![Check::wrong(PART, format!("{error:#}"), "liverank manager")],
            Ok(load) => {
                let wrong = troubles(&load).into_iter();
                let wrong: Vec<Check> =
                    wrong.map(|trouble| Check::wrong(PART, trouble, "liverank status")).collect();
                if !wrong.is_empty() {
                    return wrong;
                }
                let found = format!("readers: {}, videos: {}", load.readers.len(), load.videos);
                vec![Check::good(PART, found)]
            }
        }
    }
}

/// What an answer says that came between these two times.
fn inspected(part: &'static str, inspection: &Inspection, between: (Millis, Millis)) -> Vec<Check> {
    let version =
        inspection.version.as_ref().map_or_else(String::new, |version| format!("version {version}, "));
    let mut checks = vec![Check::good(part, format!("{version}{}", inspection.found))];
    checks.extend(inspection.remarks.iter().map(|it| Check::wrong(part, it.wrong.clone(), it.mend.clone())));
    if let Some(clock) = inspection.clock {
        checks.extend(apart(part, clock, between));
    }
    checks
}

fn apart(part: &'static str, clock: Millis, (before, after): (Millis, Millis)) -> Option<Check> {
    let (apart, way) = if clock < before { (before - clock, "behind") } else { (clock - after, "ahead of") };
    (apart > CLOCKS_APART_MS).then(|| {
        let found = format!("its clock is {:.1} s {way} that of this machine", apart as f64 / 1000.0);
        Check::wrong(part, found, "timedatectl set-ntp true, on the machine that is wrong")
    })
}

fn files(limit: u64) -> Check {
    if limit >= FILES {
        return Check::good("open files", format!("{limit} at most"));
    }
    let found = format!("{limit} at most: a reader of 20,000 viewers needs {FILES}");
    Check::wrong("open files", found, "ulimit -Hn 65536; under systemd LimitNOFILE=65536")
}

fn connections(backlog: u64) -> Check {
    if backlog >= BACKLOG {
        return Check::good("connections", format!("{backlog} may wait to be accepted"));
    }
    let found = format!("{backlog} may wait to be accepted: of a crowd the others come back later");
    Check::wrong("connections", found, format!("sysctl -w net.core.somaxconn={BACKLOG}"))
}

fn shown(checks: &[Check]) -> String {
    let row = |check: &Check| {
        let state = match check.state {
            State::Good => "good",
            State::Wrong => "WRONG",
            State::Skipped => "-",
        };
        vec![check.part.to_owned(), state.to_owned(), check.found.clone()]
    };
    let mut text = table(&["part", "state", "found"], &checks.iter().map(row).collect::<Vec<_>>());
    for check in checks {
        if let Some(mend) = &check.mend {
            let _ = write!(text, "\n{}: {}\n    {mend}\n", check.part, check.found);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_with_what_the_answer_took() {
        assert_eq!(apart("redis", 5_000, (4_900, 5_100)), None);
        assert_eq!(apart("redis", 4_000, (4_900, 5_100)), None);
        let behind = apart("redis", 2_400, (4_900, 5_100)).unwrap();
        assert_eq!(behind.found, "its clock is 2.5 s behind that of this machine");
        let ahead = apart("redis", 8_100, (4_900, 5_100)).unwrap();
        assert_eq!(ahead.found, "its clock is 3.0 s ahead of that of this machine");
    }

    #[test]
    fn what_is_wrong_is_told_with_the_line_that_mends_it() {
        let text = shown(&[Check::good("liverank", "0.1.0"), files(1_024), connections(128)]);
        assert!(text.starts_with("PART         STATE  FOUND\nliverank     good   0.1.0\n"), "{text}");
        assert!(text.contains("open files   WRONG  1024 at most"), "{text}");
        assert!(
            text.contains("\n    ulimit -Hn 65536")
                && text.contains("\n    sysctl -w net.core.somaxconn=4096")
        );
        assert_eq!((files(65_536).state, connections(4_096).state), (State::Good, State::Good));
    }
}
