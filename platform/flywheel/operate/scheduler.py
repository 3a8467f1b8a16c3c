"""``flywheel run --every``: asks again and again whether a turn is due, in a child process each time.

A child, because Ray replaces this process's SIGTERM handler while a turn runs, and because a turn that takes its
process down (out of memory, say) must not end the schedule. Told to stop, the scheduler waits for a running turn.
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import IO, Any

from flywheel.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = 8
"""After failures in a row the pause doubles, up to so many times the usual one."""


def parse_duration(text: str) -> float:
    """``30s``, ``15m``, ``1h``, ``2d`` in seconds.

    Raises:
        UsageError: anything else, or zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"'{text}' is no duration; write it as 30s, 15m, 1h or 2d")
    return seconds


def run_every(
    command: Sequence[str], seconds: float, *, say: Callable[[str], None], stdout: IO[Any] | None = None
) -> None:
    """Run ``command`` now and then every ``seconds``, until SIGTERM or SIGINT; a second signal ends the child too.

    Args:
        command: started as a process of its own, out of reach of the terminal's Ctrl-C.
        seconds: pause between two runs; after a failure twice as long, and so on up to eight times.
        say: told when a run failed, and when the schedule ends.
        stdout: where the child prints; none: where this process does.
    """
    stop = threading.Event()
    child: list[subprocess.Popen[bytes]] = []

    def ask_to_stop(_signum: int, _frame: FrameType | None) -> None:
        if stop.is_set() and child:
            child[-1].terminate()
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        pause = seconds
        while not stop.is_set():
            child[:] = [subprocess.Popen(command, stdout=stdout, start_new_session=True)]
            code = child[0].wait()
            pause = seconds if code == 0 else min(2 * pause, _LONGEST * seconds)
            if code != 0:
                say(f"the run ended with code {code}; the next one is in {pause:.0f} s")
            stop.wait(pause)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    say("stopped")
