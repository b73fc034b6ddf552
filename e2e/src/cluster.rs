//! A whole system of several processes for each role, on a real Kafka, Redis and MongoDB.

use std::time::Duration;

use liverank_protocol::access::CalledService;

use crate::identity::token;
use crate::process::Process;
use crate::{free_port, wait};

/// The addresses of the stores.
pub struct Stores {
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// Redis's URL.
    pub redis: String,
    /// MongoDB's connection URI.
    pub mongodb: String,
}

impl Stores {
    /// Returns the addresses that the testbed put into the environment. Panics if they are missing: tests that need
    /// the stores are never skipped.
    pub fn from_environment() -> Self {
        let named = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set: testbed/testbed up && eval \"$(testbed/testbed env)\"")
            })
        };
        Self {
            kafka: named("LIVERANK_TEST_KAFKA"),
            redis: named("LIVERANK_TEST_REDIS"),
            mongodb: named("LIVERANK_TEST_MONGODB"),
        }
    }
}

/// A whole system with a prefix of its own in the stores: two processes of each role, but one for statistics, and
/// three readers.
pub struct Cluster {
    directory: tempfile::TempDir,
    common: Vec<String>,
    /// Flags that every role gets; other commands do not get them.
    flags: Vec<String>,
    /// Flags of the roles that write and show boards: consumers, websocket services and gateways.
    boards: Vec<String>,
    /// Flags of the consumers alone.
    consumers: Vec<String>,
    /// All processes, named `gateway-1`, `consumer-2`, ….
    pub processes: Vec<Process>,
    /// The role of each process and the address of its admin port, in the order of `processes`.
    pub admins: Vec<(String, String)>,
    /// The URLs of the gateways.
    pub gateways: Vec<String>,
    /// The URLs of the managers.
    pub managers: Vec<String>,
    /// The URLs of the comment services.
    pub comments: Vec<String>,
    /// The URLs of the readers.
    pub readers: Vec<String>,
    websockets: Vec<String>,
    /// The URL of the statistics service.
    pub statistics: String,
    /// The prefix of every name in the stores.
    pub prefix: String,
}

fn local_urls(count: usize) -> Vec<String> {
    (0..count).map(|_| format!("http://127.0.0.1:{}", free_port())).collect()
}

fn address_of(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

impl Cluster {
    /// Starts a whole system, and waits until the gateways serve what the stores hold and all readers are known.
    pub async fn start(stores: &Stores) -> Self {
        Self::start_with(stores, &[]).await
    }

    /// Starts a whole system, each of whose processes gets these flags, and waits until it serves.
    pub async fn start_with(stores: &Stores, flags: &[&str]) -> Self {
        let mut cluster = Self::new(stores);
        cluster.flags = flags.iter().map(ToString::to_string).collect();
        cluster.start_others();
        cluster.start_gateways();
        cluster.wait_until_ready().await;
        cluster
    }

    /// Starts a whole system with these declared boards, and waits until it serves.
    pub async fn start_with_boards(stores: &Stores, boards: &str) -> Self {
        Self::start_with_boards_and(stores, boards, &[]).await
    }

    /// Starts a whole system with these declared boards, whose consumers get these flags, and waits until it serves.
    pub async fn start_with_boards_and(stores: &Stores, boards: &str, consumers: &[&str]) -> Self {
        let mut cluster = Self::new(stores);
        cluster.consumers = consumers.iter().map(ToString::to_string).collect();
        cluster.boards = vec!["--boards".to_owned(), boards.to_owned()];
        cluster.start_others();
        cluster.start_gateways();
        cluster.wait_until_ready().await;
        cluster
    }

    /// Starts a whole system whose consumers get these flags, and waits until it serves.
    pub async fn start_with_consumers(stores: &Stores, flags: &[&str]) -> Self {
        let mut cluster = Self::new(stores);
        cluster.consumers = flags.iter().map(ToString::to_string).collect();
        cluster.start_others();
        cluster.start_gateways();
        cluster.wait_until_ready().await;
        cluster
    }

    /// Starts this system's processes with a declared board and a collector of traces, and waits until it serves: with
    /// these every metric has something to tell.
    pub async fn start_with_signals(&mut self, collector: &str) {
        self.flags = vec!["--otlp-endpoint".to_owned(), collector.to_owned()];
        self.boards = vec!["--boards".to_owned(), r#"[{"name": "liked"}]"#.to_owned()];
        self.start_others();
        self.start_gateways();
        self.wait_until_ready().await;
    }

    /// Returns a system without processes, with a new prefix, so that its topics and keys do not exist yet.
    pub fn new(stores: &Stores) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let prefix = format!("t{}-{}-", std::process::id(), free_port());
        let common = [
            ("--kafka", &stores.kafka),
            ("--redis", &stores.redis),
            ("--mongodb", &stores.mongodb),
            ("--prefix", &prefix),
        ];
        let common = common.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).clone()]).collect();
        Self {
            directory,
            common,
            flags: Vec::new(),
            boards: Vec::new(),
            consumers: Vec::new(),
            processes: Vec::new(),
            admins: Vec::new(),
            gateways: local_urls(2),
            managers: local_urls(2),
            comments: local_urls(2),
            readers: local_urls(3),
            websockets: local_urls(2),
            statistics: local_urls(1).remove(0),
            prefix,
        }
    }

    /// Starts all processes but the gateways.
    pub fn start_others(&mut self) {
        let statistics = self.statistics.clone();
        let managers = self.managers.join(",");
        let both = ["--manager-url", &managers, "--statistics-url", &statistics];
        self.spawn_process("statistics-1", "statistics", Some(&statistics), &[]);
        for (at, url) in self.managers.clone().iter().enumerate() {
            self.spawn_process(&format!("manager-{}", at + 1), "manager", Some(url), &both[2..]);
        }
        for (at, url) in self.readers.clone().iter().enumerate() {
            let name = format!("reader-{}", at + 1);
            let own = ["--reader-id", &name, "--public-url", url, "--internal-url", url];
            self.spawn_process(&name, "reader", Some(url), &[&own[..], &both].concat());
        }
        for (at, url) in self.comments.clone().iter().enumerate() {
            self.spawn_process(&format!("comment-{}", at + 1), "comment", Some(url), &both);
        }
        let boards = self.boards.clone();
        let boards: Vec<&str> = boards.iter().map(String::as_str).collect();
        for (at, url) in self.websockets.clone().iter().enumerate() {
            self.spawn_process(&format!("websocket-{}", at + 1), "websocket", Some(url), &boards);
        }
        let own = self.consumers.clone();
        let flags: Vec<&str> = boards.iter().copied().chain(own.iter().map(String::as_str)).collect();
        for at in 1..=2 {
            self.spawn_process(&format!("consumer-{at}"), "consumer", None, &flags);
        }
    }

    /// Starts the two gateways.
    pub fn start_gateways(&mut self) {
        let (comments, websockets) = (self.comments.join(","), self.websockets.join(","));
        let managers = self.managers.join(",");
        let statistics = self.statistics.clone();
        let both = ["--manager-url", &managers, "--statistics-url", &statistics];
        let front = ["--comment-url", &comments, "--websocket-url", &websockets];
        let boards = self.boards.clone();
        let boards: Vec<&str> = boards.iter().map(String::as_str).collect();
        for (at, url) in self.gateways.clone().iter().enumerate() {
            // Moderation is open because the tests have no issuer of tokens. The canaries are off because their events
            // would be among those that tests count.
            let flags = [&both[..], &front, &["--moderation-open", "--canary-seconds=0"], &boards].concat();
            self.spawn_process(&format!("gateway-{}", at + 1), "gateway", Some(url), &flags);
        }
    }

    fn spawn_process(&mut self, name: &str, role: &str, url: Option<&str>, more: &[&str]) {
        let admin = format!("127.0.0.1:{}", free_port());
        self.admins.push((role.to_owned(), admin.clone()));
        let mut args = vec![role.to_owned(), "--admin-listen".into(), admin];
        if let Some(url) = url {
            args.extend(["--listen".into(), address_of(url)]);
        }
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args.extend(self.common.iter().chain(&self.flags).cloned());
        let process = Process::start(name, &args, self.directory.path());
        self.processes.push(process);
    }

    /// Waits until every process is ready, the gateways serve and each manager knows all three readers.
    pub async fn wait_until_ready(&self) {
        for (_, admin) in &self.admins {
            let url = format!("http://{admin}/readyz");
            wait::until(&url, Duration::from_mins(1), || async {
                reqwest::get(&url).await.ok()?.status().is_success().then_some(())
            })
            .await;
        }
        for url in &self.gateways {
            wait::json(&format!("{url}/videos"), Duration::from_mins(1)).await;
        }
        for manager in &self.managers {
            wait::until("three readers", Duration::from_mins(1), || async {
                let asked = reqwest::Client::new().get(format!("{manager}/load"));
                let load = asked.bearer_auth(token("cli", CalledService::Manager)).send().await.ok()?;
                let load: serde_json::Value = load.json().await.ok()?;
                (load["readers"].as_array()?.len() == 3).then_some(())
            })
            .await;
        }
    }

    /// Returns the process of this name; panics if there is none.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name() == name).expect("a process of this name")
    }

    /// Starts `liverank load` against the gateways with these flags; its report can be read by `load_report` when it
    /// has ended.
    pub fn load(&self, flags: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::new(crate::binary());
        let report = self.directory.path().join("load.json");
        command
            .args(["load", "--target", &self.gateways.join(",")])
            .args(flags)
            .arg("--report-file")
            .arg(report);
        command.kill_on_drop(true).stdin(std::process::Stdio::null());
        command.spawn().expect("starting the load")
    }

    /// Runs a command on this system's stores (`verify`, `rebuild …`, `dlq …`) to its end and returns its output.
    pub async fn command(&self, args: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(crate::binary());
        command.args(args).args(&self.common).kill_on_drop(true).stdin(std::process::Stdio::null());
        command.output().await.expect("running the binary")
    }

    /// Starts a command on this system's stores without waiting for its end.
    pub fn spawn_command(&self, args: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::new(crate::binary());
        command.args(args).args(&self.common).kill_on_drop(true).stdin(std::process::Stdio::null());
        command.spawn().expect("running the binary")
    }

    /// Returns the report that the last `liverank load` wrote.
    pub fn load_report(&self) -> serde_json::Value {
        let text = std::fs::read(self.directory.path().join("load.json")).expect("the load's report");
        serde_json::from_slice(&text).expect("a report in JSON")
    }
}
