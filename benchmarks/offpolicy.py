"""Do off-policy intervals hold, and are estimates refused where nothing can be known?

Logs of simulated traffic (``offpolicy_worlds.py``), a thousand a world, each evaluated by every estimator that fits:
how often the 95 % interval of the target's value, and of its gain over what served, holds the truth; how often the
estimate is refused; width and error. Beside our interval, on the very same numbers: Student's, the percentile bootstrap
(what Open Bandit Pipeline reports), the studentised bootstrap, and the empirical Bernstein bound.

    python benchmarks/offpolicy.py [--seed 0] [--short]

Result: ``rollout-offpolicy.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import numpy.typing as npt
import results_file
from offpolicy_worlds import POOR, WORLDS, Canaries, Choices, Rankings
from scipy import stats

from flywheel.statistics import offpolicy, offpolicy_lists
from flywheel.statistics.offpolicy import Decisions
from flywheel.statistics.offpolicy_interval import mean_interval, shape
from flywheel.statistics.offpolicy_lists import Lists
from flywheel.statistics.offpolicy_units import Units, Valuation

SIMULATIONS, RESAMPLES, CONFIDENCE = 1_000, 400, 0.95
RESAMPLED = 150
"""Simulations in which the peers that resample take part."""
TARGET = 0.93
Floats = npt.NDArray[np.float64]
World = Choices | Canaries | Rankings
Interval = tuple[float, float]
FITTING: dict[str, tuple[offpolicy_lists.ListEstimator, ...]] = {
    "pbm": ("sips", "rips", "snrips", "iips", "sniips", "pbm"),
    "cascade": ("sips", "snsips", "rips", "snrips"),
}
"""List estimators whose assumptions a world fulfils."""


def main() -> None:
    """Run and write ``results/rollout-offpolicy.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a fiftieth of the simulations; prints, writes nothing")
    options = parser.parse_args()
    simulations = SIMULATIONS // 50 if options.short else SIMULATIONS
    rows = [row for world in (*WORLDS, *POOR) for row in simulate(world, simulations, options.seed)]
    for row in rows:
        print(line(row))
    if not options.short:
        print(results_file.write("rollout-offpolicy", options.seed, rows, targets(rows)))


def simulate(world: World, simulations: int, seed: int, *, peers: bool = True) -> list[dict[str, Any]]:
    """One row an estimator."""
    every: dict[str, list[tuple[Valuation, Floats]]] = {}
    for at in range(simulations):
        log = world.draw(np.random.default_rng([seed, sum(world.name.encode()), at]))
        for name, done, values in valuations(world, log):
            every.setdefault(name, []).append((done, values))
    return [summed_up(world, name, runs, seed, peers=peers) for name, runs in every.items()]


def valuations(world: World, log: Decisions | Lists) -> Iterator[tuple[str, Valuation, Floats]]:
    """By each fitting estimator: what it says, and the units that the peers' intervals are made of."""
    if isinstance(log, Decisions):
        units = Units.of(log.units, log.weights.size)
        for name in offpolicy.ESTIMATORS:
            done = offpolicy.evaluate(name, log, confidence=CONFIDENCE)
            yield name, done, offpolicy.linearised(name if log.weights.any() else "ips", log, units)
        return
    assert isinstance(world, Rankings)
    units = Units.of(log.units, len(log.rewards))
    for which in FITTING[world.browsing]:
        done = offpolicy_lists.evaluate_lists(which, log, confidence=CONFIDENCE)
        weights, bias = offpolicy_lists.weighted(which, log, units)
        yield which, done, offpolicy_lists.linearised(which, log, units, weights, bias)


def summed_up(
    world: World, name: str, runs: list[tuple[Valuation, Floats]], seed: int, *, peers: bool
) -> dict[str, Any]:
    """Coverage among the runs that were answered, and what was refused why."""
    value, gain = world.truth
    answered = [(done, values) for done, values in runs if done.value is not None and done.gain is not None]
    codes = Counter(reason.code for done, _ in runs for reason in done.refused)
    row: dict[str, Any] = {
        "world": world.name,
        "estimator": name,
        "poor_overlap": world.poor,
        "users": world.users,
        "simulations": len(runs),
        "refused": 1 - len(answered) / len(runs),
        "refused_because": dict(codes),
        "true_value": value,
        "true_gain": gain,
        "effective_median": float(np.median([done.overlap.effective for done, _ in runs])),
        "max_weight_median": float(np.median([done.overlap.max_weight for done, _ in runs])),
    }
    if not answered:
        return row
    values = [done.value for done, _ in answered if done.value is not None]
    gains = [done.gain for done, _ in answered if done.gain is not None]
    row |= {
        "coverage": hit(value, [(one.low, one.high) for one in values]),
        "coverage_interval": share([one.low <= value <= one.high for one in values]),
        "below": float(np.mean([one.high < value for one in values])),
        "above": float(np.mean([one.low > value for one in values])),
        "coverage_gain": hit(gain, [(one.low, one.high) for one in gains]),
        "coverage_gain_interval": share([one.low <= gain <= one.high for one in gains]),
        "width": float(np.mean([one.high - one.low for one in values])),
        "error": float(np.sqrt(np.mean([(one.mean - value) ** 2 for one in values]))),
        "bias": float(np.mean([one.mean - value for one in values])),
    }
    if peers and not world.poor:
        rng = np.random.default_rng(seed)
        for peer, interval in PEERS.items():
            some = answered if peer in CHEAP else answered[:RESAMPLED]
            found = [interval(units, done, rng) for done, units in some]
            row[f"coverage_{peer}"] = hit(value, found)
            row[f"width_{peer}"] = float(np.mean([high - low for low, high in found]))
    return row


def student(values: Floats, _done: Valuation, _rng: np.random.Generator) -> Interval:
    found = shape(values)._replace(skewness=0.0)
    return mean_interval(found, CONFIDENCE)


def percentile(values: Floats, _done: Valuation, rng: np.random.Generator) -> Interval:
    means, _ = resampled(values, rng)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def studentised(values: Floats, _done: Valuation, rng: np.random.Generator) -> Interval:
    """Bootstrap-t: Efron and Tibshirani (1993), section 12.5."""
    means, errors = resampled(values, rng)
    found = shape(values)
    ratios = (means - found.mean) / np.maximum(errors, 1e-12)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return found.mean - float(high) * found.error, found.mean - float(low) * found.error


def bernstein(values: Floats, _done: Valuation, _rng: np.random.Generator) -> Interval:
    """Maurer and Pontil, COLT 2009, theorem 4, with the observed range in place of the true one, which favours it."""
    enough, n = np.log(2 / ((1 - CONFIDENCE) / 2)), values.size
    wide = np.sqrt(2 * values.var(ddof=1) * enough / n) + 7 * np.ptp(values) * enough / (3 * (n - 1))
    return float(values.mean() - wide), float(values.mean() + wide)


def resampled(values: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Means and their standard errors in bootstrap resamples."""
    drawn = values[rng.integers(values.size, size=(RESAMPLES, values.size))]
    return drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / np.sqrt(values.size)


PEERS: dict[str, Callable[[Floats, Valuation, np.random.Generator], Interval]] = {
    "student": student,
    "percentile": percentile,
    "studentised": studentised,
    "bernstein": bernstein,
}


CHEAP = frozenset({"student", "bernstein"})


def hit(truth: float, intervals: list[Interval]) -> float:
    """Share of intervals that hold it."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def share(held: list[bool]) -> Interval:
    """Clopper-Pearson, 95 %."""
    found = stats.binomtest(sum(held), len(held)).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promise: every interval in good worlds, and refusals in poor ones."""
    good = [row for row in rows if not row["poor_overlap"]]
    answered = [row for row in good if "coverage" in row]
    poor = [row for row in rows if row["poor_overlap"]]
    found: list[dict[str, Any]] = []
    for what in ("coverage", "coverage_gain"):
        worst = min(answered, key=lambda row: row[what])
        found.append(
            target(
                f"95 % intervals hold the true {'gain' if 'gain' in what else 'value'}, worst of {len(answered)}: "
                f"{worst['world']}, {worst['estimator']}",
                TARGET, worst[what], worst[f"{what}_interval"], met=worst[what] >= TARGET,
                peer=f"same rows: Student {worst['coverage_student']:.3f}, percentile bootstrap "
                f"{worst['coverage_percentile']:.3f}",
            )
        )  # fmt: skip
    least = min(poor, key=lambda row: row["refused"])
    refused = round(least["refused"] * least["simulations"])
    bounds = share([True] * refused + [False] * (least["simulations"] - refused))
    name = f"poor overlap is refused, worst of {len(poor)}: {least['world']}, {least['estimator']}"
    found.append(target(name, 0.99, least["refused"], bounds, met=least["refused"] >= 0.99))
    most = max(good, key=lambda row: row["refused"])
    name = f"good overlap is answered, worst of {len(good)}: {most['world']}, {most['estimator']}"
    found.append(target(name, 0.95, 1 - most["refused"], None, met=most["refused"] <= 0.05))
    return found


def target(
    name: str, wanted: float, measured: float, interval: Interval | None, *, met: bool, peer: str | None = None
) -> dict[str, Any]:
    """One line of the results."""
    why_not = None if met else "see the rows"
    return {"name": name, "target": wanted, "measured": measured, "interval": interval, "peer": peer, "met": met,
            "why_not": why_not}  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    said = f"{row['world']:<34}{row['estimator']:<7}refused {row['refused']:6.1%} eff {row['effective_median']:7.0f}"
    if "coverage" not in row:
        return f"{said}  {row['refused_because']}"
    said += f"  holds {row['coverage']:.3f} gain {row['coverage_gain']:.3f} width {row['width']:.4f}"
    said += f" error {row['error']:.4f}"
    if "coverage_student" in row:
        said += "".join(f"  {peer[:5]} {row[f'coverage_{peer}']:.3f}/{row[f'width_{peer}']:.3f}" for peer in PEERS)
    return said


if __name__ == "__main__":
    main()
