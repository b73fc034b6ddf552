"""Runs the checks: `ok` or `not ok` and a name a line, then how many. See charts/test."""

import shutil
import subprocess
import sys

import checks_dashboards
import checks_demo
import checks_gitops
import checks_operator
import readme
from chart import CRD, CRD_BOTH, CRD_BOTH_COPY, CRD_COPY, Failure

CHECKS = checks_operator.CHECKS + checks_gitops.CHECKS + checks_demo.CHECKS + checks_dashboards.CHECKS


def write():
    shutil.copyfile(CRD, CRD_COPY)
    shutil.copyfile(CRD_BOTH, CRD_BOTH_COPY)
    for chart in ("liverank", "liverank-demo"):
        readme.write(chart)
    checks_gitops.write()
    checks_dashboards.generator.write()


def held(name, check):
    try:
        check()
    except (Failure, OSError, ValueError, LookupError, TypeError, AttributeError, subprocess.TimeoutExpired) as error:
        print(f"not ok - {name}")
        for line in f"{type(error).__name__}: {error}".splitlines():
            print(f"#   {line}")
        return False
    print(f"ok - {name}", flush=True)
    return True


def main(words):
    if words == ["--write"]:
        write()
        return 0
    chosen = [(name, check) for name, check in CHECKS if not words or any(word in name for word in words)]
    results = [held(name, check) for name, check in chosen]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if results and all(results) else 1


sys.exit(main(sys.argv[1:]))
