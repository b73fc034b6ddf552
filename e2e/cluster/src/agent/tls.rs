//! Requests over TLS from inside the cluster, by the names of cluster DNS; the server's certificate is checked against
//! a given authority.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use liverank_runtime::PeerTls;
use liverank_runtime::client::{Client, ConnectionSettings};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The time limit of an answer, and of the way of a posted comment to a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server's URL, with the authority that must have signed the server's certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsRequest {
    /// The URL to request.
    pub url: String,
    /// The certificates of the authority, in PEM.
    pub authority: String,
}

/// A server's answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsAnswer {
    /// The HTTP status code of the answer.
    pub status: u16,
    /// The body of the answer, as text.
    pub body: String,
}

impl TlsRequest {
    /// Creates a client without open connections: each new client makes a new TLS handshake, so it sees the
    /// certificate that the server shows now.
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&PeerTls::trusting_authorities(&self.authority, None)?, ConnectionSettings::default()))
    }

    /// Sends one GET request and returns the answer; a failed handshake is an error.
    pub async fn get_once(self) -> anyhow::Result<TlsAnswer> {
        let url = self.url.parse().context(self.url.clone())?;
        let answer = self.client()?.get(url).timeout(ANSWER_TIMEOUT).send().await?;
        let status = answer.status().as_u16();
        Ok(TlsAnswer { status, body: answer.text().await? })
    }

    /// Opens a stream of `video`'s comments, posts a comment and waits until the stream brings it. Returns the time
    /// from the post to the arrival, in milliseconds.
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
