"""Is our bootstrap right, is it worth having beside scipy's, and does it fit into memory?

The same data through ``mean_interval`` and ``scipy.stats.bootstrap``, in interleaved rounds: seconds, their ratio, and
whether the ends of the intervals agree within Monte-Carlo error. Then a verdict over a million pairs in a process of
its own, whose peak memory is measured.

    python benchmarks/bootstrap.py [--seed 0] [--short]

Results: ``evaluation-bootstrap.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import numpy.typing as npt
import results_file
from scipy import stats

from flywheel.statistics.bootstrap import mean_interval, paired_difference
from flywheel.statistics.mcnemar import mcnemar
from flywheel.statistics.sequences import confidence_sequence

ROUNDS, SEEDS = 15, 40
PAIRS, MEMORY_GB = 1_000_000, 2.0
Ends = tuple[float, float]


@dataclass(frozen=True)
class Data:
    """``labels``: the person of each row, if they are clustered."""

    name: str
    values: npt.NDArray[np.float64]
    resamples: int
    labels: npt.NDArray[np.int64] | None = None

    def ours(self, seed: int) -> Ends:
        """``mean_interval``."""
        found = mean_interval(self.values, resamples=self.resamples, seed=seed, clusters=self.labels)
        return found.low, found.high

    def scipys(self, seed: int, batch: int | None = None) -> Ends:
        """The call that a reader of scipy's manual would write."""
        if self.labels is None:
            units: tuple[npt.NDArray[np.float64], ...] = (self.values,)
        else:
            units = (np.bincount(self.labels, weights=self.values), np.bincount(self.labels).astype(float))
        found = stats.bootstrap(
            units,
            np.mean if self.labels is None else lambda sums, sizes, axis: sums.sum(axis) / sizes.sum(axis),
            paired=self.labels is not None,
            vectorized=True,
            n_resamples=self.resamples,
            method="percentile",
            batch=batch,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return float(found.low), float(found.high)


def main() -> None:
    """Run and write ``results/evaluation-bootstrap.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="three rounds; prints, writes nothing")
    parser.add_argument("--million", choices=sorted(MILLIONS), help="one verdict; what a child process runs")
    options = parser.parse_args()
    if options.million:
        print(json.dumps(million(options.million, options.seed)))
        return
    rounds, seeds = (3, 10) if options.short else (ROUNDS, SEEDS)
    compared = [compared_with_scipy(data, rounds, seeds) for data in datasets(np.random.default_rng(options.seed))]
    for row in compared:
        low, high = row["times_faster_interval"]
        print(
            f"{row['data']:<34}{1e3 * row['ours_s']:8.1f} ms  scipy {1e3 * row['scipy_s']:8.1f} ms  "
            f"{row['times_faster']:5.1f} x [{low:.1f}, {high:.1f}]  ends differ by {row['ends_z']:.1f} standard errors"
        )
    verdicts = [in_a_child(name, options.seed) for name in MILLIONS]
    for row in verdicts:
        print(f"{row['verdict']:<34}{row['seconds']:8.1f} s  peak {row['peak_gb']:.2f} GB")
    if not options.short:
        found = results_file.write(
            "evaluation-bootstrap", options.seed, [*compared, *verdicts], targets(compared, verdicts)
        )
        print(found)


def datasets(rng: np.random.Generator) -> list[Data]:
    """Paired differences as evaluations give them."""
    few, many = rng.choice([-1.0, 0.0, 1.0], size=(2, 20_000), p=[0.08, 0.8, 0.12]), rng.normal(size=20_000)
    people = rng.integers(0, 4_000, size=20_000)
    return [
        Data("right or wrong, n 1,000", few[0, :1_000], 10_000),
        Data("right or wrong, n 20,000", few[1], 2_000),
        Data("right or wrong, 4,000 people", few[1], 2_000, people),
        Data("scores, n 1,000", many[:1_000], 10_000),
        Data("scores, n 20,000", many, 1_000),
        Data("scores, 4,000 people", many, 2_000, people),
    ]


def compared_with_scipy(data: Data, rounds: int, seeds: int) -> dict[str, Any]:
    """One row: median seconds of both, the median ratio of a round, and the distance of the ends."""
    batch = max(1, 250_000 // data.values.size)  # where scipy is quickest here; its default holds all resamples at once
    ways: dict[str, Callable[[int], Ends]] = {
        "ours": data.ours,
        "scipy": data.scipys,
        "scipy_batched": lambda seed: data.scipys(seed, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for at in range(len(ways)):
            name, way = list(ways.items())[(turn + at) % len(ways)]  # each follows each: what one leaves in the caches
            begun = time.perf_counter()
            way(turn)
            seconds[name].append(time.perf_counter() - begun)
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["scipy"], strict=True)]
    interval = stats.bootstrap((ratios,), np.median, method="percentile", rng=np.random.default_rng(0))
    ours, theirs = np.array([[way(seed) for seed in range(seeds)] for way in (data.ours, ways["scipy_batched"])])
    error = np.sqrt((ours.var(axis=0, ddof=1) + theirs.var(axis=0, ddof=1)) / seeds)
    apart = np.abs(ours.mean(axis=0) - theirs.mean(axis=0))
    return {
        "data": data.name,
        "resamples": data.resamples,
        "rounds": rounds,
        **{f"{name}_s": statistics.median(times) for name, times in seconds.items()},
        "times_faster": statistics.median(ratios),
        "times_faster_interval": tuple(map(float, interval.confidence_interval)),
        "seeds": seeds,
        "ends_z": float(np.divide(apart, error, out=np.where(apart > 0, np.inf, 0.0), where=error > 0).max()),
    }


def _pass_or_fail(rng: np.random.Generator) -> dict[str, Any]:
    live, candidate = rng.random(PAIRS) < 0.70, rng.random(PAIRS) < 0.702
    person = rng.integers(0, PAIRS // 10, size=PAIRS)
    gain = paired_difference(candidate, live, clusters=person)
    always = confidence_sequence(candidate.astype(float) - live, clusters=person)
    return {"bootstrap": (gain.low, gain.high), "sequence": (always.low, always.high), "p": mcnemar(candidate, live).p}


def _scores(rng: np.random.Generator) -> dict[str, Any]:
    live, candidate = rng.beta(7, 3, size=PAIRS), rng.beta(7.02, 3, size=PAIRS)
    found = confidence_sequence(candidate - live)
    drawn = paired_difference(candidate, live, resamples=100)  # memory does not depend on how many
    return {"sequence": (found.low, found.high), "bootstrap_of_100": (drawn.low, drawn.high)}


MILLIONS: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "right-or-wrong": _pass_or_fail,
    "scores": _scores,
}


def million(name: str, seed: int) -> dict[str, Any]:
    """A verdict's statistics over a million pairs, with the peak memory of this process."""
    begun = time.perf_counter()
    found = MILLIONS[name](np.random.default_rng(seed))
    seconds = time.perf_counter() - begun
    return {"verdict": f"a million pairs, {name}", "seconds": seconds, "peak_gb": _peak_gb(), **found}


def _peak_gb() -> float:
    """Of this process since it began; getrusage would count what the parent held when it forked."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20


def in_a_child(name: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--million", name, "--seed", str(seed)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def targets(compared: list[dict[str, Any]], verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Agreement, speed where outcomes are few, no loss of speed elsewhere, memory."""
    first, scores = compared[0], next(row for row in compared if row["data"].startswith("scores, n 1,000"))
    z, peak = max(row["ends_z"] for row in compared), max(row["peak_gb"] for row in verdicts)
    found: list[dict[str, Any]] = [
        {"name": "ends of all intervals agree with scipy, standard errors", "target": 4, "measured": z, "met": z <= 4},
        {
            "name": "times faster than scipy, right or wrong, n 1,000 x 10,000 resamples",
            "target": 10,
            "measured": first["times_faster"],
            "interval": first["times_faster_interval"],
            "peer": f"{first['scipy_batched_s'] / first['ours_s']:.1f} x with scipy's best batch",
            "met": first["times_faster"] >= 10,
        },
        {
            "name": "times faster than scipy where scipy is called",
            "target": 0.9,
            "measured": scores["times_faster"],
            "interval": scores["times_faster_interval"],
            "peer": f"{scores['scipy_batched_s'] / scores['ours_s']:.1f} x with scipy's best batch",
            "met": scores["times_faster"] >= 0.9,
        },
        {
            "name": "a verdict over a million pairs, peak GB",
            "target": MEMORY_GB,
            "measured": peak,
            "met": peak <= MEMORY_GB,
        },
    ]
    return [{**target, "why_not": None if target["met"] else "see the rows"} for target in found]


if __name__ == "__main__":
    main()
