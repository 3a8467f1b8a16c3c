"""The textbook's form of the agreement model beside crowd-kit's."""

import numpy as np
import pytest

from flywheel.quality.trust.agreement import Votes, dawid_skene

pytestmark = pytest.mark.filterwarnings("ignore")


def crowd(rng, *, items, actors, each=6, labels=4):
    truth = rng.integers(labels, size=items)
    actor = np.concatenate([rng.choice(actors, each, replace=False) for _ in range(items)])
    item = np.repeat(np.arange(items), each)
    wrong = (truth[item] + rng.integers(1, labels, size=len(item))) % labels
    label = np.where(rng.random(len(item)) < np.linspace(0.5, 0.95, actors)[actor], truth[item], wrong)
    cells = np.repeat(np.arange(items), labels)
    return Votes(actor, item * labels + label, np.ones(len(item), dtype=bool), cells, exclusive=True), item, label


def test_the_textbook_form_equals_crowd_kit():
    crowdkit = pytest.importorskip("crowdkit.aggregation.classification.dawid_skene", exc_type=ImportError)
    import pandas as pd

    votes, item, label = crowd(np.random.default_rng(1), items=120, actors=15)
    table = pd.DataFrame({"task": item, "worker": votes.actor, "label": label})
    theirs = crowdkit.OneCoinDawidSkene(n_iter=100, tol=1e-9).fit(table)
    ours = dawid_skene(votes, alternatives=3, other=False, judged_only=False, prior_votes=0, rounds=200, tolerance=1e-9)
    assert np.abs(ours.reliability - theirs.skills_.sort_index().to_numpy()).max() < 0.02  # they fit class priors, too
    believed = theirs.probas_.sort_index()[[0, 1, 2, 3]].to_numpy()
    assert (ours.believed.reshape(-1, 4).argmax(axis=1) == believed.argmax(axis=1)).mean() > 0.98
    assert np.abs(ours.believed.reshape(-1, 4) - believed).mean() < 0.02
