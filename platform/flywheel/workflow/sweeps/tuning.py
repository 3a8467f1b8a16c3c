"""The parts that Ray Tune calls: which trial is next, and who is told. Imports Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.search import Searcher

from flywheel.errors import EnvironmentProblem
from flywheel.placement import Need, unplaceable
from flywheel.telemetry import Progress
from flywheel.workflow.sweeps.records import Records


class Generations(Searcher):
    """Hands out trial numbers; one of a later generation only when every one of the earlier is through."""

    def __init__(self, numbers: Sequence[int], generation: int) -> None:
        super().__init__(metric="value", mode="max")
        self._waiting = sorted(numbers)
        self._generation = generation
        self._running: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's number; None: wait for those that run."""
        if not self._waiting:
            return Searcher.FINISHED  # pyright: ignore[reportReturnType]  (a word that Tune looks for)
        turn = self._waiting[0] // self._generation
        if any(number // self._generation < turn for number in self._running.values()):
            return None
        self._running[trial_id] = self._waiting.pop(0)
        return {"trial": self._running[trial_id]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """One is through, or failed; either way it is not waited for."""
        del result, error
        self._running.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: records in the lake say what is finished."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class _Watched(Callback):
    """Tune pickles its callbacks for a restore that nobody asks for here; a terminal cannot be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()


class Told(_Watched):
    """Passes the ends of trials on to whoever watches."""

    def __init__(self, progress: Progress, *, total: int, each: int, done: int) -> None:
        self._progress, self._total, self._each, self._done = progress, total, each, done
        self._best = float("-inf")
        progress.update(done * each, total)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended."""
        del iteration, trials, info
        self._done += 1
        self._best = max(self._best, float((trial.last_result or {}).get("value", float("-inf"))))
        self._progress.update(self._done * self._each, self._total, f"best {self._best:.4f}")


class RungsTold(_Watched):
    """Passes rungs on to whoever watches, and notes which proxies will not go on."""

    def __init__(self, progress: Progress, records: Records, proxies: int) -> None:
        self._progress, self._records, self._proxies, self._ended = progress, records, proxies, 0
        progress.update(0, proxies, "proxy fine-tunes")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A rung was reached."""
        del iteration, trials, info
        text = f"{trial.config['filter']} step {result['step']}: loss {result['loss']:.3f}, exact {result['exact']:.1%}"
        self._progress.update(self._ended, self._proxies, text)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Trained, or stopped by ASHA."""
        del iteration, trials, info
        self._records.end(trial.config["filter"])
        self._ended += 1
        self._progress.update(self._ended, self._proxies, "proxy fine-tunes")


def placeable(what: str, each: dict[str, float], setting: str) -> None:
    """Ask before Tune waits for ever.

    Raises:
        EnvironmentProblem: no node has room for one trial; names the setting to lower.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if problems := unplaceable([Need(what, 1, each, setting)], nodes):
        raise EnvironmentProblem(f"This sweep does not fit the cluster. {problems[0]}.")
