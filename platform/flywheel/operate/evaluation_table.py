"""An evaluation sweep for people (tables) and for spreadsheets (a file)."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flywheel.errors import EnvironmentProblem, UsageError
from flywheel.evaluation.summary import SliceScore, SuiteScore
from flywheel.statistics.bootstrap import Estimate
from flywheel.workflow.evaluations.grid import Cell, Evaluation

SUFFIXES: Final = (".csv", ".json")
COLUMNS: Final = (
    "name", "model", "params", "suite", "n", "passed", "errors", "accuracy", "low", "high", "score", "prompt_tokens",
    "completion_tokens", "cost", "latency_ms", "latency_p95_ms", "difference", "difference_low", "difference_high",
    "p_adjusted", "unpaired", "unanswered", "withheld", "reason",
)  # fmt: skip


def show(result: Evaluation, console: Console, *, by: str | None = None) -> None:
    """Print accuracy, what it took, differences to the first row, slices of the group ``by``, and what failed."""
    console.print(_accuracy(result))
    if result.differences:
        console.print(_differences(result))
    if by is not None:
        console.print(_slices(result, by))
    for cell in result.failed:
        reason = cell.reason or f"{cell.unanswered} of {cell.score.n if cell.score else 0} cases were not answered"
        console.print(
            f"[red]✗[/] {_named(result, cell.row)} on {cell.suite}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    if withheld := max((cell.withheld for cell in result.cells), default=0):
        console.print(f"[yellow]{withheld} cases stayed here: no third_party consent[/]", highlight=False)


def check_out(path: Path) -> None:
    """Refuse a file that could not be written, before hours of work.

    Raises:
        UsageError: neither .csv nor .json, or its folder does not exist.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is neither .csv nor .json; name the file after what it should hold")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path.absolute().parent} does not exist; make the folder first")


def write_table(result: Evaluation, path: Path) -> None:
    """The table as CSV (a line a cell) or JSON, in one rename: whoever reads it sees all or nothing.

    Raises:
        EnvironmentProblem: it cannot be written; the results stay in the lake.
    """
    text = _csv(result) if path.suffix == ".csv" else json.dumps(result.table(), indent=1) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be written ({error.strerror}); the results are kept") from error


def _accuracy(result: Evaluation) -> Table:
    table = Table(title="Right answers, % with interval", title_justify="left")
    table.add_column("model")
    suites = list(dict.fromkeys(cell.suite for cell in result.cells))
    for name in [*suites, "tokens", "ms", "p95"]:
        table.add_column(name, justify="right")
    costs = any(cell.score and cell.score.usage.cost is not None for cell in result.cells)
    if costs:
        table.add_column("cost", justify="right")
    for number in range(len(result.rows)):
        cells = {cell.suite: cell for cell in result.cells if cell.row == number}
        used = list(_used(cells))
        table.add_row(
            _named(result, number), *(_share(cells.get(suite)) for suite in suites), *(used if costs else used[:3])
        )
    return table


def _used(cells: dict[str, Cell]) -> Iterator[str]:
    """Tokens, median and 95th percentile of the latency (of the slowest suite), cost."""
    taken = [cell.score.usage for cell in cells.values() if cell.score]
    tokens = [(one.prompt_tokens or 0) + (one.completion_tokens or 0) for one in taken]
    yield f"{sum(tokens):,}" if any(tokens) else "-"
    for times in ([one.latency_ms for one in taken], [one.latency_p95_ms for one in taken]):
        known = [time for time in times if time is not None]
        yield f"{max(known):,.0f}" if known else "-"
    costs = [one.cost for one in taken if one.cost is not None]
    yield f"{sum(costs):,.4f}" if costs else "-"


def _differences(result: Evaluation) -> Table:
    table = Table(title=f"Points above {_named(result, 0)}, same cases; p by Holm over this table")
    table.title_justify = "left"
    for name in ("model", "suite", "cases", "gain", "p", "fixed", "broken"):
        table.add_column(name, justify="left" if name in {"model", "suite"} else "right")
    for one in result.differences:
        suite = one.comparison
        table.add_row(
            _named(result, one.row),
            one.suite,
            f"{suite.n:,}" + (f" (-{suite.unpaired})" if suite.unpaired else ""),
            f"{100 * suite.gain.mean:+.1f} [{100 * suite.gain.low:+.1f}, {100 * suite.gain.high:+.1f}]",
            f"{one.p_adjusted:.2g}",
            str(len(suite.fixed)),
            str(len(suite.newly_broken)),
        )
    return table


def _slices(result: Evaluation, group: str) -> Table:
    table = Table(title=f"Right answers by {group}", title_justify="left")
    for name in ("model", "suite", group, "cases", "% right"):
        table.add_column(name, justify="right" if name in {"cases", "% right"} else "left")
    for cell in result.cells:
        for value, part in (cell.score.slices if cell.score else {}).get(group, {}).items():
            table.add_row(_named(result, cell.row), cell.suite, escape(value), f"{part.n:,}", _part(part))
    return table


def _named(result: Evaluation, row: int) -> str:
    return escape(result.label(row))


def _part(part: SliceScore) -> str:
    return f"{100 * part.accuracy.mean:.1f} (few)" if part.few else _interval(part.accuracy)


def _share(cell: Cell | None) -> str:
    return _interval(cell.score.accuracy) if cell and cell.score else "[red]failed[/]"


def _interval(share: Estimate) -> str:
    low, high = max(share.low, 0), min(share.high, 1)  # one person alone: anything is possible
    return f"{100 * share.mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _csv(result: Evaluation) -> str:
    file = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, restval="")
    writer.writeheader()
    against = {(one.row, one.suite): one.as_dict() for one in result.differences}
    for cell in result.cells:
        row = result.rows[cell.row]
        line: dict[str, Any] = {
            "name": row.name,
            "model": row.version,
            "params": result.params(cell.row),
            "suite": cell.suite,
        }
        line |= {"reason": cell.reason, "unanswered": cell.unanswered, "withheld": cell.withheld}
        if cell.score:
            line |= _scored(cell.score)
        if one := against.get((cell.row, cell.suite)):
            low, high = one["interval"] or ("", "")
            line |= {"difference": one["difference"], "difference_low": low, "difference_high": high}
            line |= {"p_adjusted": one["p_adjusted"], "unpaired": one["unpaired"]}
        writer.writerow({name: _plain(value) for name, value in line.items()})
    return file.getvalue()


def _scored(score: SuiteScore) -> dict[str, Any]:
    told = score.as_dict()
    low, high = told["interval"] or ("", "")
    return {**{name: told[name] for name in COLUMNS if name in told}, "low": low, "high": high}


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@") else value
