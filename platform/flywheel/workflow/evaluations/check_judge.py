"""The configured judge as what marks checks: started when the first answer has to be marked, probed before that."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError, UsageError
from flywheel.evaluation.checks import Item, Opinion, Scorer
from flywheel.judging.drift import check_drift, drifted
from flywheel.judging.judge import Answer, as_check, refuse_outside
from flywheel.lake.tables import Lake
from flywheel.workflow.evaluations.judge_runs import configured_version, needs, opened


@contextlib.contextmanager
def check_judge(lake: Lake, config: FlywheelConfig, *, at_once: bool = False) -> Iterator[tuple[Scorer, str]]:
    """What marks checks of kind ``judge``, and its version; its engine stops at the end.

    Args:
        lake: where a judge that drifted is marked.
        config: ``judging`` configures one.
        at_once: start it here, not when the first answer comes. Needed where answers come from several threads:
            building a Serve application is not safe while another thread talks to Serve.

    Raises:
        UsageError: the judge stands outside the cluster; or it drifted (also raised when it is first asked).
        EngineError: its engine did not start (also when it is first asked).
    """
    refuse_outside(needs(config))
    version = configured_version(lake, config) or ""
    with contextlib.ExitStack() as engine:
        marks = _CheckJudge(lake, config, version, engine)
        if at_once:
            marks.start()
        yield marks, version


class _CheckJudge:
    """A ``Scorer`` that one thread asks at a time: a batch judge takes the whole machine for each call."""

    def __init__(self, lake: Lake, config: FlywheelConfig, version: str, engine: contextlib.ExitStack) -> None:
        self._lake, self._config, self._version, self._engine = lake, config, version, engine
        self._lock = threading.Lock()
        self._check = None
        self._failed: FlywheelError | None = None

    def start(self) -> None:
        """Open the judge and ask its probes, once; a start that failed fails every later call alike."""
        if self._failed is not None:
            raise self._failed
        if self._check is not None:
            return
        try:
            self._refuse(drifted(self._lake, self._config.flow, self._version))
            judge = self._engine.enter_context(opened(self._lake, self._config))
            self._refuse(check_drift(self._lake, self._config.flow, judge))
        except FlywheelError as error:
            self._failed = error
            raise
        self._check = as_check(judge)

    def __call__(self, items: Sequence[Item]) -> list[Opinion]:
        """All items in one call of the judge: a batch judge pays its engine's start for each."""
        with self._lock:
            self.start()
            assert self._check is not None
            answers = [Answer(item.messages, item.answer, str(item.check.expected)) for item in items]
            return [Opinion(score) for score in self._check(answers)]

    def _refuse(self, reason: str | None) -> None:
        """Marks of two judges must not lie under one version; those it gave before it drifted stay."""
        if reason:
            raise UsageError(
                f"The judge {self._version} marks checks no longer, for it changed behind its name: {reason}. "
                "Give judging.revision a new value: that is a new judge, to be calibrated again."
            )
