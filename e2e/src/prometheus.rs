//! A real Prometheus that scrapes the processes of a test.

use serde_json::Value;

use crate::free_port;
use crate::process::Process;

/// A Prometheus that scrapes every second. It ends when this value is dropped.
pub struct Prometheus {
    address: String,
    _directory: tempfile::TempDir,
    _process: Process,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these processes, each with the address of its admin port (`host:port`) and with its
    /// role, which is the label `role` of its samples. Exemplars are kept.
    pub fn start(targets: &[(&str, &str)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("prometheus.yml");
        let target =
            |(role, admin): &(&str, &str)| format!("{{targets: ['{admin}'], labels: {{role: {role}}}}}");
        let targets: Vec<String> = targets.iter().map(target).collect();
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: liverank, static_configs: [{}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(&config, text).expect("writing its configuration");
        let flags = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", directory.path().join("data").display()),
            format!("--web.listen-address={address}"),
            "--enable-feature=exemplar-storage".to_owned(),
        ];
        let process = Process::start_program("prometheus", &flags, directory.path());
        Self { address, _directory: directory, _process: process }
    }

    /// Returns the result of a query: a list of series with their values now; `None` if it does not answer yet.
    pub async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let answer = self.get("query", &[("query", query)]).await?;
        answer["data"]["result"].as_array().cloned()
    }

    /// Returns the value of the first series of a query's result; `None` if there is none.
    pub async fn value(&self, query: &str) -> Option<f64> {
        self.query(query).await?.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Returns the exemplars of the series that a query selects, of all times.
    pub async fn exemplars(&self, query: &str) -> Option<Vec<Value>> {
        let wanted = [("query", query), ("start", "0"), ("end", "4102444800")];
        let answer = self.get("query_exemplars", &wanted).await?;
        let series = answer["data"].as_array()?.clone();
        Some(series.iter().filter_map(|series| series["exemplars"].as_array()).flatten().cloned().collect())
    }

    async fn get(&self, what: &str, query: &[(&str, &str)]) -> Option<Value> {
        let url = format!("http://{}/api/v1/{what}", self.address);
        let answer = reqwest::Client::new().get(url).query(query).send().await.ok()?;
        answer.json().await.ok()
    }
}
