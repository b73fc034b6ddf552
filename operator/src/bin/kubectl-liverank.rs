//! The binary of the kubectl plugin `kubectl liverank`; kubectl finds a plugin by its file name in `PATH`.

use std::process::ExitCode;

use clap::Parser;
use liverank_operator::plugin::Arguments;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Box::pin(Arguments::parse().run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
