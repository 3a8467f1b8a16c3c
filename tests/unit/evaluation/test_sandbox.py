"""The sandbox, attacked: what is inside reads, writes, sends, kills and uses nothing beyond its share."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from flywheel.errors import EnvironmentProblem
from flywheel.evaluation import sandbox
from flywheel.evaluation.sandbox import Limits, run_tests

SHORT = Limits(wall_s=3, cpu_s=1)


def works() -> str | None:
    try:
        sandbox.require()
    except EnvironmentProblem as error:
        return str(error)
    return None


confined = pytest.mark.skipif(works() is not None, reason=works() or "")


@confined
def test_right_code_passes_and_wrong_code_says_why():
    tests = "assert double(2) == 4\nassert double('a') == 'aa', 'texts too'"
    assert run_tests("def double(x):\n    return 2 * x", tests) is None
    assert run_tests("import json, re, math\ndef double(x): return x + x", tests) is None
    assert run_tests("def double(x): return x ** 2 if x == 2 else x", tests) == "AssertionError: texts too"
    assert run_tests("def half(x): return x", tests) == "NameError: name 'double' is not defined"
    assert "SyntaxError" in run_tests("def double(x) return x", tests)


@confined
@pytest.mark.parametrize(
    "code", ["import os; os._exit(0)", "print('passed', flush=True); raise SystemExit(0)", "import sys; sys.exit()"]
)
def test_leaving_early_does_not_pass(code):
    assert run_tests(code, "assert False")


def never(*attempts: str) -> str:
    """Code that tries each of these and lists the ones that worked."""
    return (
        f"import os, socket\ndone = []\nfor attempt in {list(attempts)!r}:\n"
        "    try: exec(attempt)\n    except OSError: continue\n    done.append(attempt)"
    )


@confined
def test_secrets_of_the_environment_and_of_files_are_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    paths = ["/etc/passwd", "/etc/hostname", str(secret), str(Path.home() / ".ssh"), __file__, "/proc/1/environ",
             "/proc/self/environ", "/old/etc/passwd", "/../etc/passwd", "/dev/mem", "/sys"]  # fmt: skip
    with secret.open() as held:
        os.set_inheritable(held.fileno(), True)
        attempts = [*(f"os.stat({path!r})" for path in paths), *(f"os.fstat({number})" for number in range(3, 32))]
        tests = "assert done == [], done\nassert 'hunter2' not in str(os.environ)"
        assert run_tests(never(*attempts), tests) is None


@confined
def test_nothing_outside_can_be_written_or_changed(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    mode = target.stat().st_mode
    paths = [str(target), "/usr/evil", "/usr/bin/evil", "/etc/evil", f"{os.__file__}x", "/evil/evil"]
    attempts = [
        *(f"open({path!r}, 'w')" for path in paths),
        f"os.chmod({str(target)!r}, 0)", f"os.unlink({str(target)!r})", "os.chmod('/usr/bin/env', 0)",
        "os.unlink('/usr/bin/env')", "os.chroot('/tmp')", "os.mknod('/tmp/sda', 0o60666, 2049)",
        "os.setuid(0), open('/usr/evil', 'w')",
    ]  # fmt: skip
    assert run_tests(never(*attempts), "assert done == [], done") is None
    assert (target.read_text(), target.stat().st_mode) == ("mine", mode)
    assert run_tests("open('/tmp/own', 'w').write('x')", "assert open('/tmp/own').read() == 'x'") is None


@confined
def test_no_socket_leads_anywhere(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        name = str(tmp_path / "s")
        local.bind(name)
        local.listen()
        port = server.getsockname()[1]
        ends = [("AF_INET", ("127.0.0.1", port)), ("AF_INET", ("192.0.2.1", 53)), ("AF_UNIX", name)]
        attempts = [f"socket.socket(socket.{family}).connect({end!r})" for family, end in ends]
        assert run_tests(never(*attempts), "assert done == [], done") is None


@confined
def test_other_processes_are_neither_seen_nor_killed():
    attempts = [f"os.kill({target}, 9)" for target in (os.getpid(), os.getppid())]
    assert run_tests(never(*attempts), "assert done == [], done") is None
    run_tests("import os\nos.kill(1, 9)\nos.kill(os.getppid(), 9)\nos.killpg(0, 9)\nos.kill(-1, 9)", "")
    assert run_tests("", "") is None


@confined
def test_endless_code_ends_in_time_with_all_it_started():
    started = time.monotonic()
    assert run_tests("while True: pass", "", SHORT)
    mark = "31415.926"
    orphan = (
        "import ctypes, os, time\nctypes.CDLL(None).prctl(1, 0)\n"  # asks not to be killed with its parent
        f"if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep({mark})\ntime.sleep(60)"
    )
    before = threading.active_count()
    assert "longer than" in run_tests(orphan, "", Limits(wall_s=2))
    assert time.monotonic() - started < 20
    assert threading.active_count() == before
    time.sleep(0.2)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@confined
def test_a_fork_bomb_is_bounded_and_gone():
    code = (
        "import os\nn = 0\ntry:\n"
        "    while n < 500:\n        if os.fork() == 0:\n            import time; time.sleep(60)\n        n += 1\n"
        "except OSError:\n    pass"
    )
    assert run_tests(code, f"assert 0 < n <= {Limits().processes}, n", Limits(wall_s=5)) is None
    assert run_tests("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "", SHORT)
    assert run_tests("", "") is None


@confined
def test_memory_disk_and_output_are_bounded():
    assert "MemoryError" in run_tests("x = []\nwhile True: x.append('y' * 2**20)", "")
    assert run_tests("while True: print('x' * 10_000)", "", SHORT)
    fill = "import os\nfor n in range(10_000):\n    with open(f'/tmp/{n}', 'wb') as f: f.write(b'x' * 60_000)"
    assert "No space left" in run_tests(fill, "")
    deep = run_tests("raise ValueError('x' * 100_000)", "")
    assert deep.startswith("ValueError: xxx")
    assert len(deep) <= 200


def test_without_the_tools_it_says_what_is_missing_and_runs_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "_PATH", str(tmp_path))
    sandbox.require.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r"no unshare, .*allow_unconfined_code"):
        run_tests("open('ran', 'w')", "")
    monkeypatch.undo()
    sandbox.require.cache_clear()


def test_unconfined_code_is_run_only_where_it_is_asked_for_and_still_has_limits():
    assert run_tests("x = 1", "assert x == 1", unconfined=True) is None
    assert run_tests("while True: pass", "", Limits(wall_s=1), unconfined=True)
