"""Exposures -> a ranker and what is known of it. Deterministic: the same rows give the same files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from flywheel.config.ranker import EngagementRankerConfig
from flywheel.errors import TrainingError
from flywheel.inference.engagement_ranker import EngagementRanker, RankerSpec
from flywheel.inference.item_features import ItemFeatures, encode, learn_features
from flywheel.quality.ranker.exposures import Booleans, Exposures
from flywheel.quality.ranker.fit import Head, design, fit_head
from flywheel.records import Record
from flywheel.statistics.concordance import auc
from flywheel.statistics.examination import Examination
from flywheel.statistics.place_chances import Floats
from flywheel.text.hashing import unit_interval


class HeadReport(Record):
    """One action: how often it was seen, and whether its head tells items apart for people it never saw."""

    action: str
    value: float
    happened: int
    learnt: bool
    auc: float | None = Field(default=None, description="held-out people; None: too few of either outcome")


class TrainingReport(Record):
    """What a ranker was made of."""

    lists: int
    people: int
    rows: int
    silent: int = Field(description="lists that nothing was reported of: not learnt from")
    drawn: float = Field(description="share of the rows from lists with known chances")
    looks: list[float] = Field(description="share of looks at each place; 1: not known, or not corrected for")
    acts: float = Field(description="effective number of acts that the looks rest on")
    heads: list[HeadReport]


@dataclass(frozen=True)
class Trained:
    """A ranker, its report, and the ids of the lists behind it."""

    ranker: EngagementRanker
    report: TrainingReport
    lists: list[str]


def train_ranker(seen: Exposures, config: EngagementRankerConfig, *, seed: int = 0) -> Trained:
    """Fit a head for each action that has a value and happened often enough.

    Raises:
        TrainingError: too few lists, or no such action.
    """
    if len(seen.lists) < config.min_lists:
        raise TrainingError(_too_few(seen, config))
    places = seen.looks() if config.debias else Examination([1.0], 0.0)
    looks, weights = places.at(seen.places), seen.weights if config.debias else np.ones(len(seen.places))
    learns = [unit_interval("ranker-held-out", str(seed), person) >= config.held_out for person in seen.people]
    rows = np.array(learns, dtype=np.bool_)[seen.owner]
    learnt_from = [item for item, own in zip(seen.items, rows, strict=True) if own]
    features = learn_features(learnt_from, buckets=config.buckets, ids=config.item_ids)
    table = design(features, encode(features, seen.items))
    heads = {
        name: fit_head(
            table[rows], seen.happened(name)[rows], looks[rows], weights[rows],
            width=features.width, prior_scale=config.prior_scale,
        )
        for name in _learnable(seen, rows, config)
    }  # fmt: skip
    if not heads:
        raise TrainingError(
            f"no action with a value in quality.ranker.weights happened {config.min_actions} times; seen: "
            f"{', '.join(seen.actions) or 'none'}. Name those, or wait for more feedback."
        )
    ranker = _assembled(features, heads, seen, config)
    report = TrainingReport(
        lists=len(seen.lists), people=len(set(seen.people)), rows=len(seen.items), silent=seen.silent,
        drawn=float(seen.drawn.mean()), looks=[round(share, 4) for share in places.shares], acts=round(places.acts, 1),
        heads=_report(seen, ~rows, ranker, config),
    )  # fmt: skip
    return Trained(ranker, report, seen.lists)


def _learnable(seen: Exposures, rows: Booleans, config: EngagementRankerConfig) -> list[str]:
    """Actions with a value that happened, and did not happen, often enough."""
    count = seen.done[rows].sum(axis=0)
    return [
        name
        for name, happened in zip(seen.actions, count, strict=True)
        if config.weights.get(name) and config.min_actions <= happened <= rows.sum() - config.min_actions
    ]


def _assembled(
    features: ItemFeatures, heads: dict[str, Head], seen: Exposures, config: EngagementRankerConfig
) -> EngagementRanker:
    """The ranker with its spread measured on the lists that were seen."""
    values = [config.weights[name] for name in heads]
    spec = RankerSpec(features=features, actions=list(heads), values=values, spread=1.0)
    dense = np.column_stack([head.dense for head in heads.values()])
    hashed = np.column_stack([head.hashed for head in heads.values()])
    spread = _spread(np.array(EngagementRanker(spec, dense, hashed).scores(seen.items)), seen)
    return EngagementRanker(spec.model_copy(update={"spread": spread}), dense, hashed)


def _spread(scores: Floats, seen: Exposures) -> float:
    """Standard deviation within a list: what a policy's temperature is compared with."""
    count = np.maximum(np.bincount(seen.owner, minlength=len(seen.lists)), 1)
    mean = np.bincount(seen.owner, weights=scores, minlength=len(seen.lists)) / count
    spread = float(np.sqrt(((scores - mean[seen.owner]) ** 2).mean()))
    return spread if spread > 0 else 1.0


def _report(
    seen: Exposures, held: Booleans, ranker: EngagementRanker, config: EngagementRankerConfig
) -> list[HeadReport]:
    """What is known of each action that has a value and was seen."""
    chances = ranker.chances([item for item, own in zip(seen.items, held, strict=True) if own])
    columns = dict(zip(ranker.spec.actions, chances.T, strict=True))
    reports = []
    for name in sorted(set(config.weights) & set(seen.actions)):
        happened = seen.happened(name)
        area = auc(columns[name], happened[held]) if name in columns else None
        told = {"value": config.weights[name], "happened": int(happened.sum()), "learnt": name in columns}
        reports.append(HeadReport(action=name, auc=round(area.mean, 4) if area else None, **told))
    return reports


def _too_few(seen: Exposures, config: EngagementRankerConfig) -> str:
    text = (
        f"{len(seen.lists)} ranked lists can be learnt from; {config.min_lists} are needed (quality.ranker.min_lists)."
    )
    if seen.silent:
        text += (
            f" Nothing was reported of {seen.silent} more: send items with shown_ms with the feedback, or, if every "
            "list is on screen as a whole, set quality.ranker.exposure to all."
        )
    return text
