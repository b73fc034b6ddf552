#!/usr/bin/env python3
"""Makes the dashboards for Grafana, charts/liverank/files/dashboards/*.json, from the panels in dashboard_panels.py.

    charts/dashboards.py            writes them
    charts/dashboards.py FOLDER     writes them there

`charts/test` compares what is committed with what this makes. A line of a threshold is the alert's own: it is read from
charts/liverank/files/alerts.yaml, so a dashboard and an alert cannot disagree.
"""

import json
import pathlib
import re
import sys

import dashboard_panels as panels
import yaml

CHART = pathlib.Path(__file__).resolve().parent / "liverank"
FOLDER = CHART / "files" / "dashboards"
ALERTS = CHART / "files" / "alerts.yaml"
# Grafana's grid has so many columns.
COLUMNS = 24
HEIGHT = 8
# The form of the JSON that Grafana 10.4 writes; later ones read it.
SCHEMA = 39
SOURCE = {"type": "prometheus", "uid": "${source}"}
# The selector that every expression on a cluster's processes is narrowed by. A process outside of Kubernetes has no such label,
# and "All" is `.*`, which matches that, too.
OURS = 'namespace=~"$namespace"'


def bounds():
    """For each alert on a value: the value that it fires above (or from)."""
    found = {}
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for alert in group["rules"]:
            if match := re.search(r">=? ?([0-9.]+)\s*(?:$|\n|and )", alert["expr"]):
                found[alert["alert"]] = float(match[1])
    return found


def thresholds(panel, alerts):
    steps = [{"color": "green", "value": None}]
    if panel.alert in alerts:
        steps.append({"color": "red", "value": alerts[panel.alert]})
    return {"mode": "absolute", "steps": steps}


def field_config(panel, alerts):
    defaults = {"unit": panel.unit, "min": 0, "thresholds": thresholds(panel, alerts)}
    if panel.kind == "timeseries":
        drawn = "dashed" if alerts.get(panel.alert, 0) > 0 else "off"
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if panel.stacked else 5, "showPoints": "never", "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"}, "thresholdsStyle": {"mode": drawn},
        }
    else:
        defaults["color"] = {"mode": "thresholds"}
    return {"defaults": defaults, "overrides": []}


def options(panel):
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "area",
                "justifyMode": "auto", "orientation": "auto", "textMode": "auto"}
    return {"legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"}}


def description(panel):
    return f"{panel.words} Alert: {panel.alert}." if panel.alert else panel.words


def target(index, query):
    expression, legend = query
    return {"refId": chr(ord("A") + index), "datasource": SOURCE, "editorMode": "code", "expr": expression.replace("OURS", OURS),
            "legendFormat": legend, "range": True}


def drawn(panel, number, place, alerts):
    body = {"id": number, "type": panel.kind, "title": panel.title, "gridPos": place, "datasource": SOURCE}
    if description(panel):
        body["description"] = description(panel)
    body |= {"fieldConfig": field_config(panel, alerts), "options": options(panel)}
    return body | {"targets": [target(index, query) for index, query in enumerate(panel.queries)]}


def row(title, number, top):
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}, "panels": []}


def laid_out(sections, alerts):
    """The panels of a dashboard, from left to right and on to the next line where there is no room."""
    made, top = [], 0
    for title, members in sections:
        made.append(row(title, len(made) + 1, top))
        top, left, height = top + 1, 0, 0
        for panel in members:
            own = panel.height or HEIGHT
            if left + panel.width > COLUMNS:
                top, left, height = top + height, 0, 0
            made.append(drawn(panel, len(made) + 1, {"h": own, "w": panel.width, "x": left, "y": top}, alerts))
            left, height = left + panel.width, max(height, own)
        top += height
    return made


def annotation(mark):
    return {"name": mark.name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": mark.colour,
            "expr": mark.expression.replace("OURS", OURS), "step": "1m", "titleFormat": mark.title, "textFormat": mark.text,
            "tagKeys": mark.tags, "useValueForTime": False}


def variables():
    of_namespace = {"name": "namespace", "label": "Namespace", "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
                    "query": "label_values(liverank_http_in_flight, namespace)", "includeAll": True, "multi": True, "allValue": ".*",
                    "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}
    return [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}, of_namespace]


def dashboard(board, alerts):
    return {
        "uid": f"liverank-{board.name}",
        "title": f"liverank: {board.title}",
        "description": board.words,
        "tags": ["liverank"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "title": "liverank", "tags": ["liverank"], "asDropdown": True, "includeVars": True, "keepTime": True}],
        "templating": {"list": variables()},
        "annotations": {"list": [annotation(mark) for mark in board.annotations]},
        "panels": laid_out(board.sections, alerts),
    }


def made():
    """The text of each file, by its name."""
    alerts = bounds()
    return {f"{board.name}.json": json.dumps(dashboard(board, alerts), indent=1, ensure_ascii=False) + "\n" for board in panels.DASHBOARDS}


def write(folder=FOLDER):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
