"""Near-duplicates of a fixed set of texts: the set is indexed once, any number of other texts is looked up.

Exact, by prefix filtering (Bayardo, Ma, Srikant, "Scaling up all pairs similarity search", WWW 2007): a set of n
shingles has a Jaccard index of at least t only with sets that hold t n of them, and so at least one of any
n - ceil(t n) + 1 of them. The rarest are looked up: what many texts share, such as the instruction that they all begin
with, is not among them, and no text is compared for its sake, as it would be after MinHash.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from flywheel.text.minhash import jaccard_of, shingles

_ROUNDING = 1e-9


class NearIndex:
    """Texts that others are compared with. Empty texts are near nothing."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        """Index ``texts``; ``threshold`` in (0, 1] is the least Jaccard index of a find."""
        self._threshold = threshold
        self._items = [shingles(text) for text in texts]
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(self._items):
            for shingle in item:
                self._places[shingle].append(place)

    def find(self, texts: Sequence[str]) -> list[dict[int, float]]:
        """For each text: places of the indexed texts that it is near to, with their Jaccard index."""
        return [self._near(shingles(text)) for text in texts]

    def _near(self, item: frozenset[str]) -> dict[int, float]:
        similar = {place: jaccard_of(item, self._items[place]) for place in sorted(self._candidates(item))}
        return {place: value for place, value in similar.items() if value >= self._threshold}

    def _candidates(self, item: frozenset[str]) -> Iterator[int]:
        """Places of the texts that share so many of the rarest shingles that they may be near."""
        size, threshold = len(item), self._threshold
        rarest = sorted(item, key=lambda shingle: len(self._places.get(shingle, ())))
        rarest = rarest[: size - math.ceil(threshold * size - _ROUNDING) + 1]
        shared: Counter[int] = Counter()
        for shingle in rarest:
            shared.update(self._places.get(shingle, ()))
        for place, count in shared.items():
            # |a & b| >= t / (1 + t) (|a| + |b|) says the same as Jaccard >= t; all others may be shared at the most.
            least = threshold / (1 + threshold) * (size + len(self._items[place]))
            if count + size - len(rarest) >= least - _ROUNDING:
                yield place
