"""Near-duplicates of a fixed set of texts: the set is indexed once, any number of other texts is looked up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from flywheel.text.minhash import band_keys, jaccard_of, rows_per_band, shingles


class NearIndex:
    """Texts that others are compared with. MinHash bands find candidates, the exact Jaccard index decides.

    A pair at the threshold is missed with probability ``minhash.MISS``. Empty texts are near nothing.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        """Index ``texts``; ``threshold`` in (0, 1] is the least Jaccard index of a find."""
        self._threshold = threshold
        self._rows = rows_per_band(threshold)
        self._items = [shingles(text) for text in texts]
        self._buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        filled = [place for place, item in enumerate(self._items) if item]
        for band, keys in enumerate(band_keys([self._items[place] for place in filled], self._rows)):
            for place, key in zip(filled, keys.tolist(), strict=True):
                self._buckets[band, key].append(place)

    def find(self, texts: Sequence[str]) -> list[dict[int, float]]:
        """For each text: places of the indexed texts that it is near to, with their Jaccard index."""
        items = [shingles(text) for text in texts]
        filled = [place for place, item in enumerate(items) if item]
        candidates: list[set[int]] = [set() for _ in items]
        for band, keys in enumerate(band_keys([items[place] for place in filled], self._rows)):
            for place, key in zip(filled, keys.tolist(), strict=True):
                candidates[place].update(self._buckets.get((band, key), ()))
        return [self._near(item, found) for item, found in zip(items, candidates, strict=True)]

    def _near(self, item: frozenset[str], candidates: set[int]) -> dict[int, float]:
        similar = {place: jaccard_of(item, self._items[place]) for place in sorted(candidates)}
        return {place: value for place, value in similar.items() if value >= self._threshold}
