#!/usr/bin/env python3
"""The checks of release/test.

The installer installs from a server on this machine; the formula and krew's manifest have the archives' checksums; the packages
of npm are packed and installed from their tarballs, the wheels by pip; the charts are packaged; the bundle for OLM is held against the chart; each crate names what would be in it; the
workflows and scripts are linted. What a check needs and this machine lacks is a failure, with the line that installs it.
"""

import base64
import functools
import hashlib
import http.server
import io
import json
import os
import pathlib
import platform as platform_module
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLATFORMS = ("linux-x86_64", "linux-aarch64", "macos-x86_64", "macos-aarch64")
VERSION = "9.8.7"
PATIENCE = 300
HELM = 'testbed/kubernetes/kubernetes install && eval "$(testbed/kubernetes/kubernetes env)"'
# A crate that is larger has a file in it that does not belong there.
MOST_FILES = 300


class Failure(Exception):
    """What is wrong."""


def run(*command, good=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)
    said = done.stdout + done.stderr
    if good and done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit code {done.returncode}: {said[-2000:]}")
    return done.returncode, said


def need(program, line):
    found = shutil.which(program)
    if not found:
        raise Failure(f"{program} is missing: {line}")
    return found


def expect(condition, what):
    if not condition:
        raise Failure(what)


def archive(folder, platform):
    """A release's archive, with programs that say which they are, and write a page where they are asked for theirs."""
    page = 'if [ "$1" = man ]; then mkdir -p "$2"; echo .TH >"$2/liverank.1"; fi'
    with tempfile.TemporaryDirectory() as made:
        made = pathlib.Path(made)
        for program in ("liverank", "liverank-operator", "kubectl-liverank"):
            (made / program).write_text(f"#!/bin/sh\n{page}\necho {program} {VERSION} {platform}\n")
            (made / program).chmod(0o755)
        run(ROOT / "release/archive", VERSION, platform, made, folder)


def release(folder, homepage):
    """A release in a folder, as the workflow makes it."""
    for platform in PLATFORMS:
        archive(folder, platform)
    run(ROOT / "release/render", VERSION, homepage, folder)
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir()))
    (folder / "SHA256SUMS").write_text(sums)


class Server:
    """A release on a port of this machine."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(self.folder.name)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
        handler.func.log_message = lambda *_: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.homepage = f"http://127.0.0.1:{self.server.server_port}"
        self.files = root / "releases/download" / f"v{VERSION}"
        self.files.mkdir(parents=True)
        release(self.files, self.homepage)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.folder.cleanup()

    def install(self, home, good=True, **more):
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), **more}
        return run("sh", self.files / "install.sh", good=good, env=environment)[1]


def machine(folder, system, processor):
    """A uname of another machine, before the real one on the PATH."""
    uname = pathlib.Path(folder) / "uname"
    uname.write_text(f'#!/bin/sh\ncase $1 in -s) echo {system} ;; -m) echo {processor} ;; esac\n')
    uname.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def the_installer_installs_what_the_checksums_say():
    machines = (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64"), ("Darwin", "arm64"))
    with Server() as server:
        for (system, processor), platform in zip(machines, PLATFORMS):
            with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
                said = server.install(home, **machine(folder, system, processor))
                expect(f"installed: liverank {VERSION} {platform}" in said, said)
                there = sorted(path.name for path in (pathlib.Path(home) / ".local/bin").iterdir())
                expect(there == ["kubectl-liverank", "liverank", "liverank-operator"], there)
                # Once more over itself.
                server.install(home, **machine(folder, system, processor))


def the_installer_refuses_what_it_should():
    with Server() as server, tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        said = server.install(home, good=False, **machine(folder, "Plan9", "x86_64"))
        expect("no programs for Plan9" in said, said)
        said = server.install(home, good=False, LIVERANK_VERSION="0.0.9")
        expect("cannot download" in said, said)
        for platform in PLATFORMS:
            with (server.files / f"liverank-{VERSION}-{platform}.tar.gz").open("ab") as changed:
                changed.write(b"more")
        said = server.install(home, good=False)
        expect("nothing is installed" in said, said)
        expect(not (pathlib.Path(home) / ".local").exists(), "something is installed")


def the_formula_and_the_manifest_have_the_archives_checksums():
    with Server() as server:
        sums = {platform: hashlib.sha256((server.files / f"liverank-{VERSION}-{platform}.tar.gz").read_bytes()).hexdigest()
                for platform in PLATFORMS}
        formula = (server.files / "liverank.rb").read_text()
        for platform, checksum in sums.items():
            address = f"{server.homepage}/releases/download/v{VERSION}/liverank-{VERSION}-{platform}.tar.gz"
            expect(re.search(rf'url "{re.escape(address)}"\s+sha256 "{checksum}"', formula), f"{platform} in the formula")
        plugin = yaml.safe_load((server.files / "krew.yaml").read_text())
        expect(plugin["spec"]["version"] == f"v{VERSION}", plugin["spec"]["version"])
        found = {(it["selector"]["matchLabels"]["os"], it["selector"]["matchLabels"]["arch"]): it
                 for it in plugin["spec"]["platforms"]}
        expect(len(found) == 4, found.keys())
        names = {"linux": "linux", "darwin": "macos", "amd64": "x86_64", "arm64": "aarch64"}
        for (system, processor), it in found.items():
            platform = f"{names[system]}-{names[processor]}"
            expect(it["sha256"] == sums[platform] and platform in it["uri"], f"{platform} in krew.yaml")


def client_copies(npm, folder):
    """Copies of the clients' folders, with what they need to be packed. To pack one makes its `dist` anew, and the browser's tests,
    which may run at the same time, read those of the checkout."""
    copies = pathlib.Path(folder) / "clients"
    for package in ("js", "react"):
        at = ROOT / "clients" / package
        if not (at / "node_modules").is_dir():
            run(npm, "ci", "--no-audit", "--no-fund", "--silent", cwd=at)
        shutil.copytree(at, copies / package, ignore=shutil.ignore_patterns("node_modules", "dist", ".*"))
        modules = copies / package / "node_modules"
        modules.mkdir()
        for module in (at / "node_modules").iterdir():
            if module.name not in ("@liverank", ".package-lock.json"):
                (modules / module.name).symlink_to(module)
    # What npm links there is the folder beside it.
    (copies / "react/node_modules/@liverank").mkdir()
    (copies / "react/node_modules/@liverank/client").symlink_to(copies / "js")
    return copies


def npm_packages_install_from_their_tarballs():
    npm = need("npm", "Node.js 20 or later")
    with tempfile.TemporaryDirectory() as folder:
        copies = client_copies(npm, folder)
        tarballs = []
        for package in ("js", "react"):
            at = copies / package
            packed = json.loads(run(npm, "pack", "--json", "--silent", "--pack-destination", folder, cwd=at)[1])[0]
            names = [file["path"] for file in packed["files"]]
            stray = [name for name in names if not name.startswith("dist/") and name not in ("package.json", "README.md")]
            expect(not stray, f"{packed['name']} has {stray} in it")
            tarballs.append(str(pathlib.Path(folder) / packed["filename"]))
        project = pathlib.Path(folder) / "project"
        project.mkdir()
        (project / "package.json").write_text('{"name": "try", "private": true, "type": "module"}')
        run(npm, "install", "--no-audit", "--no-fund", "--silent", *tarballs, cwd=project)
        script = ("const { Liverank } = await import('@liverank/client'); const hooks = await import('@liverank/react');"
                  "new Liverank({ baseUrl: 'http://127.0.0.1:9' }); console.log(Object.keys(hooks).length > 0)")
        said = run("node", "--input-type=module", "--eval", script, cwd=project)[1]
        expect(said.strip() == "true", said)


def wheels(folder, archives, version=VERSION):
    """The wheels of a release's archives, by their platforms."""
    made = {}
    for platform in PLATFORMS:
        said = run(sys.executable, "-B", ROOT / "release/wheel", version, archives / f"liverank-{version}-{platform}.tar.gz", folder)[1]
        made[platform] = pathlib.Path(said.strip())
    return made


def wheels_install_without_an_index():
    """pip takes this machine's wheel of a folder with all of them, and the programs run."""
    here = f"linux-{platform_module.machine()}"
    expect(here in PLATFORMS, f"a release has no programs for {here}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for platform in PLATFORMS:
            archive(folder, platform)
        made = wheels(folder, folder)
        run(sys.executable, "-m", "venv", folder / "venv")
        pip = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--no-index"]
        run(*pip, "--find-links", folder, f"liverank=={VERSION}")
        for program in ("liverank", "liverank-operator", "kubectl-liverank"):
            said = run(folder / "venv/bin" / program, "version")[1]
            expect(said.strip() == f"{program} {VERSION} {here}", said)
        for platform, wheel in made.items():
            if platform != here:
                code, said = run(*pip, "--force-reinstall", wheel, good=False)
                expect(code != 0 and "not a supported wheel" in said, f"pip takes {wheel.name} here: {said}")


def wheels_are_what_they_say():
    """Names, lists of contents, the glibc of the programs, and the same bytes twice."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as again:
        folder = pathlib.Path(folder)
        for platform in PLATFORMS:
            archive(folder, platform)
        made = wheels(folder, folder)
        tags = {platform: wheel.stem.split("-", 2)[2] for platform, wheel in made.items()}
        expect(tags == {"linux-x86_64": "py3-none-manylinux_2_17_x86_64", "linux-aarch64": "py3-none-manylinux_2_17_aarch64",
                        "macos-x86_64": "py3-none-macosx_10_12_x86_64", "macos-aarch64": "py3-none-macosx_11_0_arm64"}, tags)
        for platform, wheel in wheels(pathlib.Path(again), folder).items():
            expect(wheel.read_bytes() == made[platform].read_bytes(), f"{wheel.name} is another one each time")
            with zipfile.ZipFile(wheel) as file:
                info = f"liverank-{VERSION}.dist-info"
                listed = [line.split(",") for line in file.read(f"{info}/RECORD").decode().splitlines()]
                expect([name for name, _, _ in listed] == file.namelist(), f"RECORD of {wheel.name}")
                for name, digest, size in listed[:-1]:
                    body = file.read(name)
                    found = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
                    expect((digest, size) == (f"sha256={found}", str(len(body))), f"{name} of {wheel.name}")
                expect(f"Tag: {tags[platform]}\n" in file.read(f"{info}/WHEEL").decode(), f"WHEEL of {wheel.name}")
        # Programs that ask for a newer glibc, and versions that Python writes otherwise, or cannot.
        packed = folder / "liverank-9.8.7-rc.1-linux-x86_64.tar.gz"
        with tarfile.open(packed, "w:gz") as tar:
            for name in ("liverank", "liverank-operator", "kubectl-liverank", "LICENSE"):
                body = b"\x7fELF GLIBC_2.4 GLIBC_2.36 GLIBC_2.34"
                entry = tarfile.TarInfo(name)
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
        said = run(sys.executable, "-B", ROOT / "release/wheel", "9.8.7-rc.1", packed, folder)[1]
        expect(said.strip().endswith("/liverank-9.8.7rc1-py3-none-manylinux_2_36_x86_64.whl"), said)
        odd = packed.rename(folder / "liverank-9.8.7-nightly-linux-x86_64.tar.gz")
        code, said = run(sys.executable, "-B", ROOT / "release/wheel", "9.8.7-nightly", odd, folder, good=False)
        expect(code != 0 and "no word for the version" in said, said)


def versions_are_one():
    version = re.search(r'(?m)^version = "(.+)"', (ROOT / "Cargo.toml").read_text())[1]
    for package in ("js", "react"):
        found = json.loads((ROOT / "clients" / package / "package.json").read_text())["version"]
        expect(found == version, f"clients/{package} is {found}, the workspace {version}")
    for chart in ("liverank", "liverank-demo"):
        chart = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text())
        expect({chart["version"], chart["appVersion"]} == {version}, f"the chart {chart['name']} is another version than {version}")


def charts_are_packaged():
    need("helm", HELM)
    with tempfile.TemporaryDirectory() as folder:
        for chart in ("liverank", "liverank-demo"):
            run(sys.executable, "-B", ROOT / "release/chart", chart, VERSION, REPOSITORY, folder)
            with tarfile.open(pathlib.Path(folder) / f"{chart}-{VERSION}.tgz") as tar:
                names = tar.getnames()
            expect(f"{chart}/README.md" in names, f"{chart} has no README.md")
            stray = [name for name in names if "/tests/alerts" in name or name.endswith((".py", ".tgz"))]
            expect(not stray, f"{chart} has {stray} in it")


def charts_that_are_published_name_the_image_of_the_release():
    """Of whom installs them without a value; and nothing in them is called as `docker build` calls it."""
    helm = need("helm", HELM)
    ours = re.compile(r"(?<![\w./-])liverank(?::\d|@sha256)")
    with tempfile.TemporaryDirectory() as folder:
        for chart in ("liverank", "liverank-demo"):
            run(sys.executable, "-B", ROOT / "release/chart", chart, VERSION, REPOSITORY, folder)
            packed = pathlib.Path(folder) / f"{chart}-{VERSION}.tgz"
            text = run(helm, "template", "try", packed)[1]
            # Of containers and of the RankingCluster; the stores' images are others.
            images = {image for image in re.findall(r"(?m)^\s*(?:- )?image: \"?([^\s\"]+)", text) if "liverank" in image}
            expect(images == {IMAGE}, f"{chart} runs {sorted(images)}")
            for kind in ("chart", "values", "readme"):
                shown = run(helm, "show", kind, packed)[1]
                values = ours.findall(shown) if kind != "readme" else []
                expect(not values, f"{kind} of {chart} has {values}")
            expect(f'| `image.repository` | `"{REPOSITORY}"` |' in shown, f"README.md of {chart} has another image")
        for wrong in (("liverank", VERSION, "liverank", folder), ("liverank", "1.2", REPOSITORY, folder), ("no-chart", VERSION, REPOSITORY, folder)):
            code, said = run(sys.executable, "-B", ROOT / "release/chart", *wrong, good=False)
            expect(code != 0, f"{wrong} is taken: {said}")


def artifact_hub_knows_the_charts():
    for name in ("liverank", "liverank-demo"):
        chart = yaml.safe_load((ROOT / "charts" / name / "Chart.yaml").read_text())
        notes = chart["annotations"]
        expect(notes["artifacthub.io/license"] == "Apache-2.0", f"{name}: the licence")
        for key, value in notes.items():
            if key.rsplit("/", 1)[1] in ("crds", "crdsExamples", "images", "changes", "links"):
                expect(isinstance(yaml.safe_load(value), list), f"{name}: {key} is no list")
    repository = yaml.safe_load((ROOT / "release/artifacthub-repo.yml").read_text())
    expect(set(repository) <= {"repositoryID", "owners", "ignore"}, f"artifacthub-repo.yml has {sorted(repository)}")


REPOSITORY = "registry.example.org/liverank/liverank"
IMAGE = f"{REPOSITORY}:{VERSION}"
HOMEPAGE = "https://example.org/liverank"


def bundle(folder):
    """A bundle for OLM in a folder, and its ClusterServiceVersion."""
    run(sys.executable, "-B", ROOT / "release/bundle", VERSION, IMAGE, HOMEPAGE, folder)
    return yaml.safe_load((folder / "manifests/liverank-operator.clusterserviceversion.yaml").read_text())


def charts_objects(*values):
    """What Helm makes of the chart, by kind and name."""
    flags = [part for value in values for part in ("--set", value)]
    text = run("helm", "template", "liverank", ROOT / "charts/liverank", "--namespace", "here", "--skip-tests", *flags)[1]
    return {(body["kind"], body["metadata"]["name"]): body for body in yaml.safe_load_all(text) if body}


def the_bundle_is_valid_for_olm():
    found = os.environ.get("LIVERANK_TEST_VALIDATE_BUNDLE")
    expect(found, "the validators of bundles are missing: testbed/testbed install lint")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        csv = bundle(folder)
        said = run(found, folder)[1]
        expect(said.strip() == "7 objects, 0 problems", said)
        labels = dict(re.findall(r"(?m)^LABEL (\S+)=(\S+)$", (folder / "bundle.Dockerfile").read_text()))
        annotations = yaml.safe_load((folder / "metadata/annotations.yaml").read_text())["annotations"]
        expect(labels == annotations and len(labels) == 6, f"the image's labels are not the annotations: {labels}")
        # What is wrong is found.
        del csv["spec"]["customresourcedefinitions"]["owned"][0]["version"]
        (folder / "manifests/liverank-operator.clusterserviceversion.yaml").write_text(yaml.safe_dump(csv))
        code, said = run(found, folder, good=False)
        expect(code == 1 and "0 problems" not in said, f"a resource without a version is taken: {said}")


def the_bundle_asks_for_what_the_chart_asks_for():
    """The permissions of the chart, whole and no more: in the namespaces that are watched, and for the operator's own Leases."""
    with tempfile.TemporaryDirectory() as folder:
        install = bundle(pathlib.Path(folder))["spec"]["install"]["spec"]
    expect(set(install) == {"permissions", "deployments"}, f"OLM would make more of it: {sorted(install)}")
    (permissions,), (deployment,) = install["permissions"], install["deployments"]
    name = deployment["name"]
    for values in ((), ("watchNamespace=there",)):
        chart = charts_objects(f"fullnameOverride={name}", "rbac.aggregate=false", *values)
        rules = [rule for (kind, _), body in chart.items() if kind in ("Role", "ClusterRole") for rule in body["rules"]]
        order = functools.partial(json.dumps, sort_keys=True)
        wanted, found = sorted(map(order, rules)), sorted(map(order, permissions["rules"]))
        expect(found == wanted, f"not the chart's permissions ({values}): {set(found) ^ set(wanted)}")
    pod = deployment["spec"]["template"]["spec"]
    expect(pod["serviceAccountName"] == permissions["serviceAccountName"], "another ServiceAccount than the rules are for")


def the_bundle_runs_what_the_chart_runs():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        csv = bundle(folder)
        (deployment,) = csv["spec"]["install"]["spec"]["deployments"]
        definition = (folder / "manifests/liverank.dev_rankingclusters.yaml").read_text()
        beside = [yaml.safe_load((folder / "manifests" / f"liverank-operator_{kind}.yaml").read_text())
                  for kind in ("service", "poddisruptionbudget")]
    repository, tag = IMAGE.rsplit(":", 1)
    chart = charts_objects(f"fullnameOverride={deployment['name']}", "podUser=Platform", f"image.repository={repository}", f"image.tag={tag}")
    wanted = chart["Deployment", deployment["name"]]["spec"]
    (ours,), (theirs,) = deployment["spec"]["template"]["spec"]["containers"], wanted["template"]["spec"]["containers"]
    watched = [it for it in ours["env"] if it not in theirs["env"]]
    fields = [(it["name"], it["valueFrom"]["fieldRef"]["fieldPath"]) for it in watched]
    expect(fields == [("LIVERANK_WATCH_NAMESPACE", "metadata.annotations['olm.targetNamespaces']")], f"variables: {fields}")
    expect({**ours, "env": theirs["env"]} == theirs, "another container than the chart's")
    expect(deployment["spec"]["selector"] == wanted["selector"], "another selector")
    for body in beside:
        selector = body["spec"]["selector"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        expect((selector.get("matchLabels") or selector).items() <= labels.items(), f"the {body['kind']} selects nothing")
        expect("namespace" not in body["metadata"], f"the {body['kind']} is in a namespace of its own")
    expect(definition == (ROOT / "crds/rankingcluster.yaml").read_text(), "another definition than crds/rankingcluster.yaml")
    modes = {it["type"]: it["supported"] for it in csv["spec"]["installModes"]}
    expect(len(modes) == 4 and all(modes.values()), f"install modes: {modes}")


def the_bundle_describes_fields_that_there_are():
    with tempfile.TemporaryDirectory() as folder:
        (owned,) = bundle(pathlib.Path(folder))["spec"]["customresourcedefinitions"]["owned"]
    crd = yaml.safe_load((ROOT / "crds/rankingcluster.yaml").read_text())
    (version,) = [it for it in crd["spec"]["versions"] if it["name"] == owned["version"]]
    expect((owned["name"], owned["kind"]) == (crd["metadata"]["name"], crd["spec"]["names"]["kind"]), "another resource")
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    for part, descriptors in (("spec", owned["specDescriptors"]), ("status", owned["statusDescriptors"])):
        paths = [it["path"] for it in descriptors]
        expect(len(paths) == len(set(paths)) > 5, f"{part}: {paths}")
        for it in descriptors:
            field = schema[part]
            for name in it["path"].split("."):
                field = field["properties"][name]
            expect(it["description"] == " ".join(field["description"].split()), f"{it['path']} is described otherwise")
        left = {name for name, field in schema[part]["properties"].items() if field.get("description")} - set(paths)
        expect(not left, f"{part}: {left} are not described")


def the_bundle_owns_the_versions_that_it_serves():
    """What its definition serves, with an example of each; and no version that it would need a webhook for."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        csv = bundle(folder)
        spec = yaml.safe_load((folder / "manifests/liverank.dev_rankingclusters.yaml").read_text())["spec"]
        served = sorted(it["name"] for it in spec["versions"] if it["served"])
        owned = sorted(it["version"] for it in csv["spec"]["customresourcedefinitions"]["owned"])
        expect(owned == served, f"it owns {owned} and serves {served}")
        examples = json.loads(csv["metadata"]["annotations"]["alm-examples"])
        expect(sorted(it["apiVersion"] for it in examples) == [f"{spec['group']}/{name}" for name in served], "an example of each version")
        # OLM takes a conversion webhook only from an operator that supports AllNamespaces alone.
        modes = {it["type"] for it in csv["spec"]["installModes"] if it["supported"]}
        expect("webhookdefinitions" not in csv["spec"] or modes == {"AllNamespaces"}, f"a webhook, and the install modes {modes}")
        expect(len(served) == 1 and "conversion" not in spec, f"{served} are served, and nothing says what OLM makes of the webhook")
        # The definition that serves both is refused by what it would need.
        text = (ROOT / "release/bundle").read_text().replace('"crds" / "rankingcluster.yaml"', '"crds" / "v1beta1" / "rankingcluster.yaml"')
        text = text.replace("pathlib.Path(__file__).resolve().parent.parent", f"pathlib.Path({str(ROOT)!r})")
        other = folder / "bundle"
        other.write_text(text)
        code, said = run(sys.executable, "-B", other, VERSION, IMAGE, HOMEPAGE, folder / "both", good=False)
        expect(code == 1 and "AllNamespaces" in said and not (folder / "both").exists(), f"taken: {said}")


def crates_hold_sources_and_nothing_else():
    cargo = need("cargo", "Rust")
    metadata = json.loads(run(cargo, "metadata", "--no-deps", "--format-version", "1", "--locked", "--offline", cwd=ROOT)[1])
    for package in metadata["packages"]:
        listed = run(cargo, "package", "--list", "--allow-dirty", "--package", package["name"], "--offline", cwd=ROOT)[1].split("\n")
        names = [name for name in listed if name and not name.startswith(("warning:", "    "))]
        expect("Cargo.toml" in names and len(names) <= MOST_FILES, f"{package['name']} has {len(names)} files")
        stray = [name for name in names if re.search(r"(^|/)(target|node_modules|\.testbed)/|\.(key|pem|log)$", name)]
        expect(not stray, f"{package['name']} has {stray} in it")


def scripts_are_linted():
    need("shellcheck", "testbed/testbed install lint")
    run("shellcheck", ROOT / "release/install.sh", ROOT / "release/archive")
    run("sh", "-n", ROOT / "release/install.sh")


def workflows_are_linted():
    run(need("actionlint", "testbed/testbed install lint"), cwd=ROOT)


CHECKS = (the_installer_installs_what_the_checksums_say, the_installer_refuses_what_it_should,
          the_formula_and_the_manifest_have_the_archives_checksums, npm_packages_install_from_their_tarballs,
          wheels_install_without_an_index, wheels_are_what_they_say, versions_are_one,
          charts_are_packaged, charts_that_are_published_name_the_image_of_the_release, artifact_hub_knows_the_charts, the_bundle_is_valid_for_olm,
          the_bundle_asks_for_what_the_chart_asks_for, the_bundle_runs_what_the_chart_runs,
          the_bundle_describes_fields_that_there_are, the_bundle_owns_the_versions_that_it_serves, crates_hold_sources_and_nothing_else, scripts_are_linted,
          workflows_are_linted)


def held(check):
    name = check.__name__.replace("_", " ")
    try:
        check()
    except (Failure, OSError, ValueError, LookupError, subprocess.TimeoutExpired, yaml.YAMLError) as error:
        print(f"not ok - {name}\n#   {error}", flush=True)
        return False
    print(f"ok - {name}", flush=True)
    return True


def main(words):
    results = [held(check) for check in CHECKS if not words or any(word in check.__name__ for word in words)]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if results and all(results) else 1


sys.exit(main(sys.argv[1:]))
