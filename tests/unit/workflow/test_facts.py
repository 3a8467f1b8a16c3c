"""What the cadence reads from a lake."""

from datetime import UTC, datetime, timedelta

from flywheel.workflow.cadence.facts import gather
from flywheel.workflow.cadence.reactions import read_judged
from flywheel.workflow.turns.steps import open_turn

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def facts(flow, running=None):
    return gather(flow.lake, flow.config, running=running, now=NOW)


def test_an_empty_lake(flow):
    found = facts(flow())
    assert (found.live, found.unfinished, found.turn_ended, found.turn_saw) == (None, None, None, None)
    assert (found.good, found.good_new, found.fruitless, found.ratings, found.clusters) == (0, 0, 0, (), ())
    assert facts(flow(), running="ada").running == "ada"


def test_good_examples_are_liked_or_corrected_and_consented(flow):
    flow = flow()
    for kind, value, text in [
        ("thumbs", 1, None), ("rating", 5, None), ("correction", None, "no"), ("correction", None, "yes"),
        ("thumbs", -1, None), ("rating", 3, None), ("copy", None, None),
    ]:  # fmt: skip
        flow.react(flow.answers(3), kind, value, text)
    flow.react(flow.answers(2, consent=["evaluation"]), "thumbs", 1)
    flow.react(flow.answers(2, traffic_kind="shadow"), "thumbs", 1)
    flow.react(flow.answers(2), "thumbs", 1, source="judge")
    rows = flow.answers(2)
    flow.react(rows, "thumbs", 1)
    flow.withdraw(rows)
    flow.answers(5)  # nobody said anything
    found = facts(flow)
    assert found.good == found.good_new == 4 * 3
    assert found.least == flow.config.quality.min_examples
    judged = read_judged(flow.lake, "triage", NOW)
    assert sum(row.failed for row in judged) == 2 * 3  # corrected to something else, and disliked


def test_only_what_the_last_turn_had_not_seen_is_new(flow):
    flow = flow()
    flow.react(flow.answers(4, days_ago=9), "thumbs", 1, seen_days_ago=9)
    flow.turn(saw_days_ago=5, ended_days_ago=4)
    late = flow.answers(3, days_ago=9)
    flow.react(late, "thumbs", 1, seen_days_ago=4.5)  # old answers, learnt of while the turn ran
    found = facts(flow)
    assert (found.good, found.good_new) == (7, 3)
    assert (found.turn_saw, found.turn_ended) == (NOW - 5 * DAY, NOW - 4 * DAY)
    flow.react(late, "thumbs", 1, seen_days_ago=0)  # saying it again makes nothing newer
    flow.turn("reject", saw_days_ago=2, ended_days_ago=1)
    assert facts(flow).good_new == 0


def test_fruitless_turns_are_counted_back_to_the_last_promotion_and_abandoned_ones_are_not(flow):
    flow = flow()
    flow.turn("reject", saw_days_ago=9, ended_days_ago=9)
    flow.turn("promote", saw_days_ago=8, ended_days_ago=8)
    flow.turn("inconclusive", saw_days_ago=7, ended_days_ago=7)
    flow.turn("reject", saw_days_ago=6, ended_days_ago=5)
    flow.turn("inconclusive", saw_days_ago=1, ended_days_ago=1, abandoned=True)
    found = facts(flow)
    assert (found.fruitless, found.turn_saw, found.turn_ended) == (2, NOW - 6 * DAY, NOW - 5 * DAY)
    assert found.unfinished is None
    assert open_turn(flow.lake.store, flow.config).turn_id == facts(flow).unfinished == "turn-0006"


def test_ratings_are_those_of_the_live_model_since_it_became_live_in_the_order_of_arrival(flow):
    flow = flow()
    flow.live("v0", days_ago=40)
    flow.live("v1", days_ago=20)
    flow.react(flow.answers(2, days_ago=30), "thumbs", -1)  # v1 before it was live
    flow.react(flow.answers(2, model_version="v0"), "thumbs", -1)
    flow.react(flow.answers(2, traffic_kind="import"), "thumbs", -1)
    flow.react(flow.answers(2, consent=["training"]), "thumbs", -1)
    flow.react(flow.answers(2), "thumbs", 1, seen_days_ago=1)
    flow.react(flow.answers(2), "correction", None, "no", seen_days_ago=3)
    found = facts(flow)
    assert found.live == "v1"
    assert [rating.failed for rating in found.ratings] == [True, True, False, False]
    assert [rating.seen for rating in found.ratings] == sorted(rating.seen for rating in found.ratings)


def test_failures_about_something_new_are_a_cluster_once_a_turn_has_seen_others(flow):
    flow = flow()
    flow.react(flow.answers(60, days_ago=9), "thumbs", -1, seen_days_ago=9)
    flow.react(flow.answers(8, text="the refund bounced"), "thumbs", -1, seen_days_ago=1)
    flow.react(flow.answers(40, text="the voucher expired"), "thumbs", 1)  # no failures
    flow.react(flow.answers(9, text="a card was stolen", people=1), "thumbs", -1)  # one person
    flow.react(flow.answers(9, text="my data please", consent=["training"]), "thumbs", -1)  # may not be read
    assert facts(flow).clusters == ()  # before the first turn everything is new
    flow.turn(saw_days_ago=5, ended_days_ago=4)
    (cluster,) = facts(flow).clusters
    assert (cluster.phrase, cluster.failures, cluster.people) == ("refund bounced", 8, 8)


def test_the_question_is_what_the_user_said_last(flow):
    from flywheel.records import Message
    from flywheel.workflow.cadence.reactions import read_questions

    flow = flow()
    talk = [
        Message(role=role, content=text)
        for role, text in [("user", "hello"), ("assistant", "hi"), ("user", "refund"), ("assistant", "so")]
    ]
    flow.react(flow.answers(1, messages=talk), "thumbs", -1)
    flow.react(flow.answers(1, messages=[]), "thumbs", -1)
    judged = sorted(read_judged(flow.lake, "triage", NOW), key=lambda row: row.inference_id)
    assert read_questions(flow.lake, "triage", judged) == ["refund", ""]
