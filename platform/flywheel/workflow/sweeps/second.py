"""From the first level's proposals to the second's verdict: who takes part, with what data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.manifests import content_id
from flywheel.quality.rows import Candidate
from flywheel.quality.score import SignalTable
from flywheel.records import Label
from flywheel.telemetry import Progress
from flywheel.training.result import fingerprint
from flywheel.workflow.sweeps.proxies import Arena, ProxyResult, contest, proxy_training
from flywheel.workflow.sweeps.proxy_data import ProxyData, chosen, proxy_data, right_answers
from flywheel.workflow.sweeps.records import Records

NOT_CONTENT = {"finalists", "max_concurrent", "num_cpus", "min_prompts"}
"""Settings of the second level that change no proxy."""


@dataclass(frozen=True)
class Proxies:
    """What a second level needs beside the first one's: weights, a folder that every node sees, and consent."""

    base: Path
    work: Path
    allowed: Collection[str]
    """Inference ids whose people agree to training now."""


def second_level(
    given: Proxies,
    filters: Sequence[FilterConfig],
    config: FlywheelConfig,
    records: Records,
    *,
    candidates: Sequence[Candidate],
    signals: SignalTable,
    labels: Sequence[Label],
    progress: Progress,
) -> ProxyResult:
    """Fine-tune a proxy for each filter, the likely best first.

    Raises:
        UsageError: too few tune-labelled prompts have a known right answer, or no filter keeps anything.
    """
    settings = config.sweep.proxy
    answers = right_answers(candidates, labels)
    data = proxy_data(candidates, answers, allowed=given.allowed, flow=config.flow)
    if len(data.asked) < settings.min_prompts:
        raise UsageError(
            f"{len(data.asked)} tune-labelled prompts have a known right answer, proxies need {settings.min_prompts}: "
            "label more answers (accept or correct), or set sweep.proxy.finalists to 0."
        )
    limit = config.quality.max_examples
    kept = {one.version: chosen(data, signals, one, max_examples=limit, seed=config.seed) for one in filters}
    kept = {version: examples for version, examples in kept.items() if examples}
    if not kept:
        raise UsageError("none of the best filters keeps a row that proxies may learn from; collect more feedback.")
    arena = Arena(
        base=given.base,
        training=config.training,
        config=settings,
        asked=data.asked,
        records=replace(records, sweep=f"{records.sweep}/{_identity(given, data, config)}"),
        work=given.work,
        seed=config.seed,
    )
    return contest(arena, kept, progress)


def _identity(given: Proxies, data: ProxyData, config: FlywheelConfig) -> str:
    """The same weights, rows, prompts and settings: the same proxies, whose rungs count."""
    settings = config.sweep.proxy.model_dump(mode="json", exclude=NOT_CONTENT)
    training = proxy_training(config.training, config.sweep.proxy)
    mark = fingerprint(training, given.base, data.asked, config.seed)
    learn = [[row.inference_id, row.target] for row in data.learn]
    return content_id("proxies", settings, mark, learn, config.quality.max_examples)
