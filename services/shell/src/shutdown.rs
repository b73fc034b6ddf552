//! An orderly end: SIGTERM or Ctrl-C begins the drain, a second one ends it.

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
