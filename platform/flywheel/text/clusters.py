"""Groups of texts about the same thing, and how much of other text is like each group.

TF-IDF over character n-grams, so that inflections and typing errors count little; agglomerative clustering with
average linkage, cut at one cosine distance. What it was compared with is in DESIGN.md (Evaluation).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from flywheel.text.normalise import normalise

CUT: Final = 0.85
"""Mean cosine distance above which two groups stay apart."""
MOST: Final = 3_000
"""Texts at the most: their distances are held in memory at once (36 MB)."""
_NAME_WORDS: Final = 2
_WORD = re.compile(r"[^\W\d_]{3,}")


class TextCluster(NamedTuple):
    """Positions of the texts of one group, and the words that tell it from the others."""

    name: str
    members: list[int]


class Clustering(NamedTuple):
    """Groups, the largest first, and what says how like one of them another text is."""

    clusters: list[TextCluster]
    vectorizer: Any
    centres: npt.NDArray[np.float32]

    def shares(self, others: Sequence[str]) -> list[float]:
        """Of ``others``, the share that is like each group: nearest to it, and near enough to have joined it."""
        counts = np.zeros(len(self.clusters))
        if self.clusters and others and self.vectorizer is not None:
            # A text's mean similarity to the members of a group is its product with their mean: average linkage.
            similar = np.asarray(self.vectorizer.transform([normalise(text) for text in others]) @ self.centres.T)
            nearest = similar.argmax(axis=1)
            joins = similar[np.arange(len(others)), nearest] >= 1 - CUT
            counts += np.bincount(nearest[joins], minlength=len(self.clusters))
        return [float(count) / max(1, len(others)) for count in counts]


def cluster_texts(texts: Sequence[str]) -> Clustering:
    """Every text in exactly one group; the result depends on the texts and their order only.

    Args:
        texts: at most ``MOST``.

    Raises:
        ValueError: there are more.
    """
    if len(texts) > MOST:
        raise ValueError(f"{len(texts)} texts are more than {MOST}")
    plain = [normalise(text) for text in texts]
    if not any(plain):
        groups = [TextCluster("other", list(range(len(texts))))] if texts else []
        return Clustering(groups, None, np.zeros((len(groups), 0), dtype=np.float32))
    from sklearn.feature_extraction.text import TfidfVectorizer  # pyright: ignore[reportMissingTypeStubs]

    vectorizer: Any = cast("Any", TfidfVectorizer)(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32
    )
    vectors: Any = vectorizer.fit_transform(plain)
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(_groups(vectors)):
        members[group].append(place)
    ordered = sorted(members.values(), key=lambda places: (-len(places), places))
    centres = np.vstack([np.asarray(vectors[places].mean(axis=0)) for places in ordered]).astype(np.float32)
    named = zip(_names(plain, ordered), ordered, strict=True)
    return Clustering([TextCluster(name, places) for name, places in named], vectorizer, centres)


def _groups(vectors: Any) -> list[int]:
    if vectors.shape[0] == 1:
        return [0]
    from sklearn.cluster import AgglomerativeClustering  # pyright: ignore[reportMissingTypeStubs]

    distances = np.clip(1 - (vectors @ vectors.T).toarray(), 0, None)
    model: Any = cast("Any", AgglomerativeClustering)(
        n_clusters=None, distance_threshold=CUT, metric="precomputed", linkage="average"
    )
    return [int(label) for label in model.fit_predict(distances)]


def _names(texts: Sequence[str], groups: Sequence[Sequence[int]]) -> list[str]:
    """The words most members of a group use and few other texts; a name that is taken gets a number.

    In a group of several a word that only one of them uses is no name for the others, and may be all too personal.
    """
    words = [set(_WORD.findall(text)) for text in texts]
    everywhere = Counter(word for used in words for word in used)
    taken: Counter[str] = Counter()
    names: list[str] = []
    for group in groups:
        here = Counter(word for place in group for word in words[place])
        shared = {word: count for word, count in here.items() if count > 1 or len(group) == 1}
        weight = {word: count * np.log(1 + len(texts) / everywhere[word]) for word, count in shared.items()}
        best = sorted(weight, key=lambda word: (-weight[word], word))[:_NAME_WORDS]
        name = " ".join(best) or "other"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name} {taken[name]}")
    return names
