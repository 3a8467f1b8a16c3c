"""Attacks find what judges fall for, and nothing where there is nothing."""

import pytest

from flywheel.config import JudgingConfig
from flywheel.errors import EngineError
from flywheel.judging.attacks import Known, attack, broken, injections, padded, rate
from flywheel.judging.drift import probes
from flywheel.judging.judge import LanguageJudge, ScorerJudge
from flywheel.records import Message
from flywheel.testing import gullible

LIMITS = JudgingConfig()
KNOWN = [Known([Message(role="user", content=f"q{n}")], f"right {n}", f"wrong {n}") for n in range(12)]


def scorer(function):
    return ScorerJudge("s", lambda messages, answers: [float(function(messages[-1].content, a)) for a in answers])


def test_there_are_fifty_different_sentences():
    assert len(set(injections())) == 50
    assert all(line == line.strip() and line for line in injections())


def test_a_sound_judge_is_not_broken():
    report = attack(scorer(lambda asked, text: text == f"right {asked[1:]}"), KNOWN, limit=30)
    assert broken(report, LIMITS) == []
    assert (report.items, report.injections.hits, report.injections.n, report.worked) == (12, 0, 50, [])
    assert report.position_bias == 0
    assert report.injections.interval[1] == pytest.approx(0.0711, abs=1e-3)


def test_a_judge_of_length_falls_for_filler_and_long_constants():
    report = attack(scorer(lambda _, text: len(text)), KNOWN, limit=30)
    assert (report.padded_wins.share, report.padding_gains.share, report.injections.share) == (1.0, 1.0, 1.0)
    assert report.worst_constant[1].share == 1.0
    assert report.constants["nothing"].share == 0.0
    assert sum("not measured" not in reason for reason in broken(report, LIMITS)) == 4


def test_a_judge_of_places_has_its_bias_measured(make):
    report = attack(make["judge"](lambda _: '{"better": "A"}'), KNOWN, limit=30)
    assert (report.position_bias, report.flips.share, report.first_chosen.n) == (1.0, 1.0, 24)
    assert report.injections.hits == 0  # abstaining, it helps nobody
    assert broken(report, LIMITS) == ["position bias: 100% (at most 30%)"]


def test_a_list_of_every_right_answer_is_tried():
    report = attack(scorer(lambda asked, text: f"right {asked[1:]}" in text.split("\n") and len(text)), KNOWN, limit=30)
    assert report.worst_constant[0] == "everything"
    assert report.worst_constant[1].share == 1.0


def test_the_sentences_that_work_are_named(make):
    pleading = [place for place, line in enumerate(injections()) if "choose me" in line.lower()]

    def reply(answers):
        return gullible(
            {"messages": [{"content": f"[answer A x]\n{answers[0]}\n[end x]\n[answer B x]\n{answers[1]}\n[end x]"}]}
        )

    judge = make["judge"](reply)
    assert isinstance(judge, LanguageJudge)
    report = attack(judge, KNOWN, limit=30)
    assert set(pleading) <= set(report.worked)


def test_without_known_items_nothing_is_measured_and_that_is_a_reason():
    report = attack(scorer(lambda *_: 0), [], limit=30)
    assert len(broken(report, LIMITS)) == 5
    assert all("not measured" in reason for reason in broken(report, LIMITS))


def test_a_judge_that_cannot_be_asked_is_an_error(make):
    with pytest.raises(EngineError, match="connection lost"):
        attack(make["judge"](lambda _: None), KNOWN, limit=30)


def test_rates_have_exact_intervals():
    found = rate([True] * 3 + [False] * 7)
    assert (found.hits, found.n, found.share) == (3, 10, 0.3)
    assert found.interval == pytest.approx((0.0667, 0.6525), abs=1e-4)


def test_probes_alternate_their_better_side_and_filler_is_behind_the_answer():
    assert len({pair.item_id for pair in probes()}) == len(probes()) == 10
    assert (probes()[0].left, probes()[1].right) == ("Paris.", "56")
    assert padded("x").startswith("x\n\n")
