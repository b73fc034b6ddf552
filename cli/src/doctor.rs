//! `liverank doctor`: checks if a system could run on this machine with these stores, and names a command that mends
//! each fault. The command changes nothing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use liverank_adapters::inspect::Inspection;
use liverank_consumer::export::ExportArgs;
use liverank_core::Millis;
use liverank_protocol::ClusterLoad;
use liverank_protocol::access::CallerRole;
use liverank_protocol::roles::Store;
use liverank_runtime::peer::PeerClient;
use liverank_runtime::{now_ms, server};
use serde::Serialize;

use crate::front_door::{GatewayAccessArgs, counting_trouble_in_overview};
use crate::look::{ManagersArgs, find_troubles};
use crate::stores::StoreArgs;
use liverank_runtime::output::format_table;

/// The time within which a store must answer all questions of the check.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest accepted difference between a store's clock and this machine's clock, in milliseconds: latencies
/// measured across both clocks are wrong by the difference.
const MAX_CLOCK_DIFFERENCE_MS: Millis = 1_000;
/// The number of open files that a reader with its default capacity needs: a socket for each viewer, and a few of its
/// own.
const MIN_OPEN_FILES: u64 = 20_256;
/// The number of connections that the kernel must hold until they are accepted, so that a crowd can connect at once.
const MIN_BACKLOG: u64 = 4_096;

/// The arguments of `liverank doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    gateway: GatewayAccessArgs,
    #[command(flatten)]
    managers: ManagersArgs,
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    exports: ExportArgs,
}

/// The result of one check of the doctor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckState {
    Good,
    Wrong,
    /// The check was not made, because nothing was given to check.
    Skipped,
}

/// One check of the doctor, with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct DoctorCheck {
    /// The part of the system that was checked, such as `managers` or `counting`.
    part: &'static str,
    state: CheckState,
    /// The description of what was found, or of what is wrong.
    found: String,
    /// A command or hint that mends the fault; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl DoctorCheck {
    fn good_check(part: &'static str, found: impl Into<String>) -> Self {
        Self { part, state: CheckState::Good, found: found.into(), mend: None }
    }

    fn wrong_check(part: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { part, state: CheckState::Wrong, found: found.into(), mend: Some(mend.into()) }
    }

    fn skipped_check(part: &'static str, found: impl Into<String>) -> Self {
        Self { part, state: CheckState::Skipped, found: found.into(), mend: None }
    }
}

impl DoctorArgs {
    /// Runs all checks of `liverank doctor` and prints them. The exit code is 1 if a check found a fault.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let checks = runtime.block_on(self.run_checks());
        // Does not wait for a store's last retry on another thread.
        runtime.shutdown_background();
        self.managers.output.print_value(&serde_json::to_value(&checks)?, || checks_table(&checks))?;
        let is_wrong = checks.iter().any(|check| check.state == CheckState::Wrong);
        Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    async fn run_checks(&self) -> Vec<DoctorCheck> {
        let version =
            format!("{} on {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
        let mut checks = vec![DoctorCheck::good_check("liverank", version)];
        let stores = join_all(Store::ALL.map(|store| self.check_store(store)));
        let (stores, exports, managers, counting) =
            tokio::join!(stores, self.check_exports(), self.check_managers(), self.check_counting());
        checks.extend(stores.into_iter().chain(exports).flatten().chain(managers));
        checks.push(counting);
        checks.push(check_open_files(server::raise_file_limit()));
        let backlog = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
        checks.extend(backlog.and_then(|text| text.trim().parse().ok()).map(check_backlog));
        checks
    }

    async fn check_store(&self, store: Store) -> Vec<DoctorCheck> {
        let name = store.name();
        let before = now_ms();
        let looked = tokio::time::timeout(STORE_TIMEOUT, self.stores.inspect_store(store)).await;
        let looked =
            looked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", STORE_TIMEOUT.as_secs())));
        match looked {
            Ok(Some(inspection)) => checks_of_inspection(name, &inspection, (before, now_ms())),
            Ok(None) => {
                let variable = name.to_uppercase();
                vec![DoctorCheck::skipped_check(
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
                vec![DoctorCheck::wrong_check(name, format!("{error:#}"), mend)]
            }
        }
    }

    async fn check_exports(&self) -> Vec<Vec<DoctorCheck>> {
        let ExportArgs { export_comments, export_boards } = &self.exports;
        let asked = [("export comments", export_comments, true), ("export boards", export_boards, false)];
        let given = asked.into_iter().filter_map(|(part, topic, has)| Some((part, topic.as_deref()?, has)));
        join_all(given.map(|(part, topic, has)| self.check_export_topic(part, topic, has))).await
    }

    async fn check_export_topic(
        &self,
        part: &'static str,
        topic: &str,
        has_positions: bool,
    ) -> Vec<DoctorCheck> {
        let before = now_ms();
        let looked = self.stores.inspect_export_topic(topic, has_positions);
        let looked = tokio::time::timeout(STORE_TIMEOUT, looked).await;
        let looked =
            looked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", STORE_TIMEOUT.as_secs())));
        match looked {
            Ok(Some(inspection)) => checks_of_inspection(part, &inspection, (before, now_ms())),
            Ok(None) => vec![DoctorCheck::skipped_check(part, "not asked: --kafka says where Kafka is")],
            Err(error) => {
                let mend = "liverank doctor --kafka … says whether Kafka is well; docs/export.md has the permissions";
                vec![DoctorCheck::wrong_check(part, format!("{error:#}"), mend)]
            }
        }
    }

    async fn check_managers(&self) -> Vec<DoctorCheck> {
        const PART_NAME: &str = "managers";
        if !self.managers.identity.any_given() {
            return vec![DoctorCheck::skipped_check(
                PART_NAME,
                "not asked: --identity-key-file says who asks",
            )];
        }
        let load = async { self.managers.client_as_role(CallerRole::Cli)?.get::<ClusterLoad>("load").await };
        match load.await {
            Err(error) => vec![DoctorCheck::wrong_check(PART_NAME, format!("{error:#}"), "liverank manager")],
            Ok(load) => {
                let wrong = find_troubles(&load).into_iter();
                let wrong: Vec<DoctorCheck> = wrong
                    .map(|trouble| DoctorCheck::wrong_check(PART_NAME, trouble, "liverank status"))
                    .collect();
                if !wrong.is_empty() {
                    return wrong;
                }
                let found = format!("readers: {}, videos: {}", load.readers.len(), load.videos);
                vec![DoctorCheck::good_check(PART_NAME, found)]
            }
        }
    }

    /// Checks whether consumers keep up with the log: asks a gateway for the lag of counting.
    async fn check_counting(&self) -> DoctorCheck {
        const PART_NAME: &str = "counting";
        let counting = async {
            let client = PeerClient::over_tls(&self.managers.tls.open()?).client();
            counting_trouble_in_overview(&self.gateway.fetch_overview(&client).await?)
        };
        match counting.await {
            Ok(None) => DoctorCheck::good_check(PART_NAME, "no record waits for long"),
            Ok(Some(trouble)) => DoctorCheck::wrong_check(
                PART_NAME,
                trouble,
                "liverank consumer; where one runs, its log says why it waits",
            ),
            // Before the first start there is no gateway, and nothing is wrong with that.
            Err(error) => DoctorCheck::skipped_check(PART_NAME, format!("not known: {error:#}")),
        }
    }
}

/// Turns what a store or topic reported into checks. `between` are this machine's times before the store was asked and
/// after it answered: the store's clock is compared with them.
fn checks_of_inspection(
    part: &'static str,
    inspection: &Inspection,
    between: (Millis, Millis),
) -> Vec<DoctorCheck> {
    let version =
        inspection.version.as_ref().map_or_else(String::new, |version| format!("version {version}, "));
    let mut checks = vec![DoctorCheck::good_check(part, format!("{version}{}", inspection.description))];
    checks.extend(
        inspection
            .remarks
            .iter()
            .map(|it| DoctorCheck::wrong_check(part, it.problem.clone(), it.remedy.clone())),
    );
    if let Some(clock) = inspection.server_time {
        checks.extend(check_clock(part, clock, between));
    }
    checks
}

fn check_clock(part: &'static str, clock: Millis, (before, after): (Millis, Millis)) -> Option<DoctorCheck> {
    let (apart, way) = if clock < before { (before - clock, "behind") } else { (clock - after, "ahead of") };
    (apart > MAX_CLOCK_DIFFERENCE_MS).then(|| {
        let found = format!("its clock is {:.1} s {way} that of this machine", apart as f64 / 1000.0);
        DoctorCheck::wrong_check(part, found, "timedatectl set-ntp true, on the machine that is wrong")
    })
}

fn check_open_files(limit: u64) -> DoctorCheck {
    if limit >= MIN_OPEN_FILES {
        return DoctorCheck::good_check("open files", format!("{limit} at most"));
    }
    let found = format!("{limit} at most: a reader of 20,000 viewers needs {MIN_OPEN_FILES}");
    DoctorCheck::wrong_check("open files", found, "ulimit -Hn 65536; under systemd LimitNOFILE=65536")
}

fn check_backlog(backlog: u64) -> DoctorCheck {
    if backlog >= MIN_BACKLOG {
        return DoctorCheck::good_check("connections", format!("{backlog} may wait to be accepted"));
    }
    let found = format!("{backlog} may wait to be accepted: of a crowd the others come back later");
    DoctorCheck::wrong_check("connections", found, format!("sysctl -w net.core.somaxconn={MIN_BACKLOG}"))
}

fn checks_table(checks: &[DoctorCheck]) -> String {
    let row = |check: &DoctorCheck| {
        let state = match check.state {
            CheckState::Good => "good",
            CheckState::Wrong => "WRONG",
            CheckState::Skipped => "-",
        };
        vec![check.part.to_owned(), state.to_owned(), check.found.clone()]
    };
    let mut text = format_table(&["part", "state", "found"], &checks.iter().map(row).collect::<Vec<_>>());
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
    fn clock_comparison_allows_for_the_answer_time() {
        assert_eq!(check_clock("redis", 5_000, (4_900, 5_100)), None);
        assert_eq!(check_clock("redis", 4_000, (4_900, 5_100)), None);
        let behind = check_clock("redis", 2_400, (4_900, 5_100)).unwrap();
        assert_eq!(behind.found, "its clock is 2.5 s behind that of this machine");
        let ahead = check_clock("redis", 8_100, (4_900, 5_100)).unwrap();
        assert_eq!(ahead.found, "its clock is 3.0 s ahead of that of this machine");
    }

    #[test]
    fn a_failed_check_prints_the_line_that_fixes_it() {
        let text = checks_table(&[
            DoctorCheck::good_check("liverank", "0.1.0"),
            check_open_files(1_024),
            check_backlog(128),
        ]);
        assert!(text.starts_with("PART         STATE  FOUND\nliverank     good   0.1.0\n"), "{text}");
        assert!(text.contains("open files   WRONG  1024 at most"), "{text}");
        assert!(
            text.contains("\n    ulimit -Hn 65536")
                && text.contains("\n    sysctl -w net.core.somaxconn=4096")
        );
        assert_eq!(
            (check_open_files(65_536).state, check_backlog(4_096).state),
            (CheckState::Good, CheckState::Good)
        );
    }
}
