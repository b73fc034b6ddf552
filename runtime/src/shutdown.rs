//! An orderly end: SIGTERM or Ctrl-C begins the drain, a second one ends it.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `token` at the first SIGTERM or SIGINT, and ends the process with code 130 at the second.
pub fn on_signal(token: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                tracing::warn!("asked a second time: leaving at once");
                std::process::exit(130);
            }
            tracing::info!("asked to end: draining");
            token.cancel();
        }
    });
    Ok(())
}

/// Ends the process with code 1 when it is still there `limit` after `token` was cancelled, whatever it hangs in. A
/// thread of its own watches, for a library that blocks may have taken the runtime's.
pub async fn end_late(token: CancellationToken, limit: Duration) {
    token.cancelled().await;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(seconds = limit.as_secs(), "something hangs: leaving without it");
        std::process::exit(1);
    });
}
