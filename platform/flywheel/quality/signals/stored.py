"""Values of signals as rows of the table ``signals``: columns in, columns out, no object a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.lake.schemas import partition_date
from flywheel.lake.tables import Lake

TABLE = "signals"
SCAN_ROWS = 131_072

SignalTable = dict[str, dict[str, float | None]]
"""``{inference_id: {signal: value}}``"""


def as_table(ids: Sequence[str], values: Mapping[str, Sequence[float | None]], versions: Mapping[str, str]) -> pa.Table:
    """Rows of some inferences: every signal of the first one, then of the next."""
    names = list(values)
    count, wide = len(ids), len(names)
    days = pa.array([partition_date(one, None) for one in ids], pa.string())
    places = pa.array(np.repeat(np.arange(count), wide))
    kinds = pa.array(np.tile(np.arange(wide), count))
    columns = [pa.array(values[name], pa.float64()) for name in names]
    across = np.arange(count * wide).reshape(wide, count).T.ravel()
    return pa.table(
        {
            "inference_id": pa.array(ids, pa.string()).take(places),
            "signal": pa.array(names, pa.string()).take(kinds),
            "version": pa.array([versions[name] for name in names], pa.string()).take(kinds),
            "value": (pa.concat_arrays(columns) if columns else pa.array([], pa.float64())).take(pa.array(across)),
            "date": days.take(places),
        }
    )


def present(lake: Lake, flow: str, wanted: Collection[str]) -> set[str]:
    """Those of the versions that the newest version of the table holds."""
    known = set(wanted)
    found: set[str] = set()
    for piece in lake.scan(TABLE, flow=flow, columns=["version"], rows=SCAN_ROWS):
        column = piece["version"]
        found.update(known.intersection(column.unique().to_pylist()))
        if len(found) == len(known):
            break
    return found


def read(lake: Lake, flow: str, wanted: Collection[str], at: int | None = None) -> SignalTable:
    """Values of some versions; a row that was stored twice counts once."""
    table = lake.read(TABLE, flow=flow, columns=["inference_id", "signal", "version", "value"], at=at)
    table = table.filter(pc.field("version").isin(sorted(wanted)))
    found: SignalTable = defaultdict(dict)
    columns = (table[name].to_pylist() for name in ("inference_id", "signal", "value"))
    for inference_id, signal, value in zip(*columns, strict=True):
        found[inference_id][signal] = value
    return dict(found)
