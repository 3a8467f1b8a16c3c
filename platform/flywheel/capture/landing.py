"""Segments: the immutable Parquet files in ``landing/`` that carry raw events from an outbox to the tables.

A segment's name is its outbox and the range of sequence numbers it covers, so a segment sent twice is
the same object. The ranges of one flow in one outbox are contiguous (the first starts at 1, each next
one where the last ended), so a listing that misses a segment shows as a gap and never as a loss.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import CaptureError

ROOT = "landing"
SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("event_id", pa.string()),
        ("kind", pa.string()),
        ("tenant", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
        ("body", pa.string()),
    ]
)
_NAME = re.compile(rf"{ROOT}/([^/]+)/([^/]+)/(\d{{16}})-(\d{{16}})\.parquet")


class Row(NamedTuple):
    """One event as it lies in an outbox or a segment; ``ts`` in microseconds since 1970, ``body`` raw JSON."""

    seq: int
    event_id: str
    kind: str
    tenant: str
    ts: int
    body: str


class Segment(NamedTuple):
    """The events of one flow in one outbox with ``lo <= seq <= hi``."""

    flow: str
    outbox: str
    lo: int
    hi: int

    @property
    def key(self) -> str:
        """Name in the lake; keys of one outbox sort by sequence."""
        return f"{folder(self.flow)}/{self.outbox}/{self.lo:016d}-{self.hi:016d}.parquet"


def folder(flow: str) -> str:
    """Where the segments of a flow lie: one folder an outbox."""
    return f"{ROOT}/{flow}"


def just_before(flow: str, outbox: str, lo: int) -> str:
    """A key that sorts before every segment that starts at ``lo`` or later, and behind all earlier ones."""
    return f"{folder(flow)}/{outbox}/{lo:016d}-"


def closed_key(flow: str, outbox: str) -> str:
    """The object that says: this outbox is drained and gone, no segment will follow. Sorts behind its segments."""
    return f"{folder(flow)}/{outbox}/closed"


def parse(key: str) -> Segment | None:
    """The segment that a key names; None for other objects."""
    match = _NAME.fullmatch(key)
    return Segment(match[1], match[2], int(match[3]), int(match[4])) if match else None


def encode(rows: Sequence[Row]) -> bytes:
    """A segment's bytes."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), out, compression="zstd")
    return out.getvalue()


def size(data: bytes) -> int:
    """Bytes of a segment's rows in memory; those of the object tell little, since prompts that repeat compress well."""
    try:
        footer = pq.read_metadata(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError):
        return len(data)  # whoever decodes it will say what is wrong
    return sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))


def decode(data: bytes, key: str) -> list[Row]:
    """The rows of a segment, in sequence.

    Raises:
        CaptureError: the object is not a segment.
    """
    try:
        table = pq.read_table(pa.BufferReader(data), schema=SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise CaptureError(f"{key} is not a readable segment; restore it, ingestion waits for it: {error}") from error
    table = table.set_column(4, "ts", table["ts"].cast(pa.int64()))
    return [Row(*values) for values in zip(*(column.to_pylist() for column in table.columns), strict=True)]
