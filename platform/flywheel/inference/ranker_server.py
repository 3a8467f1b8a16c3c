"""The Serve deployment around one reward model: any Hugging Face sequence classifier with one output.

Decoders with a chat template read the conversation as the model that answers would, then the answer and the end of
the sequence: how ``quality.reward_fit`` trains them. Others (cross-encoders) read a pair of texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.config import RankerConfig
from flywheel.errors import ModelError
from flywheel.telemetry import apply_environment


class RankerServer:
    """One ranker version behind a Serve handle."""

    def __init__(self, version: str, folder: str, config: dict[str, Any]) -> None:
        """Load the model.

        Args:
            version: what rows will say.
            folder: a sequence classifier in safetensors.
            config: a ``RankerConfig`` as a dict.
        """
        apply_environment()
        self._version = version
        self._scorer = TextScorer(Path(folder), RankerConfig.model_validate(config))
        self._lock = asyncio.Lock()

    async def score(self, messages: list[dict[str, str]], candidates: list[str]) -> dict[str, Any]:
        """``{"scores": [one a candidate], "version": ...}``, or ``{"error": text}``."""
        async with self._lock:  # one forward pass at a time: two would share the same threads
            try:
                scores = await asyncio.to_thread(self._scorer, messages, candidates)
            except (RuntimeError, ValueError, TypeError) as error:
                return {"error": f"{type(error).__name__}: {error}"}
        return {"scores": scores, "version": self._version}

    async def ping(self) -> str:
        """The version, once the model is loaded."""
        return self._version


class TextScorer:
    """A sequence classifier in memory; call it with a conversation and candidates, get one score each."""

    def __init__(self, folder: Path, config: RankerConfig) -> None:
        """Load ``folder``.

        Raises:
            ModelError: it holds no such model.
        """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        torch.set_num_threads(config.threads)
        self._config, self._device = config, "cuda" if config.num_gpus else "cpu"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype="auto" if config.num_gpus else "float32", use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} cannot be a ranker: {error}. Name another gateway.ranker.model.") from error
        if model.config.num_labels != 1:
            raise ModelError(f"{folder} has {model.config.num_labels} outputs; a ranker has one, the score.")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model.eval().to(self._device)

    def __call__(self, messages: Sequence[dict[str, str]], candidates: Sequence[str]) -> list[float]:
        """Scores in the order of ``candidates``; higher is better."""
        rows = self._encoded(messages, candidates)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))  # little padding
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self._config.batch_size):
            places = order[start : start + self._config.batch_size]
            for place, score in zip(places, self._forward([rows[place] for place in places]), strict=True):
                scores[place] = score
        return scores

    def _forward(self, rows: list[dict[str, Any]]) -> list[float]:
        import torch

        batch = self._tokenizer.pad(rows, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            return self._model(**batch).logits[:, 0].float().tolist()

    def _encoded(self, messages: Sequence[dict[str, str]], candidates: Sequence[str]) -> list[dict[str, Any]]:
        if not self._tokenizer.chat_template or not messages:
            said = "\n".join(message["content"] for message in messages if message["role"] != "system")
            return [self._pair(said, candidate) for candidate in candidates]
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        prompt = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [self._row(prompt, candidate) for candidate in candidates]

    def _row(self, prompt: list[int], candidate: str) -> dict[str, Any]:
        """The prompt loses its beginning, then the answer its end, past ``max_length`` tokens."""
        limit, end = self._config.max_length, self._tokenizer.eos_token_id
        answer = self._tokenizer(candidate, add_special_tokens=False)["input_ids"][: limit - 1 - (end is not None)]
        answer = [*answer, *([end] if end is not None else [])]
        ids = [*prompt[-max(1, limit - len(answer)) :], *answer]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    def _pair(self, said: str, candidate: str) -> dict[str, Any]:
        texts = (said, candidate) if said else (candidate,)
        return dict(self._tokenizer(*texts, truncation=True, max_length=self._config.max_length))
