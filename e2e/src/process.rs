//! A running process of the binary under test.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// A running `liverank` process; it is killed when dropped.
pub struct Process {
    name: String,
    program: PathBuf,
    child: Child,
    log: PathBuf,
    args: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Process {
    /// Starts `liverank args…`. Its output goes to the file `NAME.log` in `directory`. All processes share the
    /// identity key of [`crate::identity`].
    pub fn start(name: &str, args: &[String], directory: &std::path::Path) -> Self {
        Self::start_in(name, args, directory, &[crate::identity::key_file_variable()])
    }

    /// Starts `liverank args…` with these environment variables, instead of the identity key's.
    pub fn start_in(
        name: &str,
        args: &[String],
        directory: &std::path::Path,
        environment: &[(String, String)],
    ) -> Self {
        Self::start_at(&crate::binary(), name, args, directory, environment)
    }

    /// Starts another program than `liverank`, which is looked up in `PATH`.
    pub fn start_program(program: &str, args: &[String], directory: &std::path::Path) -> Self {
        Self::start_at(std::path::Path::new(program), program, args, directory, &[])
    }

    fn start_at(
        program: &std::path::Path,
        name: &str,
        args: &[String],
        directory: &std::path::Path,
        environment: &[(String, String)],
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        let child = spawn(program, args, &log, environment);
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            child,
            log,
            args: args.to_vec(),
            environment: environment.to_vec(),
        }
    }

    /// Returns the name of the process, as given at its start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process by SIGKILL and waits until it is gone. Panics if it had ended by itself.
    pub fn kill(&mut self) {
        assert_eq!(
            self.child.try_wait().expect("waiting for a child"),
            None,
            "{} had ended: {}",
            self.name,
            self.log()
        );
        self.child.kill().expect("killing a child");
        self.child.wait().expect("waiting for a child");
    }

    /// Starts the process again with the same arguments and environment.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, &self.args, &self.log, &self.environment);
    }

    /// Starts the process again, with these variables added to its environment from now on.
    pub fn restart_in(&mut self, variables: &[(&str, &str)]) {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment.extend(owned);
        self.restart();
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).unwrap_or_else(|error| panic!("signalling {}: {error}", self.name));
    }

    /// Waits until the process ends and returns its exit status; panics after `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting for a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {within:?}: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waiting for a child").is_none()
    }

    /// Returns the path of the file that gets the process's output.
    pub fn log_file(&self) -> &std::path::Path {
        &self.log
    }

    /// Returns what the process has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the number of file descriptors that the process has open (files and sockets).
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Returns the resident memory of the process, in KiB; 0 if it does not run.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(3000);
            let tail = log.get(from..).unwrap_or(&log);
            eprintln!("---- the end of {}'s log\n{tail}", self.name);
        }
    }
}

fn spawn(
    program: &std::path::Path,
    args: &[String],
    log: &std::path::Path,
    environment: &[(String, String)],
) -> Child {
    let file = File::options().create(true).append(true).open(log).expect("opening a log file");
    let copy = file.try_clone().expect("duplicating a handle");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LIVERANK_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().cloned());
    command.args(args).stdin(Stdio::null()).stdout(copy).stderr(file).spawn().expect("starting the binary")
}
