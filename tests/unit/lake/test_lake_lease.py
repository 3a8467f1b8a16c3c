"""The lease in a lake on a folder; races of processes are in tests/reliability."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from flywheel.errors import BusyError, LeaseHeldError
from flywheel.lake.lease import Lease
from flywheel.lake.store import ObjectStore
from flywheel.records import utcnow


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "lake"))


def lease(store, **times) -> Lease:
    return Lease(store, "triage/turn", **times)


def test_one_holds_and_the_next_is_told_who_and_since_when(store):
    assert lease(store).current() is None
    with lease(store).take("ada@one") as held:
        with pytest.raises(LeaseHeldError, match=r"held by ada@one since \d{4}-.* UTC"):
            lease(store).take("bob@two")
        assert lease(store).current().holds(utcnow())
        held.check()
    assert not lease(store).current().holds(utcnow())
    with lease(store).take("bob@two") as later:
        assert later.holder.n == held.holder.n + 1


def test_another_name_is_another_lease(store):
    with lease(store).take("ada"), Lease(store, "triage/sweep").take("bob"), Lease(store, "triage/turn2").take("eve"):
        pass


def test_it_is_let_go_also_when_the_work_fails(store):
    with pytest.raises(RuntimeError, match="boom"), lease(store).take("ada"):
        raise RuntimeError("boom")
    lease(store).take("bob")


def test_a_silent_holder_loses_it_and_learns_so(store):
    silent = lease(store, expiry_s=0.05).take("ada")  # without `with`: no heart beats
    time.sleep(0.1)
    with lease(store).take("bob"):
        with pytest.raises(BusyError, match=r"taken over by bob"):
            silent.check()
        lease(store, expiry_s=0.05).write_beat(silent.holder)  # it wakes up and beats once more
        with pytest.raises(LeaseHeldError, match="bob"):
            lease(store).take("eve")


def test_beats_keep_it_beyond_its_expiry(store):
    with lease(store, expiry_s=0.6, beat_s=0.1).take("ada") as held:
        time.sleep(1.2)
        with pytest.raises(LeaseHeldError):
            lease(store).take("bob")
        held.check()
        assert lease(store).current().beat.until > held.holder.beat.until


def test_a_holder_known_to_be_dead_is_not_waited_for(store):
    dead = lease(store).take("ada")
    with pytest.raises(LeaseHeldError):
        lease(store).take("bob", dead=lambda holder: holder.token == "another")
    assert lease(store).take("bob", dead=lambda holder: holder.token == dead.holder.token).holder.n == 2


def test_of_many_threads_one_takes_it(store):
    def attempt(n):
        try:
            return lease(store).take(f"thread {n}").holder
        except LeaseHeldError:
            return None

    with ThreadPoolExecutor(16) as pool:
        for expected in range(1, 9):
            won = [holder for holder in pool.map(attempt, range(16)) if holder]
            assert [holder.n for holder in won] == [expected]
            lease(store).write_beat(won[0], released=True)


def test_a_taker_with_an_old_listing_finds_its_number_taken(store, monkeypatch):
    with lease(store).take("ada"):
        pass
    late = lease(store)
    seen = late.current()
    with lease(store).take("bob"):
        pass
    monkeypatch.setattr(late, "current", lambda: seen)
    with pytest.raises(LeaseHeldError, match="just taken by bob"):
        late.take("eve")


def test_expiry_is_by_the_clock_of_the_taker(store):
    holder = lease(store, expiry_s=60).take("ada").holder
    assert holder.holds(utcnow() + timedelta(seconds=50))
    assert not holder.holds(utcnow() + timedelta(seconds=61))
