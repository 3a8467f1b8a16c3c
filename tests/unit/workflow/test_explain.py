"""`flywheel curate explain`: every fate a row can have, told without a word that anybody said."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console
from uuid6 import uuid7

from flywheel.config import FilterConfig, FlywheelConfig, load
from flywheel.errors import NotFoundInLakeError
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.operate import curation as draw
from flywheel.quality.build import build, quarantine_key
from flywheel.quality.curate import curate_rows
from flywheel.quality.reward import RewardModels
from flywheel.quality.rows import Exclusions
from flywheel.quality.score import ScoreResult
from flywheel.quality.trust.apply import Suspect
from flywheel.records import Consent, Feedback, Inference, Message, Signal
from flywheel.workflow.curation.explain import explain
from flywheel.workflow.curation.show import show
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key

NOW = datetime.now(UTC) - timedelta(days=3)
DAY = timedelta(days=1)
WORDS = [
    "amber bison cedar",
    "dune ember fjord",
    "grove heron iris",
    "jade kelp lotus",
    "moss nettle oak",
    "pine quartz",
]


class Curated:
    """Six liked answers of one person each, one that nobody reacted to, one said twice, and datasets made of them."""

    def __init__(self, folder):
        self.config = load(FlywheelConfig, overrides={"home": str(folder / "home"), "lake.uri": str(folder / "lake")})
        self.lake = open_lake(self.config)
        self.rows = [answer(f"{text} secret-word") for text in WORDS]
        self.silent, self.again = answer("nobody said anything"), answer(f"{WORDS[0]} secret-word")
        self.append("inferences", [*self.rows, self.silent, self.again])
        self.append("feedback", [thumb(row) for row in [*self.rows, self.again]])
        self.snapshot = {table: self.lake.version(table) for table in ("inferences", "feedback")}
        self.built = build(
            self.lake, self.config, snapshot=self.snapshot, work=folder / "work", excluded=Exclusions(),
            consented=lambda rows, _: {row.inference_id for row in rows}, heard=lambda rows, *_: rows,
        )  # fmt: skip
        values = [{"agreement": 0.1 * place + 0.1, "explicit": 1.0, "format": 1.0} for place in range(6)]
        self.append("signals", [
            Signal(inference_id=row.inference_id, signal=name, version=f"{name}-1", value=value)
            for row, own in zip(self.rows, values, strict=True)
            for name, value in own.items()
        ])  # fmt: skip
        self.turn = open_turn(self.lake.store, self.config)
        self.made = {}
        self.dataset = self.curate()
        self.turn.write(step_key("curate"), self.dataset.model_dump(mode="json"))

    def append(self, table, rows):
        assert self.lake.append(table, rows, app=str(uuid7()), version=0, flow="triage")

    def curate(self, max_examples=1000, built=None, **filter_):
        quality = self.config.quality.model_copy(update={"max_examples": max_examples})
        config = self.config.model_copy(update={"quality": quality})
        versions = {name: f"{name}-1" for name in ("agreement", "explicit", "format")}
        scored = ScoreResult(
            version="s1", table_version=self.lake.version("signals"), rows=6, reused=False, versions=versions
        )
        return curate_rows(
            self.lake, config, Keyring(self.config.home_path()), built or self.built,
            models=RewardModels(id="none", folds=[], reason="few"), scored=scored, snapshot=self.snapshot,
            filter_config=FilterConfig(version="mine", min_agreement=0.25, **filter_), turn_id=self.turn.turn_id,
        )  # fmt: skip

    def explain(self, row, **more):
        name = row if isinstance(row, str) else row.inference_id
        return explain(self.lake, self.config, name, **{"dataset": None if "turn" in more else self.dataset.id} | more)


def answer(text):
    name = str(uuid7())
    return Inference(
        inference_id=name, flow="triage", ts=NOW, subject=f"s-{name}", consent=["training"], model_version="v1",
        messages=[Message(role="user", content=text)], choices=["yes"], finish_reason="stop",
    )  # fmt: skip


def thumb(row):
    return Feedback(
        feedback_id=str(uuid7()), inference_id=row.inference_id, flow="triage", ts=NOW, subject=row.subject,
        kind="thumbs", value=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return Curated(tmp_path_factory.mktemp("curated"))


def printed(found):
    console = Console(file=StringIO(), width=200)
    draw.explanation(found, console)
    return console.file.getvalue()


def test_a_dropped_row_names_the_rule_the_value_and_the_bound(one):
    found = one.explain(one.rows[0])
    assert (found.verdict, found.reason, found.origin) == ("dropped", "others_disagree", "liked")
    rule = next(rule for rule in found.trace.rules if rule.reason == "others_disagree")
    assert (rule.value, rule.bound, rule.passed) == (0.1, ">= 0.25 (min_agreement)", False)
    outcomes = {stage.name: stage.outcome for stage in found.stages}
    assert outcomes["not said before"] == "passed"
    assert outcomes["rules of the filter"] == "failed"
    assert outcomes["cap per person"] == "not reached"
    text = printed(found)
    assert "dropped: others_disagree" in text
    assert ">= 0.25 (min_agreement)" in text


def test_a_kept_row_is_found_by_its_example_too(one):
    made = one.curate(weights={"of": [{"signal": "agreement", "zero_at": 0.0, "one_at": 0.8}]})
    found = one.explain(one.rows[3], dataset=made.id)
    assert (found.verdict, found.dataset, found.turn) == ("kept", made.id, one.turn.turn_id)
    assert one.explain(found.example_id, dataset=made.id) == found
    assert one.explain(found.example_id, dataset=None) == found  # the newest that has it
    assert found.used_by == [f"dataset/{one.dataset.id}", f"dataset/{made.id}"]
    assert found.signals == {"agreement": 0.4, "explicit": 1.0, "format": 1.0}
    assert found.trace.reason is None
    assert found.trace.weight == 0.5
    assert "weight 0.5 (agreement 0.4 gives 0.500)" in printed(found)
    margin = next(rule for rule in found.trace.rules if rule.signal == "reward_margin")
    assert (margin.passed, margin.note) == (None, "only for corrections")
    assert 0 <= found.draws["liked"] < 1


def test_duplicates_name_each_other(one):
    assert one.explain(one.again).detail == one.rows[0].inference_id
    assert one.explain(one.again).reason == "duplicate"
    assert one.explain(one.rows[0]).instead_of == [one.again.inference_id]


def test_caps_say_the_place(one):
    made = one.curate(max_examples=1)
    found = [one.explain(row, dataset=made.id) for row in one.rows]
    assert sorted(one.detail for one in found if one.reason == "over_max_examples") == [
        "place 2 of 4, 1 stay", "place 3 of 4, 1 stay", "place 4 of 4, 1 stay",
    ]  # fmt: skip
    outcomes = {stage.name: stage.outcome for stage in found[2].stages}
    assert outcomes["size of the dataset"] == "failed"
    assert "passed" in {outcomes["rules of the filter"]} == {outcomes["cap per person"]}


def test_rows_without_feedback_or_after_the_snapshot(one):
    assert one.explain(one.silent).reason == "no_feedback"
    assert one.explain(one.silent).trace is None
    later = answer("later")
    one.append("inferences", [later])
    found = one.explain(later)
    assert (found.verdict, found.stages, found.used_by) == ("not seen", [], [])
    assert "made before this row" in printed(found)


def test_what_is_in_quarantine_is_told_and_counts_for_nothing(one):
    row, other = one.rows[5], one.rows[4]
    said = one.lake.read("feedback", columns=["feedback_id", "inference_id"]).to_pylist()
    (mine,) = [line["feedback_id"] for line in said if line["inference_id"] == row.inference_id]
    suspect = Suspect(feedback_id=mine, inference_id=row.inference_id, reason="burst", detail="many in a second")
    built = one.built.model_copy(update={"quarantined": {"burst": 1}})
    one.lake.store.put(quarantine_key("triage", built.id), f"{suspect.model_dump_json()}\n".encode())
    dataset = one.curate(built=built, max_per_subject=9).id
    found = one.explain(row, dataset=dataset)
    assert found.quarantined == ["burst: many in a second"]
    assert found.origin is None  # its one reaction was not counted
    assert "in quarantine, burst: many in a second" in printed(found)
    assert one.explain(other, dataset=dataset).quarantined == []


def test_nobody_is_quoted_and_a_withdrawn_consent_hides_the_numbers(one):
    shown = [one.explain(row) for row in [*one.rows, one.silent, one.again]]
    assert "secret-word" not in json.dumps([found.model_dump(mode="json") for found in shown])
    assert shown[0].signals
    person = one.rows[1].subject
    one.append("consents", [Consent(subject=person, purpose="training", ts=NOW + DAY, state="withdrawn")])
    hidden = one.explain(one.rows[1])
    assert (hidden.consent, hidden.signals, hidden.trace) == (False, {}, None)
    assert hidden.reason == "others_disagree"
    assert "no signal is shown" in printed(hidden)


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ("nothing", {}, "no interaction 'nothing': it was never captured"),
        ("ex-000000000000", {}, "No dataset of this flow has the example"),
        (None, {"dataset": "dataset-0"}, "no dataset 'dataset-0'; did you mean dataset-"),
        (None, {"turn": "turn-0009"}, "'turn-0009' does not exist; turns: turn-0001"),
    ],
)
def test_unknown_ids(one, row, more, said):
    with pytest.raises(NotFoundInLakeError, match=said):
        one.explain(row or one.rows[0], **more)


def test_a_turn_or_dataset_can_be_named(one):
    assert one.explain(one.rows[0], turn=one.turn.turn_id) == one.explain(one.rows[0])


def test_without_a_dataset_the_remedy_is_named(one):
    other = one.config.model_copy(update={"flow": "other"})
    with pytest.raises(NotFoundInLakeError, match="no dataset yet; make one with: flywheel turn"):
        show(one.lake, other)


def test_show_counts_what_each_rule_dropped(one):
    found = show(one.lake, one.config, one.dataset.id)
    newest = one.curate(max_examples=2)
    assert show(one.lake, one.config)["id"] == newest.id != one.dataset.id
    assert found["funnel"]["captured"] == 8
    assert {rule["reason"]: rule["dropped"] for rule in found["rules"]}["others_disagree"] == 2
    assert found["rules"][-1]["bound"] == "1 of 5"
    console = Console(file=StringIO(), width=200)
    draw.dataset(found, console)
    assert "others_disagree" in console.file.getvalue()
    assert found["examples"] == one.dataset.examples == 4
