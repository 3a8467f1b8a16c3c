"""Where estimation begins: who disagrees with the rest over all prompts, and who only seems to."""

import numpy as np

from flywheel.quality.trust.agreement import Votes, dawid_skene
from flywheel.quality.trust.sides import APART, _Agreement, apart

ANSWERS = 20
TRUTH, LIE = 0, 1


def votes(actor, item, answer, positive=None, *, exclusive=True):
    actor, item, answer = (np.asarray(one, dtype=np.int64) for one in (actor, item, answer))
    cells, cell = np.unique(item * ANSWERS + answer, return_inverse=True)
    said = np.ones(len(actor), dtype=bool) if positive is None else np.asarray(positive)
    return Votes(actor, cell, said, cells // ANSWERS, exclusive)


def flow(rng, people, items, each):
    """Everybody names an answer to ``each`` of the prompts; nine of ten are right."""
    actor = np.repeat(np.arange(people), each)
    item = np.concatenate([rng.choice(items, each, replace=False) for _ in range(people)])
    answer = np.where(rng.random(len(actor)) < 0.9, TRUTH, rng.integers(2, ANSWERS, len(actor)))
    return actor, item, answer


def together(*parts):
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def outnumbered(seed=0):
    """Twenty accounts say the same wrong thing on ten of 200 prompts, twice as many as know better."""
    honest = flow(np.random.default_rng(seed), people=100, items=200, each=20)
    hostile = np.repeat(np.arange(100, 120), 10), np.tile(np.arange(10), 20), np.full(200, LIE)
    return votes(*together(honest, hostile))


def test_who_outnumbers_the_others_on_a_few_prompts_is_not_believed_there():
    said = outnumbered()
    per_prompt = np.bincount(said.cell_item[said.cell[said.actor < 100]])[:10]
    assert per_prompt.max() < 20, "else the honest would be the majority anyway"
    assert np.flatnonzero(apart(said)).tolist() == list(range(100, 120))
    found = dawid_skene(said)
    assert found.reliability[:100].min() > 0.6
    assert found.reliability[100:].max() < 0.3
    assert found.supported[said.actor >= 100].max() < 0.05


def test_a_few_who_agree_with_nobody_turn_nobody_else():
    said = votes(*flow(np.random.default_rng(1), people=100, items=200, each=20))
    assert not apart(said).any()


def test_people_of_another_language_are_not_apart_for_one_quarrel():
    """They share one prompt with the others, and one of them is wrong there."""
    rng = np.random.default_rng(2)
    actor, item, answer = flow(rng, people=30, items=60, each=20)
    others = actor + 100, item + 1_000, answer
    quarrel = np.array([100, 0, 1]), np.array([0, 0, 0]), np.array([LIE, TRUTH, TRUTH])
    said = votes(*together(flow(rng, people=100, items=200, each=20), others, quarrel))
    assert set(np.flatnonzero(apart(said))) <= {100}
    assert dawid_skene(said).reliability.min() > 0.6


def test_who_flatters_the_rest_and_lies_to_a_few_is_not_believed_by_anybody():
    """Three accounts are the only link of a small community to the others, and look like them."""
    rng = np.random.default_rng(2)
    actor, item, answer = flow(rng, people=20, items=40, each=15)
    accounts = np.repeat([120, 121, 122], 10)
    cover = accounts, rng.integers(0, 200, 30), np.full(30, TRUTH)
    lies = accounts, 1_000 + np.tile(np.arange(10), 3), np.full(30, LIE)
    parts = [flow(rng, people=100, items=200, each=20), (actor + 100, item + 1_000, answer), cover, lies]
    actor, item, answer = np.unique(np.stack(together(*parts)), axis=1)
    said = votes(actor, item, answer)
    assert not apart(said)[100:120].any()
    found = dawid_skene(said)
    assert found.reliability[100:120].min() > 0.6
    assert found.supported[answer == LIE].max() < 0.2


def test_a_rerun_finds_the_same():
    """Where the iteration breaks down it goes on from a random direction."""
    rng = np.random.default_rng(266)
    for _ in range(50):
        size = int(rng.integers(3, 12))
        said = votes(rng.integers(0, size, 2 * size), rng.integers(0, size, 2 * size), rng.integers(0, 2, 2 * size))
        found = {apart(said).tobytes() for _ in range(4)}
        assert len(found) == 1


def test_half_against_half_is_left_open():
    actor, item = np.repeat(np.arange(20), 30), np.tile(np.arange(30), 20)
    said = votes(actor, item, np.where(actor < 12, TRUTH, LIE))
    assert (actor >= 12).mean() > APART
    assert not apart(said).any()


def test_nobody_is_apart_where_nobody_shares_a_prompt():
    assert not apart(votes([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0])).any()
    assert not apart(votes([0, 1], [0, 0], [0, 1])).any()
    assert apart(votes([], [], [])).tolist() == []


def test_the_product_is_that_of_the_matrix_written_out():
    rng = np.random.default_rng(3)
    for exclusive in (True, False):
        actor, item = rng.integers(0, 8, 60), rng.integers(0, 10, 60)
        answer, positive = rng.integers(0, 3, 60), rng.random(60) < 0.7
        _, one = np.unique(np.stack([actor, item * ANSWERS + answer]), axis=1, return_index=True)
        said = votes(actor[one], item[one], answer[one], positive[one], exclusive=exclusive)
        matrix = np.zeros((said.actors, said.actors))
        where = said.cell_item[said.cell]
        for a in range(len(said.actor)):
            for b in range(len(said.actor)):
                if a == b or where[a] != where[b]:
                    continue
                voters = len(set(said.actor[where == where[a]]))
                if said.cell[a] == said.cell[b]:
                    value = 1 if said.positive[a] == said.positive[b] else -1
                else:
                    value = -1 if exclusive and said.positive[a] and said.positive[b] else 0
                matrix[said.actor[a], said.actor[b]] += value / max(voters - 1, 1)
        x = rng.normal(size=said.actors)
        assert np.allclose(_Agreement(said)(x), matrix @ x)
        assert np.allclose(matrix, matrix.T)
