"""What signals read: one row with what was computed for it, and summaries over all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.config import PrivacyConfig
from flywheel.quality.rows import Candidate


@dataclass(frozen=True)
class Measured:
    """A candidate with its heavy measurements; None where there is no reward model or no closed vocabulary."""

    row: Candidate
    margin: float | None = None
    preference: float | None = None
    advantage: float | None = None
    wins: float | None = None
    agreement: float | None = None
    heavy: Mapping[str, float] = field(default_factory=dict)
    """Signals that networks or judges measured beforehand, by name."""


Shape = Mapping[str, str] | None
"""Keys of a JSON object with their types; None is plain text."""


@dataclass(frozen=True)
class Forms:
    """How good answers look, if that is ``known``: the usual shape, and the values that more than one person gave."""

    known: bool
    shape: Shape = None
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RaterSums:
    """Summed support for a rater's rows, and how many there are."""

    support: float
    rows: int


@dataclass(frozen=True)
class Context:
    """Summaries over all rows, and settings; small, so that every worker can hold it."""

    forms: Forms = field(default_factory=lambda: Forms(known=False))
    raters: Mapping[str, RaterSums] = field(default_factory=dict)
    mean_support: float = 0.5
    liked_advantages: Sequence[float] = ()
    dwell_per_char_ms: float | None = None
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    names: frozenset[str] = frozenset()
    """People's names of ``privacy.names_file``, read once."""
