use serde_json::{Value, json};

use super::validate;
use crate::crd::RankingCluster;

fn valid() -> Value {
    serde_yaml::from_str(include_str!("../../tests/fixtures/valid.yaml")).unwrap()
}

/// The problems of the valid resource with one field set, as `path: message`.
fn with(pointer: &str, value: Value) -> Vec<String> {
    let mut cluster = valid();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut cluster;
    for part in parent.split('/').skip(1) {
        at = &mut at[part];
    }
    at[field] = value;
    let cluster: RankingCluster = serde_json::from_value(cluster).unwrap();
    validate(&cluster).iter().map(ToString::to_string).collect()
}

fn one(pointer: &str, value: Value, problem: &str) {
    assert_eq!(with(pointer, value), [problem], "{pointer}");
}

fn none(pointer: &str, value: Value) {
    assert_eq!(with(pointer, value), [""; 0], "{pointer}");
}

#[test]
fn nothing_is_wrong_with_what_is_valid() {
    let cluster: RankingCluster = serde_json::from_value(valid()).unwrap();
    assert_eq!(validate(&cluster), []);
}

#[test]
fn authorities_are_certificates() {
    let path = "/spec/tls/internal/caBundle";
    for (bundle, why) in
        [("", "there is no certificate in it"), ("-----BEGIN CERTIFICATE-----\n!\n", "not PEM")]
    {
        let told = with(path, json!(bundle)).join("; ");
        assert!(told.starts_with("spec.tls.internal.caBundle: ") && told.contains(why), "{told}");
    }
    let bundle = valid().pointer(path).unwrap().as_str().unwrap().to_owned();
    none(path, json!(bundle.repeat(2)));
}

#[test]
fn images_are_read_as_runtimes_read_them() {
    let digest = format!("liverank@sha256:{}", "0".repeat(64));
    for image in [
        "liverank",
        "liverank:0.1",
        "localhost:5000/liverank:0.1",
        "Registry.example.org/team/live_rank:V1",
        digest.as_str(),
    ] {
        none("/spec/image", json!(image));
    }
    let lower = "spec.image: write the repository in lower case: registry.example.org/liverank:tag";
    for image in ["LiveRank:1", "registry.example.org/Team/liverank", "a//b", "liverank/"] {
        one("/spec/image", json!(image), lower);
    }
    let tag = "spec.image: use letters, digits, dots, dashes and underscores in the tag";
    one("/spec/image", json!("liverank:"), tag);
    one("/spec/image", json!("liverank:0.1+2"), tag);
    one(
        "/spec/image",
        json!("liverank@sha256:12"),
        "spec.image: write the digest as sha256: and 64 hexadecimal digits",
    );
}

#[test]
fn ports_of_brokers_are_ports() {
    one(
        "/spec/kafka/bootstrapServers",
        json!("a:9092,b:70000"),
        "spec.kafka.bootstrapServers: b:70000: write a port from 1 to 65535",
    );
    one(
        "/spec/kafka/bootstrapServers",
        json!("a:0"),
        "spec.kafka.bootstrapServers: a:0: write a port from 1 to 65535",
    );
}

#[test]
fn readers_hosts_fit_a_dns_name() {
    let path = "spec.exposure.readerHostTemplate";
    none("/spec/exposure/readerHostTemplate", json!(format!("{}{{reader}}.example.org", "a".repeat(48))));
    one(
        "/spec/exposure/readerHostTemplate",
        json!(format!("{}{{reader}}.example.org", "a".repeat(49))),
        &format!(
            "{path}: shorten it: with live-reader-509 for {{reader}} a part is over 63 characters, or all of it over 253"
        ),
    );
    one(
        "/spec/exposure/host",
        json!("{reader}.live.example.org"),
        &format!("{path}: choose another one than host: the front door would be one of the readers"),
    );
}

#[test]
fn keys_are_keys() {
    none("/spec/readers/pod/labels", json!({ "team": "a", "example.org/team_2": "b" }));
    let words = "is no key: write name or prefix.example.org/name, the name of at most 63 letters, digits, -, _ and .";
    for (pointer, path) in [
        ("/spec/readers/pod/labels", "spec.readers.pod.labels"),
        ("/spec/consumer/pod/nodeSelector", "spec.consumer.pod.nodeSelector"),
        ("/spec/gateway/pod/annotations", "spec.gateway.pod.annotations"),
        ("/spec/exposure/annotations", "spec.exposure.annotations"),
    ] {
        for key in ["", "a b", "-a", "Example.org/a", "example.org/", "a/b/c"] {
            one(pointer, json!({ key: "x" }), &format!("{path}: {key:?} {words}"));
        }
    }
}

#[test]
fn annotations_fit_an_object() {
    let many = |count: usize| -> Value {
        (0..count).map(|n| (format!("example.org/{n:02}"), json!("x".repeat(8192)))).collect()
    };
    none("/spec/comment/pod/annotations", many(29));
    one(
        "/spec/comment/pod/annotations",
        many(31),
        "spec.comment.pod.annotations: shorten them: 254386 bytes are more than an object can carry",
    );
}

#[test]
fn requests_fit_their_limits() {
    let path = "spec.websocket.pod.resources";
    let pointer = "/spec/websocket/pod/resources";
    none(
        pointer,
        json!({ "requests": { "cpu": "500m", "memory": "1Gi" }, "limits": { "cpu": "0.5", "memory": "1024Mi" } }),
    );
    one(
        pointer,
        json!({ "requests": { "cpu": 2 }, "limits": { "cpu": "1999m" } }),
        &format!("{path}.requests.cpu: raise the limit or lower the request"),
    );
    one(
        pointer,
        json!({ "limits": { "memory": "1GiB" } }),
        &format!("{path}.limits.memory: \"1GiB\" is no amount: write one such as 250m, 2 or 512Mi"),
    );
    one(
        pointer,
        json!({ "requests": { "cpu": "-1" } }),
        &format!("{path}.requests.cpu: \"-1\" is no amount: write one such as 250m, 2 or 512Mi"),
    );
    one(
        pointer,
        json!({ "claims": [{ "name": "gpu" }] }),
        &format!("{path}.claims: remove it: these pods have no resource claims to name"),
    );
}

#[test]
fn tolerations_say_what_they_tolerate() {
    let path = "spec.manager.pod.tolerations[0]";
    let pointer = "/spec/manager/pod/tolerations";
    none(
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
        one(pointer, json!([toleration]), &format!("{path}{problem}"));
    }
}

#[test]
fn spreads_are_not_said_twice() {
    let path = "spec.statistics.pod.topologySpread";
    let pointer = "/spec/statistics/pod/topologySpread";
    let spread = |skew: i32, key: &str, when: &str| json!({ "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when });
    let (host, any) = ("kubernetes.io/hostname", "ScheduleAnyway");
    none(pointer, json!([spread(1, host, any), spread(1, host, "DoNotSchedule")]));
    one(
        pointer,
        json!([spread(1, host, any), spread(2, host, any)]),
        &format!("{path}[1]: remove it: an earlier one has the same topologyKey and whenUnsatisfiable"),
    );
    one(pointer, json!([spread(0, host, any)]), &format!("{path}[0].maxSkew: write a number from 1"));
    one(
        pointer,
        json!([spread(1, "", any)]),
        &format!("{path}[0].topologyKey: name a label of nodes: kubernetes.io/hostname"),
    );
    one(
        pointer,
        json!([spread(1, host, "Maybe")]),
        &format!("{path}[0].whenUnsatisfiable: write DoNotSchedule or ScheduleAnyway"),
    );
}

#[test]
fn additions_to_pods_do_not_take_the_place_of_ours() {
    let pod = |field: &str| format!("/spec/readers/pod/{field}");
    let path = "spec.readers.pod";
    none(&pod("extraArgs"), json!(["--max-connections=7", "--verbose"]));
    for (args, problem) in [
        (
            json!(["--drain-seconds=1"]),
            "[0]: remove --drain-seconds: the operator writes it from the resource",
        ),
        (json!(["--config=/x"]), "[0]: remove --config: the operator writes it from the resource"),
        (json!(["--a=1", "--a=2"]), "[1]: remove it: --a stands there already"),
    ] {
        one(&pod("extraArgs"), args, &format!("{path}.extraArgs{problem}"));
    }
    none(&pod("logLevel"), json!("info,liverank_reader=debug"));
    let said = with(&pod("logLevel"), json!("liverank=loud"));
    assert!(said[0].starts_with("spec.readers.pod.logLevel: write a level or a filter: "), "{said:?}");
    one(
        &pod("env"),
        json!([{"name": "A", "value": "1"}, {"name": "A"}]),
        &format!("{path}.env[A]: remove it: the variable stands there already"),
    );
    one(
        &pod("hostAliases"),
        json!([{"ip": "kafka", "hostnames": ["a"]}]),
        &format!("{path}.hostAliases[0].ip: write an IP address"),
    );
}

#[test]
fn volumes_have_one_source_and_mounts_have_a_volume() {
    let pod = |field: &str| format!("/spec/gateway/pod/{field}");
    let path = "spec.gateway.pod";
    none(&pod("volumes"), json!([{"name": "a", "emptyDir": {}}]));
    one(
        &pod("volumes"),
        json!([{"name": "config", "emptyDir": {}}]),
        &format!("{path}.volumes[config]: choose another name: a volume of the operator's has this one"),
    );
    let words = "set one source: configMap, secret, emptyDir, projected, …";
    for volume in [json!({"name": "a"}), json!({"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}})]
    {
        one(&pod("volumes"), json!([volume]), &format!("{path}.volumes[a]: {words}"));
    }
    one(
        &pod("volumeMounts"),
        json!([{"name": "a", "mountPath": "/a"}]),
        &format!("{path}.volumeMounts[0].name: add the volume \"a\" to volumes"),
    );
}

#[test]
fn containers_have_names_of_their_own_and_images() {
    let path = "spec.consumer.pod.sidecars";
    let pointer = "/spec/consumer/pod/sidecars";
    let probe = json!({"tcpSocket": {"port": 1}});
    none(pointer, json!([{"name": "a", "image": "a:1", "startupProbe": probe}]));
    one(
        pointer,
        json!([{"name": "liverank", "image": "a:1"}]),
        &format!("{path}[liverank]: choose another name: a container of the pod has this one already"),
    );
    one(
        pointer,
        json!([{"name": "a", "image": "A/b:1"}]),
        &format!("{path}[a].image: write the repository in lower case: registry.example.org/liverank:tag"),
    );
    one(
        "/spec/consumer/pod/initContainers",
        json!([{"name": "a", "image": "a:1", "readinessProbe": probe}]),
        "spec.consumer.pod.initContainers[a].readinessProbe: remove it: a container that runs to its end has no probes",
    );
    none("/spec/gateway/service", json!({"loadBalancerSourceRanges": ["192.0.2.0/24", "fd00::/8"]}));
    for network in ["192.0.2.0", "192.0.2.0/33", "a/8", "fd00::/129"] {
        one(
            "/spec/gateway/service",
            json!({"loadBalancerSourceRanges": [network]}),
            "spec.gateway.service.loadBalancerSourceRanges[0]: write a network such as 10.1.0.0/16",
        );
    }
    one(
        "/spec/consumer/serviceAccount",
        json!({"annotations": {"liverank.dev/drain": "x"}}),
        "spec.consumer.serviceAccount.annotations: choose another key than liverank.dev/drain: liverank.dev/ is the operator's",
    );
}
