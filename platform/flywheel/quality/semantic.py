"""Duplicates in other words: rows whose prompts and answers mean the same to a sentence encoder. Off by default.

Greedy, best row first, as quality decides who stays: a row goes when a better one that stays says the same. Nothing is
chained, since a little drift in each step would put far apart rows together. Products are made block by block, so
memory does not grow with the square of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.config import DedupConfig
from flywheel.inference.encoder import Encode, load_encoder
from flywheel.quality.rows import Candidate, Drop, prompt_text
from flywheel.text.answers import answer_key
from flywheel.text.overlap import conversation_texts

_ROWS: Final = 512
_KEPT: Final = 8_192
_TEXTS: Final = 1_024

Vectors = npt.NDArray[np.float32]


def encoder_of(config: DedupConfig) -> Encode | None:
    """The configured encoder; None where semantic deduplication is off.

    Raises:
        EnvironmentProblem, ModelError: it cannot be loaded.
    """
    return None if config.encoder is None else load_encoder(config.encoder)


def semantic_duplicates(
    rows: Sequence[Candidate], encode: Encode, *, threshold: float, reward: Mapping[str, float]
) -> tuple[list[Candidate], list[Drop]]:
    """Keep the best (highest reward, then lowest id) of rows that say the same; rows in, rows out, in order.

    Two rows say the same when the cosine of their prompts is at least ``threshold``, and their answers are equal or as
    near: "cancel it" and "do not cancel it" are near, but what they are answered differs. The drop names the row that
    stayed and how near it is.
    """
    places = sorted(range(len(rows)), key=lambda i: (-reward.get(rows[i].inference_id, 0.0), rows[i].inference_id))
    best = [rows[place] for place in places]
    prompts = _encoded(encode, [prompt_text(row.messages) for row in best])
    answers = _Answers([row.target for row in best], encode, threshold)
    kept = list[int]()
    drops: dict[str, Drop] = {}
    for start in range(0, len(best), _ROWS):
        block = list(range(start, min(start + _ROWS, len(best))))
        better = _same(prompts, answers, block, kept, threshold)
        for row in block:
            found = better.get(row)
            if found is None:
                kept.append(row)
                later = [other for other in block if other > row and other not in better]
                better |= _same(prompts, answers, later, [row], threshold)
            else:
                other, cosine = found
                detail = f"{best[other].inference_id} {cosine:.3f}"
                drops[best[row].inference_id] = Drop(
                    inference_id=best[row].inference_id, reason="semantic_duplicate", detail=detail
                )
    return [row for row in rows if row.inference_id not in drops], list(drops.values())


def meant_by_suites(
    rows: Sequence[Candidate], texts: Sequence[str], encode: Encode, *, threshold: float
) -> dict[str, float]:
    """Inference id -> cosine, for rows that say in other words what one of ``texts`` (of suites) says.

    Rows held out anyway are left alone. What is compared is what ``near_evaluation`` compares.
    """
    subjects = [row for row in rows if row.held_out is None]
    if not subjects or not texts:
        return {}
    suites = _encoded(encode, list(dict.fromkeys(texts)))
    found: dict[str, float] = {}
    for start in range(0, len(subjects), _ROWS):
        block = subjects[start : start + _ROWS]
        said = [conversation_texts(row.messages) for row in block]
        vectors = _encoded(encode, [text for own in said for text in own])
        nearest = np.full(len(vectors), -1.0, dtype=np.float32)
        for first in range(0, len(suites), _KEPT):
            np.maximum(nearest, (vectors @ suites[first : first + _KEPT].T).max(axis=1, initial=-1.0), out=nearest)
        values = iter(nearest.tolist())
        for row, own in zip(block, said, strict=True):
            cosine = max(islice(values, len(own)), default=-1.0)
            if cosine >= threshold:
                found[row.inference_id] = cosine
    return found


class _Answers:
    """Whether two rows are answered alike; answers are encoded when the first two prompts are near."""

    def __init__(self, texts: Sequence[str], encode: Encode, threshold: float) -> None:
        self._texts, self._encode, self._threshold = texts, encode, threshold
        self._keys = [answer_key(text) for text in texts]
        self._vectors: dict[int, Vectors] = {}

    def alike(self, one: int, two: int) -> bool:
        if self._keys[one] == self._keys[two]:
            return True
        return float(self._vector(one) @ self._vector(two)) >= self._threshold

    def _vector(self, place: int) -> Vectors:
        if place not in self._vectors:
            self._vectors[place] = self._encode([self._texts[place]])[0]
        return self._vectors[place]


def _same(
    prompts: Vectors, answers: _Answers, rows: Sequence[int], kept: Sequence[int], threshold: float
) -> dict[int, tuple[int, float]]:
    """Of ``rows`` those that say the same as one of ``kept``: the first such one, and the cosine of the prompts."""
    found: dict[int, tuple[int, float]] = {}
    if not rows:
        return found
    mine = prompts[list(rows)]
    for start in range(0, len(kept), _KEPT):
        some = kept[start : start + _KEPT]
        cosines = mine @ prompts[list(some)].T
        for left, right in np.argwhere(cosines >= threshold).tolist():
            if rows[left] not in found and answers.alike(rows[left], some[right]):
                found[rows[left]] = (some[right], float(cosines[left, right]))
    return found


def _encoded(encode: Encode, texts: Sequence[str]) -> Vectors:
    """Unit vectors, one a text; equal texts are encoded once."""
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    unique = list(place)
    parts = [encode(unique[start : start + _TEXTS]) for start in range(0, len(unique), _TEXTS)]
    if not parts:
        return np.empty((0, 1), dtype=np.float32)
    return np.concatenate(parts)[[place[text] for text in texts]]
