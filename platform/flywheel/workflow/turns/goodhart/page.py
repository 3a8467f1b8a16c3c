"""Draw the monitor's history as one HTML file in the manner of the gate's report: no script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flywheel.config import FlywheelConfig
from flywheel.workflow.turns.goodhart.chart import Panel, auc_panel, audit_panel, level_panel, square
from flywheel.workflow.turns.goodhart.check import GoodhartReport

_OWN = (
    ".panel{margin:0 0 1rem}.panel figcaption{font-size:.85rem}.joined{stroke:var(--quiet);stroke-width:1.5;opacity:.6}"
    ".square{max-width:900px}"
)


def page_path(config: FlywheelConfig) -> Path:
    """Where the page lies unless somebody says otherwise."""
    return config.home_path() / "reports" / config.flow / "goodhart.html"


def write_page(report: GoodhartReport, path: Path) -> Path:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(render(report), encoding="utf-8")
    draft.replace(path)
    return path


def render(report: GoodhartReport) -> str:
    """The page."""
    style = _style()
    names, cells = square(report.periods[-1].pairs if report.periods else [])
    return (
        _environment()
        .get_template("goodhart.html.jinja")
        .render(
            report=report,
            audit=audit_panel(report.periods),
            signals=_signals(report),
            names=names,
            cells=cells,
            style=Markup(style),  # ours, and hashed below
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
    )


def _signals(report: GoodhartReport) -> list[tuple[str, str, str, Panel, Panel]]:
    """Proxies first, then the held-out one, then the rest; those that were measured at all."""
    latest: dict[str, Any] = {row.signal: row for look in report.periods for row in look.signals if row.rows}
    order = ("proxy", "held_out", "watched")
    rows = sorted(latest.values(), key=lambda row: (order.index(row.role), row.signal))
    return [
        (row.signal, row.role, row.of, level_panel(row.signal, report.periods), auc_panel(row.signal, report.periods))
        for row in rows
    ]


@cache
def _style() -> str:
    return (resources.files("flywheel.workflow.turns.report") / "templates" / "gate.css").read_text("utf-8") + _OWN


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flywheel.workflow.turns.goodhart", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
