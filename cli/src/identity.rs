//! `liverank identity`: makes keys and tokens by which liverank processes identify themselves, anywhere but on
//! Kubernetes.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use liverank_core::comment::to_hex;
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::identity::local::KeyRing;
use liverank_runtime::output::OutputArgs;
use serde_json::json;

/// The subcommands of `liverank identity`.
#[derive(Debug, Clone, Subcommand)]
pub enum IdentityCommand {
    /// Prints a token for a manager or the statistics service, to be sent as `Authorization: Bearer …`.
    Token(Token),
    /// Prints the key file of one process, derived from the secret: whoever steals the file can act as that process
    /// only. Managers need the secret itself, because they have to know every reader.
    Derive(Derive),
    /// Writes a secret and all key files below a directory, if they are missing: `master/key` for managers,
    /// `<role>/key` and `<reader>/key` for the others.
    Init(Init),
}

/// The flag that names the file of the identity secret.
#[derive(Debug, Clone, Args)]
pub struct Secret {
    /// A file with the secret from which all keys are derived, or (for a token) with one process's key.
    #[arg(long, env = "LIVERANK_IDENTITY_KEY_FILE", value_name = "FILE")]
    identity_key_file: PathBuf,
}

/// The arguments of `liverank identity token`.
#[derive(Debug, Clone, Args)]
pub struct Token {
    #[command(flatten)]
    secret: Secret,
    /// The caller to whom the token belongs: cli, operator, gateway, …
    #[arg(long = "for", value_name = "CALLER", default_value = "cli")]
    caller: KnownCaller,
    /// The service that accepts it.
    #[arg(long = "to", value_name = "SERVICE", default_value = "manager")]
    service: TokenTaker,
    /// The lifetime of the token, a day at most.
    #[arg(long, alias = "seconds", value_name = "DURATION", default_value = "5m",
          value_parser = parser_of_range(Duration::from_secs(1), Duration::from_hours(24)))]
    valid_for: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// The services that accept tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TokenTaker {
    Manager,
    Statistics,
}

/// The arguments of `liverank identity derive`.
#[derive(Debug, Clone, Args)]
pub struct Derive {
    #[command(flatten)]
    secret: Secret,
    /// The owner of the key: gateway, statistics, reader/<id>, …
    #[arg(long = "for", value_name = "CALLER")]
    caller: KnownCaller,
    #[command(flatten)]
    output: OutputArgs,
}

/// The arguments of `liverank identity init`.
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// The directory below which the files are written.
    directory: PathBuf,
    /// The ids of the readers, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    reader: Vec<String>,
    /// Lets everybody on the machine read the files: if each is on a volume that only its own container has.
    #[arg(long)]
    readable: bool,
}

impl IdentityCommand {
    /// Runs the subcommand of `liverank identity`.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Token(it) => {
                let source = KeyRing::from_file(&it.secret.identity_key_file)?.token_source(&it.caller)?;
                let service = match it.service {
                    TokenTaker::Manager => CalledService::Manager,
                    TokenTaker::Statistics => CalledService::Statistics,
                };
                let now = liverank_runtime::now_micros() / 1_000_000;
                let token = source.sign_token(service, now, it.valid_for.as_secs());
                it.output.print_value(&json!({"token": token}), || format!("{token}\n"))?;
            }
            Self::Derive(it) => {
                let derived = KeyRing::from_file(&it.secret.identity_key_file)?.key_file_of(&it.caller)?;
                it.output.print_value(&json!({"key": derived}), || format!("{derived}\n"))?;
            }
            Self::Init(it) => it.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Init {
    fn run(&self) -> anyhow::Result<()> {
        let secret = self.directory.join("master/key");
        if !secret.exists() {
            self.write_new_file(&secret, &to_hex(&rand::random::<[u8; 32]>()))?;
        }
        let all = KeyRing::from_file(&secret)?;
        let roles = [CallerRole::Gateway, CallerRole::Statistics, CallerRole::Cli]
            .into_iter()
            .filter_map(KnownCaller::of);
        let mut callers: Vec<(String, KnownCaller)> =
            roles.map(|caller| (caller.to_string(), caller)).collect();
        for reader in &self.reader {
            callers.push((reader.clone(), format!("reader/{reader}").parse()?));
        }
        for (name, caller) in callers {
            // Every file is written again each time, because its content is derived from the secret.
            self.write_new_file(&self.directory.join(name).join("key"), &all.key_file_of(&caller)?)?;
        }
        Ok(())
    }

    fn write_new_file(&self, file: &Path, text: &str) -> anyhow::Result<()> {
        let mode = if self.readable { 0o444 } else { 0o400 };
        let write = || {
            let directory = file.parent().unwrap_or(file);
            std::fs::create_dir_all(directory)?;
            // A rename puts the file in place at once or not at all.
            let new = file.with_extension("new");
            let _ = std::fs::remove_file(&new);
            let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
            opened.write_all(text.as_bytes())?;
            opened.sync_all()?;
            std::fs::rename(&new, file)
        };
        write().with_context(|| format!("writing {}", file.display()))
    }
}
