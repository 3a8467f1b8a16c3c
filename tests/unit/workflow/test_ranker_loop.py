"""Train, shadow, judge, promote, go back: on a real lake, as the command line does it."""

import json

import pytest
from ranked_lists import shop
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.config import FlywheelConfig, load
from flywheel.errors import LeaseHeldError, TrainingError, UsageError
from flywheel.lake.erasures import mark_tainted
from flywheel.lake.manifests import read_manifest
from flywheel.lake.schemas import to_arrow
from flywheel.lake.tables import open_lake
from flywheel.records import Consent, Decision, ShadowScores, utcnow
from flywheel.rollout import ranker_routing as truth
from flywheel.workflow.erasure.erase_turns import mark_descendants
from flywheel.workflow.erasure.trace import trace
from flywheel.workflow.rankers import learn, promote, state
from flywheel.workflow.rankers.judge import judge_ranker, mirrored
from flywheel.workflow.turns.lease import RANKING, only_one

SETTINGS = {
    "quality.ranker.weights": {"click": 0.1, "like": 1.0, "hide": -20.0}, "quality.ranker.min_lists": 100,
    "quality.ranker.min_shadow_lists": 200, "quality.ranker.min_effective": 50,
}  # fmt: skip


def satisfying(features):
    return features["good"] - features["flash"]


class Shop:
    def __init__(self, home, **settings):
        self.config = load(FlywheelConfig, None, {"home": str(home), **SETTINGS, **settings})
        self.lake = open_lake(self.config)
        self.batches = 0

    def sell(self, lists, shadow=None):
        rows, reactions = shop(lists, seed=self.batches, shadow=shadow)
        self.batches += 1
        self.lake.append("inferences", rows, app="test", version=self.batches)
        self.lake.append("feedback", reactions, app="test", version=self.batches)
        return rows

    def train(self):
        return learn.train(self.config, actor="ann")

    def promote(self, **how):
        return promote.promote(self.config, actor="ann", **how)

    def now(self):
        return truth.current(self.lake.store, "triage")

    def decisions(self):
        rows = self.lake.records("decisions", Decision, flow="triage")
        return [(row.action, row.candidate) for row in sorted(rows, key=lambda row: row.ts)]


@pytest.fixture(scope="module")
def sold(tmp_path_factory):
    """A shop that trained its first ranker."""
    one = Shop(tmp_path_factory.mktemp("shop"))
    one.rows = one.sell(400)
    one.manifest = one.train()
    return one


def test_a_training_registers_a_version_with_its_lists_and_shadows_it(sold):
    assert sold.manifest.id == "triage-r0001"
    assert sold.manifest.parents == [f"{table}@{sold.lake.version(table)}" for table in ("inferences", "feedback")]
    assert set(sold.manifest.data["lists"]) == {row.inference_id for row in sold.rows}
    assert [one.version for one in sold.now().shadows] == ["triage-r0001"]
    assert sold.now().live is None
    assert sold.train().id == "triage-r0001", "the same rows are the same version"
    said = state.rankers(sold.config)
    assert len(said) == 1
    assert "lists" not in said[0]


def test_who_was_erased_is_found_in_the_rankers_of_their_lists(sold):
    row = sold.rows[0]
    found = trace(sold.lake, row.subject, utcnow())
    assert "ranker/triage-r0001" in mark_descendants(sold.lake, found, dry=True)
    assert mark_descendants(sold.lake, trace(sold.lake, "nobody", utcnow()), dry=True) == []


def test_an_erasure_and_a_training_exclude_each_other(sold):
    with only_one(sold.config, RANKING), pytest.raises(LeaseHeldError):
        sold.train()


def test_a_better_ranker_is_promoted_with_its_reasons_and_taken_back(tmp_path):
    one = Shop(tmp_path)
    one.sell(400)
    one.train()
    refused = one.promote()
    assert (refused.promoted, one.now().live) == (False, None)
    assert [reason.name for reason in refused.reasons if not reason.passed] == [
        "shadow_lists",
        "missing",
        "overlap",
        "gain",
    ]
    one.sell(900, shadow=satisfying)
    done = one.promote()
    assert (done.promoted, done.changed) == (True, True)
    assert all(reason.passed for reason in done.reasons)
    assert one.now().live.version == "triage-r0001"
    assert state.state(one.config)["live"] == "triage-r0001"
    again = one.promote(version="triage-r0001")
    assert (again.promoted, again.changed) == (True, False)
    assert promote.rollback(one.config, actor="ann", reason="complaints").live is None
    assert one.decisions() == [
        ("ranker_shadow", "triage-r0001"), ("ranker_gate", "triage-r0001"),
        ("ranker_promote", "triage-r0001"), ("ranker_rollback", "triage-r0001"),
    ]  # fmt: skip


def test_a_worse_ranker_stays_in_the_shadow_unless_somebody_says_why(tmp_path):
    one = Shop(tmp_path)
    one.sell(150)
    one.train()
    one.sell(500, shadow=lambda features: -satisfying(features))
    refused = one.promote()
    assert [reason.name for reason in refused.reasons if not reason.passed] == ["gain"]
    assert one.now().live is None
    one.promote()
    assert one.decisions().count(("ranker_gate", "triage-r0001")) == 1, "the same evidence is one look"
    with pytest.raises(UsageError, match="--reason"):
        one.promote(override=True)
    forced = one.promote(override=True, reason="a test of the page")
    assert forced.promoted
    assert one.now().reason == "a test of the page"


def test_each_look_is_held_to_more(sold):
    rows, reactions = shop(400, seed=77, shadow=satisfying)
    config, feedback = sold.config.quality.ranker, to_arrow("feedback", reactions)

    def seen(lists, version="triage-r0001"):
        allowed = {row.inference_id for row in lists}
        return mirrored(to_arrow("inferences", lists), feedback, version=version, allowed=allowed)

    first, third = (judge_ranker(seen(rows), config, look=look).gain for look in (1, 3))
    assert third.low < first.low < first.gain == third.gain
    late = [ShadowScores(version="triage-r0001", error="timeout")]
    mute = [row.model_copy(update={"shadow_scores": late}) for row in rows[:40]]
    judged = judge_ranker(seen([*mute, *rows[40:]]), config)
    assert (judged.missing, judged.lists, judged.passed) == (40, 360, False)
    assert [reason.passed for reason in judge_ranker(seen(rows, "other"), config).reasons] == [False, None, None, None]
    assert seen(rows).identity == seen(rows).identity != seen(rows[1:]).identity


def test_what_was_made_of_erased_data_never_serves(tmp_path):
    one = Shop(tmp_path)
    one.sell(150)
    one.train()
    one.sell(500, shadow=satisfying)
    mark_tainted(one.lake.store, read_manifest(one.lake, "ranker", "triage-r0001"), rows=1)
    for how in ({}, {"override": True, "reason": "I want it"}):
        done = one.promote(**how)
        assert (done.promoted, [reason.name for reason in done.reasons if not reason.passed]) == (False, ["erased"])


def test_consent_decides_at_the_time_of_use(tmp_path):
    one = Shop(tmp_path)
    one.sell(150)
    taken_back = [
        Consent(subject=f"u{number}", purpose="training", ts=utcnow(), state="withdrawn") for number in range(30)
    ]
    one.lake.append("consents", taken_back, app="test", version=1)
    with pytest.raises(TrainingError, match="60 ranked lists can be learnt from"):
        one.train()


def test_the_command_line(tmp_path, monkeypatch):
    one = Shop(tmp_path / "home")
    one.sell(150)
    monkeypatch.chdir(tmp_path)
    settings = {"home": str(tmp_path / "home"), "quality": {"ranker": {"min_lists": 100, "min_shadow_lists": 200}}}
    settings["quality"]["ranker"] |= {"weights": SETTINGS["quality.ranker.weights"], "min_effective": 50}
    (tmp_path / "flywheel.yaml").write_text(json.dumps(settings))

    def flywheel(*arguments, code=0):
        done = CliRunner().invoke(app, ["ranker", *arguments], catch_exceptions=False)
        assert done.exit_code == code, done.stdout
        return done.stdout

    assert "No ranker yet" in flywheel("list")
    trained = json.loads(flywheel("train", "--json"))
    assert (trained["version"], trained["report"]["lists"]) == ("triage-r0001", 150)
    assert "scored 0 of 200" in flywheel("status")
    assert "no  shadow_lists" in flywheel("promote", code=3)
    one.sell(500, shadow=satisfying)
    assert json.loads(flywheel("status", "--json"))["shadows"][0]["lists"] == 500
    assert "orders lists now" in flywheel("promote")
    assert "set gateway.ranking.ranker to engagement" in flywheel("status")
    assert "live or in the shadow" in flywheel("shadow", "triage-r0001")
    assert "the scores that the product sends" in flywheel("rollback", "--reason", "done")
    assert [row["version"] for row in json.loads(flywheel("list", "--json"))] == ["triage-r0001"]
