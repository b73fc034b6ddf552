//! Requests over TLS from inside the cluster: by the names that its DNS gives, and with an authority by which a server is known.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use liverank_runtime::PeerTls;
use liverank_runtime::client::{Client, ConnectionSettings};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How long an answer, or a comment's way to its stream, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server, and how it is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsRequest {
    /// The URL to request.
    pub url: String,
    /// The authorities of its certificate, in PEM.
    pub authority: String,
}

/// The answer of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl TlsRequest {
    /// A client without a connection: each shakes hands anew, so that what it sees is in force.
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&PeerTls::trusting_authorities(&self.authority, None)?, ConnectionSettings::default()))
    }

    /// Asks once.
    pub async fn get_once(self) -> anyhow::Result<TlsAnswer> {
        let url = self.url.parse().context(self.url.clone())?;
        let answer = self.client()?.get(url).timeout(ANSWER_TIMEOUT).send().await?;
        let status = answer.status().as_u16();
        Ok(TlsAnswer { status, body: answer.text().await? })
    }

    /// Watches `video` there, posts a comment, and waits until it comes; answers after how many ms it did.
    pub async fn time_comment(self, video: &str) -> anyhow::Result<u128> {
        let client = self.client()?;
        let base: Url = self.url.parse().context(self.url.clone())?;
        let mut url = base.join("/connect")?;
        url.query_pairs_mut().append_pair("userid", "watcher").append_pair("videoid", video);
        let answer = client.get(url).timeout(ANSWER_TIMEOUT).send().await?;
        ensure!(answer.status().is_success(), "/connect: {}", answer.status());
        let (mut seen, mut parts) = (String::new(), answer.bytes_stream());
        let text = format!("over TLS {:x}", rand::random::<u64>());
        let mut posted = None;
        while !seen.contains(&text) {
            let part = parts.next().await.context("the stream ended")??;
            seen.push_str(&String::from_utf8_lossy(&part));
            if posted.is_none() && seen.contains("connected") {
                posted = Some(Instant::now());
                let body = json!({"userid": "poster", "videoid": video, "comment": text});
                let answer =
                    client.post(base.join("/comment")?).json(&body).timeout(ANSWER_TIMEOUT).send().await?;
                ensure!(answer.status().as_u16() == 201, "/comment: {}", answer.status());
            }
        }
        Ok(posted.context("a comment came that nobody posted")?.elapsed().as_millis())
    }
}
