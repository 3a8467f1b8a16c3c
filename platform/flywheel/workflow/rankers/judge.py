"""What a ranker in the shadow would have earned on the lists that the live one drew; pure but for its arguments.

The estimate is one function of four tables, ``statistics.list_gain.list_gain``: another estimator goes in its place.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.config.ranker import EngagementRankerConfig
from flywheel.lake.manifests import content_id
from flywheel.quality.ranker.exposures import rewards
from flywheel.quality.ranker.lists import RankedList, ranked_lists, shown_chances
from flywheel.quality.ranker.seen import Seen, reports
from flywheel.records import Reason
from flywheel.statistics.list_gain import ListGain, list_gain
from flywheel.statistics.place_chances import Floats
from flywheel.statistics.spending import level


@dataclass(frozen=True)
class Judged:
    """The evidence about one candidate, and each condition with its numbers."""

    gain: ListGain | None
    lists: int
    missing: int
    reasons: list[Reason]

    @property
    def passed(self) -> bool:
        """Whether it may serve."""
        return all(reason.passed for reason in self.reasons)


@dataclass(frozen=True)
class Mirrored:
    """Lists that a candidate was asked about in the shadow, and what people did with them."""

    version: str
    lists: list[RankedList]
    reported: dict[str, dict[str, Seen]]

    @property
    def identity(self) -> str:
        """Equal evidence has an equal name."""
        done = [
            sorted((item, sorted(seen.actions), seen.dwelt_ms) for item, seen in of_list.items())
            for of_list in (self.reported.get(one.inference_id, {}) for one in self.lists)
        ]
        return content_id("lists", self.version, [one.inference_id for one in self.lists], done)


def mirrored(inferences: pa.Table, feedback: pa.Table, *, version: str, allowed: Collection[str]) -> Mirrored:
    """The evidence about ``version``.

    Args:
        inferences: the columns of ``quality.ranker.lists.COLUMNS``.
        feedback: the table.
        version: the candidate.
        allowed: ids of the inferences whose people agree to evaluation now.
    """
    reported = reports(feedback, allowed)
    lists = ranked_lists(inferences, allowed=allowed, reported=reported)
    return Mirrored(version, [one for one in lists if version in one.shadows], reported)


def judge_ranker(seen: Mirrored, config: EngagementRankerConfig, *, look: int = 1) -> Judged:
    """Judge a candidate.

    Args:
        seen: the evidence.
        config: weights of actions, and conditions.
        look: the how-many-th at other evidence, from 1: each has a smaller share of ``alpha``.
    """
    scored = [one for one in seen.lists if one.shadows[seen.version] is not None]
    usable = [one for one in scored if one.chances and min(one.chances) > 0]
    gain = None
    if usable:
        other = shown_chances(usable, [one.shadows[seen.version] or [] for one in usable])
        gain = list_gain(
            _table(rewards(usable, seen.reported, config)),
            _table([one.chances for one in usable]),
            _table(other),
            [one.subject for one in usable],
            confidence=1 - level(config.alpha, look),
        )
    missing = len(seen.lists) - len(scored)
    return Judged(gain, len(usable), missing, _reasons(gain, len(usable), missing, len(seen.lists), config))


def _table(rows: list[list[float]]) -> Floats:
    """Lists of different length as one table, NaN where they end."""
    table = np.full((len(rows), max(len(row) for row in rows)), np.nan)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _reasons(
    gain: ListGain | None, usable: int, silent: int, lists: int, config: EngagementRankerConfig
) -> list[Reason]:
    missing = silent / lists if lists else None
    reasons = [
        _least("shadow_lists", usable, config.min_shadow_lists,
               "{:,.0f} lists of known chances, {:,.0f} needed"),
        Reason(
            name="missing", passed=None if missing is None else missing <= config.max_missing, measured=missing,
            threshold=config.max_missing, text=f"no scores for {missing or 0:.1%} of {lists:,} lists",
        ),
        _least("overlap", gain.effective if gain else None, config.min_effective,
               "worth {:,.0f} lists of its own, {:,.0f} needed; gateway.ranking.epsilon raises it"),
    ]  # fmt: skip
    if gain is None:
        return [
            *reasons,
            Reason(name="gain", passed=None, threshold=config.min_gain, text="nothing to measure a gain by"),
        ]
    text = f"a list earns {gain.gain:+.4g} [{gain.low:.4g}, {gain.high:.4g}] more than {gain.logged:.4g}"
    return [*reasons, Reason(
        name="gain", passed=gain.low > config.min_gain, measured=gain.gain, interval=(gain.low, gain.high),
        threshold=config.min_gain, text=text,
    )]  # fmt: skip


def _least(name: str, measured: float | None, threshold: float, text: str) -> Reason:
    return Reason(
        name=name, passed=None if measured is None else measured >= threshold, measured=measured, threshold=threshold,
        text=text.format(measured or 0, threshold),
    )  # fmt: skip
