//! The binary of the kubectl plugin `kubectl liverank`; kubectl finds a plugin by its file name in `PATH`.

use std::process::ExitCode;

use liverank_operator::plugin::Arguments;
use liverank_runtime::exit::exit_code_of;
use liverank_runtime::plain_help::parse_plainly;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = Box::pin(parse_plainly::<Arguments>().run()).await;
    exit_code_of("kubectl liverank", result.map(|()| ExitCode::SUCCESS))
}
