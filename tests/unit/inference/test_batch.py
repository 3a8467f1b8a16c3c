"""The batch job's configuration and row mapping; the job itself runs in tests/integration."""

import json

import pytest

from flywheel.config import EngineConfig
from flywheel.errors import EngineError
from flywheel.inference import batch
from flywheel.inference.batch import BatchEngine, as_completion, processor_settings, sampling_parameters
from flywheel.judging.prompts import CHOICE_SCHEMA
from flywheel.records import Message
from flywheel.testing import make_tiny_model

CPU = EngineConfig(max_model_len=128, max_num_seqs=64, threads=2)


def test_ray_accepts_the_settings_on_cpu_and_gpu():
    from ray.data.llm import vLLMEngineProcessorConfig

    for config in (CPU, EngineConfig(num_gpus=2, tensor_parallel_size=2, accelerator_type="A10G", num_replicas=3)):
        made = vLLMEngineProcessorConfig(**processor_settings("/models/a", config, 32))
        assert made.should_continue_on_error
        assert made.concurrency == config.num_replicas
        assert made.engine_kwargs["max_model_len"] == config.max_model_len
    cpu = processor_settings("/models/a", CPU, 32)
    assert cpu["accelerator_type"] is None
    assert cpu["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"
    assert cpu["batch_size"] * cpu["max_concurrent_batches"] >= CPU.max_num_seqs, "else the engine idles"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("ValueError: too long", "refused: too long"),
        ("VLLMValidationError: bad", "refused: bad"),
        ("RuntimeError: cuda", "RuntimeError: cuda"),
    ],
)
def test_rows_become_completions(error, told):
    row = {"id": 3, "generated_text": "yes", "num_input_tokens": 5, "num_generated_tokens": 2, "time_taken_llm": 0.25}
    done = as_completion({**row, "__inference_error__": ""})
    assert (done.text, done.prompt_tokens, done.completion_tokens, done.latency_ms) == ("yes", 5, 2, 250)
    lost = as_completion({**row, "__inference_error__": error})
    assert (lost.text, lost.error) == ("", told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", layers=1, hidden=16)


def test_order_ids_and_prompts_that_no_engine_takes(folder, monkeypatch):
    jobs = []

    def run(settings, rows, done, version, report):
        jobs.append(rows)
        numbers = {"num_input_tokens": 1, "num_generated_tokens": 1, "time_taken_llm": 1.0}
        return {  # out of order, and one row never comes back
            row["id"]: as_completion({"generated_text": str(len(row["tokenized_prompt"])), **numbers})
            for row in reversed(rows[:-1])
        }

    monkeypatch.setattr(batch, "_run", run)
    texts = ["a", "word " * 200, "a longer one", "lost"]
    said = [[Message(role="user", content=text)] for text in texts]
    done = BatchEngine(str(folder), CPU)("v1", said, max_tokens=16, temperature=0.5, seed=3)
    assert [row["id"] for row in jobs[0]] == [0, 2, 3]
    assert jobs[0][0]["sampling_params"] == {"max_tokens": 16, "temperature": 0.5, "seed": 3}
    assert done[1].error.startswith("refused: ")
    assert int(done[2].text) > int(done[0].text) > 2
    assert done[3].error == "the job gave no answer to this case"
    assert BatchEngine(str(folder), CPU)("v1", [], max_tokens=16) == []


def test_vllm_is_told_the_form_of_the_answer():
    greedy = sampling_parameters(32, 0.0, None, CHOICE_SCHEMA)
    assert (greedy["temperature"], greedy["max_tokens"]) == (0.0, 32)
    assert json.loads(greedy["structured_outputs"]["json"]) == CHOICE_SCHEMA
    assert sampling_parameters(32, 0.0, None, None).keys() == {"max_tokens", "temperature"}


def test_prompts_are_those_of_the_models_chat_template(folder):
    from transformers import AutoTokenizer

    [ids] = batch._tokenised(str(folder), [[Message(role="user", content="hi")]])
    assert AutoTokenizer.from_pretrained(folder).decode(ids) == "<|user|>hi<|end|><|assistant|>"


def test_a_job_that_fails_is_one_sentence(monkeypatch):
    import ray.data
    import ray.data.llm
    from ray.exceptions import RayError

    def fails(*_, **__):
        raise RayError("trace\nout of memory")

    monkeypatch.setattr(ray.data.llm, "build_processor", lambda *a, **k: fails)
    monkeypatch.setattr(ray.data, "from_items", lambda *a, **k: None)
    with pytest.raises(EngineError, match="the batch job of 'v1' failed: out of memory"):
        batch._run(processor_settings("/m", CPU, 8), [{"id": 0}], {}, "v1", None)
