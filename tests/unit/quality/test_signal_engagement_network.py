import random

import numpy as np
import pytest

from flywheel.config import EngagementSignalConfig
from flywheel.quality.folds import Folds
from flywheel.quality.rows import Evidence
from flywheel.quality.signals.engagement_network import actions, cross_fit, learnable, weighted


def test_actions_that_could_not_be_seen_are_left_out(candidate):
    assert actions(candidate("a")) == {}
    thumbs = actions(candidate("a", evidence=Evidence(up=1)))
    assert thumbs == {"liked": True, "disliked": False}
    used = actions(candidate("a", evidence=Evidence(copies=1)))
    assert used == {"copy": True, "click": False, "completion": False, "abandonment": False, "reprompt": False}
    assert actions(candidate("a", origin="correction", answer="x"))["disliked"] is True
    assert actions(candidate("a", evidence=Evidence(rating=2.0)))["disliked"] is True


def test_rare_harm_outweighs_common_praise():
    shares = np.array([[0.9, 0.0], [0.9, 0.1]], dtype=np.float32)
    good, harmful = weighted(shares, ["liked", "disliked"], np.array([True, True]), {"liked": 2.0, "disliked": -40.0})
    assert good > 0 > harmful
    assert -1 <= harmful <= good <= 1
    alone = weighted(shares, ["liked", "disliked"], np.array([True, False]), {"liked": 2.0, "disliked": -40.0})
    assert alone == pytest.approx([0.9, 0.9])


def test_a_head_that_saw_one_outcome_only_is_not_listened_to():
    labels = np.array([[1, 0, 1], [1, 0, 0]], dtype=np.float32)
    known = np.array([[1, 1, 1], [1, 1, 0]], dtype=np.float32)
    assert learnable(labels, known).tolist() == [False, False, False]
    assert learnable(labels, np.ones((2, 3), dtype=np.float32)).tolist() == [False, False, True]


@pytest.fixture
def world(candidate):
    """Polite answers are liked and copied; rude ones are asked again and disliked."""
    rng = random.Random(0)
    words = ["parcel", "order", "refund", "router", "invoice", "card", "delivery", "account", "today", "monday"]
    rows = []
    for number in range(240):
        polite = rng.random() < 0.6
        text = f"{'gladly' if polite else 'whatever'} {' '.join(rng.sample(words, 4))}"
        seen = {"up": 1, "copies": 1} if polite else {"down": 1, "reprompts": 1}
        if rng.random() < 0.1:
            seen = {"clicks": 1}
        rows.append(candidate(f"{number:03d}", " ".join(rng.sample(words, 3)), text, evidence=Evidence(**seen)))
    score = [number % 2 for number in range(len(rows))]
    return rows, Folds(score, [[n for n, own in enumerate(score) if own != fold] for fold in range(2)])


def test_it_learns_what_people_do_and_gives_the_same_twice(world):
    rows, folds = world
    config = EngagementSignalConfig(enabled=True, features=1024, hidden=8, epochs=30, min_rows=50)
    values = cross_fit(rows, folds, config, seed=3)
    assert values == cross_fit(rows, folds, config, seed=3)
    assert len(values) == len(rows)
    polite = [values[row.inference_id] for row in rows if "gladly" in row.target]
    rude = [values[row.inference_id] for row in rows if "whatever" in row.target]
    above = np.mean([[one > other for other in rude] for one in polite])  # the area under the ROC curve
    assert above > 0.9


def test_too_few_rows_are_not_measured(world):
    rows, folds = world
    assert cross_fit(rows, folds, EngagementSignalConfig(enabled=True), seed=0) == {}
