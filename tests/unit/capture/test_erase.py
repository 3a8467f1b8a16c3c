"""Erasing where events lie as they came: the bytes are gone, other people's are not, and nothing stops meanwhile."""

import asyncio
import json
import threading
import time
from datetime import timedelta

import pytest

from flywheel.capture import landing
from flywheel.capture.erase import RawPerson, erase_landing, erase_outboxes, erase_quarantine, raw_answers
from flywheel.capture.landing import Row, Segment
from flywheel.capture.outbox import Outbox
from flywheel.capture.ship import only_shipper
from flywheel.records import utcnow

HOUR = timedelta(hours=1)


@pytest.fixture
def ann(pipeline):
    subject = pipeline.keyring.pseudonym("default", "ann")
    return RawPerson("default", "ann", subject, utcnow() + HOUR)


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in folder.iterdir())


def segment_rows(store):
    keys = [key for key in store.list("landing") if landing.parse(key)]
    return [row for key in keys for row in landing.decode(store.get(key), key)]


def test_no_byte_stays_in_the_outbox_of_a_gateway_that_is_running(pipeline, make, ann):
    shipped = [make.inference("shipped-by-ann" * 50, subject="ann") for _ in range(20)]
    waiting = [make.inference("waiting-by-ann", subject="ann"), make.inference("by-ben", subject="ben")]
    outbox = pipeline.record(*shipped, close=False)
    pipeline.ship()  # their pages are free now, and nobody has used them since
    asyncio.run(outbox.append([pipeline.event(row) for row in waiting]))
    asyncio.run(outbox.open_request(make.inference("open-by-ann", subject="ann")))
    assert b"shipped-by-ann" in bytes_of(pipeline.folder)
    assert erase_outboxes(pipeline.folder, ann, dry=True).rows == 2
    assert b"waiting-by-ann" in bytes_of(pipeline.folder)
    assert erase_outboxes(pipeline.folder, ann) == (2, ())
    left = bytes_of(pipeline.folder)
    assert b"by-ben" in left
    assert not [word for word in (b"by-ann", b'"ann"') if word in left]
    asyncio.run(outbox.append([pipeline.event(make.inference("after", subject="cleo"))]))
    outbox.close()
    pipeline.ship()
    assert {json.loads(row.body)["subject"] for row in segment_rows(pipeline.lake.store)} == {"ann", "ben", "cleo"}


def test_sequence_numbers_go_on_after_an_erasure(pipeline, make, ann):
    outbox = pipeline.record(*[make.inference(subject="ann") for _ in range(3)], close=False)
    erase_outboxes(pipeline.folder, ann)
    asyncio.run(outbox.append([pipeline.event(make.inference(subject="ben"))]))
    outbox.close()
    pipeline.ship()
    (key,) = [key for key in pipeline.lake.store.list("landing") if landing.parse(key)]
    assert (landing.parse(key).lo, landing.parse(key).hi) == (1, 4)
    assert pipeline.ingest().rows == {"inferences": 1}


def test_a_range_that_was_sealed_before_is_sent_without_them(pipeline, make, ann, monkeypatch):
    from flywheel.capture import ship

    class Death(BaseException):
        pass

    def die(_rows):
        raise Death

    monkeypatch.setattr(ship, "encode", die)
    pipeline.record(make.inference(subject="ann"), make.inference(subject="ben"))
    with pytest.raises(Death):
        pipeline.ship()
    monkeypatch.undo()
    assert erase_outboxes(pipeline.folder, ann).rows == 1
    assert pipeline.ship().events == 1
    assert pipeline.ingest().rows == {"inferences": 1}


def test_reactions_that_name_nobody_go_with_the_answer(pipeline, make, ann):
    mine, other = make.inference(subject="ann"), make.inference(subject="ben")
    pipeline.record(mine, other)
    pipeline.ship()
    pipeline.record(make.feedback(mine), make.feedback(other), make.feedback(mine, "b", subject="ben"))
    ids = raw_answers(pipeline.folder, pipeline.lake.store, ann)
    assert ids == {mine.inference_id}
    known = ann.with_answers(ids)
    assert erase_outboxes(pipeline.folder, known).rows == 2
    assert erase_landing(pipeline.lake.store, known).rows == 1
    pipeline.ship()
    assert pipeline.ingest().rows == {"inferences": 1, "feedback": 1}


def test_segments_keep_their_names_and_everybody_elses_rows(pipeline, make, ann):
    rows = [make.inference("ann's words", subject="ann"), make.inference("hi ann", subject="ben")]
    pipeline.record(*rows)
    pipeline.ship()
    pipeline.record(make.consent("ann"), make.consent("ben"))
    pipeline.ship()
    names = pipeline.lake.store.list("landing")
    others = [row for row in segment_rows(pipeline.lake.store) if '"ben"' in row.body]
    assert erase_landing(pipeline.lake.store, ann, dry=True).rows == 2
    assert erase_landing(pipeline.lake.store, ann).rows == 2
    assert erase_landing(pipeline.lake.store, ann).rows == 0
    assert pipeline.lake.store.list("landing") == names
    assert segment_rows(pipeline.lake.store) == others


def test_later_events_and_other_tenants_stay(pipeline, make):
    row = make.inference(subject="ann")
    before = RawPerson("default", "ann", "s", row.ts - HOUR)
    elsewhere = RawPerson("other", "ann", "s", row.ts + HOUR)
    pipeline.record(row)
    pipeline.ship()
    assert erase_landing(pipeline.lake.store, before).rows == 0
    assert erase_landing(pipeline.lake.store, elsewhere).rows == 0


def test_a_body_that_is_no_json_goes_when_it_names_the_user(pipeline, ann):
    rows = [Row(1, "a", "inference", "default", 0, '{"subject": "ann", "mess'), Row(2, "b", "x", "default", 0, "annex")]
    pipeline.lake.store.put(Segment("triage", "box", 1, 2).key, landing.encode(rows))
    assert erase_landing(pipeline.lake.store, ann).rows == 1
    assert segment_rows(pipeline.lake.store) == rows[1:]


def test_the_quarantine_is_searched_by_pseudonym(pipeline, make, ann):
    def bad(user):
        body = {"subject": user, "consent": ["training"], "text": f"words of {user}"}
        return json.dumps(body)

    rows = [Row(n, f"e{n}", "feedback", "default", 0, bad(user)) for n, user in enumerate(["ann", "ben"], start=1)]
    pipeline.lake.store.put(Segment("triage", "box", 1, 2).key, landing.encode(rows))
    assert pipeline.ingest().quarantined == {"invalid": 2}
    assert erase_quarantine(pipeline.lake.store, ann).rows == 1
    assert "words of" in pipeline.lake.store.get("quarantine/triage/0000000001.jsonl").decode()
    assert ann.subject.encode() not in pipeline.lake.store.get("quarantine/triage/0000000001.jsonl")


def test_what_nobody_can_read_is_named_and_stands_in_nobodys_way(pipeline, make, ann):
    pipeline.record(make.inference(subject="ann"))
    (pipeline.folder / "00000000-0000-7000-8000-000000000000.db").write_bytes(b"not a database" * 100)
    pipeline.lake.store.put(Segment("triage", "box", 1, 1).key, b"not parquet")
    pipeline.lake.store.put("quarantine/triage/segments/x", b"not parquet")
    assert raw_answers(pipeline.folder, pipeline.lake.store, ann)
    outboxes = erase_outboxes(pipeline.folder, ann)
    assert (outboxes.rows, len(outboxes.unreadable)) == (1, 1)
    assert "8000-000000000000.db" in outboxes.unreadable[0]
    pipeline.ship()  # puts it aside, which makes it no more readable
    assert "8000-000000000000.db" in erase_outboxes(pipeline.folder, ann).unreadable[0]
    assert erase_landing(pipeline.lake.store, ann).unreadable == (Segment("triage", "box", 1, 1).key,)
    assert erase_quarantine(pipeline.lake.store, ann).unreadable == ("quarantine/triage/segments/x",)


def test_a_machine_without_outboxes_has_nothing_to_erase(pipeline, ann):
    assert erase_outboxes(pipeline.folder, ann) == (0, ())
    assert erase_landing(pipeline.lake.store, ann) == (0, ())
    assert raw_answers(pipeline.folder, pipeline.lake.store, ann) == frozenset()


def test_a_running_shipper_is_waited_for(pipeline, make, ann):
    pipeline.record(make.inference(subject="ann"))
    order = []

    def ship():
        with only_shipper(pipeline.folder, 1):
            started.set()
            time.sleep(0.3)
            order.append("shipped")

    started = threading.Event()
    shipper = threading.Thread(target=ship)
    shipper.start()
    started.wait()
    assert erase_outboxes(pipeline.folder, ann).rows == 1
    order.append("erased")
    shipper.join()
    assert order == ["shipped", "erased"]


def test_gateways_lose_nothing_that_they_record_meanwhile(pipeline, make, ann):
    """Erasures over and over beside a gateway that acknowledges rows; every row of others arrives."""
    outbox = Outbox.open(pipeline.folder, group_commit_ms=0)
    stop, acknowledged = threading.Event(), []

    async def record():
        while not stop.is_set():
            row = make.inference(subject="ben")
            await outbox.append([pipeline.event(make.inference("ann's words", subject="ann")), pipeline.event(row)])
            acknowledged.append(row.inference_id)

    gateway = threading.Thread(target=lambda: asyncio.run(record()))
    gateway.start()
    try:
        for _ in range(10):
            erase_outboxes(pipeline.folder, ann)
            pipeline.ship()
            erase_landing(pipeline.lake.store, ann)
    finally:
        stop.set()
        gateway.join()
    outbox.close()
    erase_outboxes(pipeline.folder, ann)
    pipeline.ship()
    erase_landing(pipeline.lake.store, ann)
    pipeline.ingest()
    assert sorted(acknowledged) == pipeline.ids("inferences", "inference_id")
