"""What a reviewer is shown."""

from collections import Counter
from datetime import UTC, datetime

from flywheel.config import LabelsConfig
from flywheel.records import Feedback, Inference, Message
from flywheel.review.queue import random_queue, starter_set
from flywheel.review.splits import label_split

TS = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = LabelsConfig(tune_share=0.2, audit_share=0.1, gate_share=0.4, starter_set=40)


def row(n: int, answer: str = "yes", **changes) -> Inference:
    fields = {
        "inference_id": f"i{n:04d}", "flow": "triage", "ts": TS, "subject": f"s{n % 97}", "model_version": "m1",
        "messages": [Message(role="user", content=f"q{n}")], "choices": [answer],
    }  # fmt: skip
    return Inference(**{**fields, **changes})


def reaction(n: int, kind: str, value: float | None = None) -> Feedback:
    return Feedback(
        feedback_id=f"f{n}", inference_id=f"i{n:04d}", flow="triage", ts=TS, subject="s", kind=kind, value=value
    )


ROWS = [row(n) for n in range(1_000)]
EVERYONE = [item.inference_id for item in ROWS]


def ids(items):
    return [item.inference.inference_id for item in items]


def test_only_consented_answered_traffic_of_split_subjects_is_shown():
    odd = [
        row(2_000, choices=[]), row(2_001, messages=[]), row(2_002, traffic_kind="shadow"), row(2_003, choice_served=4),
    ]  # fmt: skip
    consented = {item.inference_id for item in odd} | set(EVERYONE[::2])
    items = random_queue(ROWS + odd, consented=consented, config=CONFIG, seed=1)
    expected = {item.inference_id for item in ROWS[::2] if label_split(item.subject, CONFIG, 1)}
    assert set(ids(items)) == expected
    assert all(item.split == label_split(item.inference.subject, CONFIG, 1) for item in items)
    assert {item.origin for item in items} == {"random"}


def test_the_order_is_random_stable_and_resumes():
    items = ids(random_queue(ROWS, consented=EVERYONE, config=CONFIG, seed=1))
    assert items == ids(random_queue(ROWS[::-1], consented=EVERYONE, config=CONFIG, seed=1))
    assert items != sorted(items)
    assert items[5:] == ids(random_queue(ROWS, consented=EVERYONE, config=CONFIG, seed=1, done=items[:5]))


def test_the_first_n_are_a_uniform_sample():
    """Half of the traffic is of one kind; so is half of any beginning of the queue."""
    traffic = [row(n, "a" if n % 2 else "b") for n in range(4_000)]
    items = random_queue(traffic, consented=ids_of(traffic), config=CONFIG, seed=5)[:1_000]
    assert 420 < sum(item.inference.choices[0] == "a" for item in items) < 580


def ids_of(rows):
    return [item.inference_id for item in rows]


def test_wanted_limits_each_split():
    items = random_queue(ROWS, consented=EVERYONE, config=CONFIG, seed=1, wanted={"gate": 30, "tune": 10})
    assert Counter(item.split for item in items) == {"gate": 30, "tune": 10}


def test_starter_set_meets_every_kind_of_answer_and_reaction():
    rows = [row(n, "rare" if n in (3, 300, 600, 900, 901, 902, 903) else "common") for n in range(1_000)]
    feedback = [reaction(n, "thumbs", -1) for n in range(0, 1_000, 50)]
    feedback += [reaction(n, "correction") for n in range(1, 1_000, 50)]
    items = starter_set(rows, feedback, consented=ids_of(rows), config=CONFIG, seed=1)
    assert len(items) == len(set(ids(items))) == 40
    answers = Counter(item.inference.choices[0] for item in items)
    assert answers["rare"] >= 3
    disliked = {f"i{n:04d}" for n in range(0, 1_000, 50)}
    corrected = {f"i{n:04d}" for n in range(1, 1_000, 50)}
    assert len(disliked & set(ids(items))) >= 5
    assert len(corrected & set(ids(items))) >= 5
    assert {item.origin for item in items} == {"curated"}


def test_the_starter_set_is_fixed_and_labelled_ones_leave_it():
    first = ids(starter_set(ROWS, [], consented=EVERYONE, config=CONFIG, seed=1))
    assert ids(starter_set(ROWS, [], consented=EVERYONE, config=CONFIG, seed=1, done=first[:10])) == first[10:]
