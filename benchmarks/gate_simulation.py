"""Does the gate keep its promise when somebody looks twenty times, and what does looking cost?

Thousands of rollouts are simulated through the real ``rollout.gate.decide``, with every condition but one forced to
pass. Four candidates: one that is no better (A/A), one that loses exactly the margin on a guard suite, one with the
planned gain, one that is harmless to the guard suite. Four ways to judge: a confidence sequence at each of twenty
looks; a bootstrap interval at each look, as if it were the only one (naive), at 95 % and, to promise the 5 % of false
promotions that we promise, at 90 %; and one look at the end of a fixed plan.

    python benchmarks/gate_simulation.py [--seed 0] [--short]

Results: ``gate-simulation.json``, and the picture ``gate-simulation.svg``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent))

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import results_file
from matplotlib import pyplot
from scipy import stats

from flywheel.config import GatePolicy
from flywheel.rollout.gate import GateInput, Lineage, SuiteEvidence, decide
from flywheel.statistics.bootstrap import mean_interval
from flywheel.statistics.power import pairs_needed, power
from flywheel.statistics.sequences import bounds

SIMULATIONS, LOOKS, RESAMPLES = 1_000, 20, 1_000
DIFFERENCES = np.array([-1.0, 0.0, 1.0])
POLICY = GatePolicy(min_primary_cases=1, min_guard_cases=1, require_shadow=False)
MARGIN = POLICY.max_guard_loss
PASSING = SuiteEvidence(suite="passing", n=10_000, before=0.5, after=0.6, gain=0.1, low=0.09, high=0.11)

Counts = npt.NDArray[np.int64]
Intervals = Callable[[Counts], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
Verdict = Literal["promote", "reject", "again"]


@dataclass(frozen=True)
class Candidate:
    """``gain``: true; ``discordant``: share of pairs on which only one model is right; ``limit``: what to exceed."""

    name: str
    suite: Literal["primary", "guard"]
    gain: float
    discordant: float
    limit: float
    planned_gain: float

    def plan(self, design: Literal["fixed", "sequence"]) -> int:
        """Pairs for 80 % power at the planned gain."""
        return pairs_needed(self.planned_gain, self.discordant, limit=self.limit, design=design)

    def draw(self, rng: np.random.Generator, simulations: int, looks: npt.NDArray[np.int64]) -> Counts:
        """(simulations, looks, 3): how often each difference had occurred at each look."""
        chances = [(self.discordant - self.gain) / 2, 1 - self.discordant, (self.discordant + self.gain) / 2]
        steps = np.diff(looks, prepend=0)
        return np.stack([rng.multinomial(step, chances, size=simulations) for step in steps], axis=1).cumsum(axis=1)


CANDIDATES = (
    Candidate("no better (A/A)", "primary", 0.0, 0.2, 0.0, 0.04),
    Candidate("exactly at -margin", "guard", -MARGIN, 0.1, -MARGIN, 0.0),
    Candidate("planned gain", "primary", 0.04, 0.2, 0.0, 0.04),
    Candidate("harmless to the guard suite", "guard", 0.0, 0.1, -MARGIN, 0.0),
)


@dataclass(frozen=True)
class Method:
    """``interval``: of counts of shape (looks, 3); ``looks`` of them, up to the pairs that ``design`` plans."""

    name: str
    interval: Intervals
    design: Literal["fixed", "sequence"]
    looks: int


def sequence(counts: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return bounds(DIFFERENCES, counts, 0.95)


def bootstrap(confidence: float) -> Intervals:
    def interval(counts: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        found = [
            mean_interval(np.repeat(DIFFERENCES, look), resamples=RESAMPLES, confidence=confidence) for look in counts
        ]
        return np.array([one.low for one in found]), np.array([one.high for one in found])

    return interval


METHODS = (
    Method("sequence", sequence, "sequence", LOOKS),
    Method("naive, 95 % interval", bootstrap(0.95), "sequence", LOOKS),
    Method("naive, 5 % one-sided", bootstrap(0.90), "sequence", LOOKS),
    Method("fixed, one look", bootstrap(0.95), "fixed", 1),
)


def main() -> None:
    """Run, write ``results/gate-simulation.json`` and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a tenth of the simulations; prints, writes nothing")
    options = parser.parse_args()
    simulations = SIMULATIONS // 10 if options.short else SIMULATIONS
    rows = [
        simulate(candidate, method, simulations, np.random.default_rng([options.seed, at]))
        for at, candidate in enumerate(CANDIDATES)
        for method in METHODS
    ]
    for row in rows:
        print(
            f"{row['candidate']:<28}{row['method']:<22}promoted {row['promoted']:6.1%}  rejected early "
            f"{row['rejected_early']:6.1%}, at the end {row['rejected_at_the_end']:6.1%}  "
            f"pairs {row['pairs_mean']:.0f} of {row['pairs_most']}"
        )
    if options.short:
        return
    draw(rows, results_file.RESULTS / "gate-simulation.svg")
    print(results_file.write("gate-simulation", options.seed, rows, targets(rows)))


def simulate(candidate: Candidate, method: Method, simulations: int, rng: np.random.Generator) -> dict[str, Any]:
    """One row: how rollouts of the candidate end, and after how many pairs."""
    most = candidate.plan(method.design)
    looks = np.linspace(0, most, method.looks + 1).round().astype(np.int64)[1:]
    counts = candidate.draw(rng, simulations, looks)
    ends = [_run(candidate, method, one) for one in counts]
    pairs = np.array([looks[at] for _, at in ends])
    promoted = np.array([verdict == "promote" for verdict, _ in ends])
    early = ~promoted & (pairs < most)
    return {
        "candidate": candidate.name,
        "method": method.name,
        "simulations": simulations,
        "looks": method.looks,
        "true_gain": candidate.gain,
        "limit": candidate.limit,
        "discordant": candidate.discordant,
        "promoted": float(promoted.mean()),
        "promoted_interval": share_interval(int(promoted.sum()), simulations),
        "rejected_early": float(early.mean()),
        "rejected_at_the_end": float((~promoted & ~early).mean()),
        "pairs_most": most,
        "pairs_mean": float(pairs.mean()),
        "pairs_median": float(np.median(pairs)),
        "pairs_when_promoted": float(np.median(pairs[promoted])) if promoted.any() else None,
        "power_planned": power(
            most,
            candidate.planned_gain,
            candidate.discordant,
            limit=candidate.limit,
            design=method.design,
        ),
        "looks_at": looks.tolist(),
        "promoted_by_look": [float((promoted & (pairs <= look)).mean()) for look in looks],
    }


def _run(candidate: Candidate, method: Method, counts: Counts) -> tuple[Verdict, int]:
    """How one rollout ends, and at which look."""
    low, high = method.interval(counts)
    for at in range(len(counts)):
        verdict = look(candidate, counts[at], float(low[at]), float(high[at]))
        if verdict != "again":
            return verdict, at
    return "reject", len(counts) - 1


def look(candidate: Candidate, counts: Counts, low: float, high: float) -> Verdict:
    """The gate's word at one look: what is not shown yet is looked at again, what is refuted is rejected."""
    n = int(counts.sum())
    worse, _, better = (counts / n).tolist()
    before = (1 - worse - better) / 2 + worse
    evidence = SuiteEvidence(
        suite=candidate.suite,
        n=n,
        before=before,
        after=before + better - worse,
        gain=better - worse,
        low=low,
        high=high,
    )
    judged_on_primary = candidate.suite == "primary"
    given = GateInput(
        candidate="candidate",
        live="live",
        primary=evidence if judged_on_primary else PASSING,
        guards={"guard": PASSING if judged_on_primary else evidence},
        required_guards=["guard"],
        shadow=None,
        leaks=0,
        contamination=0,
        erased=[],
        lineage=Lineage(judged_by=frozenset({"case"}), used={"training": frozenset()}),
        required_instruments=["training"],
    )
    if decide(given, POLICY).verdict == "promote":
        return "promote"
    return "reject" if high <= candidate.limit else "again"


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    found = stats.binomtest(hits, n).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises, each beside the naive or the fixed way."""
    by = {(row["candidate"], row["method"]): row for row in rows}
    nobody, margin, planned, harmless = (candidate.name for candidate in CANDIDATES)

    def target(name: str, wanted: float, row: dict[str, Any], peer: dict[str, Any], *, met: bool) -> dict[str, Any]:
        return {
            "name": name,
            "target": wanted,
            "measured": row["promoted"],
            "interval": row["promoted_interval"],
            "peer": f"{peer['method']}: {peer['promoted']:.3f}",
            "met": met,
            "why_not": None if met else "see the rows",
        }

    found: list[dict[str, Any]] = []
    for name in (nobody, margin):
        row, naive = by[name, "sequence"], by[name, "naive, 5 % one-sided"]
        met = row["promoted"] <= 0.05 and row["promoted_interval"][1] <= 0.065
        found.append(target(f"false promotions in {LOOKS} looks: {name}", 0.05, row, naive, met=met))
    for name in (planned, harmless):
        row = by[name, "sequence"]
        met = row["promoted"] >= 0.8
        found.append(target(f"power: {name}", 0.8, row, by[name, "fixed, one look"], met=met))
    return [*found, _naive_is_wrong(by[nobody, "naive, 95 % interval"], by[nobody, "sequence"])]


def _naive_is_wrong(naive: dict[str, Any], sequence: dict[str, Any]) -> dict[str, Any]:
    """A repeated test at 5 % finds a difference, one way or the other, where there is none."""
    shares = [row["promoted"] + row["rejected_early"] for row in (naive, sequence)]
    return {
        "name": f"a difference found in {LOOKS} naive looks where there is none: above",
        "target": 0.2,
        "measured": shares[0],
        "interval": share_interval(round(shares[0] * naive["simulations"]), naive["simulations"]),
        "peer": f"sequence: {shares[1]:.3f}",
        "met": shares[0] > 0.2,
        "why_not": None if shares[0] > 0.2 else "see the rows",
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """False promotions by look on the left; right promotions by pairs on the right."""
    mpl.rcParams["svg.hashsalt"] = "gate-simulation"  # equal rows, equal file
    nobody, _, planned, _ = (candidate.name for candidate in CANDIDATES)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for row in rows:
        shares = [100 * share for share in row["promoted_by_look"]]
        if row["candidate"] == nobody and row["looks"] > 1:
            left.plot(range(1, row["looks"] + 1), shares, marker=".", label=row["method"])
        elif row["candidate"] == planned and row["method"] == "sequence":
            right.plot(row["looks_at"], shares, marker=".", label=f"sequence, {row['looks']} looks")
        elif row["candidate"] == planned and row["looks"] == 1:
            right.plot(row["looks_at"], shares, marker="D", linestyle="none", label="fixed plan, one look")
    left.axhline(5, color="black", linewidth=0.8, linestyle="--")
    left.set_xticks(range(0, LOOKS + 1, 5))
    left.set(title="No better, yet promoted", xlabel="looks so far", ylabel="simulated rollouts, %", ylim=(0, None))
    right.axhline(80, color="black", linewidth=0.8, linestyle="--")
    right.set(
        title="Four points better, and promoted", xlabel="pairs so far", ylabel="simulated rollouts, %", ylim=(0, 100)
    )
    left.legend()
    right.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
