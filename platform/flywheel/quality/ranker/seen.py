"""What feedback says of the items of ranked lists: how long they were on screen, and what was done with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.config.ranker import DWELL, EngagementRankerConfig


@dataclass
class Seen:
    """One item of one list, over all events. Times are milliseconds."""

    shown_ms: float = 0.0
    dwelt_ms: float = 0.0
    actions: set[str] = field(default_factory=set)

    def add(self, item: Mapping[str, Any], kind: str, value: float | None, *, alone: bool) -> None:
        """One event; a dwell that names a single item, and not as one on screen, is a dwell on that item."""
        self.shown_ms += item["shown_ms"] or 0.0
        if item["action"]:
            self.actions.add(item["action"].strip().lower())
        if kind == "dwell" and alone and item["shown_ms"] is None:
            self.dwelt_ms += value or 0.0

    def done(self, config: EngagementRankerConfig) -> set[str]:
        """What was done with it, by the names that weights are given to."""
        return self.actions | ({DWELL} if self.dwelt_ms >= config.dwell_ms else set())


def reports(feedback: pa.Table, lists: Collection[str]) -> dict[str, dict[str, Seen]]:
    """List -> item -> what was reported of it; lists that nothing was reported of are not in it."""
    named = feedback.filter(pc.field("inference_id").isin(pa.array(sorted(lists), pa.string())))
    found: dict[str, dict[str, Seen]] = {}
    columns = [named[name].to_pylist() for name in ("inference_id", "kind", "value", "items")]
    for inference_id, kind, value, items in zip(*columns, strict=True):
        for item in items or ():
            of_list = found.setdefault(inference_id, {})
            of_list.setdefault(item["id"], Seen()).add(item, kind, value, alone=len(items) == 1)
    return found
