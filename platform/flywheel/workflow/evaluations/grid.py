"""The cells of an evaluation sweep, and what became of them: models x parameters x suites."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from flywheel.config import EvaluationGrid, FlywheelConfig, load
from flywheel.errors import ConfigError, UsageError
from flywheel.evaluation.differences import Difference
from flywheel.evaluation.sampling import Sampling
from flywheel.evaluation.summary import SuiteScore


@dataclass(frozen=True)
class Row:
    """One row of the table: a model, by what it was called and by what it is, under some parameters."""

    name: str
    version: str
    sampling: Sampling

    def __str__(self) -> str:
        return f"{self.version} {self.sampling}".strip()


@dataclass(frozen=True)
class Cell:
    """One row on one suite: its score, or the reason why there is none.

    ``answered`` of its cases are new, ``reused`` were there before. ``unanswered`` ones the machine failed to
    answer: they count as wrong, the cell is not finished, and the next sweep asks them again. ``withheld`` cases
    may not leave the cluster and were not asked.
    """

    row: int
    suite: str
    score: SuiteScore | None = None
    reason: str | None = None
    run_id: str | None = None
    artifact: str | None = None
    answered: int = 0
    reused: int = 0
    unanswered: int = 0
    withheld: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: what it says whenever it is asked. How it came about this time is not part of it."""
        said = {"row": self.row, "suite": self.suite, "run_id": self.run_id, "artifact": self.artifact}
        told = {"reason": self.reason, "unanswered": self.unanswered, "withheld": self.withheld}
        return {**said, **told, "score": self.score.as_dict() if self.score else None}


@dataclass(frozen=True)
class Evaluation:
    """A sweep's outcome. Rows, cells and differences are in the order in which they were asked for."""

    flow: str
    rows: list[Row]
    cells: list[Cell]
    differences: list[Difference]
    seconds: float

    @property
    def failed(self) -> list[Cell]:
        """Cells without a score, or not finished."""
        return [cell for cell in self.cells if cell.reason is not None or cell.unanswered]

    def label(self, row: int) -> str:
        """A row's name in a table: what the model was called, what it is, what is special about its parameters."""
        one = self.rows[row]
        called = one.name if one.name.startswith("endpoint:") else PurePath(one.name).name
        known = called if called.endswith(one.version) else f"{called} ({one.version})"
        return f"{known} {self.params(row)}".strip()

    def params(self, row: int) -> str:
        """What is special about a row's parameters; lengths only where they differ."""
        sampling = self.rows[row].sampling
        lengths = {other.sampling.max_tokens for other in self.rows}
        return " ".join(filter(None, [f"max {sampling.max_tokens}" if len(lengths) > 1 else "", str(sampling)]))

    def table(self) -> dict[str, Any]:
        """What a sweep says, the same whenever it is run: rows, cells, differences."""
        return {
            "flow": self.flow,
            "rows": [
                {"row": number, "name": row.name, "model": row.version, "params": row.sampling.identity()}
                for number, row in enumerate(self.rows)
            ],
            "cells": [cell.as_dict() for cell in self.cells],
            "differences": [one.as_dict() for one in self.differences],
        }

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``. One row alone is also told in short: ``model``, ``run_id`` and ``suites``."""
        counts = {name: sum(getattr(cell, name) for cell in self.cells) for name in ("answered", "reused")}
        whole = {**self.table(), **counts, "failed": len(self.failed), "seconds": self.seconds}
        if len(self.rows) != 1:
            return whole
        suites = {cell.suite: cell.score.as_dict() for cell in self.cells if cell.score}
        return {"model": self.rows[0].version, "run_id": self.cells[0].run_id, "suites": suites, **whole}


def samplings(grid: EvaluationGrid, config: FlywheelConfig) -> list[Sampling]:
    """Every combination of the grid's parameters once, the first one of each list first."""
    params = grid.params
    lengths = params.max_tokens or [config.evaluation.max_tokens]
    every = (
        Sampling(max_tokens=length, temperature=temperature, seed=seed, system=system)
        for length, system, temperature, seed in itertools.product(
            lengths, params.system, params.temperature, params.seed
        )
    )
    return list(dict.fromkeys(every))


def unique(names: Sequence[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(names))


def grid_of(
    path: Path | None = None,
    *,
    models: Sequence[str] | None = None,
    suites: Sequence[str] | None = None,
    params: Sequence[str] | None = None,
    endpoint: str | None = None,
    endpoint_key: str | None = None,
) -> EvaluationGrid:
    """A grid from a file, from what a command line says, or from the first with the second on top.

    Args:
        path: an ``EvaluationGrid`` file.
        models: in place of the file's.
        suites: in place of the file's.
        params: ``temperature=0,0.7``: values between commas, each as YAML; a system prompt is one value as it is.
        endpoint: what answers for ``endpoint:NAME``.
        endpoint_key: environment variable that holds its key.

    Raises:
        UsageError: no model or no suite is named, or what comes out is no grid.
    """
    if path is None and not (models and suites):
        raise UsageError("Name at least one --model and one --suite, or a file with both: --grid FILE.")
    said: dict[str, Any] = {"models": list(models or []), "suites": list(suites or [])}
    overrides: dict[str, Any] = {name: value for name, value in said.items() if value}
    for pair in params or []:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise ConfigError(f"--param '{pair}' is not of the form temperature=0,0.7")
        values = [value] if name == "system" else [yaml.safe_load(part) for part in value.split(",")]
        key = f"params.{name}"
        overrides[key] = [*overrides.get(key, []), *values]
    if endpoint is not None:
        overrides["endpoint.url"] = endpoint
    if endpoint_key is not None:
        overrides["endpoint.key_env"] = endpoint_key
    return load(EvaluationGrid, path, overrides)
