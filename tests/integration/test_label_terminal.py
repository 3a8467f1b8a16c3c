"""`flywheel label` in a real pseudo-terminal: keys in, labels in the lake, and a kill that loses nothing."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.evaluation.cases import random_suite
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Inference, Message
from flywheel.review.agreement import agreement
from flywheel.review.labels import latest_per_inference, read_labels, read_splits, skipped
from flywheel.review.splits import label_split

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
print("REPORT", report.labelled["accept"], report.labelled["correct"], report.skipped, report.undone, report.left)
"""
CLEAR_LINE = "\x15"
CLI = "from flywheel.cli import main; main()"
CONFIG = """
home: {home}
labels: {{tune_share: 0.3, audit_share: 0.2, gate_share: 0.5, guideline: {home}/guide.md}}
"""
RIGHT, WRONG = "a", "r"
ANN = [RIGHT] * 9 + [WRONG] * 3 + ["c"] * 3 + [RIGHT] * 3 + [WRONG] * 2
BOB = [RIGHT] * 9 + [WRONG] * 6 + [WRONG] * 3 + [RIGHT] * 2
"""Both say right on nine, wrong on six; they disagree on the last five."""
EVE = {15: "2", 16: "c", 17: RIGHT, 18: "2", 19: WRONG}


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, text: str, seconds: float = 30) -> str:
        """Wait until ``text`` is shown, and forget what was shown up to it; returns that."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} was not shown; on screen: {self.seen[-2000:]}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65_536).decode(errors="replace")
                except OSError:  # the other side is closed
                    assert text in self.seen, f"{text!r} was not shown before the end: {self.seen[-2000:]}"
        before, self.seen = self.seen.split(text, 1)
        return before

    def item(self, n: int) -> None:
        """Wait until item ``n`` is asked about."""
        self.expect(f"question-{n}")
        self.expect("quit")

    def asked(self) -> int:
        """Wait for the next item, whichever it is."""
        self.expect("question-")
        return int(re.split(r"\D", self.expect("\n"))[0])  # a colour may end behind it

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

    def start(program: str = PROGRAM, *arguments: str) -> Terminal:
        open_ones.append(Terminal(program, *(arguments or [str(folder)])))
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


def judge(terminal: Terminal, keys: Mapping[int, str], count: int) -> None:
    """Answer ``count`` items, in whatever order they come."""
    for _ in range(count):
        number = terminal.asked()
        terminal.press(keys[number])
        if keys[number] == "c":
            terminal.expect("correct answer> ")
            terminal.press(f"{CLEAR_LINE}fixed {number}\r")


def test_two_reviewers_an_adjudicator_and_twenty_items(tmp_path: Path, sit):
    """The whole of it through the command line: kappa and alpha by hand, what counts before and after, the splits."""
    (tmp_path / "guide.md").write_text("Accept what a customer could act on.")
    (tmp_path / "flywheel.yaml").write_text(CONFIG.format(home=tmp_path))
    config = load(FlywheelConfig, tmp_path / "flywheel.yaml")
    rows = [
        Inference(
            inference_id=f"01900000-0000-7000-8000-{n:012d}", flow="triage", ts=datetime(2026, 1, 1, tzinfo=UTC),
            subject=f"s{n}", model_version="m1", messages=[Message(role="user", content=f"question-{n}")],
            choices=[f"answer {n}"], consent=["evaluation"],
        )
        for n in range(20)
    ]  # fmt: skip
    lake = open_lake(config)
    lake.append("inferences", rows, app="test", version=0)
    number = {row.inference_id: n for n, row in enumerate(rows)}

    def start(*arguments: str) -> Terminal:
        return sit(CLI, *arguments, "--config", str(tmp_path / "flywheel.yaml"))

    def counting() -> dict[int, str]:
        return {number[key]: label.kind for key, label in latest_per_inference(read_labels(lake, "triage")).items()}

    ann = start("label", "--annotator", "ann")
    judge(ann, dict(enumerate(ANN)), 20)
    ann.expect("accepted")
    splits = read_splits(lake, "triage")
    assert splits == {row.subject: label_split(row.subject, config.labels, config.seed) for row in rows}
    assert set(splits.values()) == {"tune", "audit", "gate"}

    bob = start("label", "--annotator", "bob", "--second", "--set", "seed=9", "--set", "labels.gate_share=0.1")
    bob.asked()
    bob.press("?")
    bob.expect("Accept what a customer could act on.")
    bob.press("s")
    judge(bob, dict(enumerate(BOB)), 19)
    bob.expect("1 skipped")
    last = start("label", "--annotator", "bob", "--second")
    judge(last, dict(enumerate(BOB)), 1)
    last.expect("0 left")

    report = agreement(read_labels(lake, "triage"))
    (pair,), (version,) = report.pairs, report.versions
    chance = (12 / 20) * (11 / 20) + (8 / 20) * (9 / 20)
    assert (pair.items, pair.same, pair.guideline_version[:10]) == (20, 15, "guideline-")
    assert pair.kappa.value == pytest.approx((15 / 20 - chance) / (1 - chance), abs=1e-6)
    assert version.alpha.value == pytest.approx(1 - (5 / 20) / (2 * 23 * 17 / (40 * 39)), abs=1e-6)
    assert sorted(number[one.inference_id] for one in report.disagreements) == [15, 16, 17, 18, 19]
    assert sorted(counting()) == list(range(15)), "what is disputed does not count"

    eve = start("label", "--annotator", "eve", "--adjudicate")
    judge(eve, EVE, 5)
    eve.expect("0 left")
    told = subprocess.run(
        [sys.executable, "-c", CLI, "labels", "agreement", "--json", "--config", str(tmp_path / "flywheel.yaml")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    settled = json.loads(told.stdout)
    assert settled["open"] == 0
    assert settled["pairs"] == json.loads(json.dumps([asdict(pair)])), "a ruling is nobody's second opinion"
    assert {n: kind for n, kind in counting().items() if n > 14} == {
        15: "reject", 16: "correct", 17: "accept", 18: "accept", 19: "reject",
    }  # fmt: skip

    labels = read_labels(lake, "triage")
    assert len(labels) == 45
    assert all(label.split == splits[label.subject] for label in labels), "another seed and share moved nobody"
    assert {label.origin for label in labels} == {"random"}
    cases = random_suite(labels, {row.inference_id: row for row in rows})
    gate = {n for n in range(20) if splits[f"s{n}"] == "gate"}
    assert {number[case.inference_id or ""] for case in cases} == gate & {*range(9), 12, 13, 14, 16, 17, 18}
