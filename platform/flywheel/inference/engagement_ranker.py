"""A ranker by engagement as it is served: a score an item in microseconds, without torch and without pickle.

A logistic head an action says how likely the action is once somebody looks at the item; the score is their sum, each
weighted by what the action is worth, in units of the score's usual spread within a list: a policy's temperature
means the same for every version.

Stored as two files: ``ranker.json`` (how items are read, what the heads are) and ``weights.safetensors``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from flywheel.errors import ModelError
from flywheel.inference.item_features import Floats, Item, ItemFeatures, encode
from flywheel.records import Record

SPEC: Final = "ranker.json"
WEIGHTS: Final = "weights.safetensors"


class RankerSpec(Record):
    """What the weights mean."""

    form: int = Field(default=1, ge=1, le=1, description="raise it when older code would read the file wrongly")
    features: ItemFeatures
    actions: list[str] = Field(min_length=1)
    values: list[float] = Field(description="what each action is worth")
    spread: float = Field(gt=0, description="standard deviation of the weighted sum within a list")


@dataclass(frozen=True)
class EngagementRanker:
    """Heads in memory: ``dense`` is (width + 1, actions), intercepts in the last row; ``hashed`` (buckets, actions)."""

    spec: RankerSpec
    dense: Floats
    hashed: Floats

    def chances(self, items: Sequence[Item]) -> Floats:
        """(items, actions): how likely each action is once the item is looked at."""
        seen = encode(self.spec.features, items)
        logits = seen.dense @ self.dense[:-1] + self.dense[-1]
        np.add.at(logits, seen.owner, seen.value[:, None] * self.hashed[seen.bucket])
        return 1 / (1 + np.exp(-np.clip(logits, -40, 40)))

    def scores(self, items: Sequence[Item]) -> list[float]:
        """One an item; higher is better."""
        return (self.chances(items) @ np.array(self.spec.values) / self.spec.spread).tolist()

    def files(self) -> dict[str, bytes]:
        """Name -> content; equal rankers give equal files."""
        from safetensors.numpy import save

        used = np.flatnonzero(self.hashed.any(axis=1)).astype(np.int32)
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "dense": np.ascontiguousarray(self.dense, dtype=np.float32),
            "buckets": used,
            "hashed": np.ascontiguousarray(self.hashed[used], dtype=np.float32),
        }
        return {SPEC: self.spec.model_dump_json(indent=1).encode(), WEIGHTS: save(tensors)}


def read_ranker(files: dict[str, bytes]) -> EngagementRanker:
    """A ranker from its files.

    Raises:
        ModelError: they are not what ``EngagementRanker.files`` writes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        spec = RankerSpec.model_validate_json(files[SPEC])
        tensors = load(files[WEIGHTS])
        dense, used, rows = (np.asarray(tensors[name]) for name in ("dense", "buckets", "hashed"))
        hashed = np.zeros((spec.features.buckets, len(spec.actions)))
        hashed[used] = rows
    except (KeyError, IndexError, ValueError, ValidationError, SafetensorError) as error:
        raise ModelError(
            f"these are no files of a ranker ({type(error).__name__}); train one: flywheel ranker train"
        ) from error
    wanted = (spec.features.width + 1, len(spec.actions))
    if (
        dense.shape != wanted
        or len(spec.values) != wanted[1]
        or not (np.isfinite(dense).all() and np.isfinite(hashed).all())
    ):
        raise ModelError("a ranker's weights do not fit its heads; train one anew: flywheel ranker train")
    return EngagementRanker(spec, dense.astype(np.float64), hashed)


def content_hash(files: dict[str, bytes]) -> str:
    """Identity of a ranker's files, 16 hex digits."""
    said = "\n".join(f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items()))
    return hashlib.sha256(said.encode()).hexdigest()[:16]
