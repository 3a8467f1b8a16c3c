"""Near-duplicates of a fixed set of texts: the set is indexed once, any number of other texts is looked up.

Exact, by prefix filtering (Bayardo, Ma, Srikant, "Scaling up all pairs similarity search", WWW 2007): with shingles
ordered from rare to common, two sets of Jaccard index at least t share one of the first n - ceil(t n) + 1 shingles of
each. What many texts share, such as the instruction they all begin with, is at the end of that order: such texts are
never compared for its sake, which MinHash bands would do.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from flywheel.text.minhash import jaccard_of, shingles

_ROUNDING = 1e-9


class NearIndex:
    """Texts that others are compared with. Empty texts are near nothing."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        """Index ``texts``; ``threshold`` in (0, 1] is the least Jaccard index of a find."""
        self._threshold = threshold
        self._items = [shingles(text) for text in texts]
        self._count = Counter(shingle for item in self._items for shingle in item)
        self._postings: defaultdict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(self._items):
            for shingle in self._rarest(item):
                self._postings[shingle].append(place)

    def find(self, texts: Sequence[str]) -> list[dict[int, float]]:
        """For each text: places of the indexed texts that it is near to, with their Jaccard index."""
        return [self._near(shingles(text)) for text in texts]

    def _near(self, item: frozenset[str]) -> dict[int, float]:
        places = {place for shingle in self._rarest(item) for place in self._postings.get(shingle, ())}
        least, most = self._threshold * len(item) - _ROUNDING, len(item) / self._threshold + _ROUNDING
        fitting = sorted(place for place in places if least <= len(self._items[place]) <= most)
        similar = {place: jaccard_of(item, self._items[place]) for place in fitting}
        return {place: value for place, value in similar.items() if value >= self._threshold}

    def _rarest(self, item: frozenset[str]) -> list[str]:
        """The shingles of which one is shared by every set that is near; unknown ones come first, and match nothing."""
        count = self._count
        size = len(item) - math.ceil(self._threshold * len(item) - _ROUNDING) + 1
        return sorted(item, key=lambda shingle: (count[shingle], shingle))[:size] if item else []
