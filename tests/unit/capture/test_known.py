"""What ingestion keeps of the tables: a few partitions between batches, and all that one batch asks for."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.capture.importer import uuid7_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("refresh_s", [30.0, -1.0])
def test_reactions_to_answers_of_many_days_in_one_batch(pipeline, make, monkeypatch, refresh_s):
    monkeypatch.setattr("flywheel.capture.known.REFRESH_S", refresh_s)
    days = [NOW - timedelta(days=n) for n in range(20)]
    told, unknown = ([make.inference(ts=ts, inference_id=uuid7_of(ts, name)) for ts in days] for name in "ab")
    pipeline.record(*told)
    pipeline.ship()
    pipeline.ingest()
    pipeline.record(*(make.feedback(row) for row in told + unknown))
    pipeline.ship()
    report = pipeline.ingester().run_once()
    assert (report.rows, report.waiting) == ({"feedback": 20}, 20)
    pipeline.record(*unknown)
    pipeline.ship()
    assert pipeline.ingest().rows == {"inferences": 20, "feedback": 20}
