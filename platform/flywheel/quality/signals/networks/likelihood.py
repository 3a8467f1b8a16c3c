"""A causal language model: how surprised it is by the target after the conversation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flywheel.quality.signals.networks.base import Encoded, Item, loaded, pad, said

LARGEST = 20.0
"""Nats a token: a perplexity above e^20 says no more than "never"."""


class PerplexityNetwork:
    """exp of the mean negative log-likelihood of the target's tokens (Jelinek et al. 1977)."""

    def __init__(self, folder: str, max_length: int) -> None:
        """Load ``folder``.

        Raises:
            ModelError: it holds no causal language model.
        """
        from transformers import AutoModelForCausalLM

        self._model, self._tokenizer = loaded(AutoModelForCausalLM, folder, dtype="float32")
        self._max_length = max_length

    def encode(self, items: Sequence[Item]) -> list[list[Encoded]]:
        """Prompt and target as one sequence; nothing for an empty target. The prompt loses its beginning first."""
        return [self._sequences(item) for item in items]

    def forward(self, batch: Sequence[Encoded]) -> Sequence[float]:
        """Mean negative log-likelihood of each target, in nats a token."""
        import torch

        inputs = pad(self._tokenizer, batch)
        ids = inputs["input_ids"]
        length = ids.shape[1]
        # The scores of the prompt's own tokens are not wanted, and the vocabulary is what makes scores large.
        kept = length - min(row["prompt"] for row in batch) + 1
        with torch.inference_mode():
            logits = self._model(**inputs, use_cache=False, logits_to_keep=kept).logits.float()
        first = length - logits.shape[1]  # a model that keeps all scores has 0 here
        found = []
        for row, scores, own in zip(batch, logits, ids, strict=True):
            start, end = row["prompt"], len(row["input_ids"])
            predicted = scores[start - 1 - first : end - 1 - first].log_softmax(dim=-1)
            found.append(-float(predicted.gather(1, own[start:end, None]).mean()))
        return found

    def value(self, outputs: Sequence[float]) -> float | None:
        """The perplexity."""
        return math.exp(min(outputs[0], LARGEST))

    def _sequences(self, item: Item) -> list[Encoded]:
        limit = self._max_length
        target = self._tokenizer(item["target"], add_special_tokens=False)["input_ids"][: limit - 1]
        if not target:
            return []
        prompt = said(self._tokenizer, item["messages"])[-(limit - len(target)) :]
        if not prompt:  # the first token needs something before it
            start = self._tokenizer.bos_token_id
            prompt = [self._tokenizer.eos_token_id if start is None else start]
        ids = [*prompt, *target]
        return [{"input_ids": ids, "attention_mask": [1] * len(ids), "prompt": len(prompt)}]
