//! A test of signals to process 1 of a container while it starts. For process 1 Linux has no default action, so a
//! signal without a handler is ignored.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use liverank_e2e::process::Signal;
use liverank_e2e::wait;
use liverank_protocol::roles::Role;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, kill_process};

/// The time limit of each step, on a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A program that is process 1 of its own pid namespace; dropping kills it with all processes that it started.
struct FirstProcess(Child);

impl FirstProcess {
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(program).args(args);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("unshare is there (util-linux), and may be used (root)"))
    }

    /// Sends the program a signal from outside its namespace, as a container runtime does.
    fn send_signal(&self, signal: Signal) {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = std::fs::read_to_string(children).expect("the children of unshare");
        let first = children.split_whitespace().next().expect("a child").parse().expect("a number");
        kill_process(Pid::from_raw(first).expect("a process"), signal).expect("signalling it");
    }

    async fn wait_for_end(&mut self) -> ExitStatus {
        wait::until("it has ended", STEP_TIMEOUT, || {
            std::future::ready(self.0.try_wait().expect("waiting for it"))
        })
        .await
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every service reads its settings file before it serves. Here this file is a pipe into which nobody writes: a
/// process that has opened it has started and cannot continue.
#[tokio::test]
async fn every_service_that_is_told_to_end_while_it_starts_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = directory.path().join("settings");
    mknodat(CWD, &settings, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let file = settings.display().to_string();
    for role in Role::ALL.iter().map(|role| role.name()).chain(["up"]) {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut first = FirstProcess::start(&liverank_e2e::binary(), &[role, "--config", &file]);
            let pipe = settings.clone();
            // Opening the pipe for writing waits until a reader has opened it.
            let opened = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(pipe));
            let pipe = tokio::time::timeout(STEP_TIMEOUT, opened).await.expect("it reads its settings");
            let _open = pipe.expect("a task").expect("the pipe");
            first.send_signal(signal);
            let status = first.wait_for_end().await;
            assert_eq!((status.code(), status.signal()), (Some(code), None), "{role}, {signal:?}");
        }
    }
}
