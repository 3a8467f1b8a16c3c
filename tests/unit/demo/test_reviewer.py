import pytest

from flywheel.demo.product import Generator
from flywheel.demo.reviewer import Reviewer, TruthBook


def _book(count=3_000):
    book = TruthBook()
    for i, ticket in enumerate(Generator(1).tickets(count)):
        book.note(f"id-{i}", ticket)
    return book


def test_labels_are_right_but_for_one_or_two_percent():
    book, wrong = _book(), 0
    reviewer = Reviewer(book, seed=3)
    for inference_id, ticket in book.tickets.items():
        wrong += reviewer.judge(inference_id, ticket.answer).kind != "accept"
    assert 0.01 < wrong / len(book.tickets) < 0.02


def test_a_wrong_answer_is_corrected_to_the_truth():
    book = _book(200)
    reviewer = Reviewer(book, error_rate=0.0)
    for inference_id, ticket in book.tickets.items():
        judgement = reviewer.judge(inference_id, "no JSON at all")
        assert judgement.kind == "correct"
        assert judgement.correction == ticket.answer


def test_labels_do_not_depend_on_the_order_of_work():
    book = _book(100)
    forward = {i: Reviewer(book).judge(i, "{}") for i in book.tickets}
    backward = {i: Reviewer(book).judge(i, "{}") for i in reversed(list(book.tickets))}
    assert forward == backward


def test_an_inference_the_simulation_never_sent_cannot_be_labelled():
    with pytest.raises(KeyError):
        Reviewer(TruthBook()).judge("foreign", "{}")


def test_spaces_in_the_json_do_not_make_an_answer_wrong():
    book = _book(1)
    answer = book.tickets["id-0"].answer.replace(",", ", ")
    assert book.right("id-0", answer)
    assert Reviewer(book, error_rate=0.0).judge("id-0", answer).kind == "accept"
