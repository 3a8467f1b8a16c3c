"""``flywheel evaluate``: models on suites under parameters, each cell once, whatever happens in between.

What was answered lies in ``eval_results`` under the model's content, the case's version and the parameters, so a
sweep that was killed at any moment goes on behind its last block, and one that is repeated starts no engine. A
finished cell leaves an artifact, ``manifests/evaluation/<flow>/<id>.json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import flywheel
from flywheel.config import EvaluationGrid, FlywheelConfig, config_hash
from flywheel.errors import FlywheelError, ModelError, UsageError
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.checks import Scorers
from flywheel.evaluation.compare import compare
from flywheel.evaluation.differences import Difference, adjusted
from flywheel.evaluation.run import EvalRun, Generate, evaluate
from flywheel.lake.lease import Held
from flywheel.lake.manifests import Manifest, content_id, manifest_key, write_manifest
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import EvalCase, EvalResult
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.evaluations.answering import Answering, Model, find_model
from flywheel.workflow.evaluations.grid import Cell, Evaluation, Row, samplings, unique
from flywheel.workflow.evaluations.outside import may_leave
from flywheel.workflow.evaluations.scorers import scoring
from flywheel.workflow.turns.lease import EVALUATING, only_one

KIND = "evaluation"


def evaluate_grid(
    config: FlywheelConfig,
    grid: EvaluationGrid,
    *,
    progress: Progress | None = None,
    answering: Callable[[Lake, FlywheelConfig], Answering] | None = None,
) -> Evaluation:
    """Every cell of a sweep, and each row's difference to the first.

    A model that cannot be loaded or does not start fails its own cells, with the reason; the others go on.

    Args:
        config: the flow.
        grid: models, suites, parameters.
        progress: told about every cell.
        answering: what answers; default: engines, the batch job or the endpoint, as configured.

    Raises:
        UsageError: no such model, or a suite without cases. Nothing was asked then.
        LeaseHeldError: another sweep of this flow is running.
    """
    started = time.monotonic()
    lake = open_lake(config)
    found = {name: _find(lake, config, name, grid) for name in unique(grid.models)}
    cases = _cases(lake, config, unique(grid.suites))
    rows = [Row(name, _version(name, model), one) for name, model in found.items() for one in samplings(grid, config)]
    make = answering or (lambda lake, config: Answering(lake, config, grid.endpoint))
    checks = [case.check for suite in cases.values() for case in suite]
    with only_one(config, EVALUATING) as lease, make(lake, config) as answers, scoring(lake, config, checks) as scorers:
        work = _Work(lake, config, cases, rows, lease, answers, scorers, progress or Silent())
        done = [one for name, model in found.items() for one in work.model(name, model)]
    return Evaluation(
        flow=config.flow,
        rows=rows,
        cells=[one.cell for one in done],
        differences=_differences(config, done),
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Done:
    """A cell, and the items behind its score."""

    cell: Cell
    results: list[EvalResult]


@dataclass(frozen=True)
class _Work:
    """A sweep under way."""

    lake: Lake
    config: FlywheelConfig
    cases: dict[str, list[EvalCase]]
    rows: list[Row]
    lease: Held
    answers: Answering
    scorers: Scorers
    progress: Progress

    def model(self, name: str, model: Model | FlywheelError) -> Iterator[_Done]:
        """The cells of all rows of one model, whose engine starts at most once."""
        mine = [(number, suite) for number, row in enumerate(self.rows) if row.name == name for suite in self.cases]
        if isinstance(model, FlywheelError):
            yield from (_Done(Cell(number, suite, reason=str(model)), []) for number, suite in mine)
            return
        with self.answers.model(model) as generate:
            for number, suite in mine:
                self.lease.check()
                yield self._cell(number, suite, model, generate)

    def _cell(self, number: int, suite: str, model: Model, generate: Generate) -> _Done:
        cases = self.cases[suite]
        asked = may_leave(self.lake, self.config, cases) if model.outside else cases
        withheld = len(cases) - len(asked)
        self.progress.start("evaluate", f"{self.rows[number]} on {suite}")
        if not asked:
            reason = f"none of the {withheld} cases may leave the cluster: nobody agreed to third_party"
            return self._failed(Cell(number, suite, reason=reason, withheld=withheld))
        try:
            run = self._evaluate(number, suite, model, generate, {case.case_id for case in asked})
        except UsageError:
            raise
        except FlywheelError as error:
            return self._failed(Cell(number, suite, reason=str(error), withheld=withheld))
        cell = Cell(
            row=number,
            suite=suite,
            score=run.suites[suite],
            run_id=run.run_id,
            artifact=None if run.unanswered else self._keep(number, suite, model, run),
            answered=run.answered,
            reused=run.reused,
            unanswered=run.unanswered,
            withheld=withheld,
        )
        self.progress.finish(f"{self.rows[number]} on {suite}: {run.answered:,} cases, {run.reused:,} answered before")
        return _Done(cell, run.results)

    def _evaluate(self, number: int, suite: str, model: Model, generate: Generate, only: set[str]) -> EvalRun:
        return evaluate(
            self.lake,
            self.config,
            version=model.version,
            suites=[suite],
            only=only,
            content=model.content,
            sampling=self.rows[number].sampling,
            seed=self.config.seed,
            scorers=self.scorers,
            generate=generate,
            block=self.answers.block(model),
            on_progress=lambda done, total: self.progress.update(done, total, "cases"),
        )

    def _failed(self, cell: Cell) -> _Done:
        self.progress.finish(f"failed: {cell.reason}")
        return _Done(cell, [])

    def _keep(self, number: int, suite: str, model: Model, run: EvalRun) -> str:
        """The cell's artifact, made once. No slices in it: their names come from what people wrote."""
        identity = content_id(KIND, run.run_id, suite, [(item.case_id, item.case_version) for item in run.results])
        registered = self.lake.store.exists(manifest_key("model", self.config.flow, model.version))
        summary = {name: value for name, value in run.suites[suite].as_dict().items() if name != "slices"}
        manifest = Manifest(
            kind=KIND,
            id=identity,
            flow=self.config.flow,
            parents=[f"model/{model.version}"] if registered else [],
            code_version=flywheel.__version__,
            config_hash=config_hash(self.config),
            seed=self.config.seed,
            data={
                "model": model.version,
                "content": model.content,
                "sampling": self.rows[number].sampling.identity(),
                "run_id": run.run_id,
                **summary,
            },
        )
        write_manifest(self.lake, manifest)
        return f"{KIND}/{identity}"


def _differences(config: FlywheelConfig, done: Sequence[_Done]) -> list[Difference]:
    """Every row against the first one, suite by suite, over the cases that both answered."""
    first = {one.cell.suite: one.results for one in done if one.cell.row == 0 and one.results}
    found = [
        Difference(one.cell.row, name, suite)
        for one in done
        if one.cell.row and one.results and one.cell.suite in first
        for name, suite in compare(
            first[one.cell.suite], one.results, config.evaluation, seed=config.seed
        ).suites.items()
    ]
    return adjusted(found)


def _cases(lake: Lake, config: FlywheelConfig, suites: Sequence[str]) -> dict[str, list[EvalCase]]:
    every = load_cases(lake, config.flow, suites)
    found = {suite: [case for case in every if case.suite == suite] for suite in suites}
    if missing := sorted(suite for suite, cases in found.items() if not cases):
        raise UsageError(f"No cases in: {', '.join(missing)}. Import some with `flywheel cases import`.")
    return found


def _find(lake: Lake, config: FlywheelConfig, name: str, grid: EvaluationGrid) -> Model | FlywheelError:
    try:
        return find_model(lake, config, name, grid.endpoint)
    except ModelError as error:
        return error


def _version(name: str, model: Model | FlywheelError) -> str:
    return name if isinstance(model, FlywheelError) else model.version
