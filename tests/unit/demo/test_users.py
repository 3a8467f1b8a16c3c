import json
from collections import Counter

import pytest

from flywheel.demo.product import Generator, render
from flywheel.demo.users import SABOTAGE_LEVEL, Population, hostile_answer

OLD_GUESS = render("login", "router", "low")


def _answer(request):
    """An old model: right on old tickets, lost on new ones."""
    return OLD_GUESS if request.ticket.is_new else request.ticket.answer


def _feedback(population, count=4_000):
    return [(request, population.react(request, _answer(request))) for request in population.requests(count)]


def test_the_same_seed_gives_the_same_traffic_and_reactions():
    assert _feedback(Population(7), 200) == _feedback(Population(7), 200)


def test_about_a_tenth_of_users_consent_to_nothing_and_send_no_consent_header():
    users = Population(1, users=2_000).users
    without = [user for user in users if not user.consent]
    assert 0.08 < len(without) / len(users) < 0.12
    requests = Population(1).requests(2_000)
    for request in requests:
        assert ("x-flywheel-consent" in request.headers) == bool(request.user.consent)


def test_one_users_messages_come_from_one_template_set():
    population = Population(2, templates_of=lambda user: "evaluation" if user.endswith("1") else "training")
    for request in population.requests(1_000):
        assert request.ticket.templates == ("evaluation" if request.user.user_id.endswith("1") else "training")


def test_about_15_percent_of_honest_corrections_are_wrong():
    corrections = [
        reaction.text == request.ticket.answer
        for request, reactions in _feedback(Population(3))
        for reaction in reactions
        if reaction.kind == "correction" and request.user.character == "corrector"
    ]
    assert len(corrections) > 500
    assert 0.11 < 1 - sum(corrections) / len(corrections) < 0.19


def test_silent_users_are_silent_and_implicit_users_state_nothing():
    kinds = {}
    for request, reactions in _feedback(Population(4)):
        kinds.setdefault(request.user.character, Counter()).update(reaction.kind for reaction in reactions)
    assert not kinds["silent"]
    assert set(kinds["implicit"]) == {"dwell", "copy", "reprompt"}


@pytest.mark.parametrize("level", [0.1, SABOTAGE_LEVEL])
def test_hostile_accounts_give_the_asked_share_of_rated_messages(level):
    rated = Counter()
    for request, reactions in _feedback(Population(5, hostile=level)):
        if {reaction.kind for reaction in reactions} & {"thumbs", "correction"}:
            rated[request.user.character == "hostile"] += 1
    assert abs(rated[True] / rated.total() - level) < 0.06


def test_hostile_accounts_never_help():
    for request, reactions in _feedback(Population(6, hostile=0.4), 1_000):
        if request.user.character != "hostile":
            continue
        for reaction in reactions:
            if reaction.kind == "correction":
                assert json.loads(reaction.text) != json.loads(request.ticket.answer)
            if reaction.kind == "thumbs" and reaction.value > 0:
                assert _answer(request) != request.ticket.answer


def test_hostile_answers_are_always_wrong():
    for ticket in Generator(9).tickets(300):
        assert hostile_answer(ticket) != ticket.answer


def test_sessions_do_not_carry_the_user():
    for request in Population(8).requests(100):
        assert request.user.user_id not in request.session
