//! Makes the references of settings and commands, `docs/configuration.md` and `docs/commands.md`, from the command line
//! itself. A test compares both files with it; `UPDATE_DOCS=1` writes them again.

use std::collections::BTreeSet;
use std::fmt::Write;

use clap::{Arg, ArgAction, Command, CommandFactory};
use liverank_protocol::roles::Role;

use crate::cli::{self, Cli};

const SETTINGS_INTRODUCTION: &str = "\
# Settings

Made from the command line of `liverank`; a test compares this file with it (`UPDATE_DOCS=1 cargo test -p liverank reference`
writes it anew). `liverank ROLE --help-all` prints the same for one role, and `liverank config show ROLE` the values in force.

Each setting is a flag, a variable and a key of a YAML file (`--config`). `--kafka-topic` is the variable
`LIVERANK_KAFKA_TOPIC` and the key `kafka-topic`. Flags win over variables, variables over the file, the file over defaults.
A duration is a number with `ms`, `s`, `m`, `h` or `d`: `500ms`, `30s`, `5m`. A plain number is in the unit that the name has, or in seconds.
Where there is no default, the table has a dash. What the operator sets on Kubernetes: [roles](roles.md) and
[the resource](resource.md).

";

const COMMANDS_INTRODUCTION: &str = "\
# Commands

Made from the command line of `liverank`; a test compares this file with it (`UPDATE_DOCS=1 cargo test -p liverank reference`
writes it anew). The roles (`gateway`, `consumer`, …) and `up` are in [settings](configuration.md). `liverank man DIR` writes
the same as manual pages.

Where a table ends with *settings of …*, the command takes these settings as the roles do. A duration is a number with `ms`, `s`,
`m`, `h` or `d`: `500ms`, `30s`, `5m`. A plain number is in the unit that the name has, or in seconds.

";

/// The headings of settings that most tools share. The reference of each command only refers to them.
const SHARED_HEADINGS: [&str; 5] = ["Stores", "Process", "Identity", "TLS", "Traces"];

/// One row of a table of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    flag: String,
    heading: Option<String>,
    default: String,
    meaning: String,
}

impl Setting {
    fn from_arg(arg: &Arg) -> Self {
        let name = match (arg.get_long(), arg.get_value_names()) {
            // A value's name that only repeats the flag's name is left out.
            (Some(long), Some([value]))
                if takes_value(arg) && *value != long.to_uppercase().replace('-', "_") =>
            {
                format!("--{long} <{value}>")
            }
            (Some(long), _) => format!("--{long}"),
            (None, _) => arg.to_string(),
        };
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let default = match defaults.as_slice() {
            [] => "–".to_owned(),
            values => code_in_cell(&values.join(",")),
        };
        let help =
            arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> =
            arg.get_possible_values().iter().map(|value| code_in_cell(value.get_name())).collect();
        let values = if values.is_empty() || !takes_value(arg) || arg.is_hide_possible_values_set() {
            String::new()
        } else {
            format!(" One of {}.", values.join(", "))
        };
        Self {
            flag: code_in_cell(&name),
            heading: arg.get_help_heading().map(str::to_owned),
            default,
            meaning: table_cell_text(&help_as_sentence(&help)) + &values,
        }
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Returns text as code in a table's cell. A `|` is escaped, because it would end the cell even inside code.
fn code_in_cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// Returns text for a table's cell: on one line, and with the characters escaped that Markdown takes for the end of a
/// cell or for a tag.
fn table_cell_text(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let outside_code = |(at, part): (usize, &str)| {
        if at % 2 == 0 { part.replace('<', "&lt;").replace('*', "\\*") } else { part.to_owned() }
    };
    words.split('`').enumerate().map(outside_code).collect::<Vec<_>>().join("`")
}

/// Returns a help text as a sentence: clap removes the full stop of a help of one paragraph, and it is added again.
fn help_as_sentence(help: &str) -> String {
    let help = help.trim();
    if help.is_empty() || help.ends_with(['.', ':', '?', '!']) { help.to_owned() } else { format!("{help}.") }
}

fn settings_of(command: &Command) -> Vec<Setting> {
    let is_own =
        |arg: &&Arg| !arg.is_hide_set() && !["help", "help_all", "version"].contains(&arg.get_id().as_str());
    command.get_arguments().filter(is_own).map(Setting::from_arg).collect()
}

/// Returns the command line with the defaults of each role, and with the backticks that its help has in the source.
fn documented_command_line() -> Command {
    let mut command = cli::with_default_addresses(Cli::command());
    command.build();
    command
}

fn write_settings_table(text: &mut String, settings: &[Setting]) {
    text.push_str("| setting | default | meaning |\n|---|---|---|\n");
    for setting in settings {
        let _ = writeln!(text, "| {} | {} | {} |", setting.flag, setting.default, setting.meaning);
    }
    text.push('\n');
}

fn command_summary(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
    help_as_sentence(&about.unwrap_or_default()).replace('<', "&lt;")
}

/// Returns the text of `docs/configuration.md`: the settings of several roles, then those of each role alone.
fn settings_document() -> String {
    let command = documented_command_line();
    let names = Role::ALL.map(Role::name);
    let roles: Vec<(&str, Vec<Setting>)> = names
        .into_iter()
        .map(|name| (name, settings_of(command.find_subcommand(name).expect("a role is a command"))))
        .collect();
    let takers = |setting: &Setting| {
        let has =
            |(name, settings): &(&'static str, Vec<Setting>)| settings.contains(setting).then_some(*name);
        roles.iter().filter_map(has).collect::<Vec<_>>()
    };
    let mut shared: Vec<&Setting> = Vec::new();
    for setting in roles.iter().flat_map(|(_, settings)| settings) {
        if takers(setting).len() > 1 && !shared.contains(&setting) {
            shared.push(setting);
        }
    }
    let mut text = String::from(SETTINGS_INTRODUCTION);
    text.push_str("## Settings of several roles\n\n");
    let mut headings: Vec<&str> = Vec::new();
    for heading in shared.iter().map(|setting| heading_of(setting)) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for heading in headings {
        let _ = writeln!(text, "### {heading}\n\n| setting | roles | default | meaning |\n|---|---|---|---|");
        for setting in shared.iter().filter(|setting| heading_of(setting) == heading) {
            let of = takers(setting);
            let of = if of.len() == roles.len() { "all".to_owned() } else { of.join(", ") };
            let _ = writeln!(text, "| {} | {of} | {} | {} |", setting.flag, setting.default, setting.meaning);
        }
        text.push('\n');
    }
    for (name, settings) in &roles {
        let own: Vec<Setting> = settings.iter().filter(|it| !shared.contains(it)).cloned().collect();
        let _ = writeln!(
            text,
            "## {name}\n\n{}\n",
            command_summary(command.find_subcommand(name).expect("a role"))
        );
        write_settings_table(&mut text, &own);
    }
    let up = command.find_subcommand("up").expect("up is a command");
    let of_roles: Vec<&Setting> = roles.iter().flat_map(|(_, settings)| settings).collect();
    let is_new =
        |it: &Setting| !of_roles.iter().any(|other| other.flag == it.flag && other.default == it.default);
    let own: Vec<Setting> = settings_of(up).into_iter().filter(is_new).collect();
    let _ = writeln!(
        text,
        "## up\n\n{}\n\nIt takes the settings of the parts that it runs as they do, and these:\n",
        command_summary(up)
    );
    write_settings_table(&mut text, &own);
    text.trim_end().to_owned() + "\n"
}

fn heading_of(setting: &Setting) -> &str {
    setting.heading.as_deref().unwrap_or("Addresses")
}

/// Returns the text of `docs/commands.md`: each command that is not a role, with its own settings.
fn commands_document() -> String {
    let mut command = documented_command_line();
    let mut text = String::from(COMMANDS_INTRODUCTION);
    for below in command.get_subcommands_mut() {
        let is_role =
            below.get_name() == "up" || Role::ALL.iter().any(|role| role.name() == below.get_name());
        if !is_role && below.get_name() != "help" {
            write_command(&mut text, below, 2);
        }
    }
    text.trim_end().to_owned() + "\n"
}

fn write_command(text: &mut String, command: &mut Command, depth: usize) {
    let path = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let _ = writeln!(text, "{} {path}\n\n{}\n", "#".repeat(depth), command_summary(command));
    if !command.has_subcommands() {
        write_usage(text, command);
    }
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        write_command(text, below, depth + 1);
    }
}

fn write_usage(text: &mut String, command: &mut Command) {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(text, "```text\n{usage}\n```\n");
    let settings = settings_of(command);
    let is_shared =
        |it: &&Setting| it.heading.as_deref().is_some_and(|heading| SHARED_HEADINGS.contains(&heading));
    let own: Vec<Setting> = settings.iter().filter(|it| !is_shared(it)).cloned().collect();
    if !own.is_empty() {
        write_settings_table(text, &own);
    }
    let shared: BTreeSet<&str> =
        settings.iter().filter(is_shared).filter_map(|it| it.heading.as_deref()).collect();
    if !shared.is_empty() {
        let links: Vec<String> = shared
            .iter()
            .map(|heading| format!("[{heading}](configuration.md#{})", heading.to_lowercase()))
            .collect();
        let _ = writeln!(text, "Also settings of {}.\n", links.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_document_is_current(name: &str, text: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "docs/{name} differs: UPDATE_DOCS=1 writes it anew");
    }

    #[test]
    fn the_reference_of_settings_is_that_of_the_command_line() {
        assert_document_is_current("configuration.md", &settings_document());
    }

    #[test]
    fn the_reference_of_commands_is_that_of_the_command_line() {
        assert_document_is_current("commands.md", &commands_document());
    }

    /// Checks the statement of the introduction that a flag, its variable and its key have the same name.
    #[test]
    fn every_variable_of_a_role_follows_from_its_flag() {
        let command = documented_command_line();
        for role in Role::ALL {
            let flags = command.find_subcommand(role.name()).unwrap().get_arguments();
            for arg in flags.filter(|arg| !arg.is_hide_set()) {
                let Some(long) =
                    arg.get_long().filter(|long| !long.starts_with("help") && *long != "version")
                else {
                    continue;
                };
                let expected = format!("LIVERANK_{}", long.to_uppercase().replace('-', "_"));
                let variable = arg.get_env().map(|env| env.to_string_lossy().into_owned());
                assert_eq!(variable.as_deref(), Some(expected.as_str()), "{} --{long}", role.name());
            }
        }
    }

    #[test]
    fn a_cell_ends_neither_at_a_bar_nor_with_a_tag() {
        assert_eq!(table_cell_text("a | b\n<c> `d<e>` *f*"), "a \\| b &lt;c> `d<e>` \\*f\\*");
    }
}
