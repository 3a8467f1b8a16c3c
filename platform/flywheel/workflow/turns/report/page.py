"""Draw a report as one HTML file: no script, nothing fetched, every text of users and models escaped.

What models wrote is hostile until shown otherwise. Jinja escapes every value, ``visible`` takes the power out of
control characters and direction overrides, and a content security policy in the page forbids everything but the one
inline style, by its hash, should an escape ever be missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flywheel.config import FlywheelConfig
from flywheel.records import utcnow
from flywheel.rollout.machine.picture import share_svg
from flywheel.text.visible import one_line, visible
from flywheel.workflow.sweeps.picture import pareto_svg
from flywheel.workflow.turns.report import words
from flywheel.workflow.turns.report.forest import ROW, forest
from flywheel.workflow.turns.report.model import GateReport

TEXT_LIMIT: Final = 2_000
"""Characters of a prompt or an answer that are shown."""
LINE_LIMIT: Final = 600
NAME_LIMIT: Final = 80
SLICES: Final = 12
"""Slices of one suite that are shown: those with most cases lost or won."""


def report_path(config: FlywheelConfig, turn_id: str) -> Path:
    """Where a turn leaves its report."""
    return config.home_path() / "reports" / config.flow / f"{turn_id}.html"


def write_report(report: GateReport, path: Path) -> Path:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(render(report), encoding="utf-8")
    draft.replace(path)
    return path


def render(report: GateReport) -> str:
    """The page."""
    style = _style()
    return (
        _environment()
        .get_template("gate.html.jinja")
        .render(
            report=report,
            words=words,
            plot=forest(report.suites),
            row_height=ROW,
            slices=_slices(report),
            funnel=_funnel(report),
            shares=Markup(share_svg(report.rollout, utcnow())) if report.rollout else None,  # escaped likewise
            pareto=Markup(pareto_svg(report.sweep)) if report.sweep else None,  # numbers, and escaped names
            style=Markup(style),  # ours, and hashed below; nothing of the report is in it
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
    )


def _slices(report: GateReport) -> list[tuple[str, list[Any], int]]:
    """(suite, slices that are shown, how many are not), for suites with more than one slice."""
    shown = []
    for suite in report.suites:
        rows = [row for row in report.slices if row.suite == suite.suite]
        if len(rows) > 1:
            half = SLICES // 2
            ends = rows if len(rows) <= SLICES else [*rows[:half], *rows[-half:]]
            shown.append((suite.suite, ends, len(rows) - len(ends)))
    return shown


def _funnel(report: GateReport) -> list[tuple[str, int, float]]:
    """(stage, rows, percent of what was captured)."""
    most = max([1, *report.funnel.values()])
    return [(stage, rows, round(100 * rows / most, 1)) for stage, rows in report.funnel.items()]


def _laid_out(text: str) -> str:
    """A JSON object with a line for each field, so that two can be compared by eye; other text as it is."""
    if len(text) > TEXT_LIMIT or not text.lstrip().startswith("{"):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


@cache
def _style() -> str:
    return (resources.files("flywheel.workflow.turns.report") / "templates" / "gate.css").read_text("utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("flywheel.workflow.turns.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        text=lambda value: visible(_laid_out(value), limit=TEXT_LIMIT),
        name=lambda value: one_line(value, limit=NAME_LIMIT),
        line=lambda value: one_line(value, limit=LINE_LIMIT),
        share=lambda value: f"{value:.1%}",
        points=lambda value: f"{100 * value:+.1f}".replace("-", "\u2212"),
        day=lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC",
    )
    return made
