"""Rows as the gateway writes them -> what another policy would have earned, and what could not be used, and why."""

import json
import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console
from uuid6 import uuid7

from flywheel.config import PolicyQuestion, load
from flywheel.errors import ConfigError, UsageError
from flywheel.gateway.rank import listed
from flywheel.gateway.rank_request import ItemSent
from flywheel.operate.policy_table import said, show
from flywheel.records import Choosing, Consent, Fallback, Feedback, Inference, RankedItem, utcnow
from flywheel.statistics.plackett_luce import draw_ranking, given_ranking
from flywheel.statistics.policies import Policy, pick, probabilities
from flywheel.workflow.offpolicy.report import evaluate_policy

NOW = utcnow()
SERVED = Policy(1.0, 0.1)
CHOSEN = Choosing(policy="softmax", temperature=1.0, epsilon=0.1, ranker="likelihood")
ITEMS = [ItemSent(id=f"sku-{n}", score=score) for n, score in enumerate([0.2, -0.4, 0.9, 0.1, -1.0])]
LIKED = np.array([0.7, 0.5, 0.3, 0.1, 0.1])


def question(of, **asked):
    return load(PolicyQuestion, overrides={"of": of, "days": 1, **asked})


def inference(user, **fields):
    return Inference(**{
        "inference_id": str(uuid7()), "flow": "triage", "ts": NOW - timedelta(hours=5), "subject": f"user-{user}",
        "consent": ["evaluation"], "model_version": "v1", "messages": [], "choices": ["a", "b", "c"], **fields,
    })  # fmt: skip


def reaction(row, kind="thumbs", **fields):
    return Feedback(**{
        "feedback_id": str(uuid7()), "inference_id": row.inference_id, "flow": "triage", "subject": row.subject,
        "ts": NOW - timedelta(hours=4), "kind": kind, **fields,
    })  # fmt: skip


def best_of(rng, user, **fields):
    """One draw as ``choosing.best_of`` makes it."""
    scores = [rng.gauss(0, 1) for _ in range(rng.choice([2, 3]))]
    chances = probabilities(scores, SERVED)
    served = pick(chances, rng.random())
    return inference(user, **{
        "choice_scores": scores, "choice_served": served, "choice_propensity": chances[served], "choosing": CHOSEN,
        **fields,
    })  # fmt: skip


def ranked(rng, user, *, given=False, **fields):
    """One list as ``gateway.rank`` makes it."""
    scores = [item.score for item in ITEMS]
    drawn = given_ranking(5, shown=3) if given else draw_ranking(scores, SERVED, shown=3, rng=rng)
    fallback = {"policy": "given", "ranker": "reward", "fallback": "timeout"} if given else {}
    return inference(user, **{
        "choices": [], "ranking": listed(ITEMS, None if given else scores, drawn),
        "list_log_propensity": drawn.prefix_log_propensities[-1], "choosing": CHOSEN.model_copy(update=fallback),
        **fields,
    })  # fmt: skip


def ask(flow, *args, **asked):
    return evaluate_policy(flow.lake, flow.config, question(*args, **asked), now=NOW)


@pytest.fixture
def chosen(flow):
    """500 rows of 125 users: thumbs up where the served answer's score is above 0, else down."""
    flow, rng = flow(), random.Random(0)
    rows = [best_of(rng, n % 125) for n in range(500)]
    flow.append("inferences", rows)
    flow.append(
        "feedback",
        [reaction(row, value=1 if row.choice_scores[row.choice_served] > 0 else -1, choice_index=0) for row in rows],
    )
    return flow, rows


def test_a_sharper_choice_among_the_same_answers(chosen):
    flow, rows = chosen
    report = ask(flow, "choices", temperature=0.05)
    truth = np.mean([1 if max(row.choice_scores) > 0 else -1 for row in rows])
    for one in report.estimates:
        assert one.value.low < truth < one.value.high, one.estimator
        assert one.gain.low > 0
    assert (report.rows, report.units, report.left_out) == (500, 125, {})
    assert report.headline.estimator == "sndr"
    assert report.logged.low < report.logged.mean < report.logged.high < report.headline.value.mean
    assert "better" in said(report)


def test_the_policy_that_served_is_worth_what_was_seen(chosen):
    flow, rows = chosen
    report = ask(flow, "choices", temperature=1.0, epsilon=0.1)
    seen = np.mean([1 if row.choice_scores[row.choice_served] > 0 else -1 for row in rows])
    assert report.logged.mean == pytest.approx(seen)
    for one in report.estimates:
        assert one.gain.low < 0 < one.gain.high or one.gain.mean == pytest.approx(0, abs=1e-12)
        if one.estimator in ("ips", "snips"):  # the others look at the model's word, too
            assert one.value.mean == pytest.approx(seen)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_another_rankers_scores(chosen, tmp_path, suffix):
    flow, rows = chosen
    scored = [
        {"inference_id": row.inference_id, "scores": [-score for score in row.choice_scores]} for row in rows[:-40]
    ]
    scored[0]["scores"].append(0.0)
    scored[1]["scores"][0] = float("nan") if suffix == ".parquet" else 1e301
    path = tmp_path / f"scores{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(scored), path)
    else:
        path.write_text("\n".join(map(json.dumps, scored)))
    report = ask(flow, "choices", scores=str(path), temperature=0.2, epsilon=0.2)
    assert report.left_out == {"no_target_scores": 40, "scores_do_not_fit": 2}
    assert report.headline.gain.high < 0
    assert path.name in said(report)


def test_every_row_that_cannot_be_used_has_a_reason(flow):
    flow, rng = flow(), random.Random(1)
    good = [best_of(rng, n) for n in range(60)]
    wrong = best_of(rng, 1)
    rows = [
        *good,
        best_of(rng, 900, consent=["training"]),
        best_of(rng, 901),  # withdrawn below
        best_of(rng, 1, ts=NOW - timedelta(minutes=5)),
        *[best_of(rng, 1, traffic_kind=kind) for kind in ("shadow", "import", "synthetic")],
        inference(1),
        best_of(rng, 1, choice_scores=[], choice_propensity=0.5),
        wrong.model_copy(update={"choice_propensity": wrong.choice_propensity * 0.9}),
        wrong.model_copy(update={"inference_id": str(uuid7()), "choice_served": 7}),
        ranked(rng, 1),
    ]
    flow.append("inferences", rows)
    flow.append("consents", [Consent(subject="user-901", purpose="evaluation", ts=NOW, state="withdrawn")])
    flow.append("feedback", [reaction(row, value=1 if n % 2 else -1) for n, row in enumerate(good)])
    report = ask(flow, "choices", temperature=0.8)
    assert report.left_out == {
        "not_served_to_users": 3, "no_evaluation_consent": 2, "too_young": 1, "no_choice_was_made": 2, "no_scores": 1,
        "chance_is_not_that_of_the_policy": 2,
    }  # fmt: skip
    assert report.rows == 60
    assert report.rows_seen == report.rows + sum(report.left_out.values())


def test_what_reactions_are_worth(flow):
    flow, rng = flow(), random.Random(2)
    row = best_of(rng, 1, choice_served=1, choice_scores=[0.0, 0.0], choice_propensity=0.5)
    silent = best_of(rng, 2)
    flow.append("inferences", [row, silent])
    early = {"ts": NOW - timedelta(hours=4, minutes=30)}
    flow.append("feedback", [
        reaction(row, value=-1, **early), reaction(row, value=1),  # one person changes their mind
        reaction(row, value=-1, subject="other"), reaction(row, value=-1, subject="third", choice_index=1),
        reaction(row, "rating", value=5), reaction(row, "click"), reaction(row, "click", **early),
        reaction(row, "dwell", value=20_000), reaction(row, "dwell", value=10_000),
        reaction(row, "completion", value=0.25), reaction(row, "completion", value=0.75), reaction(row, "reprompt"),
        reaction(row, "copy", choice_index=2),  # about an answer that was not served
    ])  # fmt: skip
    worth = {
        kind: round(ask(flow, "choices", **{"outcome.kind": kind}).logged.mean, 9)
        for kind in ("thumbs", "rating", "click", "dwell", "completion", "reprompt", "copy")
    }
    assert worth == {
        "thumbs": round(-1 / 6, 9), "rating": 1.0, "click": 0.5, "dwell": 0.25, "completion": 0.375, "reprompt": -0.5,
        "copy": 0.0,
    }  # fmt: skip
    assert ask(flow, "choices", **{"outcome.kind": "rating"}).left_out == {"no_reaction": 1}


@pytest.fixture
def lists(flow):
    """600 lists of 150 users: items are liked by ``LIKED``, places are looked at by 1, 0.6 and 0.3."""
    flow, rng = flow(), random.Random(3)
    rows = [ranked(rng, n % 150) for n in range(600)]
    flow.append("inferences", rows)
    flow.append("feedback", [clicks(row, rng) for row in rows])
    return flow, rows


def clicks(row, rng):
    items = []
    for number, item in enumerate(row.ranking):
        if item.rank is not None:
            clicked = rng.random() < LIKED[number] * [1, 0.6, 0.3][item.rank - 1]
            items.append(RankedItem(id=item.id, rank=item.rank, shown_ms=9, action="open" if clicked else None))
    return reaction(row, "click", items=items)


def test_another_order_of_lists(lists):
    flow, _ = lists
    report = ask(flow, "lists", temperature=0.5, epsilon=0.1, **{"outcome.kind": "click"})
    rng = random.Random(4)
    orders = [
        draw_ranking([item.score for item in ITEMS], Policy(0.5, 0.1), shown=3, rng=rng).order for _ in range(9_000)
    ]
    truth = (LIKED[np.array(orders)] * [1, 0.6, 0.3]).sum(axis=1).mean()
    assert (report.rows, report.units, report.left_out) == (600, 150, {})
    for one in report.estimates:
        assert one.value.low < truth < one.value.high, one.estimator
    assert [round(one.mean, 1) for one in report.looked_at] == pytest.approx([1, 0.6, 0.3], abs=0.15)
    assert report.headline.estimator == "rips"


def test_only_so_many_places_count(lists):
    flow, _ = lists
    first = ask(flow, "lists", places=1, temperature=1.0, epsilon=0.1, **{"outcome.kind": "click"})
    clicked = [
        any(item.rank == 1 and item.action for item in said.items)
        for said in flow.lake.records("feedback", Feedback, flow="triage")
    ]
    assert first.logged.mean == pytest.approx(np.mean(clicked))
    for one in first.estimates:
        assert one.value.mean == pytest.approx(np.mean(clicked))


def test_lists_that_cannot_be_used_and_clicks_without_items(flow):
    flow, rng = flow(), random.Random(5)
    plain, wrong = ranked(rng, 1), ranked(rng, 2)
    flow.append("inferences", [
        plain, ranked(rng, 3, given=True), inference(4),
        wrong.model_copy(update={"list_log_propensity": wrong.list_log_propensity - 0.5}),
    ])  # fmt: skip
    second = next(item for item in plain.ranking if item.rank == 2)
    unshown = next(item for item in plain.ranking if item.rank is None)
    flow.append("feedback", [
        reaction(plain, "click", value=0),
        reaction(plain, "click", items=[RankedItem(id=second.id, rank=2, action="save")]),
        reaction(plain, "click", items=[RankedItem(id=second.id, rank=2), RankedItem(id="sku-9", rank=1, action="x")]),
        reaction(plain, "click", items=[RankedItem(id=unshown.id, rank=1, action="open")]),
    ])  # fmt: skip
    asked = {"outcome.kind": "click", "temperature": 0.9}
    report = ask(flow, "lists", **asked)
    assert report.left_out == {"no_ranked_list": 1, "ranker_was_missing": 1, "chance_is_not_that_of_the_policy": 1}
    assert report.logged.mean == 2
    assert ask(flow, "lists", **asked, **{"outcome.actions": {"save": 0.5}}).logged.mean == 1.5


def test_always_the_canary(flow):
    flow, rng = flow(), random.Random(6)
    rows, reactions = [], []
    for user in range(400):
        canary = rng.random() < 0.25
        for _ in range(2):
            fields = {"policy_version": 3, "eligible_variants": ["v1", "v2"], "assignment": "random"}
            if canary and rng.random() < 0.1:  # it failed: the live model stood in
                drawn = Fallback(assigned="v2", eligible=["v1", "v2"], propensity=0.25, reason="engine_timeout")
                fields |= {"assignment": "fallback", "eligible_variants": ["v1"], "propensity": 1.0, "fallback": drawn}
            else:
                fields |= {"model_version": "v2" if canary else "v1", "propensity": 0.25 if canary else 0.75}
            rows.append(
                inference(user, traffic_kind="canary" if fields.get("model_version") == "v2" else "live", **fields)
            )
            if rng.random() < (0.8 if canary else 0.5):
                reactions.append(reaction(rows[-1], "copy"))
    others = [
        inference(1, assignment="pinned", eligible_variants=["v1"]),
        inference(1, assignment="random", eligible_variants=["v1", "v3"], propensity=0.5),
        inference(1, assignment="fallback", eligible_variants=["v1"],
                  fallback=Fallback(assigned="v2", eligible=["v2"], propensity=1.0, reason="not_ready")),
        ranked(rng, 1, assignment="random", eligible_variants=["v1", "v2"], propensity=0.75),
    ]  # fmt: skip
    flow.append("inferences", [*rows, *others])
    flow.append("feedback", reactions)
    report = ask(flow, "variants", version="v2", **{"outcome.kind": "copy"})
    assert report.left_out == {"no_draw_between_models": 2, "target_was_not_eligible": 1, "ranked_list": 1}
    assert (report.rows, report.units) == (800, 400)
    assert report.headline.value.low < 0.8 < report.headline.value.high
    assert report.headline.gain.low > 0
    assert report.headline.max_weight == 4
    assert report.headline.expected_effective == pytest.approx(200)
    split = ask(flow, "variants", split={"v1": 0.5, "v2": 0.5}, **{"outcome.kind": "copy"})
    assert split.headline.value.low < 0.65 < split.headline.value.high
    assert split.headline.expected_effective == pytest.approx(800 / (0.25 / 0.75 + 0.25 / 0.25))


def test_what_was_never_explored_is_refused(flow):
    flow, rng = flow(), random.Random(7)
    greedy = Choosing(policy="epsilon_greedy", temperature=0.0, epsilon=0.0, ranker="likelihood")
    rows = [
        best_of(rng, n, choosing=greedy, choice_scores=[0.0, 1.0], choice_served=1, choice_propensity=1.0)
        for n in range(200)
    ]
    flow.append("inferences", rows)
    flow.append("feedback", [reaction(row, value=1) for row in rows[::2]])
    report = ask(flow, "choices", policy="uniform")
    assert report.refused
    assert "no_support" in {why.code for why in report.headline.refused}
    assert report.headline.unsupported == pytest.approx(0.5)
    console = Console(record=True, width=200)
    show(report, console)
    text = console.export_text()
    assert "Refused" in text
    assert "epsilon above 0" in text


def test_a_flow_without_traffic_is_refused_not_an_error(flow):
    for of, asked in (("choices", {}), ("variants", {"version": "v9"}), ("lists", {"outcome.kind": "click"})):
        report = ask(flow(), of, **asked)
        assert report.refused
        assert report.headline.refused[0].code == "no_rows"


@pytest.mark.parametrize(
    ("of", "asked", "said_"),
    [
        ("variants", {}, "version or split"),
        ("choices", {"version": "v2"}, "version or split"),
        ("variants", {"split": {"a": 0.5, "b": 0.6}}, "sum to 1"),
        ("choices", {"estimator": "rips"}, "one of ips"),
        ("lists", {}, "actions on items"),
        ("variants", {"version": "a", "scores": "x"}, "scores are of"),
        ("lists", {"outcome.kind": "click", "outcome.actions": {"open": 3}}, "0 to 1"),
        ("choices", {"temprature": 1}, "temperature"),
    ],
)
def test_questions_that_make_no_sense(of, asked, said_):
    with pytest.raises(ConfigError, match=said_):
        question(of, **asked)


def test_a_file_of_scores_that_is_none(flow, tmp_path):
    bad = tmp_path / "scores.jsonl"
    bad.write_text("not json")
    for path in (bad, Path("nowhere.parquet")):
        with pytest.raises(UsageError, match="inference_id"):
            ask(flow(), "choices", scores=str(path))
