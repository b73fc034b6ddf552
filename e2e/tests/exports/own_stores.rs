//! Kafka, MongoDB and Redis for this test alone, because it kills them; run by the testbed's script on free ports.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use liverank_e2e::cluster::Stores;
use liverank_e2e::free_port;

/// The time limit of a call of the testbed's script.
const SCRIPT_TIMEOUT: Duration = Duration::from_mins(2);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/testbed");

/// The stores; dropping stops them.
pub(super) struct OwnStores {
    directory: tempfile::TempDir,
    ports: [(&'static str, u16); 4],
}

impl OwnStores {
    pub(super) async fn start() -> Self {
        let ports = ["KAFKA", "KAFKA_CONTROLLER", "MONGODB", "REDIS"].map(|part| (part, free_port()));
        let stores = Self { directory: tempfile::tempdir().expect("a temporary directory"), ports };
        std::fs::write(stores.clock_file(), 0_i64.to_ne_bytes()).expect("a file");
        stores.testbed(&["up"]).await;
        stores
    }

    /// Sets Kafka's clock ahead.
    pub(super) fn set_clock_ahead(&self, seconds: i64) {
        // The file is written in its place and at its length, because the broker has it in its memory.
        let file = std::fs::File::options().write(true).open(self.clock_file()).expect("a file");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("a number");
    }

    fn clock_file(&self) -> std::path::PathBuf {
        self.directory.path().join("broker.clock")
    }

    pub(super) fn port(&self, part: &str) -> u16 {
        self.ports.iter().find(|(name, _)| *name == part).expect("a part").1
    }

    pub(super) fn addresses(&self) -> Stores {
        let at = |part| format!("127.0.0.1:{}", self.port(part));
        Stores {
            kafka: at("KAFKA"),
            redis: format!("redis://{}", at("REDIS")),
            mongodb: format!("mongodb://{}/?replicaSet=rs0", at("MONGODB")),
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let port = |(part, port): &(&str, u16)| (format!("LIVERANK_TESTBED_{part}_PORT"), port.to_string());
        let text = |path: &std::path::Path| path.display().to_string();
        let own = [
            ("LIVERANK_TESTBED_DIR".to_owned(), text(self.directory.path())),
            ("LIVERANK_TESTBED_KAFKA_CLOCK".to_owned(), text(&self.clock_file())),
        ];
        self.ports.iter().map(port).chain(own).collect()
    }

    /// Runs the testbed's script with the arguments `words` and returns its standard output; panics if it fails.
    pub(super) async fn testbed(&self, words: &[&str]) -> String {
        let mut command = tokio::process::Command::new(SCRIPT);
        command.args(words).envs(self.environment()).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(SCRIPT_TIMEOUT, command.output()).await;
        let output = output.expect("the script ends").expect("a script");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for OwnStores {
    fn drop(&mut self) {
        let down = std::process::Command::new(SCRIPT).arg("down").envs(self.environment()).status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("the stores of the test may still run: {}", self.directory.path().display());
        }
    }
}
