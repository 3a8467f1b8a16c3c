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
from flywheel.review.compare import served_first
from flywheel.review.guideline import Guideline
from flywheel.review.labels import make_label, read_labels, skipped
from flywheel.review.queue import Other, QueueItem
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


def sit(
    lake: Lake, items: list[QueueItem], keys: str, lines: tuple[str, ...] = (), **options
) -> tuple[LabelSession, str]:
    pressed: Iterator[str] = iter(keys)
    typed = iter(lines)
    out = StringIO()
    console = Console(file=out, width=100)
    session = LabelSession(
        lake, "triage", "ann", items, console, lambda: next(pressed), lambda _served: next(typed), **options
    )
    session.run()
    return session, out.getvalue()


def stored(lake: Lake) -> dict[str, tuple[str, str | None]]:
    return {row.inference_id: (row.kind, row.correction) for row in read_labels(lake, "triage")}


def test_accept_correct_skip(lake: Lake):
    session, shown = sit(lake, [item(1), item(2), item(3)], "acs", (" right ",))
    assert stored(lake) == {"i1": ("accept", None), "i2": ("correct", "right")}
    assert skipped(lake, "triage", "ann") == {"i3"}
    report = session.report
    assert (report.labelled, report.skipped, report.left) == ({"accept": 1, "correct": 1}, 1, 0)
    assert report.summary() == "1 accepted, 1 corrected, 1 skipped, 0 left"
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
    assert (session.report.undone, session.report.labelled) == (1, {"accept": 1, "correct": 1})


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


def test_reject_needs_no_answer_and_an_unchanged_correction_accepts(lake: Lake):
    session, _ = sit(lake, [item(1), item(2)], "rc", ("answer 2",))
    assert stored(lake) == {"i1": ("reject", None), "i2": ("accept", None)}
    assert session.report.labelled == {"reject": 1, "accept": 1}


def test_rate_is_one_digit(lake: Lake):
    sit(lake, [item(1), item(2)], "a06u15", question="rate")  # letters and digits off the scale are no answers
    assert [(row.inference_id, row.kind, row.value) for row in read_labels(lake, "triage")] == [
        ("i1", "rate", 1.0), ("i2", "rate", 5.0),
    ]  # fmt: skip


def test_compare_is_blind_and_says_whether_the_served_answer_is_better(lake: Lake):
    pairs = [item(n)._replace(other=Other(f"other {n}", "secret-m2")) for n in range(1, 21)]
    first = [served_first(pair, 3) for pair in pairs]
    assert 4 < sum(first) < 16
    _, shown = sit(lake, pairs, "1" * 9 + "2" * 9 + "tt", question="compare", seed=3)
    assert "m1" not in shown
    assert "secret" not in shown
    labels = {row.inference_id: row for row in read_labels(lake, "triage")}
    for number, (pair, leads) in enumerate(zip(pairs, first, strict=True)):
        row = labels[pair.inference.inference_id]
        chosen_first = number < 9
        assert row.value == (0 if number >= 18 else 1 if chosen_first == leads else -1)
        assert (row.other_answer, row.other_version) == (f"other {number + 1}", "secret-m2")
        order = shown.index(f"answer {number + 1} ") < shown.index(f"other {number + 1} ")
        assert order == leads


def test_an_adjudicator_sees_what_was_said_but_not_who_and_takes_it_or_decides(lake: Lake):
    said = (
        make_label(item(1).inference, annotator="zoe", kind="accept", split="gate"),
        make_label(item(1).inference, annotator="bob", kind="correct", correction="[b]fixed[/b]", split="gate"),
    )
    dispute = [item(n)._replace(said=said) for n in (1, 2, 3)]
    _, shown = sit(lake, dispute, "32r1")  # there is no third judgement to take
    assert "1: accept" in shown
    assert "2: correct: [b]fixed[/b]" in shown
    assert "zoe" not in shown
    labels = read_labels(lake, "triage")
    assert [(row.kind, row.correction, row.adjudicates) for row in labels] == [
        ("correct", "[b]fixed[/b]", True), ("reject", None, True), ("accept", None, True),
    ]  # fmt: skip


def test_the_guideline_is_shown_and_its_version_kept(lake: Lake):
    guideline = Guideline("guideline-abc", "Accept only [what] is right.")
    _, shown = sit(lake, [item(1)], "?a", guideline=guideline)
    assert "Accept only [what] is right." in shown
    assert [row.guideline_version for row in read_labels(lake, "triage")] == ["guideline-abc"]
    _, shown = sit(lake, [item(2)], "?a")
    assert "labels.guideline" in shown
    assert read_labels(lake, "triage")[1].guideline_version == "1"


def test_why_an_answer_is_asked_about_is_shown(lake: Lake):
    _, shown = sit(lake, [item(1)._replace(why="[nobody] knows")], "q")
    assert "why: [nobody] knows" in shown


def test_a_pipe_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", StringIO("a"))
    with pytest.raises(UsageError, match="terminal"):
        label(lake, "triage", [item(1)], annotator="ann")
