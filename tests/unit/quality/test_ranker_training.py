"""From rows of the lake to a ranker: what counts as seen, how much, and what is learnt from it."""

import math

import numpy as np
import pytest
from ranked_lists import LOOKS, ranked, reaction, row_id, shop
from scipy.special import expit

from flywheel.config import EngagementRankerConfig, RankingConfig
from flywheel.errors import TrainingError
from flywheel.inference.item_features import Item, encode, learn_features
from flywheel.lake.schemas import to_arrow
from flywheel.quality.ranker.exposures import exposures
from flywheel.quality.ranker.fit import design, fit_head
from flywheel.quality.ranker.lists import kept, ranked_lists
from flywheel.quality.ranker.train import train_ranker

CONFIG = EngagementRankerConfig(weights={"click": 0.1, "like": 1.0, "hide": -20.0}, item_ids=False)
ITEMS = [{"id": "a", "text": "one"}, {"id": "b"}, {"id": "c"}]
SCORES = [0.0, 1.0, 2.0]


def joined(rows, reactions, config=CONFIG, allowed=None):
    ids = {row.inference_id for row in rows} if allowed is None else allowed
    return exposures(to_arrow("inferences", rows), to_arrow("feedback", reactions), allowed=ids, config=config)


def read(*rows, allowed=None, reported=()):
    ids = {row.inference_id for row in rows} if allowed is None else allowed
    return ranked_lists(to_arrow("inferences", rows), allowed=ids, reported=set(reported))


def test_only_what_was_on_screen_is_learnt_from():
    row = ranked(0, ITEMS, scores=SCORES)
    seen = joined([row], [reaction(row, [{"id": "a", "shown_ms": 9.0}, {"id": "b"}], "dwell", 60_000)])
    assert [item.id for item in seen.items] == ["a"]
    assert not seen.done.any(), "a dwell on a list is none on an item"
    every = joined([row], [], CONFIG.model_copy(update={"exposure": "all"}))
    assert (len(every.items), every.silent, seen.silent, joined([row], []).silent) == (3, 0, 0, 1)


def test_a_report_of_actions_alone_says_nothing_of_what_was_left_alone():
    told, silent = ranked(0, ITEMS, scores=SCORES), ranked(1, ITEMS, scores=SCORES)
    acted = {"id": "a", "action": "click"}
    seen = joined([told, silent], [reaction(told, [{"id": "b", "shown_ms": 2.0}, acted]), reaction(silent, [acted])])
    assert (seen.lists, seen.silent) == ([told.inference_id], 1)
    assert {item.id for item in seen.items} == {"a", "b"}


def test_events_add_up_and_a_long_look_is_an_action():
    row = ranked(0, ITEMS, scores=SCORES)
    events = [
        reaction(row, [{"id": "a", "action": " Click ", "shown_ms": 3.0}]),
        reaction(row, [{"id": "a"}], "dwell", 70_000),
        reaction(row, [{"id": "a"}], "dwell", 60_000),
        reaction(row, [{"id": "b", "action": "hide"}]),
        reaction(row, [{"id": "nothing we sent", "action": "hide"}]),
    ]
    seen = joined([row], events)
    done = {
        item.id: {name for name, did in zip(seen.actions, row_, strict=True) if did}
        for item, row_ in zip(seen.items, seen.done, strict=True)
    }
    assert done == {"a": {"click", "dwell"}, "b": {"hide"}}
    places = dict(zip((item.id for item in seen.items), seen.places, strict=True))
    assert {name: place + 1 for name, place in places.items()} == {
        item.id: item.rank for item in row.ranking if item.id != "c"
    }


def test_without_consent_and_from_shadows_nothing_is_read():
    rows = [ranked(number, ITEMS, scores=SCORES) for number in range(3)]
    rows.append(rows[0].model_copy(update={"inference_id": row_id(9), "traffic_kind": "shadow"}))
    assert [one.inference_id for one in read(*rows, allowed={row_id(1), row_id(9)})] == [row_id(1)]


def test_a_retried_request_is_one_list_the_one_that_was_reported():
    rows = [ranked(number, ITEMS, scores=SCORES, user="ann", idempotency_key="page") for number in range(3)]
    assert [one.inference_id for one in read(*rows)] == [row_id(2)]
    assert [one.inference_id for one in read(*rows, reported=[row_id(1)])] == [row_id(1)]
    other = ranked(4, ITEMS, scores=SCORES, user="bob", idempotency_key="page")
    assert len(read(*rows, other)) == 2


def test_chances_are_the_logged_ones_and_filled_where_they_are_not():
    long = [{"id": f"i{number}"} for number in range(9)]
    small, large = ranked(0, ITEMS, scores=SCORES), ranked(1, long, scores=[0.1 * at for at in range(9)])
    assert large.ranking[0].position_propensity is None or large.ranking[0].rank == 1
    short_list, long_list = read(small, large)
    logged = {item.rank: item.position_propensity for item in small.ranking}
    assert short_list.chances == [logged[rank] for rank in (1, 2, 3)]
    assert all(0.2 / 9 <= chance < 0.5 for chance in long_list.chances)
    assert short_list.weights(1.0) == [min(1.0, 1 / (3 * chance)) for chance in short_list.chances]
    assert all(one <= 100 / 9 for one in long_list.weights(100.0))


@pytest.mark.parametrize(
    "row",
    [
        ranked(0, ITEMS),
        ranked(0, ITEMS, scores=SCORES, settings=RankingConfig(policy="epsilon_greedy", epsilon=0)),
    ],
)
def test_a_list_that_could_not_have_been_otherwise_has_no_chances(row):
    (one,) = read(row)
    assert (one.policy, one.chances, one.weights(10.0)) == (None, [], [1.0] * 3)


def test_one_person_counts_so_often_and_the_newest_lists_stay():
    rows = [ranked(number, ITEMS, scores=SCORES, user="ann" if number < 6 else "bob") for number in range(8)]
    chosen = kept(read(*rows), newest=4, per_person=3)
    assert [one.subject for one in chosen] == ["ann", "ann", "bob", "bob"]
    assert kept(read(*rows), newest=4, per_person=3) == chosen


def test_a_head_is_logistic_regression_where_every_place_is_looked_at():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    items = [Item(str(at), "", {"x": float(value)}) for at, value in enumerate(rng.normal(size=600))]
    features = learn_features(items, buckets=64, ids=False)
    encoded = encode(features, items)
    happened = rng.random(600) < expit(0.5 + np.array([item.features["x"] for item in items]))
    weights = rng.uniform(0.5, 2, size=600)
    table = design(features, encoded)
    found = fit_head(table, happened, np.ones(600), weights, width=features.width, prior_scale=0.5)
    peer = LogisticRegression(C=0.25, tol=1e-8, max_iter=1_000).fit(encoded.dense, happened, sample_weight=weights)
    assert found.dense[:-1] == pytest.approx(peer.coef_[0], abs=2e-3)
    assert found.dense[-1] == pytest.approx(peer.intercept_[0], abs=2e-3)
    assert not found.hashed.any()


def test_what_is_looked_at_less_is_not_taken_for_worse():
    rng = np.random.default_rng(1)
    liked, looks = rng.normal(size=8_000), rng.choice([1.0, 0.2], size=8_000)
    liked -= 1.0 * (looks == 1.0)  # what stands at the top is liked less
    items = [
        Item("", "", {"x": float(value), "top": bool(look == 1)}) for value, look in zip(liked, looks, strict=True)
    ]
    features = learn_features(items, buckets=64, ids=False)
    table = design(features, encode(features, items))
    happened = rng.random(8_000) < looks * expit(liked)

    def error(known):
        head = fit_head(table, happened, known, np.ones(8_000), width=features.width, prior_scale=1.0)
        return np.abs(expit(table[:, : features.width + 1] @ head.dense) - expit(liked)).mean()

    assert error(looks) < 0.04
    assert error(np.ones(8_000)) > 0.15


def test_a_ranker_learns_what_satisfies_and_a_naive_one_what_attracts():
    rows, reactions = shop(900)
    seen = joined(rows, reactions)
    good, bait = Item("", "", {"good": 1.5, "flash": -1.0}), Item("", "", {"good": -1.5, "flash": 1.5})
    done = train_ranker(seen, CONFIG)
    well, badly = done.ranker.scores([good, bait])
    assert well > badly + 1, "in standard deviations of a list's scores"
    naive = CONFIG.model_copy(update={"weights": {"click": 1.0}, "debias": False})
    well, badly = train_ranker(seen, naive).ranker.scores([good, bait])
    assert badly > well + 1
    assert done.report.looks == pytest.approx(LOOKS, abs=0.15)
    assert [(head.action, head.learnt) for head in done.report.heads] == [
        ("click", True), ("hide", True), ("like", True),
    ]  # fmt: skip
    assert all(head.auc is not None and head.auc > 0.6 for head in done.report.heads)
    assert set(done.lists) == {row.inference_id for row in rows}
    assert train_ranker(joined(rows, reactions), CONFIG).ranker.files() == done.ranker.files(), (
        "the same rows, the same"
    )
    scores = np.array(done.ranker.scores(seen.items))
    means = np.bincount(seen.owner, scores) / np.bincount(seen.owner)
    assert math.sqrt(((scores - means[seen.owner]) ** 2).mean()) == pytest.approx(1.0)


def test_too_little_is_said_so_with_what_to_do():
    rows, reactions = shop(30)
    with pytest.raises(TrainingError, match="30 ranked lists can be learnt from; 200 are needed"):
        train_ranker(joined(rows, reactions), CONFIG)
    with pytest.raises(TrainingError, match=r"30 more.*quality\.ranker\.exposure"):
        train_ranker(joined(rows, []), CONFIG)
    with pytest.raises(TrainingError, match=r"no action with a value.*seen: click"):
        train_ranker(joined(rows, reactions), CONFIG.model_copy(update={"min_lists": 1, "min_actions": 1_000}))


def test_settings_without_a_value_are_refused():
    with pytest.raises(ValueError, match="at least one action"):
        EngagementRankerConfig(weights={"click": 0.0})
