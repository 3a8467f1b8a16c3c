"""The configuration of batch judging, and replies put back in order; no engine is started."""

import json

import pytest

from flywheel.config import EngineConfig
from flywheel.judging import engines
from flywheel.judging.engines import RunningEngine, processor_config, sampling
from flywheel.judging.prompts import CHOICE_SCHEMA


def test_the_batch_uses_the_engine_settings_on_cpu():
    built = processor_config("/models/judge", EngineConfig(max_model_len=2048, threads=2, num_cpus=1, max_num_seqs=16))
    assert (built.model_source, built.batch_size, built.concurrency) == ("/models/judge", 16, 1)
    assert built.engine_kwargs["max_model_len"] == 2048
    assert built.engine_kwargs["kv_cache_memory_bytes"] == 2**30
    assert built.runtime_env["env_vars"]["OMP_NUM_THREADS"] == "2"
    assert built.accelerator_type is None
    assert built.placement_group_config["bundles"] == [{"CPU": 1.0, "GPU": 0.0}]
    assert built.should_continue_on_error


def test_the_batch_uses_the_engine_settings_on_gpus():
    built = processor_config("m", EngineConfig(num_gpus=2, tensor_parallel_size=2, accelerator_type="A10G"))
    assert built.engine_kwargs["tensor_parallel_size"] == 2
    assert "kv_cache_memory_bytes" not in built.engine_kwargs
    assert [bundle["GPU"] for bundle in built.placement_group_config["bundles"]] == [1, 1]


def test_vllm_accepts_the_form_of_the_reply():
    greedy = sampling(CHOICE_SCHEMA, 32)
    assert (greedy["temperature"], greedy["max_tokens"]) == (0.0, 32)
    assert json.loads(greedy["structured_outputs"]["json"]) == CHOICE_SCHEMA
    assert "structured_outputs" not in sampling(None, 32)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (None, "the batch brought no reply"),
        ({"text": None, "__inference_error__": "ValueError: too long\nmore"}, "refused: ValueError: too long"),
        ({"text": None, "__inference_error__": "VLLMValidationError: long"}, "refused: VLLMValidationError: long"),
        ({"text": None, "__inference_error__": "RuntimeError: lost"}, "RuntimeError: lost"),
        ({"text": "x", "__inference_error__": ""}, None),
    ],
)  # fmt: skip
def test_rows_of_the_batch_as_completions(row, error):
    assert engines._completion(row).error == error


def test_a_running_engine_is_asked_for_the_form(monkeypatch):
    seen = {}
    monkeypatch.setattr(engines, "generate", lambda version, asked, **more: seen.update(more, version=version) or [])
    RunningEngine("triage-v1", max_tokens=9)([], CHOICE_SCHEMA)
    assert (seen["version"], seen["max_tokens"]) == ("triage-v1", 9)
    assert seen["extra"]["response_format"]["json_schema"]["schema"] == CHOICE_SCHEMA
