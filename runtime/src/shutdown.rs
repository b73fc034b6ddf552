//! An orderly shutdown: the first SIGTERM or Ctrl-C begins the drain, the second ends the process at once.
//!
//! The first process of a container (number 1 of its namespace) has no default actions for signals: Linux drops a
//! SIGTERM for which the process has no handler (`pid_namespaces(7)`). A pod that is deleted while it starts gets a
//! single SIGTERM, within the first milliseconds. Without a handler by then, the process would go on until its grace
//! period is over. So [`catch_signals_early`] is the first call in `main`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether a signal ends this process at once. If the value is not set, the signals have their default actions.
static SIGNAL_ENDS_AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes SIGTERM and SIGINT end the first process of a container until [`cancel_on_signal`] handles them. The exit code
/// is 128 + signal, as shells report a process that a signal ended. Nothing has begun by then that would have to be
/// drained. In every other process this does nothing, because the default actions have the same effect.
///
/// # Errors
/// The system refuses to install a handler.
pub fn catch_signals_early() -> io::Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let at_once = SIGNAL_ENDS_AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 128 + signal, at_once.clone())?;
    }
    Ok(())
}

/// Cancels `token` at the first SIGTERM or SIGINT, and ends the process with code 130 at the second.
pub fn cancel_on_signal(token: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The async handlers are installed first: a signal between the two steps still ends the process, and none is lost.
    if let Some(at_once) = SIGNAL_ENDS_AT_ONCE.get() {
        at_once.store(false, Ordering::SeqCst);
    }
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

/// Ends the process with code 1 if it still runs `limit` after `token` was cancelled, whatever it hangs in. A separate
/// thread waits, because a blocking library may occupy all threads of the async runtime.
pub async fn end_process_if_late(token: CancellationToken, limit: Duration) {
    token.cancelled().await;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(seconds = limit.as_secs(), "something hangs: leaving without it");
        std::process::exit(1);
    });
}
