"""Fixtures shared by all tests: S3 servers."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3 import S3Server, new_s3_server


def pytest_configure() -> None:
    """Shells start background jobs with Ctrl-C ignored, and what tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One SeaweedFS for all tests."""
    server = new_s3_server(tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        yield server
    finally:
        server.kill()  # its data is thrown away, and an orderly end takes 15 seconds


@pytest.fixture
def own_s3_server(tmp_path: Path) -> Iterator[S3Server]:
    """A SeaweedFS that the test may kill."""
    server = new_s3_server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with its keys in this test's environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
