"""Between row types and Arrow: a type and, where needed, a conversion for every annotation.

Anything with open keys (a dict, ``Any``, a union with either) is stored as JSON text, so that one
column has one type whatever users put in. All columns are nullable: rows written before a field
existed read as null, and the row type's default takes its place.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute
from pydantic import BaseModel

from flywheel.errors import LakeError

pc: Any = pyarrow.compute  # its functions are made at run time, so no type checker knows them
Convert = Callable[[Any], Any]
R = TypeVar("R", bound=BaseModel)

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}
_FIRST, _LAST = (pa.scalar(end.replace(tzinfo=UTC), _SCALARS[datetime]) for end in (datetime.min, datetime.max))


@dataclass(frozen=True)
class Codec:
    """How one annotation is stored: its Arrow type, and conversions (None: stored as it is)."""

    type: pa.DataType
    nullable: bool = False
    encode: Convert | None = None
    decode: Convert | None = None


def arrow_schema(model: type[BaseModel]) -> pa.Schema:
    """The Arrow schema of a row type: one nullable column a field, in the order of the fields."""
    return pa.schema([pa.field(name, codec.type) for name, codec in codecs(model).items()])


def encode_rows(rows: Sequence[BaseModel], schema: pa.Schema) -> pa.Table:
    """Validated rows (all of one type) -> an Arrow table with ``schema``."""
    if not rows:
        return schema.empty_table()
    encode = _encoder(codecs(type(rows[0])))
    return pa.Table.from_pylist([encode(row.model_dump(mode="python")) for row in rows], schema=schema)


def decode_rows(table: pa.Table, model: type[R]) -> list[R]:
    """An Arrow table -> validated rows. Columns the type does not know are left out."""
    known = [name for name in table.column_names if name in model.model_fields]
    decode = _decoder(codecs(model))
    return [model.model_validate(decode(row)) for row in _dated(table.select(known)).to_pylist()]


def decode_column(column: pa.ChunkedArray, model: type[BaseModel], field: str) -> list[Any]:
    """The values of one column as ``model`` takes them for ``field``, not validated; None where there is none."""
    decode = codecs(model)[field].decode
    return [value if value is None or decode is None else decode(value) for value in column.to_pylist()]


def _dated(table: pa.Table) -> pa.Table:
    """Times beyond those that Python has as its first or last one: a single such row would hide all others."""
    for place, field in enumerate(table.schema):
        if field.type == _SCALARS[datetime]:
            times = table.column(place)
            times = pc.if_else(pc.less(times, _FIRST), _FIRST, times)
            table = table.set_column(place, field, pc.if_else(pc.greater(times, _LAST), _LAST, times))
    return table


@functools.cache
def codecs(model: type[BaseModel]) -> dict[str, Codec]:
    """The codec of every field of a row type."""
    hints = typing.get_type_hints(model)
    return {name: _codec(hints[name], f"{model.__name__}.{name}") for name in model.model_fields}


def _codec(annotation: Any, place: str) -> Codec:
    options = _options(annotation)
    nullable = type(None) in options
    options = [option for option in options if option is not type(None)]
    if len(options) != 1 or _is_open(options[0]):
        return Codec(pa.string(), nullable, _to_json, json.loads)
    found = _single(options[0], place)
    return Codec(found.type, nullable, found.encode, found.decode)


def _single(annotation: Any, place: str) -> Codec:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _SCALARS:
        return Codec(_SCALARS[annotation])
    if origin is typing.Literal:
        return Codec(_SCALARS[type(args[0])])
    if origin in (list, tuple):
        item = _codec(args[0], place)
        return Codec(pa.list_(item.type), False, _each(item.encode), _each(item.decode))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = codecs(annotation)
        struct = pa.struct([pa.field(name, codec.type) for name, codec in inner.items()])
        return Codec(struct, False, _encoder(inner), _decoder(inner))
    raise LakeError(f"{place} has a type the lake cannot store ({annotation!r}); add it to lake/codec.py")


def _options(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return list(typing.get_args(annotation))
    return [annotation]


def _is_open(annotation: Any) -> bool:
    return annotation is Any or annotation is dict or typing.get_origin(annotation) is dict


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def _each(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda values: [convert(value) for value in values]


def _encoder(fields: dict[str, Codec]) -> Convert:
    active = [(name, codec.encode) for name, codec in fields.items() if codec.encode is not None]

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        for name, convert in active:
            if row.get(name) is not None:  # a dump may leave out what is empty
                row[name] = convert(row[name])
        return row

    return encode


def _decoder(fields: dict[str, Codec]) -> Convert:
    active = [(name, codec.decode) for name, codec in fields.items() if codec.decode is not None]
    solid = [name for name, codec in fields.items() if not codec.nullable]

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        for name in solid:
            if row.get(name) is None:
                row.pop(name, None)  # written before the field existed: its default, or an error that names it
        for name, convert in active:
            if row.get(name) is not None:
                row[name] = convert(row[name])
        return row

    return decode
