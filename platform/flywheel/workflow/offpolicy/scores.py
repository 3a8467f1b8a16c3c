"""Another ranker's scores from a file: what the target policy would have chosen by."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import parquet

from flywheel.errors import UsageError
from flywheel.workflow.offpolicy.ragged import pc

_SCHEMA = pa.schema([("inference_id", pa.string()), ("scores", pa.list_(pa.float64()))])


class Scores:
    """Scores by inference id; of an id that occurs twice the first line counts."""

    def __init__(self, table: pa.Table) -> None:
        self._ids = table["inference_id"].combine_chunks()
        self._scores = table["scores"].combine_chunks()

    def of(self, ids: pa.ChunkedArray) -> pa.Array:
        """(rows,) lists of scores; null where the file has none."""
        return self._scores.take(pc.index_in(ids.combine_chunks(), value_set=self._ids))


def read_scores(path: Path) -> Scores:
    """JSON lines or Parquet with ``inference_id`` and ``scores``.

    Raises:
        UsageError: the file is not there, or is something else.
    """
    try:
        if path.suffix == ".parquet":
            table = parquet.read_table(path, columns=_SCHEMA.names)
        else:
            table = arrow_json.read_json(path, parse_options=arrow_json.ParseOptions(explicit_schema=_SCHEMA))
        return Scores(table.select(_SCHEMA.names).cast(_SCHEMA))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UsageError(
            f"{path} cannot be read as scores ({str(error).splitlines()[0]}). Write one JSON object a line, or a "
            'Parquet file: {"inference_id": "0198…", "scores": [0.3, 1.2]}, one score a choice or item in order.'
        ) from error
