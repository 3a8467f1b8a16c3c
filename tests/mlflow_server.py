"""A real MLflow server on loopback that a test may kill, hang and start again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from s3 import free_ports

START_SECONDS = 90


class MlflowServer:
    """Same port and data at every start."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self.process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "art"),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the MLflow server did not start")
            time.sleep(0.5)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """The server and its workers; without any, nothing happens."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            if number in {signal.SIGKILL, signal.SIGTERM}:
                self.process.wait(20)

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.uri}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False
