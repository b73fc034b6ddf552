"""Which commands a suite finds: those of the documented packages and of the parts of `testbed install` that it names.

A suite runs with a PATH that holds these and nothing else. What happens to be on this machine, and no install step brings,
is not found. Run as a program, it checks what the table says: each command that a suite may call must come from what
its parts install, and each part must be one that a suite misses without it.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from table import CHECKOUT, all_suites

# What README.md asks for: Debian's packages, where the machine has them from Debian …
DOCUMENTED = ("git", "build-essential", "gcc", "g++", "make", "perl", "ca-certificates", "openjdk-17-jdk-headless", "maven", "nodejs",
              "npm", "python3", "python3-pip", "python3-venv", "golang-go")
# … and the commands of the toolchains, which may come from anywhere.
TOOLCHAINS = ("cargo", "rustc", "rustdoc", "rustup", "rustfmt", "cargo-fmt", "cargo-clippy", "clippy-driver", "go", "gofmt", "node",
              "npm", "npx", "java", "javac", "mvn", "python3", "pip3")
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class Package:
    """An installed one, as dpkg describes it."""

    # Each a list of alternatives, of which the first is what a new machine gets.
    depends: tuple
    provides: tuple
    essential: bool


def parse_packages(text):
    """By name, from lines "name TAB essential TAB pre-depends TAB depends TAB provides"."""
    packages = {}
    for line in text.splitlines():
        name, essential, before, depends, provides = line.split("\t")
        needed = [clause for field in (before, depends) for clause in field.split(",") if clause.strip()]
        packages[name] = Package(
            tuple(tuple(bare(choice) for choice in clause.split("|")) for clause in needed),
            tuple(bare(clause) for clause in provides.split(",") if clause.strip()), essential == "yes")
    return packages


def bare(words):
    """The name alone, of "libc6:any (>= 2.34)"."""
    return re.split(r"[\s:(]", words.strip(), maxsplit=1)[0]


def closure(roots, packages):
    """What a machine has that has these packages: they, all they depend on, and what every Debian has."""
    providers = {}
    for name, package in packages.items():
        for virtual in package.provides:
            providers.setdefault(virtual, []).append(name)
    found, todo = set(), [name for name, package in packages.items() if package.essential] + ["apt", *roots]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        if name not in packages:
            todo += providers.get(name, [])
            continue
        found.add(name)
        for choices in packages[name].depends:
            there = [choice for choice in choices if choice in packages or choice in providers]
            todo += there[:1]
    return found


def on_debian():
    """Whether dpkg can tell what belongs to what."""
    return shutil.which("dpkg-query") is not None


class Machine:
    """What dpkg knows of this one."""

    def __init__(self):
        shape = "${Package}\\t${Essential}\\t${Pre-Depends}\\t${Depends}\\t${Provides}\\n"
        said = subprocess.run(["dpkg-query", "--show", f"--showformat={shape}"], capture_output=True, text=True, check=True)
        self.packages = parse_packages(said.stdout)
        self.files = {}
        for listing in Path("/var/lib/dpkg/info").glob("*.list"):
            self.files.update(dict.fromkeys(listing.read_text().splitlines(), bare(listing.stem)))
        # Name, path and package of each command.
        self.commands = [(entry.name, entry.path, self.owner(entry.path))
                         for folder in FOLDERS if os.path.isdir(folder) for entry in os.scandir(folder)]

    def owner(self, path):
        """The package of a file. Some say /bin where the folder has been /usr/bin since long."""
        real = os.path.realpath(path)
        return self.files.get(real) or self.files.get(real.removeprefix("/usr"))


def parts_packages():
    """Debian's packages of each part, as `testbed install` has them."""
    said = subprocess.run([CHECKOUT / "testbed/testbed", "packages"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: line.split()[1:] for line in said.splitlines()}


def roots(suite, parts):
    return [*DOCUMENTED, *(package for part in suite.parts for package in parts[part])]


def found_commands(allowed, machine):
    """Where each command is that these packages and the toolchains bring."""
    found = {}
    for name, path, owner in machine.commands:
        if owner in allowed:
            found.setdefault(name, path)
    for name in TOOLCHAINS:
        if path := shutil.which(name):
            found[name] = path
    return found


def make_path(suite, folder, machine, parts):
    """Fills a folder with links to all that the suite may find; returns it as a PATH."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in found_commands(closure(roots(suite, parts), machine.packages), machine).items():
        (folder / name).symlink_to(path)
    return str(folder)


def missing(suite, parts, machine):
    """What the suite may use and no install step brings."""
    allowed = closure(roots(suite, parts), machine.packages)
    commands = found_commands(allowed, machine)

    def there(call):
        if call.startswith("/"):
            return any(machine.owner(path) in allowed or path_inside(path, allowed, machine) for path in glob.glob(call))
        return call in commands

    return [call for call in suite.calls if not there(call)]


def path_inside(path, allowed, machine):
    """Whether a folder holds a file of one of these packages."""
    return os.path.isdir(path) and any(machine.owner(entry.path) in allowed for entry in os.scandir(path))


def check(suites, parts, machine):
    """"ok" or what is wrong, for each suite that names commands and each part that has packages."""
    lost = {suite.name: missing(suite, parts, machine) for suite in suites if suite.calls}
    for name, calls in lost.items():
        yield f"{name} finds what it calls", f"no install step brings {', '.join(calls)}" if calls else None
    # The check of the check: a part that is forgotten altogether is noticed.
    for part in (part for part, packages in parts.items() if packages):
        fewer = parts | {part: []}
        noticed = any(missing(suite, fewer, machine) != lost[suite.name] for suite in suites if suite.calls)
        yield f"without the packages of {part} a suite fails", None if noticed else "no suite names what they bring"


def main():
    if not on_debian():
        print("no dpkg here: what suites call cannot be compared with what is installed")
        return 0
    good = bad = 0
    for name, problem in check(all_suites(), parts_packages(), Machine()):
        print(f"not ok - {name}: {problem}" if problem else f"ok - {name}")
        good, bad = good + (not problem), bad + bool(problem)
    print(f"{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
