"""Our own models as judges: a running engine, or a batch over ``ray.data.llm``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flywheel.inference.batch import BatchEngine
from flywheel.inference.generate import Completion, generate
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
class BatchJob:
    """Loads a model folder into vLLM for each call and answers all prompts as one Ray Data job.

    Worth it for many prompts: the engine's start costs about a minute on CPU.
    """

    model_version: str
    batch: BatchEngine
    constrained: bool = True
    max_tokens: int = 32
    reported: list[str] = field(default_factory=list[str])

    def __call__(
        self, asked: Sequence[Sequence[Message]], schema: Mapping[str, Any], on_progress: Notify | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order.

        Raises:
            EngineError: the job failed as a whole.
        """
        return self.batch(
            self.model_version,
            asked,
            max_tokens=self.max_tokens,
            schema=schema if self.constrained else None,
            on_progress=(lambda done: on_progress(done, len(asked))) if on_progress else None,
        )
