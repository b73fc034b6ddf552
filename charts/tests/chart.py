"""Helm, the charts as it renders them, and what the checks say of them."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
CRD = ROOT / "crds" / "rankingcluster.yaml"
CRD_COPY = CHARTS / "liverank" / "files" / "rankingcluster.yaml"
CRD_BOTH = ROOT / "crds" / "v1beta1" / "rankingcluster.yaml"
CRD_BOTH_COPY = CHARTS / "liverank" / "files" / "rankingcluster-v1beta1.yaml"
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
# Helm answers within a second; what hangs is a failure.
PATIENCE = 60


class Failure(Exception):
    """A check that does not hold, and why."""


def require(condition, problem):
    if not condition:
        raise Failure(problem)


def same(found, wanted, what):
    require(found == wanted, f"{what}: {found!r} instead of {wanted!r}")


def helm(*arguments):
    """What Helm did, with its exit code; never asks a cluster."""
    return subprocess.run(["helm", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False)


def flags(values):
    """`a.b=c` for plain values, whole trees as a file of their own would be."""
    return [part for value in values for part in ("--set", value)]


def render(chart, *values, release="try", namespace="here", show=()):
    """The objects of a release, by (kind, namespace, name)."""
    shown = [part for template in show for part in ("--show-only", f"templates/{template}")]
    done = helm("template", release, CHARTS / chart, "--namespace", namespace, *flags(values), *shown)
    require(done.returncode == 0, f"helm template {' '.join(values)}: {done.stderr.strip()}")
    objects = {}
    for body in yaml.safe_load_all(done.stdout):
        if body is None:
            continue
        require({"apiVersion", "kind", "metadata"} <= body.keys(), f"not an object: {body}")
        name = key(body)
        require(name not in objects, f"two of {name}")
        objects[name] = body
    return objects


def refused(chart, *values):
    """What Helm says of values that it must not take."""
    done = helm("template", "try", CHARTS / chart, *flags(values))
    require(done.returncode != 0, f"{' '.join(values)} was taken")
    return done.stderr


def key(body):
    return body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"]


def of_kind(objects, kind):
    return [body for body in objects.values() if body["kind"] == kind]


def only(objects, kind, name=None):
    """The one object of a kind, or the one of these whose name ends so."""
    found = [body for body in of_kind(objects, kind) if name is None or body["metadata"]["name"].endswith(name)]
    require(len(found) == 1, f"{len(found)} of {kind} {name or ''}: {sorted(objects)}")
    return found[0]


def pods(objects):
    """Every pod's labels and spec, with the name of what makes it."""
    for body in objects.values():
        if body["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = body["spec"]["template"]
            yield body["metadata"]["name"], template["metadata"]["labels"], template["spec"]
        elif body["kind"] == "Pod":
            yield body["metadata"]["name"], body["metadata"]["labels"], body["spec"]


def matches(selector, labels):
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def unrestricted(spec):
    """What keeps a pod from Kubernetes' Pod Security Standard `restricted`."""
    pod = spec.get("securityContext", {})
    problems = []
    if pod.get("runAsNonRoot") is not True or not pod.get("runAsUser"):
        problems.append("may run as root")
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        problems.append("no seccomp profile")
    for volume in spec.get("volumes", []):
        if not volume.keys() <= {"name", "secret", "configMap", "emptyDir", "projected", "persistentVolumeClaim"}:
            problems.append(f"volume {volume}")
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(forbidden):
            problems.append(forbidden)
    for container in spec["containers"] + spec.get("initContainers", []):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            problems.append(f"{container['name']} may gain privileges")
        if security.get("capabilities") != {"drop": ["ALL"]}:
            problems.append(f"{container['name']} has capabilities")
    return problems


def schema_problems(schema, value, path="spec"):
    """What the API server would say of a value by the structural part of a resource's schema."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string"):
        return []
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    wanted = kinds.get(schema.get("type"), object)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        return [f"{path}: {value!r} is no {schema['type']}"]
    problems = []
    if value not in schema.get("enum", [value]):
        problems.append(f"{path}: {value!r} is none of {schema['enum']}")
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        problems += [f"{path}.{name}: required" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            if name in properties:
                problems += schema_problems(properties[name], item, f"{path}.{name}")
            elif isinstance(more, dict):
                problems += schema_problems(more, item, f"{path}.{name}")
            else:
                problems.append(f"{path}.{name}: there is no such field")
    if isinstance(value, list):
        for index, item in enumerate(value):
            problems += schema_problems(schema["items"], item, f"{path}[{index}]")
    return problems


def cluster_problems(body):
    """What is wrong with a RankingCluster by crds/rankingcluster.yaml."""
    versions = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schemas = {version["name"]: version["schema"]["openAPIV3Schema"] for version in versions}
    group, version = body["apiVersion"].split("/")
    same(group, "liverank.dev", "apiVersion")
    require(version in schemas, f"version {version}: there are {sorted(schemas)}")
    return schema_problems(schemas[version]["properties"]["spec"], body["spec"])
