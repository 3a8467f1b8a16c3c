"""What a sweep hands back."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from flywheel.config import FilterConfig
from flywheel.config.loader import dump
from flywheel.records import Record
from flywheel.workflow.sweeps.outcomes import Outcome
from flywheel.workflow.sweeps.proxies import ProxyResult


class Point(Record):
    """One filter of the Pareto front."""

    quality: float = Field(description="share of the kept labelled rows that is right")
    volume: float = Field(description="share of the trainable rows that is kept")
    kept: int
    right_kept: int
    params: dict[str, float | int] = Field(description="what it changes of the filter the sweep started from")

    @classmethod
    def of(cls, one: Outcome) -> Point:
        """The point of a proposal."""
        return cls(**one.model_dump(), quality=one.quality)


class SweepResult(Record):
    """The winner, and how it compares with the configuration the sweep started from."""

    sweep: str
    best: FilterConfig
    value: float
    start_value: float
    trials: int
    proposals: int
    labels: int
    kept: int
    right_kept: int
    volume: float
    start_right_kept: int
    start_kept: int
    start_volume: float
    front: list[Point] = Field(description="by rising volume")
    proxies: ProxyResult | None = Field(default=None, description="the second level; None: the first decided")
    no_proxies: str | None = Field(default=None, description="why there was no second level though one was asked for")
    manifest: str | None = None


def changes(start: FilterConfig, best: FilterConfig) -> dict[str, tuple[object, object]]:
    """Setting -> (before, after) of what a winner changes, for whoever reviews it."""
    before, after = start.model_dump(mode="json"), best.model_dump(mode="json")
    return {key: (before.get(key), new) for key, new in after.items() if before.get(key) != new and key != "version"}


def save_filter(result: SweepResult, out: Path) -> None:
    """Write the winner, with what is known of it above; the file is there whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    dump(result.best, partial)
    before, after = result.start_right_kept, result.right_kept
    about = (
        f"# Found by {result.sweep}: {result.proposals} proposals on {result.labels} tune labels.\n"
        f"# Of the kept labelled rows {after} of {result.kept} are right (before: {before} of {result.start_kept});\n"
        f"# {result.volume:.1%} of the trainable rows are kept (before: {result.start_volume:.1%}).\n"
    )
    partial.write_text(about + partial.read_text())
    partial.replace(out)


def picture_path(out: Path) -> Path:
    """The Pareto plot lies beside the filter's file."""
    return out.with_suffix(".svg")


def save_picture(svg: str, out: Path) -> None:
    """Write the plot beside ``out``."""
    picture_path(out).write_text(svg, encoding="utf-8")
