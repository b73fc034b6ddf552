//! A process from its start to its end: a runtime, signals, and what a panic does.
//!
//! A panic in a thread or task that others rely on leaves a process that looks alive and does part of its work. So every
//! panic ends the process with an error, whoever started the thread or task, with one exception: what serves a single
//! connection is run by [`confine_panics`]. There a panic ends the connection, is logged and counted
//! (`liverank_process_confined_panics`), and the others go on. What a part catches itself counts there, too
//! ([`ProcessRuntime::catches_panics`]).

use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::anyhow;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::{ServiceContext, config, shutdown};

/// How long the part that panicked may take to say so itself, with its name, before the process ends with what the
/// panic said.
const PANIC_NAME_TIMEOUT: Duration = Duration::from_secs(1);
/// How long after a panic the process may still be there, whatever it hangs in.
const PANIC_EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a process runs.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRuntime {
    /// How long finishing may take after it was asked to end.
    pub drain_time: Duration,
    /// How long after its drain it may still be there, whatever it hangs in.
    pub late_end_time: Duration,
    /// Threads of the runtime, where it is not one a core.
    pub thread_count: Option<usize>,
    /// Whether the code that runs on this thread catches panics itself: such a panic ends nothing.
    pub catches_panics: fn() -> bool,
}

impl ProcessRuntime {
    /// Runs `main` until it ends, and gives it a context that shuts down on signals.
    ///
    /// # Errors
    /// The errors of `main`; a panic anywhere in the process that is not [`confine_panics`]; no runtime.
    pub fn run<F: Future<Output = anyhow::Result<()>>>(
        self,
        main: impl FnOnce(ServiceContext) -> F,
    ) -> anyhow::Result<()> {
        let context = ServiceContext::new(self.drain_time);
        warn_of_ignored_keys(&context);
        let runtime = self.runtime()?;
        let mut panics = end_on_panic(&context, self.catches_panics);
        let result = runtime.block_on(async {
            shutdown::cancel_on_signal(context.shutdown.clone())?;
            tokio::spawn(shutdown::end_process_if_late(context.shutdown.clone(), self.drain_time + self.late_end_time));
            let mut main = std::pin::pin!(main(context));
            tokio::select! {
                result = &mut main => result,
                panicked = first_panic(&mut panics) => {
                    let named = tokio::time::timeout(PANIC_NAME_TIMEOUT, main).await;
                    Err(named.ok().and_then(Result::err).unwrap_or_else(|| anyhow!("a part of the process panicked: {panicked}")))
                }
            }
        });
        // What still runs on other threads (a store's last retry) has had its drain.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    fn runtime(self) -> io::Result<tokio::runtime::Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = self.thread_count {
            builder.worker_threads(threads);
        }
        builder.enable_all().build()
    }
}

tokio::task_local! {
    /// Set while a task runs whose panics end nothing but itself.
    static IS_CONFINED: ();
}

/// Runs what serves a single connection: a panic in it ends the connection, and not the process.
pub async fn confine_panics<T>(connection: impl Future<Output = T>) -> T {
    IS_CONFINED.scope((), connection).await
}

/// Says which settings of the operator's file this process goes without.
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

async fn first_panic(panics: &mut watch::Receiver<Option<String>>) -> String {
    match panics.wait_for(Option::is_some).await {
        Ok(panicked) => panicked.clone().unwrap_or_default(),
        // The hook holds the sender for as long as the process lives.
        Err(_) => std::future::pending().await,
    }
}

/// Has every panic logged, and answers where the first one that must end the process shows.
fn end_on_panic(context: &ServiceContext, catches_panics: fn() -> bool) -> watch::Receiver<Option<String>> {
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
