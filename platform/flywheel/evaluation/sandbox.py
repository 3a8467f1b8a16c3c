"""Runs Python that nobody has looked at: a model's code, then the tests of it.

Linux only, with util-linux's own tools and nothing of ours in between: ``unshare`` gives it namespaces without
network, other processes or our files (``sandbox.sh`` builds a root of read-only system folders and a small ``/tmp`` in
memory), ``setpriv`` takes every capability and, from root, the user id; ``prlimit`` bounds CPU time, memory, processes,
open files and output. Not bounded: what a flaw of the kernel gives away; for that, use a machine of its own.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import IO, Final

from flywheel.errors import EnvironmentProblem

TOOLS: Final = ("unshare", "mount", "umount", "pivot_root", "setpriv", "prlimit")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_SYSTEM: Final = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
_DETAIL: Final = 200

# The proof of success is a word that the code is not told; printing "passed" or leaving early proves nothing.
_HARNESS: Final = """
import json, sys
def run(code, tests, word):
    scope = {"__name__": "answer"}
    for source, name in ((code, "the answer"), (tests, "the tests")):
        exec(compile(source, name, "exec"), scope)
    sys.stdout.flush()
    sys.__stdout__.write(word)
try:
    run(**json.loads(sys.stdin.read()))
except BaseException as error:
    sys.__stdout__.write(f"\\n{type(error).__name__}: {error}")
    sys.exit(1)
"""

_PROBE: Final = """
import os, socket
assert not os.path.exists("/etc/passwd") and not os.path.exists("/proc/1"), "files are shared"
assert [name for _, name in socket.if_nameindex()] in ([], ["lo"]), "the network is shared"
"""


@dataclass(frozen=True)
class Limits:
    """What one run may use."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_mb: int = 256
    """of one process"""
    processes: int = 8
    open_files: int = 32
    output_kb: int = 64
    """of output, and of any file"""
    disk_mb: int = 16
    """``/tmp``, in memory"""


DEFAULT: Final = Limits()


def run_tests(code: str, tests: str, limits: Limits = DEFAULT, *, unconfined: bool = False) -> str | None:
    """Run ``code`` and behind it ``tests``, in one interpreter.

    Args:
        code: Python that nobody trusts.
        tests: Python that raises where the code is wrong.
        limits: what the run may use.
        unconfined: run as the user who calls, with limits but without a sandbox.

    Returns:
        None if the tests ran to their end, else why not, in a line.

    Raises:
        EnvironmentProblem: this machine has no such sandbox (see ``require``).
    """
    if not unconfined:
        require()
    return _run(code, tests, limits, _unconfined(limits) if unconfined else _confined(limits))


@functools.cache
def require() -> None:
    """Make sure that code can be confined here, by confining some.

    Raises:
        EnvironmentProblem: says what is missing.
    """
    absent = [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]
    failure = f"no {', '.join(absent)}" if absent else _run("", _PROBE, DEFAULT, _confined(DEFAULT))
    if failure:
        raise EnvironmentProblem(
            f"Code of models cannot be confined on this machine ({failure}). It needs Linux with user namespaces, or "
            "root. To run it all the same, with your own files and network, set evaluation.allow_unconfined_code."
        )


def _run(code: str, tests: str, limits: Limits, command: Sequence[str]) -> str | None:
    word = secrets.token_hex(16)
    given = json.dumps({"code": code, "tests": tests, "word": word}).encode()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory(prefix="flywheel-code-") as folder:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
            env={"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/tmp"}, start_new_session=True,
        )  # fmt: skip
        try:
            process.communicate(given, timeout=limits.wall_s)
        except subprocess.TimeoutExpired:
            return f"took longer than {limits.wall_s:g} s"
        finally:
            _kill(process)
        said = _tail(output, limits)
    if process.returncode == 0 and said.endswith(word):
        return None
    return _reason(said.replace(word, ""), process.returncode)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole group; behind ``unshare --kill-child`` that ends all processes of the namespace."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(output: IO[bytes], limits: Limits) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - 1024 * limits.output_kb))
    return output.read(1024 * limits.output_kb).decode(errors="replace")


def _reason(said: str, code: int) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1][:_DETAIL] if lines else ""
    return last or ("the code left before the tests ended" if code == 0 else f"ended with {code}")


def _confined(limits: Limits) -> list[str]:
    root = os.geteuid() == 0
    namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    own = [] if root else ["--user", "--map-root-user"]
    # Root's processes cannot be counted, and an id that is not used elsewhere has only its own counted.
    user = 64_000 + secrets.randbelow(1_000)
    other = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if root else []
    drop = ["setpriv", *other, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    script = resources.files("flywheel.evaluation").joinpath("sandbox.sh").read_text()
    folders = [path for path in dict.fromkeys([*_SYSTEM, sys.base_prefix]) if os.path.exists(path)]  # noqa: PTH110
    shell = ["sh", "-c", script, "sandbox", str(limits.disk_mb), *folders, "--"]
    return ["unshare", *own, *namespaces, *shell, *drop, *_limited(limits)]


def _unconfined(limits: Limits) -> list[str]:
    return _limited(limits) if shutil.which("prlimit", path=_PATH) else _python()


def _limited(limits: Limits) -> list[str]:
    return [
        "prlimit", f"--cpu={limits.cpu_s}", f"--as={limits.memory_mb << 20}", f"--nproc={limits.processes}",
        f"--nofile={limits.open_files}", f"--fsize={limits.output_kb << 10}", "--core=0", *_python(),
    ]  # fmt: skip


def _python() -> list[str]:
    """The interpreter itself, not the environment's: the standard library and nothing else."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [f"{sys.base_prefix}/bin/{version}", "-I", "-S", "-B", "-c", _HARNESS]
