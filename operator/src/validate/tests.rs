use serde_json::{Value, json};

use super::validate_cluster;
use crate::crd::RankingCluster;

fn valid_resource() -> Value {
    serde_yaml::from_str(include_str!("../../tests/fixtures/valid.yaml")).unwrap()
}

/// Returns the problems of the valid resource with one field set, as `path: message`.
fn problems_with_field(pointer: &str, value: Value) -> Vec<String> {
    let mut cluster = valid_resource();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut cluster;
    for part in parent.split('/').skip(1) {
        at = &mut at[part];
    }
    at[field] = value;
    let cluster: RankingCluster = serde_json::from_value(cluster).unwrap();
    validate_cluster(&cluster).iter().map(ToString::to_string).collect()
}

fn assert_one_problem(pointer: &str, value: Value, problem: &str) {
    assert_eq!(problems_with_field(pointer, value), [problem], "{pointer}");
}

fn assert_no_problem(pointer: &str, value: Value) {
    assert_eq!(problems_with_field(pointer, value), [""; 0], "{pointer}");
}

#[test]
fn a_valid_resource_has_no_problems() {
    let cluster: RankingCluster = serde_json::from_value(valid_resource()).unwrap();
    assert_eq!(validate_cluster(&cluster), []);
}

#[test]
fn ca_bundles_must_be_certificates() {
    let path = "/spec/tls/internal/caBundle";
    for (bundle, why) in
        [("", "there is no certificate in it"), ("-----BEGIN CERTIFICATE-----\n!\n", "not PEM")]
    {
        let told = problems_with_field(path, json!(bundle)).join("; ");
        assert!(told.starts_with("spec.tls.internal.caBundle: ") && told.contains(why), "{told}");
    }
    let bundle = valid_resource().pointer(path).unwrap().as_str().unwrap().to_owned();
    assert_no_problem(path, json!(bundle.repeat(2)));
}

#[test]
fn relabelings_set_labels_of_metrics_only() {
    let relabeling = |given: Value| problems_with_field("/spec/monitoring/relabelings", json!([given]));
    for taken in [
        json!({"targetLabel": "cell", "replacement": "north"}),
        json!({"action": "Replace", "targetLabel": "__tmp_cell", "sourceLabels": ["a"]}),
        json!({"action": "labeldrop", "regex": "pod"}),
    ] {
        assert_eq!(relabeling(taken.clone()), [""; 0], "{taken}");
    }
    for (given, field) in [
        (json!({"targetLabel": "__address__", "replacement": "10.0.0.1:80"}), "targetLabel"),
        (json!({"targetLabel": "${1}address__", "regex": "(__).*"}), "targetLabel"),
        (json!({"action": "labelmap", "regex": "a(__.*)"}), "action"),
    ] {
        let told = relabeling(given.clone()).join("; ");
        assert!(told.starts_with(&format!("spec.monitoring.relabelings[0].{field}: ")), "{given}: {told}");
    }
}

#[test]
fn image_references_are_parsed_as_runtimes_parse_them() {
    let digest = format!("liverank@sha256:{}", "0".repeat(64));
    for image in [
        "liverank",
        "liverank:0.1",
        "localhost:5000/liverank:0.1",
        "Registry.example.org/team/live_rank:V1",
        digest.as_str(),
    ] {
        assert_no_problem("/spec/image", json!(image));
    }
    let lower = "spec.image: write the repository in lower case: registry.example.org/liverank:tag";
    for image in ["LiveRank:1", "registry.example.org/Team/liverank", "a//b", "liverank/"] {
        assert_one_problem("/spec/image", json!(image), lower);
    }
    let tag = "spec.image: use letters, digits, dots, dashes and underscores in the tag";
    assert_one_problem("/spec/image", json!("liverank:"), tag);
    assert_one_problem("/spec/image", json!("liverank:0.1+2"), tag);
    assert_one_problem(
        "/spec/image",
        json!("liverank@sha256:12"),
        "spec.image: write the digest as sha256: and 64 hexadecimal digits",
    );
}

#[test]
fn broker_ports_must_be_valid() {
    assert_one_problem(
        "/spec/kafka/bootstrapServers",
        json!("a:9092,b:70000"),
        "spec.kafka.bootstrapServers: b:70000: write a port from 1 to 65535",
    );
    assert_one_problem(
        "/spec/kafka/bootstrapServers",
        json!("a:0"),
        "spec.kafka.bootstrapServers: a:0: write a port from 1 to 65535",
    );
}

#[test]
fn reader_hosts_must_fit_a_dns_name() {
    let path = "spec.exposure.readerHostTemplate";
    assert_no_problem(
        "/spec/exposure/readerHostTemplate",
        json!(format!("{}{{reader}}.example.org", "a".repeat(48))),
    );
    assert_one_problem(
        "/spec/exposure/readerHostTemplate",
        json!(format!("{}{{reader}}.example.org", "a".repeat(49))),
        &format!(
            "{path}: shorten it: with live-reader-509 for {{reader}} a part is over 63 characters, or all of it over 253"
        ),
    );
    assert_one_problem(
        "/spec/exposure/host",
        json!("{reader}.live.example.org"),
        &format!("{path}: choose another one than host: the front door would be one of the readers"),
    );
}

#[test]
fn label_and_annotation_keys_must_be_qualified_names() {
    assert_no_problem("/spec/readers/pod/labels", json!({ "team": "a", "example.org/team_2": "b" }));
    let words = "is no key: write name or prefix.example.org/name, the name of at most 63 letters, digits, -, _ and .";
    for (pointer, path) in [
        ("/spec/readers/pod/labels", "spec.readers.pod.labels"),
        ("/spec/consumer/pod/nodeSelector", "spec.consumer.pod.nodeSelector"),
        ("/spec/gateway/pod/annotations", "spec.gateway.pod.annotations"),
        ("/spec/exposure/annotations", "spec.exposure.annotations"),
    ] {
        for key in ["", "a b", "-a", "Example.org/a", "example.org/", "a/b/c"] {
            assert_one_problem(pointer, json!({ key: "x" }), &format!("{path}: {key:?} {words}"));
        }
    }
}

#[test]
fn annotations_must_fit_the_size_limit() {
    let many = |count: usize| -> Value {
        (0..count).map(|n| (format!("example.org/{n:02}"), json!("x".repeat(8192)))).collect()
    };
    assert_no_problem("/spec/comment/pod/annotations", many(29));
    assert_one_problem(
        "/spec/comment/pod/annotations",
        many(31),
        "spec.comment.pod.annotations: shorten them: 254386 bytes are more than an object can carry",
    );
}

#[test]
fn resource_requests_must_not_exceed_limits() {
    let path = "spec.websocket.pod.resources";
    let pointer = "/spec/websocket/pod/resources";
    assert_no_problem(
        pointer,
        json!({ "requests": { "cpu": "500m", "memory": "1Gi" }, "limits": { "cpu": "0.5", "memory": "1024Mi" } }),
    );
    assert_one_problem(
        pointer,
        json!({ "requests": { "cpu": 2 }, "limits": { "cpu": "1999m" } }),
        &format!("{path}.requests.cpu: raise the limit or lower the request"),
    );
    assert_one_problem(
        pointer,
        json!({ "limits": { "memory": "1GiB" } }),
        &format!("{path}.limits.memory: \"1GiB\" is no amount: write one such as 250m, 2 or 512Mi"),
    );
    assert_one_problem(
        pointer,
        json!({ "requests": { "cpu": "-1" } }),
        &format!("{path}.requests.cpu: \"-1\" is no amount: write one such as 250m, 2 or 512Mi"),
    );
    assert_one_problem(
        pointer,
        json!({ "claims": [{ "name": "gpu" }] }),
        &format!("{path}.claims: remove it: these pods have no resource claims to name"),
    );
}

#[test]
fn tolerations_must_be_complete() {
    let path = "spec.manager.pod.tolerations[0]";
    let pointer = "/spec/manager/pod/tolerations";
    assert_no_problem(
        pointer,
        json!([{ "operator": "Exists" }, { "key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5 }]),
    );
    for (toleration, problem) in [
        (json!({ "operator": "Like", "key": "a" }), ".operator: write Equal or Exists"),
        (json!({ "operator": "Exists", "value": "b" }), ".value: remove it: Exists takes any value"),
        (json!({ "value": "b" }), ".key: set it, or operator: Exists to tolerate every taint"),
        (
            json!({ "key": "a", "effect": "Never" }),
            ".effect: write NoSchedule, PreferNoSchedule or NoExecute",
        ),
        (
            json!({ "key": "a", "tolerationSeconds": 5 }),
            ".tolerationSeconds: set effect: NoExecute: only that one waits",
        ),
    ] {
        assert_one_problem(pointer, json!([toleration]), &format!("{path}{problem}"));
    }
}

#[test]
fn spread_constraints_must_be_unique() {
    let path = "spec.statistics.pod.topologySpread";
    let pointer = "/spec/statistics/pod/topologySpread";
    let spread = |skew: i32, key: &str, when: &str| json!({ "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when });
    let (host, any) = ("kubernetes.io/hostname", "ScheduleAnyway");
    assert_no_problem(pointer, json!([spread(1, host, any), spread(1, host, "DoNotSchedule")]));
    assert_one_problem(
        pointer,
        json!([spread(1, host, any), spread(2, host, any)]),
        &format!("{path}[1]: remove it: an earlier one has the same topologyKey and whenUnsatisfiable"),
    );
    assert_one_problem(
        pointer,
        json!([spread(0, host, any)]),
        &format!("{path}[0].maxSkew: write a number from 1"),
    );
    assert_one_problem(
        pointer,
        json!([spread(1, "", any)]),
        &format!("{path}[0].topologyKey: name a label of nodes: kubernetes.io/hostname"),
    );
    assert_one_problem(
        pointer,
        json!([spread(1, host, "Maybe")]),
        &format!("{path}[0].whenUnsatisfiable: write DoNotSchedule or ScheduleAnyway"),
    );
}

#[test]
fn extra_pod_parts_must_not_replace_ours() {
    let pod = |field: &str| format!("/spec/readers/pod/{field}");
    let path = "spec.readers.pod";
    assert_no_problem(&pod("extraArgs"), json!(["--max-connections=7", "--verbose"]));
    for (args, problem) in [
        (
            json!(["--drain-seconds=1"]),
            "[0]: remove --drain-seconds: the operator writes it from the resource",
        ),
        (json!(["--config=/x"]), "[0]: remove --config: the operator writes it from the resource"),
        (json!(["--a=1", "--a=2"]), "[1]: remove it: --a stands there already"),
    ] {
        assert_one_problem(&pod("extraArgs"), args, &format!("{path}.extraArgs{problem}"));
    }
    assert_no_problem(&pod("logLevel"), json!("info,liverank_reader=debug"));
    let said = problems_with_field(&pod("logLevel"), json!("liverank=loud"));
    assert!(said[0].starts_with("spec.readers.pod.logLevel: write a level or a filter: "), "{said:?}");
    assert_one_problem(
        &pod("env"),
        json!([{"name": "A", "value": "1"}, {"name": "A"}]),
        &format!("{path}.env[A]: remove it: the variable stands there already"),
    );
    assert_one_problem(
        &pod("hostAliases"),
        json!([{"ip": "kafka", "hostnames": ["a"]}]),
        &format!("{path}.hostAliases[0].ip: write an IP address"),
    );
}

#[test]
fn extra_volumes_need_one_source_and_mounts_need_a_volume() {
    let pod = |field: &str| format!("/spec/gateway/pod/{field}");
    let path = "spec.gateway.pod";
    assert_no_problem(&pod("volumes"), json!([{"name": "a", "emptyDir": {}}]));
    assert_one_problem(
        &pod("volumes"),
        json!([{"name": "config", "emptyDir": {}}]),
        &format!("{path}.volumes[config]: choose another name: a volume of the operator's has this one"),
    );
    let words = "set one source: configMap, secret, emptyDir, projected, …";
    for volume in [json!({"name": "a"}), json!({"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}})]
    {
        assert_one_problem(&pod("volumes"), json!([volume]), &format!("{path}.volumes[a]: {words}"));
    }
    assert_one_problem(
        &pod("volumeMounts"),
        json!([{"name": "a", "mountPath": "/a"}]),
        &format!("{path}.volumeMounts[0].name: add the volume \"a\" to volumes"),
    );
}

#[test]
fn extra_containers_need_unique_names_and_images() {
    let path = "spec.consumer.pod.sidecars";
    let pointer = "/spec/consumer/pod/sidecars";
    let probe = json!({"tcpSocket": {"port": 1}});
    assert_no_problem(pointer, json!([{"name": "a", "image": "a:1", "startupProbe": probe}]));
    assert_one_problem(
        pointer,
        json!([{"name": "liverank", "image": "a:1"}]),
        &format!("{path}[liverank]: choose another name: a container of the pod has this one already"),
    );
    assert_one_problem(
        pointer,
        json!([{"name": "a", "image": "A/b:1"}]),
        &format!("{path}[a].image: write the repository in lower case: registry.example.org/liverank:tag"),
    );
    assert_one_problem(
        "/spec/consumer/pod/initContainers",
        json!([{"name": "a", "image": "a:1", "readinessProbe": probe}]),
        "spec.consumer.pod.initContainers[a].readinessProbe: remove it: a container that runs to its end has no probes",
    );
    assert_no_problem(
        "/spec/gateway/service",
        json!({"loadBalancerSourceRanges": ["192.0.2.0/24", "fd00::/8"]}),
    );
    for network in ["192.0.2.0", "192.0.2.0/33", "a/8", "fd00::/129"] {
        assert_one_problem(
            "/spec/gateway/service",
            json!({"loadBalancerSourceRanges": [network]}),
            "spec.gateway.service.loadBalancerSourceRanges[0]: write a network such as 10.1.0.0/16",
        );
    }
    assert_one_problem(
        "/spec/consumer/serviceAccount",
        json!({"annotations": {"liverank.dev/drain": "x"}}),
        "spec.consumer.serviceAccount.annotations: choose another key than liverank.dev/drain: liverank.dev/ is the operator's",
    );
}

#[test]
fn a_metric_that_is_a_share_of_the_cpu_needs_a_request() {
    let metrics = |kind: &str, member: &str, name: &str, target: &str| {
        json!({"resources": {"requests": {"memory": "64Mi"}},
            "metric": {"type": kind, member: {"name": name, "container": "liverank", "target": {"type": target}}}})
    };
    let mut of_proxy = metrics("ContainerResource", "containerResource", "cpu", "Utilization");
    of_proxy["metric"]["containerResource"]["container"] = json!("proxy");
    for (given, refused) in [
        (metrics("Resource", "resource", "cpu", "Utilization"), true),
        (metrics("ContainerResource", "containerResource", "cpu", "Utilization"), true),
        (of_proxy, false),
        (metrics("Resource", "resource", "cpu", "AverageValue"), false),
        (metrics("Resource", "resource", "memory", "Utilization"), false),
        (metrics("Pods", "pods", "cpu", "Utilization"), false),
    ] {
        let gateway = json!({
            "autoscaling": {"maxReplicas": 3, "metrics": [{"type": "External"}, given["metric"]]},
            "pod": {"resources": given["resources"]},
        });
        let told = problems_with_field("/spec/gateway", gateway);
        let words = "spec.gateway.autoscaling.metrics[1]: set spec.gateway.pod.resources.requests.cpu: this metric is a share of it";
        assert_eq!(told, if refused { vec![words] } else { Vec::new() }, "{given}");
    }
    let metric =
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]);
    assert_no_problem("/spec/gateway/autoscaling/metrics", metric);
}

#[test]
fn comment_rules_are_those_that_the_comment_service_reads() {
    let pattern = |pattern: &str| json!({"patterns": [{"action": "Reject", "pattern": pattern}]});
    let told = problems_with_field("/spec/comment/rules", pattern("(")).join("; ");
    assert!(told.starts_with("spec.comment.rules: patterns: "), "{told}");
    assert_no_problem("/spec/comment/rules", pattern(r"\d{9,16}"));
    assert_no_problem("/spec/comment/rules", json!({}));
}

#[test]
fn times_of_probes_are_at_least_one() {
    let path = "/spec/gateway/pod/livenessProbe";
    assert_no_problem(path, json!({"periodSeconds": 1, "timeoutSeconds": 1000}));
    let problem = "spec.gateway.pod.livenessProbe.failureThreshold: write a number from 1 to 1000";
    assert_one_problem(path, json!({"failureThreshold": 0}), problem);
}
