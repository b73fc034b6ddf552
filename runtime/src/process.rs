//! Runs a process from its start to its end: the async runtime, signals, and the handling of panics.
//!
//! A process in which a thread or task has panicked looks alive and does only part of its work. So every panic ends the
//! process with an error, whoever started the thread or task. The one exception is code that serves a single connection
//! and is run by [`confine_panics`]: such a panic ends the connection, is logged and counted
//! (`liverank_process_confined_panics`), and other connections go on. Panics that a part of the process catches itself
//! are counted there, too ([`ProcessRuntime::catches_panics`]).

use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::anyhow;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::{ServiceContext, config, shutdown};

/// The time that the supervisor of a panicked part has to end the process with an error that names the part. After it,
/// the process ends with the text of the panic only.
const PANIC_NAME_TIMEOUT: Duration = Duration::from_secs(1);
/// The time after a panic at which the process is ended by force, whatever it hangs in.
const PANIC_EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings with which a process runs.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRuntime {
    /// The time that the process has to finish its work after it was asked to end.
    pub drain_time: Duration,
    /// The time after the drain at which the process is ended by force, whatever it hangs in.
    pub forced_end_delay: Duration,
    /// The number of worker threads of the async runtime; `None`: one for each core.
    pub thread_count: Option<usize>,
    /// Returns true if the code that runs on the current thread catches panics itself. Such a panic does not end the
    /// process.
    pub catches_panics: fn() -> bool,
}

impl ProcessRuntime {
    /// Runs `main` to its end, with a context that is shut down by signals.
    ///
    /// # Errors
    /// Returns the error of `main`, an error for a panic anywhere in the process outside of [`confine_panics`], or an
    /// error if the async runtime could not be started.
    pub fn run<F: Future<Output = anyhow::Result<()>>>(
        self,
        main: impl FnOnce(ServiceContext) -> F,
    ) -> anyhow::Result<()> {
        let context = ServiceContext::new(self.drain_time);
        warn_of_ignored_keys(&context);
        let runtime = self.build_tokio_runtime()?;
        let mut panics = install_panic_hook(&context, self.catches_panics);
        let result = runtime.block_on(async {
            shutdown::cancel_on_signal(context.shutdown.clone())?;
            tokio::spawn(shutdown::end_process_if_late(context.shutdown.clone(), self.drain_time + self.forced_end_delay));
            let mut main = std::pin::pin!(main(context));
            tokio::select! {
                result = &mut main => result,
                panicked = wait_for_first_panic(&mut panics) => {
                    let named = tokio::time::timeout(PANIC_NAME_TIMEOUT, main).await;
                    Err(named.ok().and_then(Result::err).unwrap_or_else(|| anyhow!("a part of the process panicked: {panicked}")))
                }
            }
        });
        // Blocking work that still runs on other threads (a store's last retry) has already had the drain time.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    fn build_tokio_runtime(self) -> io::Result<tokio::runtime::Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = self.thread_count {
            builder.worker_threads(threads);
        }
        builder.enable_all().build()
    }
}

tokio::task_local! {
    /// Marks a task whose panics end only the task's connection, and not the process.
    static IS_CONFINED: ();
}

/// Runs code that serves a single connection: a panic in it ends the connection and not the process.
pub async fn confine_panics<T>(connection: impl Future<Output = T>) -> T {
    IS_CONFINED.scope((), connection).await
}

/// Logs and counts the settings of the operator's file that this version does not know and ignores.
fn warn_of_ignored_keys(context: &ServiceContext) {
    let ignored = config::ignored_keys();
    if !ignored.is_empty() {
        tracing::warn!(settings = ?ignored, "the operator's file has settings that this version does not know: they are ignored");
    }
    let gauge = Gauge::<i64>::default();
    gauge.set(ignored.len() as i64);
    context.metrics.register("process", |registry| {
        registry.register(
            "ignored_settings",
            "Settings of the operator's file that this version does not know",
            gauge,
        );
    });
}

async fn wait_for_first_panic(panics: &mut watch::Receiver<Option<String>>) -> String {
    match panics.wait_for(Option::is_some).await {
        Ok(panicked) => panicked.clone().unwrap_or_default(),
        // The panic hook holds the sender for as long as the process lives.
        Err(_) => std::future::pending().await,
    }
}

/// Installs a panic hook that logs every panic. Returns a receiver of the text of the first panic that must end the
/// process.
fn install_panic_hook(
    context: &ServiceContext,
    catches_panics: fn() -> bool,
) -> watch::Receiver<Option<String>> {
    static CONFINED_PANICS: OnceLock<Counter> = OnceLock::new();
    let counter = CONFINED_PANICS.get_or_init(Counter::default).clone();
    context.metrics.register("process", |registry| {
        let help = "Panics that ended one connection and nothing else";
        registry.register("confined_panics", help, counter.clone());
    });
    let (sender, receiver) = watch::channel(None);
    std::panic::set_hook(Box::new(move |info| {
        let confined = IS_CONFINED.try_with(|()| ()).is_ok() || catches_panics();
        let panicked = panic_text(info);
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(panicked, confined, thread = thread.name(), %backtrace, "a panic");
        if confined {
            counter.inc();
            return;
        }
        if sender.send_replace(Some(panicked)).is_none() {
            std::thread::spawn(|| {
                std::thread::sleep(PANIC_EXIT_TIMEOUT);
                tracing::error!("a part panicked and the rest hangs: leaving at once");
                std::process::exit(1);
            });
        }
    }));
    receiver
}

fn panic_text(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("without a message");
    match info.location() {
        Some(location) => format!("{message} ({location})"),
        None => message.to_owned(),
    }
}
