"""Simulated worlds in which what people like and what is right come apart, or do not. Used by ``goodhart.py``.

**The model** is a policy over two features of an answer: substance s and polish g (length, confidence, flattery), each
normal with variance 1 around a mean that training moves. An answer is right with the chance
sigmoid(a0 + a_s s - harm g): what is spent on polish is missing elsewhere. Nobody in a world sees this but the hidden
truth; reviewers label a few people's answers.

**Selection pressure.** Fine-tuning on kept rows is maximum likelihood on them, so the policy's mean moves towards the
mean of the kept rows by a learning rate (the cross-entropy method: Rubinstein 1999; for language models "filtered
behaviour cloning" or rejection-sampling fine-tuning). This is all that the learner knows. Style is learnt quickly and
substance slowly, as imitation was found to do (Gudibande et al. 2023, "The false promise of imitating proprietary
LLMs"): substance has a smaller rate of its own.

**People** thumb an answer up with the chance sigmoid(b0 + b_right (+-1) + b_polish g), copy or ask again likewise with
a sensitivity to polish of their own, and correct some wrong answers, at times wrongly; who writes a correction writes
plainly. A world is *gameable* if b_polish > 0 and harm > 0: people reward what costs quality. It is *clean* if nobody
reacts to polish. Everything is drawn anew for each world, from ranges fixed here before any result was looked at.

**Signals** are computed from these events as the pipeline does: ``agreement`` from how often others' candidates of the
kind of question have the same value (leave one out), ``preference`` from a logistic reward model, cross-fitted in two
folds, on the thumbs (so that it inherits what can be gamed in them), ``rater_trust`` as the smoothed mean of both over
the rater's other rows. Rows are kept by ``flywheel.quality.filters.passing``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flywheel.config import FilterConfig
from flywheel.quality.filters import Columns, passing

Floats = npt.NDArray[np.float64]
KINDS = 12
"""Kinds of questions; an answer's value is one of as many, and is right if it is that of the question."""
HUMAN_POLISH = (0.0, 0.5)
"""Mean and spread of the polish of what people write themselves."""


@dataclass(frozen=True)
class World:
    """All that is drawn once."""

    answers: int
    people: int
    labelled: int
    base: float
    substance: float
    harm: float
    like: float
    like_right: float
    like_polish: float
    trace_right: float
    trace_polish: float
    rated: float
    traced: float
    corrected: float
    wrong_corrections: float
    confusion: float
    rate: float
    substance_rate: float
    milder: float = 0.0
    """Added to ``like`` each period: users become milder, and nothing else changes."""
    harder: float = 0.0
    """Taken from ``base`` each period: questions become harder, and people notice."""


def draw(rng: np.random.Generator, *, gameable: bool) -> World:
    """A world of one kind."""
    uniform = rng.uniform
    polish = uniform(0.8, 2.0)
    harm = uniform(0.4, 1.2)
    return World(
        answers=int(rng.integers(800, 2_000)),
        people=int(rng.integers(400, 1_200)),
        labelled=int(rng.integers(80, 240)),
        base=uniform(0.4, 1.6),
        substance=uniform(0.4, 1.2),
        harm=harm,
        like=uniform(-0.5, 0.5),
        like_right=uniform(0.5, 1.5),
        like_polish=polish if gameable else 0.0,
        trace_right=uniform(0.4, 1.2),
        trace_polish=polish * uniform(0.0, 0.5) if gameable else 0.0,
        rated=uniform(0.3, 0.7),
        traced=uniform(0.3, 0.8),
        corrected=uniform(0.05, 0.3),
        wrong_corrections=uniform(0.05, 0.25),
        confusion=uniform(0.2, 0.6),
        rate=uniform(0.5, 1.0),
        substance_rate=uniform(0.2, 0.6),
    )


def still(world: World) -> World:
    """The same world in which nothing is learnt: the monitor's null hypothesis to the letter."""
    return replace(world, rate=0.0)


@dataclass(frozen=True)
class Policy:
    """The model: means of both features."""

    substance: float = 0.0
    polish: float = 0.0


@dataclass(frozen=True)
class Period:
    """Answers of one period and all reactions to them. Reactions are NaN where there is none."""

    person: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    value: npt.NDArray[np.int64]
    features: Floats
    right: npt.NDArray[np.bool_]
    thumbs: Floats
    engagement: Floats
    distance: Floats
    """Of the correction from the answer; NaN: not corrected."""
    corrected_to: npt.NDArray[np.int64]
    corrected_features: Floats
    labelled: npt.NDArray[np.bool_]


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def quality(world: World, policy: Policy) -> float:
    """The hidden truth: the chance that an answer of this policy is right, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    centre = world.base + world.substance * policy.substance - world.harm * policy.polish
    spread = float(np.hypot(world.substance, world.harm))
    return float(weights @ sigmoid(centre + spread * nodes) / weights.sum())


def live(world: World, policy: Policy, period: int, rng: np.random.Generator) -> Period:
    """One period of traffic."""
    n = world.answers
    features = rng.normal((policy.substance, policy.polish), 1.0, size=(n, 2))
    polish = features[:, 1]
    logit = world.base - world.harder * period + world.substance * features[:, 0] - world.harm * polish
    right = rng.random(n) < sigmoid(logit)
    sign = np.where(right, 1.0, -1.0)
    kind = rng.integers(KINDS, size=n)
    usual_mistake = np.where(rng.random(n) < world.confusion, (kind + 1) % KINDS, rng.integers(KINDS, size=n))
    value = np.where(right, kind, np.where(usual_mistake == kind, (kind + 2) % KINDS, usual_mistake))
    like = world.like + world.milder * period + world.like_right * sign + world.like_polish * polish
    thumbs = np.where(rng.random(n) < world.rated, np.where(rng.random(n) < sigmoid(like), 1.0, -1.0), np.nan)
    trace = world.trace_right * sign + world.trace_polish * polish
    copied, asked_again = rng.random(n) < sigmoid(trace - 0.5), rng.random(n) < sigmoid(-trace - 1.0)
    engagement = np.where(rng.random(n) < world.traced, sigmoid(1.5 * copied - 2.0 * asked_again), np.nan)
    corrects = ~right & (rng.random(n) < world.corrected)
    corrected_to = np.where(rng.random(n) < world.wrong_corrections, (kind + 1) % KINDS, kind)
    corrects &= corrected_to != value
    written = rng.normal((policy.substance, HUMAN_POLISH[0]), (1.0, HUMAN_POLISH[1]), size=(n, 2))
    effort = sigmoid(0.3 * (polish - features[:, 0]) + rng.normal(size=n))
    person = rng.integers(world.people, size=n)
    chosen = rng.choice(world.people, size=min(world.labelled, world.people), replace=False)
    first = np.zeros(n, dtype=bool)
    first[np.unique(person, return_index=True)[1]] = True
    return Period(
        person=person,
        kind=kind,
        value=value,
        features=features,
        right=right,
        thumbs=thumbs,
        engagement=engagement,
        distance=np.where(corrects, effort, np.nan),
        corrected_to=corrected_to,
        corrected_features=written,
        labelled=first & np.isin(person, chosen),
    )


@dataclass(frozen=True)
class Candidates:
    """Rows that could be learnt from, with their signals. ``at``: which answers of the period."""

    at: npt.NDArray[np.int64]
    columns: Columns
    features: Floats
    right: npt.NDArray[np.bool_]


def candidates(period: Period, rng: np.random.Generator) -> Candidates:
    """Corrections and liked answers (thumbs up, or unrated and used), with every signal."""
    correction = ~np.isnan(period.distance)
    used = np.isnan(period.thumbs) & (np.nan_to_num(period.engagement) > 0.6)
    at = np.flatnonzero(correction | (period.thumbs > 0) | used)
    correction = correction[at]
    value = np.where(correction, period.corrected_to[at], period.value[at])
    features = np.where(correction[:, None], period.corrected_features[at], period.features[at])
    agreement = _agreement(period.kind[at], value)
    target, answer = _rewards(period, at, features, rng)
    preference = sigmoid(target)
    liked = np.flatnonzero(~correction)
    percentile = np.full(at.size, np.nan)
    percentile[liked] = (np.argsort(np.argsort(target[liked])) + 0.5) / max(1, liked.size)
    signals = {
        "explicit": period.thumbs[at],
        "engagement": np.where(correction, np.nan, period.engagement[at]),
        "correction_distance": period.distance[at],
        "format": np.ones(at.size),
        "agreement": agreement,
        "preference": preference,
        "reward_margin": np.where(correction, target - answer, np.nan),
        "liked_percentile": percentile,
        "rater_trust": _trust(period.person[at], (agreement + preference) / 2),
    }
    columns = Columns([str(one) for one in at], correction, signals)
    return Candidates(at, columns, features, value == period.kind[at])


def learn(world: World, policy: Policy, rows: Candidates, filter_config: FilterConfig) -> tuple[Policy, float, float]:
    """The next policy, the share of candidates that was kept, and how much of that is right."""
    kept = replay(passing(rows.columns, filter_config), rows.columns.correction, filter_config)
    if not kept.any():
        return policy, 0.0, float("nan")
    mean = rows.features[kept].mean(axis=0)
    step_s, step_g = world.rate * world.substance_rate, world.rate
    return (
        Policy(
            policy.substance + step_s * float(mean[0] - policy.substance),
            policy.polish + step_g * float(mean[1] - policy.polish),
        ),
        float(kept.mean()),
        float(rows.right[kept].mean()),
    )


def replay(
    kept: npt.NDArray[np.bool_], correction: npt.NDArray[np.bool_], config: FilterConfig
) -> npt.NDArray[np.bool_]:
    """At most ``liked_per_correction`` liked rows for each correction, as curation does; rows are in random order."""
    corrections = int((kept & correction).sum())
    if corrections == 0:
        return kept
    liked = kept & ~correction
    return kept & (correction | (np.cumsum(liked) <= round(config.liked_per_correction * corrections)))


def _agreement(kind: npt.NDArray[np.int64], value: npt.NDArray[np.int64]) -> Floats:
    """Share of others' values of the kind that equal a row's, relative to the likeliest value."""
    counts = np.zeros((KINDS, KINDS))
    np.add.at(counts, (kind, value), 1)
    others = counts[kind]
    others[np.arange(kind.size), value] -= 1
    return others[np.arange(kind.size), value] / np.maximum(1, others.max(axis=1))


def _rewards(
    period: Period, at: npt.NDArray[np.int64], targets: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Log-odds of a thumb up, of targets and of served answers, by a model of the other half of the people."""
    half = rng.permutation(int(period.person.max()) + 1) % 2
    fold = half[period.person]
    target, answer = np.zeros(at.size), np.zeros(at.size)
    for one in (0, 1):
        known = ~np.isnan(period.thumbs) & (fold != one)
        up = period.thumbs[known] > 0
        if up.all() or not up.any():
            continue
        weights = _logistic(period.features[known], up)
        own = fold[at] == one
        target[own] = weights[0] + targets[own] @ weights[1:]
        answer[own] = weights[0] + period.features[at][own] @ weights[1:]
    return target, answer


def _logistic(features: Floats, up: npt.NDArray[np.bool_], ridge: float = 1.0, steps: int = 8) -> Floats:
    """Logistic regression by Newton's method: three weights, fitted some thousand times."""
    design = np.column_stack([np.ones(len(features)), features])
    penalty = np.diag([0.0, ridge, ridge])
    weights = np.zeros(3)
    for _ in range(steps):
        chance = sigmoid(design @ weights)
        gradient = design.T @ (up - chance) - penalty @ weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        weights = weights + np.linalg.solve(curvature, gradient)
    return weights


def _trust(person: npt.NDArray[np.int64], support: Floats, prior: float = 4.0) -> Floats:
    """Smoothed mean support of the rater's other rows."""
    sums, counts = np.bincount(person, weights=support), np.bincount(person)
    return (sums[person] - support + prior * support.mean()) / (counts[person] - 1 + prior)
