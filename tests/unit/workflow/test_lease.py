"""One turn at a time: the file lock of a home together with the lease of the lake."""

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.errors import BusyError, LeaseHeldError
from flywheel.lake.lease import Lease
from flywheel.lake.tables import open_lake
from flywheel.workflow.turns.lease import only_one, running


def config(tmp_path, home="home"):
    overrides = {"home": str(tmp_path / home), "lake.uri": str(tmp_path / "lake")}
    return load(FlywheelConfig, overrides=overrides)


def test_the_second_is_told_who_runs_since_when(tmp_path):
    with only_one(config(tmp_path), "turn"):
        with (
            pytest.raises(LeaseHeldError, match=r"Another turn of the flow 'triage' is running: .*process \d+\) since"),
            only_one(config(tmp_path), "turn"),
        ):
            pytest.fail("two held the lock")
        assert "process" in str(running(config(tmp_path), "turn"))
    assert running(config(tmp_path), "turn") is None
    with only_one(config(tmp_path), "turn"):
        pass


def test_two_homes_with_one_lake_are_two_machines(tmp_path):
    one, two = config(tmp_path, "one"), config(tmp_path, "two")
    with only_one(one, "turn"):
        with pytest.raises(LeaseHeldError, match="Another turn"), only_one(two, "turn"):
            pytest.fail("two held the lease")
        assert running(two, "turn") is not None


def test_what_died_in_this_home_is_taken_over_at_once_and_elsewhere_only_after_its_expiry(tmp_path):
    here, elsewhere = config(tmp_path, "here"), config(tmp_path, "elsewhere")
    died = Lease(open_lake(here).store, "triage/turn").take("died")  # never lets go, and its process has no file lock
    run = here.home_path() / "run"
    run.mkdir(parents=True)
    (run / "turn-triage.token").write_text(died.holder.token)
    assert running(here, "turn") is None
    assert running(elsewhere, "turn") is not None
    with pytest.raises(LeaseHeldError), only_one(elsewhere, "turn"):
        pytest.fail("it has not expired")
    with only_one(here, "turn") as held:
        assert held.holder.n == 2
        with pytest.raises(BusyError, match="taken over"):
            died.check()


def test_an_error_of_the_work_itself_is_not_mistaken_for_a_held_lease(tmp_path):
    from filelock import Timeout

    with pytest.raises(Timeout), only_one(config(tmp_path), "turn"):
        raise Timeout("another lock, inside the work")
