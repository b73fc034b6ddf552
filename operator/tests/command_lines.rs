//! Tests of the command lines of the operator and of the kubectl plugin, as a person calls them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output, Stdio};

const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-liverank");
const OPERATOR: &str = env!("CARGO_BIN_EXE_liverank-operator");

fn run(program: &str, args: &[&str], output: Stdio) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn help_shows_no_markup() {
    let commands: [(&str, &[&str]); 2] = [
        (PLUGIN, &["explain", "what-if", "history", "approve", "convert", "report"]),
        (OPERATOR, &["run", "check", "crd"]),
    ];
    for (program, names) in commands {
        let all = names.iter().map(|name| vec![*name, "--help"]).chain([vec!["--help"]]);
        for args in all {
            let help = run(program, &args, Stdio::piped());
            let text = String::from_utf8(help.stdout).unwrap();
            assert!(help.status.success() && text.contains("Usage:"), "{args:?}: {text}");
            assert!(!text.contains('`'), "{args:?}: {text}");
        }
    }
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let resource = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/valid.yaml");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = run(PLUGIN, &["convert", "--file", resource], writer.into());
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
    // The exit code of a program that SIGPIPE ended: 128 + 13.
    assert_eq!(ended.status.code(), Some(141));
}
