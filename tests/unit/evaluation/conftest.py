"""Captured requests and cases, made in one line."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.lake.tables import Lake
from flywheel.records import Check, EvalCase, EvalResult, Feedback, Inference, Message

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def asked():
    def make(n, text="where is my parcel", answer="no idea", **changes):
        fields = {
            "inference_id": f"i{n}", "flow": "triage", "ts": T0 + timedelta(minutes=n), "subject": f"s{n}",
            "session_id": f"session {n}", "model_version": "m1", "choices": [answer],
            "messages": [Message(role="user", content=text)],
        }  # fmt: skip
        return Inference(**{**fields, **changes})

    return make


@pytest.fixture
def said():
    def make(n, kind="thumbs", value=None, text=None, **changes):
        fields = {
            "feedback_id": f"f{n}-{kind}-{value}-{text}", "inference_id": f"i{n}", "flow": "triage",
            "subject": f"s{n}", "kind": kind, "value": value, "text": text, "ts": T0,
        }  # fmt: skip
        return Feedback(**{**fields, **changes})

    return make


@pytest.fixture
def make_case():
    def make(n, suite="failures", **changes):
        fields = {
            "case_id": f"case-{n:012d}", "flow": "triage", "suite": suite, "origin": "failure",
            "messages": [Message(role="user", content=f"question {n}")], "check": Check(kind="exact", expected="x"),
        }  # fmt: skip
        return EvalCase(**{**fields, **changes})

    return make


@pytest.fixture
def marked():
    def make(case, model, passed=True, **changes):
        fields = {
            "run_id": f"r-{model}", "case_id": case.case_id, "case_version": case.version, "suite": case.suite,
            "model_version": model, "answer": "x", "passed": passed, "score": float(passed),
        }  # fmt: skip
        return EvalResult(**{**fields, **changes})

    return make
