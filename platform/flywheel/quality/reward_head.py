"""A Bradley-Terry head over a frozen encoder: convex, so the same pairs give the same weights; seconds on one core.

    P(a beats b | prompt) = sigmoid(w . (f(a) - f(b)))

with a ridge on w in units in which each block of features (``reward_features``) has its own scale: length is free, the
rest has to earn its weight. How many blocks, and how strong the ridge, is decided by log loss on prompts that were not
fitted, inside the training data: the loss is averaged over inner folds, and the smallest wins. Small data therefore
give a model that is little more than the length of an answer, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special  # pyright: ignore[reportMissingTypeStubs]

from flywheel.errors import ModelError
from flywheel.quality.reward_calibration import temperature
from flywheel.quality.reward_features import BUCKETS, Answers, Block, Floats
from flywheel.text.hashing import stable_hash

SCALES: Mapping[Block, float] = {"length": 3.0, "style": 0.5, "embedding": 1.0, "words": 1.0}
"""Prior spread of what a block adds to a reward, up to the ridge."""
STAGES: tuple[tuple[Block, ...], ...] = (
    ("length",), ("length", "style"), ("length", "style", "embedding"), ("length", "style", "embedding", "words"),
)  # fmt: skip
RIDGES = (1.0, 4.0, 16.0, 64.0)
INNER = 4
HEAD, HEAD_CONFIG = "head.safetensors", "reward_head.json"


@dataclass(frozen=True)
class Pairs:
    """n comparisons: places of the preferred and of the other answer among ``Answers``; -1 is the outside option."""

    chosen: npt.NDArray[np.int64]
    rejected: npt.NDArray[np.int64]
    share: Floats
    weight: Floats
    groups: list[str]
    """Prompts: pairs of one prompt are never on both sides of an inner fold."""

    def take(self, rows: npt.NDArray[np.int64]) -> Pairs:
        """Some of them."""
        groups = [self.groups[row] for row in rows]
        return Pairs(self.chosen[rows], self.rejected[rows], self.share[rows], self.weight[rows], groups)


@dataclass(frozen=True)
class Head:
    """Weights by block, and how they were found. ``bias`` is the threshold against the outside option."""

    weights: dict[str, Floats]
    bias: float
    ridge: float
    temperature: float
    looked_at: dict[str, float] = field(default_factory=dict)
    """Held-out log loss of each stage and ridge that was tried."""

    @property
    def blocks(self) -> list[str]:
        """The blocks that are used."""
        return list(self.weights)

    def rewards(self, answers: Answers) -> Floats:
        """One calibrated reward an answer."""
        total = np.full(len(answers.length), self.bias)
        for name, weight in sorted(self.weights.items()):  # a loaded file has an order of its own, and sums have one
            total = total + answers.block(name) @ weight  # pyright: ignore[reportArgumentType]
        return total / self.temperature

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Safetensors, and a JSON file that says what they belong to."""
        from safetensors.numpy import save_file

        tensors = {name: np.ascontiguousarray(weight) for name, weight in self.weights.items()}
        save_file({**tensors, "bias": np.array([self.bias])}, folder / HEAD)
        said = {"ridge": self.ridge, "temperature": self.temperature, "looked_at": self.looked_at, **about}
        (folder / HEAD_CONFIG).write_text(json.dumps(said, indent=1, sort_keys=True), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> tuple[Head, dict[str, Any]]:
        """A saved head, and what was said about it.

        Raises:
            ModelError: the folder holds none.
        """
        from safetensors.numpy import load_file

        try:
            said = json.loads((folder / HEAD_CONFIG).read_text(encoding="utf-8"))
            tensors = load_file(folder / HEAD)
            bias = float(tensors.pop("bias")[0])
            return Head(tensors, bias, said["ridge"], said["temperature"], said["looked_at"]), said
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} holds no reward head: {error}. Train the reward model again.") from error


def fit_head(answers: Answers, pairs: Pairs, *, seed: int, stages: Sequence[tuple[Block, ...]] = STAGES) -> Head:
    """Choose blocks and ridge on inner folds, fit on everything, calibrate on what the inner folds did not see."""
    inner = inner_folds(pairs.groups, seed)
    best: tuple[float, tuple[Block, ...], float, Floats] | None = None
    looked_at: dict[str, float] = {}
    for stage in stages:
        design = _Design.of(answers, pairs, stage)
        for ridge in RIDGES:
            margins = _held_out(design, inner, ridge)
            loss = float(np.average(_loss(margins, pairs.share), weights=pairs.weight))
            looked_at[f"{'+'.join(stage)} ridge {ridge:g}"] = round(loss, 5)
            if best is None or loss < best[0]:
                best = (loss, stage, ridge, margins)
            if stage == ("length",):
                break  # one number and hardly any prior: ridges do not differ
    assert best is not None
    _, stage, ridge, margins = best
    design = _Design.of(answers, pairs, stage)
    weights, bias = design.by_block(design.fit(slice(None), ridge))
    paired = (pairs.chosen >= 0) & (pairs.rejected >= 0)
    return Head(weights, bias, ridge, temperature(margins[paired], pairs.share[paired]), looked_at)


def inner_folds(groups: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """Fold of each row by its group's hash, as even as the groups allow."""
    order = sorted(set(groups), key=lambda group: (stable_hash(str(seed), group), group))
    place = {group: index % INNER for index, group in enumerate(order)}
    return np.array([place[group] for group in groups], dtype=np.int64)


def _held_out(design: _Design, inner: npt.NDArray[np.int64], ridge: float) -> Floats:
    margins = np.zeros(len(inner))
    for fold in np.unique(inner):
        margins[inner == fold] = design.margins(design.fit(inner != fold, ridge), inner == fold)
    return margins


def _loss(margins: Floats, share: Floats) -> Floats:
    return np.logaddexp(0, margins) - share * margins


@dataclass(frozen=True)
class _Design:
    """Differences of scaled features: (n, d), dense and sparse parts apart, and what undoes the scales."""

    dense: Floats
    sparse: Any
    pairs: Pairs
    columns: list[tuple[Block, npt.NDArray[Any]]]
    """Of dense blocks the scales, of words the columns that are used."""

    @staticmethod
    def of(answers: Answers, pairs: Pairs, stage: Sequence[Block]) -> _Design:
        dense, columns, sparse = [], [], None
        for name in stage:
            block = answers.block(name)
            differences = _rows(block, pairs.chosen) - _rows(block, pairs.rejected)
            if name == "words":
                sparse = (differences * SCALES[name]).tocsc()
                told = np.flatnonzero(np.diff(sparse.indptr) >= 2)  # one pair alone says nothing about a word
                sparse = sparse[:, told].tocsr()
                columns.append((name, told))
                continue
            spread = block.std(axis=0) if name == "style" else np.ones(block.shape[1])
            scale = SCALES[name] * np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-9)
            dense.append(differences * scale)
            columns.append((name, scale))
        outside = (pairs.chosen >= 0).astype(np.float64) - (pairs.rejected >= 0)
        dense.append(10 * outside[:, None])  # hardly any prior on the threshold; 0 for every pair of two answers
        return _Design(np.hstack(dense), sparse, pairs, columns)

    def margins(self, weights: Floats, rows: Any) -> Floats:
        wide = self.dense.shape[1]
        found = self.dense[rows] @ weights[:wide]
        return found if self.sparse is None else found + self.sparse[rows] @ weights[wide:]

    def fit(self, rows: Any, ridge: float) -> Floats:
        """Weights in scaled units; the objective is strictly convex, so the start does not matter."""
        dense, share, weight = self.dense[rows], self.pairs.share[rows], self.pairs.weight[rows]
        sparse = None if self.sparse is None else self.sparse[rows]
        wide = dense.shape[1]

        def objective(at: Floats) -> tuple[float, Floats]:
            margins = dense @ at[:wide] + (0 if sparse is None else sparse @ at[wide:])
            slope = weight * (special.expit(margins) - share)
            parts = [dense.T @ slope] + ([] if sparse is None else [sparse.T @ slope])
            value = float(weight @ _loss(margins, share)) + ridge * float(at @ at) / 2
            return value, np.concatenate(parts) + ridge * at

        size = wide + (0 if self.sparse is None else self.sparse.shape[1])
        found: Any = optimize.minimize(
            objective, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-5}
        )
        return np.asarray(found.x, dtype=np.float64)

    def by_block(self, weights: Floats) -> tuple[dict[str, Floats], float]:
        """Weights in the units of the features, and the threshold."""
        found: dict[str, Floats] = {}
        wide, place = self.dense.shape[1], 0
        for name, scale in self.columns:
            if name == "words":
                found[name] = np.zeros(BUCKETS)
                found[name][scale.astype(np.int64)] = weights[wide:] * SCALES[name]
            else:
                found[name] = weights[place : place + scale.size] * scale
                place += scale.size
        return found, float(10 * weights[wide - 1])


def _rows(block: Any, places: npt.NDArray[np.int64]) -> Any:
    """Rows of a block; zeros for the outside option."""
    keep = (places >= 0).astype(np.float64)
    picked = block[np.maximum(places, 0)]
    if isinstance(block, np.ndarray):
        return picked * keep[:, None]
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

    return sparse.diags(keep) @ picked
