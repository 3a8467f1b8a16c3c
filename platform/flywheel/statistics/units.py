"""What a row of outcomes is counted as: itself, or a part of its cluster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = Sequence[Hashable] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval. ``n`` counts rows; ``clusters`` the independent units (rows, if there are none)."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int


def vector(values: npt.ArrayLike) -> Floats:
    """Outcomes, bool or float, as one row of numbers.

    Raises:
        ValueError: another shape, or NaN.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 1:
        raise ValueError(f"outcomes must be one row of numbers, not of shape {rows.shape}")
    if np.isnan(rows).any():
        raise ValueError("outcomes hold NaN; leave the rows that could not be measured out, and report how many")
    return rows


def sums_and_sizes(rows: Floats, clusters: Labels | None) -> tuple[Floats, Floats]:
    """The independent units, as (sum, number of rows) each: rows themselves, or clusters in order of arrival.

    Raises:
        ValueError: there are not as many labels as rows.
    """
    if clusters is None:
        return rows, np.ones_like(rows)
    codes = codes_of(clusters, rows.size)
    return np.bincount(codes, weights=rows).astype(np.float64), np.bincount(codes).astype(np.float64)


def codes_of(clusters: Labels, rows: int) -> npt.NDArray[np.intp]:
    """Each row's cluster as a number from 0, in order of arrival.

    Raises:
        ValueError: there are not as many labels as rows.
    """
    if len(clusters) != rows:
        raise ValueError(f"{len(clusters)} cluster labels for {rows} rows")
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(label, len(number)) for label in clusters], dtype=np.intp)
