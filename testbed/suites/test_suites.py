"""The runner of the suites, on made-up ones: what counts as passed, what runs when, and what a suite may call."""

import io
import json
import re
import socket
import subprocess
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

import commands
import preflight
import run
from failures import WIDTH, failures
from table import CHECKOUT, EXPORT_TESTS, STAGES, STORE_TESTS, SYSTEM_TESTS, Beside, Suite, all_suites, chosen


def suite(name, *command, **more):
    return Suite(name, command or ("true",), more.pop("limit", 60), installs=True, **more)


def runner():
    return run.Runner(out=io.StringIO())


class Tally(unittest.TestCase):
    def test_adds_up_what_runners_say(self):
        cargo = "test result: ok. 3 passed; 0 failed; 0 ignored\ntest result: FAILED. 4 passed; 2 failed; 0 ignored\n"
        self.assertEqual(run.tally(cargo, 101), (7, 2))
        self.assertEqual(run.tally("ℹ pass 5\nℹ fail 1\nℹ cancelled 1\n", 1), (5, 2))
        self.assertEqual(run.tally("Ran 8 tests in 0.1s\n\nOK\n", 0), (8, 0))

    def test_a_runner_that_counts_nothing_is_one_test(self):
        self.assertEqual(run.tally("whatever", 0), (1, 0))
        self.assertEqual(run.tally("whatever", 1), (0, 1))

    def test_what_breaks_outside_of_a_test_has_failed(self):
        self.assertEqual(run.tally("3 passed, 0 failed\n", 1), (3, 1))


class Running(unittest.TestCase):
    def test_what_stands_on_a_failure_does_not_run_and_has_failed(self):
        ran = runner()
        ran.stage([[suite("base", "false"), suite("top", needs=("base",))]])
        self.assertEqual((ran.results["top"].passed, ran.results["top"].failed), (0, 1))
        self.assertIn("not run without base", ran.results["top"].line())

    def test_lanes_run_side_by_side(self):
        # Each waits for the other: one after the other they would never end.
        path = run.LOGS / "test-fifo"
        path.unlink(missing_ok=True)
        subprocess.run(["mkfifo", path], check=True)
        ran = runner()
        ran.stage([[suite("reads", "cat", str(path))], [suite("writes", "bash", "-c", f"echo hello >{path}")]])
        path.unlink()
        self.assertEqual([ran.results[name].failed for name in ("reads", "writes")], [0, 0])

    def test_a_suite_waits_for_what_it_needs_of_another_lane(self):
        ran = runner()
        ran.stage([[suite("top", needs=("base",))], [suite("base", "sleep", "0.2")]])
        self.assertEqual(ran.results["top"].failed, 0)

    def test_the_next_stage_does_not_wait_for_a_lane_that_goes_on_beside_it(self):
        path = run.LOGS / "test-fifo"
        path.unlink(missing_ok=True)
        subprocess.run(["mkfifo", path], check=True)
        ran = runner()
        # It ends when the next stage's suite writes.
        ran.stage([Beside([suite("reads", "cat", str(path))]), [suite("first")]])
        self.assertNotIn("reads", ran.results)
        ran.stage([[suite("writes", "bash", "-c", f"echo hello >{path}")]])
        ran.finish()
        path.unlink()
        self.assertEqual([ran.results[name].failed for name in ("reads", "first", "writes")], [0, 0, 0])

    def test_what_hangs_is_ended_and_has_failed(self):
        ran = runner()
        ran.stage([[suite("hangs", "sleep", "1000", limit=0.05)]])
        self.assertEqual(ran.results["hangs"].failed, 1)
        self.assertIn("hung", ran.results["hangs"].line())

    def test_who_stops_it_ends_what_runs_and_nothing_follows(self):
        ran = runner()
        lanes = threading.Thread(target=ran.stage, args=([[suite("runs", "sleep", "1000"), suite("follows")]],))
        lanes.start()
        while not ran.running:
            time.sleep(0.01)
        ran.stop()
        lanes.join(20)
        self.assertFalse(lanes.is_alive())
        self.assertNotIn("follows", ran.results)

    def test_a_suite_over_its_limit_is_marked_and_the_last_line_is_the_sum(self):
        slow = run.Result(suite("slow", limit=10), 2, 0, 11)
        said = run.table([slow, run.Result(suite("fast"), 1, 1, 1)], 12).splitlines()
        self.assertEqual([line for line in said if line.endswith("OVER")], [line for line in said if line.startswith("slow")])
        self.assertEqual(said[-1], "3 passed, 1 failed")


class Failures(unittest.TestCase):
    def test_the_closing_table_repeats_the_lines_that_name_them(self):
        log = "test a ... ok\ntest b ... FAILED\n\n\x1b[31mFAILED crowd (90 s): none\x1b[0m\nmore\n"
        self.assertEqual(failures(log), ["test b ... FAILED", "FAILED crowd (90 s): none"])

    def test_what_names_none_gives_its_last_line(self):
        self.assertEqual(failures("began\n\nno room on the disk\n"), ["no room on the disk"])
        self.assertEqual(failures(""), [])

    def test_a_panic_comes_with_its_message(self):
        log = ("---- a stdout ----\n\nthread 'a' (7) panicked at src/a.rs:1:2:\ncalled `Result::unwrap()` on an `Err` value: Gone\n"
               "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n---- b stdout ----\n\n"
               "thread 'b' (8) panicked at src/b.rs:3:4:\nassertion `left == right` failed: why\n  left: 1\n right: 2\nmore\n")
        self.assertEqual(failures(log), [
            "thread 'a' (7) panicked at src/a.rs:1:2:", "    called `Result::unwrap()` on an `Err` value: Gone",
            "thread 'b' (8) panicked at src/b.rs:3:4:", "    assertion `left == right` failed: why", "    left: 1", "    right: 2"])
        long = failures("thread 'c' panicked at src/c.rs:1:2:\n" + "x" * 9999 + "\n")
        self.assertEqual((len(long), len(long[1])), (2, WIDTH))
        self.assertEqual(failures("thread 'd' panicked at 'old', src/d.rs:1:2\nnote: run with\n"),
                         ["thread 'd' panicked at 'old', src/d.rs:1:2"])

    def test_a_failure_of_javascript_comes_with_its_message(self):
        tap = ("    not ok 1 - inner\n      ---\n      error: 'one is not two'\n      code: 'ERR_ASSERTION'\n      ...\n"
               "not ok 2 - other\n  ---\n  duration_ms: 1\n  error: |-\n    not equal:\n    \n    {\n      a: 1\n    }\n  code: 'E'\n  ...\n")
        self.assertEqual(failures(tap), ["not ok 1 - inner", "    one is not two",
                                         "not ok 2 - other", "    not equal:", "    {", "    a: 1"])
        spec = ("▶ outer\n  ✖ inner (9.9ms)\n    Error: one is not two\n        at f (file:///a.mjs:2:69)\n✖ outer (11ms)\n"
                "✖ failing tests:\n\ntest at a.mjs:2:36\n✖ inner (9.9ms)\n  Error: one is not two\n      at f (file:///a.mjs:2:69)\n")
        self.assertEqual(failures(spec), ["✖ inner (9.9ms)", "    Error: one is not two", "✖ outer (11ms)"])

    def test_a_failure_of_python_comes_with_its_message(self):
        rule, line = "=" * 70, "-" * 70
        log = (f"{rule}\nFAIL: test_a (m.C.test_a)\n{line}\nTraceback (most recent call last):\n  File \"m.py\", line 3, in test_a\n"
               f"    self.assertEqual(1, 2)\nAssertionError: 1 != 2 : why\n\n{line}\nRan 1 test in 0.1s\n\nFAILED (failures=1)\n")
        self.assertEqual(failures(log), ["FAIL: test_a (m.C.test_a)", "    AssertionError: 1 != 2 : why", "FAILED (failures=1)"])
        pytest = "____ test_b ____\n\n    def test_b():\n>       assert 1 == 2\nE       assert 1 == 2\n\nm.py:2: AssertionError\n"
        self.assertEqual(failures(pytest), ["____ test_b ____", "    assert 1 == 2"])


class Table(unittest.TestCase):
    def test_nothing_waits_for_ever(self):
        ended = set()
        for lanes in chosen([]):
            todo = [list(lane) for lane in lanes]
            while any(todo):
                ready = [lane for lane in todo if lane and set(lane[0].needs) <= ended]
                self.assertTrue(ready, f"these wait for each other: {[lane[0].name for lane in todo if lane]}")
                ended |= {lane.pop(0).name for lane in ready}

    def test_a_lane_that_goes_on_beside_the_next_stages_does_so_when_suites_are_chosen(self):
        count = lambda stages: sum(isinstance(lane, Beside) for lanes in stages for lane in lanes)
        self.assertEqual(count(chosen(["kubernetes"])), count(STAGES))

    def test_a_named_suite_brings_what_it_stands_on(self):
        names = [suite.name for suite in all_suites(chosen(["system"]))]
        self.assertEqual(set(names), {"build", "install", "start", "system"})
        with self.assertRaises(ValueError):
            chosen(["no-such-suite"])

    def test_every_test_that_plain_cargo_leaves_out_is_in_a_suite(self):
        left = [target["name"] for target in test_targets() if not target["test"]]
        self.assertEqual(sorted(left), sorted(STORE_TESTS + SYSTEM_TESTS + EXPORT_TESTS))

    def test_plain_cargo_leaves_out_all_that_needs_servers(self):
        for target in test_targets():
            source = Path(target["src_path"])
            # A program of several files has them beside its main.rs.
            files = source.parent.rglob("*.rs") if source.name == "main.rs" else [source]
            needs = any(NEEDS_SERVERS.search(file.read_text()) for file in files)
            self.assertFalse(needs and target["test"], f"{source}: needs servers; give it `test = false` and name it in table.py")


NEEDS_SERVERS = re.compile(r"LIVERANK_TEST_(KAFKA|MONGODB|REDIS)|use liverank_e2e")


def test_targets():
    said = subprocess.run(["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"], cwd=CHECKOUT,
                          capture_output=True, text=True, check=True)
    targets = [target for package in json.loads(said.stdout)["packages"] for target in package["targets"]]
    return [target for target in targets if target["kind"] == ["test"]]


class Commands(unittest.TestCase):
    PACKAGES = commands.parse_packages(
        "bash\tyes\t\t\t\n"
        "apt\tno\t\tgpgv\t\n"
        "gpgv\tno\t\t\t\n"
        "engine\tno\tinit (>= 1)\trunner | other, shell:any\t\n"
        "other\tno\t\t\t\n"
        "init\tno\t\t\t\n"
        "zsh\tno\t\t\tshell (= 5)\n"
        "stray\tno\t\t\t\n")

    def test_a_closure_is_what_a_new_machine_has(self):
        self.assertEqual(commands.closure([], self.PACKAGES), {"bash", "apt", "gpgv"})
        # Of alternatives the first that is there, and a virtual package by who provides it.
        self.assertEqual(commands.closure(["engine"], self.PACKAGES),
                         {"bash", "apt", "gpgv", "engine", "init", "other", "zsh"})

    @unittest.skipUnless(commands.on_debian(), "needs dpkg")
    def test_what_no_install_step_brings_is_not_found(self):
        machine, parts = commands.Machine(), {"docker": []}
        calls = Suite("calls", ("true",), 1, parts=("docker",), calls=("bash", "debootstrap", "/usr/bin/env"))
        self.assertEqual(commands.missing(calls, parts, machine), ["debootstrap"])
        folder = Path(commands.make_path(calls, run.PATHS / "test", machine, parts))
        self.assertTrue((folder / "bash").exists() and not (folder / "debootstrap").exists())


class Mutants(unittest.TestCase):
    def test_every_patch_applies_and_names_a_test(self):
        patches = sorted((CHECKOUT / "mutants").glob("*.patch"))
        self.assertTrue(patches)
        for patch in patches:
            with self.subTest(patch.name):
                said = subprocess.run(["git", "apply", "--check", patch], cwd=CHECKOUT, capture_output=True, text=True, check=False)
                self.assertEqual(said.stderr, "", "mend the patch: what it breaks has changed")
                self.assertRegex(patch.read_text(), r"(?m)^Test: liverank-[a-z-]+ \w+ .+$")


class Preflight(unittest.TestCase):
    def test_reads_versions(self):
        self.assertEqual(preflight.version("go version go1.26.8 linux/amd64"), (1, 26))
        self.assertEqual(preflight.version('openjdk version "17.0.15"'), (17, 0))
        self.assertLess(preflight.version("v18.19.0"), (20, 0))
        self.assertEqual(preflight.version("nothing"), (0, 0))

    def test_a_port_that_somebody_has_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.assertEqual([str(port) in line for line in preflight.ports([suite("wants", ports=(port,))])], [True])
        self.assertEqual(list(preflight.ports([suite("wants", ports=(port,))])), [])

    def test_what_debian_does_not_have_is_named_with_the_line_that_installs_it(self):
        with mock.patch.object(preflight, "lacking_packages", lambda _: ["no-such-package"]):
            with mock.patch.object(preflight, "said", lambda *_: ""):
                lines = list(preflight.packages([]))
        self.assertEqual(len(lines), 1)
        self.assertIn("apt-get install -y --no-install-recommends no-such-package", lines[0])

    def test_an_old_or_missing_tool_is_named(self):
        with mock.patch.object(preflight, "said", lambda *command: "go version go1.20" if command[0] == "go" else ""):
            lines = list(preflight.toolchains())
        self.assertEqual([line for line in lines if line.startswith("Go ")],
                         ["Go 1.26 or newer is needed, here is 1.20: install Go 1.26 or newer from https://go.dev/dl"])


if __name__ == "__main__":
    unittest.main()
