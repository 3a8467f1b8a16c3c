"""What a reward model has to be better than: the longer answer, and words alone. In the same folds. Pure.

Both know nothing of meaning. A reward model that does not beat the better of them has learnt nothing that a line of
code would not know, and its opinion counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BASELINES = ("longer", "tfidf")
_RIDGE = 1.0


def longer(pairs: Sequence[tuple[str, str]]) -> Floats:
    """Margins of (chosen, rejected): 1 where the chosen answer has more characters, -1 fewer, 0 as many."""
    return np.array([np.sign(len(chosen) - len(rejected)) for chosen, rejected in pairs], dtype=np.float64)


def tfidf(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> Floats:
    """Margins of ``test`` under a Bradley-Terry model on TF-IDF of words and pairs of words, fitted on ``train``."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [text for pair in train for text in pair]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"(?u)\b\w+\b")
    try:
        words.fit(texts)
    except ValueError:  # no word occurs twice
        return np.zeros(len(test))

    def differences(pairs: Sequence[tuple[str, str]]) -> Any:
        return words.transform([chosen for chosen, _ in pairs]) - words.transform([other for _, other in pairs])

    # Each pair once from either side, so that both classes are there.
    rows = differences(train)
    side = np.where(np.arange(len(train)) % 2 == 0, 1.0, -1.0)
    if len(train) < 2:
        return np.zeros(len(test))
    model = LogisticRegression(C=1 / _RIDGE, fit_intercept=False, solver="liblinear")
    model.fit(rows.multiply(side[:, None]).tocsr(), side)
    return np.asarray(differences(test) @ model.coef_[0], dtype=np.float64)


def won(margins: npt.ArrayLike) -> Floats:
    """1 for a pair ranked right, one half for equal rewards, 0 else."""
    values = np.asarray(margins, dtype=np.float64)
    return (values > 0) + 0.5 * (values == 0)
