//! `liverank config`: shows a role's settings with the source of each, and checks files of settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, Subcommand};
use liverank_protocol::roles::Role;
use liverank_runtime::config::{self, EffectiveSetting};
use liverank_runtime::output::{OutputArgs, format_table};
use serde_json::{Value, json};

/// The subcommands of `liverank config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Prints every setting of a role with its value and its source. Secrets are not shown.
    Show(ShowArgs),
    /// Checks if a file of settings is good for every role, and names what is not understood.
    Validate(ValidateArgs),
}

/// The arguments of `liverank config show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The role: gateway, consumer, websocket, comment, reader, manager or statistics.
    #[arg(value_parser = parse_role)]
    role: Role,
    /// The file of settings, if not the one that `LIVERANK_CONFIG` names.
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The arguments of `liverank config validate`.
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// The file of settings.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

fn parse_role(text: &str) -> Result<Role, String> {
    let names: Vec<&str> = Role::ALL.into_iter().map(Role::name).collect();
    Role::ALL
        .into_iter()
        .find(|role| role.name() == text)
        .ok_or_else(|| format!("must be one of {}", names.join(", ")))
}

/// Returns the effective settings of a role: flags, variables, the file and defaults, in this order; else the error as
/// text. `command` is the whole command line.
fn effective_settings(
    command: &Command,
    role: Role,
    file: Option<&PathBuf>,
) -> Result<Vec<EffectiveSetting>, String> {
    let mut args: Vec<OsString> = vec!["liverank".into(), role.name().into()];
    if let Some(file) = file {
        args.extend(["--config".into(), file.into()]);
    }
    // A variable that is not Unicode cannot be one of liverank's.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    config::effective_settings(command.clone(), &args, &environment).map_err(|error| error.to_string())
}

impl ConfigCommand {
    /// Runs the subcommand of `liverank config`. `command` is the whole command line, with all settings. For `validate`,
    /// the exit code is 1 if the file is wrong for a role.
    pub fn run(&self, command: &Command) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show(it) => {
                let all =
                    effective_settings(command, it.role, it.file.as_ref()).map_err(anyhow::Error::msg)?;
                let row =
                    |it: &EffectiveSetting| vec![it.name.clone(), it.value.clone(), it.source.to_string()];
                let value = all
                    .iter()
                    .map(|it| (it.name.clone(), json!({"value": it.value, "from": it.source.to_string()})));
                let value = Value::Object(value.collect());
                it.output.print_value(&value, || {
                    format_table(&["setting", "value", "from"], &all.iter().map(row).collect::<Vec<_>>())
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Validate(it) => {
                let judged: Vec<(Role, Option<String>)> = Role::ALL
                    .into_iter()
                    .map(|role| (role, effective_settings(command, role, Some(&it.file)).err()))
                    .collect();
                let wrong = judged.iter().any(|(_, error)| error.is_some());
                let said = |error: Option<&String>| error.cloned().unwrap_or_else(|| "good".to_owned());
                let value = judged
                    .iter()
                    .map(|(role, error)| (role.name().to_owned(), Value::from(said(error.as_ref()))));
                let value = Value::Object(value.collect());
                let row = |(role, error): &(Role, Option<String>)| {
                    vec![role.name().to_owned(), said(error.as_ref())]
                };
                it.output.print_value(&value, || {
                    format_table(&["role", "settings"], &judged.iter().map(row).collect::<Vec<_>>())
                })?;
                Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
            }
        }
    }
}
