"""Signals that need nothing but their row, by Ray Data: byte ranges of the candidates' file in, Parquet parts out.

The driver never holds a row: it hands out ranges and gets the names of files, so its share does not grow with rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.lake.tables import Lake, Part
from flywheel.quality.rows import Candidate
from flywheel.quality.signals import SIGNALS, measure
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.stored import TABLE, as_table

SMALLEST, LARGEST = 1 << 18, 1 << 23
"""Bytes of one range. A range is held by one worker at a time."""
RANGES = 64
"""Wanted ranges: enough to keep a few nodes busy to the end."""
CPUS = 0.5


def ranges(size: int) -> list[tuple[int, int]]:
    """Byte ranges that cover a file; the same file gives the same ranges."""
    step = max(SMALLEST, min(LARGEST, size // RANGES))
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def rows_of(path: Path, start: int, end: int) -> Iterator[Candidate]:
    """Rows whose line begins in ``[start, end)``: every line belongs to exactly one of the ranges of a file."""
    with path.open("rb") as stream:
        if start:
            stream.seek(start - 1)
            stream.readline()  # the rest of a line that began before; nothing but its newline, if ours begins here
        while stream.tell() < end and (line := stream.readline()):
            yield Candidate.model_validate_json(line)


def columns(
    rows: Sequence[Measured], context: Context, names: Sequence[str]
) -> tuple[list[str], dict[str, list[float | None]]]:
    """Ids and the values of some signals, one list a signal."""
    signals = [SIGNALS[name] for name in names]
    measured = [measure(one, context, signals) for one in rows]
    return [one.row.inference_id for one in rows], {name: [row[name] for row in measured] for name in names}


def light_parts(
    lake: Lake, flow: str, path: Path, *, versions: Mapping[str, str], context: Context, cpus: float = CPUS
) -> list[Part]:
    """Measure the signals that ``versions`` names for every row of a file that ``write_rows`` wrote."""
    import ray

    work = [{"start": start, "end": end} for start, end in ranges(path.stat().st_size)]
    if not work:
        return []
    names = list(versions)

    def measure_range(one: dict[str, Any]) -> dict[str, Any]:
        rows = [Measured(row) for row in rows_of(path, one["start"], one["end"])]
        parts = lake.write_parts(TABLE, as_table(*columns(rows, context, names), versions), flow=flow) if rows else []
        return {"parts": json.dumps([asdict(part) for part in parts])}  # text: an empty list has no type

    data = ray.data.from_items(work, override_num_blocks=len(work)).map(measure_range, num_cpus=cpus)
    return [Part(**part) for row in data.iter_rows() for part in json.loads(row["parts"])]
