"""Upkeep of the lake: what is merged and deleted, and what must stay for those who still read it."""

from datetime import timedelta

import pytest

from flywheel.records import Inference, utcnow
from flywheel.workflow.cadence import maintain as upkeep
from flywheel.workflow.cadence.maintain import KEEP, maintain, maintain_daily, retention
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key


@pytest.fixture
def worn(flow):
    """A flow whose answers came in five commits."""
    made = flow()
    for _ in range(5):
        made.answers(3)
    return made


def test_small_files_are_merged_and_what_is_replaced_goes_when_it_is_old_enough(worn, monkeypatch):
    lake = worn.lake
    assert (lake.file_count("inferences"), maintain(lake, dry=True).merged) == (5, {"inferences": 5})
    done = maintain(lake)
    assert (done.merged, done.deleted, done.keep_hours) == ({"inferences": 4}, {"inferences": 0}, 7 * 24)
    assert len(lake.records("inferences", Inference)) == 15
    before = lake.version("inferences") - 1
    assert len(lake.records("inferences", Inference, at=before)) == 15, "who reads the older version still can"
    monkeypatch.setattr(upkeep, "KEEP", timedelta(0))
    assert maintain(lake, dry=True).deleted == {"inferences": 5}
    assert len(lake.records("inferences", Inference, at=before)) == 15, "a dry run deletes nothing"
    assert maintain(lake).deleted == {"inferences": 5}
    assert len(lake.records("inferences", Inference)) == 15


def test_an_open_turn_keeps_the_versions_that_it_fixed(worn, monkeypatch):
    lake, now = worn.lake, utcnow()
    assert retention(lake, now) == KEEP
    turn = open_turn(lake.store, worn.config)
    assert retention(lake, now) == KEEP
    late = now + timedelta(days=30)
    assert retention(lake, late) >= timedelta(days=31)
    monkeypatch.setattr(upkeep, "KEEP", timedelta(0))
    pinned = lake.version("inferences")
    maintain(lake)
    assert len(lake.records("inferences", Inference, at=pinned)) == 15
    turn.write(step_key("score"), {})
    turn.write("finished", {"decision": "reject", "at": now.isoformat()})
    assert retention(lake, late) >= timedelta(days=31), "its scores are read until the next turn has some"
    newer = open_turn(lake.store, worn.config)
    newer.write(step_key("score"), {})
    assert retention(lake, now) < timedelta(days=2)


def test_once_a_day(worn):
    assert maintain_daily(worn.lake) is not None
    assert maintain_daily(worn.lake) is None
