"""A sentence encoder: how close the person's next message is to this one, by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel.inference.encoder import WORDLLAMA, cosines, load_encoder
from flywheel.quality.signals.networks.base import Effort, Encoded, Item, loaded, pad


class SimilarityNetwork:
    """Mean-pooled last states (Reimers and Gurevych 2019, "Sentence-BERT"), their cosine."""

    def __init__(self, folder: str, max_length: int) -> None:
        """Load ``folder``: an encoder in Hugging Face layout, such as all-MiniLM-L6-v2.

        Raises:
            ModelError: it holds no model.
        """
        from transformers import AutoModel

        self._model, self._tokenizer = loaded(AutoModel, folder, dtype="float32")
        self._max_length = max_length

    def encode(self, items: Sequence[Item]) -> list[list[Encoded]]:
        """Both messages of each item; nothing where nothing followed."""
        pairs = [_pair(item) for item in items]
        texts = [text for pair in pairs for text in pair]
        if not texts:
            return [[] for _ in items]
        found: Any = self._tokenizer(texts, truncation=True, max_length=self._max_length)
        rows = iter([{name: found[name][row] for name in found} for row in range(len(texts))])
        return [[next(rows) for _ in pair] for pair in pairs]

    def forward(self, batch: Sequence[Encoded]) -> Sequence[Any]:
        """Unit vectors."""
        import torch

        inputs = pad(self._tokenizer, batch)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None].to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return list(torch.nn.functional.normalize(pooled, dim=1).float().cpu().numpy())

    def value(self, outputs: Sequence[Any]) -> float | None:
        """The cosine of both vectors."""
        first, second = outputs
        return max(-1.0, min(1.0, float(first @ second)))


class StaticSimilarity:
    """wordllama: a table of word vectors, with nothing to pad."""

    def __init__(self) -> None:
        """Load the model that the package brings along.

        Raises:
            EnvironmentProblem: the package is not installed.
        """
        self._encode = load_encoder(WORDLLAMA)

    def __call__(self, items: Sequence[Item], effort: Effort) -> list[float | None]:
        """Cosines; None where nothing followed. No token is padded, so ``effort`` stays."""
        del effort
        pairs = [_pair(item) for item in items]
        found = iter(cosines(self._encode, [(pair[0], pair[1]) for pair in pairs if pair]))
        return [next(found) if pair else None for pair in pairs]


def _pair(item: Item) -> list[str]:
    asked = [message["content"] for message in item["messages"] if message["role"] == "user"]
    after = item["next_message"]
    return [asked[-1], after] if asked and after is not None else []
