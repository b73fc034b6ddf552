"""The dashboards for Grafana: made by charts/dashboards.py, of a form that Grafana reads, asking for metrics that exist."""

import json
import re
import shutil
import subprocess
import sys
import tempfile

import yaml
from chart import CHARTS, PATIENCE, ROOT, Failure, of_kind, render, require, same

sys.path.insert(0, str(CHARTS))
import dashboards as generator  # noqa: E402

NAMES = ("counting", "operator", "overview", "rankings", "readers-and-moves")
# What Prometheus' data source reads of an annotation beside Grafana's own fields, which are in no model.
OF_PROMETHEUS = {"step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"}
# Of each panel that shows values.
REQUIRED = {"id", "type", "title", "gridPos", "datasource", "fieldConfig", "options", "targets"}
UNITS = {"ops", "s", "short", "percentunit", "bytes", "Bps"}
# Labels by which sums may be grouped: those of our metrics, and those that Prometheus adds.
LABELS = {"namespace", "pod", "instance", "reader", "le", "partition", "board", "service", "method", "route", "status", "reason", "way", "kind",
          "outcome", "verb", "shard", "source", "rule", "zone"}


def committed():
    """The dashboards by their names."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(generator.FOLDER.glob("*.json"))}


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard):
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for mark in dashboard["annotations"]["list"]:
        yield mark["name"], mark["expr"]


def check_made():
    found = {file.name: file.read_text(encoding="utf-8") for file in generator.FOLDER.glob("*.json")}
    wanted = generator.made()
    same(sorted(found), sorted(wanted), "files")
    same([name for name in wanted if found[name] != wanted[name]], [], "files that charts/dashboards.py makes otherwise (charts/test --write)")
    same(tuple(committed()), NAMES, "dashboards")


def check_form():
    """What Grafana needs of a dashboard, by our own statement of it."""
    uids = set()
    for name, body in committed().items():
        same(body["uid"], f"liverank-{name}", "uid: links lead to it, it must stay")
        uids.add(body["uid"])
        require(len(body["uid"]) <= 40 and body["schemaVersion"] == 39 and body["title"] and "id" not in body, f"{name}: {body['uid']}")
        variables = {variable["name"]: variable["type"] for variable in body["templating"]["list"]}
        same(variables, {"source": "datasource", "namespace": "query"}, f"variables of {name}")
        ids = [panel["id"] for panel in body["panels"]]
        same(len(ids), len(set(ids)), f"ids of panels of {name}")
        for panel in panels(body):
            where = f"{name}, {panel['title']}"
            same(REQUIRED - panel.keys(), set(), f"what {where} lacks")
            same(panel["datasource"], generator.SOURCE, f"source of {where}")
            require(panel["fieldConfig"]["defaults"]["unit"] in UNITS, f"unit of {where}")
            steps = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
            require(steps[0] is None and all(step >= 0 for step in steps[1:]), f"thresholds of {where}: {steps}")
            letters = [target["refId"] for target in panel["targets"]]
            require(letters and len(letters) == len(set(letters)), f"targets of {where}: {letters}")
            legends = [target["legendFormat"] for target in panel["targets"]]
            same(len(legends), len(set(legends)), f"names of the lines of {where}")
        titles = [panel["title"] for panel in panels(body)]
        same(sorted(set(titles)), sorted(titles), f"titles of {name}")
    same(len(uids), len(NAMES), "uids")


def check_grid():
    """Panels stand in the grid, none on another, and no line begins with a hole."""
    for name, body in committed().items():
        taken = {}
        for panel in body["panels"]:
            place = panel["gridPos"]
            require(place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= generator.COLUMNS, f"{name}, {panel['title']}: {place}")
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    require((x, y) not in taken, f"{name}: {panel['title']} stands on {taken.get((x, y))}")
                    taken[x, y] = panel["title"]
        lines = {panel["gridPos"]["y"] for panel in body["panels"]}
        same([y for y in lines if (0, y) not in taken], [], f"lines of {name} that begin with a hole")


def differences(wanted, found, path=""):
    """Where `found`, read and written by a model, lacks or changes what was `wanted`."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            yield from differences(value, found[key], f"{path}.{key}") if key in found else [f"{path}.{key}"]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found)):
            yield from differences(one, other, f"{path}[{index}]")
    elif wanted != found:
        yield path


def check_model():
    """Grafana's own model of a dashboard knows each field, of the panels' kinds, too."""
    try:
        from grafana_foundation_sdk.cog import plugins
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.models.dashboard import Dashboard
    except ImportError as error:
        raise Failure(f"{error}: testbed/testbed install schemathesis, whose environment has it") from error
    plugins.register_default_plugins()
    for name, body in committed().items():
        read = json.loads(JSONEncoder().encode(Dashboard.from_json(body)))
        lost = [path for path in differences(body, read) if path.split(".")[-1] not in OF_PROMETHEUS]
        same(lost, [], f"fields of {name} that Grafana's model does not know")


def check_expressions():
    """promtool reads each expression; a recording rule holds it, for promtool of Debian formats none alone."""
    require(shutil.which("promtool"), "promtool is missing; testbed/testbed install prometheus, or your system's package")
    rules = []
    for name, body in committed().items():
        for title, expression in expressions(body):
            plain = expression.replace("$__rate_interval", "2m").replace("$namespace", ".*")
            require("$" not in plain and "OURS" not in plain, f"{name}, {title}: {expression}")
            rules.append({"record": f"dashboard:expression:{len(rules)}", "expr": plain})
    require(len(rules) > 100, f"only {len(rules)} expressions")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}, file)
        file.flush()
        done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, timeout=PATIENCE, check=False)
    require(done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stdout + done.stderr)


def documented():
    """Each metric of docs/metrics.md and its type."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^\| `(liverank_\w+)` \| (\w+) \|", text))


def check_metrics():
    """Each metric is in the reference, and asked as what it is: counters by how fast they grow, histograms by their buckets."""
    types, asked = documented(), set()
    for name, body in committed().items():
        for title, expression in expressions(body):
            where = f"{name}, {title}: {expression}"
            for metric in re.findall(r"liverank_\w+", expression):
                family = metric if metric in types else re.sub(r"_(bucket|sum|count)$", "", metric)
                require(family in types, f"{where}: docs/metrics.md has no {metric}")
                asked.add(family)
                grows = re.search(rf"(rate|increase|changes)\({metric}[{{\[]", expression)
                same(bool(grows), types[family] != "gauge" or "changes(" in expression, f"{where}: {family} is a {types[family]}")
            for group in re.findall(r"by \(([^)]*)\)", expression):
                same(set(group.split(", ")) - LABELS, set(), f"{where}: labels that nothing has")
    require(len(asked) > 70, f"only {len(asked)} metrics are shown")


def check_asked():
    """What a look at a system needs is there."""
    shown = " ".join(expression for body in committed().values() for _, expression in expressions(body))
    for metric in ("consumer_lag_records", "consumer_lag_seconds", "consumer_projection_lag_records", "gateway_canary_seconds", "http_requests_total",
                   "http_request_seconds", "http_refusals_total", "consumer_board_freshness_seconds", "reader_capacity", "reader_viewers",
                   "manager_moves_total", "websocket_list_freshness_seconds", "gateway_stream_interruption_seconds", "manager_heartbeat_age_seconds", "consumer_export_lag_records"):
        require(f"liverank_{metric}" in shown, f"no dashboard shows liverank_{metric}")
    reasons = re.search(r"pub enum MoveReason \{(.*?)\n    \}", (ROOT / "services/manager/src/metrics.rs").read_text(), re.DOTALL)[1]
    marks = [mark["name"] for mark in committed()["readers-and-moves"]["annotations"]["list"]]
    for reason in re.findall(r'= "(\w+)"', reasons):
        require(f"Moves: {reason}" in marks, f"no annotation for moves by {reason}")
    for way in ("more", "fewer"):
        require(f"Readers: {way}" in marks, f"no annotation for {way} readers")


def check_thresholds():
    """A panel that names an alert draws the alert's bound."""
    alerts = yaml.safe_load((CHARTS / "liverank" / "files" / "alerts.yaml").read_text())
    known = {alert["alert"]: alert["expr"] for group in alerts["groups"] for alert in group["rules"]}
    drawn = 0
    for name, body in committed().items():
        for panel in panels(body):
            for alert in re.findall(r"Alert: (\w+)\.", panel.get("description", "")):
                require(alert in known, f"{name}, {panel['title']}: there is no {alert}")
                for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
                    require(re.search(rf">=? {step['value']:g}\b", known[alert]), f"{name}, {panel['title']}: {step} is not the bound of {alert}")
                    drawn += 1
    require(drawn > 15, f"only {drawn} bounds are drawn")


def check_maps():
    """The chart makes a ConfigMap of each, as it stands, with what the sidecar looks for."""
    objects = render("liverank", "dashboard.enabled=true", "dashboard.annotations.grafana_folder=liverank")
    found = {}
    for body in of_kind(objects, "ConfigMap"):
        same(body["metadata"]["labels"]["grafana_dashboard"], "1", "the sidecar's label")
        same(body["metadata"]["annotations"]["grafana_folder"], "liverank", "the sidecar's annotation")
        found |= body["data"]
    same({name: json.loads(text) for name, text in found.items()}, {f"liverank-{name}.json": body for name, body in committed().items()}, "dashboards")
    same(of_kind(render("liverank"), "ConfigMap"), [], "ConfigMaps where no dashboard is wanted")


CHECKS = [
    ("dashboards: what is committed is what the generator makes", check_made),
    ("dashboards: they have what Grafana needs", check_form),
    ("dashboards: panels fit the grid, none on another", check_grid),
    ("dashboards: Grafana's model knows each field", check_model),
    ("dashboards: Prometheus reads each expression", check_expressions),
    ("dashboards: each metric is documented, and asked as what it is", check_metrics),
    ("dashboards: what a look at a system needs is there", check_asked),
    ("dashboards: a panel that names an alert draws its bound", check_thresholds),
    ("dashboards: the chart makes a ConfigMap of each", check_maps),
]
