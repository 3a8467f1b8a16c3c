"""What is held in memory at once is bounded by bytes, not only by counts."""

import tracemalloc
from datetime import UTC, datetime, timedelta

from flywheel.capture import batches, landing, sealing
from flywheel.capture.erase import RawPerson, erase_outboxes, raw_answers
from flywheel.records import utcnow

NOW = datetime(2026, 1, 1, 12, 0, 0, 1, UTC)


def ranges(pipeline):
    found = filter(None, map(landing.parse, pipeline.lake.store.list("landing")))
    return [(segment.lo, segment.hi) for segment in found]


def sized(make, text):
    """A row and its size in an outbox."""
    row = make.inference(text, ts=NOW)
    return row, len(row.model_dump_json().encode())


def test_a_segment_ends_at_so_many_bytes(pipeline, make, monkeypatch):
    (one, size), (two, _), (last, _) = (sized(make, "x" * 1_000) for _ in range(3))
    (wide, _), (large, _) = sized(make, "ü" * 1_000), sized(make, "x" * 10_000)
    monkeypatch.setattr(sealing, "SEGMENT_BYTES", 2 * size)
    pipeline.record(one, two, last, wide, large, make.inference("x" * 1_000, ts=NOW))
    assert pipeline.ship().events == 6
    assert ranges(pipeline) == [(1, 2), (3, 3), (4, 4), (5, 5), (6, 6)]
    assert pipeline.ingest().rows == {"inferences": 6}


def test_a_batch_takes_what_memory_holds_however_well_it_compresses(new_pipeline, make, monkeypatch):
    monkeypatch.setattr(batches, "MAX_BYTES", 250_000)
    pipeline = new_pipeline(segment_rows=1)
    pipeline.record(*(make.inference("x" * size, consent=[]) for size in (100_000, 100_000, 100_000, 300_000)))
    pipeline.ship()
    assert sum(len(pipeline.lake.store.get(key)) for key in pipeline.lake.store.list("landing")) < 100_000
    ingester = pipeline.ingester()
    assert [ingester.run_once().segments for _ in range(4)] == [2, 1, 1, 0]
    assert len(pipeline.inferences()) == 4


def test_a_damaged_segment_among_others_stops_nobody(pipeline, make):
    pipeline.lake.store.put_if_absent(landing.Segment("triage", "hand-made", 1, 1).key, b"no parquet")
    pipeline.record(make.inference())
    pipeline.ship()
    assert pipeline.ingester().run_once().quarantined == {"unreadable_segment": 1}


def test_an_outbox_is_searched_without_holding_it(pipeline, make):
    pipeline.record(*(make.inference("x" * 2**20, subject=user) for user in ["ann", "ben"] * 8))
    ann = RawPerson("default", "ann", pipeline.keyring.pseudonym("default", "ann"), utcnow() + timedelta(hours=1))
    tracemalloc.start()
    try:
        answers = raw_answers(pipeline.folder, pipeline.lake.store, ann)
        swept = erase_outboxes(pipeline.folder, ann)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(answers), swept.rows) == (8, 8)
    assert peak < 8 * 2**20
