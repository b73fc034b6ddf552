"""What `make test` cannot install by itself: looked at before anything is built, and named with the line that brings it."""

import os
import re
import shutil
import socket
import subprocess

import commands
from table import CHECKOUT, TARGET

# Gigabytes that a new machine needs, and one that has built before: what is compiled, Go's cache, images, stores' data.
DISK_COLD, DISK_WARM = 16, 4
MEMORY = 6
# Components of the Rust toolchain beside the compiler.
COMPONENTS = ("fmt", "clippy")


def said(*command):
    """What a command prints; nothing when there is none, or it fails."""
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def version(text):
    """The first version in a text, as numbers."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def wanted(path, pattern):
    """The version that a file of this checkout asks for."""
    return version(re.search(pattern, (CHECKOUT / path).read_text(), re.MULTILINE)[0])


def dotted(numbers):
    return ".".join(str(number) for number in numbers)


def toolchains():
    """A line for each toolchain that is too old, or is not whole."""
    rust, go = wanted("Cargo.toml", r'^rust-version = "[\d.]+"'), wanted("testbed/kubernetes/go.mod", r"^go [\d.]+")
    asked = (
        ("Rust", ("rustc", "--version"), rust, "rustup update stable"),
        ("Go", ("go", "version"), go, f"install Go {dotted(go)} or newer from https://go.dev/dl"),
        ("Node.js", ("node", "--version"), (20, 0), "install Node.js 20 or newer, with npm"),
        ("Java", ("java", "-version"), (17, 0), "apt-get install -y openjdk-17-jdk-headless"),
    )
    for name, command, least, how in asked:
        there = version(said(*command))
        if there < least:
            yield f"{name} {dotted(least)} or newer is needed, here is {dotted(there)}: {how}"
    for component in COMPONENTS:
        if not said("cargo", component, "--version"):
            yield f"`cargo {component}` is missing: rustup component add {'rustfmt' if component == 'fmt' else component}"
    # Debian leaves out what a virtual environment is made with until python3-venv is there.
    for module in ("pip", "venv", "ensurepip"):
        if not said("python3", "-c", f"import {module}; print(True)"):
            yield f"Python's {module} is missing: apt-get install -y python3-pip python3-venv"


def lacking_packages(suites):
    """Debian's packages that are yet to be installed for these suites; none where there is no dpkg to ask."""
    if not commands.on_debian():
        return []
    parts = commands.parts_packages()
    names = dict.fromkeys(package for suite in suites for part in suite.parts for package in parts[part])
    status = "${db:Status-Status}"
    return [name for name in names if said("dpkg-query", "--show", f"--showformat={status}", name) != "installed"]


def packages(suites):
    """Whether what comes from Debian can be had."""
    lacking = lacking_packages(suites)
    if not lacking:
        return
    install = f"apt-get install -y --no-install-recommends {' '.join(lacking)}"
    if not shutil.which("apt-get"):
        yield f"there is no apt-get; install these your system's way: {' '.join(lacking)}"
    elif os.geteuid() != 0:
        yield f"Debian's packages are missing, and installing them needs root: sudo {install}"
    elif not said("apt-get", "install", "--simulate", "-qq", "--no-install-recommends", *lacking):
        # A new machine has no lists yet, or old ones.
        said("apt-get", "update", "-qq")
        if not said("apt-get", "install", "--simulate", "-qq", "--no-install-recommends", *lacking):
            yield f"Debian's packages cannot be had; this must work: apt-get update && {install}"


def rights(suites):
    names = [suite.name for suite in suites if suite.root]
    if names and os.geteuid() != 0:
        yield f"{', '.join(names)} need root (network bridges, mounts, a Docker engine): sudo make test"


def room():
    """Disk and memory."""
    need = DISK_WARM if TARGET.exists() else DISK_COLD
    free = shutil.disk_usage(CHECKOUT).free / 1e9
    if free < need:
        yield f"{need} GB of disk are needed, {free:.1f} are free at {CHECKOUT}: make room, or set CARGO_TARGET_DIR and LIVERANK_CACHE"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    if memory < MEMORY:
        yield f"{MEMORY} GB of memory are needed, here are {memory:.1f}"


def ports(suites):
    """Ports that somebody else has; a test bed of an earlier run gives its own back when it is told."""
    for suite in suites:
        taken = [port for port in suite.ports if listening(port)]
        if taken:
            yield f"{suite.name}: port {', '.join(map(str, taken))} is taken; stop what listens there (`ss -ltnp` names it)"


def listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def problems(suites):
    """A line for each thing that has to be put right first."""
    return [*toolchains(), *packages(suites), *rights(suites), *room(), *ports(suites)]
