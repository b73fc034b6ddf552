//! Annotations that give rights, host names, networks or profiles to the object that has them, because a controller
//! acts on them, and that could so evade a limit that the policy sets elsewhere.

use super::pod_security::{SecurityBreach, SecurityLevel};

/// The beginnings of keys by which other controllers give a pod or a route more than its own fields have: rights in a
/// cloud, other networks, other containers, other people's load balancers, settings of the container runtime. The
/// annotations that tell whether a mesh injects its own container at all (`sidecar.istio.io/inject`,
/// `linkerd.io/inject`) are not among them.
const POWERFUL_PREFIXES: [&str; 16] = [
    "iam.amazonaws.com/",
    "eks.amazonaws.com/",
    "iam.gke.io/",
    "azure.workload.identity/",
    "vault.hashicorp.com/",
    "k8s.v1.cni.cncf.io/",
    "v1.multus-cni.io/",
    "k8s.ovn.org/",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/proxyImage",
    "sidecar.istio.io/bootstrapOverride",
    "inject.istio.io/",
    "config.linkerd.io/",
    "io.kubernetes.cri-o.",
    "alb.ingress.kubernetes.io/group.",
    "cni.projectcalico.org/",
];
/// The ends of keys whose values are pieces of a proxy's configuration.
const POWERFUL_KEY_SUFFIXES: [&str; 2] = ["-snippet", "-snippets"];
/// The ends of keys whose values name an object, possibly one of another namespace: `namespace/name`.
const OBJECT_KEY_SUFFIXES: [&str; 4] = ["-secret", "-configmap", "-set-headers", "/custom-headers"];
/// The ends of keys whose values are host names that a controller makes a route, a certificate or a DNS record of.
const HOST_KEY_SUFFIXES: [&str; 6] = [
    "/server-alias",
    "external-dns.alpha.kubernetes.io/hostname",
    "external-dns.alpha.kubernetes.io/internal-hostname",
    "external-dns.alpha.kubernetes.io/ingress-hostname",
    "cert-manager.io/common-name",
    "cert-manager.io/alt-names",
];
/// The end of the annotation key whose value is a regular expression of host names: the hosts that match it cannot be
/// listed.
const HOST_EXPRESSION_KEY_SUFFIX: &str = "/server-alias-regex";
/// The beginnings of the keys of annotations that choose `AppArmor` and seccomp profiles; they were used before the
/// security context had fields for profiles.
const PROFILE_PREFIXES: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];

/// Returns whether an annotation gives an object of `namespace` more than its fields do, so that the pattern `*` does
/// not permit the annotation.
pub fn is_powerful(key: &str, value: &str, namespace: &str) -> bool {
    POWERFUL_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || POWERFUL_KEY_SUFFIXES.iter().any(|end| key.ends_with(end))
        || key.ends_with(HOST_EXPRESSION_KEY_SUFFIX)
        || (OBJECT_KEY_SUFFIXES.iter().any(|end| key.ends_with(end))
            && names_other_namespace(value, namespace))
}

fn names_other_namespace(value: &str, namespace: &str) -> bool {
    value.split_once('/').is_some_and(|(named, _)| named.trim() != namespace)
}

/// Returns the host names that an annotation gives its object; none for an annotation that is not about hosts.
pub fn hosts<'a>(key: &str, value: &'a str) -> impl Iterator<Item = &'a str> {
    let is_about_hosts = HOST_KEY_SUFFIXES.iter().any(|end| key.ends_with(end));
    let names = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
    names.filter(move |_| is_about_hosts)
}

/// Returns the reason why a pod with this annotation does not conform to `restricted`; `None` if the pod does.
pub fn find_breach(key: &str, value: &str) -> Option<SecurityBreach> {
    let is_profile = PROFILE_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let confines = value.is_empty()
        || ["runtime/default", "docker/default"].contains(&value)
        || value.starts_with("localhost/");
    (is_profile && !confines).then(|| SecurityBreach {
        required_level: SecurityLevel::Privileged,
        field: format!("annotations[{key}]"),
        description: format!("{value:?} is no profile that confines a container"),
    })
}
