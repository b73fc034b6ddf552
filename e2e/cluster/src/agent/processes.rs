//! Processes of containers on this node, seen from a pod that shares the node's process ids.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// The resident memory of all processes of a container together, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMemory {
    /// The resident memory now, in KiB.
    pub resident_kib: u64,
    /// The sum of the processes' peaks of resident memory (`VmHWM`), in KiB.
    pub peak_kib: u64,
}

/// Returns the ids of the container's processes: their control groups have the container's id in their path. Fails if
/// `container` is no id, or if no process of it runs on this node.
fn processes_of(container: &str) -> anyhow::Result<Vec<u32>> {
    let is_id = container.len() >= 12 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_id, "{container} is no container's id");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("looking at processes")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended meanwhile has no control groups.
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if groups.contains(container) {
            found.push(pid);
        }
    }
    ensure!(!found.is_empty(), "no process of container {container} on this node");
    Ok(found)
}

/// Kills all processes of the container by SIGKILL, which they cannot handle; returns the number of processes. One that
/// ends by itself meanwhile is no error.
pub fn kill_processes(container: &str) -> anyhow::Result<usize> {
    let pids = processes_of(container)?;
    for pid in &pids {
        let pid =
            i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw).context("no process id")?;
        match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).context("killing"),
        }
    }
    Ok(pids.len())
}

/// Returns the memory of all processes of the container.
pub fn memory(container: &str) -> anyhow::Result<ContainerMemory> {
    let mut memory = ContainerMemory::default();
    for pid in processes_of(container)? {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        memory.resident_kib += status_field(&status, "VmRSS:");
        memory.peak_kib += status_field(&status, "VmHWM:");
    }
    Ok(memory)
}

fn status_field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            (status_field(status, "VmRSS:"), status_field(status, "VmHWM:"), status_field(status, "VmX:")),
            (1024, 2048, 0)
        );
    }

    #[test]
    fn a_name_that_is_no_container_is_refused() {
        assert!(kill_processes("../../etc").is_err());
        assert!(memory("0123456789abcdef0123456789abcdef").is_err());
    }
}
