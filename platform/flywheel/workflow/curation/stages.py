"""The way of a row through curation, stage by stage, read from the one reason that it left with."""

from __future__ import annotations

from typing import Final, Literal

from flywheel.config import FilterConfig
from flywheel.quality.rows import Drop
from flywheel.records import Record

RULES: Final = "rules of the filter"

STAGES: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("consent to training", frozenset({"no_training_consent"})),
    ("an answer that can be trained on", frozenset({"ranked_list", "no_answer", "unsupported_form"})),
    ("not held out for judging", frozenset({"held_out"})),
    ("feedback that can be trusted", frozenset({"quarantined"})),
    (
        "feedback that says what is right",
        frozenset({"no_feedback", "truncated_answer", "disliked_without_correction", "no_clear_feedback"}),
    ),
    ("nothing like it in what judges", frozenset({"near_evaluation"})),
    ("not said before", frozenset({"duplicate"})),
    (RULES, frozenset()),
    ("no near-duplicate, no conflict", frozenset({"near_duplicate", "semantic_duplicate", "conflicting_target"})),
    ("cap per person", frozenset({"over_subject_cap"})),
    ("replay share of liked rows", frozenset({"over_replay_share"})),
    ("replay share of older rows", frozenset({"over_older_share"})),
    ("rehearsal share of what was taught", frozenset({"over_taught_share"})),
    ("size of the dataset", frozenset({"over_max_examples"})),
)
"""What a row passes, in order, and the reasons that rows leave with there."""


class Stage(Record):
    """One stage and one row. ``unknown``: it left with a reason that no stage of this list gives."""

    name: str
    outcome: Literal["passed", "failed", "not reached", "unknown"]
    detail: str = ""


def stages(drop: Drop | None, config: FilterConfig) -> list[Stage]:
    """All stages of a row that was dropped so, or kept (None)."""
    if drop is None:
        return [Stage(name=name, outcome="passed") for name, _ in STAGES]
    said = f"{drop.reason}: {drop.detail}" if drop.detail else drop.reason
    where = place(drop.reason, config)
    if where is None:
        return [Stage(name=drop.reason, outcome="failed", detail=drop.detail or "")] + [
            Stage(name=name, outcome="unknown") for name, _ in STAGES
        ]
    return [
        Stage(
            name=name,
            outcome="passed" if number < where else "failed" if number == where else "not reached",
            detail=said if number == where else "",
        )
        for number, (name, _) in enumerate(STAGES)
    ]


def place(reason: str, config: FilterConfig) -> int | None:
    """The stage that gives a reason."""
    if reason in {rule.reason for rule in config.rules} | {config.votes.reason}:
        return next(number for number, (name, _) in enumerate(STAGES) if name == RULES)
    return next((number for number, (_, reasons) in enumerate(STAGES) if reason in reasons), None)
