"""A Ray cluster of several node processes on one machine, as `ray start` makes it; every node is ended by its id."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from flywheel.workflow.cluster import free_port

START_SECONDS = 90


def bare_python(folder: Path) -> Path:
    """An interpreter that has every dependency and not this project: what a cluster's nodes have."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # .pth files in there do not run
    found = subprocess.run([folder / "bin/python", "-c", "import ray, flywheel"], capture_output=True, text=True)
    assert "No module named 'flywheel'" in found.stderr
    return folder / "bin" / "python"


class RayNodes:
    """A head without room for work and as many workers as a test adds."""

    def __init__(self, python: Path, environment: dict[str, str]) -> None:
        self.python = python
        self.folder = Path(tempfile.mkdtemp(prefix="fw-ray-", dir="/tmp"))  # Unix sockets allow 107 characters only
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text(os.urandom(32).hex())
        keep = {key: value for key, value in os.environ.items() if not key.startswith("RAY_") and key != "PYTHONPATH"}
        self.environment = {
            **keep,
            **environment,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        self.port, self.dashboard = free_port(), free_port()
        self.nodes: list[subprocess.Popen] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def jobs(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def start_head(self, cpus: float = 1) -> None:
        self._start(
            "--head", f"--port={self.port}", "--include-dashboard=true", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard}", f"--num-cpus={cpus}", f"--temp-dir={self.folder}",
        )  # fmt: skip
        self._wait(lambda: self.ray("status").returncode == 0)

    def add_worker(self, cpus: float = 3) -> subprocess.Popen:
        name = f"worker-{uuid.uuid4().hex}"
        place = [f"--num-cpus={cpus}", '--resources={"worker": 1}', f"--node-name={name}"]
        node = self._start(f"--address={self.address}", *place)
        self._wait(lambda: name in self.alive())
        return node

    def alive(self) -> list[str]:
        """Names of the living nodes. One that was killed lives on here until the head misses it."""
        code = (
            f"import ray; ray.init('{self.address}', log_to_driver=False, logging_level='ERROR'); "
            "print(*(node['NodeName'] for node in ray.nodes() if node['Alive']))"
        )
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, env=self.environment)
        return done.stdout.split() if done.returncode == 0 else []

    def kill(self, node: subprocess.Popen) -> None:
        """As a machine that loses power: the raylet and every worker process of this node at once."""
        try:
            processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        except psutil.NoSuchProcess:  # it ended by itself
            processes = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        node.wait(30)
        self.nodes.remove(node)

    def ray(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess:
        """The `ray` command, against this cluster."""
        command = [self.python, "-m", "ray.scripts.scripts", *arguments]
        environment = {**self.environment, "RAY_ADDRESS": self.address}
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)

    def submit(self, working_dir: Path, *entrypoint: str, on_worker: bool = True, timeout: float = 600):
        """`ray job submit`, waiting for the end; on a worker node unless told otherwise."""
        place = ["--entrypoint-resources", '{"worker": 0.1}'] if on_worker else []
        command = [self.python, "-m", "ray.scripts.scripts", "job", "submit", "--address", self.jobs, *place]
        command += ["--working-dir", str(working_dir), "--", *entrypoint]
        deadline = time.monotonic() + START_SECONDS
        while True:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment)
            if "No available agent" not in done.stderr or time.monotonic() > deadline:  # a node's agent starts slowly
                return done
            time.sleep(2)

    def stop(self) -> None:
        for node in list(reversed(self.nodes)):
            self.kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *arguments: str) -> subprocess.Popen:
        command = [self.python, "-m", "ray.scripts.scripts", "start", *arguments, "--node-ip-address=127.0.0.1"]
        # Every node on this machine needs an agent port of its own; without its agent a node takes no jobs.
        command += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=120000000"]
        command += ["--disable-usage-stats", "--block"]
        with (self.folder / f"node-{len(self.nodes)}.log").open("ab") as log:
            node = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, start_new_session=True)
        self.nodes.append(node)
        return node

    def _wait(self, ready) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("node-*.log"))
            assert time.monotonic() < deadline, logs
            assert self.nodes[-1].poll() is None, logs
            time.sleep(0.5)
