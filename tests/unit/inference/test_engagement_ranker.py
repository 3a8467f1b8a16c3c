"""How items become numbers, and what a stored ranker makes of them."""

import json
import subprocess
import sys

import numpy as np
import pytest

from flywheel.errors import ModelError
from flywheel.inference.engagement_ranker import (
    SPEC,
    WEIGHTS,
    EngagementRanker,
    RankerSpec,
    content_hash,
    read_ranker,
)
from flywheel.inference.item_features import FAR, Item, asked_words, encode, learn_features
from flywheel.records import Message

ITEMS = [
    Item("a", "Trail shoe", {"price": 10.0, "new": True, "brand": "x"}, frozenset({"shoe", "red"})),
    Item("b", "Road shoe", {"price": 30.0, "new": False, "brand": "y"}, frozenset({"shoe", "red"})),
    Item("c", "", {"price": 50.0, "rare": None}),
]
FEATURES = learn_features(ITEMS, buckets=64, ids=True)


def ranker(actions=("click", "hide"), values=(1.0, -10.0)):
    rng = np.random.default_rng(0)
    hashed = np.zeros((64, len(actions)))
    hashed[:40] = rng.normal(size=(40, len(actions)))
    spec = RankerSpec(features=FEATURES, actions=list(actions), values=list(values), spread=2.0)
    return EngagementRanker(spec, rng.normal(size=(FEATURES.width + 1, len(actions))), hashed)


def test_numbers_are_standardised_hinged_and_may_be_missing():
    assert [number.name for number in FEATURES.numbers] == ["new", "price"]
    assert FEATURES.numbers[0].knots == [], "yes and no need none"
    dense = encode(FEATURES, [*ITEMS, Item("d", "", {"price": 1e300, "new": "yes"})]).dense
    price = 1 + 2
    assert dense[:3, price + 1] == pytest.approx([-1.2247, 0, 1.2247], abs=1e-4)
    assert dense[3, price + 1] == FAR, "one typo must not decide a list"
    assert dense[:, 1].tolist() == [0, 0, 1, 1], "whether 'new' is missing; a text is no number"
    assert (dense[2, price + 2 :] > 0).sum() >= 3
    assert dense[0, price + 2 :].tolist() == [0] * len(FEATURES.numbers[1].knots)


def test_words_categories_and_ids_are_hashed_and_a_long_text_weighs_no_more():
    found = encode(FEATURES, ITEMS)
    assert found.dense[:, 0].tolist() == [0.5, 0.5, 0.0], "share of what was asked that the text has"
    weight = [found.value[found.owner == row] for row in range(3)]
    assert sorted(weight[0].tolist()) == pytest.approx([2**-0.5, 2**-0.5, 1.0, 1.0])
    assert weight[2].tolist() == [1.0], "nothing but its id"
    shared = set(found.bucket[found.owner == 0]) & set(found.bucket[found.owner == 1])
    assert len(shared) == 1
    without = learn_features(ITEMS, buckets=64, ids=False)
    assert len(encode(without, ITEMS).bucket) == len(found.bucket) - 3


def test_the_last_message_is_what_was_asked():
    said = [Message(role="user", content="old things"), Message(role="user", content="Red  SHOES, red")]
    assert asked_words(said) == {"red", "shoes"}
    assert asked_words([]) == frozenset()


def test_scores_are_weighted_chances_in_units_of_their_spread():
    own = ranker()
    chances = own.chances(ITEMS)
    assert ((chances > 0) & (chances < 1)).all()
    assert own.scores(ITEMS) == pytest.approx(((chances[:, 0] - 10 * chances[:, 1]) / 2).tolist())
    assert own.scores(ITEMS[::-1]) == pytest.approx(own.scores(ITEMS)[::-1]), "an item's score is its own"
    assert own.scores([]) == []


def test_files_hold_the_whole_ranker_and_nobodys_words():
    own = ranker()
    files = own.files()
    again = read_ranker(files)
    assert again.scores(ITEMS) == pytest.approx(own.scores(ITEMS), rel=1e-5)
    assert again.files() == files
    assert content_hash(files) == content_hash(own.files())
    assert content_hash(files) != content_hash(ranker(values=(1.0, -9.0)).files())
    for word in (b"trail", b"road", b"brand"):
        assert not any(word in data.lower() for data in files.values())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda files: files.pop(WEIGHTS),
        lambda files: files.update({SPEC: b"{}"}),
        lambda files: files.update({WEIGHTS: b"no tensors"}),
        lambda files: files.update({SPEC: json.dumps({**json.loads(files[SPEC]), "form": 2}).encode()}),
        lambda files: files.update({WEIGHTS: ranker(actions=("click",), values=(1.0,)).files()[WEIGHTS]}),
        lambda files: files.update({SPEC: json.dumps({**json.loads(files[SPEC]), "values": [1.0]}).encode()}),
    ],
)
def test_other_files_are_refused(spoil):
    files = ranker().files()
    spoil(files)
    with pytest.raises(ModelError, match="flywheel ranker train"):
        read_ranker(files)


def test_a_gateway_that_scores_loads_neither_torch_nor_scikit_learn():
    code = (
        "import sys, flywheel.inference.engagement_ranker as r, safetensors.numpy; "
        "sys.exit(bool({'torch', 'sklearn', 'pickle5'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
