//! Several processes of each role, which can be killed and stopped, and whose clocks can jump.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use liverank_e2e::free_port;
use liverank_e2e::process::{Process, Signal};
use reqwest::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::{self, Clock, WorldClock};
use crate::declared::DECLARED;
use crate::parts::RealStores;
use crate::recount::HOUR_MS;

/// The number of processes of each role.
const ROLE_COUNTS: [(&str, usize); 7] = [
    ("statistics", 1),
    ("manager", 2),
    ("reader", 3),
    ("comment", 2),
    ("websocket", 2),
    ("consumer", 2),
    ("gateway", 2),
];
/// The time limit until a process is ready, while the stores are up or soon up again.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// The time limit until a process ends after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(45);
/// The time limit of `liverank verify`.
const VERIFY_TIMEOUT: Duration = Duration::from_mins(5);
/// The greatest size of a log, in bytes; a larger one is cut to its last quarter of this size.
const MAX_LOG_BYTES: u64 = 8 << 20;

/// One process of the system, with the address of its admin port and its clock.
struct SystemProcess {
    process: Mutex<Process>,
    admin: String,
    clock: Clock,
}

/// All processes of the system under test.
pub struct System {
    members: BTreeMap<String, SystemProcess>,
    directory: PathBuf,
    client: Client,
    library: String,
    common: Vec<String>,
    /// The clock of the broker and of all processes.
    pub clock: Arc<WorldClock>,
    /// The admin address of the additional consumer.
    extra_admin: String,
    /// The URLs of the gateways.
    pub gateways: Vec<String>,
    /// The URLs of the managers.
    pub managers: Vec<String>,
    /// The URLs of the comment services.
    pub comment_services: Vec<String>,
}

fn local_urls(count: usize) -> Vec<String> {
    (0..count).map(|_| format!("http://127.0.0.1:{}", free_port())).collect()
}

impl System {
    /// Starts all processes on these stores, with `prefix` before all names in them, and waits until they are ready.
    pub async fn start(parts: &RealStores, prefix: &str, directory: &Path) -> anyhow::Result<Self> {
        let mut common = parts.flags();
        common.extend(["--prefix".to_owned(), prefix.to_owned()]);
        let urls: BTreeMap<&str, Vec<String>> =
            ROLE_COUNTS.map(|(role, count)| (role, local_urls(count))).into();
        let mut system = Self {
            members: BTreeMap::new(),
            directory: directory.to_owned(),
            client: Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?,
            library: parts.faketime.clone(),
            common,
            clock: Arc::clone(&parts.clock),
            extra_admin: format!("127.0.0.1:{}", free_port()),
            gateways: urls["gateway"].clone(),
            managers: urls["manager"].clone(),
            comment_services: urls["comment"].clone(),
        };
        for (role, count) in ROLE_COUNTS {
            for nth in 0..count {
                let flags = flags_of(role, nth, &urls);
                system.add_process(&format!("{role}-{}", nth + 1), role, flags)?;
            }
        }
        for name in system.names() {
            system.wait_until_ready(&name).await?;
        }
        Ok(system)
    }

    fn add_process(&mut self, name: &str, role: &str, flags: Vec<String>) -> anyhow::Result<()> {
        let admin = format!("127.0.0.1:{}", free_port());
        let mut args = vec![role.to_owned(), "--admin-listen".into(), admin.clone()];
        args.extend(flags);
        args.extend(self.common.iter().cloned());
        let clock = Clock::new(&self.directory, name, &self.library)?;
        let process = Process::start_in(name, &args, &self.directory, &process_environment(&clock));
        let member = SystemProcess { process: Mutex::new(process), admin, clock };
        self.members.insert(name.to_owned(), member);
        Ok(())
    }

    /// Returns the names of all processes.
    pub fn names(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    /// Returns the names of the processes of one role.
    pub fn of_role(&self, role: &str) -> Vec<String> {
        let of_role = |name: &&String| name.rsplit_once('-').is_some_and(|(of, _)| of == role);
        self.members.keys().filter(of_role).cloned().collect()
    }

    fn member(&self, name: &str) -> &SystemProcess {
        &self.members[name]
    }

    /// Waits until a process reports that it is ready; an error if it ends or the time limit passes.
    pub async fn wait_until_ready(&self, name: &str) -> anyhow::Result<()> {
        let member = self.member(name);
        let url = format!("http://{}/readyz", member.admin);
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let answer = self.client.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            ensure!(member.process.lock().await.is_running(), "{name} ended by itself");
            ensure!(Instant::now() < deadline, "{name} is not ready after {READY_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills a process by SIGKILL; an error if it had ended by itself.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let mut process = self.member(name).process.lock().await;
        ensure!(process.is_running(), "{name} had ended by itself");
        process.kill();
        clock::remove_shared_memory(process.id());
        Ok(())
    }

    /// Sends a process SIGTERM and waits until it ends. Returns a remark if it did not end in time.
    pub async fn stop(&self, name: &str) -> anyhow::Result<Option<String>> {
        let mut process = self.member(name).process.lock().await;
        drain_process(&mut process).await
    }

    /// Starts a process again, and waits until it is ready.
    pub async fn restart(&self, name: &str) -> anyhow::Result<()> {
        self.member(name).process.lock().await.restart();
        self.wait_until_ready(name).await
    }

    /// Sends a signal to a process; an error if it had ended by itself.
    pub async fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        let mut process = self.member(name).process.lock().await;
        ensure!(process.is_running(), "{name} had ended by itself");
        process.signal(signal);
        Ok(())
    }

    /// Sets the offset of a process's clock from the broker's, in seconds.
    pub fn set_clock_offset(&self, name: &str, seconds: i64) -> anyhow::Result<()> {
        self.member(name).clock.set(self.clock.ahead_seconds() + seconds)
    }

    /// Sets the clocks of the broker and of all processes ahead, so that an hour ends after this time. Returns when it
    /// ends, in milliseconds since 1970.
    pub fn end_hour_after(&self, time: Duration) -> anyhow::Result<i64> {
        self.clock.end_hour_after(time)?;
        for name in self.members.keys() {
            self.set_clock_offset(name, 0)?;
        }
        let now = self.clock.now_ms();
        Ok(now - now.rem_euclid(HOUR_MS) + HOUR_MS)
    }

    /// Starts an additional consumer, without waiting until it is ready.
    pub fn another_consumer(&self) -> anyhow::Result<ExtraConsumer> {
        let mut args = vec!["consumer".to_owned(), "--admin-listen".into(), self.extra_admin.clone()];
        args.extend(consumer_flags());
        args.extend(self.common.iter().cloned());
        let clock = Clock::new(&self.directory, "consumer-extra", &self.library)?;
        clock.set(self.clock.ahead_seconds())?;
        let process =
            Process::start_in("consumer-extra", &args, &self.directory, &process_environment(&clock));
        Ok(ExtraConsumer(process))
    }

    /// Runs `liverank verify`, the system's own comparison of log, archive and boards; an error if it finds a
    /// difference.
    pub async fn verify(&self) -> anyhow::Result<()> {
        // It compares the windows that run and are kept by its own clock.
        let clock = Clock::new(&self.directory, "verify", &self.library)?;
        clock.set(self.clock.ahead_seconds())?;
        let mut command = tokio::process::Command::new(liverank_e2e::binary());
        command
            .args(["verify", "--boards", DECLARED])
            .args(&self.common)
            .envs(process_environment(&clock))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let said = tokio::time::timeout(VERIFY_TIMEOUT, command.output())
            .await
            .context("verify takes too long")??;
        ensure!(
            said.status.success(),
            "liverank verify: {}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(())
    }

    /// Checks that all processes run, and cuts down logs that have grown too long.
    pub async fn check_all_running(&self) -> anyhow::Result<()> {
        for (name, member) in &self.members {
            let mut process = member.process.lock().await;
            if !process.is_running() {
                let log = process.log();
                let from = log.len().saturating_sub(2000);
                bail!("{name} ended by itself: …{}", log.get(from..).unwrap_or(&log));
            }
            shorten_log(process.log_file()).with_context(|| format!("the log of {name}"))?;
        }
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for member in self.members.values_mut() {
            let process = member.process.get_mut();
            if process.is_running() {
                process.kill();
            }
            clock::remove_shared_memory(process.id());
        }
    }
}

/// An additional consumer, which joins the group for a while.
pub struct ExtraConsumer(Process);

impl ExtraConsumer {
    /// Ends the consumer, by SIGTERM (`orderly`) or by SIGKILL. Returns a remark if it did not end in time.
    pub async fn end(mut self, orderly: bool) -> anyhow::Result<Option<String>> {
        if orderly {
            return drain_process(&mut self.0).await;
        }
        ensure!(self.0.is_running(), "the additional consumer had ended by itself: {}", self.0.log());
        self.0.kill();
        clock::remove_shared_memory(self.0.id());
        Ok(None)
    }
}

/// Sends SIGTERM and waits for the end. A process that does not end in time is killed and a remark is returned, so
/// that the run goes on; the counts are compared nevertheless.
async fn drain_process(process: &mut Process) -> anyhow::Result<Option<String>> {
    let name = process.name().to_owned();
    ensure!(process.is_running(), "{name} had ended by itself: {}", process.log());
    process.signal(Signal::TERM);
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while process.is_running() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let late = process.is_running();
    if late {
        process.kill();
    }
    clock::remove_shared_memory(process.id());
    Ok(late.then(|| format!("{name} did not end within {DRAIN_TIMEOUT:?} of SIGTERM")))
}

fn flags_of(role: &str, nth: usize, urls: &BTreeMap<&str, Vec<String>>) -> Vec<String> {
    let all = |role: &str| urls[role].join(",");
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: String| flags.extend([format!("--{name}"), value]);
    if role != "consumer" {
        flag("listen", urls[role][nth].trim_start_matches("http://").to_owned());
    }
    if ["manager", "reader", "comment", "gateway"].contains(&role) {
        flag("statistics-url", all("statistics"));
    }
    if ["reader", "comment", "gateway"].contains(&role) {
        flag("manager-url", all("manager"));
    }
    match role {
        "reader" => {
            flag("reader-id", format!("reader-{}", nth + 1));
            flag("public-url", urls[role][nth].clone());
            flag("internal-url", urls[role][nth].clone());
        }
        "gateway" => {
            flag("comment-url", all("comment"));
            flag("websocket-url", all("websocket"));
            flag("boards", DECLARED.to_owned());
            flags.push("--moderation-open".to_owned());
        }
        "websocket" => flag("boards", DECLARED.to_owned()),
        "consumer" => flags.extend(consumer_flags()),
        _ => {}
    }
    flags
}

/// Returns the flags of every consumer: the boards, and that a like counts once a user.
fn consumer_flags() -> [String; 4] {
    ["--boards", DECLARED, "--unique", "like"].map(str::to_owned)
}

/// Cuts a log that has grown too long down to its end. The process appends, so it continues at the new end.
fn shorten_log(log: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::options().read(true).write(true).open(log)?;
    let length = file.metadata()?.len();
    if length <= MAX_LOG_BYTES {
        return Ok(());
    }
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length - MAX_LOG_BYTES / 4))?;
    file.read_to_end(&mut tail)?;
    std::fs::write(log.with_extension("log.old"), tail)?;
    file.set_len(0)?;
    Ok(())
}

/// Returns a process's environment: its clock, and the key by which our processes identify each other.
fn process_environment(clock: &Clock) -> Vec<(String, String)> {
    let mut environment = clock.environment();
    environment.push(liverank_e2e::identity::key_file_variable());
    environment
}
