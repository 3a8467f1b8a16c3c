"""What does a sweep cost on Ray Tune, and does its second level find what training everything would?

Level 1: 500 proposals over a million rows of signals, 50 a Tune trial, Ray already up, beside Optuna alone in this
process, and beside a Tune trial for each proposal (a tenth of them, extrapolated). The best value of several seeds is
compared for batches that know nothing of each other, batches that start from what earlier generations found, one
Optuna study, Optuna's own multi-objective search, and chance.

Level 2: proxies of eight filters of different strictness over noisy rows, trained to the end (the full grid) and
under ASHA, with several seeds of training.

    python benchmarks/sweep.py [--seed 0] [--level 1] [--short]

``--short``: 50,000 rows, 100 proposals, one seed, three filters; prints, writes nothing. Results: ``sweep-search.json``
of level 1 and ``sweep-proxies.json`` of level 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import results_file

from flywheel.config import FilterConfig, ProxyConfig, SweepConfig, TrainingConfig
from flywheel.lake.store import ObjectStore
from flywheel.quality.filters import Columns
from flywheel.records import Example, Message
from flywheel.telemetry import Silent, apply_environment
from flywheel.workflow.sweeps.outcomes import Outcome, evaluate, value
from flywheel.workflow.sweeps.pareto import front, hypervolume
from flywheel.workflow.sweeps.proxies import Arena, ProxyResult, contest
from flywheel.workflow.sweeps.records import Records
from flywheel.workflow.sweeps.rows import TuneRows
from flywheel.workflow.sweeps.space import space
from flywheel.workflow.sweeps.study import study
from flywheel.workflow.sweeps.trials import SEED_STRIDE, search

COST = 3.0
START = FilterConfig()


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    rows: int = 1_000_000
    proposals: int = 500
    batch: int = 50
    generation: int = 2
    alone: int = 50
    seeds: int = 8
    seed_rows: int = 3_000
    filters: int = 8
    trainings: int = 3
    questions: int = 60


SHORT = Size(rows=50_000, proposals=100, alone=6, seeds=1, seed_rows=1_500, filters=3, trainings=1, questions=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", type=int, choices=(1, 2), help="only this one")
    parser.add_argument("--short", action="store_true", help="smaller; prints, writes nothing")
    options = parser.parse_args()
    size = SHORT if options.short else Size()
    apply_environment()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    values = best_values(size, options.seed) if options.level != 2 else []
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=500 * 2**20)
    try:
        if options.level != 2:
            level1 = costs(size, options.seed)
            report("sweep-search", [*values, *level1], search_targets(values, level1), options)
        if options.level != 1:
            level2 = proxies(size, options.seed)
            report("sweep-proxies", level2, proxy_targets(level2), options)
    finally:
        ray.shutdown()


def report(name: str, rows: list[dict[str, Any]], found: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print it, and write the result of a full run."""
    for row in [*rows, *found]:
        print(row, flush=True)
    if not options.short:
        print(results_file.write(name, options.seed, rows, found))


def world(count: int, seed: int) -> TuneRows:
    """One row in five is wrong; every signal tells a little, some are missing."""
    rng = np.random.default_rng(seed)
    right, correction = rng.random(count) > 0.2, rng.random(count) < 0.5

    def signal(strength: float, low: float, high: float, missing: float = 0.0) -> np.ndarray:
        hidden = rng.normal(0, 1, count) + strength * right
        made = low + (high - low) / (1 + np.exp(strength / 2 - hidden))
        made[rng.random(count) < missing] = np.nan
        return made

    signals = {
        "agreement": signal(1.5, 0, 1, 0.2),
        "preference": signal(1.0, 0, 1, 0.1),
        "rater_trust": signal(0.8, 0, 1),
        "reward_margin": np.where(correction, signal(1.2, -4, 6), np.nan),
        "liked_percentile": np.where(correction, np.nan, signal(0.9, 0, 1)),
        "correction_distance": np.where(correction, 1 - signal(0.4, 0, 1), np.nan),
        "format": (rng.random(count) < np.where(right, 0.99, 0.9)).astype(np.float64),
        "explicit": np.where(rng.random(count) < 0.6, rng.choice([-1.0, 1.0], count, p=[0.2, 0.8]), np.nan),
        "engagement": signal(0.5, 0, 1, 0.3),
    }
    return TuneRows(Columns([str(i) for i in range(count)], correction, signals), right, [""] * count)


def one_study(rows: TuneRows, proposals: int, seed: int) -> list[Outcome]:
    """Optuna alone in this process: what a script without Ray would do."""
    return study(rows, START, SweepConfig(proposals_per_trial=proposals), seed=seed)


def batches(rows: TuneRows, size: Size, seed: int, generation: int) -> list[Outcome]:
    """What the Tune trials find, without Tune."""
    config, found = SweepConfig(proposals_per_trial=size.batch), []
    for number in range(size.proposals // size.batch):
        known = [one for made in found[: number // generation * generation] for one in made]
        found.append(study(rows, START, config, seed=seed * SEED_STRIDE + number, known=known))
    return [one for made in found for one in made]


def of_optuna(rows: TuneRows, proposals: int, seed: int, *, chance: bool) -> list[Outcome]:
    """Multi-objective TPE over (quality, volume), or random search."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind = optuna.samplers.RandomSampler if chance else optuna.samplers.TPESampler
    searcher = optuna.create_study(directions=["maximize", "maximize"], sampler=kind(seed=seed))
    found = []
    for _ in range(proposals):
        asked = searcher.ask(space())
        found.append(evaluate(rows, START, [asked.params])[0])
        searcher.tell(asked, [found[-1].quality, found[-1].volume])
    return found


def best_values(size: Size, seed: int) -> list[dict[str, Any]]:
    """Best value and front of each way to search, on small worlds of several seeds."""
    ways: dict[str, Callable[[TuneRows, int], list[Outcome]]] = {
        "one study in process": lambda rows, s: one_study(rows, size.proposals, s),
        "independent batches": lambda rows, s: batches(rows, size, s, size.proposals),
        "generations of 2 batches": lambda rows, s: batches(rows, size, s, 2),
        "generations of 5 batches": lambda rows, s: batches(rows, size, s, 5),
        "multi-objective study": lambda rows, s: of_optuna(rows, size.proposals, s, chance=False),
        "chance": lambda rows, s: of_optuna(rows, size.proposals, s, chance=True),
    }
    made = []
    for number in range(seed, seed + size.seeds):
        rows = world(size.seed_rows, number)
        for way, run in ways.items():
            found = run(rows, number)
            best = max(value(one, rows, COST) for one in found)
            made.append({"what": "best value", "way": way, "seed": number, "value": best,
                         "hypervolume": hypervolume(front(found))})  # fmt: skip
    return made


def costs(size: Size, seed: int) -> list[dict[str, Any]]:
    """Wall time of the three ways to run level 1 on the large world; Ray and its workers are up."""
    rows = world(size.rows, seed)
    trials = size.proposals // size.batch
    batched = SweepConfig(
        trials=trials, proposals_per_trial=size.batch, generation=size.generation, max_concurrent=2, num_cpus=1
    )
    with tempfile.TemporaryDirectory() as folder:
        store = ObjectStore(folder)

        def tuned(name: str, config: SweepConfig) -> tuple[float, float]:
            begun = time.perf_counter()
            found = search(rows, START, config, Records(store, "f", name), seed=seed, progress=Silent())
            seconds = time.perf_counter() - begun
            return seconds, max(value(one, rows, COST) for trial in found for one in trial.outcomes)

        tuned("warm", replace_config(batched, trials=2, proposals_per_trial=2))
        begun = time.perf_counter()
        alone = max(value(one, rows, COST) for one in one_study(rows, size.proposals, seed))
        in_process = time.perf_counter() - begun
        seconds, best = tuned("batched", batched)
        singles = replace_config(batched, trials=size.alone, proposals_per_trial=1, generation=size.alone)
        single, _ = tuned("singles", singles)
    scale = size.proposals / size.alone
    return [
        {"what": "cost", "way": "in process", "rows": size.rows, "seconds": in_process, "value": alone},
        {"what": "cost", "way": "batches on Tune", "rows": size.rows, "seconds": seconds, "value": best},
        {"what": "cost", "way": "one trial a proposal", "rows": size.rows, "seconds": single * scale,
         "measured_trials": size.alone, "actors": "reused, as with batches"},
    ]  # fmt: skip


def replace_config(config: SweepConfig, **changed: Any) -> SweepConfig:
    return config.model_copy(update=changed)


def proxies(size: Size, seed: int) -> list[dict[str, Any]]:
    """Eight filters over rows of which 40 % are wrong: full grid and ASHA, several trainings."""
    from flywheel.testing import make_tiny_model

    made = []
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"{one.messages[0].content} {one.target}" for one in questions(range(40))]
        base = make_tiny_model(Path(folder) / "base", texts=texts, hidden=64)
        for number in range(seed, seed + size.trainings):
            kept = filtered(size, number)
            config = ProxyConfig(steps=32, first_rung=4, reduction=2, num_cpus=0.5)
            grid = config.model_copy(update={"first_rung": config.steps})
            for way, settings in (("full grid", grid), ("ASHA", config)):
                begun = time.perf_counter()
                found = _contest(Path(folder), base, settings, kept, name=f"{number}-{way[:4]}", seed=number)
                made.append({"what": "proxies", "way": way, "seed": number, "winner": found.winner,
                             "tokens": found.tokens, "seconds": time.perf_counter() - begun,
                             "losses": {one.version: one.rungs[-1].loss for one in found.contestants}})  # fmt: skip
    return made


def _contest(
    folder: Path, base: Path, config: ProxyConfig, kept: dict[str, list[Example]], *, name: str, seed: int
) -> ProxyResult:
    training = TrainingConfig(num_workers=1, micro_batch_size=8, learning_rate=3e-3, max_length=96)
    records = Records(ObjectStore(str(folder / "lake")), "f", name)
    arena = Arena(base, training, config, questions(range(90, 100)), records, folder / name, seed)
    return contest(arena, kept, Silent())


def filtered(size: Size, seed: int) -> dict[str, list[Example]]:
    """What filters of rising strictness keep: fewer rows, of which more are right; the strictest keep very few."""
    rng = np.random.default_rng(seed)
    everything = questions(range(size.questions))
    right = rng.random(len(everything)) > 0.4
    signal = rng.normal(0, 1, len(everything)) + 2.0 * right
    shown = [one if good else _wrong(one, rng) for one, good in zip(everything, right, strict=True)]
    bars = np.quantile(signal, np.linspace(0, 0.97, size.filters))
    order = np.argsort(np.abs(np.linspace(0, 0.97, size.filters) - 0.4))  # as level 1 would: the likely best first
    return {
        f"bar-{at}": [one for one, seen in zip(shown, signal, strict=True) if seen >= bars[at]] for at in order.tolist()
    }


COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "rose": "red", "sun": "yellow"}


def questions(numbers: Sequence[int]) -> list[Example]:
    return [
        Example(
            example_id=f"{number}-{thing}", flow="f", messages=[Message(role="user", content=f"{number}: {thing}?")],
            target=colour, inference_ids=[f"{number}"], subject="s", origin="correction",
        )
        for number in numbers
        for thing, colour in COLOURS.items()
    ]  # fmt: skip


def _wrong(one: Example, rng: np.random.Generator) -> Example:
    others = [colour for colour in COLOURS.values() if colour != one.target]
    return one.model_copy(update={"target": others[int(rng.integers(len(others)))]})


def search_targets(values: list[dict[str, Any]], level1: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises of the first level."""
    seconds = {row["way"]: row["seconds"] for row in level1}
    slower = seconds["batches on Tune"] / seconds["in process"]
    faster = seconds["one trial a proposal"] / seconds["batches on Tune"]
    by_way = {way: [row["value"] for row in values if row["way"] == way] for way in {row["way"] for row in values}}
    lost = float(np.mean(by_way["one study in process"]) - np.mean(by_way["generations of 2 batches"]))
    return [
        target("wall time over in-process Optuna", "<= 1.5", slower, slower <= 1.5),
        target("best value lost to one study, mean over seeds", "<= 0.005", lost, lost <= 0.005),
        target("times faster than one Tune trial a proposal", ">= 5", faster, faster >= 5),
    ]


def proxy_targets(level2: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises of the second level."""
    grid = {row["seed"]: row for row in level2 if row["way"] == "full grid"}
    asha = {row["seed"]: row for row in level2 if row["way"] == "ASHA"}
    same = float(np.mean([grid[seed]["winner"] == asha[seed]["winner"] for seed in grid]))
    share = sum(row["tokens"] for row in asha.values()) / sum(row["tokens"] for row in grid.values())
    return [
        target("same winner as the full grid, share of trainings", ">= 1", same, same >= 1),
        target("tokens of the full grid", "<= 0.5", share, share <= 0.5),
    ]


def target(name: str, bound: str, measured: float, met: bool) -> dict[str, Any]:
    why = None if met else "measured on this machine; see the rows"
    return {"name": name, "target": bound, "measured": measured, "met": met, "why_not": why}


if __name__ == "__main__":
    main()
