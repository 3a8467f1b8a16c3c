"""Do verdicts on live traffic keep their promise while somebody looks all the time, and how soon do they find a harm?

1. Candidates that are exactly as good, looked at after every unit: how often are they called worse, or better? Beside
   it two ways that look right and are not: pairs of one session counted as independent, and a 95 % interval of one look
   that is looked at again and again. The same for a canary, whose share grows while a session's mood drifts.
2. Forty-two planted regressions, seven kinds, through the code that runs in production, from rows to verdict: units
   until it says worse, against the number that was planned; and what the gate says when a metric is missing.
3. What a verdict costs: from rows stored in a lake to the verdict, and CPU milliseconds a pair.

    python benchmarks/rollout_verdicts.py [--seed 0] [--short]

Results: ``rollout-verdicts.json``.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import numpy.typing as npt
import results_file
from rollout_worlds import KINDS, START, Kind, judge, length_reward, traffic
from scipy import stats

from flywheel.config import FlywheelConfig, GatePolicy, LiveQualityConfig
from flywheel.lake.tables import Lake
from flywheel.rollout import routing
from flywheel.rollout.gate import GateInput, Lineage, decide
from flywheel.rollout.live.checks import checks
from flywheel.rollout.live.instrument import Instrument, Mirrored, Voters, measure, voters
from flywheel.rollout.live.levels import levels, planned_for_loss, planned_in_slice
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.live.shadowed import ShadowBook
from flywheel.rollout.live.verdict import judged
from flywheel.rollout.live.watch import Watch
from flywheel.rollout.routing import Shadow, Variant
from flywheel.statistics.power import pairs_needed
from flywheel.statistics.proportions import Count, wilson
from flywheel.statistics.sequences import log_capital

RULES = LiveQualityConfig(slices=["length", "tenant"])
POLICY = GatePolicy()
VOTERS = 2
"""checks and judge."""
MOST = 1.5
"""Times the planned units within which a regression should be found."""
LOOK_EVERY = 10
"""Units between two looks at a planted regression: with thousands of looks the code's own cost would be measured."""

Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="fewer simulations; writes nothing")
    options = parser.parse_args()
    began = time.perf_counter()
    null = null_rates(options.seed, simulations=200 if options.short else 2_000, units=1_500)
    found = planted(options.seed, seeds=1 if options.short else 6)
    cost = costs(options.seed, sessions=200 if options.short else 1_000)
    rows = [*null, *by_kind(found), *found, *cost]
    for row in rows:
        print({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
    targets = _targets(null, found, cost)
    print(*(f"{'met' if each['met'] else 'NOT MET'}: {each['name']}: {each['measured']}" for each in targets), sep="\n")
    print(f"{time.perf_counter() - began:.0f} s")
    if not options.short:
        print(results_file.write("rollout-verdicts", options.seed, rows, targets))


# --- 1: candidates that are exactly as good ---


def null_rates(seed: int, *, simulations: int, units: int) -> list[dict[str, Any]]:
    """How often an equal candidate is called worse or better by a method, looked at after every unit."""
    rng = np.random.default_rng(seed)
    level = levels(RULES, VOTERS)
    drawn = np.stack([_sessions(rng, units) for _ in range(simulations)])  # (simulations, units, 4): NaN: no such pair
    means = np.nanmean(drawn, axis=2)
    pairs = drawn.reshape(simulations, -1)
    slices = rng.integers(10, size=means.shape)
    unfit = rng.choice([-1.0, 0.0, 1.0], p=[0.02, 0.96, 0.02], size=means.shape)  # what the rules say
    worse = _ever(-means, level.quality) | _ever(-unfit, level.quality)
    in_slices = np.zeros(simulations, bool)
    for group in range(10):
        mine = _packed(means, slices == group)
        in_slices |= _ever(-mine, level.slice, limit=RULES.margin)
    rows = [
        _row("worse, by the verdict", worse | in_slices, RULES.alpha),
        _row("worse, by slices alone", in_slices, RULES.alpha / 4),
        _row("better, by the verdict", _ever(means, RULES.alpha / 2), RULES.alpha),
        _row("worse, pairs of a session as independent", _ever(-pairs, level.quality), RULES.alpha),
        _row("worse, a one-look interval at each look", _ever_normal(-means, RULES.alpha), RULES.alpha),
    ]
    outcomes = _canary(rng, simulations, units)
    rows += [
        _row("worse, canary by inverse propensity", _ever(-outcomes[0], levels(RULES, 1).quality), RULES.alpha),
        _row("worse, canary by means of arms while share and mood move", _ever_arms(*outcomes[1:]), RULES.alpha),
    ]
    return [{**row, "simulations": simulations, "units": units} for row in rows]


def _sessions(rng: np.random.Generator, units: int) -> Floats:
    """Sessions of one to four pairs that are alike: a session leans to one of the models, and neither is favoured."""
    lean = rng.choice([-0.8, 0.0, 0.8], p=[0.15, 0.7, 0.15], size=(units, 1))
    draw = rng.random((units, 4))
    values = np.where(draw < np.maximum(lean, 0), 1.0, np.where(draw > 1 + np.minimum(lean, 0), -1.0, 0.0))
    values[:, 1:][np.arange(1, 4)[None, :] >= rng.integers(1, 5, size=(units, 1))] = np.nan
    return values


def _packed(values: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """Of each row the chosen values in their order, and NaN after them."""
    order = np.argsort(~chosen, axis=1, kind="stable")[:, : int(chosen.sum(axis=1).max())]
    return np.take_along_axis(np.where(chosen, values, np.nan), order, axis=1)


def _canary(rng: np.random.Generator, simulations: int, units: int) -> tuple[Floats, Floats, Floats]:
    """Weighted outcomes, and outcomes by arm: the share grows from 5 to 50 % as people's mood gets worse, for both."""
    share = np.repeat([0.05, 0.25, 0.5], units // 3)
    mood = np.repeat([0.3, 0.0, -0.3], units // 3)
    spoke = rng.random((simulations, share.size)) < 0.3
    outcome = spoke * np.where(rng.random(spoke.shape) < (1 + mood) / 2, 1.0, -1.0)
    mine = rng.random(spoke.shape) < share
    weighted = outcome * np.where(mine, 1 / share, -1 / (1 - share)) * 0.05
    return np.round(weighted * 38) / 38, np.where(mine, outcome, np.nan), np.where(mine, np.nan, outcome)


def _ever(values: Floats, alpha: float, *, limit: float = 0.0) -> npt.NDArray[np.bool_]:
    """By simulation: whether "the mean is at most ``limit``" was refuted after any unit. NaN: no unit there."""
    kinds = np.unique(values[~np.isnan(values)])
    found = np.zeros(len(values), bool)
    step = max(1, 4_000_000 // (values.shape[1] * (kinds.size + 24)))
    for start in range(0, len(values), step):
        part = values[start : start + step]
        counts = (part[..., None] == kinds).cumsum(axis=1).astype(np.float64)
        capital = log_capital(kinds, counts, limit)
        found[start : start + step] = (capital >= math.log(1 / alpha)).any(axis=1)
    return found


def _ever_normal(values: Floats, alpha: float, *, first: int = 30) -> npt.NDArray[np.bool_]:
    """The same by a normal interval that is computed anew at each look, from the thirtieth unit on."""
    n = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / n
    spread = np.sqrt(np.maximum((values**2).cumsum(axis=1) / n - mean**2, 1e-9) / n)
    return (mean > stats.norm.ppf(1 - alpha / 2) * spread)[:, first:].any(axis=1)


def _ever_arms(candidate: Floats, live: Floats) -> npt.NDArray[np.bool_]:
    """Plain difference of the arms' means over the whole time, tested once at the end at 5 %."""
    ends = [stats.ttest_ind(a[~np.isnan(a)], b[~np.isnan(b)]) for a, b in zip(candidate, live, strict=True)]
    return np.array([end.pvalue < 0.05 and end.statistic < 0 for end in ends])


def _row(what: str, found: npt.NDArray[np.bool_], promised: float) -> dict[str, Any]:
    low, high = wilson(Count(int(found.sum()), found.size))
    return {"part": "null", "what": what, "rate": float(found.mean()), "low": low, "high": high, "promised": promised}


# --- 2: planted regressions ---


def planted(seed: int, *, seeds: int) -> list[dict[str, Any]]:
    """Every kind with several seeds, and as many candidates that are just as good."""
    cases: list[tuple[Kind | None, int]] = [(kind, n) for kind in (*KINDS, None) for n in range(seeds)]
    return [_planted(kind, 1_000 * seed + 17 * number) for number, (kind, _) in enumerate(cases)]


def planned(kind: Kind) -> int:
    """Units with which the plan sees this regression with a chance of ``planned_power``."""
    level, wanted = levels(RULES, VOTERS), RULES.planned_power
    if kind.instrument == "latency":
        return pairs_needed(0.8, 1.0, wanted=wanted, confidence=1 - 2 * level.latency, design="sequence")
    if kind.group:
        return math.ceil(planned_in_slice(RULES, kind.loss, kind.discordant, VOTERS) / kind.share)
    return planned_for_loss(RULES, kind.loss, kind.discordant, VOTERS)


def _planted(kind: Kind | None, seed: int) -> dict[str, Any]:
    wanted = planned(kind) if kind else 1_500
    instruments = [checks(), judge(), length_reward()]
    lineage = Lineage(judged_by=frozenset({"c"}), used={"training": frozenset()}, sources={"reward": ["reward/long"]})
    votes = voters(instruments, ["reward", "checks", "judge"], lineage)
    last, exposed, spent = follow(kind, seed, instruments, votes, most=math.ceil(2 * MOST * wanted) if kind else wanted)
    failed = [reason.name for reason in last.reasons if reason.outcome == "fail"]
    return {
        "part": "planted", "kind": kind.name if kind else "(just as good)", "seed": seed, "state": last.state,
        "units": last.units, "planned": wanted, "ratio": last.units / wanted, "exposed_pairs": exposed,
        "by": ", ".join(failed), "mean": last.mean, "cpu_s": spent,
        "gate": gate_says(last), "gate_without_a_judge": gate_says(blind(kind, seed, min(last.units, 400))),
    }  # fmt: skip


def follow(
    kind: Kind | None, seed: int, instruments: list[Instrument], votes: Voters, *, most: int
) -> tuple[LiveVerdict, int, float]:
    """Rows into a book until the verdict is worse, or ``most`` units; the verdict, pairs that came, CPU seconds."""
    book, looked, began = ShadowBook(RULES, POLICY), 0, time.process_time()
    for count, (row, pair) in enumerate(traffic(kind, seed), start=1):
        book.asked(row)
        book.brought(pair, measure(instruments, [Mirrored(pair, row.messages)])[0])
        if count % 4:
            continue
        book.settle(row.ts.timestamp())
        if book.tally.units < looked + LOOK_EVERY:
            continue
        looked = book.tally.units
        found = judged(book.tally, instruments, votes, POLICY, flow="triage", candidate="v2", live="v1")
        if found.state == "worse" or found.units >= most:
            return found, count, time.process_time() - began
    raise AssertionError("traffic has no end")


def by_kind(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each kind in one row."""
    kinds = dict.fromkeys(row["kind"] for row in found)
    own = {kind: [row for row in found if row["kind"] == kind] for kind in kinds}
    return [
        {
            "part": "kind", "kind": kind, "runs": len(rows), "worse": sum(row["state"] == "worse" for row in rows),
            "planned": rows[0]["planned"], "units_median": float(np.median([row["units"] for row in rows])),
            "ratio_median": float(np.median([row["ratio"] for row in rows])),
            "ratio_max": max(row["ratio"] for row in rows),
            "exposed_pairs_median": float(np.median([row["exposed_pairs"] for row in rows])),
        }
        for kind, rows in own.items()
    ]  # fmt: skip


def blind(kind: Kind | None, seed: int, units: int) -> LiveVerdict:
    """The verdict where nothing measures meaning."""
    return follow(kind, seed, [checks()], Voters(["checks"], {"judge": "there is none"}), most=units)[0]


def gate_says(found: LiveVerdict) -> str:
    """The gate's verdict where it asks for live quality and everything else holds."""
    policy = GatePolicy(require_live_quality=True, require_shadow=False, min_primary_cases=1)
    suite = {"suite": "random", "n": 10, "before": 0.5, "after": 0.9, "gain": 0.4, "low": 0.3, "high": 0.5}
    lineage = Lineage(
        judged_by=frozenset({"c"}),
        used={name: frozenset() for name in ("filter", "sweep", "reward", "training")},
    )
    given = GateInput.model_validate({
        "candidate": found.candidate, "live": found.live, "primary": suite, "required_guards": [], "shadow": None,
        "leaks": 0, "erased": [], "contamination": 0, "lineage": lineage, "live_quality": found,
    })  # fmt: skip
    return decide(given, policy).verdict


# --- 3: what it costs ---


def costs(seed: int, *, sessions: int) -> list[dict[str, Any]]:
    """Rows into a lake on this disk, twenty at a time; seconds and CPU of ``Watch.update``, restarted and fresh."""
    with tempfile.TemporaryDirectory() as folder:
        lake, config = Lake(folder), FlywheelConfig(flow="triage")
        config = config.model_copy(update={"rollout": config.rollout.model_copy(update={"live": RULES})})
        first = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="b")
        first = first.model_copy(update={"ts": START - timedelta(days=1)})
        routing.publish(lake.store, first)
        second = routing.with_shadow(first, Shadow(version="v2", folder="/v2"), actor="b", reason="b")
        routing.publish(lake.store, second.model_copy(update={"ts": START - timedelta(days=1)}))
        now = [START]
        instruments = [checks(), judge()]

        def watch() -> Watch:
            return Watch(lake, config, instruments, clock=lambda: now[0])

        def timed(which: Watch) -> tuple[float, float, list[LiveVerdict]]:
            cpu, wall = time.process_time(), time.perf_counter()
            verdicts = which.update()
            return time.process_time() - cpu, time.perf_counter() - wall, verdicts

        used, spent, pairs = watch(), [], 0
        used.update()
        source = traffic(None, seed)
        size = 20
        for batch in range(sessions // size):
            rows = list(itertools.islice(source, size))
            lake.append("inferences", [row for row, _ in rows], app="b", version=batch + 1)
            lake.append("shadow_pairs", [pair for _, pair in rows], app="b", version=batch + 1)
            pairs += size
            now[0] = rows[-1][0].ts + timedelta(seconds=1)
            spent.append(timed(used)[:2])
        now[0] += timedelta(hours=1)
        whole = timed(used)[2]
        idle = timed(used)
        restarted = timed(watch())
        lake.store.delete([f"live/{config.flow}.json.gz"])
        fresh = timed(watch())
        state = lake.store.get(f"live/{config.flow}.json.gz")
    cpu, wall = (np.array(part) for part in zip(*spent, strict=True))
    return [
        {
            "part": "cost", "pairs": pairs, "pairs_an_update": size,
            "update_s_median": float(np.median(wall)), "update_s_p95": float(np.quantile(wall, 0.95)),
            "cpu_ms_a_pair": 1_000 * float(cpu.sum()) / pairs, "idle_update_s": idle[1],
            "restart_s": restarted[1], "fresh_s": fresh[1], "fresh_cpu_ms_a_pair": 1_000 * fresh[0] / pairs,
            "state_bytes": len(state), "restart_equal": restarted[2] == whole, "fresh_equal": fresh[2] == whole,
            "delay_s": RULES.settle_s + RULES.late_s,
        }
    ]  # fmt: skip


def _targets(
    null: list[dict[str, Any]], found: list[dict[str, Any]], cost: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    by = {row["what"]: row for row in null}
    harmful = [row for row in found if row["kind"] != "(just as good)"]
    equal = [row for row in found if row["kind"] == "(just as good)"]
    within = [row for row in harmful if row["state"] == "worse" and row["ratio"] <= MOST]
    blocked = [row for row in harmful if row["state"] == "worse" and row["gate"] == "reject"]
    spared = [row for row in equal if row["state"] != "worse"]
    unseen = [row for row in [*harmful, *equal] if row["gate_without_a_judge"] == "promote"]
    made = [
        (
            what,
            f"<= {RULES.alpha}",
            by[what]["rate"],
            (by[what]["low"], by[what]["high"]),
            by[what]["low"] <= RULES.alpha,
        )
        for what in ("worse, by the verdict", "better, by the verdict", "worse, canary by inverse propensity")
    ]
    targets = [
        {"name": f"null: {name}", "target": target, "measured": rate, "interval": interval, "met": met,
         "why_not": None if met else "more false alarms than promised"}
        for name, target, rate, interval, met in made
    ]  # fmt: skip
    counted = [
        ("planted regressions that are found and refused by the gate", len(harmful), len(blocked)),
        (f"planted regressions found within {MOST} x the planned units", len(harmful), len(within)),
        (
            "candidates just as good that are not called worse",
            len(equal),
            len(spared),
        ),
    ]
    targets += [
        {"name": name, "target": wanted, "measured": got, "met": got == wanted,
         "why_not": None if got == wanted else _missed(harmful)}
        for name, wanted, got in counted
    ]  # fmt: skip
    targets.append({
        "name": "promoted though nothing measured meaning", "target": 0, "measured": len(unseen), "met": not unseen,
        "why_not": "a missing metric promoted" if unseen else None,
    })  # fmt: skip
    equal_states = cost[0]["restart_equal"] and cost[0]["fresh_equal"]
    targets.append({
        "name": "a restart and a fresh look say the same", "target": 1, "measured": float(equal_states),
        "met": equal_states, "why_not": None if equal_states else "they differ",
    })  # fmt: skip
    return targets


def _missed(harmful: list[dict[str, Any]]) -> str:
    late = [f"{row['kind']} {row['seed']}: {row['ratio']:.2f}" for row in harmful if row["ratio"] > MOST]
    return "the plan has a power below 1; later than that: " + (", ".join(late) or "none")


if __name__ == "__main__":
    main()
