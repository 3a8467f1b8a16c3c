"""Many answers from an engine inside a Ray Data job (``ray.data.llm``), for GPUs and big suites.

Answers like ``generate.generate``, but no Serve application: each call starts its engines, sends everything through
them and ends them, so that it pays from some thousands of cases on. Prompts are tokenised here, by the model's own
chat template, because the job's own stages would put a begin-of-text token in front a second time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flywheel.config import EngineConfig
from flywheel.errors import EngineError
from flywheel.inference.generate import REFUSED, Completion
from flywheel.inference.server import bundles, cpu_environment, engine_kwargs
from flywheel.records import Message

BATCH: Final = 32
_ERROR: Final = "__inference_error__"
_REFUSALS: Final = frozenset({"ValueError", "VLLMValidationError"})
"""What vLLM raises for what it will never answer, such as a prompt that is too long."""


@dataclass(frozen=True)
class BatchEngine:
    """The model in ``folder`` as a Ray Data job."""

    folder: str
    config: EngineConfig

    def __call__(
        self,
        version: str,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        concurrency: int = 32,
        timeout_s: float = 60,  # noqa: ARG002  (a job has no limit for one item)
        schema: Mapping[str, Any] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion a conversation, in order; with ``schema`` (JSON Schema) an answer can have no other form.

        Raises:
            EngineError: the job failed as a whole, for example because no engine could start.
        """
        prompts = _tokenised(self.folder, conversations)
        done: dict[int, Completion] = {
            number: _too_long(len(prompt), max_tokens, self.config.max_model_len)
            for number, prompt in enumerate(prompts)
            if len(prompt) + max_tokens > self.config.max_model_len
        }
        sampling = sampling_parameters(max_tokens, temperature, seed, schema)
        rows = [
            {"id": number, "tokenized_prompt": prompt, "sampling_params": sampling}
            for number, prompt in enumerate(prompts)
            if number not in done
        ]
        if rows:
            done |= _run(processor_settings(self.folder, self.config, concurrency), rows, done, version, on_progress)
        lost = Completion("", "error", None, None, None, error="the job gave no answer to this case")
        return [done.get(number, lost) for number in range(len(prompts))]


def processor_settings(folder: str, config: EngineConfig, concurrency: int) -> dict[str, Any]:
    """Arguments of ``vLLMEngineProcessorConfig``: the engine as Serve has it; one bad row fails alone."""
    batches = max(1, max(concurrency, config.max_num_seqs) // BATCH)
    return {
        "model_source": folder,
        "engine_kwargs": engine_kwargs(config),
        "accelerator_type": config.accelerator_type if config.num_gpus else None,
        "concurrency": config.num_replicas,
        "batch_size": BATCH,
        "max_concurrent_batches": 2 * batches,  # below this the engine waits for Ray Data between two batches
        "placement_group_config": {"bundles": bundles(config)},
        "runtime_env": {"env_vars": cpu_environment(config)} if config.num_gpus == 0 else None,
        "chat_template_stage": {"enabled": False},
        "tokenize_stage": {"enabled": False},
        "detokenize_stage": {"enabled": False},
        "should_continue_on_error": True,
        "log_engine_metrics": False,
    }


def sampling_parameters(
    max_tokens: int, temperature: float, seed: int | None, schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Arguments of vLLM's ``SamplingParams``. Pure."""
    made: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    if seed is not None:
        made["seed"] = seed
    if schema is not None:
        made["structured_outputs"] = {"json": json.dumps(dict(schema))}
    return made


def is_refusal(error: str) -> bool:
    """Whether Ray Data's word for a failed row is one that asking again will not change. Pure."""
    return error.partition(":")[0] in _REFUSALS


def as_completion(row: Mapping[str, Any]) -> Completion:
    """An output row of the job. Pure."""
    error = row.get(_ERROR) or ""
    if error:
        message = error.partition(": ")[2]
        text = f"{REFUSED}{message}" if is_refusal(error) else error
        return Completion("", "error", None, None, None, error=text)
    return Completion(
        text=row["generated_text"],
        finish_reason=None,  # the job does not tell
        prompt_tokens=int(row["num_input_tokens"]),
        completion_tokens=int(row["num_generated_tokens"]),
        latency_ms=1e3 * float(row["time_taken_llm"]),
    )


def _run(
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    done: Mapping[int, Completion],
    version: str,
    report: Callable[[int], None] | None,
) -> dict[int, Completion]:
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig
    from ray.exceptions import RayError

    processor = build_processor(vLLMEngineProcessorConfig(**settings), postprocess=_kept)
    blocks = max(1, min(len(rows) // BATCH, 64))
    found: dict[int, Completion] = {}
    try:
        for row in processor(ray.data.from_items(rows, override_num_blocks=blocks)).iter_rows():
            found[int(row["id"])] = as_completion(row)  # in whatever order they come
            if report:
                report(len(done) + len(found))
    except RayError as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise EngineError(f"the batch job of '{version}' failed: {reason}; look into Ray's logs") from error
    return found


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    """What is carried out of the job; rows with an error come whole."""
    names = ("id", "generated_text", "num_input_tokens", "num_generated_tokens", "time_taken_llm")
    return {name: row[name] for name in names}


def _tokenised(folder: str, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    texts = [
        tokenizer.apply_chat_template([m.model_dump() for m in messages], add_generation_prompt=True, tokenize=False)
        for messages in conversations
    ]
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def _too_long(prompt: int, max_tokens: int, limit: int) -> Completion:
    text = f"{prompt} tokens and an answer of {max_tokens} are more than the model's {limit}"
    return Completion("", "error", prompt, None, None, error=f"{REFUSED}{text}")
