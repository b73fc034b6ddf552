//! The hint in the error of a flag that does not exist: the flag that was probably meant, or none.
//!
//! clap's own hint goes by letters alone, so that `--port` would lead to `--export-boards`.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::spelling::nearest_name;

/// Words by which other programs call a setting, and our flags for it; of these the first that the command has is meant.
const WORDS_OF_OTHERS: &[(&str, &[&str])] = &[
    ("port", &["listen", "gateway-listen"]),
    ("host", &["listen", "gateway-listen"]),
    ("bind", &["listen", "gateway-listen"]),
    ("address", &["listen", "gateway-listen", "url"]),
    ("id", &["reader-id"]),
    ("name", &["reader-id"]),
    ("gateway", &["url"]),
    ("manager", &["manager-url"]),
    ("managers", &["manager-url"]),
    ("brokers", &["kafka"]),
    ("bootstrap-servers", &["kafka"]),
    ("mongo", &["mongodb"]),
    ("mongodb-uri", &["mongodb"]),
    ("redis-url", &["redis"]),
    ("key-file", &["identity-key-file"]),
    ("config-file", &["config"]),
    ("data", &["data-dir"]),
    ("dir", &["data-dir"]),
    ("format", &["output"]),
    ("log-level", &["log"]),
    ("verbose", &["log"]),
    ("debug", &["log"]),
];

/// Returns the error of a command line with the hint at the flag that was probably meant. An error about something
/// else than an unknown flag stays as it is.
pub(super) fn with_right_hint(mut error: Error, command: &Command, args: &[OsString]) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some(word) = given.strip_prefix("--") else { return error };
    let word = word.split('=').next().unwrap_or(word);
    let meant = meant_flag(word, &flags_of(called_command(command, args)));
    if error.remove(ContextKind::SuggestedArg).is_some() {
        // The usage names the flag of the hint that was removed.
        error.remove(ContextKind::Usage);
    }
    if let Some(meant) = meant {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{meant}")));
    }
    error
}

/// Returns the command, of `command` and those below it, that the words of a command line call.
fn called_command<'a>(command: &'a Command, args: &[OsString]) -> &'a Command {
    let words = args.iter().skip(1).filter_map(|word| word.to_str());
    words.fold(command, |command, word| command.find_subcommand(word).unwrap_or(command))
}

/// Returns the names of the flags that the help shows.
fn flags_of(command: &Command) -> Vec<&str> {
    command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long).collect()
}

/// Returns the flag that the unknown flag `word` probably means; `None` if there is none.
fn meant_flag<'a>(word: &str, flags: &[&'a str]) -> Option<&'a str> {
    let of_others =
        WORDS_OF_OTHERS.iter().find(|(other, _)| *other == word).map_or(&[][..], |(_, ours)| *ours);
    let ours = of_others.iter().find_map(|name| flags.iter().find(|flag| *flag == name));
    ours.or_else(|| nearest_name(word, flags.iter())).copied()
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn told(args: &[&str]) -> String {
        let flags = |command: Command, names: &'static [&str]| {
            command.args(names.iter().map(|name| Arg::new(*name).long(*name)))
        };
        let up = flags(Command::new("up"), &["gateway-listen", "export-boards", "identity-operator"]);
        let reader = flags(Command::new("reader"), &["reader-id", "listen", "identity-operator"]);
        let mut command = Command::new("test").subcommand(up).subcommand(reader);
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let error = command.try_get_matches_from_mut(&args).unwrap_err();
        with_right_hint(error, &command, &args).to_string()
    }

    #[test]
    fn a_word_of_other_programs_leads_to_our_flag_for_it() {
        for (args, flag) in [
            (["test", "up", "--port", "80"], "'--gateway-listen'"),
            (["test", "reader", "--port", "80"], "'--listen'"),
            (["test", "reader", "--id", "a"], "'--reader-id'"),
            (["test", "reader", "--lisen", "a"], "'--listen'"),
        ] {
            let text = told(&args);
            assert!(text.contains("unexpected argument") && text.contains(flag), "{text}");
        }
        assert!(told(&["test", "up", "--port=80"]).contains("'--gateway-listen'"));
    }

    #[test]
    fn a_flag_that_nothing_resembles_gets_no_hint() {
        for args in [["test", "up", "--id", "a"], ["test", "up", "--expert", "a"]] {
            let text = told(&args);
            assert!(text.contains(args[2]) && !text.contains("similar"), "{text}");
        }
    }
}
