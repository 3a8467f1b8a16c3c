"""Ranked lists lie among the inferences: what looks for answers passes them over instead of counting or failing."""

from datetime import UTC, datetime

from flywheel.records import Choosing, RankedCandidate
from flywheel.review.queue import random_queue
from flywheel.workflow.cadence.facts import gather
from flywheel.workflow.cadence.reactions import read_judged
from flywheel.workflow.evaluations.casework import mine_cases

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
LIST = {
    "choices": [],
    "ranking": [RankedCandidate(id="a", text="apples", score=1.0, rank=1), RankedCandidate(id="b")],
    "list_log_propensity": -0.5,
    "choosing": Choosing(policy="softmax", temperature=1.0, epsilon=0.0, ranker="given"),
}


def test_opinions_of_lists_are_no_opinions_of_answers(flow):
    flow = flow()
    flow.react(flow.answers(3), "thumbs", 1)
    flow.react(flow.answers(4, **LIST), "thumbs", 1)
    flow.react(flow.answers(2, **LIST), "thumbs", -1)
    judged = read_judged(flow.lake, "triage", NOW)
    assert (len(judged), sum(row.failed for row in judged)) == (3, 0)
    assert gather(flow.lake, flow.config, running=None, now=NOW).good == 3


def test_lists_are_neither_mined_nor_labelled(flow):
    flow = flow()
    answers, lists = flow.answers(2), flow.answers(5, **LIST)
    flow.react([*answers, *lists], "thumbs", -1)
    report = mine_cases(flow.lake, flow.config)
    assert report.failures == 2
    queue = random_queue(
        [*answers, *lists],
        consented={row.inference_id for row in [*answers, *lists]},
        config=flow.config.labels,
        seed=0,
    )
    assert {item.inference.inference_id for item in queue} <= {row.inference_id for row in answers}
