"""The report's words, its picture and its page; a browser looks at it in tests/web."""

import hashlib
import re
from base64 import b64encode

import gate_reports
import pytest
from browser import Seen

from flywheel.workflow.turns.report import words
from flywheel.workflow.turns.report.forest import ROW, forest
from flywheel.workflow.turns.report.model import SuiteRow
from flywheel.workflow.turns.report.page import render, write_report


def row(difference=0.1, interval=(0.05, 0.15), threshold=0.0, **more):
    fields = {
        "suite": "random",
        "role": "decides",
        "n": 10,
        "live": 0.5,
        "candidate": 0.6,
        "fixed": 2,
        "newly_broken": 1,
    }
    return SuiteRow(**{**fields, "difference": difference, "interval": interval, "threshold": threshold, **more})


def test_all_suites_share_one_axis():
    plot = forest([row(), row(-0.03, (-0.05, -0.01), -0.02), row(0.4, None, None)])
    first, second, third = plot.marks
    assert (first.good, second.good, third.good) == (True, False, None)
    assert (first.y, second.y, third.y) == (0, ROW, 2 * ROW)
    assert first.low < first.at < first.high
    zero = next(tick.at for tick in plot.ticks if tick.text == "0")
    assert first.threshold == zero
    assert second.low < second.threshold < zero
    assert (third.low, third.threshold) == (None, None)
    inside = [place for mark in plot.marks for place in (mark.at, mark.low, mark.high) if place is not None]
    assert all(0 < place < 100 for place in inside)


@pytest.mark.parametrize("difference", [0.0, 0.0001, -1.0, 1.0])
def test_the_axis_is_readable_whatever_the_numbers(difference):
    plot = forest([row(difference, (difference, difference))])
    assert 1 <= len(plot.ticks) <= 8
    assert "0" in [tick.text for tick in plot.ticks]


@pytest.mark.parametrize(
    ("name", "headline", "sentence"),
    [
        (
            "promoted",
            "Promoted",
            "meets every condition and now serves. It answers 68.1% of requests right, where 52.4%",
        ),
        ("rejected", "Not promoted", "on “old-intents” it may have lost up to 4.3 points, more than the 2.0"),
        ("shared", "Not promoted", "data that judges it was also used to make it, so its score proves nothing"),
        ("waiting", "Cannot be judged", "“No worse on old-intents” and “No worse on safety” could not be measured"),
    ],
)
def test_the_verdict_comes_first_in_words_for_people(name, headline, sentence):
    report = getattr(gate_reports, name)()
    assert report.headline == headline
    assert sentence in report.sentence
    page = render(report)
    assert page.index("<h1>") < page.index("<h2>")
    assert headline in page


def test_a_condition_without_a_name_for_people_still_has_one():
    assert words.title("some_new_rule") == "Some new rule"
    assert words.title("guard:old-intents") == "No worse on old-intents"


def test_the_page_needs_nothing_else_and_forbids_the_rest():
    page = render(gate_reports.hostile())
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in page
    assert Seen(page).harmless()
    assert len(page) < 400_000  # a text of a hundred thousand characters stands in fifty places


def test_a_verdict_without_numbers_has_a_page_too(tmp_path):
    report = gate_reports.promoted().model_copy(
        update={
            "suites": [],
            "slices": [],
            "regressions": [],
            "fixes": [],
            "funnel": {},
            "dropped": {},
            "ancestors": [],
        }
    )
    path = write_report(report, tmp_path / "deep" / "page.html")
    assert "The record of what made it is not complete" in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
