"""Which question each kind of engine is asked; no engine is started."""

from flywheel.config import EngineConfig
from flywheel.inference.batch import BatchEngine
from flywheel.inference.generate import Completion
from flywheel.judging import engines
from flywheel.judging.engines import BatchJob, RunningEngine
from flywheel.judging.prompts import CHOICE_SCHEMA
from flywheel.records import Message


def test_a_running_engine_is_asked_for_the_form(monkeypatch):
    seen = {}
    monkeypatch.setattr(engines, "generate", lambda version, asked, **more: seen.update(more, version=version) or [])
    RunningEngine("triage-v1", max_tokens=9)([], CHOICE_SCHEMA)
    assert (seen["version"], seen["max_tokens"]) == ("triage-v1", 9)
    assert seen["extra"]["response_format"]["json_schema"]["schema"] == CHOICE_SCHEMA


def test_a_batch_is_asked_for_the_form_and_tells_how_far_it_is(monkeypatch):
    seen, told = {}, []

    def run(self, version, asked, *, on_progress, **more):
        seen.update(more, version=version)
        on_progress(1)
        return [Completion("{}", None, 1, 1, 1.0)] * len(asked)

    monkeypatch.setattr(BatchEngine, "__call__", run)
    batch = BatchEngine("/models/judge", EngineConfig())
    said = [Message(role="user", content="which?")]
    BatchJob("judge-v1", batch, max_tokens=9)(
        [said, said], CHOICE_SCHEMA, lambda done, total: told.append((done, total))
    )
    assert seen == {"version": "judge-v1", "max_tokens": 9, "schema": CHOICE_SCHEMA}
    assert told == [(1, 2)]
    BatchJob("judge-v1", batch, constrained=False)([said], CHOICE_SCHEMA, lambda *_: None)
    assert seen["schema"] is None
