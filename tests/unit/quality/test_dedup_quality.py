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
