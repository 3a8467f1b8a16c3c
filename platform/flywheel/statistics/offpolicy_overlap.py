"""Does logged traffic say anything about another policy? Diagnostics of importance weights, and refusals. Pure.

An importance-weighted mean has an interval for whatever numbers come in. It is worth nothing where the target policy
does what the logged one hardly ever did: a few rows then carry the estimate, their spread is not seen, and the interval
is too narrow and in the wrong place. So poor overlap is refused by name, with what would help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flywheel.statistics.offpolicy_interval import shape
from flywheel.statistics.units import Floats

Code = Literal[
    "no_rows", "few_units", "no_support", "few_effective", "heavy_weights", "thin_tail", "weights_off", "no_variation",
    "no_position_bias",
]  # fmt: skip
MORE = (
    "log with more exploration (a larger epsilon or temperature, a larger canary share), collect more traffic, or ask "
    "about a policy that is closer to the logged one"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Where an estimate is refused. The defaults are those that ``benchmarks/offpolicy.py`` measured.

    Attributes:
        min_units: independent units, e.g. users.
        min_effective: effective sample size in units, and in rows as expected from the policies.
        min_tail: units in the thinner tail of what is averaged (``Shape.tail``).
        min_expected_tail: the same of the weights alone, in rows, as expected from the policies.
        max_unsupported: share of the target's choices that the logged policy never makes. Up to it the interval is
            widened by what they could be worth.
        max_weights_off: distance of the mean weight from what it must be, if it is also ``weights_off_errors``
            standard errors.
        weights_off_errors: see there.
    """

    min_units: int = 30
    min_effective: float = 50.0
    min_tail: float = 5.0
    min_expected_tail: float = 10.0
    max_unsupported: float = 0.01
    max_weights_off: float = 0.05
    weights_off_errors: float = 4.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far the logged policy covers the target.

    Attributes:
        rows: decisions, or lists.
        units: independent units.
        effective: effective sample size, (sum of w)^2 / (sum of w^2) over units with w their summed weights (Kish,
            "Survey Sampling" 1965, section 11.7).
        expected_effective: in rows, from the policies themselves and not from the weights that happened to be drawn;
            None where the mean square of the weights is not known in closed form.
        expected_tail: rows over squared skewness of the weights, from the policies themselves; None likewise.
        max_weight: the largest weight of a row.
        max_share: the share of all weight that the heaviest unit has.
        mean_weight: before any cut; must be 1 - ``unsupported``, within its error: anything else says that logged
            chances are wrong, or that the rows with the large weights are missing from the sample.
        mean_weight_error: its standard error, over units.
        unsupported: share of the target's choices that had no chance to be logged.
    """

    rows: int
    units: int
    effective: float
    expected_effective: float | None
    expected_tail: float | None
    max_weight: float
    max_share: float
    mean_weight: float
    mean_weight_error: float
    unsupported: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no estimate, and what to do: ``code`` for machines, ``text`` for people."""

    code: Code
    text: str


def overlap(
    weights: Floats,
    sums: Floats,
    sizes: Floats,
    *,
    moments: tuple[Floats, Floats] | None = None,
    unsupported: float = 0.0,
    uncut: Floats | None = None,
) -> Overlap:
    """Diagnostics.

    Args:
        weights: one a row, target over logged chance of what was served.
        sums: their sum in each unit.
        sizes: rows in each unit.
        moments: of each row the mean square and the mean cube of its weight over all that the logged policy might have
            served. A sample says little about them: without the large weights, their moments look harmless.
        unsupported: mean share of the target's choices without a logged chance.
        uncut: sums of the weights in each unit before large ones were limited; default: ``sums``.
    """
    rows, total = weights.size, float(sums.sum())
    whole = sums if uncut is None else uncut
    mean = float(whole.sum()) / rows
    expected = None if moments is None else _expected(rows, *(float(moment.mean()) for moment in moments))
    return Overlap(
        rows=rows,
        units=sums.size,
        effective=total**2 / float((sums**2).sum()) if total > 0 else 0.0,
        expected_effective=None if expected is None else expected[0],
        expected_tail=None if expected is None else expected[1],
        max_weight=float(weights.max()),
        max_share=float(sums.max()) / total if total > 0 else 1.0,
        mean_weight=mean,
        mean_weight_error=shape((whole - mean * sizes) * (sums.size / rows)).error,
        unsupported=unsupported,
    )


def _expected(rows: int, square: float, cube: float) -> tuple[float, float]:
    """Effective sample size, and the tail, of weights whose mean is 1."""
    spread, skew = max(square - 1, 0.0), cube - 3 * square + 2
    return rows / max(square, 1e-300), rows * spread**3 / skew**2 if spread > 1e-9 and skew else float("inf")


def refusals(found: Overlap, limits: Limits) -> list[Refusal]:
    """Every reason why the overlap is too poor; none: it will do."""
    reasons: list[Refusal] = []
    if found.units < limits.min_units:
        text = f"{found.units:,} independent units, {limits.min_units:,} needed; collect more traffic"
        reasons.append(Refusal("few_units", text))
    if found.unsupported > limits.max_unsupported:
        text = (
            f"{found.unsupported:.1%} of what the target policy would choose had no chance to be served, so nothing is "
            "known of it; log with epsilon above 0, or ask about a policy that chooses what was possible"
        )
        reasons.append(Refusal("no_support", text))
    least = min(found.effective, np.inf if found.expected_effective is None else found.expected_effective)
    if least < limits.min_effective:
        text = (
            f"{found.rows:,} rows of {found.units:,} units are worth {least:,.1f}, and {limits.min_effective:,.0f} are "
            f"needed (the heaviest unit has {found.max_share:.0%} of all weight); {MORE}"
        )
        reasons.append(Refusal("few_effective", text))
    if found.expected_tail is not None and found.expected_tail < limits.min_expected_tail:
        text = (
            f"what the target prefers was so rarely served that about {found.expected_tail:.1f} rows would carry the "
            f"estimate, and {limits.min_expected_tail:g} are needed; {MORE}"
        )
        reasons.append(Refusal("heavy_weights", text))
    if _weights_off(found, limits):
        text = (
            f"the mean weight is {found.mean_weight:.3f} ± {found.mean_weight_error:.3f} and must be "
            f"{1 - found.unsupported:.3f}: chances were not logged as they were, rows were lost depending on what was "
            f"served (look at what was left out), or the rows with large weights were never drawn; then {MORE}"
        )
        reasons.append(Refusal("weights_off", text))
    return reasons


def _weights_off(found: Overlap, limits: Limits) -> bool:
    chance = found.mean_weight_error if np.isfinite(found.mean_weight_error) else 0.0
    off = abs(found.mean_weight - (1 - found.unsupported))
    return off > max(limits.max_weights_off, limits.weights_off_errors * chance)
