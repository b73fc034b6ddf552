//! Sends one request to the hook, signed according to the Standard Webhooks specification, and reads its answer.
//!
//! The URL is fixed: redirects are not followed but count as invalid answers.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use liverank_core::CommentId;
use liverank_core::comment::to_hex;
use liverank_core::moderation::hook::{HookAnswer, parse_answers};
use liverank_runtime::now_ms;
use reqwest::Url;

use super::key::SigningKeys;

/// The maximum size of an answer, in bytes: 64 comments of 16 KiB that are all masked, in JSON's longest encoding.
const MAX_ANSWER_BYTES: usize = 4 << 20;

pub(super) struct HookClient {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    keys: SigningKeys,
}

impl HookClient {
    pub(super) fn new(url: &Url, key_file: &Path) -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let uri = url.as_str().parse().context("--comment-hook-url")?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { uri, client, keys: SigningKeys::read(key_file)? })
    }

    /// Asks the hook to decide on the comments `asked`. `body` is the request body that holds these comments. Returns
    /// the answer for each comment that the hook named.
    pub(super) async fn request_decisions(
        &self,
        body: Vec<u8>,
        asked: &[CommentId],
    ) -> anyhow::Result<HashMap<CommentId, HookAnswer>> {
        let id = format!("msg_{}", to_hex(&rand::random::<[u8; 16]>()));
        let timestamp = (now_ms() / 1000).to_string();
        let signature = self.keys.sign(&id, &timestamp, &body).await;
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::from(body)))?;
        let answer = self.client.request(request).await.context("no answer")?;
        let status = answer.status();
        ensure!(status == StatusCode::OK, "it answers {status}");
        let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await;
        Ok(parse_answers(&body.context("its answer cannot be read")?, asked)?)
    }
}
