"""The labelling loop with a scripted keyboard; the real terminal is driven in the integration tests."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flywheel.errors import UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Inference, Message
from flywheel.review.labels import read_labels, skipped
from flywheel.review.queue import QueueItem
from flywheel.review.terminal import LabelSession, label


def item(n: int) -> QueueItem:
    row = Inference(
        inference_id=f"i{n}", flow="triage", ts=datetime(2026, 1, 1, tzinfo=UTC), subject=f"s{n}", model_version="m1",
        messages=[Message(role="user", content=f"question [bold]{n}[/bold]")], choices=[f"answer {n}"],
    )  # fmt: skip
    return QueueItem(row, "gate", "random")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def sit(lake: Lake, items: list[QueueItem], keys: str, lines: tuple[str, ...] = ()) -> tuple[LabelSession, str]:
    pressed: Iterator[str] = iter(keys)
    typed = iter(lines)
    out = StringIO()
    console = Console(file=out, width=100)
    session = LabelSession(lake, "triage", "ann", items, console, lambda: next(pressed), lambda _served: next(typed))
    session.run()
    return session, out.getvalue()


def stored(lake: Lake) -> dict[str, tuple[str, str | None]]:
    return {row.inference_id: (row.kind, row.correction) for row in read_labels(lake, "triage")}


def test_accept_correct_skip(lake: Lake):
    session, shown = sit(lake, [item(1), item(2), item(3)], "acs", (" right ",))
    assert stored(lake) == {"i1": ("accept", None), "i2": ("correct", "right")}
    assert skipped(lake, "triage", "ann") == {"i3"}
    report = session.report
    assert (report.accepted, report.corrected, report.skipped, report.left) == (1, 1, 1, 0)
    assert "question [bold]1[/bold]" in shown, "text of a user is shown as it is, not as markup"
    assert "answer 3" in shown
    assert all(row.seconds is not None and row.seconds >= 0 for row in read_labels(lake, "triage"))


def test_quit_keeps_what_was_said(lake: Lake):
    session, _ = sit(lake, [item(1), item(2), item(3)], "aq")
    assert stored(lake) == {"i1": ("accept", None)}
    assert session.report.left == 2


def test_undo_takes_back_and_asks_again(lake: Lake):
    session, _ = sit(lake, [item(1), item(2)], "auca", ("better",))
    assert stored(lake) == {"i1": ("correct", "better"), "i2": ("accept", None)}
    assert (session.report.undone, session.report.accepted, session.report.corrected) == (1, 1, 1)


def test_undo_then_quit_leaves_no_label(lake: Lake):
    sit(lake, [item(1)], "a") and sit(lake, [item(2), item(3)], "auq")
    assert stored(lake) == {"i1": ("accept", None)}


def test_undo_takes_back_a_skip_and_then_the_label_before_it(lake: Lake):
    session, _ = sit(lake, [item(1), item(2), item(3)], "asuq")
    assert stored(lake) == {"i1": ("accept", None)}
    assert skipped(lake, "triage", "ann") == set()
    assert (session.position, session.report.skipped) == (1, 0)
    sit(lake, [item(4), item(5), item(6)], "asuuq")
    assert stored(lake) == {"i1": ("accept", None)}


def test_an_empty_correction_and_other_keys_change_nothing(lake: Lake):
    _, shown = sit(lake, [item(1)], "xzucAq", ("  ",))
    assert stored(lake) == {"i1": ("accept", None)}
    assert "Nothing to undo" in shown
    assert "Nothing typed" in shown


def test_a_pipe_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", StringIO("a"))
    with pytest.raises(UsageError, match="terminal"):
        label(lake, "triage", [item(1)], annotator="ann")
