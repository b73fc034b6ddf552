//! How long a stream may last: as long as the token is good by which it was opened.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use liverank_runtime::label_values;
use liverank_runtime::websocket;
use prometheus_client::encoding::EncodeLabelSet;

use super::{Caller, LEEWAY_SECONDS, Viewer};
use crate::Gateway;

/// The status of a close frame where a token is good no more: 401 among the statuses that are applications' own.
const CLOSE_STATUS: u16 = 4401;
/// The longest time that is waited at once: a token may be good for years, and clocks are set.
const MAX_WAIT_AT_ONCE: Duration = Duration::from_hours(1);

label_values! {
    /// Why a token is good no more.
    pub(crate) enum TokenEnd {
        /// Its time is over.
        Expired = "expired",
        /// The token was revoked.
        Revoked = "revoked",
    }
}

/// A label of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TokenEndLabels {
    pub(crate) reason: TokenEnd,
}

/// Completes when the token is good no more, which it does not by itself where none is asked for.
pub(crate) type Session = Pin<Box<dyn Future<Output = TokenEnd> + Send>>;

/// The session of one that opens a stream.
pub(crate) fn session(gateway: &Arc<Gateway>, caller: &Caller) -> Session {
    match caller {
        Caller::Anyone => Box::pin(std::future::pending()),
        Caller::User(viewer) => Box::pin(wait_for_token_end(Arc::clone(gateway), viewer.clone())),
    }
}

async fn wait_for_token_end(gateway: Arc<Gateway>, viewer: Viewer) -> TokenEnd {
    let Some(auth) = &gateway.auth else { return std::future::pending().await };
    let end = tokio::select! {
        () = wait_until_expired(viewer.expires_at) => TokenEnd::Expired,
        () = auth.revoked_tokens.revoked(&viewer) => TokenEnd::Revoked,
    };
    gateway.metrics.session_ended(end);
    end
}

/// When the token would not be taken for a new stream any more, which is told in whole seconds.
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
    /// The last event of a comment stream.
    pub(crate) fn event(self) -> Bytes {
        let reason = self.end_reason();
        Bytes::from(format!(
            "event: unauthorized\ndata: {{\"type\":\"unauthorized\",\"reason\":\"{reason}\"}}\n\n"
        ))
    }

    /// The last frame of a `WebSocket`.
    pub(crate) fn frame(self) -> Bytes {
        websocket::close_frame_with(CLOSE_STATUS, self.end_reason())
    }

    const fn end_reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
