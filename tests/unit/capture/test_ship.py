"""Shipping moves every event once, in contiguous segments, whoever died meanwhile."""

import asyncio
import threading

import pytest
from uuid6 import uuid7

from flywheel.capture import landing
from flywheel.capture.events import to_event
from flywheel.capture.outbox import Outbox
from flywheel.capture.ship import ship_once, unshipped
from flywheel.errors import BusyError, LakeError


def segments(pipeline, flow="triage"):
    found = map(landing.parse, pipeline.lake.store.list(f"landing/{flow}"))
    return [segment for segment in found if segment is not None]


def shipped(pipeline, flow="triage"):
    """All rows in landing/, in the order of their segments."""
    return [
        row
        for segment in segments(pipeline, flow)
        for row in landing.decode(pipeline.lake.store.get(segment.key), segment.key)
    ]


def test_segments_are_contiguous_and_bounded(new_pipeline, make):
    pipeline = new_pipeline(segment_rows=3)
    outbox = pipeline.record(*(make.inference() for _ in range(7)), close=False)
    report = pipeline.ship()
    assert (report.segments, report.events) == (3, 7)
    assert [(s.lo, s.hi) for s in segments(pipeline)] == [(1, 3), (4, 6), (7, 7)]
    asyncio.run(outbox.append([pipeline.event(make.inference())]))
    pipeline.ship()
    assert (segments(pipeline)[-1].lo, segments(pipeline)[-1].hi) == (8, 8)
    assert pipeline.ship().segments == 0
    outbox.close()


def test_what_arrives_is_what_was_recorded(pipeline, make):
    row = make.inference("grüße \u2028 '\"")
    pipeline.record(row)
    pipeline.ship()
    (arrived,) = shipped(pipeline)
    assert arrived.body == row.model_dump_json()
    assert (arrived.event_id, arrived.kind, arrived.tenant) == (row.inference_id, "inference", "default")
    assert arrived.ts == int(row.ts.timestamp() * 1_000_000)


def test_flows_are_kept_apart_and_each_is_contiguous(pipeline, make):
    outbox = Outbox.open(pipeline.folder)

    async def put(flow):
        await outbox.append([to_event(make.inference(flow=flow), flow=flow)])

    for flow in ("a", "b", "a", "b", "b"):
        asyncio.run(put(flow))
    pipeline.ship()
    asyncio.run(put("a"))
    pipeline.ship()
    assert [(s.lo, s.hi) for s in segments(pipeline, "a")] == [(1, 3), (4, 6)]
    assert [(s.lo, s.hi) for s in segments(pipeline, "b")] == [(1, 5)]
    assert len(shipped(pipeline, "a")) == 3
    assert len(shipped(pipeline, "b")) == 3
    outbox.close()


def test_a_living_replica_keeps_its_open_requests(pipeline, make):
    outbox = Outbox.open(pipeline.folder)
    asyncio.run(outbox.open_request(make.inference()))
    assert pipeline.ship().events == 0
    assert unshipped(pipeline.folder) == 0
    outbox.close()


def test_a_dead_replica_is_adopted_and_removed(pipeline, make):
    outbox = Outbox.open(pipeline.folder)
    begun = make.inference(choices=[], finish_reason=None)
    asyncio.run(outbox.open_request(begun))
    asyncio.run(outbox.append([pipeline.event(make.inference())]))
    outbox.close()  # releases the lock as a death does
    report = pipeline.ship()
    assert (report.interrupted, report.events, report.removed) == (1, 2, 1)
    bodies = [row.body for row in shipped(pipeline)]
    assert sum('"finish_reason":"interrupted"' in body for body in bodies) == 1
    assert [path.name for path in pipeline.folder.iterdir()] == ["shipper.lock"]
    assert pipeline.lake.store.exists(landing.closed_key("triage", outbox.outbox_id))


def test_a_segment_sent_but_not_forgotten_is_sent_once(pipeline, make, monkeypatch):
    pipeline.record(*(make.inference() for _ in range(4)))
    monkeypatch.setattr("flywheel.capture.sealing.forget", die)
    with pytest.raises(KeyboardInterrupt):
        pipeline.ship()
    monkeypatch.undo()
    assert pipeline.ship().events == 4
    assert len(shipped(pipeline)) == 4
    assert len(segments(pipeline)) == 1


def test_a_sealed_range_does_not_grow(pipeline, make, monkeypatch):
    outbox = pipeline.record(make.inference(), close=False)
    monkeypatch.setattr(pipeline.lake.store, "put_if_absent", die)
    with pytest.raises(KeyboardInterrupt):
        pipeline.ship()
    monkeypatch.undo()
    asyncio.run(outbox.append([pipeline.event(make.inference())]))
    pipeline.ship()
    assert [(s.lo, s.hi) for s in segments(pipeline)] == [(1, 1), (2, 2)]
    outbox.close()


def test_an_outage_of_the_lake_ends_in_few_segments(pipeline, make, monkeypatch):
    outbox = pipeline.record(make.inference(), close=False)

    def refuse(key, data):
        raise LakeError("down")

    monkeypatch.setattr(pipeline.lake.store, "put_if_absent", refuse)
    for _ in range(5):
        with pytest.raises(LakeError):
            pipeline.ship()
        asyncio.run(outbox.append([pipeline.event(make.inference())]))
    monkeypatch.undo()
    assert pipeline.ship().events == 6
    assert len(segments(pipeline)) == 2
    outbox.close()


def test_numbers_are_never_used_again(pipeline, make):
    outbox = pipeline.record(make.inference(), close=False)
    pipeline.ship()
    asyncio.run(outbox.append([pipeline.event(make.inference())]))
    pipeline.ship()
    assert [row.seq for row in shipped(pipeline)] == [1, 2]
    outbox.close()


def test_leftovers_of_a_death_at_birth_are_removed(pipeline):
    pipeline.folder.mkdir(parents=True)
    early, later = str(uuid7()), str(uuid7())
    (pipeline.folder / f"{early}.lock").touch()
    (pipeline.folder / f"{later}.lock").touch()
    (pipeline.folder / f"{later}.db").touch()
    assert pipeline.ship().removed == 2
    assert [path.name for path in pipeline.folder.iterdir()] == ["shipper.lock"]


def test_two_shippers_take_turns(pipeline, make):
    pipeline.record(*(make.inference() for _ in range(50)))
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(pipeline.ship())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.events for report in reports) == 50
    assert len(shipped(pipeline)) == 50


def test_a_shipper_that_must_wait_too_long_says_so(pipeline, make, monkeypatch):
    from filelock import FileLock

    pipeline.record(make.inference())
    with FileLock(pipeline.folder / "shipper.lock"), pytest.raises(BusyError, match="Another shipper"):
        ship_once(pipeline.folder, pipeline.lake.store, pipeline.config.capture, pipeline.keyring, wait_s=0.05)


def test_no_folder_is_nothing_to_do(pipeline):
    assert pipeline.ship().events == 0


def die(*args, **kwargs):
    raise KeyboardInterrupt
