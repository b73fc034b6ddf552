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
use liverank_runtime::output::{OutputArgs, format_table};
use serde_json::{Value, json};

/// The subcommands of `liverank identity`.
#[derive(Debug, Clone, Subcommand)]
pub enum IdentityCommand {
    /// Prints a token for a manager or the statistics service, to be sent as `Authorization: Bearer …`.
    Token(TokenArgs),
    /// Prints the key file of one process, derived from the secret: whoever steals the file can act as that process
    /// only. Managers need the secret itself, because they have to know every reader.
    Derive(DeriveArgs),
    /// Writes a secret and all key files below a directory, if they are missing: `master/key` for managers,
    /// `<role>/key` and `<reader>/key` for the others.
    Init(InitArgs),
}

/// The flag that names the file of the identity secret.
#[derive(Debug, Clone, Args)]
pub struct SecretFileArgs {
    /// A file with the secret from which all keys are derived, or (for a token) with one process's key.
    #[arg(long, env = "LIVERANK_IDENTITY_KEY_FILE", value_name = "FILE")]
    identity_key_file: PathBuf,
}

/// The arguments of `liverank identity token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    secret: SecretFileArgs,
    /// The caller to whom the token belongs: cli, operator, gateway, …
    #[arg(long = "for", value_name = "CALLER", default_value = "cli")]
    caller: KnownCaller,
    /// The service that accepts it.
    #[arg(long = "to", value_name = "SERVICE", default_value = "manager")]
    service: TokenAudience,
    /// The lifetime of the token, a day at most.
    #[arg(long, alias = "seconds", value_name = "DURATION", default_value = "5m",
          value_parser = parser_of_range(Duration::from_secs(1), Duration::from_hours(24)))]
    valid_for: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// The services that accept tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TokenAudience {
    Manager,
    Statistics,
}

/// The arguments of `liverank identity derive`.
#[derive(Debug, Clone, Args)]
pub struct DeriveArgs {
    #[command(flatten)]
    secret: SecretFileArgs,
    /// The owner of the key: gateway, statistics, reader/<id>, …
    #[arg(long = "for", value_name = "CALLER")]
    caller: KnownCaller,
    #[command(flatten)]
    output: OutputArgs,
}

/// The arguments of `liverank identity init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// The directory below which the files are written.
    directory: PathBuf,
    /// The ids of the readers, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    reader: Vec<String>,
    /// Lets everybody on the machine read the files: if each is on a volume that only its own container has.
    #[arg(long)]
    readable: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl IdentityCommand {
    /// Runs the subcommand of `liverank identity`.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Token(it) => {
                let source = KeyRing::from_file(&it.secret.identity_key_file)?.token_source(&it.caller)?;
                let service = match it.service {
                    TokenAudience::Manager => CalledService::Manager,
                    TokenAudience::Statistics => CalledService::Statistics,
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

impl InitArgs {
    fn run(&self) -> anyhow::Result<()> {
        let mode = if self.readable { 0o444 } else { 0o400 };
        let secret = self.directory.join("master/key");
        if !secret.exists() {
            write_new_file(&secret, &to_hex(&rand::random::<[u8; 32]>()), mode)?;
        }
        let all = KeyRing::from_file(&secret)?;
        let mut written = vec![(secret, "manager".to_owned())];
        let roles = [CallerRole::Gateway, CallerRole::Statistics, CallerRole::Cli]
            .into_iter()
            .filter_map(KnownCaller::of_role);
        let mut callers: Vec<(String, KnownCaller)> =
            roles.map(|caller| (caller.to_string(), caller)).collect();
        for reader in &self.reader {
            callers.push((reader.clone(), format!("reader/{reader}").parse()?));
        }
        for (name, caller) in callers {
            // Every file is written again each time, because its content is derived from the secret.
            let file = self.directory.join(name).join("key");
            write_new_file(&file, &all.key_file_of(&caller)?, mode)?;
            written.push((file, caller.to_string()));
        }
        self.print_files(&written)
    }

    /// Prints the key files, each with the process to which it belongs.
    fn print_files(&self, written: &[(PathBuf, String)]) -> anyhow::Result<()> {
        let shown = |file: &Path| file.display().to_string();
        let files: Vec<Value> =
            written.iter().map(|(file, owner)| json!({"file": shown(file), "for": owner})).collect();
        let rows: Vec<Vec<String>> =
            written.iter().map(|(file, owner)| vec![shown(file), owner.clone()]).collect();
        self.output.print_value(&json!({"files": files}), || format_table(&["file", "for"], &rows))
    }
}

/// The file of the identity secret below the data directory of `liverank up`.
pub const DATA_KEY_FILE: &str = "identity.key";

/// Opens the identity secret below a data directory; makes one if there is none. Only the owner of the directory can
/// read the secret.
pub fn open_or_create_key_ring(data_dir: &Path) -> anyhow::Result<KeyRing> {
    let file = data_dir.join(DATA_KEY_FILE);
    if !file.exists() {
        write_new_file(&file, &to_hex(&rand::random::<[u8; 32]>()), 0o400)?;
    }
    KeyRing::from_file(&file)
}

/// Writes a file to a temporary name and renames it, so that nobody ever sees a part of the file.
fn write_new_file(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let directory = file.parent().unwrap_or(file);
        std::fs::create_dir_all(directory)?;
        let new = file.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        std::fs::rename(&new, file)
    };
    write().with_context(|| format!("writing {}", file.display()))
}
