use serde_json::{Value, json};

use super::*;
use crate::build::{CURRENT_REVISION, OperatorFacts};

/// Returns a resource that uses only fields that v1alpha1 always had.
fn plain_resource() -> Value {
    serde_yaml::from_str(include_str!("../../tests/fixtures/valid.yaml")).unwrap()
}

/// Returns why the operator's policy refuses the plain resource with the field at `pointer` set to `value`; each refusal
/// as `path: message`.
fn policy_messages(policy: &Policy, pointer: &str, value: &Value) -> Vec<String> {
    let mut resource = plain_resource();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut resource;
    for part in parent.split('/').skip(1) {
        at = &mut at[part];
    }
    at[field] = value.clone();
    resource["metadata"]["namespace"] = "video".into();
    let cluster: RankingCluster = serde_json::from_value(resource).unwrap();
    let operator = OperatorFacts::default();
    let input = Input { cluster: &cluster, revision: CURRENT_REVISION, readers: &[], operator: &operator };
    policy.find_refusals(&input).iter().map(ToString::to_string).collect()
}

fn resource_with_sidecar(more: &Value) -> Value {
    let mut sidecar = json!({"name": "more", "image": "registry.example.org/more:1"});
    for (name, value) in more.as_object().unwrap() {
        sidecar[name] = value.clone();
    }
    json!([sidecar])
}

/// Returns every setting that needs a permission: its path, its value, the beginning of the refusal, and the policy
/// that permits it.
fn risky_settings() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let security = |context: Value| resource_with_sidecar(&json!({ "securityContext": context }));
    let of_more = "spec.gateway.pod.securityContext of more";
    let sidecars = "/spec/gateway/pod/sidecars";
    vec![
        (
            "/spec/readers/pod/runtimeClassName",
            json!("gvisor"),
            "spec.readers.pod.runtimeClassName",
            "runtimeClasses: [gvisor]",
        ),
        (
            "/spec/consumer/pod/schedulerName",
            json!("batch"),
            "spec.consumer.pod.schedulerName",
            "schedulers: [ba*]",
        ),
        (
            "/spec/gateway/service",
            json!({"type": "LoadBalancer"}),
            "spec.gateway.service.type",
            "serviceTypes: [ClusterIP, LoadBalancer]",
        ),
        (
            "/spec/readers/serviceAccount",
            json!({"annotations": {"eks.amazonaws.com/role-arn": "arn"}}),
            "spec.readers.serviceAccount.annotations[eks.amazonaws.com/role-arn]",
            "serviceAccountAnnotations: [eks.amazonaws.com/*]",
        ),
        (
            "/spec/gateway/pod/priorityClassName",
            json!("system-node-critical"),
            "spec.gateway.pod.priorityClassName",
            "priorityClasses: [system-*]",
        ),
        (
            "/spec/exposure/annotations",
            json!({"nginx.ingress.kubernetes.io/configuration-snippet": "load_module x;"}),
            "spec.exposure.annotations[nginx.ingress.kubernetes.io/configuration-snippet]",
            "annotations: [nginx.ingress.kubernetes.io/*]",
        ),
        (
            "/spec/gateway/pod/volumes",
            json!([{"name": "node", "hostPath": {"path": "/"}}]),
            "spec.gateway.pod.volumes[node].hostPath",
            "podSecurity: privileged",
        ),
        (sidecars, security(json!({"privileged": true})), of_more, "podSecurity: privileged"),
        (sidecars, security(json!({"procMount": "Unmasked"})), of_more, "podSecurity: privileged"),
        (
            sidecars,
            security(json!({"seccompProfile": {"type": "Unconfined"}})),
            of_more,
            "podSecurity: privileged",
        ),
        (
            sidecars,
            security(json!({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}})),
            of_more,
            "podSecurity: privileged",
        ),
        (
            sidecars,
            security(json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})),
            of_more,
            "podSecurity: baseline",
        ),
        (sidecars, security(json!({"runAsUser": 0})), of_more, "podSecurity: baseline"),
        (sidecars, security(json!({"runAsNonRoot": false})), of_more, "podSecurity: baseline"),
        (sidecars, security(json!({"allowPrivilegeEscalation": true})), of_more, "podSecurity: baseline"),
        (
            sidecars,
            resource_with_sidecar(&json!({"ports": [{"containerPort": 1, "hostPort": 1}]})),
            "spec.gateway.pod.ports of more",
            "podSecurity: privileged",
        ),
        (
            "/spec/manager/pod/containerSecurityContext",
            json!({"privileged": true}),
            "spec.manager.pod.securityContext of liverank",
            "podSecurity: privileged",
        ),
        (
            "/spec/manager/pod/securityContext",
            json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
            "spec.manager.pod.securityContext.sysctls",
            "podSecurity: privileged",
        ),
        (
            "/spec/manager/pod/securityContext",
            json!({"runAsUser": 0}),
            "spec.manager.pod.securityContext of liverank",
            "podSecurity: baseline",
        ),
    ]
}

#[test]
fn the_plain_resource_is_permitted() {
    assert_eq!(policy_messages(&Policy::default(), "/spec/operatorClass", &json!("default")), [""; 0]);
    let more = resource_with_sidecar(
        &json!({"securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true}}),
    );
    assert_eq!(
        policy_messages(&Policy::default(), "/spec/gateway/pod/sidecars", &more),
        [""; 0],
        "restricted"
    );
    let high = json!("high");
    assert_eq!(policy_messages(&Policy::default(), "/spec/gateway/pod/priorityClassName", &high), [""; 0]);
}

#[test]
fn each_risky_setting_is_refused_by_its_path_until_permitted() {
    for (pointer, value, place, permits) in risky_settings() {
        let refused = policy_messages(&Policy::default(), pointer, &value);
        assert!(!refused.is_empty(), "{pointer} {value} is taken");
        for problem in &refused {
            assert!(problem.starts_with(&format!("{place}: ")), "{pointer}: {problem}");
        }
        let policy = Policy::parse(permits).unwrap();
        assert_eq!(policy_messages(&policy, pointer, &value), [""; 0], "{pointer} {value} with {permits}");
    }
}

/// Returns every annotation that would go round another limit: the pointer of its map in the resource, its key and
/// value, and the policy that permits it.
fn powerful_annotations() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let (route, pod) = ("/spec/exposure/annotations", "/spec/gateway/pod/annotations");
    let service = "/spec/gateway/service/annotations";
    vec![
        (
            route,
            "nginx.ingress.kubernetes.io/server-alias",
            "bank.example.com",
            "hosts: ['*.example.org', bank.example.com]",
        ),
        (
            route,
            "haproxy-ingress.github.io/server-alias",
            "bank.example.com",
            "hosts: ['*.example.org', '*.example.com']",
        ),
        (
            route,
            "haproxy-ingress.github.io/server-alias-regex",
            ".*",
            "annotations: [haproxy-ingress.github.io/*]",
        ),
        (
            route,
            "external-dns.alpha.kubernetes.io/hostname",
            "live.example.org,bank.example.com",
            "hosts: ['*']",
        ),
        (service, "external-dns.alpha.kubernetes.io/internal-hostname", "bank.example.com", "hosts: ['*']"),
        (route, "cert-manager.io/alt-names", "a.example.org, bank.example.com", "hosts: ['*']"),
        (pod, "iam.amazonaws.com/role", "admin", "annotations: ['*', iam.amazonaws.com/role]"),
        (pod, "vault.hashicorp.com/role", "admin", "annotations: ['*', vault.hashicorp.com/*]"),
        (pod, "k8s.v1.cni.cncf.io/networks", "kube-system/host", "annotations: ['*', k8s.v1.cni.cncf.io/*]"),
        (pod, "sidecar.istio.io/userVolume", "[]", "annotations: ['*', sidecar.istio.io/*]"),
        (
            route,
            "nginx.ingress.kubernetes.io/auth-tls-secret",
            "other/ca",
            "annotations: [nginx.ingress.kubernetes.io/*]",
        ),
        (
            route,
            "nginx.ingress.kubernetes.io/proxy-ssl-secret",
            "other/ca",
            "annotations: [nginx.ingress.kubernetes.io/*]",
        ),
        (
            route,
            "alb.ingress.kubernetes.io/group.name",
            "everybody",
            "annotations: [alb.ingress.kubernetes.io/group.name]",
        ),
        (
            pod,
            "container.apparmor.security.beta.kubernetes.io/liverank",
            "unconfined",
            "podSecurity: privileged",
        ),
        (
            pod,
            "container.seccomp.security.alpha.kubernetes.io/liverank",
            "unconfined",
            "podSecurity: privileged",
        ),
        (pod, "seccomp.security.alpha.kubernetes.io/pod", "unconfined", "podSecurity: privileged"),
    ]
}

#[test]
fn an_annotation_does_not_go_round_another_limit() {
    let hosts = "\nhosts: ['*.example.org']";
    for (pointer, key, value, permits) in powerful_annotations() {
        let given = if pointer.contains("/service/") {
            json!({"annotations": {key: value}})
        } else {
            json!({key: value})
        };
        let pointer =
            pointer.strip_suffix("/annotations").filter(|it| it.ends_with("/service")).unwrap_or(pointer);
        let messages = |text: &str| policy_messages(&Policy::parse(text).unwrap(), pointer, &given);
        let refused = messages(hosts);
        assert!(!refused.is_empty(), "{key}: {value} is taken");
        assert!(refused.iter().all(|it| it.contains(&format!(".annotations[{key}]: "))), "{refused:?}");
        assert_eq!(messages(permits), [""; 0], "{key}: {value} with {permits}");
    }
}

#[test]
fn usual_annotations_are_permitted_by_a_star() {
    let usual = json!({
        "nginx.ingress.kubernetes.io/auth-tls-secret": "video/ca",
        "nginx.ingress.kubernetes.io/server-alias": "other.example.org",
        "cert-manager.io/issuer": "main",
        "sidecar.istio.io/inject": "false",
        "linkerd.io/inject": "enabled",
    });
    assert_eq!(policy_messages(&Policy::default(), "/spec/exposure/annotations", &usual), [""; 0]);
    let profiles = json!({
        "container.apparmor.security.beta.kubernetes.io/liverank": "runtime/default",
        "seccomp.security.alpha.kubernetes.io/pod": "localhost/profile.json",
    });
    assert_eq!(policy_messages(&Policy::default(), "/spec/gateway/pod/annotations", &profiles), [""; 0]);
}

#[test]
fn a_host_is_permitted_by_its_whole_name_or_by_its_domain() {
    let cases = [
        ("['*']", "live.example.org", true),
        ("[live.example.org]", "live.example.org", true),
        ("[live.example.org]", "live.example.org.evil.example.com", false),
        ("['*.tenant.example']", "live.tenant.example", true),
        ("['*.tenant.example']", "a.b.tenant.example", true),
        ("['*.tenant.example']", "tenant.example", false),
        ("['*.tenant.example']", "eviltenant.example", false),
        ("[]", "live.example.org", false),
    ];
    for (hosts, host, permitted) in cases {
        let policy = Policy::parse(&format!("hosts: {hosts}")).unwrap();
        let refused = policy_messages(&policy, "/spec/exposure/host", &json!(host));
        let refused = refused.iter().any(|it| it.starts_with("spec.exposure.host: "));
        assert_eq!(!refused, permitted, "{host} by {hosts}");
    }
    for hosts in ["['live.*']", "['*live.example.org']", "['a.*.example.org']", "['*.*']"] {
        let error = Policy::parse(&format!("hosts: {hosts}")).unwrap_err().to_string();
        assert!(error.contains("hosts"), "{hosts}: {error}");
    }
}

#[test]
fn a_policy_permits_the_hosts_of_all_readers_or_of_none() {
    let template = json!("{reader}.live.example.org");
    let refused = |hosts: &str| {
        let policy = Policy::parse(&format!("hosts: [live.example.org, {hosts}]")).unwrap();
        let all = policy_messages(&policy, "/spec/exposure/readerHostTemplate", &template);
        all.iter().any(|it| it.starts_with("spec.exposure.readerHostTemplate: "))
    };
    let name = plain_resource()["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(!refused("'*.live.example.org'"));
    assert!(refused(&format!("{name}-reader-0.live.example.org")), "the second reader has another host");
    assert!(
        refused(&format!("{name}-reader-0.live.example.org, {name}-reader-1.live.example.org")),
        "the third"
    );
}

#[test]
fn permitted_lists_apply_to_images_hosts_and_annotations() {
    let policy = Policy::parse(
        "images: [registry.example.org/*]\nhosts: [live.example.org, '*']\nannotations: [example.org/*]",
    )
    .unwrap();
    assert_eq!(policy_messages(&policy, "/spec/operatorClass", &json!("default")), [""; 0]);
    let theirs = json!("elsewhere.example.net/liverank:1");
    let refused = policy_messages(&policy, "/spec/image", &theirs);
    assert_eq!(refused.len(), 1, "one sentence, not one for each component: {refused:?}");
    assert!(refused[0].starts_with("spec.image: \"elsewhere"), "{refused:?}");
    for list in ["initContainers", "sidecars"] {
        let more = json!([{"name": "more", "image": "registry.example.org.evil.example/more"}]);
        let refused = policy_messages(&policy, &format!("/spec/statistics/pod/{list}"), &more);
        assert!(refused[0].starts_with("spec.statistics.pod: image of more: "), "{list}: {refused:?}");
    }
    for (pointer, place) in [
        ("/spec/websocket/pod/annotations", "spec.websocket.pod.annotations[other/key]"),
        ("/spec/websocket/service", "spec.websocket.service.annotations[other/key]"),
    ] {
        let given = json!({"other/key": "x"});
        let value = if pointer.ends_with("service") { json!({ "annotations": given }) } else { given };
        let refused = policy_messages(&policy, pointer, &value);
        assert!(refused[0].starts_with(&format!("{place}: ")), "{refused:?}");
    }
    let narrow = Policy::parse("hosts: ['{reader}.none']").unwrap();
    let refused = policy_messages(&narrow, "/spec/operatorClass", &json!("default"));
    let places: Vec<&str> = refused.iter().map(|it| it.split(':').next().unwrap()).collect();
    assert_eq!(places, ["spec.exposure.host", "spec.exposure.readerHostTemplate"]);
}

#[test]
fn a_policy_that_cannot_be_read_names_its_field() {
    let error = Policy::parse("image: [a]").unwrap_err().to_string();
    assert!(error.contains("`image`"), "{error}");
    let error = Policy::parse("podSecurity: lax").unwrap_err().to_string();
    assert!(error.contains("podSecurity"), "{error}");
    assert_eq!(Policy::parse(" \n").unwrap(), Policy::default());
}
