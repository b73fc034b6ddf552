//! `liverank up` as a process whose ports are all known to the test.

use std::process::Command;
use std::time::{Duration, Instant};

use liverank_protocol::access::CalledService;
use serde_json::{Value, json};

use crate::identity::token;
use crate::patient::answer_of;
use crate::process::Process;
use crate::{free_port, wait};

/// The time limit until the system is ready: a debug build on a busy machine starts slowly.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A public port of the system, named by the service that listens on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicPort {
    /// The gateway's port.
    Gateway,
    /// The port of the websocket service, for ranked lists.
    Websocket,
    /// The port of the comment service.
    Comment,
    /// The port of the first reader.
    Reader,
    /// The port of the manager, which decides on placement.
    Manager,
    /// The port of the statistics service.
    Statistics,
}

impl PublicPort {
    /// All public ports, in the order of the enum's values.
    pub const ALL: [Self; 6] =
        [Self::Gateway, Self::Websocket, Self::Comment, Self::Reader, Self::Manager, Self::Statistics];
}

/// The whole system in one process (`liverank up`), on embedded stores in a directory of its own.
pub struct Up {
    /// The process of the system.
    pub process: Process,
    addresses: Vec<String>,
    admin: String,
    client: reqwest::Client,
    data: String,
    _directory: tempfile::TempDir,
}

impl Up {
    /// Starts the system with one reader, and waits until the gateway answers and the reader is known.
    pub async fn start() -> Self {
        Self::start_with(1, &[]).await
    }

    /// Starts the system with `readers` readers and these additional flags, and waits until it answers and every
    /// reader is known.
    pub async fn start_with(readers: usize, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = || format!("127.0.0.1:{}", free_port());
        let addresses: Vec<String> = PublicPort::ALL.iter().map(|_| address()).collect();
        let data = directory.path().join("data").display().to_string();
        let admin = address();
        let mut args = ["up", "--data-dir", &data, "--admin-listen", &admin].map(str::to_owned).to_vec();
        let names = ["gateway", "websocket", "comment", "reader", "manager", "statistics"];
        for (name, own) in names.iter().zip(&addresses) {
            let more = if *name == "reader" { readers - 1 } else { 0 };
            let all: Vec<String> = std::iter::once(own.clone()).chain((0..more).map(|_| address())).collect();
            args.extend([format!("--{name}-listen"), all.join(",")]);
        }
        args.extend(flags.iter().map(ToString::to_string));
        // The canary is off because its events would be among those that tests count.
        if !flags.iter().any(|flag| flag.starts_with("--canary-seconds")) {
            args.push("--canary-seconds=0".to_owned());
        }
        let process = Process::start("up", &args, directory.path());
        let client = reqwest::Client::new();
        let up = Self { process, addresses, admin, client, data, _directory: directory };
        wait::json(&format!("{}/videos", up.url(PublicPort::Gateway)), START_TIMEOUT).await;
        // Before anybody asks for one: a video that is requested while there is no reader is reported for ten seconds.
        let known = || async {
            let load = up.client.get(format!("{}/load", up.url(PublicPort::Manager)));
            let load = load.bearer_auth(token("cli", CalledService::Manager)).send().await.ok()?;
            let load: Value = load.json().await.ok()?;
            (load["readers"].as_array()?.len() == readers).then_some(())
        };
        wait::until("every reader", START_TIMEOUT, known).await;
        let token_of_viewer = flags.contains(&"--auth-dev").then(|| up.viewer_token("somebody"));
        let registered = || async {
            let request = up.client.post(format!("{}/register", up.url(PublicPort::Gateway)));
            let request = match &token_of_viewer {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let answer = request.json(&json!({"videoid": "calm"})).send().await.ok()?;
            answer.json::<Value>().await.ok()?["readerUrl"].as_str().map(str::len)
        };
        wait::until("a reader for a video", START_TIMEOUT, registered).await;
        up
    }

    /// Returns a viewer's token; the system must have been started with `--auth-dev`.
    pub fn viewer_token(&self, user: &str) -> String {
        let args = ["token", "user", "--user", user, "--data-dir", &self.data];
        let said = Command::new(crate::binary()).args(args).output().expect("running the binary");
        assert!(said.status.success(), "liverank token: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).expect("a token is text").trim().to_owned()
    }

    /// Returns the path of the data directory.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Returns the address of a public port, as `host:port`.
    pub fn address(&self, door: PublicPort) -> &str {
        &self.addresses[door as usize]
    }

    /// Returns the address of the admin port, as `host:port`.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Returns the URL of a public port, without a path.
    pub fn url(&self, door: PublicPort) -> String {
        format!("http://{}", self.address(door))
    }

    /// Posts JSON to the gateway; returns the status code and the JSON of the answer (null if it is none). What a part
    /// that is away for a moment answers (503) is posted again.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url(PublicPort::Gateway));
        let response = answer_of(self.client.post(url).json(body)).await;
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    /// Returns the JSON at a path of a public port; null if there is none.
    pub async fn get(&self, door: PublicPort, path: &str) -> Value {
        let Ok(response) = self.client.get(format!("{}{path}", self.url(door))).send().await else {
            return Value::Null;
        };
        response.json().await.unwrap_or(Value::Null)
    }

    /// Likes the video `calm` and waits until the ranking shows it; returns the time that it took.
    pub async fn round_trip(&self) -> Duration {
        let score = || async {
            let list = self.get(PublicPort::Gateway, "/videos?limit=1000").await;
            let found = list["videos"].as_array()?.iter().find(|video| video["video_id"] == "calm")?.clone();
            found["score"].as_f64()
        };
        let before = score().await.unwrap_or(0.0);
        let started = Instant::now();
        let like = json!({"video_id": "calm", "user_id": "ann", "type": "like"});
        assert_eq!(self.post("/interact", &like).await.0, 202);
        wait::until("the like in the ranking", Duration::from_secs(30), || async {
            score().await.filter(|now| *now > before)
        })
        .await;
        started.elapsed()
    }

    /// Returns the number of lines that the process has printed.
    pub fn log_lines(&self) -> usize {
        self.process.log().lines().count()
    }
}
