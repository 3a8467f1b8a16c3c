"""What a filter changes: its settings, rule by rule, and which rows of the newest turn come in and go out."""

from __future__ import annotations

from typing import Any

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.errors import NotFoundInLakeError
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.filters import Columns, passing
from flywheel.quality.filters_trace import bound_text
from flywheel.quality.rows import Candidate
from flywheel.quality.score import ScoreResult, SignalTable, read_signals
from flywheel.review.labels import read_labels
from flywheel.workflow.turns.steps import TurnHandle, turn_ids
from flywheel.workflow.turns.sweep import tune_rows
from flywheel.workflow.turns.turn import step_key

_SPOKEN = {"rules", "votes", "weights"}
"""Settings that are compared part by part."""


def changes(now: FilterConfig, then: FilterConfig) -> list[dict[str, str]]:
    """``{"setting", "now", "then"}`` of everything that differs; a missing part is "-"."""
    before, after = _parts(now), _parts(then)
    names = list(dict.fromkeys([*before, *after]))
    return [
        {"setting": name, "now": before.get(name, "-"), "then": after.get(name, "-")}
        for name in names
        if before.get(name) != after.get(name)
    ]


def effect(lake: Lake, config: FlywheelConfig, then: FilterConfig) -> dict[str, Any] | None:
    """Rows that pass the rules now and then, on the newest turn that scored any; None where none can be read here.

    Caps and replay shares come behind the rules and are not counted.
    """
    for turn_id in reversed(turn_ids(lake.store, config.flow)):
        found = _scored(lake, config, TurnHandle(lake.store, config.flow, turn_id))
        if found is not None:
            return {"turn": turn_id, **_counts(lake, config, *found, then=then)}
    return None


def _scored(lake: Lake, config: FlywheelConfig, turn: TurnHandle) -> tuple[list[Candidate], SignalTable] | None:
    made, scored = turn.read(step_key("candidates")), turn.read(step_key("score"))
    if made is None or scored is None:
        return None
    plain = [{key: value for key, value in one.items() if key != "seconds"} for one in (made, scored)]
    try:
        rows = BuildResult.model_validate(plain[0]).rows()
        return rows, read_signals(lake, config, ScoreResult.model_validate(plain[1]))
    except (FileNotFoundError, NotFoundInLakeError):  # on another machine, or somebody was erased since
        return None


def _counts(
    lake: Lake, config: FlywheelConfig, rows: list[Candidate], signals: SignalTable, *, then: FilterConfig
) -> dict[str, Any]:
    now = config.quality.filter
    free = Columns.of([row for row in rows if row.held_out is None], signals)
    before, after = passing(free, now), passing(free, then)
    tune = tune_rows(rows, signals, read_labels(lake, config.flow, split="tune"))
    kept = [passing(tune.columns, one) for one in (now, then)]
    right, wrong = ([int((mask & truth).sum()) for mask in kept] for truth in (tune.right, ~tune.right))
    return {
        "rows": [
            ("pass the rules", int(before.sum()), int(after.sum())),
            ("labelled right, pass", *right),
            ("labelled wrong, pass", *wrong),
        ],
        "candidates": len(free.ids),
        "labels": len(tune.label_ids),
        "gained": int((after & ~before).sum()),
        "lost": int((before & ~after).sum()),
    }


def _parts(config: FilterConfig) -> dict[str, str]:
    plain = {name: str(value) for name, value in config if name not in _SPOKEN | {"version"}}
    rules = {
        f"rule {rule.reason}": f"{rule.signal} {bound_text(rule, config)} for {rule.for_}, missing: {rule.missing}"
        for rule in config.rules
    }
    order = {"order of rules": ", ".join(rule.reason for rule in config.rules)}
    votes = {
        f"vote of {vote.signal}": (f"above {vote.above:g}" if vote.above is not None else f"below {vote.below:g}")
        + f", group {vote.of_group}" + (", corrections approve" if vote.corrections == "approve" else "")
        for vote in config.votes.of
    }  # fmt: skip
    weights = {
        f"weight by {term.signal}": f"{term.zero_at:g} to {term.one_at:g}, missing {term.missing:g}"
        for term in (config.weights.of if config.weights else ())
    }
    clip = {"weights": f"{config.weights.least:g} to {config.weights.most:g}"} if config.weights else {}
    return plain | rules | order | {"votes needed": str(config.votes.k)} | votes | weights | clip
