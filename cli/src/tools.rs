//! The commands that maintain the stores of a running system: `verify`, `rebuild`, `dlq` and `erase`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::{Backends, EventLog, clock};
use liverank_maintenance::progress::CommandProgress;
use liverank_maintenance::rebuild::{MongodbArgs, RebuildWork, ScoresArgs};
use liverank_maintenance::{CommandVerdict, dlq, erase, verify};
use liverank_runtime::now_ms;
use liverank_runtime::output::{OutputArgs, OutputFormat};
use liverank_runtime::telemetry::{self, LogArgs};
use serde_json::json;

use crate::stores::{RequiredStores, StoreArgs, open_embedded};

/// A command that describes its steps while it works. With output in JSON or YAML, the command's lines are printed at
/// its end, as one value.
#[derive(Debug, Clone, Args)]
pub struct NarratedCommand<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    output: OutputArgs,
}

/// The lines that a command has written: printed at once in text mode, collected for JSON and YAML.
struct CommandNarrative {
    output: OutputArgs,
    lines: Vec<u8>,
}

impl CommandNarrative {
    const fn new(output: OutputArgs) -> Self {
        Self { output, lines: Vec::new() }
    }

    fn print_end(&self, verdict: CommandVerdict) -> anyhow::Result<CommandVerdict> {
        if self.output.output != OutputFormat::Table {
            let text = String::from_utf8_lossy(&self.lines);
            let value =
                json!({"good": verdict == CommandVerdict::AllGood, "told": text.lines().collect::<Vec<_>>()});
            self.output.print_value(&value, String::new)?;
        }
        Ok(verdict)
    }
}

impl Write for CommandNarrative {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.output.output == OutputFormat::Table {
            io::stdout().write(bytes)
        } else {
            self.lines.write(bytes)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// The subcommands of `liverank rebuild`.
#[derive(Debug, Clone, Subcommand)]
pub enum RebuildCommand {
    /// Rebuilds the boards in Redis from the archive in `MongoDB`.
    Redis(Box<StoreCommand<NarratedCommand<NoArgs>>>),
    /// Scores all videos anew: brings other weights, or another half-life of the trending board, into force.
    Scores(Box<StoreCommand<NarratedCommand<ScoresArgs>>>),
    /// Rebuilds the archive in `MongoDB` from the log, which must reach back to its start or to the snapshot given.
    Mongodb(Box<StoreCommand<NarratedCommand<MongodbArgs>>>),
}

/// The subcommands of `liverank dlq`.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadLetterCommand {
    /// Lists the dead letters, each with its origin and the reason why it could not be read.
    List(Box<StoreCommand<dlq::ListArgs>>),
    /// Appends dead letters that can be read by now to the log; replayed again within a day, they count once.
    Replay(Box<StoreCommand<NarratedCommand<dlq::ReplayArgs>>>),
}

/// The subcommands of `liverank erase`.
#[derive(Debug, Clone, Subcommand)]
pub enum EraseCommand {
    /// Erases a user's comments, name and identities in all stores and dead letters; says what stays in the log.
    ///
    /// The erasure goes through the log, as moderation does, while the system serves. Killed in the middle and run
    /// again, it continues.
    User(Box<StoreCommand<erase::EraseArgs>>),
}

impl EraseCommand {
    /// Runs the subcommand of `liverank erase`. The exit code is 1 if some of the user's data could not be removed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::User(tool) => tool.run(async |mut tool: StoreCommand<erase::EraseArgs>, progress| {
                let backends = tool.open_backends("erase").await?;
                tool.command.embedded = !tool.stores.any_store_configured();
                erase::erase_user(&tool.command, &backends, &progress, now_ms(), &mut std::io::stdout()).await
            }),
        }
    }
}

/// The arguments of a command that has no flags of its own.
#[derive(Debug, Clone, Args)]
pub struct NoArgs {}

/// A command that works on the stores, with the flags that all such commands have in common.
#[derive(Debug, Clone, Args)]
pub struct StoreCommand<C: Args> {
    #[command(flatten)]
    command: C,
    /// Instead of Kafka, Redis and `MongoDB`: the data directory of a `liverank up` that is not running.
    #[arg(long, env = "LIVERANK_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    stores: StoreArgs,
    /// A YAML file with the same settings as these flags; keys of other services are ignored.
    #[arg(long, env = "LIVERANK_CONFIG", help_heading = "Process", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Process")]
    log: LogArgs,
}

impl<C: Args> StoreCommand<C> {
    /// Runs `main` to its end, and returns its verdict as an exit code.
    fn run<F: Future<Output = anyhow::Result<CommandVerdict>>>(
        self,
        main: impl FnOnce(Self, CommandProgress) -> F,
    ) -> anyhow::Result<ExitCode> {
        telemetry::init_logging(&self.log);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let verdict = runtime.block_on(main(self, CommandProgress::new()));
        // Does not wait for a store's last retry on another thread.
        runtime.shutdown_background();
        Ok(match verdict? {
            CommandVerdict::AllGood => ExitCode::SUCCESS,
            CommandVerdict::FoundFault => ExitCode::FAILURE,
        })
    }

    async fn open_backends(&self, who: &'static str) -> anyhow::Result<Backends> {
        match &self.data_dir {
            Some(directory) if !self.stores.any_store_configured() => {
                if !directory.is_dir() {
                    bail!("there is no data directory {}", directory.display());
                }
                open_embedded(directory)
                    .context("the data directory; a `liverank up` on it has to be stopped first")
            }
            _ => self.stores.clone().open_all(RequiredStores::needing_all_stores(who)).await,
        }
    }

    fn open_event_log(&self, who: &str) -> anyhow::Result<Arc<dyn EventLog>> {
        match (self.stores.open_log()?, &self.data_dir) {
            (Some(log), _) => Ok(log),
            (None, Some(directory)) if directory.is_dir() => {
                let log = EmbeddedLog::open(directory, clock::system_clock());
                let log = log.context("the data directory; a `liverank up` on it has to be stopped first")?;
                Ok(Arc::new(log))
            }
            (None, Some(directory)) => bail!("there is no data directory {}", directory.display()),
            (None, None) => bail!("{who} needs --kafka (LIVERANK_KAFKA) or --data-dir"),
        }
    }
}

impl StoreCommand<verify::VerifyArgs> {
    /// Runs `liverank verify`. The exit code is 1 if log, archive and boards differ in something.
    pub fn verify_stores(self) -> anyhow::Result<ExitCode> {
        self.run(async |mut tool: Self, progress| {
            let backends = tool.open_backends("verify").await?;
            tool.command.embedded = !tool.stores.any_store_configured();
            verify::run(&tool.command, &backends, &progress, &mut std::io::stdout()).await
        })
    }
}

impl RebuildCommand {
    /// Runs the subcommand of `liverank rebuild`. The exit code is 1 if the rebuild was refused.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Redis(tool) => tool.run(async |tool, progress| {
                if tool.data_dir.is_some() && !tool.stores.any_store_configured() {
                    bail!("the boards of embedded storage are in memory, and are made anew at each start");
                }
                let backends = tool.open_backends("rebuild redis").await?;
                let mut told = CommandNarrative::new(tool.command.output);
                let verdict = rebuild_work(&backends, &progress, &mut told).rebuild_redis().await?;
                told.print_end(verdict)
            }),
            Self::Scores(tool) => tool.run(async |tool, progress| {
                let backends = tool.open_backends("rebuild scores").await?;
                let mut told = CommandNarrative::new(tool.command.output);
                let verdict = rebuild_work(&backends, &progress, &mut told)
                    .rebuild_scores(&tool.command.command)
                    .await?;
                told.print_end(verdict)
            }),
            Self::Mongodb(tool) => tool.run(async |tool, progress| {
                let backends = tool.open_backends("rebuild mongodb").await?;
                let mut told = CommandNarrative::new(tool.command.output);
                let verdict = rebuild_work(&backends, &progress, &mut told)
                    .rebuild_mongodb(&tool.command.command)
                    .await?;
                told.print_end(verdict)
            }),
        }
    }
}

const fn rebuild_work<'a>(
    backends: &'a Backends,
    progress: &'a CommandProgress,
    told: &'a mut CommandNarrative,
) -> RebuildWork<'a, &'a mut CommandNarrative> {
    RebuildWork { backends, progress, output: told }
}

impl DeadLetterCommand {
    /// Runs the subcommand of `liverank dlq`. The exit code is 1 if a dead letter that was to be replayed still cannot
    /// be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(tool) => tool.run(async |tool, _| {
                let log = tool.open_event_log("dlq list")?;
                dlq::list_dead_letters(&tool.command, &*log, &mut std::io::stdout()).await
            }),
            Self::Replay(tool) => tool.run(async |tool, progress| {
                let log = tool.open_event_log("dlq replay")?;
                let mut told = CommandNarrative::new(tool.command.output);
                let verdict =
                    dlq::replay_dead_letters(&tool.command.command, &*log, &progress, &mut told).await?;
                told.print_end(verdict)
            }),
        }
    }
}
