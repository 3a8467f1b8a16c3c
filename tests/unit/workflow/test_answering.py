"""What starts, when, and what is stopped again; without a cluster."""

import contextlib

import pytest

from flywheel.config import EndpointConfig, FlywheelConfig
from flywheel.errors import EngineError, UsageError
from flywheel.inference.batch import BatchEngine
from flywheel.inference.endpoint import Endpoint
from flywheel.records import Message
from flywheel.workflow.evaluations import answering
from flywheel.workflow.evaluations.answering import BLOCKS, Answering, FirstUse, Model, find_model

A = Model("a", "v1", "hash-a", "/models/a")
B = Model("b", "v2", "hash-b", "/models/b")
SAID = [[Message(role="user", content="hi")]]


@pytest.fixture
def log(monkeypatch):
    seen = []

    @contextlib.contextmanager
    def noted(name):
        seen.append(f"+{name}")
        yield
        seen.append(f"-{name}")

    monkeypatch.setattr(answering, "connected", lambda config: noted("cluster"))
    monkeypatch.setattr(answering, "serving", lambda lake, config, variant: noted(variant.version))
    monkeypatch.setattr(answering, "generate", lambda version, texts, **_: seen.append(f"?{version}"))
    return seen


def test_engines_start_when_first_asked_one_after_another_in_one_cluster(log):
    with Answering(None, FlywheelConfig()) as answers:
        for model in (A, B):
            with answers.model(model) as generate:
                for _ in range(2):
                    generate(model.version, SAID, max_tokens=8)
    assert log == ["+cluster", "+v1", "?v1", "?v1", "-v1", "+v2", "?v2", "?v2", "-v2", "-cluster"]


def test_nothing_starts_for_what_nobody_asks(log):
    with Answering(None, FlywheelConfig()) as answers, answers.model(A):
        pass
    assert log == []


def test_a_start_that_failed_is_not_tried_again():
    tries = []

    def start():
        tries.append(1)
        raise EngineError("no memory")

    first = FirstUse(start)
    for _ in range(3):
        with pytest.raises(EngineError, match="no memory"):
            first("v1", SAID, max_tokens=8)
    assert len(tries) == 1


def test_the_batch_job_and_the_endpoint_are_chosen_by_configuration_and_name(log):
    batch = FlywheelConfig.model_validate({"evaluation": {"engine": "batch"}})
    with Answering(None, batch) as answers, contextlib.ExitStack() as engine:
        assert answers._generate(A, engine) == BatchEngine("/models/a", batch.engine)
        assert answers.block(A) == BLOCKS["batch"]
    assert log == ["+cluster", "-cluster"]
    there = EndpointConfig(url="https://api.test/v1/", key_env="KEY")
    outside = find_model(None, batch, "endpoint:big", there)
    assert (outside.version, outside.outside, outside.content) == ("big", True, "https://api.test/v1 big")
    with Answering(None, batch, there) as answers, contextlib.ExitStack() as engine:
        assert answers._generate(outside, engine) == Endpoint("https://api.test/v1/", "KEY")
        assert answers.block(outside) == BLOCKS["endpoint"]
    assert log == ["+cluster", "-cluster"], "no cluster for somebody else's engine"
    with pytest.raises(UsageError, match="--endpoint"):
        find_model(None, batch, "endpoint:big", None)
