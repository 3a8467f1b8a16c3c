"""Two models on the same cases: paired gain with its interval, exact McNemar, what was fixed and what broke. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.config import EvaluationConfig
from flywheel.inference.generate import REFUSED
from flywheel.records import EvalResult
from flywheel.statistics.bootstrap import Estimate, paired_difference
from flywheel.statistics.mcnemar import exact_p

_Key = tuple[str, int]


@dataclass(frozen=True)
class SliceComparison:
    """One group of cases: how many, and the share right before and after."""

    n: int
    before: float
    after: float


@dataclass(frozen=True)
class SuiteComparison:
    """One suite on both models, over the cases that both have.

    ``gain`` is after minus before in accuracy, in [-1, 1]. ``unpaired`` cases have a result of one model
    only and enter nothing. ``failed`` ones, where a machine could not get an answer, are among the ``n`` as the worst
    case for the candidate: wrong where it is its answer that is missing, right where it is the model's to beat.
    """

    suite: str
    n: int
    before: float
    after: float
    gain: Estimate
    p_value: float
    fixed: list[str]
    newly_broken: list[str]
    slices: dict[str, SliceComparison]
    unpaired: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and manifests."""
        plain = {name: value for name, value in vars(self).items() if name not in {"gain", "slices"}}
        known = math.isfinite(self.gain.low)  # one subject alone has no spread
        gain = {"mean": self.gain.mean, "interval": [self.gain.low, self.gain.high] if known else None}
        return {**plain, "gain": gain, "slices": {name: asdict(part) for name, part in self.slices.items()}}


@dataclass(frozen=True)
class Comparison:
    """``before`` (usually the live model) against ``after`` (the candidate), suite by suite."""

    before: str
    after: str
    suites: dict[str, SuiteComparison]


def compare(
    before: Sequence[EvalResult],
    after: Sequence[EvalResult],
    config: EvaluationConfig,
    *,
    seed: int = 0,
    suites: Collection[str] | None = None,
) -> Comparison:
    """Pair results by case id and version and compare.

    The interval is a paired bootstrap over subjects, not over cases, where cases name their subjects: one
    person's requests are alike and count as one draw. With ``interval: sequence`` it is a confidence sequence,
    which holds at every look.

    Args:
        before: results of the model to beat.
        after: results of the candidate.
        config: resamples and confidence.
        seed: of the bootstrap.
        suites: compare these only; none: all that occur. A suite without a shared case is left out.
    """
    left, right = _by_suite(before), _by_suite(after)
    names = sorted(left.keys() | right.keys()) if suites is None else sorted(suites)
    compared = {name: _suite(name, left.get(name, {}), right.get(name, {}), config, seed) for name in names}
    return Comparison(
        before=before[0].model_version if before else "",
        after=after[0].model_version if after else "",
        suites={name: found for name, found in compared.items() if found is not None},
    )


def _suite(
    name: str, left: dict[_Key, EvalResult], right: dict[_Key, EvalResult], config: EvaluationConfig, seed: int
) -> SuiteComparison | None:
    shared = sorted(left.keys() & right.keys())
    if not shared:
        return None
    good = [left[key].passed or _failed(left[key]) for key in shared]
    was = np.array(good, dtype=float)
    now = np.array([right[key].passed for key in shared], dtype=float)
    fixed = [key[0] for key, before in zip(shared, good, strict=True) if right[key].passed and not before]
    broken = [key[0] for key, before in zip(shared, good, strict=True) if before and not right[key].passed]
    gain = _gain(now, was, [left[key].subject or key[0] for key in shared], config, seed)
    return SuiteComparison(
        suite=name,
        n=len(shared),
        before=float(was.mean()),
        after=float(now.mean()),
        gain=gain,
        p_value=exact_p(len(fixed), len(broken)),
        fixed=fixed,
        newly_broken=broken,
        slices=_slices(shared, left, right),
        unpaired=len(left.keys() ^ right.keys()),
        failed=sum(_failed(left[key]) or _failed(right[key]) for key in shared),
    )


def _gain(
    now: NDArray[np.float64], was: NDArray[np.float64], clusters: list[str], config: EvaluationConfig, seed: int
) -> Estimate:
    """The paired gain, with the interval that the configuration asks for."""
    if config.interval == "sequence":
        from flywheel.statistics.sequences import confidence_sequence

        return confidence_sequence(now - was, confidence=config.confidence, clusters=clusters)
    return paired_difference(
        now, was, resamples=config.resamples, confidence=config.confidence, seed=seed, clusters=clusters
    )


def _slices(
    shared: Sequence[_Key], left: dict[_Key, EvalResult], right: dict[_Key, EvalResult]
) -> dict[str, SliceComparison]:
    groups: dict[str, list[_Key]] = defaultdict(list)
    for key in shared:
        name = right[key].slice
        if name is not None:
            groups[name].append(key)
    return {
        name: SliceComparison(
            n=len(keys),
            before=float(np.mean([left[key].passed for key in keys])),
            after=float(np.mean([right[key].passed for key in keys])),
        )
        for name, keys in sorted(groups.items())
    }


def _failed(result: EvalResult) -> bool:
    """A refused request is the model's own answer; other errors are the machine's."""
    return result.error is not None and not result.error.startswith(REFUSED)


def _by_suite(results: Sequence[EvalResult]) -> dict[str, dict[_Key, EvalResult]]:
    found: dict[str, dict[_Key, EvalResult]] = defaultdict(dict)
    for result in results:
        found[result.suite][result.case_id, result.case_version] = result
    return found
