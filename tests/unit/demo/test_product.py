import json
import random
import re
from string import Formatter

import phonenumbers
import pytest
from stdnum import iban, luhn

from flywheel.demo import fillers
from flywheel.demo.product import (
    OLD_SUITE,
    Generator,
    intents,
    old_intent_cases,
    pretraining_examples,
    products,
    vocabulary,
    write_cases,
)


def test_the_same_seed_gives_the_same_tickets_and_another_seed_does_not():
    first = list(Generator(5).tickets(50))
    assert first == list(Generator(5).tickets(50))
    assert first != list(Generator(6).tickets(50))


def test_training_and_evaluation_share_no_template():
    sets = vocabulary()["templates"]
    assert sets["training"].keys() == sets["evaluation"].keys()
    for kind in sets["training"]:
        bare = [{_bare(text) for text in sets[name][kind]} for name in ("training", "evaluation")]
        assert not bare[0] & bare[1], kind
        assert len(bare[0]) == len(sets["training"][kind]), f"{kind} repeats a template"


def test_training_and_evaluation_share_no_message():
    training = {ticket.text for ticket in Generator(1, templates="training").tickets(2_000)}
    evaluation = {ticket.text for ticket in Generator(1, templates="evaluation").tickets(2_000)}
    assert not training & evaluation


def test_the_vocabulary_names_every_slot_the_templates_use():
    known = {"issue", "product", "cue", *fillers.FILLERS}
    for frames in vocabulary()["templates"].values():
        for kind, templates in frames.items():
            for template in templates:
                slots = [slot for _, slot, _, _ in Formatter().parse(template) if slot]
                assert set(slots) <= known
                if kind in ("verb", "noun", "statement"):
                    assert sorted(slots) == ["issue", "product"], template
                if kind == "cue":
                    assert slots == ["cue"]


def test_no_wording_belongs_to_two_intents_products_or_cues():
    words = vocabulary()
    wordings = [
        [w for age in words["intents"].values() for forms in age.values() for form in forms.values() for w in form],
        [w for age in words["products"].values() for names in age.values() for w in names],
        [w for level in words["cues"].values() for w in level],
    ]
    for group in wordings:
        assert len(group) == len(set(group))


def test_answers_are_compact_json_of_the_truth():
    for ticket in Generator(2).tickets(200):
        parsed = json.loads(ticket.answer)
        assert parsed == {"intent": ticket.intent, "product": ticket.product, "urgency": ticket.urgency}
        assert " " not in ticket.answer


def test_new_share_is_the_share_of_tickets_the_old_model_cannot_answer():
    tickets = list(Generator(3, new_share=0.4).tickets(4_000))
    share = sum(ticket.is_new for ticket in tickets) / len(tickets)
    assert 0.37 < share < 0.43
    for ticket in tickets:
        assert ticket.is_new == (ticket.intent in intents("new") or ticket.product in products("new"))


def test_urgency_follows_from_the_wording():
    cues = vocabulary()["cues"]
    for ticket in Generator(4).tickets(500):
        found = {level for level in ("low", "high") for cue in cues[level] if cue.lower() in ticket.text.lower()}
        if found:  # a typo may hide the cue
            assert found == {ticket.urgency}


def test_pretraining_knows_only_old_intents_and_products():
    for example in pretraining_examples(500, seed=0):
        target = json.loads(example.target)
        assert target["intent"] in intents("old")
        assert target["product"] in products("old")


def test_old_intent_cases_are_enough_and_can_be_imported(tmp_path):
    cases = old_intent_cases()
    assert len(cases) >= 1_000
    assert {case.suite for case in cases} == {OLD_SUITE}
    rows = [json.loads(line) for line in write_cases(tmp_path / "cases.jsonl").read_text().splitlines()]
    assert len(rows) == len(cases)
    assert rows[0]["check"]["kind"] == "json"
    assert rows[0]["messages"][0]["role"] == "user"


@pytest.mark.parametrize("seed", range(3))
def test_personal_data_is_valid_in_form_and_checksum(seed):
    rng = random.Random(seed)
    for _ in range(100):
        assert phonenumbers.is_valid_number(phonenumbers.parse(fillers.phone(rng), "US"))
        assert iban.is_valid(fillers.iban(rng))
        assert luhn.is_valid(fillers.card(rng).replace(" ", ""))
        assert re.fullmatch(r"[^@ ]+@[a-z.]+\.[a-z]+", fillers.email(rng))


def _bare(template: str) -> str:
    return re.sub(r"[^a-z{} ]", "", template.lower()).strip()
