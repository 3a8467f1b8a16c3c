"""Forgetting a person is killed, run twice, and goes on beside traffic: nothing of others is lost or doubled."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from erase_world import TABLES

from flywheel.capture import batches, ingest
from flywheel.capture.importer import import_lock
from flywheel.errors import BusyError
from flywheel.lake.erasures import read_erasures
from flywheel.lake.tables import Lake
from flywheel.records import Inference
from flywheel.workflow.erasure import erase
from flywheel.workflow.erasure.erase import forget
from flywheel.workflow.turns.lease import only_one


class Killed(BaseException):
    """As a kill: nothing catches it."""


STEPS = {
    "settle": (erase, "_settle"),
    "mark": (erase.turns, "mark_descendants"),
    "outboxes": (erase.raw, "erase_outboxes"),
    "landing": (erase.raw, "erase_landing"),
    "quarantine": (erase.raw, "erase_quarantine"),
    "turns": (erase.turns, "erase_artifacts"),
    "working copies": (erase.turns, "erase_work"),
    "drops": (erase.turns, "erase_drops"),
    "near-duplicate index": (erase, "erase_rows"),
    "review notes": (erase.turns, "erase_markers"),
    **{f"table {table}": (Lake, "delete") for table in TABLES},
    "files": (Lake, "scrub"),
    "key": (erase.Keyring, "destroy_subject_key"),
    "report": (erase, "_report"),
}


def fuse(monkeypatch, step, *, after):
    """Make ``forget`` die at a step, before or after its effect."""
    owner, name = STEPS[step]
    real, table = getattr(owner, name), step.removeprefix("table ")

    def deadly(*arguments, **named):
        if name == "delete" and arguments[1] != table:
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        raise Killed(step)

    monkeypatch.setattr(owner, name, deadly)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_a_rerun_ends_the_same(template, world, tmp_path, monkeypatch, step, after):
    whole = template.copy(tmp_path / "whole")
    reference = forget(whole.config, whole.ann)
    with monkeypatch.context() as patch:
        fuse(patch, step, after=after)
        with pytest.raises(Killed):
            forget(world.config, world.ann)
    done = forget(world.config, world.ann)
    assert world.traces(world.ann) == set()
    assert world.stored() == whole.stored()
    assert world.lake.store.list("erasures/tainted") == whole.lake.store.list("erasures/tainted")
    assert set(done.marked) <= set(reference.marked)
    assert forget(world.config, world.ann).again == done.until


def test_two_at_once_end_as_one(world, template, tmp_path):
    whole = template.copy(tmp_path / "whole")
    reference = forget(whole.config, whole.ann)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: forget(world.config, world.ann), range(2)))
    assert world.traces(world.ann) == set()
    assert world.stored() == whole.stored()
    assert sorted(done.total for done in both) == [0, reference.total]


def test_two_people_at_once(world):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda user: forget(world.config, user), (world.ann, world.ben)))
    assert world.traces(world.ann) == world.traces(world.ben) == set()
    subjects = {row.subject for row in world.lake.records("inferences", Inference)}
    assert subjects == {world.subject(world.cleo)}


@pytest.mark.slow
def test_traffic_of_others_loses_nothing_meanwhile(world, monkeypatch):
    """An ingester at work during the erasure: every event of others is there once, and none of hers."""
    monkeypatch.setattr(ingest, "COMPACT_EVERY", 2)  # so that both ingesters, this one and the erasure's, compact
    stop, sent = threading.Event(), []

    def traffic():
        while not stop.is_set():
            mine, theirs = world.inference(world.ann, 50), world.inference(world.ben, 50)
            sent.append(theirs.inference_id)
            world.record(mine, world.feedback(mine), theirs, world.feedback(theirs))
            world.ship()
            world.ingest()

    world.ship()
    world.ingest()
    before = {row.inference_id: row.subject for row in world.lake.records("inferences", Inference)}
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(traffic)
        try:
            done = [forget(world.config, world.ann) for _ in range(2)]
        finally:
            stop.set()
        worker.result()
    last = forget(world.config, world.ann)
    assert done[0].total > 0
    assert world.traces(world.ann) == set()
    found = sorted(row.inference_id for row in world.lake.records("inferences", Inference))
    assert found == sorted([*sent, *(name for name, who in before.items() if who != world.subject(world.ann))])
    assert last.again == done[-1].until


def test_an_ingester_that_saw_no_tombstone_is_waited_for(world, monkeypatch):
    """It read the tombstones, fell asleep, and stores her rows after the erasure began: they are removed."""
    world.record(world.inference(world.ann, 60), world.inference(world.ben, 60))
    world.ship()
    asleep, awake = threading.Event(), threading.Event()
    real = ingest.Ingester._commit
    sleeper = ingest.Ingester(world.lake, world.config, world.keyring)

    def slow(self, n, outcome):
        if self is sleeper:
            asleep.set()
            awake.wait(20)
        return real(self, n, outcome)

    monkeypatch.setattr(ingest.Ingester, "_commit", slow)
    worker = threading.Thread(target=sleeper.run_once)
    worker.start()
    asleep.wait(20)
    forget(world.config, world.ann)
    awake.set()
    worker.join()
    assert world.traces(world.ann) == set()
    assert sum(row.subject == world.subject(world.ben) for row in world.lake.records("inferences", Inference)) == 8


def test_another_flow_in_the_middle_of_a_batch_is_waited_for_and_then_named(world, monkeypatch):
    batch = batches.Batch(n=1, flow="other", segments=[], cursor={})
    world.lake.store.put_if_absent(batches.batch_key("other", 1), batch.model_dump_json().encode())
    monkeypatch.setattr(erase, "SETTLE_S", 0.3)
    with pytest.raises(BusyError, match="ingester of the flow 'other' is in the middle of batch 1"):
        forget(world.config, world.ann)
    end = batches.Done(n=1, flow="other")
    world.lake.store.put_if_absent(batches.done_key("other", 1), end.model_dump_json().encode())
    forget(world.config, world.ann)
    assert world.traces(world.ann) == set()


@pytest.mark.parametrize("who", ["turn", "turn of another flow", "import"])
def test_nothing_is_removed_beside_a_turn_or_an_import(world, who):
    (world.home / "turns" / "other").mkdir()
    other = world.config.model_copy(update={"flow": "other"})
    held = {
        "turn": lambda: only_one(world.config, "turn"),
        "turn of another flow": lambda: only_one(other, "turn"),
        "import": lambda: import_lock(world.config, exclusive=False),
    }[who]
    with held(), pytest.raises(BusyError, match="Nothing is removed yet"):
        forget(world.config, world.ann)
    assert len(world.lake.records("inferences", Inference)) == 18
    assert read_erasures(world.lake.store).until.keys() == {world.subject(world.ann)}
    assert forget(world.config, world.ann).removed["inferences"] == 6
