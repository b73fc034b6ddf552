"""The chart liverank-demo: stores of one node, and a RankingCluster."""

import base64
import re
import tempfile

import yaml
from chart import (
    CHARTS, ROOT, cluster_problems, helm, key, matches, of_kind, only, pods, refused, render, require, same, unrestricted,
)

ELSEWHERE = (
    "kafka.enabled=false", "kafka.bootstrapServers=k:9092", "redis.enabled=false", "redis.url=redis://r:6379",
    "mongodb.enabled=false", "mongodb.uri=mongodb://m:27017/?replicaSet=rs0", "mongodb.database=other",
)
NOT_KEPT = tuple(f"{store}.persistence.enabled=false" for store in ("kafka", "redis", "mongodb"))
MATRIX = {
    "defaults": (), "stores elsewhere": ELSEWHERE, "nothing kept": NOT_KEPT,
    "a policy less": ("networkPolicy.enabled=false",),
    "another name, autoscaling": ("cluster.name=live", "cluster.spec.gateway.autoscaling.maxReplicas=5"),
}
WRONG = {
    "kafka.enabled=false": "kafka.bootstrapServers", "redis.enabled=false": "redis.url", "mongodb.enabled=false": "mongodb.uri",
    "redis.url=http://x": "url", "mongodb.uri=m:27017": "uri", "redis.topology=Ring": "topology",
    "cluster.name=1st": "name", "cluster.image=x": "image", "kafka.replicas=3": "replicas",
    "kafka.persistence.size=big": "size", "readers.replicas=3": "readers",
}


def cluster(objects):
    return only(objects, "RankingCluster")


def secret(objects):
    return {name: base64.b64decode(text).decode() for name, text in only(objects, "Secret")["data"].items()}


def check_matrix(values):
    def check():
        objects = render("liverank-demo", *values)
        for kind, namespace, name in objects:
            same(namespace, "here", f"the namespace of {kind} {name}")
        for name, _, spec in pods(objects):
            same(unrestricted(spec), [], f"{name} by the standard `restricted`")
            same(spec["enableServiceLinks"], False, f"{name}'s enableServiceLinks")
            same(spec["automountServiceAccountToken"], False, f"{name}'s token")
        same(cluster_problems(cluster(objects)), [], "the RankingCluster")
    return check


def check_stores():
    objects = render("liverank-demo")
    spec = cluster(objects)["spec"]
    same(spec["kafka"]["bootstrapServers"], "try-kafka.here.svc:9092", "Kafka")
    same(secret(objects)["redis-url"], "redis://try-redis.here.svc:6379", "Redis")
    same(secret(objects)["mongodb-uri"], "mongodb://try-mongodb.here.svc:27017/?replicaSet=rs0", "MongoDB")
    for store, port in (("kafka", 9092), ("redis", 6379), ("mongodb", 27017)):
        service, made = only(objects, "Service", store), only(objects, "StatefulSet", store)
        labels = made["spec"]["template"]["metadata"]["labels"]
        require(matches(service["spec"]["selector"], labels), f"{store}'s Service leads nowhere")
        same([it["port"] for it in service["spec"]["ports"]], [port], f"{store}'s port")
        (container,) = made["spec"]["template"]["spec"]["containers"]
        same([it["containerPort"] for it in container["ports"]], [port], f"{store}'s container's port")
        others = [body for body in of_kind(objects, "Service") if body is not service]
        require(not any(matches(body["spec"]["selector"], labels) for body in others), f"{store} is another's too")
    mongodb = only(objects, "StatefulSet", "mongodb")["spec"]["template"]["spec"]
    same(mongodb["hostAliases"], [{"ip": "127.0.0.1", "hostnames": ["try-mongodb.here.svc"]}], "MongoDB's own name")
    started = mongodb["containers"][0]["lifecycle"]["postStart"]["exec"]["command"][-1]
    require('host: "try-mongodb.here.svc:27017"' in started, "the member has another name")


def check_references():
    objects = render("liverank-demo", "cluster.name=live")
    spec = cluster(objects)["spec"]
    there = only(objects, "Secret")
    asked = (spec["redis"]["urlSecret"], spec["mongodb"]["uriSecret"])
    for reference in asked:
        same(reference["name"], there["metadata"]["name"], "the Secret's name")
        require(reference["key"] in there["data"], f"no {reference['key']} in it")
    for policy in of_kind(objects, "NetworkPolicy"):
        (rule,) = policy["spec"]["ingress"]
        wanted = {"app.kubernetes.io/name": "liverank", "app.kubernetes.io/instance": "live"}
        same(rule["from"], [{"podSelector": {"matchLabels": wanted}}], "who gets in")


def check_elsewhere():
    objects = render("liverank-demo", *ELSEWHERE)
    same(sorted({kind for kind, _, _ in objects}), ["RankingCluster", "Secret"], "kinds")
    spec = cluster(objects)["spec"]
    same(spec["kafka"]["bootstrapServers"], "k:9092", "Kafka")
    same(secret(objects)["redis-url"], "redis://r:6379", "Redis")
    same(secret(objects)["mongodb-uri"], "mongodb://m:27017/?replicaSet=rs0", "MongoDB")
    same(spec["mongodb"]["database"], "other", "database")


def check_persistence():
    for values, kept in (((), True), (NOT_KEPT, False)):
        for made in of_kind(render("liverank-demo", *values), "StatefulSet"):
            claims = [it["metadata"]["name"] for it in made["spec"].get("volumeClaimTemplates", [])]
            pod = made["spec"]["template"]["spec"]
            empty = [it["name"] for it in pod.get("volumes", []) if "emptyDir" in it]
            same(claims, ["data"] if kept else [], "claims")
            same("data" in empty, not kept, "emptyDir")
            require("data" in [it["name"] for it in pod["containers"][0]["volumeMounts"]], "the data is elsewhere")


def check_spec():
    """Whatever the resource has can be said, and numbers stay whole ones."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
        own = {"readers": {"viewersPerReader": 1000000, "maxReplicas": 50}, "gateway": {"autoscaling": {"maxReplicas": 5}}}
        yaml.safe_dump({"cluster": {"spec": own}}, values)
        values.flush()
        done = helm("template", "try", CHARTS / "liverank-demo", "--values", values.name)
    require(done.returncode == 0, done.stderr)
    objects = {key(body): body for body in yaml.safe_load_all(done.stdout) if body}
    spec = cluster(objects)["spec"]
    same(spec["readers"], {"minReplicas": 2, "maxReplicas": 50, "viewersPerReader": 1000000}, "readers")
    same(spec["gateway"], {"autoscaling": {"maxReplicas": 5}}, "gateway")
    require("viewersPerReader: 1000000\n" in done.stdout, "the number is written otherwise")
    same(cluster_problems(cluster(objects)), [], "the RankingCluster")


def check_images():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for store, service in (("kafka", "kafka"), ("redis", "redis"), ("mongodb", "mongo")):
        made = only(render("liverank-demo"), "StatefulSet", store)
        same(made["spec"]["template"]["spec"]["containers"][0]["image"], compose[service]["image"], f"{store}'s image")
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "Cargo.toml").read_text())[1]
    same(cluster(render("liverank-demo"))["spec"]["image"], f"liverank:{version}", "image")


def check_wrong_values():
    for values, named in WRONG.items():
        message = refused("liverank-demo", values)
        require(named in message, f"{values}: nothing says {named}: {message}")


def check_two_releases():
    one, two = render("liverank-demo", release="one"), render("liverank-demo", release="two")
    same(one.keys() & two.keys(), set(), "names that two releases share")


def check_notes():
    done = helm("install", "try", CHARTS / "liverank-demo", "--dry-run=client", "--namespace", "here", "--set", "cluster.name=live")
    require(done.returncode == 0, done.stderr)
    notes = done.stdout.split("NOTES:")[-1]
    for said in ("port-forward service/live-gateway 8080:8080", "wait rankingcluster/live --for=condition=Ready"):
        require(said in notes, f"NOTES do not say {said}")
    require("until the chart liverank is installed" in notes, "NOTES do not say that the operator is missing")


def check_kind():
    kind = yaml.safe_load((ROOT / "testbed" / "kind" / "cluster.yaml").read_text())
    same((kind["kind"], kind["apiVersion"]), ("Cluster", "kind.x-k8s.io/v1alpha4"), "kind's configuration")
    same([node["role"] for node in kind["nodes"]], ["control-plane", "worker", "worker"], "nodes")


CHECKS = [
    *[(f"liverank-demo: objects and pods with {name}", check_matrix(values)) for name, values in MATRIX.items()],
    ("liverank-demo: Kafka, Redis and MongoDB are where the RankingCluster looks", check_stores),
    ("liverank-demo: Secrets and policies fit the RankingCluster", check_references),
    ("liverank-demo: each store can be another's", check_elsewhere),
    ("liverank-demo: claims, or data that ends with the pod", check_persistence),
    ("liverank-demo: any field of the RankingCluster can be said", check_spec),
    ("liverank-demo: images are those of docker-compose.yml", check_images),
    ("liverank-demo: wrong values are refused by name", check_wrong_values),
    ("liverank-demo: two releases share no name", check_two_releases),
    ("liverank-demo: NOTES", check_notes),
    ("kind: one control plane, two workers", check_kind),
]
