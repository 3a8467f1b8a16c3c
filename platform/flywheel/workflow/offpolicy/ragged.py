"""Arrow lists of different lengths as one padded array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute
"""Its functions are made when it is imported: type checkers know none of them."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def lengths(lists: pa.Array | pa.ChunkedArray) -> Ints:
    """Of each list; 0 for null."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)


def row_and_place(sizes: Ints) -> tuple[Ints, Ints]:
    """Row and place in the row of each value of the flattened lists."""
    rows = np.repeat(np.arange(sizes.size), sizes)
    return rows, np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def padded(values: Floats, sizes: Ints) -> tuple[Floats, Bools]:
    """Flat values as (rows, longest), 0 in the padding; and where there are values."""
    rows, at = row_and_place(sizes)
    wide = np.zeros((sizes.size, int(sizes.max(initial=1))))
    wide[rows, at] = values
    there = np.zeros(wide.shape, dtype=np.bool_)
    there[rows, at] = True
    return wide, there


def numbers(values: pa.Array | pa.ChunkedArray) -> Floats:
    """Arrow numbers as floats; NaN for null."""
    flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return pc.cast(flat, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def flat(lists: pa.Array | pa.ChunkedArray) -> Floats:
    """All values of lists of numbers, in order."""
    return numbers(pc.list_flatten(lists))
