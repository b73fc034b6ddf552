//! An orderly end: SIGTERM or Ctrl-C begins the drain, a second one ends it.
//!
//! The first process of a container (number 1 of its namespace) has no default actions: Linux drops a SIGTERM that it has
//! no handler for (`pid_namespaces(7)`). A pod that is deleted while it starts is told to end once, within the first
//! milliseconds. Without a handler by then, it would serve on until its grace period is over. So [`catch_signals_early`] is the
//! first thing that `main` does.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether a signal ends this process at once. `None`: the default action of the signal does.
static SIGNAL_ENDS_AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Has SIGTERM and SIGINT end the first process of a container until [`cancel_on_signal`] takes them over: with code 128 + signal,
/// as a shell tells of a process that a signal ended. Nothing has begun by then that would have to be drained. Every other
/// process keeps the default actions, which do the same.
///
/// # Errors
/// Where the system refuses a handler.
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
    // In this order: a signal between the two still ends the process, and none is lost.
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

/// Ends the process with code 1 when it is still there `limit` after `token` was cancelled, whatever it hangs in. A
/// thread of its own watches, for a library that blocks may have taken the runtime's.
pub async fn end_process_if_late(token: CancellationToken, limit: Duration) {
    token.cancelled().await;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(seconds = limit.as_secs(), "something hangs: leaving without it");
        std::process::exit(1);
    });
}
