"""Every suite, on the real parts: `make test`. Names given run those suites, with all that they stand on."""

import argparse
import fcntl
import signal
import subprocess
import sys
import time

import preflight
from run import Runner, environment, table
from table import CHECKOUT, all_suites, chosen

LOCK = CHECKOUT / ".testbed/test-all.lock"


def main():
    parser = argparse.ArgumentParser(prog="testbed/test-all", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SUITE", help=", ".join(suite.name for suite in all_suites()))
    parser.add_argument("--list", action="store_true", help="print the table of suites and their limits")
    options = parser.parse_args()
    try:
        stages = chosen(options.names)
    except ValueError as error:
        parser.error(str(error))
    suites = all_suites(stages)
    if options.list:
        for suite in suites:
            print(f"{suite.name:<20} {suite.limit:>6} s   {' '.join(suite.command)}")
        return 0
    began = time.monotonic()
    LOCK.parent.mkdir(exist_ok=True)
    # Held until this process ends: two runs would share stores, logs and what is compiled.
    alone = open(LOCK, "w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another `make test` runs in {CHECKOUT}\n0 passed, 1 failed")
        return 1
    # What an earlier run left, if it was killed.
    stores_down()
    problems = preflight.problems(suites)
    if problems:
        print("make test cannot run here:")
        for problem in problems:
            print(f"  {problem}")
        print(f"0 passed, {len(problems)} failed")
        return 1
    return run(stages, suites, began)


def stores_down():
    subprocess.run([CHECKOUT / "testbed/testbed", "down"], env=environment(), capture_output=True, check=False)


def run(stages, suites, began):
    runner = Runner()

    def stopped(*_):
        runner.stop()
        sys.exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
    try:
        for lanes in stages:
            runner.stage(lanes)
        runner.finish()
    finally:
        if any(suite.name == "start" for suite in suites):
            stores_down()
    results = [runner.results[suite.name] for suite in suites]
    print(table(results, time.monotonic() - began), flush=True)
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
