"""The batch job gives the answers that the Serve engine gives, on a real (tiny) model."""

import json
import os

import pytest

from flywheel.config import EngineConfig, FlywheelConfig
from flywheel.inference import engines
from flywheel.inference.batch import BatchEngine
from flywheel.inference.generate import generate
from flywheel.judging.engines import BatchJob
from flywheel.records import Message
from flywheel.testing import make_tiny_model
from flywheel.workflow.cluster import connected

pytestmark = [
    pytest.mark.ray,
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("FLYWHEEL_LONG"), reason="starts two engines: FLYWHEEL_LONG=1"),
]

ENGINE = EngineConfig(max_model_len=128, max_num_seqs=16, kv_cache_gib=0.25)
TEXTS = [f"question number {n}" for n in range(100)]


def test_batch_and_serve_answer_alike(tmp_path):
    folder = str(make_tiny_model(tmp_path / "model"))
    said = [[Message(role="user", content=text)] for text in (*TEXTS, "far too long " * 60)]
    config = FlywheelConfig.model_validate({"home": str(tmp_path / "home"), "cluster": {"num_cpus": 4}})
    seen = []
    with connected(config):
        engines.start("tiny", folder, ENGINE)
        served = generate("tiny", said, max_tokens=8)
        engines.stop("tiny")
        batched = BatchEngine(folder, ENGINE)("tiny", said, max_tokens=8, on_progress=seen.append)
    assert len(batched) == len(said)
    assert seen[-1] == len(said)
    assert served[-1].error.startswith("refused: ")
    assert batched[-1].error.startswith("refused: ")
    assert [one.error for one in batched[:-1]] == [None] * len(TEXTS)
    assert [one.prompt_tokens for one in batched[:-1]] == [one.prompt_tokens for one in served[:-1]]
    same = sum(one.text == other.text for one, other in zip(batched, served, strict=True))
    assert same >= 0.95 * len(said)  # sums in another order, so that a near tie may fall the other way


def test_a_batch_holds_its_answers_to_a_form(tmp_path):
    folder = str(make_tiny_model(tmp_path / "model"))
    config = FlywheelConfig.model_validate({"home": str(tmp_path / "home"), "cluster": {"num_cpus": 4}})
    schema = {"type": "object", "properties": {"choice": {"enum": ["A", "B"]}}, "required": ["choice"]}
    said = [[Message(role="user", content=text)] for text in TEXTS[:4]]
    with connected(config):
        answers = BatchJob("tiny", BatchEngine(folder, ENGINE))(said, {**schema, "additionalProperties": False})
    assert {json.loads(answer.text)["choice"] for answer in answers} <= {"A", "B"}
