"""How often each place of a list is looked at, from lists whose order was partly random.

The position-based model (Craswell et al., WSDM 2008; Richardson et al., WWW 2007): somebody acts on an item if they
look at its place and then like what they see, and whether they look depends on the place alone. Random lists would show
the looks directly: every place then holds equally good items, and acts differ by looks only (Joachims, Swaminathan and
Schnabel, WSDM 2017, section 5). Ours are random with known chances, so each shown item is weighed by the chance of its
place in a uniform list over the chance that it had, and the weighted lists are uniform ones in expectation.

People read from the top, so shares of looks are held not to grow downwards; that takes much noise out of the lower
places. For a grid or a carousel this is wrong; set the shares by hand there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.place_chances import Floats

LEAST = 0.02
"""A place that hardly anybody acts at is not one that nobody looks at."""
MIN_ACTS = 30.0
"""Effective number of acts below which nothing is concluded."""


@dataclass(frozen=True)
class Examination:
    """Share of looks at each place, relative to the top (1.0), which counts as always looked at.

    Attributes:
        shares: one a place, not growing.
        acts: the effective number of acts they rest on; with fewer than ``MIN_ACTS`` all shares are 1.
    """

    shares: list[float]
    acts: float

    @property
    def known(self) -> bool:
        """Whether there was enough to tell."""
        return self.acts >= MIN_ACTS

    def at(self, places: npt.NDArray[np.intp]) -> Floats:
        """The share of each of ``places``, from 0; places below the last known one are looked at like it."""
        return np.array(self.shares)[np.minimum(places, len(self.shares) - 1)]


def examination(places: npt.NDArray[np.intp], acted: npt.NDArray[np.bool_], weights: Floats) -> Examination:
    """Estimate the shares of looks.

    Args:
        places: of each shown item, from 0.
        acted: whether anybody did anything with it.
        weights: chance of its place in a uniform list over the chance that it had.
    """
    if not places.size:
        return Examination([1.0], 0.0)
    count = int(places.max()) + 1
    total, squares = (np.bincount(places, weights=values, minlength=count) for values in (weights, weights**2))
    done = np.bincount(places, weights=weights * acted, minlength=count)
    done_squares = np.bincount(places, weights=weights**2 * acted, minlength=count)
    acts = float(done.sum() ** 2 / done_squares.sum()) if done.any() else 0.0
    seen = total > 0
    if acts < MIN_ACTS or not seen[0] or done[0] == 0:
        return Examination([1.0] * count, acts if acts < MIN_ACTS else 0.0)
    rates = done[seen] / total[seen]
    reliable = total[seen] ** 2 / squares[seen]
    fitted: Any = optimize.isotonic_regression(rates, weights=reliable, increasing=False)  # pyright: ignore[reportUnknownMemberType]
    falling: Floats = fitted.x
    relative = np.maximum(falling / falling[0], LEAST)
    shares = cast("Floats", np.interp(np.arange(count), np.flatnonzero(seen), relative))
    return Examination([float(share) for share in shares], acts)
