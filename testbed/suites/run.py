"""Runs suites in their lanes, counts what they say, and prints a line a suite and a table of all."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import commands
from failures import WIDTH, failures
from table import CHECKOUT, TARGET, TOTAL_LIMIT, Beside

LOGS = CHECKOUT / ".testbed/logs"
PATHS = CHECKOUT / ".testbed/paths"
# How often its limit a suite may take before it is taken for one that has hung.
HUNG = 4
# Seconds that a suite has to clear up after itself when it is ended: a Kubernetes, at most.
PATIENCE = 60
# Lines of a log that are printed when its suite fails.
TAIL = 60

# What runners say of themselves: how many passed, and how many failed.
SAID = (
    # cargo test
    (re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed"), 1, 2),
    # node --test, in either of its forms
    (re.compile(r"^(?:#|ℹ) pass (\d+)$"), 1, None),
    (re.compile(r"^(?:#|ℹ) (?:fail|cancelled) (\d+)$"), None, 1),
    # Python's unittest
    (re.compile(r"^Ran (\d+) tests? in "), 1, None),
    # our own scripts
    (re.compile(r"^(\d+) passed, (\d+) failed$"), 1, 2),
)


def tally(text, code):
    """How many tests passed and failed. A runner that counts nothing is one test, by its exit code."""
    good = bad = 0
    counted = False
    for line in text.splitlines():
        for pattern, passed, failed in SAID:
            if match := pattern.match(line):
                counted = True
                good += int(match[passed]) if passed else 0
                bad += int(match[failed]) if failed else 0
    if not counted:
        return (1, 0) if code == 0 else (0, 1)
    # It broke outside of a test: a build, a panic, a runner that was killed.
    return good, bad or int(code != 0)


@dataclass(frozen=True)
class Result:
    """How a suite ended."""

    suite: object
    passed: int
    failed: int
    took: float
    # Why it did not run, or was ended.
    note: str = ""

    @property
    def over(self):
        return self.took > self.suite.limit

    def line(self):
        marks = [mark for mark in (self.note, "OVER ITS LIMIT" if self.over else "") if mark]
        return (f"{self.suite.name:<20} {self.passed:>5} passed, {self.failed} failed {self.took:>8.0f} s of {self.suite.limit}"
                f"{'   ' + ', '.join(marks) if marks else ''}")


def environment():
    """For every suite: programs of the tests' profile, and a test bed of its own, so that one used by hand is left alone."""
    ours = {
        "LIVERANK_BIN": str(TARGET / "liverank"),
        "LIVERANK_TEST_TARGET": str(TARGET),
        "LIVERANK_TESTBED_DIR": str(CHECKOUT / ".testbed/tests"),
        "LIVERANK_TESTBED_KAFKA_PORT": "29092",
        "LIVERANK_TESTBED_MONGODB_PORT": "28017",
        "LIVERANK_TESTBED_REDIS_PORT": "26379",
        "LIVERANK_TESTBED_REDIS_CLUSTER_PORT": "26479",
        "CARGO_TERM_COLOR": "never",
    }
    return os.environ | ours


# With the addresses of the parts, of which more are there with each suite that installs or starts some.
WITH_PARTS = ("bash", "-c", 'eval "$(testbed/testbed env)" && exec "$@"', "with-parts")


class Runner:
    """Runs suites and keeps what became of them."""

    def __init__(self, out=sys.stdout):
        self.out = out
        self.lock = threading.Condition()
        self.results = {}
        self.environment = environment()
        self.running = set()
        self.stopping = False
        self.beside = []
        LOGS.mkdir(parents=True, exist_ok=True)

    def path_of(self, suite):
        """The PATH with nothing in it but what the suite may call; None where no dpkg can tell."""
        if suite.installs or not commands.on_debian():
            return None
        with self.lock:
            # Anew each time: the suites before may have installed something.
            return commands.make_path(suite, PATHS / suite.name, commands.Machine(), commands.parts_packages())

    def command(self, suite):
        """Its own, where what it needs is known by then."""
        return (*WITH_PARTS, *suite.command) if "install" in suite.needs or "start" in suite.needs else suite.command

    def run(self, suite):
        """Runs one suite to its end and reports it."""
        with self.lock:
            # One that another lane runs may not have ended yet.
            self.lock.wait_for(lambda: self.stopping or all(name in self.results for name in suite.needs))
        if self.stopping:
            return
        began = time.monotonic()
        lost = [name for name in suite.needs if self.results[name].failed]
        log = LOGS / f"{suite.name}.log"
        if lost:
            log.write_text(f"did not run: {', '.join(lost)} failed\n")
            result = Result(suite, 0, 1, 0, f"not run without {', '.join(lost)}")
        else:
            code, note = self.execute(suite, log)
            result = Result(suite, *tally(log.read_text(errors="replace"), code), time.monotonic() - began, note)
        with self.lock:
            self.results[suite.name] = result
            self.lock.notify_all()
            print(result.line(), file=self.out, flush=True)
            if result.failed and not lost:
                print(f"---- the end of {log.relative_to(CHECKOUT)}", file=self.out)
                print("\n".join(line[:WIDTH] for line in log.read_text(errors="replace").splitlines()[-TAIL:]), file=self.out)
                print("----", file=self.out, flush=True)

    def execute(self, suite, log):
        """Its exit code, and why it was ended if it was."""
        environment = dict(self.environment)
        if path := self.path_of(suite):
            environment["PATH"] = path
        with open(log, "wb") as out:
            process = subprocess.Popen(
                self.command(suite), cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, preexec_fn=lambda: os.nice(suite.nice))
            with self.lock:
                self.running.add(process)
            try:
                return process.wait(HUNG * suite.limit), ""
            except subprocess.TimeoutExpired:
                end(process)
                return 1, "hung, and was ended"
            finally:
                with self.lock:
                    self.running.discard(process)

    def stage(self, lanes):
        """Runs lanes side by side, until the last has ended that is not `Beside`."""
        waited_for = []
        for lane in lanes:
            thread = threading.Thread(target=lambda lane=lane: [self.run(suite) for suite in lane], daemon=True)
            (self.beside if isinstance(lane, Beside) else waited_for).append(thread)
            thread.start()
        for thread in waited_for:
            thread.join()

    def finish(self):
        """Waits for what runs beside the stages."""
        for thread in self.beside:
            thread.join()

    def stop(self):
        """Ends what runs, and lets nothing follow: somebody wants no more of it."""
        self.stopping = True
        for process in list(self.running):
            end(process)


def end(process):
    """SIGTERM to all that the suite started, and SIGKILL when that does not help."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(PATIENCE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def what_failed(results):
    """For the closing table: each failed suite with what its log names, and the messages of that."""
    lines = []
    for result in results:
        log = LOGS / f"{result.suite.name}.log"
        if result.failed and log.exists():
            lines += [f"{result.suite.name}: {line}" for line in failures(log.read_text(errors="replace"))]
    return ["", "what failed:", *lines] if lines else []


def table(results, seconds):
    """All suites, what they took and what they may take; ends with the sum alone on a line."""
    lines = ["", f"{'suite':<20} {'passed':>7} {'failed':>7} {'took':>8} {'limit':>8}"]
    for result in results:
        mark = "  OVER" if result.over else ""
        lines.append(f"{result.suite.name:<20} {result.passed:>7} {result.failed:>7} {result.took:>6.0f} s {result.suite.limit:>6} s{mark}")
    mark = "  OVER" if seconds > TOTAL_LIMIT * 60 else ""
    lines.append(f"{'all, side by side':<36} {seconds / 60:>6.1f} m {TOTAL_LIMIT:>6} m{mark}")
    lines += what_failed(results)
    lines += ["", f"{sum(r.passed for r in results)} passed, {sum(r.failed for r in results)} failed"]
    return "\n".join(lines)
