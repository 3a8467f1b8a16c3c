"""Strengths of models from comparisons two by two, with ties and the habits of annotators.

Strengths are log-odds: among comparisons without a tie, a model that is stronger by d wins with odds e^d. Bradley and
Terry, "Rank analysis of incomplete block designs", Biometrika 39 (1952). Added to it, for a vote on models i (shown
first) and j (shown second) by annotator k:

    P(i) : P(tie) : P(j)  =  exp(s_i) : exp(t + (s_i + s_j) / 2) : exp(s_j - f_k)

t is the readiness to call a tie: Davidson, "On extending the Bradley-Terry model to accommodate ties", JASA 65
(1970). f_k is the preference of annotator k for whatever is shown first: Davidson and Beaver, "On extending the
Bradley-Terry model to incorporate within-pair order effects", Biometrics 33 (1977), here one effect an annotator. All
terms are linear in the parameters, so the likelihood has one maximum.

Normal priors keep the answer finite where somebody won every comparison: so weak for strengths that they vanish
beside a handful of mixed votes, and of one unit for f_k, as most annotators give few votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from scipy import optimize, special, stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.units import Floats

_STRENGTH_SD = 10.0
_FIRST_SD = 1.0
_OUTCOMES = ("first", "second", "tie")


@dataclass(frozen=True, slots=True)
class Vote:
    """One comparison, in the order in which it was shown."""

    first: str
    second: str
    preferred: Literal["first", "second", "tie"]
    annotator: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """A parameter in log-odds with its Wald interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Annotator:
    """``shown_first``: preference for the first answer. ``log_loss``: surprise of the votes, in nats a vote.

    Somebody who votes at random has a log loss near log 3 (log 2 where nobody calls ties), or above.
    """

    votes: int
    shown_first: Effect
    log_loss: float


@dataclass(frozen=True)
class Ranking:
    """``strengths``: the strongest first, relative to the mean model. ``tie``: t, None where nobody called one."""

    strengths: dict[str, Effect]
    tie: float | None
    annotators: dict[str, Annotator]
    influence: Floats
    """(votes, models in the order of ``strengths``): change of each strength if that one vote had not been given."""
    _covariance: Floats
    _quantile: float

    def difference(self, stronger: str, weaker: str) -> Effect:
        """``stronger`` minus ``weaker``; its interval is not that of the two strengths, which move together."""
        names = list(self.strengths)
        a, b = names.index(stronger), names.index(weaker)
        value = self.strengths[stronger].value - self.strengths[weaker].value
        variance = self._covariance[a, a] + self._covariance[b, b] - 2 * self._covariance[a, b]
        return _effect(value, variance, self._quantile)


def rank(votes: Sequence[Vote], *, confidence: float = 0.95, order_effects: bool = True) -> Ranking:
    """Fit by maximum posterior.

    Args:
        votes: of people or of judges.
        confidence: of the intervals, in (0, 1).
        order_effects: estimate a preference for the first answer for each annotator.

    Raises:
        ValueError: no votes, a model compared with itself, or a confidence out of range.
    """
    if not votes:
        raise ValueError("no votes: a ranking needs comparisons")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must be inside (0, 1)")
    likelihood = _Likelihood(votes, order_effects=order_effects)
    at = likelihood.maximum()
    covariance: Floats = np.linalg.inv(likelihood.hessian(at)).astype(np.float64)
    quantile = float(cast("Any", stats).norm.ppf((1 + confidence) / 2))
    n = len(likelihood.models)
    order = np.argsort(-at[:n], kind="stable")
    losses = likelihood.losses(at)

    def effect(parameter: int) -> Effect:
        return _effect(at[parameter], covariance[parameter, parameter], quantile)

    def annotator(name: str) -> Annotator:
        own = likelihood.annotator == likelihood.annotators.index(name)
        first = effect(n + likelihood.annotators.index(name)) if order_effects else Effect(0.0, 0.0, 0.0)
        return Annotator(int(own.sum()), first, float(losses[own].mean()))

    return Ranking(
        strengths={likelihood.models[i]: effect(i) for i in order},
        tie=float(at[-1]) if likelihood.ties else None,
        annotators={name: annotator(name) for name in likelihood.annotators},
        influence=likelihood.left_out(at, covariance)[:, order],
        _covariance=covariance[np.ix_(order, order)],
        _quantile=quantile,
    )


def _effect(value: float, variance: float, quantile: float) -> Effect:
    spread = quantile * float(np.sqrt(variance))
    return Effect(float(value), float(value) - spread, float(value) + spread)


class _Likelihood:
    """Multinomial logit over votes; equal votes are computed once.

    Parameters: a strength a model, a preference for the first answer an annotator, and t where there are ties.
    """

    def __init__(self, votes: Sequence[Vote], *, order_effects: bool) -> None:
        self.models = sorted({name for vote in votes for name in (vote.first, vote.second)})
        self.annotators = sorted({vote.annotator for vote in votes})
        self.ties = any(vote.preferred == "tie" for vote in votes)
        model = {name: i for i, name in enumerate(self.models)}
        person = {name: i for i, name in enumerate(self.annotators)}
        for vote in votes:
            if vote.first == vote.second:
                raise ValueError(f"a vote compares {vote.first!r} with itself")
        self.annotator = np.array([person[vote.annotator] for vote in votes])
        coded = [
            (model[vote.first], model[vote.second], person[vote.annotator], _OUTCOMES.index(vote.preferred))
            for vote in votes
        ]
        kinds, self._kind, self._counts = np.unique(coded, axis=0, return_inverse=True, return_counts=True)
        first, second, by, self._chosen = kinds.T
        effects = len(self.annotators) if order_effects else 0
        size = len(self.models) + effects + self.ties
        row = np.arange(len(kinds))
        # What a parameter adds to the utility of an outcome: (kinds, outcomes, parameters).
        features = np.zeros((len(kinds), 3 if self.ties else 2, size))
        features[row, 0, first] = 1
        features[row, 1, second] = 1
        if order_effects:
            features[row, 1, len(self.models) + by] = -1
        if self.ties:
            features[row, 2, first] = features[row, 2, second] = 0.5
            features[:, 2, -1] = 1
        self._features = features
        self._precision = np.full(size, 1 / _STRENGTH_SD**2)
        self._precision[len(self.models) : len(self.models) + effects] = 1 / _FIRST_SD**2

    def maximum(self) -> Floats:
        """Parameters of the largest posterior density."""
        found = cast("Any", optimize).minimize(
            self._objective,
            np.zeros(self._precision.size),
            jac=self._gradient,
            hess=self.hessian,
            method="trust-exact",
            options={"gtol": 1e-9 * self._counts.sum(), "maxiter": 1_000},
        )
        return np.asarray(found.x, dtype=np.float64)

    def losses(self, at: Floats) -> Floats:
        """Minus the log probability of each vote."""
        return -self._log_chances(at)[np.arange(self._chosen.size), self._chosen][self._kind]

    def hessian(self, at: Floats) -> Floats:
        """Information of all votes and of the priors."""
        rows = (np.sqrt(self._counts)[:, None, None] * self._roots(at)).reshape(-1, at.size)
        return rows.T @ rows + np.diag(self._precision)

    def left_out(self, at: Floats, covariance: Floats) -> Floats:
        """(votes, models): one Newton step from the maximum after leaving the vote out.

        Pregibon, "Logistic regression diagnostics", Annals of Statistics 9 (1981); the information without
        the vote is inverted by the Woodbury identity.
        """
        roots = self._roots(at)
        spread = roots @ covariance
        step = self._scores(at) @ covariance
        inner = np.eye(roots.shape[1]) - spread @ roots.transpose(0, 2, 1)
        missing = np.linalg.solve(inner, roots @ step[:, :, None])
        shift = -(step + (spread * missing).sum(axis=1))
        return shift[self._kind, : len(self.models)]

    def _log_chances(self, at: Floats) -> Floats:
        utility = self._features @ at
        return utility - cast("Any", special).logsumexp(utility, axis=1, keepdims=True)

    def _centred(self, at: Floats) -> tuple[Floats, Floats]:
        """Chances (kinds, outcomes), and the features minus their mean under these chances."""
        chances = np.exp(self._log_chances(at))
        return chances, self._features - np.einsum("ko,kop->kp", chances, self._features)[:, None, :]

    def _scores(self, at: Floats) -> Floats:
        """(kinds, parameters): gradient of the log probability of one vote of a kind."""
        return self._centred(at)[1][np.arange(self._chosen.size), self._chosen]

    def _roots(self, at: Floats) -> Floats:
        """(kinds, outcomes, parameters): R with R'R the information of one vote of a kind."""
        chances, centred = self._centred(at)
        return np.sqrt(chances)[:, :, None] * centred

    def _objective(self, at: Floats) -> float:
        log_chance = self._log_chances(at)[np.arange(self._chosen.size), self._chosen]
        return float(-self._counts @ log_chance + 0.5 * self._precision @ at**2)

    def _gradient(self, at: Floats) -> Floats:
        return -self._counts @ self._scores(at) + self._precision * at
