"""Whether other people's answers to such prompts support this target.

A linear model on TF-IDF features learns each field (or the whole answer, where answers come from a closed
vocabulary) from the rows of the other folds, and gives the row's own value its probability relative to the
likeliest one. This is the self-confidence of confident learning (Northcutt, Jiang and Chuang 2021, sec. 3.1),
rescaled so that 1 means "this is what I would have said". The least supported field counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.quality.asked import told
from flywheel.quality.folds import Folds
from flywheel.quality.rows import Candidate
from flywheel.quality.signals.context import Context, Forms, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.form import field_values, fits

MIN_TRAIN = 40
FEATURES = 20_000


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """In [0, 1]; None where no field has a closed vocabulary or a fold has too few rows."""
    return measured.agreement


def cross_fit(rows: Sequence[Candidate], folds: Folds, forms: Forms) -> list[float | None]:
    """Agreement of every row, each from a model that learnt from the other folds only."""
    result: list[float | None] = [None] * len(rows)
    prompts = told([row.messages for row in rows])
    for fold, train in enumerate(folds.train):
        usable = [index for index in train if fits(rows[index].target, forms.shape)]
        held = [i for i, own in enumerate(folds.score) if own == fold and fits(rows[i].target, forms.shape)]
        if len(usable) < MIN_TRAIN or not held:
            continue
        vectors, queries = _features([prompts[i] for i in usable], [prompts[i] for i in held])
        for name in forms.values:
            given = [field_values(rows[index].target).get(name) for index in usable]
            asked = [field_values(rows[index].target).get(name) for index in held]
            for index, support in zip(held, _support(vectors, given, queries, asked), strict=True):
                before = result[index]
                result[index] = support if before is None else min(before, support)
    return result


def _features(train: list[str], held: list[str]) -> tuple[object, object]:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=FEATURES)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=FEATURES)
    fitted = hstack([words.fit_transform(train), chars.fit_transform(train)]).tocsr()
    return fitted, hstack([words.transform(held), chars.transform(held)]).tocsr()


def _support(vectors: object, given: list[str | None], queries: object, asked: list[str | None]) -> list[float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    known = sorted({value for value in given if value is not None})
    if len(known) < 2:
        return [1.0 if value in known else 0.0 for value in asked]
    labels = np.array([value if value is not None else "" for value in given])
    # One against the rest with liblinear: thirty times faster here than the multinomial solver, equally good.
    model = OneVsRestClassifier(LogisticRegression(C=5.0, solver="liblinear", random_state=0)).fit(vectors, labels)
    probabilities = model.predict_proba(queries)
    place = {value: index for index, value in enumerate(model.classes_)}
    return [
        float(row[place[value]] / row.max()) if value in place else 0.0
        for row, value in zip(probabilities, asked, strict=True)
    ]


AGREEMENT = Declared(
    name="agreement", version="2", cost="free", scope="rows", group="peers", scale="[0, 1], higher is better",
    inputs=("messages", "target", "rater", "forms", "agreement"),
    measures="whether a linear model of other people's answers to such prompts supports this target",
    gamed="many accounts that agree with each other; new right answers look odd until several people give them",
    function=signal, decides=("others_disagree", "too_few_votes"),
)  # fmt: skip
