"""The suites of `make test`: what each runs, what it stands on, and how long it may take."""

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# How tests are compiled: see Cargo.toml. `make build` makes the optimised program; here it would cost twenty minutes.
PROFILE = "ci"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target").resolve() / PROFILE
CARGO = ("--profile", PROFILE, "--workspace", "--locked")

# Test targets that plain `cargo test` leaves out (`test = false`), by the suite that runs them.
STORE_TESTS = ("real_kafka", "real_mongodb", "real_redis", "real_redis_cluster")
SYSTEM_TESTS = ("up", "signals", "commands", "seeds", "cluster", "maintenance", "bad_input", "hostile")
EXPORT_TESTS = ("exports",)

# Minutes that all of it may take on a new machine of two cores.
TOTAL_LIMIT = 45


@dataclass(frozen=True)
class Suite:
    """A command whose output says how many tests passed and failed; one that counts nothing is one test."""

    name: str
    command: tuple
    # Seconds on a new machine of two cores that does nothing else: twice what it took, at least 10. One that takes longer
    # is marked; one that takes four times as long has hung: it is ended, and has failed.
    limit: int
    # Suites that must have passed: without them this one cannot run, and has failed.
    needs: tuple = ()
    # Parts of `testbed install` whose Debian packages it may use. It finds no other command than those of these packages
    # and of the documented ones.
    parts: tuple = ()
    # Commands, and files, that it may use of those packages, also those that only an empty cache makes it use.
    calls: tuple = ()
    # Whether its task is to bring what is missing: then it finds every command of this machine.
    installs: bool = False
    # Whether it needs root.
    root: bool = False
    # Ports of 127.0.0.1 that must be free.
    ports: tuple = ()
    # Who makes way for what runs beside it.
    nice: int = 0


class Beside(tuple):
    """A lane that goes on beside the next stages."""


# Crates of the workspace are linted as they are compiled.
LINTED = f"RUSTC_WORKSPACE_WRAPPER={CHECKOUT / 'testbed/suites/lint-and-compile'}"


def cargo_test(*words):
    return ("env", LINTED, "cargo", "test", *CARGO, "--no-fail-fast", *words)


# Tests that wait for time-outs take turns on two threads: six let the others go on meanwhile.
SIX_THREADS = ("env", "RUST_TEST_THREADS=6")


def named(tests):
    return tuple(word for test in tests for word in ("--test", test))


def shell(*commands):
    """One after the other, as far as they succeed."""
    return ("bash", "-c", " && ".join(commands))


# `--tests` are those inside of libraries and programs too, where the manifest does not say that there are none; the tests that
# plain `cargo test` leaves out are named by '*'.
WORDS = " ".join(CARGO)
BUILD = ("env", LINTED, *shell(f"cargo build {WORDS} --lib --bins --examples --test '*'", f"cargo test {WORDS} --no-run --tests"))

QUIET = "--no-audit --no-fund --silent"

STORES = ("kafka", "mongodb", "redis", "redis-cluster")
STORE_PARTS = ("kafka", "mongodb", "redis")
STORE_CALLS = ("redis-server", "redis-cli", "setsid", "flock", "timeout", "java", "python3", "/usr/lib/*/libcurl.so.4",
               "/usr/lib/*/libssl.so.3")
KUBERNETES_CALLS = ("etcd", "containerd", "ctr", "containerd-shim-runc-v2", "runc", "iptables", "conntrack", "openssl", "ip",
                    "pgrep", "mount", "umount", "objcopy", "ldd", "hostname", "/usr/lib/cni/bridge", "/usr/lib/cni/portmap")
DOCKER_CALLS = ("docker", "dockerd", "docker-compose", "containerd", "runc", "iptables", "debootstrap", "wget", "ip", "npm")

# Stages follow each other. A stage's lanes run side by side, and a lane's suites follow each other. The next stage waits for
# all of them, but for those that are `Beside`: a suite that needs one of theirs waits by itself. Nothing that has deadlines
# runs beside a compiler that does not make way.
STAGES = (
    ((
        Suite("format", ("cargo", "fmt", "--all", "--check"), 10),
        Suite("words", ("testbed/banned-words",), 10),
        Suite("layout", ("testbed/file-layout",), 10),
        Suite("docs", ("testbed/docs-test",), 10),
        Suite("unused", ("testbed/unused-dependencies",), 10),
        Suite("testbed", ("python3", "-B", "-m", "unittest", "discover", "--start-directory", "testbed/suites"), 20),
    ),),
    (
        (
            Suite("build", BUILD, 1200),
        ),
        (
            Suite("install", ("testbed/testbed", "install"), 600, installs=True),
            Suite("commands", ("python3", "-B", "testbed/suites/commands.py"), 20, needs=("install", "kubernetes-packages")),
            Suite("dependencies", ("make", "--no-print-directory", "deny"), 20, needs=("install",)),
            Suite("images", ("testbed/compose-test", "--images"), 400, needs=("install",), parts=("tools", "docker"),
                  calls=DOCKER_CALLS, root=True),
            Suite("client", shell("cd clients/js", f"npm ci {QUIET}", f"npm ci {QUIET} --prefix ../react", "npm run --silent check",
                                  "npm run --silent --prefix ../react build", "npm test", "npm test --prefix ../react"), 90),
            Suite("book", ("testbed/docs-test", "--book"), 20, needs=("install",)),
        ),
        Beside((
            Suite("kubernetes-packages", ("testbed/kubernetes/kubernetes", "install-packages"), 120, installs=True),
            Suite("kubernetes-build", ("testbed/kubernetes/kubernetes", "install"), 1800, needs=("kubernetes-packages",),
                  parts=("kubernetes",), nice=19),
        )),
    ),
    # Their tests wait more than they compute, so these two share the cores.
    (
        (
            Suite("rust", (*SIX_THREADS, *cargo_test("--tests")), 400, needs=("build",)),
            Suite("doc", cargo_test("--doc"), 60, needs=("build",)),
        ),
        (
            Suite("start", ("testbed/testbed", "up", *STORES), 60, needs=("install",), parts=STORE_PARTS, calls=STORE_CALLS,
                  ports=(29092, 29093, 28017, 26379, 26479, 26480, 26481, 26489, 26490, 26491)),
            Suite("stores", cargo_test(*named(STORE_TESTS)), 300, needs=("build", "start"), parts=STORE_PARTS),
        ),
    ),
    # Lanes of about the same time, or the longest goes on alone. What is on the documents' ports is in one lane.
    (
        (
            Suite("system", cargo_test(*named(SYSTEM_TESTS), "--", "--test-threads=1"), 860, needs=("build", "start"),
                  parts=(*STORE_PARTS, "prometheus"), calls=("prometheus", *STORE_CALLS)),
            # The same requests each time: what a change breaks is then the change's. Without the seed, each run has its own.
            Suite("api", ("env", "LIVERANK_TEST_SEED=1", "testbed/api-test"), 240, needs=("build", "install"), parts=("tools",), calls=("curl",), nice=5),
        ),
        (
            # Without what `npm test` does first for people: the suite `client` has made the packages, and nobody else touches them.
            Suite("page", shell("cd e2e/browser", f"npm ci {QUIET}", f"npm ci {QUIET} --prefix ../../examples/live-show",
                                "npm test --ignore-scripts"), 420, needs=("build", "install", "client"), parts=("chromium",),
                  calls=("chromium", "/usr/share/fonts/truetype/dejavu")),
            # On the ports that the documents name: those of a system as it comes.
            Suite("documented", ("env", f"LIVERANK_BIN={TARGET / 'liverank'}", "testbed/documents-run"), 120, needs=("build", "start"),
                  parts=("tools", *STORE_PARTS, "prometheus"), calls=("curl", "openssl", "prometheus", "promtool"), ports=(9091, 29417)),
            Suite("containers", ("testbed/compose-test", "--binary", str(TARGET / "liverank")), 300,
                  needs=("build", "images"), parts=("tools", "docker"), calls=DOCKER_CALLS, root=True,
                  ports=(3000, 4001, 4002, 5000, 6000, 6100, 8080, 8081)),
        ),
        # These start stores of their own, one to move its clock, the other to kill them; the last wait for the build of
        # Kubernetes on a new machine.
        (
            Suite("exports", cargo_test(*named(EXPORT_TESTS)), 340, needs=("build", "install"), parts=(*STORE_PARTS, "faketime"),
                  calls=(*STORE_CALLS, "/usr/lib/*/faketime/libfaketimeMT.so.1"), nice=5),
            Suite("faults", (str(TARGET / "faults"), "--faults", "23", "--seconds", "150"), 250, needs=("build", "install"),
                  parts=("tools", *STORE_PARTS, "faketime"), calls=("/usr/lib/*/faketime/libfaketimeMT.so.1", "mount", "umount", "cp", "gcc")),
            Suite("alerts", ("testbed/alerts-test",), 10, needs=("install",), parts=("prometheus",), calls=("promtool",)),
            Suite("instructions", ("env", LINTED, "bench/instructions"), 60, needs=("build", "install"), parts=("valgrind",), calls=("valgrind",)),
            Suite("clients", ("testbed/clients-test",), 100, needs=("build", "install"), parts=("tools", "nginx"),
                  calls=("curl", "nginx"), nice=5),
            Suite("charts", ("charts/test",), 120, needs=("kubernetes-build", "install"), parts=("tools", "schemathesis", "prometheus"),
                  calls=("lua5.4", "promtool"), nice=5),
            Suite("release", ("release/test",), 60, needs=("kubernetes-build", "install"), parts=("tools", "lint"),
                  calls=("shellcheck",), nice=5),
        ),
    ),
    ((
        Suite("stop", ("testbed/testbed", "down"), 30, needs=("start",), parts=STORE_PARTS),
    ),),
    # It brings its own stores, at an address of the pods' bridge.
    ((
        Suite("kubernetes", ("testbed/kubernetes-test",), 1500, needs=("build", "kubernetes-build", "install"),
              parts=(*STORE_PARTS, "kubernetes"), calls=KUBERNETES_CALLS, root=True,
              ports=(16443, 16444, 16445, 29192, 29193, 28217, 26579)),
    ),),
)


def all_suites(stages=STAGES):
    return [suite for lanes in stages for lane in lanes for suite in lane]


def chosen(names, stages=STAGES):
    """The stages with the named suites and all that they stand on; everything when no name is given."""
    suites = {suite.name: suite for suite in all_suites(stages)}
    unknown = [name for name in names if name not in suites]
    if unknown:
        raise ValueError(f"no such suite: {', '.join(unknown)} (there are: {', '.join(suites)})")
    wanted, open_names = set(), list(names or suites)
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += suites[name].needs
    lanes = [[type(lane)(suite for suite in lane if suite.name in wanted) for lane in stage] for stage in stages]
    return [[lane for lane in stage if lane] for stage in lanes if any(stage)]
