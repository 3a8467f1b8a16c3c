"""Level 1 on a cluster: each Ray Tune trial is a batch of proposals.

One proposal is a few array comparisons, so a Tune trial of its own would cost a hundred times what it measures.
Trials go by generations: those of one generation know what all earlier ones found, and nothing of each other, so
that the result depends on the seed and not on who was faster.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from flywheel.config import FilterConfig, SweepConfig
from flywheel.telemetry import Progress
from flywheel.workflow.sweeps.outcomes import Outcome, value
from flywheel.workflow.sweeps.records import Records, Trial
from flywheel.workflow.sweeps.rows import TuneRows
from flywheel.workflow.sweeps.study import study

SEED_STRIDE = 1000
"""Trial n of seed s samples with s * 1000 + n."""


def search(
    rows: TuneRows, start: FilterConfig, config: SweepConfig, records: Records, *, seed: int, progress: Progress
) -> list[Trial]:
    """Run the trials that no record has yet; all of them, in order."""
    missing = [number for number in range(config.trials) if records.trial(number) is None]
    if missing:
        _run(missing, rows, start, config, records, seed=seed, progress=progress)
    return records.trials(config.trials)


def known_before(records: Records, number: int, generation: int) -> list[Outcome]:
    """What the batches of earlier generations found."""
    earlier = records.trials(number // generation * generation)
    return [outcome for trial in earlier for outcome in trial.outcomes]


def _run(
    missing: Sequence[int], rows: TuneRows, start: FilterConfig, config: SweepConfig, records: Records, *, seed: int,
    progress: Progress,
) -> None:  # fmt: skip
    prepare()
    import ray
    from ray import tune

    from flywheel.workflow.sweeps.tuning import Generations, Told, placeable

    placeable("sweep trials", {"CPU": config.num_cpus}, "sweep.num_cpus")
    shared = ray.put(rows.light())

    def trial(params: dict[str, Any]) -> dict[str, Any]:
        begun, number = time.monotonic(), params["trial"]
        known = known_before(records, number, config.generation)
        here: TuneRows = ray.get(shared)
        found = study(here, start, config, seed=seed * SEED_STRIDE + number, known=known)
        kept = records.keep_trial(Trial(trial=number, outcomes=found, seconds=time.monotonic() - begun))
        return {"value": max(value(one, here, config.wrong_row_cost) for one in kept.outcomes)}

    done = config.trials - len(missing)
    told = Told(progress, total=config.trials * config.proposals_per_trial, each=config.proposals_per_trial, done=done)
    with tempfile.TemporaryDirectory(prefix="flywheel-sweep-") as folder:
        results = tune.Tuner(
            tune.with_resources(trial, {"cpu": config.num_cpus}),
            tune_config=tune.TuneConfig(
                metric="value", mode="max", num_samples=len(missing), reuse_actors=True,
                max_concurrent_trials=config.max_concurrent, search_alg=Generations(missing, config.generation),
            ),
            run_config=tune.RunConfig(name="sweep", storage_path=folder, verbose=0, callbacks=[told]),
        ).fit()  # fmt: skip
    if results.errors:
        raise results.errors[0]


def prepare() -> None:
    """Before Tune is imported: no tables at verbose=0, and Ctrl-C is Python's, which ends the sweep at once."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
