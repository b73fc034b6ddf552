//! The session of a stream: a stream lasts only as long as the token by which it was opened is valid.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use liverank_runtime::label_values;
use liverank_runtime::websocket;
use prometheus_client::encoding::EncodeLabelSet;

use super::{Caller, LEEWAY_SECONDS, Viewer};
use crate::Gateway;

/// The status of a WebSocket's close frame if its token is not valid any more: 401, moved into the range of
/// applications' own statuses.
const CLOSE_STATUS: u16 = 4401;
/// The longest single wait for a token to expire: a token may be valid for years, and clocks are corrected.
const MAX_WAIT_AT_ONCE: Duration = Duration::from_hours(1);

label_values! {
    /// The reason for which a token is not valid any more.
    pub(crate) enum TokenEnd {
        /// The token expired.
        Expired = "expired",
        /// The token was revoked.
        Revoked = "revoked",
    }
}

/// The metric label with the reason for which a stream's token ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TokenEndLabels {
    pub(crate) reason: TokenEnd,
}

/// A future that completes when the stream's token is not valid any more; it never completes if no token is needed.
pub(crate) type TokenEndFuture = Pin<Box<dyn Future<Output = TokenEnd> + Send>>;

/// Returns the future that completes when the token of a caller that opens a stream is not valid any more.
pub(crate) fn token_end_of_caller(gateway: &Arc<Gateway>, caller: &Caller) -> TokenEndFuture {
    match caller {
        Caller::Anyone => Box::pin(std::future::pending()),
        Caller::User(viewer) => Box::pin(wait_for_token_end(Arc::clone(gateway), viewer.clone())),
    }
}

async fn wait_for_token_end(gateway: Arc<Gateway>, viewer: Viewer) -> TokenEnd {
    let Some(auth) = &gateway.auth else { return std::future::pending().await };
    let end = tokio::select! {
        () = wait_until_expired(viewer.expires_at) => TokenEnd::Expired,
        () = auth.revoked_tokens.wait_until_revoked(&viewer) => TokenEnd::Revoked,
    };
    gateway.metrics.count_ended_session(end);
    end
}

/// Waits until the token would not be accepted for a new stream any more; acceptance is checked in whole seconds, with
/// `LEEWAY_SECONDS`.
async fn wait_until_expired(until: u64) {
    let until = until.saturating_add(LEEWAY_SECONDS + 1);
    loop {
        let left = Duration::from_secs(until)
            .saturating_sub(Duration::from_millis(liverank_runtime::now_ms() as u64));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(MAX_WAIT_AT_ONCE)).await;
    }
}

impl TokenEnd {
    /// Returns the last server-sent event of a comment stream, which tells the reason.
    pub(crate) fn last_event(self) -> Bytes {
        let reason = self.end_reason();
        Bytes::from(format!(
            "event: unauthorized\ndata: {{\"type\":\"unauthorized\",\"reason\":\"{reason}\"}}\n\n"
        ))
    }

    /// Returns the last frame of a `WebSocket`, a close frame that tells the reason.
    pub(crate) fn close_frame(self) -> Bytes {
        websocket::close_frame_with_reason(CLOSE_STATUS, self.end_reason())
    }

    const fn end_reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
