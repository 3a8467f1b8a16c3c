"""Upkeep of the lake: what is merged and deleted, and what must stay for those who still read it."""

from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from flywheel.errors import NotFoundInLakeError
from flywheel.records import Inference, utcnow
from flywheel.workflow.cadence import maintain as upkeep
from flywheel.workflow.cadence.maintain import maintain, maintain_daily, pinned_versions
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


def forget_tombstones(lake):
    """As after a week: a checkpoint drops the names of replaced files, and only their own age is left to judge by."""
    table = DeltaTable(lake.table_uri("inferences"))
    table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 seconds"})
    table.create_checkpoint()


def test_an_open_turn_keeps_the_versions_that_it_fixed(worn, monkeypatch):
    lake = worn.lake
    monkeypatch.setattr(upkeep, "KEEP", timedelta(0))
    turn, pinned = open_turn(lake.store, worn.config), lake.version("inferences")
    assert pinned_versions(lake) == {}
    turn.write(step_key("snapshot"), {"tables": {"inferences": pinned, "feedback": None}})
    lake.compact("inferences")
    worn.answers(1)
    forget_tombstones(lake)
    maintain(lake)
    assert len(lake.records("inferences", Inference, at=pinned)) == 15
    turn.write(step_key("score"), {"table_version": 3})
    turn.write("finished", {"decision": "reject", "at": utcnow().isoformat()})
    assert pinned_versions(lake) == {"inferences": {pinned}, "signals": {3}}, (
        "its scores are read until the next has some"
    )
    newer = open_turn(lake.store, worn.config)
    newer.write(step_key("score"), {"table_version": 4})
    assert pinned_versions(lake) == {"signals": {4}}
    maintain(lake)
    with pytest.raises(NotFoundInLakeError, match="cannot be read any more"):
        lake.read("inferences", at=pinned)


def test_a_version_that_the_log_forgot_is_said_and_stops_nothing(worn):
    lake = worn.lake
    for _ in range(20):
        worn.answers(1)
    log = Path(lake.table_uri("inferences")) / "_delta_log"
    for entry in sorted(log.glob("*.json"))[:6]:
        entry.unlink()
    turn = open_turn(lake.store, worn.config)
    turn.write(step_key("snapshot"), {"tables": {"inferences": 3}})
    with pytest.raises(NotFoundInLakeError, match="older than the table's log"):
        lake.read("inferences", at=3)
    assert maintain(lake).merged == {"inferences": 24}


def test_once_a_day(worn):
    assert maintain_daily(worn.lake) is not None
    assert maintain_daily(worn.lake) is None
