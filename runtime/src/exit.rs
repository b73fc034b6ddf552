//! The end of a command: its exit code, and the error that it prints.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// The exit code of a program whose output nobody reads any more (128 + SIGPIPE), for example because `head` has ended.
pub const BROKEN_PIPE_EXIT_CODE: u8 = 141;

/// Returns the exit code of a command of `program` with this result. Prints the error, unless the error is that the
/// reader of the output has closed it.
pub fn exit_code_of(program: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            BROKEN_PIPE_EXIT_CODE.into()
        } else {
            print_failure(program, &format!("{error:#}"))
        }
    })
}

/// Prints an error of `program` to standard error, and returns the exit code of a failure.
pub fn print_failure(program: &str, error: &dyn Display) -> ExitCode {
    // There is nobody left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "{program}: {error}");
    ExitCode::FAILURE
}

/// Returns true if the error is that the reader of the output has closed it, which is not worth a message.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let json = error.chain().filter_map(|cause| cause.downcast_ref::<serde_json::Error>()?.io_error_kind());
    io.map(io::Error::kind).chain(json).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_closed_output_is_told_apart_from_other_errors() {
        let closed = || Err::<ExitCode, _>(io::Error::from(io::ErrorKind::BrokenPipe));
        for error in [
            closed().map_err(anyhow::Error::new),
            closed().context("writing the report"),
            Err(serde_json::Error::io(io::ErrorKind::BrokenPipe.into()).into()),
        ] {
            assert!(is_broken_pipe(&error.unwrap_err()));
        }
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
        assert!(!is_broken_pipe(&anyhow::anyhow!("Broken pipe, says the server")));
    }
}
