"""A Docker engine that can run the compose file: the machine's own, or one of ours that ends with the test."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LIVERANK_CACHE") or Path.home() / ".cache/liverank-testbed").resolve()
PROJECT = "liverank-compose-test"
# Ten times what it takes on a quiet machine.
ENGINE_SECONDS = 60
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class Failure(Exception):
    """What was expected did not happen; the text says what did."""


def run(*command, check=True, env=None, timeout=None):
    """Runs a command and returns what it did; with `check`, a failure carries the end of what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=env, timeout=timeout, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise Failure(f"`{' '.join(words)}` ended with {done.returncode}:\n{said[-3000:]}")
    return done


def docker_client():
    """The first `docker` on PATH that can speak to BuildKit; others only have the builder that compiles every stage."""
    env = os.environ | {"DOCKER_BUILDKIT": "1"}
    for folder in os.environ["PATH"].split(os.pathsep):
        client = shutil.which("docker", path=folder)
        if client and "--secret" in run(client, "build", "--help", check=False, env=env).stdout:
            return client
    raise Failure("no docker with BuildKit on PATH; run: testbed/testbed install docker")


class Engine:
    """`docker` and `docker compose` against one engine."""

    def __init__(self):
        self.client = docker_client()
        self.daemon = None
        self.env = os.environ | {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1", "COMPOSE_ANSI": "never"}
        if self.docker("info", check=False).returncode != 0:
            self._start_daemon()
        v2 = self.docker("compose", "version", check=False).returncode == 0
        self.compose_words = [self.client, "compose"] if v2 else ["docker-compose"]
        if not v2 and not shutil.which("docker-compose"):
            raise Failure("no docker compose; run: testbed/testbed install docker")

    def docker(self, *words, **options):
        return run(self.client, *words, env=self.env, **options)

    def compose(self, *words, **options):
        return run(*self.compose_words, "--project-directory", CHECKOUT, "-f", CHECKOUT / "docker-compose.yml",
                   "--project-name", PROJECT, *words, env=self.env, **options)

    def inspect(self, container, template):
        return self.docker("inspect", "--format", template, container).stdout.strip()

    def container(self, service):
        """The id of the service's only container, running or not."""
        # By its labels: docker-compose 1.29 takes a second to say the same.
        filters = (f"label=com.docker.compose.{name}" for name in (f"project={PROJECT}", f"service={service}"))
        ids = self.docker("ps", "--all", "--quiet", *(f"--filter={filter}" for filter in filters)).stdout.split()
        if len(ids) != 1:
            raise Failure(f"{service} has {len(ids)} containers")
        return ids[0]

    def _start_daemon(self):
        if os.geteuid() != 0:
            raise Failure("no Docker engine answers, and starting one needs root")
        if not shutil.which("dockerd"):
            raise Failure("no dockerd; run: testbed/testbed install docker")
        # dockerd drops all forwarded packets of the machine when it is the one that turns forwarding on, and leaves it
        # so: other bridges (of Kubernetes, for one) would be cut off.
        FORWARDING.write_text("1")
        self.had_bridge = Path("/sys/class/net/docker0").exists()
        self.run_folder = Path(tempfile.mkdtemp(prefix="liverank-docker-"))
        socket = f"unix://{self.run_folder}/docker.sock"
        self.env["DOCKER_HOST"] = socket
        with open(self.run_folder / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", "--host", socket, "--data-root", CACHE / "docker", "--exec-root", self.run_folder / "exec",
                 "--pidfile", self.run_folder / "pid"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + ENGINE_SECONDS
        while self.docker("info", check=False).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                log = (self.run_folder / "log").read_text(errors="replace")
                self.close()
                raise Failure(f"dockerd does not come up:\n{log[-3000:]}")
            time.sleep(0.2)

    def close(self):
        """Ends the engine if it is ours; its images stay in the cache."""
        if self.daemon is None:
            return
        self.daemon.terminate()
        try:
            self.daemon.wait(ENGINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        if not self.had_bridge:
            run("ip", "link", "delete", "docker0", check=False)
        shutil.rmtree(self.run_folder, ignore_errors=True)
        self.daemon = None
