from collections import Counter

from flywheel.config import FilterConfig
from flywheel.quality.curate import select, to_example
from flywheel.quality.rows import TUNE

OPEN = FilterConfig(min_votes=0, liked_per_correction=100)


def chosen(rows, config=OPEN, *, signals=None, most=1000):
    result = select(rows, signals or {}, config, max_examples=most, seed=0)
    assert len(result.kept) + len(result.drops) == len(rows)
    return result, Counter(drop.reason for drop in result.drops)


def different(candidate, count, **over):
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [candidate(f"{i:03d}", f"{letters[i % 26] * 7} {letters[i // 26] * 9} text", **over) for i in range(count)]


def test_held_out_rows_never_train(candidate):
    result, reasons = chosen([candidate("a", held_out=TUNE)])
    assert not result.kept
    assert reasons == {"held_out": 1}


def test_caps_and_replay_share(candidate):
    rows = different(candidate, 40)
    rows = [row.model_copy(update={"origin": "correction"} if i < 10 else {}) for i, row in enumerate(rows)]
    result, reasons = chosen(rows, FilterConfig(min_votes=0, liked_per_correction=0.5, least_replayed=0))
    assert Counter(row.origin for row in result.kept) == {"correction": 10, "liked": 5}
    assert reasons == {"over_replay_share": 25}
    _, reasons = chosen(different(candidate, 30, rater="one"), FilterConfig(min_votes=0, max_per_subject=7))
    assert reasons == {"over_subject_cap": 23}
    _, reasons = chosen(different(candidate, 30), most=4)
    assert reasons == {"over_max_examples": 26}


def test_order_of_input_does_not_matter(candidate):
    rows = different(candidate, 40)
    ids = {tuple(sorted(row.inference_id for row in chosen(some, most=9)[0].kept)) for some in (rows, rows[::-1])}
    assert len(ids) == 1


def test_switched_off_keeps_every_consented_row(candidate):
    rows = different(candidate, 10, rater="one")
    result, _ = chosen(rows, FilterConfig(enabled=False, max_per_subject=1), most=1)
    assert len(result.kept) == 10


def test_example_id_is_its_content(candidate):
    row = candidate("a", origin="correction", answer="no", target="yes")
    example = to_example(row)
    assert example.example_id == to_example(row.model_copy()).example_id
    assert (example.chosen, example.rejected) == ("yes", "no")
    assert example.example_id != to_example(row.model_copy(update={"target": "maybe"})).example_id


def test_the_first_corrections_do_not_cost_almost_everything(candidate):
    config = FilterConfig(min_votes=0, liked_per_correction=1, least_replayed=20)
    rows = different(candidate, 40)
    sizes = []
    for corrections in (0, 1, 5, 10, 15, 20):
        taught = [row.model_copy(update={"origin": "correction"}) for row in rows[:corrections]]
        mixed = [*taught, *rows[corrections:]]
        result, _ = chosen(mixed, config)
        assert sum(row.origin == "correction" for row in result.kept) == corrections
        sizes.append(len(result.kept))
    assert sizes == [40, 20, 20, 20, 30, 40]
