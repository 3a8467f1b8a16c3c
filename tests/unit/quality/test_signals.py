import json
import random

import pytest

from flywheel.quality.folds import make_folds
from flywheel.quality.rows import Evidence
from flywheel.quality.score import compare, usable
from flywheel.quality.signals import SIGNALS, agreement, engagement, form, measure, trust
from flywheel.quality.signals.context import Context, Measured, RaterSums
from flywheel.records import Message


def test_engagement_directions():
    def value(**events):
        return engagement.engagement(Evidence(**events), 10, 100.0)

    assert value() is None
    assert value(copies=1) > 0.7
    assert value(copies=9) == value(copies=1)
    assert value(reprompts=1) < 0.2
    assert value(dwell_ms=1000) == pytest.approx(0.5)
    assert value(dwell_ms=3000) > 0.5 > value(dwell_ms=200)


def test_correction_distance_counts_changed_fields(candidate):
    row = candidate("a", target='{"a":1,"b":2}', answer='{"a":1,"b":3}', origin="correction")
    assert SIGNALS["correction_distance"](Measured(row), Context()) == 0.5
    assert SIGNALS["correction_distance"](Measured(candidate("b")), Context()) is None


def test_form_learns_keys_and_shared_values(candidate, colours):
    rows, _ = colours(60, wrong=0)
    context = Context(forms=form.learn(rows))

    def value(target):
        return SIGNALS["format"](Measured(candidate("z", target=target)), context)

    assert value('{"colour": "red"}') == 1
    assert value('{"colour": "bananas"}') == 0.5
    assert value('{"color": "red"}') == 0
    assert value("red") == 0
    assert form.learn(rows[:5]).shape is None


def test_agreement_finds_wrong_corrections(colours):
    rows, right = colours(300, wrong=0.2)
    forms = form.learn(rows)
    values = agreement.cross_fit(rows, make_folds(rows, 2), forms)
    flagged = [value < 0.5 for value in values]
    wrong_found = sum(flag and not good for flag, good in zip(flagged, right, strict=True)) / right.count(False)
    right_lost = sum(flag and good for flag, good in zip(flagged, right, strict=True)) / right.count(True)
    assert wrong_found > 0.85
    assert right_lost < 0.1


def test_agreement_abstains_with_few_rows(colours):
    rows, _ = colours(30)
    assert agreement.cross_fit(rows, make_folds(rows, 2), form.learn(rows)) == [None] * 30


def test_trust_leaves_the_row_itself_out_and_smooths(candidate):
    good = [Measured(candidate(f"g{i}", rater="good"), agreement=1.0) for i in range(10)]
    bad = [Measured(candidate(f"b{i}", rater="bad"), agreement=0.0) for i in range(10)]
    odd = Measured(candidate("odd", rater="good"), agreement=0.0)
    new = Measured(candidate("new", rater="new"), agreement=0.9)
    raters, mean = trust.learn([*good, *bad, odd, new])
    context = Context(raters=raters, mean_support=mean)
    values = {one.row.inference_id: trust.signal(one, context) for one in (good[0], bad[0], odd, new)}
    assert values["odd"] > values["g0"] > values["new"] > values["b0"]
    assert values["new"] == pytest.approx(mean)  # nothing else is known of this rater
    assert raters["good"] == RaterSums(10.0, 11)


def test_reward_comparisons():
    assert compare([2.0, 0.0], corrected=True)["margin"] == 2
    even = compare([1.0, 1.0, 1.0], corrected=False)
    assert even == {"margin": None, "preference": pytest.approx(1 / 3, abs=1e-4), "advantage": 0, "wins": 0}
    assert compare([1.0], corrected=False)["preference"] is None


def test_percentile_counts_ties_half(candidate):
    context = Context(liked_advantages=[0.0, 1.0, 1.0, 2.0])
    assert SIGNALS["liked_percentile"](Measured(candidate("a"), advantage=1.0), context) == 0.5


def test_measure_gives_every_signal(candidate):
    assert set(measure(Measured(candidate("a")), Context())) == set(SIGNALS)


def test_reward_model_that_knows_nothing_is_not_listened_to():
    coin = {str(i): compare([0.0, (-1.0) ** i], corrected=True) for i in range(10)}
    assert all(row == {"wins": row["wins"]} for row in usable(coin).values())
    good = {str(i): compare([0.0, -1.0], corrected=True) for i in range(10)}
    assert usable(good) == good


def said(candidate, answers, raters=40):
    targets = map(json.dumps, answers)
    return [candidate(f"{n:03d}", target=target, rater=f"r{n % raters}") for n, target in enumerate(targets)]


def formats(rows):
    context = Context(forms=form.learn(rows))
    return [form.signal(Measured(row), context) for row in rows]


@pytest.mark.parametrize("missing", [0.1, 0.3, 0.6])
def test_null_is_a_value_of_any_field(candidate, missing):
    rng = random.Random(1)
    rows = said(candidate, [{"order": None if rng.random() < missing else f"no {n}", "kind": "a"} for n in range(200)])
    assert set(formats(rows)) == {1.0}
    other = candidate("x", target=json.dumps({"order": 5, "kind": "a"}))
    assert form.signal(Measured(other), Context(forms=form.learn(rows))) == 0.0


def test_whole_and_broken_numbers_are_numbers(candidate):
    rows = said(candidate, [{"amount": n if n % 3 else n + 0.5} for n in range(200)])
    assert set(formats(rows)) == {1.0}
    assert form.shape('{"a": true, "b": 1, "c": 1.5}') == {"a": "bool", "b": "number", "c": "number"}


def test_one_expert_is_as_good_as_there_is(candidate):
    answers = [{"kind": "ab"[n % 2], "order": n} for n in range(60)]
    assert set(formats(said(candidate, answers, raters=1))) == {1.0}
    lonely = said(candidate, [*answers, {"kind": "typo", "order": 60}], raters=30)
    assert formats(lonely)[-1] == 0.5


def test_agreement_says_nothing_of_an_answer_of_another_form(colours, candidate):
    rows, _ = colours(200, wrong=0)
    texts = [candidate(f"text-{n}", f"what of {n}", "a reply in words", rater=f"t{n}") for n in range(20)]
    rows += texts
    forms = form.learn(rows)
    found = agreement.cross_fit(rows, make_folds(rows, 2), forms)
    assert found[-20:] == [None] * 20
    assert sum(one is not None for one in found) > 150


def test_agreement_reads_what_stands_in_the_system_message(colours):
    rows, _ = colours(200, wrong=0)
    rows = [
        row.model_copy(update={"messages": [
            Message(role="system", content=f"You name colours.\nThe customer wrote: {row.messages[0].content}"),
            Message(role="user", content="Which colour is it?"),
        ]})
        for row in rows
    ]  # fmt: skip
    found = agreement.cross_fit(rows, make_folds(rows, 2), form.learn(rows))
    sure = [one > 0.5 for one in found if one is not None]
    assert sum(sure) > 0.9 * len(sure) > 100
