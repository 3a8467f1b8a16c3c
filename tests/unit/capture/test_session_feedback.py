"""Reactions to sessions, reactions without a token, and tenants, on their way into the tables."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from uuid6 import UUID, uuid7

from flywheel.records import feedback_id, utcnow


def id_at(moment):
    milliseconds = int(moment.timestamp() * 1000)
    return str(UUID(int=(milliseconds << 80) | (uuid7().int & ((1 << 80) - 1))))


def about_session(make, inference, *, anchored=False, session="s1", key="k", **more):
    values = {
        "feedback_id": feedback_id("default", f"session:{session}", key),
        "inference_id": inference.inference_id if anchored else "",
        "session_id": session,
        "kind": "comment",
        "value": None,
        "text": "bob@corp.io was kind",
    }
    return make.feedback(inference, **{**values, **more})


def quarantine(pipeline):
    keys = [key for key in pipeline.lake.store.list("quarantine") if key.endswith(".jsonl")]
    return [json.loads(line) for key in keys for line in pipeline.lake.store.get(key).decode().splitlines()]


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("when", ["same batch", "later", "before"])
def test_a_session_is_found_whenever_its_answers_come(pipeline, make, anchored, when):
    row = make.inference("call bob@corp.io", session_id="s1")
    told = about_session(make, row, anchored=anchored)
    batches = {"same batch": [[told, row]], "later": [[row], [told]], "before": [[told], [row]]}[when]
    ingester = pipeline.ingester()
    for rows in batches:
        pipeline.record(*rows)
        pipeline.ship()
        report = ingester.run_once()
    assert report.waiting == 0
    (stored,), (reaction,) = pipeline.inferences(), pipeline.feedback()
    assert reaction.session_id == stored.session_id != "s1"
    assert reaction.inference_id == ""
    assert reaction.subject == stored.subject
    stand_in = stored.messages[0].content.removeprefix("call ")
    assert reaction.text == f"{stand_in} was kind", "one stand-in in the whole conversation"


def test_a_session_of_yesterday_is_found_and_an_older_one_through_an_answer(pipeline, make):
    now = datetime(2026, 3, 10, 0, 30, tzinfo=UTC)
    for session, age in (("near", timedelta(hours=1)), ("far", timedelta(days=20))):
        row = make.inference(session_id=session, inference_id=id_at(now - age), ts=now - age)
        anchored = session == "far"
        pipeline.record(row, about_session(make, row, session=session, ts=now, anchored=anchored))
        pipeline.ship()
        assert pipeline.ingest().rows == {"inferences": 1, "feedback": 1}
    row = make.inference(session_id="far")
    pipeline.record(about_session(make, row, session="far", key="no anchor", ts=now))
    pipeline.ship()
    assert pipeline.ingest().waiting == 1


def test_a_session_rated_again_after_midnight_is_one_row(pipeline, make):
    row = make.inference(session_id="s1", inference_id=id_at(datetime(2026, 3, 9, 23, 50, tzinfo=UTC)))
    before, after = datetime(2026, 3, 9, 23, 59, tzinfo=UTC), datetime(2026, 3, 10, 0, 1, tzinfo=UTC)
    pipeline.record(row, about_session(make, row, ts=before))
    pipeline.ship()
    pipeline.ingest()
    pipeline.record(about_session(make, row, ts=after))
    pipeline.ship()
    report = pipeline.ingester().run_once()
    assert (report.rows, report.duplicates) == ({}, 1)
    assert pipeline.ids("feedback", "date") == ["2026-03-09"]


def test_a_session_that_never_comes_is_put_aside_without_its_text(new_pipeline, make):
    pipeline = new_pipeline(landing_retention_h=1e-9)
    pipeline.record(about_session(make, make.inference()))
    pipeline.ship()
    ingester = pipeline.ingester()
    assert ingester.run_once().waiting == 1
    assert ingester.run_once().quarantined == {"unknown_session": 1}
    text = json.dumps(quarantine(pipeline))
    assert "name an answer" in text or "the day before" in text
    assert "kind" in text
    assert "bob@corp.io" not in text
    assert '"s1"' not in text


def test_an_answer_of_another_session_vouches_for_nothing(pipeline, make):
    row = make.inference(session_id="s2")
    pipeline.record(row, about_session(make, row, anchored=True, session="s1"))
    pipeline.ship()
    assert pipeline.ingest().quarantined == {"other_session": 1}


def test_a_server_key_cannot_rate_the_answers_of_another_tenant(pipeline, make):
    row = make.inference("secret", session_id="s1")
    theirs = make.feedback(row, tenant="rival", kind="correction", value=None, text="wrong")
    session = about_session(make, row, tenant="rival")
    pipeline.record(row, theirs, session)
    pipeline.ship()
    report = pipeline.ingest()
    assert (report.quarantined, report.waiting) == ({"other_tenant": 1}, 1)  # that session is none of theirs
    assert pipeline.feedback() == []


def test_without_consent_the_text_about_a_session_goes(pipeline, make):
    row = make.inference(session_id="s1", consent=[])
    pipeline.record(row, about_session(make, row))
    pipeline.ship()
    pipeline.ingest()
    assert pipeline.feedback()[0].text is None


def test_what_is_said_late_is_joined_in_the_partition_of_its_answer(pipeline, make):
    then = utcnow() - timedelta(days=29)
    row = make.inference(inference_id=id_at(then), ts=then)
    pipeline.record(row)
    pipeline.ship()
    pipeline.ingest()
    pipeline.record(make.feedback(row))
    pipeline.ship()
    assert pipeline.ingester().run_once().rows == {"feedback": 1}
    assert pipeline.ids("feedback", "date") == [then.date().isoformat()]


def test_consent_of_one_tenants_user_is_not_anothers(pipeline, make):
    """Two tenants have a user of the same name; what one withdraws the other keeps."""
    from flywheel.capture.events import to_event

    rows = {tenant: make.inference(f"text of {tenant}", tenant=tenant, consent=[]) for tenant in ("acme", "rival")}
    granted = [make.consent("ann", "granted")] * 2
    events = [to_event(row, flow="triage", tenant=tenant) for row, tenant in zip(granted, rows, strict=True)]
    events += [to_event(make.consent("ann", "withdrawn"), flow="triage", tenant="rival")]
    events += [to_event(row, flow="triage", tenant=tenant) for tenant, row in rows.items()]
    append(pipeline, events)
    pipeline.ship()
    pipeline.ingest()
    stored = {row.tenant: row for row in pipeline.inferences()}
    assert stored["acme"].messages[0].content == "text of acme"
    assert stored["rival"].messages == []
    assert stored["acme"].subject != stored["rival"].subject


def test_sessions_of_one_name_are_two_in_two_tenants(pipeline, make):
    for tenant in ("acme", "rival"):
        pipeline.record(make.inference(tenant=tenant, session_id="s1"))
    pipeline.ship()
    pipeline.ingest()
    assert len({row.session_id for row in pipeline.inferences()}) == 2


def append(pipeline, events):
    import asyncio

    from flywheel.capture.outbox import Outbox

    outbox = Outbox.open(pipeline.folder, group_commit_ms=0)
    asyncio.run(outbox.append(events))
    outbox.close()
