//! Kafka, Redis and three mongods of the test's own, run by the testbed's script, with proxies before them.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use liverank_e2e::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::clock::WorldClock;
use crate::mongo::ReplicaSet;
use crate::proxy::Proxy;

/// The number of members of the replica set: with three, a majority goes on without one, and writes that only one
/// member has are rolled back.
const REPLICA_SET_MEMBERS: u16 = 3;
/// A text in the first message of drivers, which connections between the members do not contain.
const DRIVER_NAME: &[u8] = b"mongo-rust-driver";
/// The time limit of a call of the testbed's script: longer than the script's own time limits.
const SCRIPT_TIMEOUT: Duration = Duration::from_mins(3);

/// The real stores, with their proxies; dropping stops them.
pub struct RealStores {
    directory: PathBuf,
    environment: Vec<(String, String)>,
    kafka: u16,
    redis: u16,
    /// The replica set, by the members' real ports.
    pub replica_set: ReplicaSet,
    /// The proxy between our processes and Kafka.
    pub kafka_proxy: Arc<Proxy>,
    /// The proxy between our processes and Redis.
    pub redis_proxy: Arc<Proxy>,
    /// The proxies between our processes and the members of the replica set, in the order of the members.
    pub mongodb_proxies: Vec<Arc<Proxy>>,
    /// The path of libfaketime, the library that makes clocks jump.
    pub faketime: String,
    /// The clock of the broker and of our processes.
    pub clock: Arc<WorldClock>,
}

fn testbed_script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/testbed")
}

/// Returns the first of `count` consecutive free ports.
fn ports_in_a_row(count: u16) -> u16 {
    loop {
        let first = free_port();
        if (1..count).all(|nth| free_port() == first + nth) {
            return first;
        }
    }
}

impl RealStores {
    /// Starts Kafka, Redis and MongoDB, with their data in `directory`, and the proxies before them.
    pub async fn start(directory: PathBuf) -> anyhow::Result<Self> {
        let (kafka, redis, mongodb) = (ports_in_a_row(2), free_port(), ports_in_a_row(REPLICA_SET_MEMBERS));
        let (kafka_net, redis_net, mongodb_net) =
            (free_port(), free_port(), ports_in_a_row(REPLICA_SET_MEMBERS));
        let settings = [
            ("KAFKA_PORT", kafka),
            ("KAFKA_CONTROLLER_PORT", kafka + 1),
            ("KAFKA_ADVERTISED_PORT", kafka_net),
            ("MONGODB_PORT", mongodb),
            ("MONGODB_ADVERTISED_PORT", mongodb_net),
            ("MONGODS", REPLICA_SET_MEMBERS),
            ("REDIS_PORT", redis),
        ];
        let setting = |(name, value): (&str, u16)| (format!("LIVERANK_TESTBED_{name}"), value.to_string());
        let mut environment: Vec<_> = settings.into_iter().map(setting).collect();
        environment.push(("LIVERANK_TESTBED_DIR".into(), directory.display().to_string()));
        // Kafka is started often and does little, so the JVM's quick compiler is enough.
        environment.push(("JDK_JAVA_OPTIONS".into(), "-XX:TieredStopAtLevel=1".into()));
        std::fs::create_dir_all(&directory)?;
        let clock = Arc::new(WorldClock::new(&directory)?);
        environment.push(clock.variable());
        let mut proxies = Vec::new();
        for nth in 0..REPLICA_SET_MEMBERS {
            proxies.push(Proxy::start(mongodb_net + nth, mongodb + nth, DRIVER_NAME).await?);
        }
        let mut parts = Self {
            directory,
            environment,
            kafka,
            redis,
            replica_set: ReplicaSet::new((mongodb..mongodb + REPLICA_SET_MEMBERS).collect()),
            kafka_proxy: Proxy::start(kafka_net, kafka, b"").await?,
            redis_proxy: Proxy::start(redis_net, redis, b"").await?,
            mongodb_proxies: proxies,
            faketime: String::new(),
            clock,
        };
        parts.testbed(&["install", "kafka", "mongodb", "redis", "faketime"]).await?;
        parts.testbed(&["up"]).await?;
        parts.faketime = parts.client_library().await?;
        Ok(parts)
    }

    async fn client_library(&self) -> anyhow::Result<String> {
        let said = self.testbed(&["env"]).await?;
        let line = said.lines().find_map(|line| line.strip_prefix("export LIVERANK_TEST_FAKETIME="));
        Ok(line.context("the testbed does not say where libfaketime is")?.to_owned())
    }

    /// Runs the testbed's script with the arguments `words` and returns its standard output; an error if it fails.
    pub async fn testbed(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(testbed_script());
        command.args(words).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(SCRIPT_TIMEOUT, command.output())
            .await
            .context("the testbed takes too long")??;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        ensure!(
            done.status.success(),
            "testbed {}: {said}{}",
            words.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(said)
    }

    /// Returns Kafka's real port, which no proxy disturbs.
    pub const fn kafka_port(&self) -> u16 {
        self.kafka
    }

    /// Returns Redis's real port, which no proxy disturbs.
    pub const fn redis_port(&self) -> u16 {
        self.redis
    }

    /// Returns the command line flags by which our processes reach the stores, through the proxies.
    pub fn flags(&self) -> Vec<String> {
        let local = |proxy: &Arc<Proxy>| format!("127.0.0.1:{}", proxy.port());
        let members: Vec<String> = self.mongodb_proxies.iter().map(local).collect();
        vec![
            "--kafka".into(),
            local(&self.kafka_proxy),
            "--redis".into(),
            format!("redis://{}", local(&self.redis_proxy)),
            "--mongodb".into(),
            format!("mongodb://{}/?replicaSet=rs0", members.join(",")),
        ]
    }

    /// Sends a signal to the process of one store instance, such as `redis` or `mongodb-1`.
    pub fn signal(&self, instance: &str, signal: Signal) -> anyhow::Result<()> {
        let file = self.directory.join(instance).join("pid");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let pid = text.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        Ok(kill_process(pid.context("a process id")?, signal)?)
    }

    fn redis_data_folder(&self) -> PathBuf {
        self.directory.join("redis/data")
    }

    fn redis_copy_folder(&self) -> PathBuf {
        self.directory.join("redis-copy")
    }

    /// Copies Redis's files while Redis is stopped by SIGSTOP, so that the copy is as after a power cut.
    pub async fn copy_redis(&self) -> anyhow::Result<()> {
        self.signal("redis", Signal::STOP)?;
        let copied = self.replace_folder(self.redis_data_folder(), self.redis_copy_folder()).await;
        self.signal("redis", Signal::CONT)?;
        copied
    }

    /// Replaces Redis's files by the copy that `copy_redis` made; Redis must not run.
    pub async fn restore_redis(&self) -> anyhow::Result<()> {
        self.replace_folder(self.redis_copy_folder(), self.redis_data_folder()).await
    }

    async fn replace_folder(&self, from: PathBuf, to: PathBuf) -> anyhow::Result<()> {
        if to.exists() {
            tokio::fs::remove_dir_all(&to).await?;
        }
        let copied = Command::new("cp").arg("-a").args([&from, &to]).status().await?;
        ensure!(copied.success(), "{} cannot be copied", from.display());
        Ok(())
    }
}

impl Drop for RealStores {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(testbed_script());
        command.arg("down").envs(self.environment.iter().cloned());
        // A failure cannot be reported to anybody here.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
