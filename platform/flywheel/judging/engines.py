"""Our own models as judges: a running engine, or a batch over ``ray.data.llm``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flywheel.config import EngineConfig
from flywheel.inference.batch import is_refusal
from flywheel.inference.generate import REFUSED, Completion, generate
from flywheel.inference.server import bundles
from flywheel.judging.endpoint import Form, response_format
from flywheel.judging.judge import Notify
from flywheel.records import Message


@dataclass(frozen=True)
class RunningEngine:
    """Asks the running engine of a model version."""

    model_version: str
    form: Form = "json_schema"
    max_tokens: int = 32
    concurrency: int = 8
    timeout_s: float = 60
    reported: list[str] = field(default_factory=list[str])

    def __call__(
        self, asked: Sequence[Sequence[Message]], schema: Mapping[str, Any], on_progress: Notify | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order.

        Raises:
            EngineError: the engine does not run.
        """
        return generate(
            self.model_version,
            asked,
            max_tokens=self.max_tokens,
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            extra=response_format(self.form, schema),
            on_progress=(lambda done: on_progress(done, len(asked))) if on_progress else None,
        )


@dataclass(frozen=True)
class BatchEngine:
    """Loads a model folder into vLLM for each call and answers all prompts as one Ray Data job.

    Worth it for many prompts: the engine's start costs about a minute on CPU.
    """

    folder: str
    engine: EngineConfig
    constrained: bool = True
    max_tokens: int = 32
    reported: list[str] = field(default_factory=list[str])

    def __call__(
        self, asked: Sequence[Sequence[Message]], schema: Mapping[str, Any], on_progress: Notify | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order; rows come back in any order, so each carries its place."""
        import ray.data
        from ray.data.llm import build_processor

        if not asked:
            return []
        processor = build_processor(processor_config(self.folder, self.engine), postprocess=_reply)
        rows = [
            {
                "place": place,
                "messages": [message.model_dump() for message in prompt],
                "sampling_params": sampling(schema if self.constrained else None, self.max_tokens),
            }
            for place, prompt in enumerate(asked)
        ]
        done = processor(ray.data.from_items(rows)).take_all()
        if on_progress:
            on_progress(len(done), len(asked))
        found = {row["place"]: row for row in done}
        return [_completion(found.get(place)) for place in range(len(asked))]


def processor_config(folder: str, engine: EngineConfig) -> Any:
    """The ``vLLMEngineProcessorConfig`` of one judge, with the memory and thread settings of our engines."""
    from ray.data.llm import vLLMEngineProcessorConfig

    arguments: dict[str, Any] = {
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "dtype": engine.dtype,
        "enforce_eager": engine.enforce_eager,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "generation_config": "vllm",
    }
    variables: dict[str, str] = {"HF_HUB_OFFLINE": "1"}
    if engine.num_gpus == 0:
        arguments["kv_cache_memory_bytes"] = int(engine.kv_cache_gib * 2**30)
        variables |= {"OMP_NUM_THREADS": str(engine.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return vLLMEngineProcessorConfig(
        model_source=folder,
        engine_kwargs=arguments,
        runtime_env={"env_vars": variables},
        accelerator_type=engine.accelerator_type if engine.num_gpus else None,
        placement_group_config={"bundles": bundles(engine)},
        concurrency=engine.num_replicas,
        batch_size=engine.max_num_seqs,
        should_continue_on_error=True,  # one prompt that is too long must not end the job
        tokenize_stage={"enabled": False},
        detokenize_stage={"enabled": False},
        log_engine_metrics=False,
    )


def sampling(schema: Mapping[str, Any] | None, max_tokens: int) -> dict[str, Any]:
    """Sampling parameters of one prompt: greedy, and held to the form if there is one."""
    greedy: dict[str, Any] = {"temperature": 0.0, "max_tokens": max_tokens}
    return greedy if schema is None else greedy | {"structured_outputs": {"json": json.dumps(dict(schema))}}


def _reply(row: dict[str, Any]) -> dict[str, Any]:
    return {"place": row["place"], "text": row["generated_text"]}


def _completion(row: Mapping[str, Any] | None) -> Completion:
    """A row of the job's output. Rows that failed come past ``_reply``, with the reason in a column of their own."""
    failed = row is None or row.get("__inference_error__") or row.get("text") is None
    if row is not None and not failed:
        return Completion(row["text"], "stop", None, None, None)
    reason = str((row or {}).get("__inference_error__") or "the batch brought no reply").splitlines()[0]
    return Completion("", "error", None, None, None, error=f"{REFUSED}{reason}" if is_refusal(reason) else reason)
