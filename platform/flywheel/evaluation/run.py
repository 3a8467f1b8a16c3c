"""Answer the cases of some suites with one model, mark the answers, keep every item; nothing is answered twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow.compute as pc

from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, EngineError, UsageError
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.checks import CheckResult, Item, Scorers, mark_all, validate, versions
from flywheel.evaluation.sampling import Sampling
from flywheel.evaluation.slices import length_of
from flywheel.evaluation.summary import SuiteScore, summarise
from flywheel.inference.generate import REFUSED, Completion
from flywheel.inference.generate import generate as generate_with_engine
from flywheel.lake.manifests import content_id
from flywheel.lake.schemas import from_arrow
from flywheel.lake.tables import Lake
from flywheel.records import EvalCase, EvalResult, Message
from flywheel.registry.versions import content_of

BLOCK: Final = 2_048
"""Cases answered between two commits: a killed run repeats at most so many, and rows cost no commit each."""

_ATTEMPTS: Final = 20


class Generate(Protocol):
    """What answers: ``inference.generate.generate``, or a stand-in with its signature."""

    def __call__(
        self,
        version: str,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        temperature: float = ...,
        seed: int | None = ...,
        concurrency: int = ...,
        timeout_s: float = ...,
        on_progress: Callable[[int], None] | None = ...,
    ) -> list[Completion]:
        """One completion per conversation, in order."""
        ...


@dataclass(frozen=True)
class EvalRun:
    """One model's results on some suites. ``answered`` of them are new, ``reused`` were there already."""

    run_id: str
    flow: str
    version: str
    results: list[EvalResult]
    suites: dict[str, SuiteScore]
    answered: int
    reused: int
    seconds: float
    unanswered: int = 0
    """Items that the machine failed to answer; evaluating again asks them again."""
    missing_suites: list[str] = field(default_factory=list)


def evaluate(
    lake: Lake,
    config: FlywheelConfig,
    *,
    version: str,
    suites: Collection[str],
    cases: Sequence[EvalCase] | None = None,
    only: Collection[str] | None = None,
    content: str | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    scorers: Scorers | None = None,
    generate: Generate = generate_with_engine,
    block: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvalRun:
    """Mark ``version``, whose engine runs, on the cases of ``suites``.

    Results are rows of ``eval_results`` under a run id made of the model's content and everything that shapes its
    answers, so that equal weights under another name find them. What is stored under that id is not answered
    again, except items that failed to be answered.

    Args:
        lake: the lake.
        config: flow, and ``evaluation`` for lengths, concurrency and resamples.
        version: what the model is called; its results bear this name.
        suites: names; a suite without any case is reported in ``missing_suites``.
        cases: mark these instead of stored ones (then ``suites`` only filters, empty: all of them). Their
            results have a run id of their own, made of the cases' content as well.
        only: ids of the cases that may be asked; default: all.
        content: hash of the model's files; default: what ``version`` was registered with, else its name.
        sampling: how answers are drawn; default: greedily, ``evaluation.max_tokens`` long.
        seed: of the intervals.
        scorers: what marks the checks that need a model or a sandbox.
        generate: what answers.
        block: cases between two commits; default ``BLOCK``.
        on_progress: called with (done, total), cases.

    Returns:
        Every item's result, by suite and case id, and a summary per suite.

    Raises:
        EngineError: no case could be answered.
        UsageError: a case has a check that cannot mark anything, or no suite has any case.
        BusyError: other evaluations of the same model won every commit.
    """
    started = time.monotonic()
    wanted = list(cases) if cases is not None else load_cases(lake, config.flow, suites)
    wanted = [
        case for case in wanted if (not suites or case.suite in suites) and (only is None or case.case_id in only)
    ]
    scorers = scorers or Scorers()
    if not wanted:
        names = ", ".join(sorted(suites)) or "any suite"
        raise UsageError(f"there are no cases in {names}; label traffic, or import cases with `flywheel cases import`")
    refuse_bad(wanted, scorers)
    marked_by = versions((case.check for case in wanted), scorers)
    sampling = sampling or Sampling(config.evaluation.max_tokens)
    content = content or content_of(lake, config.flow, version)
    run_id = _run_id(config, content, sampling, None if cases is None else wanted, marked_by)
    work = _Work(lake, config, version, run_id, sampling, generate, scorers, on_progress, len(wanted))
    kept = work.stored(wanted)
    reused = len(kept)
    while pending := [case for case in wanted if _key(case) not in kept]:
        kept |= work.answer(pending[: block or BLOCK], done=len(kept))
    # A case of a frozen suite may have been answered under the suite's plain name before.
    results = [kept[_key(case)].model_copy(update={"suite": case.suite}) for case in wanted]
    return EvalRun(
        run_id=run_id,
        flow=config.flow,
        version=version,
        results=results,
        suites=summarise(results, config, seed),
        answered=len(results) - reused,
        reused=reused,
        seconds=time.monotonic() - started,
        unanswered=sum(_may_pass_later(result.error) for result in results),
        missing_suites=sorted(set(suites) - {case.suite for case in wanted}),
    )


@dataclass
class _Work:
    """One evaluation under way."""

    lake: Lake
    config: FlywheelConfig
    version: str
    run_id: str
    sampling: Sampling
    generate: Generate
    scorers: Scorers
    on_progress: Callable[[int, int], None] | None
    total: int

    def stored(self, wanted: Sequence[EvalCase]) -> dict[tuple[str, int], EvalResult]:
        """Results of earlier runs with this id that still count."""
        return self._final({_key(case) for case in wanted})

    def answer(self, block: Sequence[EvalCase], *, done: int) -> dict[tuple[str, int], EvalResult]:
        """Answer, mark and store one block."""
        completions = self.generate(
            self.version,
            [self.sampling.asked(case.messages) for case in block],
            **self.sampling.arguments(),
            concurrency=self.config.evaluation.concurrency,
            timeout_s=self.config.engine.request_timeout_s,
            on_progress=self._progress(done),
        )
        if completions and all(_may_pass_later(item.error) for item in completions):
            raise EngineError(
                f"the engine of '{self.version}' answered none of {len(block)} cases ({completions[0].error}); "
                "look at its log, then evaluate again: results so far are kept"
            )
        answered = list(zip(block, completions, strict=True))
        marks = mark_all([Item(case.messages, case.check, item.text) for case, item in answered], self.scorers)
        results = [self._result(case, item, mark) for (case, item), mark in zip(answered, marks, strict=True)]
        return self._store(results)

    def _result(self, case: EvalCase, item: Completion, mark: CheckResult) -> EvalResult:
        failed = item.error is not None
        return EvalResult(
            run_id=self.run_id,
            case_id=case.case_id,
            case_version=case.version,
            suite=case.suite,
            slice=case.slice,
            slices={"length": length_of(case.messages), **case.slices},
            subject=case.subject,
            model_version=self.version,
            answer=item.text,
            passed=mark.passed and not failed,
            score=0.0 if failed else mark.score,
            detail=mark.detail or None,
            error=item.error,
            latency_ms=item.latency_ms,
            prompt_tokens=item.prompt_tokens,
            completion_tokens=item.completion_tokens,
            drawn=drawn(self.config, self.sampling),
        )

    def _store(self, results: Sequence[EvalResult]) -> dict[tuple[str, int], EvalResult]:
        """Append exactly once: what another evaluation of the same model stored meanwhile wins."""
        kept = {(result.case_id, result.case_version): result for result in results}
        app = f"eval_results/{self.run_id}"
        for _ in range(_ATTEMPTS):
            # The number is read before the rows: rows that come later than this reading have taken the number.
            last = self.lake.last_committed("eval_results", app)
            theirs = {} if last is None else self._final(kept)
            fresh = [result for key, result in kept.items() if key not in theirs]
            if not fresh or self._append(fresh, app, 0 if last is None else last + 1):
                return kept | theirs
        raise BusyError(f"other evaluations of '{self.version}' are being stored; run this one again in a moment")

    def _final(self, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], EvalResult]:
        """Stored results of these cases that still count, under the name that is asked for now."""
        found: dict[tuple[str, int], EvalResult] = {}
        for part in self.lake.scan("eval_results", flow=self.config.flow):
            for row in from_arrow(part.filter(pc.field("run_id") == self.run_id), EvalResult):
                if (row.case_id, row.case_version) in keys and not _may_pass_later(row.error):
                    named = row if row.model_version == self.version else _renamed(row, self.version)
                    found[row.case_id, row.case_version] = named
        return found

    def _append(self, rows: Sequence[EvalResult], app: str, number: int) -> bool:
        return self.lake.append("eval_results", rows, app=app, version=number, flow=self.config.flow)

    def _progress(self, done: int) -> Callable[[int], None] | None:
        report = self.on_progress
        return None if report is None else lambda count: report(done + count, self.total)


def _may_pass_later(error: str | None) -> bool:
    """A refused request is the model's final answer, and a wrong one; other errors are the machine's."""
    return error is not None and not error.startswith(REFUSED)


def refuse_bad(cases: Sequence[EvalCase], scorers: Scorers) -> None:
    """Refuse cases that cannot be told apart, or that nothing here can mark.

    Raises:
        UsageError: names the case, and what to do.
    """
    if len({_key(case) for case in cases}) != len(cases):
        raise UsageError("two cases share an id and version; give each case its own id")
    for case in cases:
        try:
            validate(case.check, scorers)
        except UsageError as error:
            raise UsageError(f"case {case.case_id} of suite '{case.suite}': {error}") from error


def drawn(config: FlywheelConfig, sampling: Sampling) -> str:
    """Identity of how answers are drawn, whichever model gives them."""
    return content_id("drawn", _shape(config, sampling))


def _shape(config: FlywheelConfig, sampling: Sampling) -> dict[str, Any]:
    return {**sampling.identity(), "dtype": config.engine.dtype, "max_model_len": config.engine.max_model_len}


def _run_id(
    config: FlywheelConfig,
    content: str,
    sampling: Sampling,
    cases: Sequence[EvalCase] | None,
    marked_by: Mapping[str, str],
) -> str:
    """Identity of a run: the model's content, what shapes answers and marks, and cases unless they are stored ones."""
    shape = _shape(config, sampling)
    own = None if cases is None else sorted(content_id("case", case) for case in cases)
    return content_id("eval", config.flow, content, shape, own, *([marked_by] if marked_by else []))


def _renamed(row: EvalResult, version: str) -> EvalResult:
    return row.model_copy(update={"model_version": version})


def _key(case: EvalCase) -> tuple[str, int]:
    return case.case_id, case.version
