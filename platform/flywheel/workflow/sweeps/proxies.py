"""Level 2: a short real fine-tune for each of the best few filters; ASHA stops the bad ones (Li et al. 2020).

Every proxy starts from the same weights and takes the same steps on the rows that its filter keeps, so that what is
compared is the data at equal compute. The measure is the loss on right answers to tune-labelled prompts.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.config import ProxyConfig, TrainingConfig
from flywheel.records import Example, Record
from flywheel.telemetry import Progress
from flywheel.workflow.sweeps.records import Records, Rung
from flywheel.workflow.sweeps.trials import prepare


class Contestant(Record):
    """One filter of the second level."""

    version: str
    examples: int = Field(description="rows that the filter keeps, as curation would")
    rungs: list[Rung]
    finished: bool = Field(description="nothing stopped it before its last step")


class ProxyResult(Record):
    """What the second level found."""

    winner: str = Field(description="version of the filter whose proxy ended with the lowest loss")
    contestants: list[Contestant] = Field(description="in the order in which they ran")
    tokens: int = Field(description="trained on, by all proxies together")
    tokens_of_all: int = Field(description="what they would have been, had none been stopped")


@dataclass(frozen=True)
class Arena:
    """What all proxies share. ``work`` is a folder that every node sees; it is removed at the end."""

    base: Path
    training: TrainingConfig
    config: ProxyConfig
    asked: Sequence[Example]
    records: Records
    work: Path
    seed: int


def rung_steps(config: ProxyConfig) -> list[int]:
    """Steps after which proxies are compared: first_rung * reduction^k below ``steps``, then ``steps``."""
    found, at = [], config.first_rung
    while at < config.steps:
        found.append(at)
        at *= config.reduction
    return [*found, config.steps]


def proxy_training(training: TrainingConfig, config: ProxyConfig) -> TrainingConfig:
    """The flow's training on one worker, with the same examples in one step as all its workers have together."""
    return training.model_copy(
        update={
            "num_workers": 1,
            "gradient_accumulation": training.gradient_accumulation * training.num_workers,
            "zero_stage": min(training.zero_stage, 2),  # there is nobody to split weights with
            "epochs": config.steps,  # at the most: the schedule ends by steps
        }
    )


def contest(arena: Arena, contestants: Mapping[str, Sequence[Example]], progress: Progress) -> ProxyResult:
    """Train what no record has yet, and compare.

    Args:
        arena: base, settings and what is asked.
        contestants: filter version -> examples it keeps, the likely best first.
        progress: told about rungs.
    """
    if not all(arena.records.ended(version) for version in contestants):
        jobs = {version: _job(arena, version, examples) for version, examples in contestants.items()}
        _run(arena, jobs, progress)
    shutil.rmtree(arena.work, ignore_errors=True)
    return judge(
        [
            Contestant(
                version=version,
                examples=len(examples),
                rungs=(rungs := arena.records.rungs(version)),
                finished=len(rungs) == len(rung_steps(arena.config)),
            )
            for version, examples in contestants.items()
        ],
        steps=arena.config.steps,
    )


def judge(contestants: Sequence[Contestant], *, steps: int) -> ProxyResult:
    """The lowest loss of those that finished; of equals the first. Pure."""
    finished = [one for one in contestants if one.finished]
    best = min(finished, key=lambda one: round(one.rungs[-1].loss, 9))
    last = [one.rungs[-1] for one in contestants if one.rungs]
    return ProxyResult(
        winner=best.version,
        contestants=list(contestants),
        tokens=sum(rung.tokens for rung in last),
        tokens_of_all=sum(math.ceil(rung.tokens / rung.step * steps) for rung in last),
    )


def _job(arena: Arena, version: str, examples: Sequence[Example]) -> Any:
    """Encode on the driver, once; the workers read flat arrays."""
    from flywheel.training.examples import save_encoded
    from flywheel.training.export import count_parameters
    from flywheel.training.finetune import encode_for
    from flywheel.training.result import Job

    config = proxy_training(arena.training, arena.config)
    encoded, _, pad_id = encode_for(config, arena.base, examples)
    job = Job(
        config=config, base=arena.base, folder=arena.work / version, seed=arena.seed, pad_id=pad_id,
        parameters=count_parameters(arena.base),
    )  # fmt: skip
    save_encoded(encoded, job.data)
    asked, _, _ = encode_for(config.model_copy(update={"prompt_loss_weight": 0.0}), arena.base, arena.asked)
    save_encoded(asked, arena.work / "asked.npz")
    return job


def _run(arena: Arena, jobs: Mapping[str, Any], progress: Progress) -> None:
    prepare()
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from flywheel.workflow.sweeps.tuning import RungsTold, placeable

    config, records = arena.config, arena.records
    steps, asked = rung_steps(config), arena.work / "asked.npz"
    each = {"CPU": config.num_cpus, "GPU": arena.training.gpus_per_worker}
    placeable("proxy fine-tunes", each, "sweep.proxy.num_cpus or training.gpus_per_worker")

    def trial(params: dict[str, Any]) -> None:
        version = params["filter"]
        train(jobs[version], version, records, steps, asked)

    with tempfile.TemporaryDirectory(prefix="flywheel-sweep-") as folder:
        results = tune.Tuner(
            tune.with_resources(trial, {key.lower(): amount for key, amount in each.items() if amount}),
            param_space={"filter": tune.grid_search(_replay_first(list(jobs), records))},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                max_concurrent_trials=config.max_concurrent,
                scheduler=ASHAScheduler(
                    time_attr="step",
                    max_t=config.steps,
                    grace_period=steps[0],
                    reduction_factor=config.reduction,
                ),
            ),
            run_config=tune.RunConfig(
                name="proxies", storage_path=folder, verbose=0, callbacks=[RungsTold(progress, records, len(jobs))]
            ),
        ).fit()
    if results.errors:
        raise results.errors[0]


def train(job: Any, version: str, records: Records, steps: Sequence[int], asked: Path) -> None:
    """One Tune trial: tell ASHA what is recorded, then go on from the last rung unless it had ended."""
    from ray import tune

    known = records.rungs(version)
    for rung in known:
        tune.report(rung.model_dump())
    if records.ended(version) or len(known) == len(steps):
        return
    from flywheel.training.examples import load_encoded
    from flywheel.training.proxy import Proxy

    proxy, questions, kept = Proxy(job, steps=steps[-1]), load_encoded(asked), job.folder / "state"
    proxy.restore(kept)
    for number in range(len(known), len(steps)):
        begun = time.monotonic()
        state = proxy.advance(steps[number])
        fit = proxy.fit(questions)
        proxy.save(kept)  # before the record: a rung that is recorded has its weights
        seconds = time.monotonic() - begun
        rung = Rung(step=state.step, tokens=state.tokens, loss=fit.loss, exact=fit.exact, seconds=seconds)
        tune.report(records.keep_rung(version, number, rung).model_dump())


def _replay_first(versions: list[str], records: Records) -> list[str]:
    """Those that ended before, so that ASHA knows their rungs when the others are compared; else the given order."""
    return sorted(versions, key=lambda version: not records.ended(version))
