"""Any sequence classifier in Hugging Face layout: a reward model reads prompt and answer, a classifier one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel.errors import ModelError
from flywheel.quality.signals.networks.base import Encoded, Item, loaded, pad, plain, said


class RewardNetwork:
    """One output: the score. Two: the log-odds of the second. Decoders with a chat template read the conversation."""

    def __init__(self, folder: str, max_length: int) -> None:
        """Load ``folder``.

        Raises:
            ModelError: it holds no classifier, or one with more than two outputs.
        """
        from transformers import AutoModelForSequenceClassification

        self._model, self._tokenizer = loaded(AutoModelForSequenceClassification, folder, dtype="float32")
        self._max_length = max_length
        outputs = self._model.config.num_labels
        if outputs not in {1, 2}:
            raise ModelError(f"{folder} has {outputs} outputs; a reward model has one, or two (bad, good).")

    def encode(self, items: Sequence[Item]) -> list[list[Encoded]]:
        """Prompt and answer of each item as one sequence."""
        return [[self._sequence(item)] for item in items]

    def forward(self, batch: Sequence[Encoded]) -> Sequence[float]:
        """Scores."""
        import torch

        with torch.inference_mode():
            logits = self._model(**pad(self._tokenizer, batch)).logits.float()
        return (logits[:, -1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]).tolist()

    def value(self, outputs: Sequence[float]) -> float | None:
        """The score."""
        return outputs[0]

    def _sequence(self, item: Item) -> Encoded:
        tokenizer, limit = self._tokenizer, self._max_length
        if not tokenizer.chat_template:
            return dict(tokenizer(plain(item["messages"]), item["target"], truncation=True, max_length=limit))
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        answer = tokenizer(item["target"], add_special_tokens=False)["input_ids"][: limit - 1 - len(end)]
        prompt = said(tokenizer, item["messages"])[-(limit - len(answer) - len(end)) :]
        ids = [*prompt, *answer, *end]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}


class ToxicityNetwork:
    """The probability of one label for the target alone."""

    def __init__(self, folder: str, label: str, max_length: int) -> None:
        """Load ``folder``.

        Raises:
            ModelError: it holds no classifier, or none with that label.
        """
        from transformers import AutoModelForSequenceClassification

        self._model, self._tokenizer = loaded(AutoModelForSequenceClassification, folder, dtype="float32")
        self._max_length = max_length
        names = {str(name).lower(): int(place) for place, name in self._model.config.id2label.items()}
        if label.lower() not in names:
            raise ModelError(
                f"{folder} has no label '{label}'; set quality.signals.toxicity.label to one of {', '.join(names)}."
            )
        self._place = names[label.lower()]
        # Labels that do not exclude each other (as in Jigsaw's data) are independent probabilities.
        kind = self._model.config.problem_type
        self._independent = kind == "multi_label_classification" or len(names) == 1

    def encode(self, items: Sequence[Item]) -> list[list[Encoded]]:
        """The target of each item."""
        texts = [item["target"] for item in items]
        found: Any = self._tokenizer(texts, truncation=True, max_length=self._max_length)
        return [[{name: found[name][row] for name in found}] for row in range(len(texts))]

    def forward(self, batch: Sequence[Encoded]) -> Sequence[float]:
        """Probabilities."""
        import torch

        with torch.inference_mode():
            logits = self._model(**pad(self._tokenizer, batch)).logits.float()
        shares = logits.sigmoid() if self._independent else logits.softmax(dim=1)
        return shares[:, self._place].tolist()

    def value(self, outputs: Sequence[float]) -> float | None:
        """The probability."""
        return outputs[0]
