//! The first process of a container is told to end while it starts. Linux has no default action for it, so a signal that
//! nobody handles yet is dropped.

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

/// How long each step may take on a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A program that is process 1 of a namespace of its own. Killed with all it started when dropped.
struct FirstProcess(Child);

impl FirstProcess {
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(program).args(args);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("unshare is there (util-linux), and may be used (root)"))
    }

    /// Sends it a signal, as a container runtime does: from outside.
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

/// Every service reads its settings before it serves. This file is a pipe that nobody writes into: who has opened it has begun,
/// and does not get further.
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
            // Opening it to write waits for somebody who reads.
            let opened = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(pipe));
            let pipe = tokio::time::timeout(STEP_TIMEOUT, opened).await.expect("it reads its settings");
            let _open = pipe.expect("a task").expect("the pipe");
            first.send_signal(signal);
            let status = first.wait_for_end().await;
            assert_eq!((status.code(), status.signal()), (Some(code), None), "{role}, {signal:?}");
        }
    }
}
