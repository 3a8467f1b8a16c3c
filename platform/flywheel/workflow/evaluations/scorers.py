"""What marks the checks that need a model or a sandbox, as the configuration says; loaded when first asked."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError, NotFoundInLakeError, UsageError
from flywheel.evaluation import sandbox
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.checks import Item, Opinion, Scorer, Scorers
from flywheel.evaluation.checks.code import code_of
from flywheel.evaluation.run import refuse_bad
from flywheel.inference.encoder import WORDLLAMA, check_encoder, cosines, load_encoder
from flywheel.lake.manifests import Manifest, read_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.reward import folder_hash
from flywheel.quality.reward_choice import Choice, prompt_of
from flywheel.quality.reward_fit import Scorer as RewardModel
from flywheel.quality.reward_guard import Sameness, sameness
from flywheel.records import Check, CheckKind
from flywheel.workflow.evaluations.check_judge import check_judge
from flywheel.workflow.evaluations.reward_trial import refuse_constant_winners

_Made = tuple[Scorer, str]
"""A scorer, and what exactly scores."""

_SANDBOXES: Final = 4


@contextlib.contextmanager
def scoring(lake: Lake, config: FlywheelConfig, checks: Iterable[Check], *, at_once: bool = False) -> Iterator[Scorers]:
    """``make_scorers``, with the configured judge where one of ``checks`` asks for it (see ``check_judge``)."""
    if config.judging.backend == "none" or all(check.kind != "judge" for check in checks):
        yield make_scorers(lake, config)
        return
    with check_judge(lake, config, at_once=at_once) as (judge, version):
        yield make_scorers(lake, config, judge=judge, judge_version=version)


def check_markable(lake: Lake, config: FlywheelConfig) -> None:
    """Look whether every case that a turn will ask can be marked here, and no constant answer wins where it counts.

    Raises:
        UsageError: names the first case that cannot, or the reward model that a constant wins by, and what to do.
    """
    decisive = config.decisive_suites()
    cases = load_cases(lake, config.flow, [*decisive, *config.evaluation.report_suites])
    judged = config.judging.backend != "none"  # its engine starts when it is asked
    scorers = make_scorers(lake, config)
    refuse_bad([case for case in cases if not (judged and case.check.kind == "judge")], scorers)
    if any(case.check.kind == "reward" for case in cases):
        counting = load_cases(lake, config.flow, decisive)
        # Not by the scorers of an evaluation: by those no constant wins, whatever the reward model likes.
        refuse_constant_winners(
            counting, make_scorers(lake, config, guarded=False), most=config.judging.max_constant_wins
        )


def make_scorers(
    lake: Lake,
    config: FlywheelConfig,
    *,
    judge: Scorer | None = None,
    judge_version: str = "judge",
    guarded: bool = True,
) -> Scorers:
    """Every scorer that this machine and configuration can have; of the others, what to do to have them.

    Args:
        lake: where reward models are.
        config: ``evaluation`` names the encoder and the reward model, and allows code to run.
        judge: marks the checks of kind ``judge``.
        judge_version: what exactly judges.
        guarded: a model that gives everybody one answer wins nothing by rewards. A trial of the reward model itself,
            which puts such answers to it, is not guarded.
    """
    makers: dict[CheckKind, Callable[[], _Made]] = {
        "similarity": lambda: _similarity(config),
        "reward": lambda: _reward(lake, config, guarded=guarded),
        "judge": lambda: _judge(judge, judge_version),
        "code": lambda: _code(config),
    }
    made: dict[CheckKind, _Made] = {}
    absent: dict[CheckKind, str] = {}
    for kind, maker in makers.items():
        try:
            made[kind] = maker()
        except FlywheelError as error:
            absent[kind] = str(error)
    return Scorers(
        by_kind={kind: scorer for kind, (scorer, _) in made.items()},
        absent=absent,
        versions={kind: version for kind, (_, version) in made.items()},
    )


def _similarity(config: FlywheelConfig) -> _Made:
    name = config.evaluation.encoder
    check_encoder(name)
    load = functools.cache(lambda: load_encoder(name))

    def score(items: Sequence[Item]) -> list[Opinion]:
        pairs = [(item.answer, str(item.check.expected)) for item in items]
        return [Opinion(cosine) for cosine in cosines(load(), pairs)]

    version = importlib.metadata.version(WORDLLAMA) if name == WORDLLAMA else folder_hash(Path(name))[:12]
    return score, f"{Path(name).name} {version}"


def _reward(lake: Lake, config: FlywheelConfig, *, guarded: bool) -> _Made:
    name = config.evaluation.reward_model
    if name is None:
        raise UsageError("Checks of kind 'reward' need a reward model: set evaluation.reward_model to the id of one.")
    try:
        manifest = read_manifest(lake, "reward", name, flow=config.flow)
    except NotFoundInLakeError as error:
        raise UsageError(f"The flow has no reward model '{name}' (evaluation.reward_model).") from error
    report = manifest.data.get("report")
    if report is not None and not report["usable"]:
        raise UsageError(f"The reward model '{name}' may not judge: {report['reason']}. Name a better one.")
    temperature = 1.0 if report is None else float(report["temperature"])
    load = functools.cache(lambda: _reward_models(lake, manifest, config.quality.reward.max_length))

    def score(items: Sequence[Item]) -> list[Opinion]:
        choices = [_choice(item) for item in items]
        same = _sameness(choices) if guarded else None
        if same is not None and same.degenerate:
            return [Opinion(None, same.reason) for _ in items]
        by_fold = [model(choices) for model in load()]
        margins = [[rewards[0] - sum(rewards[1:]) for rewards in fold] for fold in by_fold]
        return [Opinion(sum(of_item) / len(of_item) / temperature) for of_item in zip(*margins, strict=True)]

    return score, name


def _sameness(choices: Sequence[Choice]) -> Sameness:
    """Whether a model says the same to everybody; then no reward of it counts."""
    references = [choice.answers[1] for choice in choices if len(choice.answers) > 1]
    return sameness(
        [prompt_of(choice) for choice in choices],
        [choice.answers[0] for choice in choices],
        references if len(references) == len(choices) else None,
    )


def _reward_models(lake: Lake, manifest: Manifest, max_length: int) -> list[RewardModel]:
    models: list[RewardModel] = []
    for fold in manifest.data["folds"]:
        with tempfile.TemporaryDirectory(prefix="flywheel-reward-") as folder:
            lake.store.download_folder(fold["prefix"], Path(folder))
            models.append(RewardModel(Path(folder), max_length))
    return models


def _choice(item: Item) -> Choice:
    """The answer and, where the check has one, the reference answer that it is compared with."""
    reference = str(item.check.expected)
    answers = [item.answer, reference] if reference.strip() else [item.answer]
    messages: list[dict[str, Any]] = [message.model_dump() for message in item.messages]
    return Choice(messages, answers)


def _judge(judge: Scorer | None, version: str) -> _Made:
    if judge is None:
        raise UsageError("Checks of kind 'judge' need a judge, and none is configured.")
    return judge, version


def _code(config: FlywheelConfig) -> _Made:
    unconfined = config.evaluation.allow_unconfined_code
    if not config.evaluation.allow_code:
        raise UsageError("Checks of kind 'code' run what a model wrote, and that is off: see evaluation.allow_code.")
    if not unconfined:
        sandbox.require()

    def run(item: Item) -> Opinion:
        failure = sandbox.run_tests(code_of(item.answer), str(item.check.expected), unconfined=unconfined)
        return Opinion(0.0, failure) if failure else Opinion(1.0)

    return _each(run, min(_SANDBOXES, os.cpu_count() or 1)), "unconfined" if unconfined else "sandbox"


def _each(ask: Callable[[Item], Opinion], workers: int) -> Scorer:
    def score(items: Sequence[Item]) -> list[Opinion]:
        with ThreadPoolExecutor(max_workers=workers) as pool:
            return list(pool.map(ask, items))

    return score
