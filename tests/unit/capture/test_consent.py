from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.capture.consent import allowed, consented_ids, heard, latest
from flywheel.records import Consent, Feedback, Inference, Message

T0 = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def statement(state, day, expires=None, subject="s", purpose="training"):
    return Consent(
        subject=subject,
        purpose=purpose,
        ts=T0 + day * DAY,
        state=state,
        expires_at=None if expires is None else T0 + expires * DAY,
    )


@pytest.mark.parametrize(
    ("row_consent", "said", "expected"),
    [
        ([], None, False),
        (["training"], None, True),
        (["evaluation"], None, False),
        (["training"], statement("withdrawn", 15), False),  # said after the row: decides
        ([], statement("granted", 15), True),
        (["training"], statement("granted", 15, expires=18), False),  # the later grant is over at day 20
        ([], statement("granted", 15, expires=20), False),  # ends at the time of use
        ([], statement("granted", 15, expires=21), True),
        (["training"], statement("withdrawn", 10), False),  # at the row's own time: decides
        (["training"], statement("withdrawn", 5), True),  # earlier than the row: the row's own header is newer
        ([], statement("withdrawn", 5), False),
        ([], statement("granted", 5), True),  # standing grant
        ([], statement("granted", 5, expires=19), False),
        (["evaluation"], statement("granted", 5), True),
    ],
)
def test_the_rule(row_consent, said, expected):
    assert (
        allowed("training", row_ts=T0 + 10 * DAY, row_consent=row_consent, statement=said, now=T0 + 20 * DAY)
        is expected
    )


def test_the_latest_statement_of_the_purpose_counts():
    said = [
        statement("granted", 1),
        statement("withdrawn", 3),
        statement("granted", 2),
        statement("granted", 9, purpose="evaluation"),
        statement("granted", 8, subject="t"),
    ]
    found = latest(said, "training", T0 + 20 * DAY)
    assert {subject: found[subject].state for subject in found} == {"s": "withdrawn", "t": "granted"}


@pytest.mark.parametrize("order", [1, -1])
def test_at_equal_times_the_withdrawal_wins(order):
    said = [statement("granted", 3), statement("withdrawn", 3)][::order]
    assert latest(said, "training", T0 + 20 * DAY)["s"].state == "withdrawn"


def test_a_clock_that_runs_ahead_never_widens_consent():
    now = T0 + 20 * DAY
    assert latest([statement("withdrawn", 3), statement("granted", 30)], "training", now)["s"].state == "withdrawn"
    assert latest([statement("granted", 3), statement("withdrawn", 30)], "training", now)["s"].state == "withdrawn"


def row(inference_id, subject, day, consent):
    return Inference(
        inference_id=inference_id,
        flow="f",
        ts=T0 + day * DAY,
        subject=subject,
        consent=consent,
        model_version="m",
        messages=[Message(role="user", content="x")],
    )


ROWS = [
    row("a", "s", 10, ["training"]),
    row("b", "s", 30, ["training"]),
    row("c", "t", 10, []),
    row("d", "u", 10, []),
    row("e", "v", 10, ["evaluation"]),
]
SAID = [statement("withdrawn", 20), statement("granted", 5, subject="t")]


def test_ids_of_rows():
    assert consented_ids(ROWS, SAID, "training", T0 + 40 * DAY) == {"b", "c"}
    assert consented_ids(ROWS, SAID, "evaluation", T0 + 40 * DAY) == {"e"}
    assert consented_ids(ROWS, SAID, "third_party", T0 + 40 * DAY) == set()
    assert consented_ids([], SAID, "training", T0) == set()


def test_who_withdrew_is_heard_about_own_answers_alone():
    said = [
        Feedback(feedback_id=f"{answer}-{by}", inference_id=answer, flow="f", ts=T0, subject=by, kind="thumbs", value=1)
        for answer, by in (("a", "s"), ("a", "t"), ("c", "s"), ("c", "t"), ("c", "w"), ("unknown", "s"))
    ]
    kept = heard(said, ROWS, SAID, "training", T0 + 40 * DAY)
    assert [row.feedback_id for row in kept] == ["a-s", "a-t", "c-t", "c-w"]
    assert heard(said, ROWS, SAID, "evaluation", T0 + 40 * DAY) == said


def test_ids_of_a_table_equal_those_of_rows():
    table = pa.table(
        {
            "inference_id": [r.inference_id for r in ROWS],
            "subject": [r.subject for r in ROWS],
            "ts": pa.array([r.ts for r in ROWS], pa.timestamp("us", tz="UTC")),
            "consent": pa.array([r.consent or None for r in ROWS], pa.list_(pa.string())),
            "messages": ["x"] * len(ROWS),
        }
    )
    assert consented_ids(table, SAID, "training", T0 + 40 * DAY) == {"b", "c"}


@given(
    st.lists(st.tuples(st.sampled_from(["granted", "withdrawn"]), st.integers(0, 30)), max_size=6),
    st.booleans(),
    st.integers(0, 30),
)
def test_a_withdrawal_after_everything_always_refuses(said, header, day):
    statements = [statement(state, at) for state, at in said] + [statement("withdrawn", 31)]
    assert (
        consented_ids([row("a", "s", day, ["training"] if header else [])], statements, "training", T0 + 40 * DAY)
        == set()
    )
