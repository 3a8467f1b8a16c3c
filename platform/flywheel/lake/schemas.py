"""The tables of the lake: which row type each holds, its Arrow schema, and how rows find their partition.

Every table is partitioned by ``flow`` and ``date``. Rows that belong to no single flow (consents of
a person, say) lie in the partition ``SHARED_FLOW``, which a read for any flow includes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import pyarrow as pa

from flywheel import records
from flywheel.errors import LakeError
from flywheel.lake.codec import arrow_schema, decode_rows, encode_rows
from flywheel.lake.manifests import Manifest
from flywheel.records import Record

R = TypeVar("R", bound=Record)

SHARED_FLOW = "_all"
"""Partition of rows without a flow; no configured flow can have this name."""
PARTITIONS = ("flow", "date")
MODELS: dict[str, type[Record]] = {
    "inferences": records.Inference,
    "feedback": records.Feedback,
    "consents": records.Consent,
    "labels": records.Label,
    "signals": records.Signal,
    "examples": records.Example,
    "eval_cases": records.EvalCase,
    "eval_results": records.EvalResult,
    "judgements": records.Judgement,
    "shadow_pairs": records.ShadowPair,
    "decisions": records.Decision,
    "datasets": Manifest,
    "models": Manifest,
    "turns": Manifest,
}
_TIME_COLUMNS = ("ts", "created")


def _table_schema(model: type[Record]) -> pa.Schema:
    schema = arrow_schema(model)
    for name in PARTITIONS:
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return schema


SCHEMAS: dict[str, pa.Schema] = {table: _table_schema(model) for table, model in MODELS.items()}
"""Columns of every table: the row type's fields in order, then ``flow`` (if it has none) and ``date``."""


def schema_of(table: str) -> pa.Schema:
    """The schema of ``table``.

    Raises:
        LakeError: there is no such table.
    """
    if table not in SCHEMAS:
        raise LakeError(f"the lake has no table '{table}'; its tables are {', '.join(SCHEMAS)}")
    return SCHEMAS[table]


def to_arrow(table: str, rows: Sequence[Record] | pa.Table, *, flow: str | None = None) -> pa.Table:
    """Rows of one type, or an Arrow table, in the schema of ``table`` with both partition columns filled.

    ``flow`` is for rows that carry none. Columns that are missing become null; unknown ones are an error.
    """
    schema = schema_of(table)
    if isinstance(rows, pa.Table):
        data = conform(_known(table, rows), schema)
    else:
        expected = MODELS[table]
        if wrong := next((row for row in rows if not isinstance(row, expected)), None):
            raise LakeError(
                f"table {table} holds {expected.__name__} rows, not {type(wrong).__name__}; correct the caller"
            )
        fields = pa.schema([schema.field(name) for name in expected.model_fields])
        data = conform(encode_rows(rows, fields), schema)
    flows = [value or flow or SHARED_FLOW for value in data["flow"].to_pylist()]
    data = data.set_column(schema.get_field_index("flow"), "flow", pa.array(flows, pa.string()))
    return data.set_column(schema.get_field_index("date"), "date", pa.array(_dates(data), pa.string()))


def from_arrow(table: pa.Table, model: type[R]) -> list[R]:
    """Validated rows of ``model``; partition columns the type does not have are left out."""
    return decode_rows(table, model)


def conform(data: pa.Table, schema: pa.Schema) -> pa.Table:
    """``data`` with exactly the columns and types of ``schema``; columns it lacks are null."""
    columns = [
        data[field.name].cast(field.type) if field.name in data.column_names else pa.nulls(len(data), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def partition_date(inference_id: str | None, ts: datetime | None, today: date | None = None) -> str:
    """The partition of a row, ``YYYY-MM-DD`` in UTC.

    The day in the inference's UUIDv7 comes first, so that whatever belongs to an inference lies in
    one partition with it, however late it arrives; then the row's own time; then today.
    """
    moment = uuid7_time(inference_id) if inference_id else None
    moment = moment or ts
    return (moment.astimezone(UTC).date() if moment else today or datetime.now(UTC).date()).isoformat()


def uuid7_time(text: str) -> datetime | None:
    """The time in a UUIDv7, in milliseconds; None for any other text."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    try:
        return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)
    except (OverflowError, ValueError):
        return None  # 48 bits of milliseconds reach past the year 9999


def _dates(data: pa.Table) -> list[str]:
    given = data["date"].to_pylist()
    ids = data["inference_id"].to_pylist() if "inference_id" in data.column_names else [None] * len(data)
    time_column = next((name for name in _TIME_COLUMNS if name in data.column_names), None)
    times: list[Any] = data[time_column].to_pylist() if time_column else [None] * len(data)
    today = datetime.now(UTC).date()
    return [day or partition_date(key, ts, today) for day, key, ts in zip(given, ids, times, strict=True)]


def _known(table: str, rows: pa.Table) -> pa.Table:
    unknown = sorted(set(rows.column_names) - set(schema_of(table).names))
    if unknown:
        raise LakeError(f"table {table} has no column {', '.join(unknown)}; leave it out or add it to the row type")
    return rows
