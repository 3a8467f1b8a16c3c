"""`flywheel label` in a real pseudo-terminal: keys in, labels in the lake, and a kill that loses nothing."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.lake.tables import Lake
from flywheel.review.labels import read_labels, skipped

PROGRAM = """
import fcntl, sys, termios
from datetime import UTC, datetime
from flywheel.lake.tables import Lake
from flywheel.records import Inference, Message
from flywheel.review.queue import QueueItem
from flywheel.review.terminal import label

def item(n):
    row = Inference(
        inference_id=f"i{n}", flow="triage", ts=datetime(2026, 1, 1, tzinfo=UTC), subject=f"s{n}", model_version="m1",
        messages=[Message(role="user", content=f"question-{n}")], choices=[f"answer {n}"])
    return QueueItem(row, "gate", "random")

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its own terminal, so that Ctrl-C is a signal
report = label(Lake(sys.argv[1]), "triage", [item(n) for n in range(1, 6)], annotator="ann")
print("REPORT", report.accepted, report.corrected, report.skipped, report.undone, report.left)
"""
CLEAR_LINE = "\x15"


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, lake: Path) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(lake)],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, text: str, seconds: float = 30) -> None:
        """Wait until ``text`` is shown, and forget what was shown up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} was not shown; on screen: {self.seen[-2000:]}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65_536).decode(errors="replace")
                except OSError:  # the other side is closed
                    assert text in self.seen, f"{text!r} was not shown before the end: {self.seen[-2000:]}"
        self.seen = self.seen.split(text, 1)[1]

    def item(self, n: int) -> None:
        """Wait until item ``n`` is asked about."""
        self.expect(f"question-{n}")
        self.expect("quit")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.master)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def sit(folder: Path):
    open_ones = []

    def start() -> Terminal:
        open_ones.append(Terminal(folder))
        return open_ones[-1]

    yield start
    for terminal in open_ones:
        terminal.close()


def stored(folder: Path) -> dict[str, tuple[str, str | None]]:
    return {row.inference_id: (row.kind, row.correction) for row in read_labels(Lake(str(folder)), "triage")}


def test_keys_write_labels_and_a_second_sitting_resumes(folder: Path, sit):
    first = sit()
    first.item(1)
    first.press("a")
    first.item(2)
    first.press("c")
    first.expect("correct answer> answer 2")  # the served answer is there to be edited
    first.press(f"{CLEAR_LINE}the right one\r")
    first.item(3)
    first.press("s")
    first.item(4)
    first.press("a")
    first.item(5)
    first.press("u")
    first.item(4)
    first.press("q")
    first.expect("REPORT 1 1 1 1 2")
    assert first.process.wait(20) == 0
    assert stored(folder) == {"i1": ("accept", None), "i2": ("correct", "the right one")}
    assert skipped(Lake(str(folder)), "triage", "ann") == {"i3"}

    second = sit()
    second.item(4)
    second.press("a")
    second.item(5)
    second.press("a")
    second.item(3)  # what was skipped comes last
    second.press("c")
    second.expect("correct answer> answer 3")
    second.press("!\r")
    second.expect("REPORT 2 1 0 0 0")
    assert stored(folder)["i3"] == ("correct", "answer 3!")
    assert len(stored(folder)) == 5


def test_a_kill_loses_no_label(folder: Path, sit):
    terminal = sit()
    terminal.item(1)
    terminal.press("a")
    terminal.item(2)
    terminal.process.send_signal(signal.SIGKILL)
    terminal.process.wait(10)
    assert stored(folder) == {"i1": ("accept", None)}


def test_ctrl_c_is_an_orderly_end(folder: Path, sit):
    terminal = sit()
    terminal.item(1)
    terminal.press("\x03")
    terminal.expect("REPORT 0 0 0 0 5")
    assert terminal.process.wait(20) == 0


def test_arrow_keys_are_no_answers(folder: Path, sit):
    """Left and right send letters after an escape; none of them may count as a key."""
    terminal = sit()
    terminal.item(1)
    terminal.press("\x1b[A\x1b[C")
    time.sleep(0.3)
    terminal.press("q")
    terminal.expect("REPORT 0 0 0 0 5")


def test_keys_typed_ahead_are_not_lost(folder: Path, sit):
    """A fast reviewer presses before the next item is drawn."""
    terminal = sit()
    terminal.item(1)
    terminal.press("aaaaa")
    terminal.expect("REPORT 5 0 0 0 0")
    assert len(stored(folder)) == 5
