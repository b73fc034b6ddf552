"""What other tools than Helm install: the kustomize base, and the examples for Argo CD and Flux."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml
from chart import CHARTS, CRD, ROOT, flags, helm, key, render, require, same

KUSTOMIZE = CHARTS / "kustomize"
GITOPS = CHARTS / "gitops"
HEADER = "# Made from charts/liverank by `charts/test --write`; a check compares.\n"
# The resource is of crds/, and a test's pod is for Helm alone.
VALUES = ("crds.enabled=false",)
# Each base with the values that it is rendered with and the folder of its definition.
BASES = {
    "base": (VALUES, CRD.parent),
    "v1beta1": ((*VALUES, "conversion.enabled=true"), CRD.parent / "v1beta1"),
}


def rendered(values):
    """The chart with its defaults and these values, as `liverank` in the namespace liverank."""
    done = helm("template", "liverank", CHARTS / "liverank", "--namespace", "liverank", "--skip-tests", *flags(values))
    require(done.returncode == 0, done.stderr)
    objects = [body for body in yaml.safe_load_all(done.stdout) if body]
    return HEADER + yaml.safe_dump_all(objects, sort_keys=False)


def write():
    for name, (values, _) in BASES.items():
        (KUSTOMIZE / name / "operator.yaml").write_text(rendered(values))


def check_base():
    for name, (values, definition) in BASES.items():
        check_one_base(name, values, definition)


def check_one_base(name, values, definition):
    folder = KUSTOMIZE / name
    operator = folder / "operator.yaml"
    same(operator.read_text() == rendered(values), True, f"charts/kustomize/{name}/operator.yaml is the chart's (charts/test --write)")
    base = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for resource in base["resources"]:
        there = (folder / resource).resolve()
        require(there.exists(), f"{name}/kustomization.yaml names {resource}")
        require(there.is_file() or (there / "kustomization.yaml").exists(), f"{resource} is no base")
    require(definition in [(folder / resource).resolve() for resource in base["resources"]], f"{name} has another definition")
    crds = yaml.safe_load((definition / "kustomization.yaml").read_text())["resources"]
    same(crds, [CRD.name], f"resources of {definition.name}")
    everything = render("liverank", *values, release="liverank", namespace="liverank")
    hooks = {name for name, body in everything.items() if "helm.sh/hook" in body["metadata"].get("annotations", {})}
    wanted = everything.keys() - hooks
    bodies = list(yaml.safe_load_all(operator.read_text()))
    same({key(body) for body in bodies}, wanted, f"objects of {name}")
    for body in bodies:
        same(body["metadata"].get("namespace", "liverank"), base["namespace"], f"namespace of {key(body)}")
    check_converter(name, bodies, yaml.safe_load((definition / CRD.name).read_text()), base["namespace"])


def check_converter(name, bodies, definition, namespace):
    """The Service that a definition of two versions names is the operator's, and leads to the port that converts."""
    webhook = definition["spec"].get("conversion", {}).get("webhook")
    (deployment,) = [body for body in bodies if body["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    converts = [argument for argument in container["args"] if argument.startswith("--conversion-listen=")]
    if webhook is None:
        same(converts, [], f"{name}: nobody is asked to convert")
        return
    service = webhook["clientConfig"]["service"]
    same(service["namespace"], namespace, f"{name}: the namespace of the webhook")
    (found,) = [body for body in bodies if body["kind"] == "Service" and body["metadata"]["name"] == service["name"]]
    (port,) = [port for port in found["spec"]["ports"] if port["port"] == service["port"]]
    (listens,) = [it for it in container["ports"] if it["name"] == port["targetPort"]]
    same([argument.rsplit(":", 1)[-1] for argument in converts], [str(listens["containerPort"])], f"{name}: the port that converts")


def health():
    text = yaml.safe_load((GITOPS / "argocd-cm.yaml").read_text())["data"]
    return text["resource.customizations.health.liverank.dev_RankingCluster"]


# What the health check has to say of which resource; the first that fits wins, as in the script.
CASES = [
    ("no status", {}, "Progressing"),
    ("an old generation", {"generation": 1, "conditions": {"Ready": "True"}}, "Progressing"),
    ("stalled", {"conditions": {"Stalled": "True", "Reconciling": "False", "Ready": "True"}}, "Degraded"),
    ("rolling out", {"conditions": {"Reconciling": "True", "Ready": "True"}}, "Progressing"),
    ("done", {"conditions": {"Reconciling": "False", "Stalled": "False", "Ready": "True"}}, "Healthy"),
    ("too few pods", {"conditions": {"Reconciling": "False", "Ready": "False"}}, "Progressing"),
    ("going to sleep", {"conditions": {"Reconciling": "True", "Ready": "False"}}, "Progressing"),
    ("asleep", {"conditions": {"Reconciling": "False", "Stalled": "False", "Ready": "True"}}, "Healthy"),
    ("paused in v1beta1", {"spec": {"reconciliation": "Paused"}, "conditions": {"Ready": "True"}}, "Suspended"),
    ("paused", {"paused": True, "conditions": {"Reconciling": "False", "Ready": "True"}}, "Suspended"),
]


def lua(value):
    """A Python value as Lua writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{lua(name)}] = {lua(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(lua(item) for item in value) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else f'"{value}"'


def resource(case):
    body = {"metadata": {"generation": 2}, "spec": case.get("spec", {"paused": case.get("paused", False)})}
    if "conditions" in case:
        conditions = [{"type": kind, "status": status, "message": kind} for kind, status in case["conditions"].items()]
        body["status"] = {"observedGeneration": case.get("generation", 2), "conditions": conditions}
    return body


def check_health():
    script = health()
    kinds = set(re.findall(r'is\("(\w+)"', script))
    status = (ROOT / "operator" / "src" / "status.rs").read_text()
    for kind in kinds:
        require(f'("{kind}", ' in status, f"the operator gives no condition {kind}")
    same(kinds, {"Stalled", "Reconciling", "Ready"}, "conditions that are looked at")
    interpreter = next((it for it in ("lua5.4", "lua5.3", "lua", "luajit") if shutil.which(it)), None)
    require(interpreter, "no Lua to run the health check with; apt-get install -y lua5.4")
    for name, case, wanted in CASES:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "health.lua"
            file.write_text(f"obj = {lua(resource(case))}\nlocal function judge()\n{script}\nend\nprint(judge().status)\n")
            done = subprocess.run([interpreter, file], capture_output=True, text=True, timeout=10, check=False)
        same((done.stderr, done.stdout.strip()), ("", wanted), name)


def check_examples():
    """Values that the examples set are values of the chart."""
    flux = {body["kind"]: body for body in yaml.safe_load_all((GITOPS / "flux.yaml").read_text())}
    application = yaml.safe_load((GITOPS / "application.yaml").read_text())
    for values in (flux["HelmRelease"]["spec"]["values"], application["spec"]["source"]["helm"]["valuesObject"]):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "values.yaml"
            file.write_text(yaml.safe_dump(values))
            done = helm("template", "try", CHARTS / "liverank", "--values", file)
        require(done.returncode == 0, done.stderr)
        require("registry.example.org/liverank:" in done.stdout, "the image is another")
    same(flux["HelmRelease"]["spec"]["chart"]["spec"]["chart"], "charts/liverank", "the chart")
    require((ROOT / application["spec"]["source"]["path"] / "Chart.yaml").exists(), "no chart there")
    same(flux["Kustomization"]["spec"]["wait"], True, "Flux waits")


def check_scaler(name, body):
    """What a scaler of ours keeps to: one pod at a time on the way down, and nobody less while the metric is away."""
    spec = body["spec"]
    keda = body["kind"] == "ScaledObject"
    require(keda or body["kind"] == "HorizontalPodAutoscaler", f"{name}: {body['kind']}")
    least, most = (spec["minReplicaCount"], spec["maxReplicaCount"]) if keda else (spec["minReplicas"], spec["maxReplicas"])
    require(1 <= least < most, f"{name}: from {least} to {most}")
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] if keda else spec["behavior"]
    (policy,) = behavior["scaleDown"]["policies"]
    same((policy["type"], policy["value"]), ("Pods", 1), f"{name}: pods that go at a time")
    if keda:
        same(spec["fallback"]["behavior"], "currentReplicasIfHigher", f"{name}: without the metric")
        require(least <= spec["fallback"]["replicas"] <= most, f"{name}: the fallback")
        for trigger in spec["triggers"]:
            require(f'namespace="{body["metadata"]["namespace"]}"' in trigger["metadata"]["query"], f"{name}: whose metric?")


def check_scaling():
    """What the recipes scale is a Deployment of a RankingCluster, by a metric that its pods have."""
    targets = set()
    for file in sorted((CHARTS / "scaling").glob("*.yaml")):
        for body in yaml.safe_load_all(file.read_text()):
            text = yaml.safe_dump(body)
            for part, metric in re.findall(r"\bliverank_([a-z]+)_([a-z_]+)", text):
                sources = "\n".join(it.read_text() for it in (ROOT / "services" / part / "src").rglob("*.rs"))
                require(f'"{metric}"' in sources, f"{file.name}: {part} has no metric {metric}")
            target = body.get("spec", {}).get("scaleTargetRef")
            if target:
                component = target["name"].removeprefix("live-")
                same((target["apiVersion"], target["kind"]), ("apps/v1", "Deployment"), file.name)
                require(f"`{component}.scaledBy: Others`" in file.read_text(), f"{file.name} does not say scaledBy")
                targets.add(component)
                check_scaler(file.name, body)
    same(targets, {"websocket", "gateway", "consumer"}, "components with a recipe")
    spec = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for component in targets:
        same(spec["properties"][component]["properties"]["scaledBy"]["enum"], ["Operator", "Others"], component)


CHECKS = [
    ("scaling: the recipes scale what there is by what it tells", check_scaling),
    ("kustomize: the bases are what the chart renders, and v1beta1 has who converts", check_base),
    ("Argo CD: the health check says what the conditions say", check_health),
    ("Argo CD, Flux: the examples are of this chart", check_examples),
]
