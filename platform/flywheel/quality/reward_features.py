"""What a reward head over a frozen encoder looks at: length, style, embedding, words. Arrays in, arrays out.

Four blocks, from cheap and general to rich and easily overfitted; ``reward_head`` decides on unseen prompts how many
of them the data can pay for. Words are hashed n-grams and not a vocabulary, so that no model file holds people's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flywheel.text.words import words

Floats = npt.NDArray[np.float64]
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts -> unit vectors, one a row."""
Block = Literal["length", "style", "embedding", "words"]

BUCKETS = 2**15
PROMPT_CHARS = 1_500
"""Of a conversation, its end: what the encoder reads."""
STYLE = (
    "words", "distinct", "from_prompt", "covers_prompt", "lines", "digits", "questions", "complete", "sentences",
    "empty", "repeats_prompt", "similar_to_prompt", "tfidf_to_prompt",
)  # fmt: skip
"""The style block's columns; the last two compare answer and prompt by embedding and by words."""


@dataclass(frozen=True)
class Answers:
    """n answers: what each block sees. ``words`` is a sparse matrix (n, BUCKETS)."""

    length: Floats
    style: Floats
    embedding: Floats
    words: Any

    def block(self, name: Block) -> Any:
        """A block as a matrix with n rows."""
        return getattr(self, name)


def describe(prompts: Sequence[str], answers: Sequence[str], encode: Encode | None) -> Answers:
    """Measure answers to prompts.

    Args:
        prompts: n conversations as text; equal ones are encoded once.
        answers: n answers.
        encode: a frozen encoder; None: no embeddings, their columns are 0.
    """
    asked = [prompt[-PROMPT_CHARS:] for prompt in prompts]
    left, right = _vectors(asked, list(answers), encode)
    hashed, hashed_prompts = _hashed(answers), _hashed(asked)
    overlap = np.asarray(hashed.multiply(hashed_prompts).sum(axis=1)).ravel()
    style = np.array([_style(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)])
    style = style.reshape(len(answers), len(STYLE) - 2)
    return Answers(
        length=np.log1p([len(answer) for answer in answers])[:, None],
        style=np.column_stack([style, (left * right).sum(axis=1), overlap]),
        embedding=right,
        words=hashed,
    )


def _vectors(prompts: list[str], answers: list[str], encode: Encode | None) -> tuple[Floats, Floats]:
    if encode is None or not answers:
        nothing = np.zeros((len(answers), 1))
        return nothing, nothing
    texts = sorted({*prompts, *answers}, key=lambda text: (len(text), text))
    place = {text: row for row, text in enumerate(texts)}
    vectors = encode(texts).astype(np.float64)
    return vectors[[place[text] for text in prompts]], vectors[[place[text] for text in answers]]


def _style(prompt: str, answer: str) -> list[float]:
    said, asked = words(answer), set(words(prompt))
    count = max(1, len(said))
    return [
        np.log1p(len(said)),
        len(set(said)) / count,
        sum(word in asked for word in said) / count,
        len(asked.intersection(said)) / max(1, len(asked)),
        100 * answer.count("\n") / (len(answer) + 1),
        10 * sum(letter.isdigit() for letter in answer) / (len(answer) + 1),
        10 * answer.count("?") / count,
        float(answer.rstrip()[-1:] in tuple(".!?…。！？\"'”)")),  # noqa: RUF001  (other scripts end sentences so)
        10 * len(re.findall(r"[.!?。！？]", answer)) / count,  # noqa: RUF001
        float(not said),
        float(bool(said) and set(said) <= asked),
    ]


@cache
def _hasher() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    unscaled: Any = None  # allowed, and missing in the library's annotations
    return HashingVectorizer(
        n_features=BUCKETS, ngram_range=(1, 2), alternate_sign=False, norm=unscaled, token_pattern=r"(?u)\b\w+\b"
    )


def _hashed(texts: Sequence[str]) -> Any:
    """Hashed words and pairs of words, log counts, unit length."""
    from scipy.sparse import csr_matrix  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.preprocessing import normalize

    if not texts:
        return csr_matrix((0, BUCKETS))
    counts = _hasher().transform([text.lower() for text in texts]).tocsr()
    counts.data = 1 + np.log(counts.data)
    return normalize(counts, copy=False)
