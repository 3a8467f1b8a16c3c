"""Erased people at every door: what they did before is dropped and counted, what they do later is not."""

import json
from datetime import timedelta

import pytest

from flywheel.capture import batches, landing
from flywheel.capture.importer import uuid7_of
from flywheel.capture.ingest import begun_batch, read_totals
from flywheel.capture.landing import Row, Segment
from flywheel.lake.erasures import bury
from flywheel.records import utcnow

HOUR = timedelta(hours=1)


def bury_ann(pipeline):
    return bury(pipeline.lake.store, "default", pipeline.keyring.pseudonym("default", "ann"))


def raw_texts(pipeline):
    keys = [key for key in pipeline.lake.store.list("landing") if landing.parse(key)]
    return "".join(row.body for key in keys for row in landing.decode(pipeline.lake.store.get(key), key))


def test_the_shipper_leaves_their_events_out_and_counts_them(pipeline, make):
    old, other = make.inference("old text", subject="ann"), make.inference("mine", subject="ben")
    bury_ann(pipeline)
    new = make.inference("new text", subject="ann")
    pipeline.record(old, make.feedback(old, subject="ann", ts=old.ts), other, new)
    report = pipeline.ship()
    assert (report.segments, report.events, report.erased) == (1, 2, {"triage": 2})
    assert "old text" not in raw_texts(pipeline)
    assert pipeline.ingest().rows == {"inferences": 2}
    assert {row.messages[0].content for row in pipeline.inferences()} == {"mine", "new text"}


def test_a_segment_of_erased_events_alone_is_sent_empty_so_that_no_range_is_missing(pipeline, make):
    rows = [make.inference(subject="ann") for _ in range(3)]
    bury_ann(pipeline)
    outbox = pipeline.record(*rows, close=False)
    pipeline.ship()
    outbox.close()
    pipeline.record(make.inference(subject="ben"))
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.segments, report.events, report.rows) == (2, 1, {"inferences": 1})


def test_another_tenants_user_of_the_same_name_is_somebody_else(pipeline, make):
    bury_ann(pipeline)
    row = make.inference(subject="ann", tenant="other", ts=utcnow() - HOUR)
    segment = Segment("triage", "box", 1, 1)
    body = Row(1, row.inference_id, "inference", "other", 0, row.model_dump_json())
    pipeline.lake.store.put_if_absent(segment.key, landing.encode([body]))
    assert pipeline.ingest().rows == {"inferences": 1}


def test_ingestion_drops_what_was_shipped_before(pipeline, make):
    mine, other = make.inference(subject="ann"), make.inference(subject="ben")
    pipeline.record(mine, make.consent("ann"), make.feedback(other, subject="ann"), make.pair(mine), other)
    pipeline.ship()
    bury_ann(pipeline)
    report = pipeline.ingest()
    assert (report.events, report.erased, report.rows) == (5, 4, {"inferences": 1})
    assert report.quarantined == {}
    assert read_totals(pipeline.lake, "triage").erased == 4


def test_a_row_that_does_not_validate_is_dropped_too_and_not_kept_in_quarantine(pipeline, make):
    body = json.dumps({"subject": "ann", "consent": ["training"], "text": "my own words"})
    segment = Segment("triage", "box", 1, 1)
    pipeline.lake.store.put_if_absent(segment.key, landing.encode([Row(1, "e", "feedback", "default", 0, body)]))
    bury_ann(pipeline)
    report = pipeline.ingest()
    assert (report.erased, report.quarantined) == (1, {})
    assert pipeline.lake.store.list("quarantine") == []


def test_reactions_to_an_erased_answer_are_dropped_whoever_sends_them(pipeline, make):
    # An id of its own: uuid7() runs ahead of the clock by a millisecond for each id that was made within one.
    mine = make.inference(subject="ann", inference_id=uuid7_of(utcnow() - timedelta(seconds=1), "mine"))
    pipeline.record(mine)
    pipeline.ship()
    ingester = pipeline.ingester()
    ingester.run_once()  # remembers the answer
    bury_ann(pipeline)
    pipeline.record(make.feedback(mine), make.feedback(mine, "b", subject="ben"), make.pair(mine, subject=""))
    pipeline.ship()
    assert ingester.run_once().erased == 3
    assert pipeline.feedback() == []


def test_a_reaction_that_waits_is_erased_with_its_sender(pipeline, make):
    late = make.inference(subject="ben")
    ingester = pipeline.ingester()
    pipeline.record(make.feedback(late, subject="ann"), make.feedback(late, "b", subject="ben"))
    pipeline.ship()
    assert ingester.run_once().waiting == 2
    bury_ann(pipeline)
    pipeline.record(late)
    pipeline.ship()
    report = ingester.run_once()
    assert (report.erased, report.waiting, report.rows) == (1, 0, {"inferences": 1, "feedback": 1})


def test_a_waiting_row_that_was_erased_in_its_segment_waits_no_more(pipeline, make):
    late = make.inference(subject="ben")
    pipeline.record(make.feedback(late, subject="ann"), make.feedback(late, "b", subject="ben"))
    pipeline.ship()
    pipeline.ingest()
    (key,) = [key for key in pipeline.lake.store.list("landing") if landing.parse(key)]

    def without_ann(data):
        rows = landing.decode(data, key)
        kept = [row for row in rows if '"ann"' not in row.body]
        return landing.encode(kept), len(rows) - len(kept)

    assert pipeline.lake.store.strip(key, without_ann) == 1
    pipeline.record(late)
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.erased, report.waiting, report.rows) == (1, 0, {"inferences": 1, "feedback": 1})


def test_who_comes_back_later_is_a_user_like_any(pipeline, make):
    bury_ann(pipeline)
    row = make.inference("back again", subject="ann")
    pipeline.record(row, make.feedback(row, subject="ann"), make.consent("ann"))
    pipeline.ship()
    assert pipeline.ingest().rows == {"consents": 1, "inferences": 1, "feedback": 1}


def test_a_batch_that_was_begun_is_known_until_it_has_ended(pipeline, make, monkeypatch):
    assert begun_batch(pipeline.lake, "triage") is None
    pipeline.record(make.inference())
    pipeline.ship()
    ingester = pipeline.ingester()
    seen = []

    def watched(kind):
        real = getattr(type(ingester), kind)

        def call(self, *arguments, **named):
            seen.append(begun_batch(pipeline.lake, "triage"))
            return real(self, *arguments, **named)

        monkeypatch.setattr(type(ingester), kind, call)

    for kind in ("_process", "_quarantine", "_end"):
        watched(kind)
    ingester.run_once()
    assert seen == [1, 1, 1]
    assert begun_batch(pipeline.lake, "triage") is None
    assert batches.read_done(pipeline.lake.store, "triage", 1) is not None


@pytest.mark.parametrize("body", ["", "no json", "[]", "3", '{"subject": 5}', "[" * 5_000])
def test_odd_bodies_belong_to_nobody(pipeline, body):
    bury_ann(pipeline)
    pipeline.lake.store.put_if_absent(
        Segment("triage", "box", 1, 1).key, landing.encode([Row(1, "e", "inference", "default", 0, body)])
    )
    assert pipeline.ingest().quarantined == {"invalid": 1}
