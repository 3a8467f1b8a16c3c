"""What is new in the three tables that verdicts rest on, or all that there is since some day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

import pyarrow as pa

from flywheel.lake.changes import changes, changes_known, pick
from flywheel.lake.schemas import from_arrow, partition_date
from flywheel.lake.tables import Lake
from flywheel.records import Inference, Message, ShadowPair
from flywheel.rollout.live.asked import COLUMNS

READ: Final[dict[str, Sequence[str]]] = {
    "inferences": COLUMNS,
    "shadow_pairs": tuple(ShadowPair.model_fields),
    "feedback": ("flow", "feedback_id", "inference_id", "session_id", "subject", "ts", "kind", "value", "choice_index"),
}
"""Table -> columns. In this order: a request is known before its pair is scored."""

Versions = Mapping[str, int | None]


class News(NamedTuple):
    """Rows by table, and the versions of the tables that hold all of them. A few may be told twice."""

    rows: dict[str, pa.Table]
    versions: Versions

    @property
    def any(self) -> bool:
        """Whether there is a row."""
        return any(map(len, self.rows.values()))


def since(lake: Lake, flow: str, versions: Versions) -> News | None:
    """Rows that came after these versions; None: rows went, or the log is gone, so read everything."""
    rows: dict[str, pa.Table] = {}
    now: dict[str, int | None] = {}
    for table, columns in READ.items():
        found = changes(lake, table, since=versions[table], flow=flow, columns=columns)
        if found is None:
            return None
        rows[table], now[table] = found.rows, found.version
    return News(rows, now)


def everything(lake: Lake, flow: str, days: Iterable[str]) -> Iterator[tuple[str, News]]:
    """All rows, a day at a time. Versions are looked at first: what comes meanwhile is told again the next time."""
    versions = {table: lake.version(table) for table in READ}
    for day in days:
        rows = {table: lake.read(table, flow=flow, dates=[day], columns=columns) for table, columns in READ.items()}
        yield day, News(rows, versions)


def follows(lake: Lake, versions: Versions) -> bool:
    """Whether the logs still tell what came after these versions: old entries are removed after a month or so."""
    return all(changes_known(lake, table, version) for table, version in versions.items())


def questions(lake: Lake, flow: str, ids: Collection[str]) -> dict[str, list[Message]]:
    """What was asked in some requests, read from their days."""
    if not ids:
        return {}
    days = {partition_date(one, None) for one in ids}
    columns = ("flow", "inference_id", "subject", "ts", "model_version", "messages")
    rows = pick(lake, "inferences", flow=flow, dates=days, column="inference_id", values=ids, columns=columns)
    return {row.inference_id: row.messages for row in from_arrow(rows, Inference)}


def days(begins: Iterable[datetime], now: datetime) -> list[str]:
    """Partitions since the first of ``begins``.

    A day before it and one after now are among them: an id's time fixes the partition, and clocks differ.
    """
    first = min(begins, default=None)
    if first is None:
        return []
    begin, end = first.astimezone(UTC).date() - timedelta(days=1), now.astimezone(UTC).date() + timedelta(days=1)
    return [date.fromordinal(day).isoformat() for day in range(begin.toordinal(), end.toordinal() + 1)]
