"""A flow in a lake on a folder, written row by row as ingestion would."""

from datetime import UTC, datetime, timedelta

import pytest
from uuid6 import uuid7

from flywheel.config import FlywheelConfig, load
from flywheel.lake.tables import open_lake
from flywheel.records import Consent, Feedback, Inference, Message
from flywheel.rollout import routing
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Flow:
    """Times are days before ``NOW``."""

    def __init__(self, folder, **settings):
        overrides = {"home": str(folder / "home"), "lake.uri": str(folder / "lake"), **settings}
        self.config = load(FlywheelConfig, overrides=overrides)
        self.lake = open_lake(self.config)
        self.batches = 0

    def append(self, table, rows):
        self.batches += 1
        assert self.lake.append(table, rows, app=f"test/{self.batches}", version=0)

    def live(self, version="v1", *, days_ago=30.0):
        before = routing.current(self.lake.store, "triage")
        variant = routing.Variant(version=version, folder=f"/m/{version}")
        state = routing.bootstrap("triage", variant, actor="test")
        if before is not None:
            state = state.model_copy(update={"n": before.n + 1, "previous": before.live})
        routing.publish(self.lake.store, state.model_copy(update={"ts": NOW - days_ago * DAY}))

    def answers(self, count, *, days_ago=1.0, people=None, text="where is my parcel", consent=None, **fields):
        """``count`` rows; returns them. ``people``: of so many (default: each of another)."""
        start = self.batches * 1_000
        purposes = ["training", "evaluation"] if consent is None else consent
        rows = [
            Inference(**{
                "inference_id": str(uuid7()), "flow": "triage", "ts": NOW - days_ago * DAY + timedelta(seconds=n),
                "subject": f"s{start + n % (people or count)}", "consent": purposes, "model_version": "v1",
                "messages": [Message(role="user", content=text)], "choices": ["yes"], "finish_reason": "stop", **fields,
            })
            for n in range(count)
        ]  # fmt: skip
        self.append("inferences", rows)
        return rows

    def react(self, rows, kind="thumbs", value=None, text=None, *, seen_days_ago=1.0, **fields):
        """One reaction to each row, learnt of one after another."""
        self.append(
            "feedback",
            [
                Feedback(**{
                    "feedback_id": str(uuid7()), "inference_id": row.inference_id, "flow": "triage", "ts": row.ts,
                    "ingest_ts": NOW - seen_days_ago * DAY + timedelta(seconds=n), "subject": row.subject,
                    "kind": kind, "value": value, "text": text, **fields,
                })
                for n, row in enumerate(rows)
            ],
        )  # fmt: skip

    def withdraw(self, rows, purpose="training"):
        self.append("consents", [Consent(subject=r.subject, purpose=purpose, ts=NOW, state="withdrawn") for r in rows])

    def turn(self, decision="promote", *, saw_days_ago, ended_days_ago, **finished):
        turn = open_turn(self.lake.store, self.config)
        turn.write(step_key("snapshot"), {"at": (NOW - saw_days_ago * DAY).isoformat()})
        at = (NOW - ended_days_ago * DAY).isoformat()
        turn.write("finished", {"decision": decision, "reasons": [], "at": at, **finished})
        return turn


@pytest.fixture
def flow(tmp_path):
    def make(**settings):
        return Flow(tmp_path, **settings)

    return make
