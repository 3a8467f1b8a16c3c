"""Simulated traffic with logged chances, for which the true value of a target policy is known exactly.

Contexts are few and known, so truth is a sum over contexts and choices (or all lists), and no simulation. Users differ:
half are hard to please (they are pleased half as often) and use the product less, so rows of a user depend on each
other and the number of rows tells something about them. A policy is worth its mean over rows, as in real traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from flywheel.statistics.offpolicy import Decisions, moments
from flywheel.statistics.offpolicy_lists import Lists
from flywheel.statistics.offpolicy_model import cross_fitted
from flywheel.statistics.offpolicy_places import place_chances
from flywheel.statistics.offpolicy_policies import choice_chances, draw_orders, prefix_log_chances
from flywheel.statistics.policies import Policy

Floats = npt.NDArray[np.float64]
PLEASED = np.array([1.0, 0.5])
"""What an outcome's chance is multiplied by, for easy and hard users."""
SIZES = np.array([4.0, 2.0])
"""Mean rows of an easy and a hard user, 1 or more."""
FACTOR = float((PLEASED * SIZES).sum() / SIZES.sum())
"""Mean of the multiplier over rows."""


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def users(count: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.intp], Floats]:
    """Unit and multiplier of each row, for ``count`` users."""
    hard = rng.random(count) < 0.5
    rows = 1 + rng.poisson(SIZES[hard.astype(int)] - 1)
    return np.repeat(np.arange(count), rows), np.repeat(PLEASED[hard.astype(int)], rows)


@dataclass(frozen=True)
class Choices:
    """Best of n: a softmax over the scores of one ranker is logged, the target uses another ranker's or another policy.

    Attributes:
        name: of the world.
        users: independent units.
        logged: policy that served.
        target: policy that is asked about.
        skill: how much the target's ranker knows of quality; the logged one's knows 0.5.
        base: log-odds of an outcome of middling quality.
        claimed: policy that the rows claim; default: the true one.
        poor: whether the overlap is too poor on purpose.
    """

    name: str
    users: int
    logged: Policy
    target: Policy
    skill: float = 0.5
    base: float = 0.0
    claimed: Policy | None = None
    poor: bool = False
    candidates: int = 4
    contexts: int = 400

    @cached_property
    def tables(self) -> tuple[Floats, Floats, Floats]:
        """(contexts, candidates) each: the logged ranker's scores, the target's, chance of an outcome."""
        rng = np.random.default_rng(7)
        quality, one, other = rng.standard_normal((3, self.contexts, self.candidates))
        mine = 0.5 * quality + 0.87 * one
        theirs = mine if self.skill == 0.5 else self.skill * quality + np.sqrt(1 - self.skill**2) * other
        return mine, theirs, sigmoid(self.base + quality)

    @cached_property
    def truth(self) -> tuple[float, float]:
        """Value of the target, and its gain over what served."""
        mine, theirs, pleased = self.tables
        values = [
            float((choice_chances(scores, policy) * pleased).sum(axis=1).mean()) * FACTOR
            for scores, policy in ((theirs, self.target), (mine, self.logged))
        ]
        return values[0], values[0] - values[1]

    def draw(self, rng: np.random.Generator) -> Decisions:
        """One log, with a cross-fitted reward model on both rankers' scores."""
        mine, theirs, pleased = self.tables
        units, factor = users(self.users, rng)
        context = rng.integers(self.contexts, size=units.size)
        chances = choice_chances(mine, self.logged)[context]
        served = (rng.random((units.size, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=self.candidates - 1)
        row = np.arange(units.size)
        rewards = (rng.random(units.size) < pleased[context, served] * factor).astype(np.float64)
        logged = chances if self.claimed is None else choice_chances(mine, self.claimed)[context]
        target = choice_chances(theirs, self.target)[context]
        ratio = np.divide(target, logged, out=np.zeros_like(target), where=logged > 0)
        features = np.stack([mine, theirs, mine - mine.max(axis=1, keepdims=True)], axis=2)[context]
        predicted = cross_fitted(features[row, served], rewards, features, units=units)
        return Decisions(
            weights=ratio[row, served],
            rewards=rewards,
            units=units,
            served=predicted[row, served],
            expected=(predicted * target).sum(axis=1),
            moments=moments(target, logged),
            unsupported=np.where(logged > 0, 0.0, target).sum(axis=1),
        )


@dataclass(frozen=True)
class Canaries:
    """Users are drawn to a canary once and for all; the target is to answer everybody with it."""

    name: str
    users: int
    share: float
    pleased: tuple[float, float] = (0.5, 0.6)
    poor: bool = False

    @cached_property
    def truth(self) -> tuple[float, float]:
        """Value of the canary for everybody, and its gain over the split that served."""
        live, canary = self.pleased
        return canary * FACTOR, (canary - live) * (1 - self.share) * FACTOR

    def draw(self, rng: np.random.Generator) -> Decisions:
        """One log; the model knows the mean outcome of each variant."""
        units, factor = users(self.users, rng)
        assigned = (rng.random(self.users) < self.share)[units].astype(int)
        rewards = (rng.random(units.size) < np.array(self.pleased)[assigned] * factor).astype(np.float64)
        wanted = np.repeat(np.array([[[0.0], [1.0]]]), units.size, axis=0)
        predicted = cross_fitted(assigned[:, None].astype(np.float64), rewards, wanted, units=units)
        return Decisions(
            weights=assigned / self.share,
            rewards=rewards,
            units=units,
            served=predicted[np.arange(units.size), assigned],
            expected=predicted[:, 1],
            moments=(np.full(units.size, 1 / self.share), np.full(units.size, 1 / self.share**2)),
        )


@dataclass(frozen=True)
class Rankings:
    """Lists by Plackett-Luce. ``browsing``: how an outcome comes about.

    pbm: places are looked at with a chance of their own. cascade: users look from the top, and whoever did something
    with an item goes on with a chance of 0.4 only.
    """

    name: str
    users: int
    browsing: Literal["pbm", "cascade"]
    logged: Policy
    target: Policy
    skill: float = 0.8
    items: int = 6
    places: int = 4
    contexts: int = 40
    poor: bool = False

    looked_at = 1 / np.arange(1, 9) ** 0.8
    onwards = 0.4

    @cached_property
    def tables(self) -> tuple[Floats, Floats, Floats]:
        """(contexts, items) each: the logged ranker's scores, the target's, how much the item is liked."""
        rng = np.random.default_rng(11)
        quality, one, other = rng.standard_normal((3, self.contexts, self.items))
        mine = 0.5 * quality + 0.87 * one
        return mine, self.skill * quality + np.sqrt(1 - self.skill**2) * other, sigmoid(quality - 1)

    @cached_property
    def orders(self) -> npt.NDArray[np.intp]:
        """Every list there can be."""
        return np.array(list(permutations(range(self.items), self.places)), dtype=np.intp)

    @cached_property
    def truth(self) -> tuple[float, float]:
        """Mean outcomes of a list under the target, and the gain over what served."""
        mine, theirs, _ = self.tables
        values = [self._value(scores, policy) for scores, policy in ((theirs, self.target), (mine, self.logged))]
        return values[0], values[0] - values[1]

    def _value(self, scores: Floats, policy: Policy) -> float:
        """Over all contexts, users and lists."""
        total = 0.0
        orders = self.orders
        for context in range(self.contexts):
            chances = np.exp(
                prefix_log_chances(np.repeat(scores[context][None], len(orders), axis=0), policy, orders)[:, -1]
            )
            for factor, size in zip(PLEASED, SIZES, strict=True):
                each = self._expected(self.tables[2][context][orders] * factor)
                total += float(chances @ each) * size
        return total / SIZES.sum() / self.contexts

    def _expected(self, liked: Floats) -> Floats:
        """Mean outcomes of lists whose items are liked that much: (lists, places) -> (lists,)."""
        if self.browsing == "pbm":
            return (liked * self.looked_at[: self.places]).sum(axis=1)
        reached = np.cumprod(np.column_stack([np.ones(len(liked)), 1 - (1 - self.onwards) * liked[:, :-1]]), axis=1)
        return (reached * liked).sum(axis=1)

    def draw(self, rng: np.random.Generator) -> Lists:
        """One log."""
        mine, theirs, quality = self.tables
        units, factor = users(self.users, rng)
        context = rng.integers(self.contexts, size=units.size)
        explores = rng.random((units.size, 1)) < self.logged.epsilon
        utility = np.where(explores, 0.0, mine[context] / max(self.logged.temperature, 1e-9))
        order = np.argsort(-(utility + rng.gumbel(size=utility.shape)), axis=1)[:, : self.places]
        liked = quality[context[:, None], order] * factor[:, None]
        shown = np.ones(order.shape, dtype=np.bool_)
        drawn = draw_orders(theirs[context], self.target, shown, rng)
        return Lists(
            rewards=self._reacted(liked, rng),
            logged=prefix_log_chances(mine[context], self.logged, order),
            target=prefix_log_chances(theirs[context], self.target, order),
            shown=shown,
            units=units,
            drawn=prefix_log_chances(theirs[context], self.target, drawn)
            - prefix_log_chances(mine[context], self.logged, drawn),
            logged_places=self._places(mine, self.logged, context, order),
            target_places=self._places(theirs, self.target, context, order),
        )

    def _places(
        self, scores: Floats, policy: Policy, context: npt.NDArray[np.intp], order: npt.NDArray[np.intp]
    ) -> Floats:
        """``place_chances`` looked up: contexts are few, so each table is made once."""
        table = self._tables_of_places[scores.tobytes(), policy] if self._known(scores, policy) else None
        if table is None:
            every = np.repeat(np.arange(self.items)[None], self.contexts, axis=0)
            table = place_chances(scores, policy, every)[:, :, : self.places]
            self._tables_of_places[scores.tobytes(), policy] = table
        return table[context[:, None], order]

    @cached_property
    def _tables_of_places(self) -> dict[tuple[bytes, Policy], Floats]:
        return {}

    def _known(self, scores: Floats, policy: Policy) -> bool:
        return (scores.tobytes(), policy) in self._tables_of_places

    def _reacted(self, liked: Floats, rng: np.random.Generator) -> Floats:
        would = rng.random(liked.shape) < liked
        if self.browsing == "pbm":
            return (would & (rng.random(liked.shape) < self.looked_at[: self.places])).astype(np.float64)
        goes_on = rng.random(liked.shape) < self.onwards
        stops = would & ~goes_on
        reached = np.column_stack([np.zeros(len(liked), dtype=int), stops[:, :-1]]).cumsum(axis=1) == 0
        return (would & reached).astype(np.float64)


SOFT, SHARP = Policy(1.0, 0.05), Policy(0.3, 0.05)
WORLDS: tuple[Choices | Canaries | Rankings, ...] = (
    Choices("best of 4, sharper", 400, SOFT, SHARP),
    Choices("best of 4, greedy", 400, SOFT, Policy(0.0)),
    Choices("best of 4, another ranker", 400, Policy(0.5, 0.1), Policy(0.3, 0.05), skill=0.9),
    Choices("best of 4, few users", 120, SOFT, SHARP),
    Choices("best of 4, rare outcomes", 1_500, SOFT, SHARP, base=-4.5),
    Choices("best of 8, another ranker", 1_500, Policy(0.5, 0.2), Policy(0.0), skill=0.9, candidates=8),
    Canaries("canary of 25 %", 400, 0.25),
    Canaries("canary of 5 %", 3_000, 0.05, (0.5, 0.45)),
    Rankings("lists, looked at by place", 800, "pbm", Policy(1.0, 0.3), Policy(0.8, 0.2), places=3),
    Rankings("lists, looked at from the top", 800, "cascade", Policy(1.0, 0.3), Policy(0.8, 0.2), places=3),
    Rankings("lists, close to what served", 800, "cascade", Policy(1.0, 0.1), Policy(0.8, 0.1), skill=0.5, places=2),
)
"""Where an honest interval is possible."""
POOR: tuple[Choices | Canaries | Rankings, ...] = (
    Choices("best of 4, opposite ranker", 400, Policy(0.2, 0.002), Policy(0.0), skill=-0.9, poor=True),
    Choices("best of 4, nothing was explored", 400, Policy(0.0), Policy(1.0), poor=True),
    Choices("best of 4, half unexplored", 2_000, Policy(0.0), Policy(0.0), skill=0.9, poor=True),
    Choices("best of 4, wrong chances", 400, Policy(0.3, 0.0), Policy(0.3, 0.05), claimed=Policy(0.0, 0.9), poor=True),
    Choices("best of 4, no outcomes", 400, SOFT, SHARP, base=-9.0, poor=True),
    Canaries("canary of 0.5 %", 600, 0.005, poor=True),
    Rankings("lists, far away", 200, "cascade", Policy(0.3, 0.002), Policy(0.1), skill=-0.9, places=6, poor=True),
)
"""Where there is none, and an estimate must be refused."""
