//! `liverank probe`: asks liverank processes if they answer well, for machines and images that have no other HTTP
//! client.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::OutputArgs;
use liverank_runtime::peer::{ANSWER_TIMEOUT, PeerClient, root_cause};
use liverank_runtime::tls::PeerTlsArgs;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

/// The time between two requests to one address: a starting process is ready within seconds, and must not be kept busy.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// The number of characters that are printed of an answer: `/readyz` has a line for each part.
const MAX_ANSWER_CHARS_SHOWN: usize = 2_000;

/// The arguments of `liverank probe`.
#[derive(Debug, Clone, Args)]
pub struct ProbeArgs {
    /// The addresses to ask, say `http://manager:9060/readyz`; all must answer 2xx.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Url>,
    /// The time within which all of them must answer.
    #[arg(long, alias = "seconds", value_name = "DURATION", default_value = "10s",
          value_parser = parser_of_range(Duration::from_secs(1), Duration::from_mins(10)))]
    within: Duration,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    tls: PeerTlsArgs,
}

impl ProbeArgs {
    /// Asks all addresses and prints their answers. The exit code is 1 if one of them did not answer 2xx in time; its
    /// last answer or error is printed.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let peers = PeerClient::over_tls(&self.tls.open()?);
        let good = runtime.block_on(async {
            let deadline = Instant::now() + self.within;
            let (mut good, mut text, mut answers) = (true, String::new(), Vec::new());
            for url in &self.urls {
                let answer = probe_until_success(&peers, url, deadline).await;
                good &= answer.is_ok();
                answers.push(json!({"url": url.as_str(), "good": answer.is_ok(), "answer": answer.as_ref().unwrap_or_else(|last| last)}));
                let _ = match &answer {
                    Ok(answer) => writeln!(text, "{url}: {answer}"),
                    Err(last) => writeln!(text, "{url}: not within {} s; {last}", self.within.as_secs_f64()),
                };
            }
            // If nobody reads the output, the exit code still has the result.
            let _ = self.output.print_value(&Value::Array(answers), || text);
            good
        });
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Sends requests until an answer is 2xx; at the deadline, returns the last answer or error.
async fn probe_until_success(peers: &PeerClient, url: &Url, deadline: Instant) -> Result<String, String> {
    let mut last = "no answer".to_owned();
    loop {
        match timeout_at(deadline, probe_once(peers, url)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last),
        }
        if Instant::now() + PROBE_PAUSE >= deadline {
            return Err(last);
        }
        sleep(PROBE_PAUSE).await;
    }
}

async fn probe_once(peers: &PeerClient, url: &Url) -> Result<String, String> {
    let request = peers.client().get(url.clone()).timeout(ANSWER_TIMEOUT);
    let response = request.send().await.map_err(|error| root_cause(&error))?;
    let status = response.status();
    let body = response.text().await.map_err(|error| root_cause(&error))?;
    let shown: String = body.trim().chars().take(MAX_ANSWER_CHARS_SHOWN).collect();
    if status.is_success() { Ok(shown) } else { Err(format!("{status}: {shown}")) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Starts a server that answers its connections one after the other with the texts in `answers`, and all later ones
    /// with the last text.
    async fn scripted_server(answers: &'static [&'static str]) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut next = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0, "a connection without a request");
                let answer = answers[next.min(answers.len() - 1)];
                stream.write_all(answer.as_bytes()).await.unwrap();
                next += 1;
            }
        });
        url.parse().unwrap()
    }

    const READY_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nready";
    const STARTING_ANSWER: &str =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\nconnection: close\r\n\r\nstarting";

    #[tokio::test]
    async fn probe_asks_again_until_the_answer_is_good() {
        let url = scripted_server(&[STARTING_ANSWER, READY_ANSWER]).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        assert_eq!(probe_until_success(&PeerClient::default(), &url, deadline).await, Ok("ready".into()));
    }

    #[tokio::test]
    async fn probe_reports_the_last_answer_at_the_deadline() {
        let url = scripted_server(&[STARTING_ANSWER]).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        let last = probe_until_success(&PeerClient::default(), &url, deadline).await.unwrap_err();
        assert_eq!(last, "503 Service Unavailable: starting");
    }

    #[tokio::test]
    async fn probe_reports_why_nobody_answered() {
        // A port that was free a moment ago may be another test's now.
        let url: Url = "http://127.0.0.1:9/".parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let last = probe_until_success(&PeerClient::default(), &url, deadline).await.unwrap_err();
        assert!(last.contains("refused"), "{last}");
    }
}
