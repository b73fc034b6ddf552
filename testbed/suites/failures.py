"""Finds in a suite's log the lines that name a failure, each with the message that follows it."""

import re

# Characters of a line.
WIDTH = 500
# Lines that name a failure, of which the closing table repeats the first of each suite: what was printed as the suite ended
# is far above by then.
NAMES_FAILURE = re.compile(r"^test .* FAILED$|\bFAILED\b|panicked at|^not ok |^✖ |^(?:FAIL|ERROR): |^error(?:\[\w+\])?:|✗|❌|^failed |^_{3,} .* _{3,}$")
REPEATED = 8
# Lines of a failure's message, and the lines among which they are looked for.
MESSAGE_LINES = 3
MESSAGE_WITHIN = 60

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What follows the message of a panic.
PANIC_ENDS = re.compile(r"^(?:note: |stack backtrace:|failures:|test |---- )|panicked at")
# A frame of a stack in JavaScript, and what comes after it.
FRAME = re.compile(r"^at .*[\w)>\]](?: \{)?$")
# What begins the next part of Python's report.
PYTHON_ENDS = re.compile(r"^(?:={5,}|-{5,}|Ran \d+ tests?|_{3,} .* _{3,})")


def indent(line):
    return len(line) - len(line.lstrip())


def of_panic(lines):
    """The lines up to the note about backtraces."""
    found = []
    for line in lines:
        if PANIC_ENDS.search(line) or (found and not line.strip()):
            break
        found.append(line)
    return found


def of_tap(head, lines):
    """The value of `error` in the block of a test's YAML, of one line or several."""
    found, at = [], None
    for line in lines:
        if at is not None:
            if line.strip() and indent(line) <= at:
                break
            found.append(line)
        elif line.strip() and indent(line) <= indent(head):
            break
        elif match := re.match(r"\s*error: (.*)$", line):
            if not re.fullmatch(r"[|>]-?", match[1]):
                return [match[1].strip("'\"")]
            at = indent(line)
    return found


def of_spec(head, lines):
    """What is indented under the name of a test, up to its stack."""
    found = []
    for line in lines:
        if line.strip() and (indent(line) <= indent(head) or FRAME.match(line.strip())):
            break
        found.append(line)
    return found


def of_python(lines):
    """The exception after the last trace of unittest, or what pytest marks with an E."""
    found, traced = [], False
    for line in lines[1:]:
        if PYTHON_ENDS.match(line):
            break
        if marked := re.match(r"^E\s+(\S.*)$", line):
            found.append(marked[1])
        elif line.startswith("Traceback "):
            found, traced = [], True
        elif traced and line.strip() and not line.startswith(" "):
            found.append(line)
    return found


def message(lines):
    """The first lines of the message that belongs to the failure which the first line names."""
    head, rest = lines[0], lines[1:MESSAGE_WITHIN]
    name = head.strip()
    if "panicked at" in name:
        found = of_panic(rest)
    elif name.startswith("not ok "):
        found = of_tap(head, rest)
    elif name.startswith("✖ "):
        found = of_spec(head, rest)
    elif re.match(r"(?:FAIL|ERROR): |_{3,} ", name):
        found = of_python(rest)
    else:
        found = []
    return [f"    {line.strip()}"[:WIDTH] for line in found if line.strip()][:MESSAGE_LINES]


def failures(text):
    """The first lines that name a failure, each with its message, without colours; the last line where none does."""
    lines = [COLOUR.sub("", line).rstrip() for line in text.splitlines()]
    # By the line: Node's report names a failure twice, once without its message.
    named = {}
    for at, line in enumerate(lines):
        name = line.strip()[:WIDTH]
        # An indented error is a part of a message, and no compiler's.
        is_part = name == "✖ failing tests:" or (name.startswith("error") and indent(line) > 0)
        if NAMES_FAILURE.search(name) and not is_part and not named.get(name):
            named[name] = message(lines[at:at + MESSAGE_WITHIN])
    if named:
        return [line for name in list(named)[:REPEATED] for line in (name, *named[name])]
    return [line.strip()[:WIDTH] for line in lines if line.strip()][-1:]
