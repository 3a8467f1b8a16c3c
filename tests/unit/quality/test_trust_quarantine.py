"""From feedback to verdicts: rings, pasted texts, twins, caps; and the demo's honest people, who lose nothing."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from flywheel.config import TrustConfig
from flywheel.demo.product import render
from flywheel.demo.users import Population
from flywheel.quality.candidates import build_candidates
from flywheel.quality.rows import Exclusions
from flywheel.quality.trust.apply import trusted
from flywheel.records import Feedback, Inference

CONFIG = TrustConfig()


class Flow:
    """Answers and votes by name."""

    def __init__(self, inference, reaction):
        self._inference, self._reaction = inference, reaction
        self.inferences: list[Inference] = []
        self.feedback: list[Feedback] = []
        self.rng = random.Random(0)

    def ask(self, who, prompt, answer, *, vote=1.0, text=None, minutes=None, session=None):
        name = f"i{len(self.inferences):05d}"
        row = self._inference(name, prompt, answer, subject=who, session_id=session)
        at = row.ts + timedelta(minutes=self.rng.randrange(40_000) if minutes is None else minutes)
        self.inferences.append(row)
        kind = "thumbs" if text is None else "correction"
        self.feedback.append(
            self._reaction(
                name, kind, vote if text is None else None, text, subject=who, ts=at, feedback_id=f"f-{name}"
            )
        )
        return name

    def crowd(self, people=60, prompts=30, each=12, error=0.1):
        """Honest people: question k has answer k, and one in ten votes is wrong."""
        for person in range(people):
            for prompt in self.rng.sample(range(prompts), each):
                vote = -1.0 if self.rng.random() < error else 1.0
                self.ask(f"p{person}", question(prompt), f"the answer is number {prompt}", vote=vote)

    def judge(self, config=CONFIG, **over):
        ids = {row.inference_id for row in self.inferences}
        found = trusted(self.inferences, self.feedback, config.model_copy(update=over), consented=ids)
        return found, {one.inference_id: one.reason for one in found.suspects}


def question(number):
    words = ["card", "parcel", "refund", "screen", "invoice", "account", "hotel", "voucher", "router", "ticket"]
    picked = random.Random(number).sample(words, 5)
    return f"{' '.join(picked)} question {number}?"


@pytest.fixture
def flow(inference, reaction):
    return Flow(inference, reaction)


def test_honest_people_stay_and_mistakes_leave(flow):
    flow.crowd()
    found, why = flow.judge()
    down = {row.inference_id for row in flow.feedback if row.value == -1.0}
    assert set(why.values()) <= {"contradicted", "unreliable_rater"}
    assert len(set(why) - down) < 0.01 * len(flow.feedback)
    assert len(down & set(why)) > 0.8 * len(down)
    assert len(found.feedback) + len(found.suspects) == len(flow.feedback)


def test_one_answer_of_many_honest_people_is_no_ring(flow):
    flow.crowd()
    sudden = [flow.ask(f"p{n % 60}", "is it down?", "x", text="we have an outage", minutes=5) for n in range(50)]
    new = [flow.ask(f"new{n}", "is it down?", "x", text="we have an outage", minutes=6) for n in range(30)]
    _, why = flow.judge()
    assert not set(sudden + new) & set(why)


def test_accounts_that_agree_with_nobody_else_are_a_ring(flow):
    flow.crowd()
    ring = [flow.ask(f"h{n % 8}", f"secret matter {n % 4}", "buy gold coins") for n in range(40)]
    pair = [flow.ask(f"q{n % 2}", f"rare matter {n % 4}", "look it up") for n in range(8)]
    _, why = flow.judge()
    assert {why.get(name) for name in ring} == {"ring"}
    assert not set(pair) & set(why)
    _, why = flow.judge(ring_accounts=9)
    assert not set(ring) & set(why)


def test_a_pasted_text_is_out_also_where_nobody_else_asked(flow):
    flow.crowd()
    known = [flow.ask(f"h{n}", question(n % 30), "x", text=f"only gold coins help you now {n % 3}") for n in range(40)]
    new = [
        flow.ask(f"n{n}", f"odd {n} thing {n * n}", "x", text=f"only gold coins help you now {n % 3}") for n in range(5)
    ]
    _, why = flow.judge(ring_accounts=1000)
    assert Counter(why[name] for name in known)["contradicted"] > 30
    assert {why.get(name) for name in new} == {"contradicted_text"}


def test_a_liar_loses_what_nobody_confirms_and_then_everything(flow):
    flow.crowd()
    for n in range(3):
        flow.ask("liar", question(n), "wrong")
        flow.ask("cheat", question(n), "wrong")
    alone = flow.ask("liar", "a thing of my own", "mine")
    for n in range(3, 20):
        flow.ask("cheat", question(n), "wrong")
    true = flow.ask("cheat", question(25), "the answer is number 25")
    _, why = flow.judge()
    assert why[alone] in ("unreliable_rater", "hostile_rater")
    assert why[true] == "hostile_rater"


def test_the_cap_counts_what_rests_on_one_word(flow):
    flow.crowd()
    own = [flow.ask("drip", f"matter {n} of {n * 7919}", f"take number {n}") for n in range(30)]
    shared = [flow.ask("drip", question(n), f"the answer is number {n}") for n in range(30)]
    _, why = flow.judge(max_unconfirmed=10)
    assert Counter(why.get(name) for name in own) == {None: 10, "over_cap": 20}
    assert sum(name in why for name in shared) == 0


def test_accounts_of_one_session_or_in_step_share_one_cap(flow):
    flow.crowd()
    one = [flow.ask(f"s{n % 5}", f"thing {n} of {n * 7919}", f"do {n}", session=f"x{n // 5}") for n in range(30)]
    twins = [flow.ask(f"t{n % 2}", f"item {n // 2} is {n // 2 * 31}", "so", minutes=n // 2 * 1000) for n in range(24)]
    for number, row in enumerate(flow.inferences[:720]):
        flow.inferences[number] = row.model_copy(update={"session_id": f"own{number}"})
    _, why = flow.judge(max_unconfirmed=10)
    assert sum(name in why for name in one) == 20
    assert sum(name in why for name in twins) == 14


def test_a_reviewer_is_not_one_actor_with_those_whose_answers_they_correct(flow, reaction):
    flow.crowd()
    for number, row in enumerate(flow.inferences):
        flow.inferences[number] = row.model_copy(update={"session_id": f"own{number}"})
    for n in range(8):
        name = flow.ask(f"asker{n}", f"matter {n} of {n * 7919}", f"wrong {n}", vote=-1.0, session=f"x{n}")
        said = flow.feedback[-1]
        flow.feedback.append(reaction(name, "correction", None, f"right {n}", subject="lead", ts=said.ts))
    found, _ = flow.judge(max_unconfirmed=10)
    assert not [one for one in found.suspects if one.reason == "over_cap"]


def test_a_flood_is_out_unless_others_confirm_it(flow):
    flow.crowd()
    flood = [flow.ask("bot", f"noise {n} and {n * 7919}", f"say {n}", minutes=n / 20) for n in range(90)]
    _, why = flow.judge()
    assert {why.get(name) for name in flood} == {"burst"}


def test_what_others_do_on_the_answer_of_a_suspect_vote(flow, inference, reaction):
    flow.crowd()
    name = flow.ask("p0", question(1), "the answer is number 1")
    flow.feedback.append(reaction(name, "thumbs", -1.0, subject="h"))
    flow.feedback.append(reaction(name, "dwell", 900.0, subject="h"))
    found, _ = flow.judge()
    assert Counter(one.inference_id for one in found.suspects)[name] == 2
    rows, drops = build_candidates(
        flow.inferences, found.feedback, consented={row.inference_id for row in flow.inferences}, excluded=Exclusions()
    )
    assert name in {row.inference_id for row in rows}  # the thumb down would have buried it
    named = {drop.inference_id: drop for drop in found.explain(drops)}
    out = [drop for drop in named.values() if drop.reason == "quarantined"]
    assert {drop.inference_id for drop in out} <= {one.inference_id for one in found.suspects}
    assert out
    assert all(drop.detail and ": " in drop.detail for drop in out)


def test_feedback_without_consent_is_not_looked_at(flow):
    flow.crowd()
    found = trusted(flow.inferences, flow.feedback, CONFIG, consented=set())
    assert not found.suspects
    assert found.feedback == flow.feedback
    assert not flow.judge(enabled=False)[0].suspects


@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_is_left_alone(inference, reaction, seed):
    """Honest people of the demo: hardly a question twice, minutes for a day, 15 % wrong corrections."""
    people = Population(seed, users=150, hostile=0.0)
    inferences, feedback = [], []
    for number, request in enumerate(people.requests(1_200)):
        right = number % 3 > 0
        answer = request.ticket.answer if right else render("greeting", "none", "low")
        name = f"i{number:05d}"
        inferences.append(
            inference(name, request.ticket.text, answer, subject=request.user.user_id, session_id=request.session)
        )
        for place, said in enumerate(people.react(request, answer)):
            at = inferences[-1].ts + timedelta(seconds=number / 4)
            feedback.append(reaction(name, said.kind, said.value, said.text, subject=request.user.user_id, ts=at,
                                     feedback_id=f"{name}/{place}"))  # fmt: skip
    found = trusted(inferences, feedback, CONFIG, consented={row.inference_id for row in inferences})
    assert len(found.suspects) < 0.005 * len(feedback), Counter(one.reason for one in found.suspects)


@pytest.mark.parametrize("right", [0.65, 0.8, 0.95])
def test_where_most_prompts_have_two_voices_nobody_is_hostile_for_it(flow, right):
    """Corrections by 150 people to 300 prompts, two each; people who err say something of their own."""
    wrong = set()
    for prompt in range(300):
        for person in flow.rng.sample(range(150), 2):
            said = f"the answer is number {prompt}"
            if flow.rng.random() > right:
                said = f"the answer of {person} is {flow.rng.randrange(10_000)}"
            name = flow.ask(f"p{person}", question(prompt), "no idea", text=said)
            if "answer of" in said:
                wrong.add(name)
    _, reasons = flow.judge()
    lost = [name for name in reasons if name not in wrong]
    assert len(lost) <= 0.03 * (600 - len(wrong)), Counter(reasons.values())
