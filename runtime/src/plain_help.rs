//! Help texts of a command line without the backticks of the doc comments that they are made of.

use clap::builder::StyledStr;
use clap::{Command, Parser};

/// Returns the command with the help of all its flags and subcommands without backticks, which a terminal would show.
pub fn without_backticks(mut command: Command) -> Command {
    if let Some(about) = command.get_about().map(plain_text) {
        command = command.about(about);
    }
    if let Some(about) = command.get_long_about().map(plain_text) {
        command = command.long_about(about);
    }
    command = command.mut_args(|mut arg| {
        if let Some(help) = arg.get_help().map(plain_text) {
            arg = arg.help(help);
        }
        if let Some(help) = arg.get_long_help().map(plain_text) {
            arg = arg.long_help(help);
        }
        arg
    });
    command.mut_subcommands(without_backticks)
}

/// Parses the command line of this process; the help has no backticks. Ends the process after help and after an error.
pub fn parse_plainly<P: Parser>() -> P {
    let matches = without_backticks(P::command()).get_matches();
    P::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn plain_text(text: &StyledStr) -> String {
    text.to_string().replace('`', "")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn every_text_of_a_command_and_of_those_below_it_is_plain() {
        let file = Arg::new("file").long("file").help("The `FILE`").long_help("The `FILE`\n\nOf `this` kind");
        let below = Command::new("below").about("Does `it`").long_about("Does `it`, and `more`").arg(file);
        let mut command = without_backticks(Command::new("test").about("A `test`").subcommand(below));
        command.build();
        assert_eq!(command.render_help().to_string().matches('`').count(), 0);
        let below = command.find_subcommand_mut("below").unwrap();
        let help = below.render_long_help().to_string();
        assert!(help.contains("Of this kind") && help.contains("Does it, and more"), "{help}");
        assert!(!help.contains('`') && !below.render_help().to_string().contains('`'), "{help}");
    }
}
