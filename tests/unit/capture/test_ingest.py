"""What ingestion makes of events: rows, duplicates, quarantine, or waiting; nothing disappears."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.capture import batches, landing
from flywheel.capture.ingest import read_totals
from flywheel.capture.landing import Row, Segment
from flywheel.capture.outbox import Outbox
from flywheel.records import Consent, ShadowPair


def put_raw(pipeline, *rows, outbox="hand-made", lo=1):
    """A segment with bodies of the test's own."""
    segment = Segment("triage", outbox, lo, lo + len(rows) - 1)
    data = landing.encode([Row(lo + i, f"e{i}", kind, "default", 0, body) for i, (kind, body) in enumerate(rows)])
    pipeline.lake.store.put_if_absent(segment.key, data)


def segments(pipeline):
    return [key for key in pipeline.lake.store.list("landing") if landing.parse(key)]


def quarantine(pipeline):
    keys = [key for key in pipeline.lake.store.list("quarantine/triage") if key.endswith(".jsonl")]
    return [json.loads(line) for key in keys for line in pipeline.lake.store.get(key).splitlines()]


def test_a_conversation_arrives_with_pseudonyms_and_surrogates(pipeline, make):
    row = make.inference("mail me at bob@corp.io", session_id="bob@corp.io", subject="bob@corp.io")
    told = make.feedback(row, kind="correction", value=None, text="she wrote to bob@corp.io")
    pipeline.record(row, told, make.pair(row, live_answer="bob@corp.io", candidate_answer="to bob@corp.io"))
    pipeline.ship()
    report = pipeline.ingest()
    assert report.rows == {"inferences": 1, "feedback": 1, "shadow_pairs": 1}
    (stored,), (reaction,) = pipeline.inferences(), pipeline.feedback()
    (pair,) = pipeline.lake.records("shadow_pairs", ShadowPair)
    stand_in = stored.messages[0].content.removeprefix("mail me at ")
    assert "@example." in stand_in
    assert reaction.text == f"she wrote to {stand_in}"
    assert (pair.live_answer, pair.candidate_answer) == (stand_in, f"to {stand_in}")
    assert stored.subject == reaction.subject == pair.subject == pipeline.keyring.pseudonym("default", "bob@corp.io")
    assert stored.ingest_ts is not None
    everything = json.dumps([table.to_pylist() for table in map(pipeline.lake.read, report.rows)], default=str)
    assert "bob" not in everything


def test_feedback_that_names_a_user_keeps_its_own(pipeline, make):
    row = make.inference()
    pipeline.record(row, make.feedback(row, subject="carol"))
    pipeline.ship()
    pipeline.ingest()
    assert pipeline.feedback()[0].subject == pipeline.keyring.pseudonym("default", "carol")


def test_retries_are_one_row(pipeline, make):
    row = make.inference()
    told = make.feedback(row)
    pipeline.record(row, told, told)
    pipeline.ship()
    assert pipeline.ingest().duplicates == 1
    pipeline.record(told, row, make.pair(row), make.pair(row))  # later, through another replica
    pipeline.ship()
    assert pipeline.ingest().duplicates == 3
    assert len(pipeline.inferences()) == len(pipeline.feedback()) == 1
    assert len(pipeline.ids("shadow_pairs", "candidate")) == 1


def test_one_ingester_deduplicates_against_its_own_memory(pipeline, make):
    row = make.inference()
    ingester = pipeline.ingester()
    for _ in range(3):
        pipeline.record(row, make.feedback(row))
        pipeline.ship()
        ingester.run_once()
    assert len(pipeline.inferences()) == len(pipeline.feedback()) == 1


def test_a_row_of_another_day_finds_its_inference(pipeline, make):
    from flywheel.capture.importer import uuid7_of

    past = datetime(2025, 3, 1, 23, 59, tzinfo=UTC)
    row = make.inference(ts=past, inference_id=uuid7_of(past, "x"))
    pipeline.record(row)
    pipeline.ship()
    pipeline.ingest()
    pipeline.record(make.feedback(row))
    pipeline.ship()
    assert pipeline.ingest().rows == {"feedback": 1}
    assert pipeline.ids("feedback", "date") == pipeline.ids("inferences", "date") == ["2025-03-01"]


def test_without_consent_the_text_goes_and_the_numbers_stay(pipeline, make):
    row = make.inference("my secret", consent=[], prompt_tokens=7, params={"temperature": 0.5, "stop": "secret"})
    told = make.feedback(row, kind="comment", value=None, text="secret too")
    pair = make.pair(row, live_answer="secret", candidate_answer="secret")
    pipeline.record(row, told, pair)
    pipeline.ship()
    report = pipeline.ingest()
    assert report.text_removed == 3
    (stored,), (reaction,) = pipeline.inferences(), pipeline.feedback()
    assert (stored.messages, stored.choices, stored.prompt_tokens) == ([], [], 7)
    assert stored.params == {"temperature": 0.5}
    assert stored.tags == {"text_removed": "no_consent"}
    assert reaction.text is None
    later = make.feedback(row, key="later", kind="comment", value=None, text="secret again")
    pipeline.record(later)
    pipeline.ship()
    pipeline.ingest()
    tables = [pipeline.lake.read(table).to_pylist() for table in ("inferences", "feedback", "shadow_pairs")]
    assert "secret" not in json.dumps(tables, default=str)


def test_a_standing_grant_keeps_the_text_and_a_withdrawal_removes_it(pipeline, make):
    pipeline.record(make.consent("ann"), make.consent("ben", state="withdrawn"))
    pipeline.ship()
    pipeline.ingest()
    kept, removed = make.inference(consent=[], subject="ann"), make.inference(consent=[], subject="ben")
    pipeline.record(kept, removed)
    pipeline.ship()
    pipeline.ingest()
    by_id = {row.inference_id: row for row in pipeline.inferences()}
    assert by_id[kept.inference_id].messages
    assert not by_id[removed.inference_id].messages
    consents = pipeline.lake.records("consents", Consent)
    assert {row.subject for row in consents} == {pipeline.keyring.pseudonym("default", n) for n in ("ann", "ben")}


def test_a_withdrawal_in_the_same_batch_counts(pipeline, make):
    row = make.inference(ts=datetime.now(UTC) - timedelta(seconds=1))
    pipeline.record(row, make.consent("ann", state="withdrawn"))
    pipeline.ship()
    pipeline.ingest()
    assert pipeline.inferences()[0].messages == []


def test_another_ingester_sees_consents_that_it_did_not_commit(pipeline, make):
    ingester = pipeline.ingester()
    pipeline.record(make.inference(consent=[]))
    pipeline.ship()
    ingester.run_once()
    other = pipeline.config.model_copy(update={"flow": "other"})
    pipeline.lake.append(
        "consents",
        [make.consent("ann").model_copy(update={"subject": pipeline.keyring.pseudonym("default", "ann")})],
        app=f"ingest/{other.flow}",
        version=1,
    )
    pipeline.record(make.inference(consent=[]))
    pipeline.ship()
    assert ingester.run_once().text_removed == 0


def test_feedback_waits_for_its_inference(pipeline, make):
    row = make.inference("call bob@corp.io", session_id="s1")
    pipeline.record(make.feedback(row, kind="correction", value=None, text="bob@corp.io"), make.pair(row))
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.rows, report.waiting) == ({}, 2)
    assert pipeline.ingest().waiting == 2  # nothing new: no batch, still waiting
    pipeline.record(row)
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.rows, report.waiting) == ({"inferences": 1, "feedback": 1, "shadow_pairs": 1}, 0)
    stand_in = pipeline.inferences()[0].messages[0].content.removeprefix("call ")
    assert pipeline.feedback()[0].text == stand_in  # one stand-in in the whole conversation


def test_feedback_that_waits_in_memory_is_the_same(pipeline, make):
    ingester = pipeline.ingester()
    row = make.inference()
    for rows in ([make.feedback(row)], [make.inference()], [row]):
        pipeline.record(*rows)
        pipeline.ship()
        ingester.run_once()
    assert len(pipeline.feedback()) == 1


def test_feedback_whose_inference_never_comes_is_put_aside(new_pipeline, make):
    pipeline = new_pipeline(landing_retention_h=1e-9)
    pipeline.record(make.feedback(make.inference(), kind="comment", value=None, text="hello"))
    pipeline.ship()
    ingester = pipeline.ingester()
    assert ingester.run_once().waiting == 1
    report = ingester.run_once()
    assert (report.quarantined, report.waiting, report.batches) == ({"unknown_inference": 1}, 0, 1)
    assert quarantine(pipeline)[0]["reason"] == "unknown_inference"
    assert "hello" not in json.dumps(quarantine(pipeline))  # nobody can say whether it may be kept


def test_bad_rows_are_put_aside_with_a_reason(pipeline, make):
    good = make.inference()
    body = good.model_dump(mode="json")
    put_raw(
        pipeline,
        ("inference", json.dumps({**body, "consent": ["training"], "extra": "write to bob@corp.io", "subject": "bob"})),
        ("inference", json.dumps({**body, "inference_id": "7"})),
        ("inference", json.dumps({**body, "flow": "other"})),
        ("inference", json.dumps({**body, "ts": "2025-01-01T00:00:00"})),
        ("inference", "{"),
        ("riddle", "{}"),
        ("feedback", "[]"),
        ("inference", good.model_dump_json()),
    )
    report = pipeline.ingest()
    assert report.rows == {"inferences": 1}
    assert report.quarantined == {"invalid": 5, "bad_inference_id": 1, "wrong_flow": 1}
    assert report.events == 8
    refused = quarantine(pipeline)
    assert refused[0]["detail"] == "extra: extra_forbidden"
    assert refused[0]["segment"].startswith("landing/triage/hand-made/")
    kept = json.loads(refused[0]["body"])
    assert kept["extra"].startswith("write to ")
    assert "bob" not in json.dumps(refused)


@pytest.mark.parametrize(
    ("beyond", "last"),
    [
        ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59Z"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00Z"),
        ("2030-01-01T00:00:00", "2030-01-01T00:00:00Z"),
    ],
)
def test_a_time_that_cannot_be_read_back_is_put_aside(pipeline, make, beyond, last):
    row, said = make.inference().model_dump(mode="json"), make.consent().model_dump(mode="json")
    put_raw(
        pipeline,
        ("inference", json.dumps({**row, "ts": beyond})),
        ("consent", json.dumps({**said, "expires_at": beyond})),
        ("consent", json.dumps({**said, "expires_at": last})),
    )
    report = pipeline.ingest()
    assert (report.rows, report.quarantined) == ({"consents": 1}, {"invalid": 2})
    assert [refusal["detail"].partition(":")[0] for refusal in quarantine(pipeline)] == ["ts", "expires_at"]
    (consent,) = pipeline.lake.records("consents", Consent)
    assert consent.expires_at == datetime.fromisoformat(last)


def test_a_text_that_breaks_a_detector_stops_nobody(pipeline, make, monkeypatch):
    from flywheel.capture.anonymise import Anonymiser

    real = Anonymiser.text

    def fragile(self, text, conversation):
        if "poison" in text:
            raise RecursionError
        return real(self, text, conversation)

    monkeypatch.setattr(Anonymiser, "text", fragile)
    pipeline.record(make.inference("poison"), make.inference("fine"))
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.rows, report.quarantined) == ({"inferences": 1}, {"not_anonymised": 1})
    assert "poison" not in json.dumps(quarantine(pipeline))


def test_a_damaged_segment_is_kept_and_stops_nobody(pipeline, make):
    key = Segment("triage", "hand-made", 1, 1).key
    pipeline.lake.store.put_if_absent(key, b"no parquet")
    pipeline.record(make.inference())
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.rows, report.quarantined) == ({"inferences": 1}, {"unreadable_segment": 1})
    assert pipeline.lake.store.get(quarantine(pipeline)[0]["detail"]) == b"no parquet"


def test_a_gap_waits(pipeline, make):
    rows = [("inference", make.inference().model_dump_json()) for _ in range(2)]
    put_raw(pipeline, rows[1], lo=2)
    assert pipeline.ingest().batches == 0
    put_raw(pipeline, rows[0], lo=1)
    assert pipeline.ingest().rows == {"inferences": 2}


def test_a_segment_sent_again_after_its_removal_changes_nothing(new_pipeline, make):
    pipeline = new_pipeline(landing_retention_h=1e-9)
    pipeline.record(make.inference())
    pipeline.ship()
    key, _closed = pipeline.lake.store.list("landing")
    data = pipeline.lake.store.get(key)
    assert pipeline.ingest().cleaned == 1
    pipeline.lake.store.put_if_absent(key, data)
    report = pipeline.ingest()
    assert (report.batches, report.cleaned) == (0, 1)
    assert len(pipeline.inferences()) == 1


def test_the_cursor_forgets_outboxes_that_are_gone(new_pipeline, make):
    pipeline = new_pipeline(landing_retention_h=1e-9)
    quiet = pipeline.record(make.inference(), close=False)  # lives on and must be remembered
    cursors = []
    for _ in range(4):
        pipeline.record(make.inference())
        pipeline.ship()
        pipeline.ingest()
        cursors.append(batches.read_batch(pipeline.lake.store, "triage", len(cursors) + 1).cursor)
    assert [len(cursor) for cursor in cursors] == [2, 2, 2, 2]
    assert all(quiet.outbox_id in cursor for cursor in cursors)
    assert len({key.split("/")[2] for key in pipeline.lake.store.list("landing/triage")}) <= 2
    asyncio.run(quiet.append([pipeline.event(make.inference())]))
    quiet.close()
    pipeline.ship()
    pipeline.ingest()
    assert len(pipeline.inferences()) == 6


def test_raw_segments_go_when_old_and_ingested(new_pipeline, make):
    pipeline, young = new_pipeline(landing_retention_h=1e-9), new_pipeline(landing_retention_h=1)
    young.record(make.inference())
    young.ship()
    young.ingest()
    assert young.ingest().cleaned == 0
    assert len(segments(young)) == 1
    young.record(make.feedback(make.inference()))  # waits: its segment must stay
    young.ship()
    young.ingest()
    assert len(segments(young)) == 2
    assert pipeline.ingester()._clean(*young.ingester()._resume()) == 1
    (left,) = segments(young)
    assert landing.decode(young.lake.store.get(left), left)[0].kind == "feedback"
    assert young.ingest().waiting == 1


def test_batches_are_bounded_and_take_outboxes_in_turn(new_pipeline, make):
    pipeline = new_pipeline(batch_segments=2, segment_rows=1)
    for _ in range(2):
        pipeline.record(*(make.inference() for _ in range(2)))
    pipeline.ship()
    report = pipeline.ingester().run_once()
    assert report.segments == 2
    first = batches.read_batch(pipeline.lake.store, "triage", 1)
    assert len(first.cursor) == 2
    assert pipeline.ingest().segments == 2
    assert len(pipeline.inferences()) == 4


def test_totals_add_up(pipeline, make):
    row = make.inference()
    for _ in range(2):
        pipeline.record(row, make.feedback(row), make.inference(consent=[]))
        pipeline.ship()
        pipeline.ingest()
    totals = read_totals(pipeline.lake, "triage")
    assert totals.events == 6 == sum(totals.rows.values()) + totals.duplicates
    assert (totals.rows, totals.duplicates, totals.text_removed) == ({"inferences": 3, "feedback": 1}, 2, 2)
    assert read_totals(pipeline.lake, "never").events == 0


def test_an_interrupted_request_is_a_row(pipeline, make):
    outbox = Outbox.open(pipeline.folder)
    asyncio.run(outbox.open_request(make.inference(choices=[], finish_reason=None)))
    outbox.close()
    pipeline.ship()
    pipeline.ingest()
    assert pipeline.inferences()[0].finish_reason == "interrupted"


def test_a_corrupted_flow_does_not_reach_another(pipeline, make):
    pipeline.record(make.inference(flow="other"))  # in the segment of triage
    pipeline.ship()
    assert pipeline.ingest().quarantined == {"wrong_flow": 1}


def test_two_ingesters_at_once_store_each_event_once(new_pipeline, make):
    pipeline = new_pipeline(segment_rows=2, batch_segments=2)
    rows = [make.inference() for _ in range(10)]
    for part in (rows[:5], rows[5:]):
        pipeline.record(*part, *(make.feedback(row) for row in part))
    pipeline.ship()
    start = threading.Barrier(3)

    def run():
        ingester = pipeline.ingester()
        start.wait()
        while ingester.run_once().batches:
            pass

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(run) for _ in range(3)]:
            future.result()
    pipeline.ingest()
    assert pipeline.ids("inferences", "inference_id") == sorted(row.inference_id for row in rows)
    assert len(pipeline.ids("feedback", "feedback_id")) == len(set(pipeline.ids("feedback", "feedback_id"))) == 10
    assert read_totals(pipeline.lake, "triage").events == 20


def test_an_ingester_that_slept_cannot_commit_an_old_batch_anew(pipeline, make):
    row = make.inference()
    pipeline.record(make.feedback(row))
    pipeline.ship()
    sleeper = pipeline.ingester()
    before = sleeper._resume()
    sleeper._last = before
    pipeline.ingest()  # batch 1: the feedback waits
    pipeline.record(row)
    pipeline.ship()
    pipeline.ingest()  # batch 2: both are in
    old = batches.read_batch(pipeline.lake.store, "triage", 1)
    sleeper._process(old, before[1], fresh=True)  # sees the inference, and would store the feedback as batch 1
    assert len(pipeline.feedback()) == len(pipeline.inferences()) == 1
