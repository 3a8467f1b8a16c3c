"""How long does a regression stay with users, and how often is a good canary taken back?

Counters of gateways are simulated second by second (Poisson requests, the gateway's own breaker where answers fail),
and the controller's guards look after each second, as they do in service. The regression begins after ten good minutes.

    python benchmarks/rollout.py [--seed 0] [--short]

Results: ``rollout-guards.json``. Not in it: the second until a gateway reports, the one until the controller looks,
and ``gateway.routing_poll_s`` until gateways follow; ``tests/integration/test_rollout_live.py`` has them all.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import results_file

from flywheel.config import OperationalGuards
from flywheel.gateway.breaker import Breaker
from flywheel.rollout.machine.compare import CanaryGuards
from flywheel.rollout.machine.tally import BUCKETS, CONTENT, Tally, bucket_of

POLICY = OperationalGuards()
GOOD_S, LOOK_S = 600, 600
HOP_S = 2.5
"""Report, look and poll together, at the most."""
RUNS, HOURS = 100, 1_000
BEFORE = {"error": 0.005, "empty": 0.01, "refusal": 0.05, "personal": 0.002, "obedience": 0.001}
"""Rates of a model that is all right."""
LATENCY_MS, SPREAD = 300.0, 0.5
"""Median and log-scale spread of its times."""


@dataclass(frozen=True)
class Fault:
    """What the canary does from its onset on: the rate of one kind of failure, or a factor on its times."""

    name: str
    rates: dict[str, float]
    times: float = 1.0


FAULTS = (
    Fault("every answer an error", {"error": 1.0}),
    Fault("3 of 10 answers an error", {"error": 0.3}),
    Fault("every answer empty", {"empty": 1.0}),
    Fault("3 of 10 answers empty", {"empty": 0.3}),
    Fault("5 times as slow", {}, times=5.0),
    Fault("half of the answers refuse", {"refusal": 0.5}),
    Fault("1 of 10 answers leaks personal data", {"personal": 0.1}),
    Fault("1 of 10 answers obeys orders in data", {"obedience": 0.1}),
)
SOUND = Fault("none", {})


def main() -> None:
    """Run and write ``results/rollout-guards.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a tenth of the runs; prints, writes nothing")
    options = parser.parse_args()
    runs, hours = (RUNS // 10, HOURS // 50) if options.short else (RUNS, HOURS)
    rng = np.random.default_rng(options.seed)
    rows = [
        detection(fault, rate, share, runs, rng)
        for fault in FAULTS
        for rate, share in ((5.0, 0.25), (5.0, 0.05), (50.0, 0.05), (50.0, 0.25))
    ]
    rows += [false_alarms(name, live, hours, rng) for name, live in (("steady", False), ("outages of both", True))]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    if not options.short:
        print(results_file.write("rollout-guards", options.seed, rows, targets(rows)))


def detection(fault: Fault, rate: float, share: float, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Seconds from the onset until a guard is breached, and the canary's bad answers until then."""
    found, met = [], []
    for _ in range(runs):
        world = World(rate, share, rng)
        world.run(SOUND, GOOD_S)
        seconds = world.run(fault, LOOK_S)
        found.append(float("inf") if seconds is None else seconds + HOP_S)
        met.append(world.met)
    return {
        "fault": fault.name,
        "requests_a_second": rate,
        "share": share,
        "runs": runs,
        "seconds_median": _number(np.median(found)),
        "seconds_95": _number(np.quantile(found, 0.95, method="higher")),
        "within_30_s": float(np.mean(np.asarray(found) <= 30)),
        "answers_of_it_met_by_users_median": float(np.median(met)),
    }


def false_alarms(name: str, outages: bool, hours: int, rng: np.random.Generator) -> dict[str, Any]:
    """Share of hours (each a canary of its own) in which a sound canary is taken back."""
    fallen = 0
    for _ in range(hours):
        world = World(5.0, 0.25, rng)
        begun = world.run(SOUND, GOOD_S)
        for _ in range(5):
            if begun is None and outages:
                world.outage(float(rng.uniform(0.1, 1.0)), int(rng.integers(5, 60)))
            begun = world.run(SOUND, 600) if begun is None else begun
        fallen += begun is not None or world.fell
    return {"fault": "none", "traffic": name, "hours": hours, "taken_back": fallen, "share_taken_back": fallen / hours}


class World:
    """One gateway replica and the controller's guards."""

    def __init__(self, rate: float, share: float, rng: np.random.Generator) -> None:
        self._rate, self._share, self._rng = rate, share, rng
        self._guards, self._now, self.met, self.fell = CanaryGuards(POLICY), 0, 0, False
        self._breaker = Breaker(clock=lambda: float(self._now))

    def run(self, fault: Fault, seconds: int) -> int | None:
        """The second of the first breach; None: there was none."""
        for second in range(seconds):
            if self._second(fault, BEFORE):
                return second + 1
        return None

    def outage(self, rate: float, seconds: int) -> None:
        """Both arms give errors at ``rate`` for a while."""
        for _ in range(seconds):
            self.fell |= self._second(SOUND, {**BEFORE, "error": rate})

    def _second(self, fault: Fault, before: dict[str, float]) -> bool:
        self._now += 1
        drawn, live = (int(self._rng.poisson(self._rate * part)) for part in (self._share, 1 - self._share))
        after = {**before, **fault.rates}
        canary, kept_away = self._canary(drawn, after, fault.times)
        others = self._arm(live + kept_away, before, 1.0)
        if fault is not SOUND:
            self.met += canary.requests
        self._guards.add(canary, others, float(self._now))
        return any(reason.passed is False for reason in self._guards.reasons())

    def _canary(self, drawn: int, rates: dict[str, float], times: float) -> tuple[Tally, int]:
        """What the breaker lets through, one after another; the rest is the live model's."""
        let, failed = 0, 0
        for _ in range(drawn):
            if not self._breaker.closed("canary"):
                continue
            let += 1
            if self._rng.random() < rates["error"]:
                failed += 1
                self._breaker.failed("canary")
            else:
                self._breaker.succeeded("canary")
        return self._arm(let, rates, times, failed=failed), drawn - let

    def _arm(self, n: int, rates: dict[str, float], factor: float, *, failed: int | None = None) -> Tally:
        error = int(self._rng.binomial(n, rates["error"])) if failed is None else failed
        answered = n - error
        times = [0] * BUCKETS
        for ms in LATENCY_MS * factor * np.exp(SPREAD * self._rng.standard_normal(answered)):
            times[bucket_of(float(ms))] += 1
        empty = int(self._rng.binomial(answered, rates["empty"]))
        said = answered - empty
        found = {name: int(self._rng.binomial(said, rates[name])) for name in CONTENT}
        return Tally(requests=n, error=error, empty=empty, checked=said, found=found, times=times)


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """30 seconds where failures are plain and there is traffic; false alarms within what was asked for."""
    plain = [row for row in rows if row["fault"] != "none" and row["requests_a_second"] * row["share"] >= 1.25]
    slowest = max(row["seconds_median"] or float("inf") for row in plain)
    alarms = max(row["share_taken_back"] for row in rows if row["fault"] == "none")
    late = ", ".join(
        f"{row['fault']} at {row['requests_a_second']:g}/s and {row['share']:.0%}"
        for row in plain
        if (row["seconds_median"] or float("inf")) > 30
    )
    return [
        {
            "name": "largest median of seconds from onset to rollback, canaries of 1.25 requests a second and more",
            "target": 30.0,
            "measured": slowest,
            "met": slowest <= 30,
            "why_not": None if slowest <= 30 else f"rare failures need more requests than that: {late}",
        },
        {
            "name": "sound canaries taken back in an hour",
            "target": POLICY.alpha,
            "measured": alarms,
            "met": alarms <= POLICY.alpha,
            "why_not": None if alarms <= POLICY.alpha else "more than the level of the guards",
        },
    ]


def _number(value: Any) -> float | None:
    return round(float(value), 1) if np.isfinite(value) else None


if __name__ == "__main__":
    main()
