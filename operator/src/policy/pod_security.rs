//! The part of Kubernetes' Pod Security Standards that a pod template can break: the level that a pod needs, and the
//! settings because of which the pod needs that level.

use std::fmt;

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};
use serde::Deserialize;

/// A level of the Pod Security Standards, the strictest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityLevel {
    /// The hardened level.
    #[default]
    Restricted,
    /// The level that refuses known ways to raise privileges.
    Baseline,
    /// The level that permits everything.
    Privileged,
}

impl fmt::Display for SecurityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restricted => "restricted",
            Self::Baseline => "baseline",
            Self::Privileged => "privileged",
        })
    }
}

/// A setting of a pod that stricter levels do not permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityBreach {
    /// The strictest level that permits the setting.
    pub required_level: SecurityLevel,
    /// The path of the field below the pod.
    pub field: String,
    /// The setting that is refused, in words.
    pub description: String,
}

/// The capabilities that `baseline` permits a container to add.
const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The kernel settings that `baseline` permits a pod to set.
const BASELINE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];
/// The `SELinux` types that `baseline` permits.
const BASELINE_SELINUX: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Returns all settings because of which a pod does not conform to `restricted`.
pub fn find_breaches(pod: &PodSpec) -> Vec<SecurityBreach> {
    let mut found = BreachCollector(Vec::new());
    found.check_host_access(pod);
    found.check_pod_context(pod);
    for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
        found.check_container(pod, container);
    }
    found.0
}

struct BreachCollector(Vec<SecurityBreach>);

impl BreachCollector {
    fn add(&mut self, required_level: SecurityLevel, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(SecurityBreach { required_level, field: field.into(), description: what.into() });
    }

    /// Checks the settings that give a pod access to its node.
    fn check_host_access(&mut self, pod: &PodSpec) {
        let shared =
            [("hostNetwork", pod.host_network), ("hostPID", pod.host_pid), ("hostIPC", pod.host_ipc)];
        for (field, _) in shared.into_iter().filter(|(_, is)| *is == Some(true)) {
            self.add(SecurityLevel::Privileged, field, "the pod would share it with its node");
        }
        for volume in pod.volumes.iter().flatten().filter(|volume| volume.host_path.is_some()) {
            let field = format!("volumes[{}].hostPath", volume.name);
            self.add(SecurityLevel::Privileged, field, "the pod would have a folder of its node");
        }
    }

    /// Checks the pod's security context, which applies to all containers that do not override it.
    fn check_pod_context(&mut self, pod: &PodSpec) {
        let Some(context) = &pod.security_context else { return };
        let unsafe_one = |name: &str| !BASELINE_SYSCTLS.contains(&name);
        for sysctl in context.sysctls.iter().flatten().filter(|sysctl| unsafe_one(&sysctl.name)) {
            let what = format!("{} is a setting of the whole node's kernel", sysctl.name);
            self.add(SecurityLevel::Privileged, "securityContext.sysctls", what);
        }
        // These fields of a pod are the same as those of a container.
        let as_container = SecurityContext {
            se_linux_options: context.se_linux_options.clone(),
            app_armor_profile: context.app_armor_profile.clone(),
            windows_options: context.windows_options.clone(),
            ..SecurityContext::default()
        };
        self.check_profiles("securityContext", &as_container);
    }

    fn check_container(&mut self, pod: &PodSpec, container: &Container) {
        let none = SecurityContext::default();
        let context = container.security_context.as_ref().unwrap_or(&none);
        let field = format!("securityContext of {}", container.name);
        if context.privileged == Some(true) {
            self.add(
                SecurityLevel::Privileged,
                &field,
                "privileged: the container would be as the node itself",
            );
        }
        if container.ports.iter().flatten().any(|port| port.host_port.unwrap_or(0) != 0) {
            let field = format!("ports of {}", container.name);
            self.add(
                SecurityLevel::Privileged,
                field,
                "hostPort: the container would have a port of its node",
            );
        }
        if context.proc_mount.as_deref().is_some_and(|kind| kind != "Default") {
            self.add(
                SecurityLevel::Privileged,
                &field,
                "procMount: the container would see the node's /proc",
            );
        }
        self.check_profiles(&field, context);
        self.check_capabilities(&field, context);
        self.check_users(pod, &field, context);
    }

    fn check_profiles(&mut self, field: &str, context: &SecurityContext) {
        if let Some(options) = &context.se_linux_options {
            let kind = options.type_.as_deref().unwrap_or_default();
            if options.user.is_some() || options.role.is_some() || !BASELINE_SELINUX.contains(&kind) {
                self.add(
                    SecurityLevel::Privileged,
                    field,
                    "seLinuxOptions: another domain than a container's",
                );
            }
        }
        if context.app_armor_profile.as_ref().is_some_and(|it| it.type_ == "Unconfined") {
            self.add(SecurityLevel::Privileged, field, "appArmorProfile: no confinement");
        }
        if context.windows_options.as_ref().is_some_and(|it| it.host_process == Some(true)) {
            self.add(SecurityLevel::Privileged, field, "windowsOptions.hostProcess: a process of the node");
        }
    }

    fn check_capabilities(&mut self, field: &str, context: &SecurityContext) {
        let capabilities = context.capabilities.clone().unwrap_or_default();
        let mut has_more = false;
        for added in capabilities.add.iter().flatten().filter(|added| *added != "NET_BIND_SERVICE") {
            let known = BASELINE_CAPABILITIES.contains(&added.as_str());
            let needs = if known { SecurityLevel::Baseline } else { SecurityLevel::Privileged };
            has_more = true;
            self.add(needs, field, format!("capabilities: {added}"));
        }
        let drops_all = capabilities.drop.iter().flatten().any(|dropped| dropped == "ALL");
        if !drops_all && !has_more {
            self.add(SecurityLevel::Baseline, field, "capabilities: ALL are not dropped");
        }
        if context.allow_privilege_escalation != Some(false) {
            self.add(SecurityLevel::Baseline, field, "allowPrivilegeEscalation is not false");
        }
    }

    /// Checks user and seccomp profile: the container's setting applies, and the pod's if the container has none.
    fn check_users(&mut self, pod: &PodSpec, field: &str, context: &SecurityContext) {
        let none = k8s_openapi::api::core::v1::PodSecurityContext::default();
        let of_pod = pod.security_context.as_ref().unwrap_or(&none);
        if context.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
            self.add(SecurityLevel::Baseline, field, "runAsNonRoot is not true");
        }
        if context.run_as_user.or(of_pod.run_as_user) == Some(0) {
            self.add(SecurityLevel::Baseline, field, "runAsUser is 0, which is root");
        }
        let seccomp = context.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
        match seccomp.map(|profile| profile.type_.as_str()) {
            Some("RuntimeDefault" | "Localhost") => {}
            Some("Unconfined") => {
                self.add(SecurityLevel::Privileged, field, "seccompProfile: no confinement");
            }
            _ => self.add(SecurityLevel::Baseline, field, "seccompProfile is not set"),
        }
    }
}
