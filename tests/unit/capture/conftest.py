"""A capture pipeline on a temporary folder, and rows to put through it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from uuid6 import uuid7

from flywheel.capture.events import Event, to_event
from flywheel.capture.ingest import Ingester, IngestReport, ingest_all
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ShipReport, ship_once
from flywheel.config import CaptureConfig, FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Consent, Feedback, Inference, Message, ShadowPair, feedback_id, utcnow


class Pipeline:
    """Outbox folder, lake and keys under one home; every method is one step of the way."""

    def __init__(self, home: Path, **capture: Any) -> None:
        self.config = FlywheelConfig(home=home, capture=CaptureConfig(**capture))
        self.folder = outbox_folder(self.config)
        self.lake: Lake = open_lake(self.config)
        self.keyring = Keyring(home)

    def record(self, *rows: Any, close: bool = True) -> Outbox:
        """Put rows into a new outbox and wait for the acknowledgement."""
        outbox = Outbox.open(self.folder, group_commit_ms=0)
        asyncio.run(outbox.append([self.event(row) for row in rows]))
        if close:
            outbox.close()
        return outbox

    def event(self, row: Any) -> Event:
        return to_event(row, flow=self.config.flow)

    def ship(self) -> ShipReport:
        return ship_once(self.folder, self.lake.store, self.config.capture, self.keyring)

    def ingester(self) -> Ingester:
        return Ingester(self.lake, self.config, self.keyring)

    def ingest(self) -> IngestReport:
        return ingest_all(self.lake, self.config, self.keyring)

    def ids(self, table: str, column: str) -> list[str]:
        return sorted(self.lake.read(table, columns=[column])[column].to_pylist())

    def inferences(self) -> list[Inference]:
        return self.lake.records("inferences", Inference)

    def feedback(self) -> list[Feedback]:
        return self.lake.records("feedback", Feedback)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path / "home")


@pytest.fixture
def new_pipeline(tmp_path: Path) -> Any:
    """A pipeline with capture settings of the test's own."""
    return lambda name="home", **capture: Pipeline(tmp_path / name, **capture)


def make_inference(
    text: str = "where is my parcel", *, consent: Sequence[str] = ("training",), ts: datetime | None = None, **more: Any
) -> Inference:
    values: dict[str, Any] = {
        "inference_id": str(uuid7()),
        "flow": "triage",
        "ts": ts or utcnow(),
        "subject": "ann",
        "consent": list(consent),
        "model_version": "m1",
        "messages": [Message(role="user", content=text)],
        "choices": ["on its way"],
        "finish_reason": "stop",
    }
    return Inference(**{**values, **more})


def make_feedback(inference: Inference, key: str = "k", **more: Any) -> Feedback:
    values: dict[str, Any] = {
        "feedback_id": feedback_id("default", inference.inference_id, key),
        "inference_id": inference.inference_id,
        "flow": inference.flow,
        "ts": utcnow(),
        "subject": "",
        "kind": "thumbs",
        "value": 1,
    }
    return Feedback(**{**values, **more})


def make_consent(user: str = "ann", state: str = "granted", purpose: str = "training") -> Consent:
    return Consent.model_validate({"subject": user, "purpose": purpose, "ts": utcnow(), "state": state})


def make_pair(inference: Inference, **more: Any) -> ShadowPair:
    values: dict[str, Any] = {
        "inference_id": inference.inference_id,
        "flow": inference.flow,
        "ts": utcnow(),
        "subject": inference.subject,
        "candidate": "m2",
        "live_version": "m1",
        "live_answer": "live",
        "candidate_answer": "candidate",
    }
    return ShadowPair(**{**values, **more})


@pytest.fixture
def make() -> Any:
    """The makers of rows, as attributes."""

    class Make:
        inference = staticmethod(make_inference)
        feedback = staticmethod(make_feedback)
        consent = staticmethod(make_consent)
        pair = staticmethod(make_pair)

    return Make
