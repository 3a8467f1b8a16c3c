import random
from collections import Counter

import pytest

from flywheel.quality.dedup import exact_duplicates, near_duplicates, near_evaluation
from flywheel.quality.rows import TUNE
from flywheel.records import Message
from flywheel.text.overlap import conversation_texts

LONG = "my washing machine is leaking water on the kitchen floor since yesterday evening"


def test_exact_duplicates_compare_normal_forms(candidate):
    rows = [candidate("a", "Hello  THERE!", '{"a": 1}'), candidate("b", "hello there", '{"a":1}'), candidate("c")]
    kept, drops = exact_duplicates(rows)
    assert [row.inference_id for row in kept] == ["a", "c"]
    assert [(drop.inference_id, drop.reason, drop.detail) for drop in drops] == [("b", "duplicate", "a")]


def test_tuning_rows_do_not_displace_training_rows(candidate):
    kept, drops = exact_duplicates([candidate("a", held_out=TUNE), candidate("b")])
    assert len(kept) == 2
    assert not drops


def test_conflict_goes_to_the_majority_of_people_not_of_rows(candidate):
    loud = [candidate(f"loud{i}", f"{LONG} {i}", "bad", rater="one") for i in range(3)]
    others = [candidate(f"ok{i}", f"{LONG} !{i}", "good", rater=f"r{i}") for i in range(2)]
    kept, drops = near_duplicates([*loud, *others], threshold=0.8, reward={"loud0": 9.0})
    assert [row.target for row in kept] == ["good"]
    assert sorted(drop.reason for drop in drops) == ["conflicting_target"] * 3 + ["near_duplicate"]


def test_tie_goes_to_the_reward(candidate):
    rows = [candidate("a", LONG, "one"), candidate("b", LONG, "two")]
    kept, _ = near_duplicates(rows, threshold=0.9, reward={"a": 0.1, "b": 0.7})
    assert [row.inference_id for row in kept] == ["b"]


def test_near_evaluation_text_is_excluded_directly_and_not_through_a_chain(candidate):
    case = LONG
    near = LONG + " x1"
    far = "my washing machine is leaking water and I would like to have my money back now"
    found = near_evaluation([candidate("near", near), candidate("far", far)], [case])
    assert set(found) == {"near"}
    assert found["near"].kind == "near"
    assert 0.8 <= found["near"].score < 1


def test_short_equal_texts_are_near(candidate):
    assert set(near_evaluation([candidate("a", "Hi!")], ["hi"])) == {"a"}


def test_conversations_are_compared_as_a_whole_and_by_a_telling_last_message(candidate):
    def talk(*texts):
        roles = ("user", "assistant")
        return [Message(role=roles[n % 2], content=text) for n, text in enumerate(texts)]

    case = talk("hello", "how can I help?", LONG)
    rows = {
        "whole": talk("hello", "how can I help you?", LONG),
        "last": talk("good evening to you all", "good evening, what can I do for you today, please?", LONG),
        "single": talk(LONG),
        "yes": talk("do you repair bicycles", "we do, shall I book a time?", "yes, please"),
    }
    texts = {*conversation_texts(case), *conversation_texts(talk("shall I cancel it", "sure?", "yes, please"))}
    candidates = [candidate(name).model_copy(update={"messages": said}) for name, said in rows.items()]
    assert set(near_evaluation(candidates, sorted(texts))) == {"whole", "last", "single"}


def prompts_of(kind):
    """300 prompts that share almost all of their text, and ask 300 things."""
    rng = random.Random(0)
    words = [
        "parcel",
        "invoice",
        "router",
        "refund",
        "delivery",
        "late",
        "broken",
        "account",
        "phone",
        "screen",
        "plan",
        "order",
        "cancel",
        "address",
    ]

    def some(count):
        return " ".join(rng.choice(words) + str(rng.randrange(100)) for _ in range(count))

    manual = "\n".join(some(40) for _ in range(15))
    for _ in range(300):
        if kind == "manual":
            yield [Message(role="user", content=f"Answer from the manual.\n{manual}\nQuestion: {some(8)}?")]
        elif kind == "system":
            yield [
                Message(role="system", content=f"You label tickets.\nTicket: {some(30)}"),
                Message(role="user", content="Which label has the ticket above? One word, please."),
            ]
        else:
            past = [Message(role=role, content=manual) for role in ("user", "assistant")]
            yield [*past, Message(role="user", content=some(10))]


@pytest.mark.parametrize("kind", ["manual", "system", "conversation"])
def test_prompts_that_share_a_document_are_no_duplicates_of_each_other(candidate, kind):
    rows = [candidate(f"{n:03d}", messages=messages) for n, messages in enumerate(prompts_of(kind))]
    rows = [row.model_copy(update={"target": f"label {n % 4}"}) for n, row in enumerate(rows)]
    kept, _ = exact_duplicates(rows)
    assert len(kept) == 300
    kept, drops = near_duplicates(rows, threshold=0.9, reward={})
    assert (len(kept), drops) == (300, [])


def test_copies_of_a_question_about_a_shared_document_are_found(candidate):
    rows = [candidate(f"{n:03d}", messages=messages) for n, messages in enumerate(prompts_of("manual"))]
    copies = [
        candidate(f"copy-{row.inference_id}", messages=[Message(role="user", content=row.messages[0].content + "?")])
        for row in rows[:50]
    ]
    kept, drops = near_duplicates([*rows, *copies], threshold=0.9, reward={})
    assert len(kept) == 300
    assert Counter(drop.reason for drop in drops) == {"near_duplicate": 50}


@pytest.mark.parametrize("wrong", ["aaa", "zzz"])
def test_most_people_decide_although_equal_answers_are_one_row(candidate, wrong):
    answers = ["mmm", "mmm", "mmm", wrong]
    rows = [candidate(f"{n}", LONG, answer, origin="correction") for n, answer in enumerate(answers)]
    kept, drops = exact_duplicates(rows)
    assert [(row.target, len(row.raters())) for row in kept] == [("mmm", 3), (wrong, 1)]
    kept, more = near_duplicates(kept, threshold=0.9, reward={})
    assert [row.target for row in kept] == ["mmm"]
    assert [drop.reason for drop in (*drops, *more)] == ["duplicate", "duplicate", "conflicting_target"]


def test_one_person_is_one_vote_in_equal_rows_too(candidate):
    said = [("ann", "aaa"), ("ann", "aaa"), ("ann", "aaa"), ("ben", "zzz"), ("cid", "zzz")]
    rows = [candidate(f"{n}", LONG, answer, rater=who) for n, (who, answer) in enumerate(said)]
    kept, _ = near_duplicates(exact_duplicates(rows)[0], threshold=0.9, reward={})
    assert [row.target for row in kept] == ["zzz"]
