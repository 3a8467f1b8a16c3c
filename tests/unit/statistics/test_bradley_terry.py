import math

import choix
import numpy as np
import pytest

from flywheel.statistics.bradley_terry import Vote, rank

MODELS = {"a": 0.9, "b": 0.2, "c": -0.3, "d": -0.8}


def votes_of(n, *, tie=None, first=0.0, annotator="", seed=0, models=MODELS):
    """Votes drawn from the model as it is written in the module, with ``first`` for its f."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n):
        i, j = rng.choice(list(models), 2, replace=False)
        weights = [math.exp(models[i]), math.exp(models[j] - first)]
        if tie is not None:
            weights.append(math.exp(tie + (models[i] + models[j]) / 2))
        chosen = rng.choice(len(weights), p=np.array(weights) / sum(weights))
        drawn.append(Vote(str(i), str(j), ("first", "second", "tie")[chosen], annotator))
    return drawn


@pytest.mark.parametrize("votes", [votes_of(300), [Vote("a", "b", "first")] * 5 + [Vote("c", "b", "second")]])
def test_equals_the_reference_without_ties(votes):
    names = sorted({name for vote in votes for name in (vote.first, vote.second)})
    wins = [(vote.first, vote.second) if vote.preferred == "first" else (vote.second, vote.first) for vote in votes]
    data = [(names.index(winner), names.index(loser)) for winner, loser in wins]
    # The reference's penalty is alpha |s|^2, ours |s|^2 / (2 * 10^2).
    expected = choix.opt_pairwise(len(names), data, alpha=1 / 200, method="Newton-CG", tol=1e-12)
    found = rank(votes, order_effects=False)
    assert [found.strengths[name].value for name in names] == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.tie is None


def test_one_pair_has_the_textbook_answer():
    """30 of 50 without a tie: log-odds log(30/20), variance 1/30 + 1/20; ties: Davidson's nu is m / sqrt(w l)."""
    votes = [Vote("a", "b", "first")] * 30 + [Vote("a", "b", "second")] * 20
    gap = rank(votes, order_effects=False).difference("a", "b")
    assert gap.value == pytest.approx(math.log(1.5), abs=1e-3)
    assert (gap.high - gap.low) / 2 == pytest.approx(1.96 * math.sqrt(1 / 30 + 1 / 20), rel=1e-3)
    tied = rank([*votes, *[Vote("a", "b", "tie")] * 10], order_effects=False)
    assert tied.difference("a", "b").value == pytest.approx(math.log(1.5), abs=1e-3)
    assert math.exp(tied.tie) == pytest.approx(10 / math.sqrt(30 * 20), rel=0.002)


def test_ties_and_habits_are_found_again():
    votes = votes_of(4_000, tie=-0.4, first=0.8, annotator="first-liker", seed=1)
    votes += votes_of(4_000, tie=-0.4, annotator="fair", seed=2)
    found = rank(votes)
    for name, strength in MODELS.items():
        effect = found.strengths[name]
        assert effect.low - 0.05 < strength < effect.high + 0.05
    assert list(found.strengths) == ["a", "b", "c", "d"]
    assert sum(effect.value for effect in found.strengths.values()) == pytest.approx(0, abs=1e-6)
    assert found.tie == pytest.approx(-0.4, abs=0.1)
    liker, fair = found.annotators["first-liker"], found.annotators["fair"]
    assert liker.shown_first.low > 0.6
    assert fair.shown_first.low < 0 < fair.shown_first.high
    assert (liker.votes, fair.votes) == (4_000, 4_000)


def test_a_biased_annotator_does_not_move_the_strengths():
    """Somebody who always sees the weak model first, and always likes the first, would make it win."""
    fair = votes_of(2_000, seed=3)
    biased = [
        Vote("d", "a", "first" if lucky else "second", "lazy") for lucky in np.random.default_rng(4).random(400) < 0.9
    ]
    lazy_shuffled = votes_of(400, first=4.0, annotator="lazy", seed=5)
    alone = rank(fair).difference("a", "d").value
    assert rank([*fair, *lazy_shuffled, *biased]).difference("a", "d").value == pytest.approx(alone, abs=0.35)
    naive = rank([*fair, *lazy_shuffled, *biased], order_effects=False).difference("a", "d").value
    assert naive < alone - 0.8


def test_votes_at_random_surprise_more():
    rng = np.random.default_rng(6)
    noise = [Vote("a", "d", str(rng.choice(["first", "second"])), "random") for _ in range(300)]
    found = rank([*votes_of(600, annotator="careful", seed=7, models={"a": 3.0, "d": 0.0}), *noise])
    assert found.annotators["random"].log_loss > math.log(2) > 2 * found.annotators["careful"].log_loss


def test_intervals_cover():
    hits = 0
    for seed in range(50):
        gap = rank(votes_of(150, tie=-1.0, seed=seed, models={"a": 0.5, "b": 0.0, "c": -0.5})).difference("a", "c")
        hits += gap.low <= 1.0 <= gap.high
    assert 44 <= hits <= 50


def test_the_influence_of_a_vote_is_what_leaving_it_out_changes():
    votes = votes_of(60, tie=-1.0, seed=8)
    full = rank(votes)
    assert full.influence.shape == (60, 4)
    for at in range(0, 60, 7):
        rest = rank([*votes[:at], *votes[at + 1 :]])
        change = [rest.strengths[name].value - full.strengths[name].value for name in full.strengths]
        assert full.influence[at].tolist() == pytest.approx(change, abs=0.01)


def test_who_won_everything_has_a_finite_strength_and_a_wide_interval():
    found = rank([Vote("a", "b", "first"), Vote("b", "a", "second")] * 4)
    gap = found.difference("a", "b")
    assert 2 < gap.value < 20
    assert gap.low < 0
    only_ties = rank([Vote("a", "b", "tie")] * 5, order_effects=False)
    assert only_ties.difference("a", "b").value == pytest.approx(0, abs=1e-6)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="no votes"):
        rank([])
    with pytest.raises(ValueError, match="itself"):
        rank([Vote("a", "a", "tie")])
    with pytest.raises(ValueError, match="confidence"):
        rank([Vote("a", "b", "tie")], confidence=1.0)
