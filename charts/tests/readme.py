"""The tables of values in the charts' README.md, made from the comments in values.yaml: `# -- ` before a value."""

import json

import yaml

from chart import CHARTS, Failure

BEGIN, END = "<!-- values -->\n", "<!-- end of values -->\n"


def described(text):
    """(path, value, description) of every value that has one, and of every plain one that has none."""
    comments, path, words = {}, [], None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            words = [stripped[5:]]
        elif stripped.startswith("#"):
            if words is not None:
                words.append(stripped[1:].strip())
        elif stripped and not stripped.startswith("-"):
            depth = (len(line) - len(line.lstrip())) // 2
            path = [*path[:depth], stripped.split(":", 1)[0]]
            if words is not None:
                comments[".".join(path)] = " ".join(words)
            words = None
        else:
            words = None
    return list(rows(yaml.safe_load(text), comments))


# Shown whole, though they have more below.
WHOLE = {"labels", "resources"}


def rows(values, comments, above=""):
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and path not in comments and name not in WHOLE:
            yield from rows(value, comments, f"{path}.")
        else:
            yield path, value, comments.get(path, "")


def table(chart):
    lines = ["| value | default | |", "|---|---|---|"]
    for path, value, words in described((CHARTS / chart / "values.yaml").read_text()):
        words = words.replace("|", "\\|")
        lines.append(f"| `{path}` | `{json.dumps(value, ensure_ascii=False)}` | {words} |")
    return "\n".join(lines) + "\n"


def readme(chart):
    """(what stands there, what should)."""
    text = (CHARTS / chart / "README.md").read_text()
    if BEGIN not in text or END not in text:
        raise Failure(f"charts/{chart}/README.md has no {BEGIN.strip()} … {END.strip()}")
    before, rest = text.split(BEGIN, 1)
    return text, before + BEGIN + table(chart) + END + rest.split(END, 1)[1]


def write(chart):
    (CHARTS / chart / "README.md").write_text(readme(chart)[1])
