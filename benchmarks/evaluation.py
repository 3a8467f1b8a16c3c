"""Does evaluation cost anything beside answering? Cases a second of `evaluate` against the engine's own batch rate.

Both sides answer the same prompts with the same running engine, in turns (a round of one, a round of the other, the
order changing), so that a machine that gets slower slows both. The engine's own rate is one direct call of the Serve
handle that carries all prompts. `evaluate` loads the cases, answers, marks, and commits every item to the lake; each
round has a lake of its own, so that nothing is found answered.

    python benchmarks/evaluation.py [--model tiny] [--cases 2000] [--rounds 6] [--seed 0] [--short]

Result: ``evaluation-throughput`` (with --short: printed only).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import results_file

from flywheel.config import FlywheelConfig, load
from flywheel.demo.models import tiny
from flywheel.evaluation.cases import store_cases
from flywheel.evaluation.run import Generate, evaluate
from flywheel.inference.engines import app_name
from flywheel.inference.generate import generate
from flywheel.lake.tables import Lake
from flywheel.records import Check, EvalCase, Message
from flywheel.registry.versions import resolve
from flywheel.rollout.routing import Variant
from flywheel.statistics.bootstrap import mean_interval
from flywheel.telemetry import Silent
from flywheel.workflow.cluster import connected
from flywheel.workflow.turns.engines import serving

SUITE = "bench"
TARGET = 0.9
WORDS = ("refund", "parcel", "invoice", "login", "router", "charged twice", "cancel", "late", "broken", "address")

Direct = Callable[[Sequence[EvalCase]], None]
"""Answers all cases in one call of the engine."""


def make_cases(count: int, flow: str, seed: int) -> list[EvalCase]:
    """Short requests, no two alike, so that no prefix cache answers one for another."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        text = f"{number}: my {' and '.join(rng.choice(WORDS, size=int(rng.integers(2, 6)), replace=False))} please"
        cases.append(
            EvalCase(
                case_id=f"bench-{number:06d}",
                flow=flow,
                suite=SUITE,
                messages=[Message(role="user", content=text)],
                check=Check(kind="json", expected={"intent": "refund"}),
                origin="golden",
                slice=WORDS[number % len(WORDS)],
                subject=f"s{number // 3}",
            )
        )
    return cases


def measure(
    config: FlywheelConfig,
    version: str,
    cases: Sequence[EvalCase],
    rounds: int,
    folder: Path,
    *,
    direct: Direct,
    answer: Generate = generate,
) -> list[dict[str, Any]]:
    """Seconds of both sides, round by round."""
    rows = []
    for number in range(rounds):
        lake = Lake(str(folder / f"round-{number}"))
        store_cases(lake, config.flow, cases)

        def ours(lake: Lake = lake) -> None:
            done = evaluate(lake, config, version=version, suites=[SUITE], content="bench", generate=answer)
            if done.answered != len(cases) or done.unanswered:
                raise RuntimeError(f"{done.answered} of {len(cases)} answered, {done.unanswered} lost")

        sides: dict[str, Callable[[], None]] = {"evaluate": ours, "engine": lambda: direct(cases)}
        order = list(sides) if number % 2 else list(reversed(sides))
        taken = {name: _seconds(sides[name]) for name in order}
        rates = {name: len(cases) / taken[name] for name in sides}
        rows.append({"round": number, "first": order[0], "cases": len(cases), **rates,
                     "ratio": rates["evaluate"] / rates["engine"]})  # fmt: skip
    return rows


def summary(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The mean of the rounds' ratios with its bootstrap interval, against the target."""
    ratio = mean_interval([row["ratio"] for row in rows], seed=seed)
    target: dict[str, Any] = {
        "name": "evaluate / the engine's own batch rate, cases a second",
        "target": TARGET,
        "measured": round(ratio.mean, 4),
        "interval": [round(ratio.low, 4), round(ratio.high, 4)],
        "peer": "one direct call of the engine with all prompts",
        "met": ratio.mean >= TARGET,
    }
    if not target["met"]:
        target["why_not"] = (
            f"loading, marking and storing {rows[0]['cases']} cases takes {1 - ratio.mean:.0%} of the time "
            "of a model that answers as fast as this one"
        )
    return target


def engine_call(config: FlywheelConfig, version: str) -> Direct:
    """All prompts in one call of the running engine, as many in it at once as `evaluate` has."""
    from ray import serve

    handle: Any = serve.get_app_handle(app_name(version))

    def call(cases: Sequence[EvalCase]) -> None:
        bodies = [
            {
                "model": version,
                "messages": [message.model_dump() for message in case.messages],
                "max_tokens": config.evaluation.max_tokens,
                "temperature": 0.0,
            }
            for case in cases
        ]
        answers = handle.generate.remote(bodies, config.evaluation.concurrency, 600.0).result()
        if failed := [one["error"] for one in answers if "error" in one]:
            raise RuntimeError(f"the engine failed {len(failed)} of {len(cases)}: {failed[0]}")

    return call


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, smollm2, or a folder")
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="300 cases, two rounds, no result file")
    options = parser.parse_args()
    count, rounds = (300, 2) if options.short else (options.cases, options.rounds)
    with tempfile.TemporaryDirectory(prefix="fw-bench-") as place:
        folder = Path(place)
        config = load(FlywheelConfig, overrides={"home": str(folder / "home")})
        lake = Lake(str(folder / "models"))
        found = resolve(lake, config, tiny(config, Silent()) if options.model == "tiny" else options.model)
        variant = Variant(version=found.version, folder=str(found.folder))
        cases = make_cases(count, config.flow, options.seed)
        with connected(config), serving(lake, config, variant):
            direct = engine_call(config, variant.version)
            direct(cases[:200])  # the first requests meet a cold engine
            rows = measure(config, variant.version, cases, rounds, folder, direct=direct)
    target = summary(rows, options.seed)
    for row in rows:
        print("round {round}: evaluate {evaluate:,.1f}/s, engine {engine:,.1f}/s, {ratio:.3f}".format(**row))
    print(json.dumps(target, indent=1))
    if not options.short:
        print(results_file.write("evaluation-throughput", options.seed, rows, [target]))


if __name__ == "__main__":
    main()
