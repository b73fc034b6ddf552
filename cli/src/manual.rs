//! Makes shells' completion scripts, and manual pages, from the definition of the command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};

/// The arguments of `liverank completion`.
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// The shell whose completion script is printed.
    shell: clap_complete::Shell,
}

impl CompletionArgs {
    pub fn run(self, command: &mut Command) -> anyhow::Result<ExitCode> {
        // The script is written to memory first, because the library panics if standard output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "liverank", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The arguments of `liverank man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The directory of the pages; it is created if necessary.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Returns the command without its subcommands `help`, which need no manual page.
fn without_help_commands(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help_commands)
}

impl ManArgs {
    pub fn run(&self, command: Command) -> anyhow::Result<ExitCode> {
        let write = || {
            std::fs::create_dir_all(&self.directory)?;
            clap_mangen::generate_to(without_help_commands(command), &self.directory)
        };
        write().with_context(|| format!("writing to {}", self.directory.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
