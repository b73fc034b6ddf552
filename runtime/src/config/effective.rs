//! The effective settings of a process: the value of each setting and the source of that value.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, Command};

use super::{ConfigError, chosen_subcommands, with_file_layer};

/// The source of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingSource {
    /// The value was given as a flag on the command line.
    Flag,
    /// The value was given by an environment variable.
    Variable,
    /// The value was given in the file of settings.
    File,
    /// Nobody gave a value: the setting has its default value, or none.
    Default,
}

impl std::fmt::Display for SettingSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Variable => "variable",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// One setting with its effective value and the source of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The name of the setting: the flag without its leading dashes.
    pub name: String,
    /// The value, several joined by commas; empty if the setting has none. For a secret that is set, only `(not
    /// shown)`.
    pub value: String,
    /// The source of the value: flag, variable, file or default.
    pub source: SettingSource,
}

/// Returns every setting of the subcommand that `args` name, with the value that
/// [`parse_settings`](super::parse_settings) would give it, sorted by name.
pub fn effective_settings(
    command: Command,
    args: &[OsString],
    environment: &BTreeMap<String, String>,
) -> Result<Vec<EffectiveSetting>, ConfigError> {
    let (mut command, read) = with_file_layer(command, args, environment)?;
    let path = chosen_subcommands(&command, args);
    let matches = command.try_get_matches_from_mut(args)?;
    let (mut below, mut chosen) = (&command, &matches);
    for name in &path {
        let Some(next) = below.find_subcommand(name).zip(chosen.subcommand_matches(name)) else { break };
        (below, chosen) = next;
    }
    let set = read.map(|read| read.flags_set).unwrap_or_default();
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help" && arg.get_id() != "help_all";
    let mut all: Vec<EffectiveSetting> = below
        .get_arguments()
        .filter(shown)
        .filter_map(|arg| {
            let (id, name) = (arg.get_id().as_str(), arg.get_long()?.to_owned());
            let source = match chosen.value_source(id) {
                Some(ValueSource::CommandLine) => SettingSource::Flag,
                Some(ValueSource::EnvVariable) => SettingSource::Variable,
                _ if set.contains(&name) => SettingSource::File,
                _ => SettingSource::Default,
            };
            let values = chosen.get_raw(id).into_iter().flatten();
            let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
            let is_secret = arg.is_hide_env_values_set() && !values.is_empty();
            let value = if is_secret { "(not shown)".to_owned() } else { values.join(",") };
            Some(EffectiveSetting { name, value, source })
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_told_with_where_it_comes_from() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("liverank.yaml");
        std::fs::write(&path, "kafka: from-the-file:1\n").unwrap();
        let file = path.display().to_string();
        let args = ["test", "gateway", "--config", &file].map(OsString::from);
        let environment = BTreeMap::new();
        let command = Command::new("test").subcommand(
            Command::new("gateway")
                .arg(Arg::new("config").long("config"))
                .arg(Arg::new("kafka").long("kafka").env("LIVERANK_KAFKA").hide_env_values(true))
                .arg(Arg::new("listen").long("listen").env("LIVERANK_LISTEN"))
                .arg(Arg::new("ring").long("ring").default_value("1000")),
        );
        let told = effective_settings(command, &args, &environment).unwrap();
        let told: Vec<String> =
            told.iter().map(|it| format!("{}={} ({})", it.name, it.value, it.source)).collect();
        let config = format!("config={file} (flag)");
        let expected =
            [config.as_str(), "kafka=(not shown) (file)", "listen= (default)", "ring=1000 (default)"];
        assert_eq!(told, expected);
    }
}
