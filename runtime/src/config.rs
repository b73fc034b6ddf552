//! Configuration in layers: flags over `LIVERANK_*` over a YAML file over defaults, all under the same names, and a
//! wrong key or value in any of them refused by name.
//!
//! The YAML file (`--config`, `LIVERANK_CONFIG`) holds what the flags hold, with or without nesting: `kafka: …` and
//! `trending: {half-life: …}` set `--kafka` and `--trending-half-life`. One file may serve every role: a key that only
//! another role has is passed over, one that no role has is an error.
//!
//! A file that the operator wrote is the exception: after a rollback the image may be older than the file, and a process
//! that refuses to start helps nobody. What it does not know there is left out, logged as a warning, and counted
//! (`liverank_process_ignored_settings`); see [`ignored_keys`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::{Arg, Command, FromArgMatches, Id};
use serde_yaml::Value;

mod effective;
mod spelling;
mod unknown_flag;

pub use effective::{EffectiveSetting, SettingSource, effective_settings};
use spelling::nearest_name;

/// The prefix of our environment variables.
const VARIABLE_PREFIX: &str = "LIVERANK_";
/// The first line of a file that the operator wrote.
pub const OPERATOR_FILE_HEADER: &str = "# Written by liverank-operator";
/// The environment variable that names the configuration file; the flag `--config` does the same.
const CONFIG_FILE_VARIABLE: &str = "LIVERANK_CONFIG";
const CONFIG_FILE_FLAG: &str = "--config";

/// The reason why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or a value is wrong, or a required one is missing; clap's error says which.
    #[error(transparent)]
    BadValue(#[from] clap::Error),
    /// The file cannot be read.
    #[error("the configuration file {}: {reason}", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// The reason why the setting is refused.
        reason: String,
    },
    /// The file has a key that is not the name of any setting.
    #[error("the configuration file {}: unknown key `{key}`{}", path.display(), spelling_hint(meant.as_ref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as written, nesting joined with `.`.
        key: String,
        /// The most similar name that exists, if there is one.
        meant: Option<String>,
    },
    /// The environment has a `LIVERANK_*` variable that does not belong to any setting.
    #[error("the environment variable {name} is not one of liverank's{}", spelling_hint(meant.as_ref()))]
    UnknownVariable {
        /// The name of the variable.
        name: String,
        /// The most similar name that exists, if there is one.
        meant: Option<String>,
    },
}

static IGNORED_KEYS: OnceLock<Vec<String>> = OnceLock::new();

/// Returns the keys in the operator's file that this process does not know and ignores.
pub fn ignored_keys() -> &'static [String] {
    IGNORED_KEYS.get().map_or(&[], Vec::as_slice)
}

fn spelling_hint(meant: Option<&String>) -> String {
    meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default()
}

/// Parses the settings of `command` from the command line `args` (with the program's name first), the environment, and
/// the configuration file that one of these names.
pub fn parse_settings<P: FromArgMatches>(
    command: Command,
    args: &[OsString],
    environment: &BTreeMap<String, String>,
) -> Result<P, ConfigError> {
    let (mut command, read) = with_file_layer(command, args, environment)?;
    if let Some(read) = read {
        // A process has one command line: there is nothing to replace.
        let _ = IGNORED_KEYS.set(read.ignored_keys);
    }
    let matches = command
        .try_get_matches_from_mut(args)
        .map_err(|error| unknown_flag::with_right_hint(error, &command, args))?;
    Ok(P::from_arg_matches(&matches)?)
}

/// The settings that were read from a file.
struct FileSettings {
    /// The keys in the file that this process does not know and ignores.
    ignored_keys: Vec<String>,
    /// The names of the flags that the file sets.
    flags_set: Vec<String>,
}

/// Returns the command with the values of the configuration file as its defaults.
fn with_file_layer(
    command: Command,
    args: &[OsString],
    environment: &BTreeMap<String, String>,
) -> Result<(Command, Option<FileSettings>), ConfigError> {
    check_variables(&command, environment)?;
    let command = without_blank_variables(command, environment);
    let Some(path) = config_file_path(args, environment) else { return Ok((command, None)) };
    let file = read_config_file(&path)?;
    let flags_set =
        file.keys.iter().filter(|(_, value)| !is_blank(value)).map(|(key, _)| flag_of_key(key)).collect();
    let (command, ignored_keys) = with_file_defaults(command, &path, args, environment, file)?;
    Ok((command, Some(FileSettings { ignored_keys, flags_set })))
}

/// Returns the name, without dashes, of the flag that a key of the file sets.
fn flag_of_key(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

fn check_variables(command: &Command, environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let known: Vec<String> = all_args(command)
        .filter_map(|arg| arg.get_env().map(|name| name.to_string_lossy().into_owned()))
        .chain([CONFIG_FILE_VARIABLE.to_owned()])
        .collect();
    // Variables for tests and for Kubernetes' service links are not ours to judge.
    let foreign = |name: &str| {
        // `LIVERANK_BIN` and `LIVERANK_CACHE` are for our tests, as everything that begins with `LIVERANK_TEST`.
        name.starts_with("LIVERANK_TEST")
            || ["LIVERANK_BIN", "LIVERANK_CACHE"].contains(&name)
            || ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end))
            || name.contains("_SERVICE_PORT_")
            || name.contains("_PORT_")
    };
    let is_set = |name: &str| environment.get(name).is_some_and(|value| !is_blank(value));
    let unknown =
        |name: &&String| name.starts_with(VARIABLE_PREFIX) && !known.contains(name) && !foreign(name);
    match environment.keys().filter(|name| is_set(name)).find(unknown) {
        None => Ok(()),
        Some(name) => Err(ConfigError::UnknownVariable {
            name: name.clone(),
            meant: nearest_name(name, known.iter()).cloned(),
        }),
    }
}

fn is_blank(value: &str) -> bool {
    value.trim().is_empty()
}

/// Returns the command without its environment variables that are blank, because templates (of Compose or of a chart)
/// write a blank value for a setting that is not set.
fn without_blank_variables(command: Command, environment: &BTreeMap<String, String>) -> Command {
    let blank = |arg: &Arg| {
        let name = arg.get_env().map(|name| name.to_string_lossy().into_owned());
        name.and_then(|name| environment.get(&name)).is_some_and(|value| is_blank(value))
    };
    let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = command.mut_args(|arg| if blank(&arg) { arg.env(None::<&'static str>) } else { arg });
    below.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| without_blank_variables(below, environment))
    })
}

/// Returns the arguments of a command and of all its subcommands.
fn all_args(command: &Command) -> Box<dyn Iterator<Item = &Arg> + '_> {
    Box::new(command.get_arguments().chain(command.get_subcommands().flat_map(all_args)))
}

fn config_file_path(args: &[OsString], environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == CONFIG_FILE_FLAG {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    environment.get(CONFIG_FILE_VARIABLE).filter(|path| !is_blank(path)).map(PathBuf::from)
}

/// A configuration file.
struct ConfigFile {
    /// The values in the file by their keys; the parts of a nested key are joined with `.`.
    keys: BTreeMap<String, String>,
    /// Whether the operator wrote it.
    is_written_by_operator: bool,
}

fn read_config_file(path: &Path) -> Result<ConfigFile, ConfigError> {
    let file_error = |reason: String| ConfigError::UnreadableFile { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| file_error(error.to_string()))?;
    let value: Value = serde_yaml::from_str(&text).map_err(|error| file_error(error.to_string()))?;
    let mut keys = BTreeMap::new();
    flatten_value(&value, String::new(), &mut keys).map_err(file_error)?;
    Ok(ConfigFile { keys, is_written_by_operator: text.lines().next() == Some(OPERATOR_FILE_HEADER) })
}

fn flatten_value(value: &Value, key: String, keys: &mut BTreeMap<String, String>) -> Result<(), String> {
    let leaf = match value {
        Value::Null => return Ok(()),
        Value::Mapping(mapping) => {
            for (name, value) in mapping {
                let name = name.as_str().ok_or_else(|| format!("a key below `{key}` is not a string"))?;
                let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                flatten_value(value, key, keys)?;
            }
            return Ok(());
        }
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar_text).collect();
            items.ok_or_else(|| format!("`{key}` must be a list of plain values"))?.join(",")
        }
        value => scalar_text(value).ok_or_else(|| format!("`{key}` must be a plain value"))?,
    };
    if key.is_empty() {
        return Err("must be a mapping of keys to values".into());
    }
    keys.insert(key, leaf);
    Ok(())
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        _ => None,
    }
}

fn with_file_defaults(
    mut command: Command,
    path: &Path,
    args: &[OsString],
    environment: &BTreeMap<String, String>,
    file: ConfigFile,
) -> Result<(Command, Vec<String>), ConfigError> {
    let subcommands = chosen_subcommands(&command, args);
    let mut ignored = Vec::new();
    for (key, value) in file.keys {
        let long = flag_of_key(&key);
        let has_long = |arg: &&Arg| arg.get_long() == Some(&long);
        let Some(found) = all_args(&command).find(has_long).map(|arg| arg.get_id().clone()) else {
            if file.is_written_by_operator {
                ignored.push(key);
                continue;
            }
            let known: Vec<&str> = all_args(&command).filter_map(Arg::get_long).collect();
            let meant = nearest_name(&long, known.iter()).map(ToString::to_string);
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key, meant });
        };
        if !is_overruled(&command, &found, args, environment) {
            command = set_default(command, &subcommands, &found, &value);
        }
    }
    Ok((command, ignored))
}

/// Returns true if a flag or a variable sets an argument with which this one conflicts, as a store's address and the file
/// of its address do. The flag or variable wins over the file, as if both were one setting.
fn is_overruled(
    command: &Command,
    id: &Id,
    args: &[OsString],
    environment: &BTreeMap<String, String>,
) -> bool {
    let is_given = |arg: &&Arg| {
        let flag = arg.get_long().map(|long| format!("--{long}"));
        let by_flag = flag.is_some_and(|flag| {
            let own = |given: &str| {
                given.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            args.iter().any(|given| given.to_str().is_some_and(own))
        });
        let variable = arg.get_env().and_then(|name| environment.get(&*name.to_string_lossy()));
        by_flag || variable.is_some_and(|value| !is_blank(value))
    };
    let own = command.get_arguments().find(|arg| arg.get_id() == id);
    own.is_some_and(|arg| command.get_arg_conflicts_with(arg).iter().any(is_given))
        || command.get_subcommands().any(|below| is_overruled(below, id, args, environment))
}

/// Returns the names of the subcommand in `args` and of the subcommands below it, outermost first.
fn chosen_subcommands(command: &Command, args: &[OsString]) -> Vec<String> {
    let mut path = Vec::new();
    let mut command = command;
    for arg in args.iter().skip(1) {
        match arg.to_str().and_then(|arg| command.find_subcommand(arg)) {
            Some(found) => {
                path.push(found.get_name().to_owned());
                command = found;
            }
            // A name below another follows at once: what else may come there belongs to the lower one.
            None if !path.is_empty() => break,
            None => {}
        }
    }
    path
}

fn set_default(command: Command, path: &[String], id: &Id, value: &str) -> Command {
    let has = command.get_arguments().any(|arg| arg.get_id() == id);
    let command = if has {
        command.mut_arg(id, |arg| {
            if is_blank(value) {
                // An empty list is none at all, of services that there are not; anything else that is blank is not set.
                let is_list = arg.get_value_delimiter().is_some();
                return if is_list { arg.required(false).default_values(Vec::<String>::new()) } else { arg };
            }
            // What is hidden of the environment is a secret of the file, too, and --help shows defaults.
            let is_secret = arg.is_hide_env_values_set();
            arg.required(false).default_value(value.to_owned()).hide_default_value(is_secret)
        })
    } else {
        command
    };
    match path.split_first() {
        None => command,
        Some((first, rest)) => command.mut_subcommand(first, |below| set_default(below, rest, id, value)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser, Debug)]
    #[command(name = "test")]
    enum ExampleCli {
        Gateway {
            #[arg(long, env = "LIVERANK_KAFKA")]
            kafka: Option<String>,
            #[arg(long, conflicts_with = "kafka")]
            kafka_file: Option<String>,
            #[arg(long, env = "LIVERANK_LISTEN", default_value = "0.0.0.0:8080")]
            listen: std::net::SocketAddr,
        },
        Reader {
            #[arg(long)]
            ring_size: Option<u32>,
            #[arg(long, value_delimiter = ',', default_value = "8080")]
            ports: Vec<u16>,
            #[arg(long, env = "LIVERANK_PASSWORD", hide_env_values = true)]
            password: Option<String>,
        },
        #[command(subcommand)]
        Rebuild(ExampleRebuild),
    }

    #[derive(Parser, Debug)]
    enum ExampleRebuild {
        Scores {
            #[arg(long, env = "LIVERANK_WEIGHT", default_value = "1")]
            weight: u32,
        },
    }

    fn parse_example(args: &[&str], env: &[(&str, &str)], file: Option<&str>) -> Result<ExampleCli, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("liverank.yaml");
        let mut args: Vec<OsString> = ["test"].iter().chain(args).map(OsString::from).collect();
        if let Some(file) = file {
            std::fs::write(&path, file).unwrap();
        }
        let mut env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        if file.is_some() {
            env.insert(CONFIG_FILE_VARIABLE.into(), path.to_string_lossy().into_owned());
        }
        args.retain(|arg| !arg.is_empty());
        parse_settings(ExampleCli::command(), &args, &env).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_override_the_config_file() {
        let file = "kafka: from-file\nlisten: 127.0.0.1:1\n";
        let ExampleCli::Gateway { kafka, listen, .. } =
            parse_example(&["gateway", "--listen", "127.0.0.1:2"], &[], Some(file)).unwrap()
        else {
            panic!("another role")
        };
        assert_eq!((kafka.as_deref(), listen.port()), (Some("from-file"), 2));
    }

    #[test]
    fn a_flag_or_variable_overrides_a_key_that_says_the_same_in_another_way() {
        let file = Some("kafka-file: production\n");
        for (args, environment, expected) in [
            (&["gateway"][..], &[][..], Some("production")),
            (&["gateway", "--kafka", "mine"], &[], None),
            (&["gateway", "--kafka=mine"], &[], None),
            (&["gateway"], &[("LIVERANK_KAFKA", "mine")], None),
            (&["gateway"], &[("LIVERANK_KAFKA", " ")], Some("production")),
        ] {
            let ExampleCli::Gateway { kafka, kafka_file, .. } =
                parse_example(args, environment, file).unwrap()
            else {
                panic!("another command");
            };
            assert_eq!(kafka_file.as_deref(), expected, "{args:?} {environment:?}");
            assert_eq!(
                kafka.is_some(),
                args.len() > 1,
                "variables are read from the process's own environment"
            );
        }
    }

    #[test]
    fn keys_of_other_roles_are_ignored_and_nested_keys_are_joined() {
        assert!(parse_example(&["gateway"], &[], Some("ring: {size: 5}\n")).is_ok());
        let ExampleCli::Reader { ring_size, .. } =
            parse_example(&["reader"], &[], Some("ring: {size: 5}\n")).unwrap()
        else {
            panic!("another role")
        };
        assert_eq!(ring_size, Some(5));
    }

    #[test]
    fn help_shows_what_the_file_says_and_none_of_its_secrets() {
        let file = "password: very-secret\nring: {size: 7}\n";
        let help = parse_example(&["reader", "--help"], &[], Some(file)).unwrap_err();
        assert!(help.contains("--password") && help.contains("[default: 7]"), "{help}");
        assert!(!help.contains("very-secret"), "{help}");
        let ExampleCli::Reader { password, .. } = parse_example(&["reader"], &[], Some(file)).unwrap() else {
            panic!("another role")
        };
        assert_eq!(password.as_deref(), Some("very-secret"));
    }

    #[test]
    fn a_nested_command_has_file_and_environment_layers() {
        let weight = |args: &[&str], file| match parse_example(args, &[], file).unwrap() {
            ExampleCli::Rebuild(ExampleRebuild::Scores { weight }) => weight,
            other => panic!("{other:?}"),
        };
        assert_eq!(weight(&["rebuild", "scores"], Some("weight: 3\nring: {size: 5}\n")), 3);
        assert_eq!(weight(&["rebuild", "scores", "--weight", "4"], Some("weight: 3\n")), 4);
        assert!(parse_example(&["gateway"], &[("LIVERANK_WEIGHT", "2")], None).is_ok());
    }

    #[test]
    fn an_empty_list_is_a_valid_setting() {
        for (file, expected) in [
            ("ports: []\n", vec![]),
            ("ports: ''\n", vec![]),
            ("ports: [1, 2]\n", vec![1, 2]),
            ("ports: 3\n", vec![3]),
            ("ring-size: 1\n", vec![8080]),
        ] {
            let ExampleCli::Reader { ports, .. } = parse_example(&["reader"], &[], Some(file)).unwrap()
            else {
                panic!("another role")
            };
            assert_eq!(ports, expected, "{file}");
        }
    }

    #[test]
    fn blank_variables_count_as_unset() {
        for file in ["listen: ''\n", "listen: '  '\n", "listen:\n"] {
            let ExampleCli::Gateway { listen, .. } = parse_example(&["gateway"], &[], Some(file)).unwrap()
            else {
                panic!("another role")
            };
            assert_eq!(listen.port(), 8080, "{file}");
        }
        for name in ["LIVERANK_CONFIG", "LIVERANK_LISTEN", "LIVERANK_UNKNOWN"] {
            assert!(parse_example(&["gateway"], &[(name, " ")], None).is_ok(), "{name}");
        }
        // clap reads the process's own environment: of a variable that is blank it must not.
        let blank = BTreeMap::from([
            ("LIVERANK_LISTEN".into(), String::new()),
            ("LIVERANK_WEIGHT".into(), " ".into()),
        ]);
        let command = without_blank_variables(ExampleCli::command(), &blank);
        let of: Vec<_> = all_args(&command).filter_map(Arg::get_env).collect();
        assert_eq!(of, ["LIVERANK_KAFKA", "LIVERANK_PASSWORD"]);
    }

    #[test]
    fn wrong_keys_and_values_are_named_in_the_error() {
        let error = parse_example(&["gateway"], &[], Some("kafak: x\n")).unwrap_err();
        assert!(error.contains("`kafak`") && error.contains("did you mean kafka?"), "{error}");
        let error = parse_example(&["gateway"], &[], Some("listen: nowhere\n")).unwrap_err();
        assert!(error.contains("--listen") && error.contains("nowhere"), "{error}");
        let error = parse_example(&["gateway"], &[("LIVERANK_KAFAK", "x")], None).unwrap_err();
        assert!(error.contains("LIVERANK_KAFAK") && error.contains("LIVERANK_KAFKA?"), "{error}");
        let error = parse_example(&["gateway"], &[], Some("- 1\n")).unwrap_err();
        assert!(error.contains("liverank.yaml"), "{error}");
    }

    #[test]
    fn unknown_keys_are_ignored_only_in_the_operator_s_file() {
        let file = format!("{OPERATOR_FILE_HEADER}\nkafka: a\nfrom-a-newer-release: 7\n");
        let ExampleCli::Gateway { kafka, .. } = parse_example(&["gateway"], &[], Some(&file)).unwrap() else {
            panic!("another role")
        };
        assert_eq!(kafka.as_deref(), Some("a"), "the keys that are known count");
        let by_hand = format!("kafka: a\n{OPERATOR_FILE_HEADER}\nfrom-a-newer-release: 7\n");
        let error = parse_example(&["gateway"], &[], Some(&by_hand)).unwrap_err();
        assert!(error.contains("`from-a-newer-release`"), "{error}");
        // A value that is wrong is wrong whoever wrote it.
        let wrong = format!("{OPERATOR_FILE_HEADER}\nlisten: nowhere\n");
        assert!(parse_example(&["gateway"], &[], Some(&wrong)).unwrap_err().contains("--listen"));
        let file =
            ConfigFile { keys: [("new".to_owned(), "1".to_owned())].into(), is_written_by_operator: true };
        let (_, ignored) = with_file_defaults(
            ExampleCli::command(),
            Path::new("f"),
            &["test".into()],
            &BTreeMap::new(),
            file,
        )
        .unwrap();
        assert_eq!(ignored, ["new"]);
    }

    #[test]
    fn service_link_variables_of_kubernetes_are_ignored() {
        assert!(parse_example(&["gateway"], &[("LIVERANK_GATEWAY_PORT_8080_TCP", "x")], None).is_ok());
    }
}
