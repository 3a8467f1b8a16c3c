"""A filter gets into force by a command, with a reason, and by nothing else."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from flywheel.config import FilterConfig, FlywheelConfig, dump, load
from flywheel.errors import ConfigError, UsageError
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.lake.tables import open_lake
from flywheel.operate import curation as draw
from flywheel.quality.artifacts import write_rows
from flywheel.quality.build import BuildResult
from flywheel.quality.rows import TUNE, Candidate
from flywheel.records import Decision, Inference, Message, Signal
from flywheel.review import labels as review
from flywheel.rollout.history import decisions
from flywheel.workflow.curation import adopt as adoption
from flywheel.workflow.curation.adopt import adopt, difference
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.sweep import name
from flywheel.workflow.turns.turn import step_key

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


class Place:
    """A configuration file, its lake, and a filter file."""

    def __init__(self, folder):
        self.path, self.file = folder / "flywheel.yaml", folder / "found.yaml"
        text = f"# ours\nhome: {folder / 'home'}\nsweep: {{in_turn: false}}\nquality:\n  min_examples: 7\n"
        self.path.write_text(text)
        self.lake = open_lake(self.config)

    @property
    def config(self):
        return load(FlywheelConfig, self.path)

    def adopt(self, wanted=None, *, reason="fewer wrong rows", actor="ada", **more):
        if wanted is not None:
            dump(wanted, self.file)
        given = {"config_path": self.path, **more}
        return adopt(self.lake, self.config, self.file, reason=reason, actor=actor, **given)

    def decisions(self):
        return [row for row in decisions(self.lake, "triage") if row.action == "adopt_filter"]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


MINE = FilterConfig(version="mine-1", min_agreement=0.5)


def test_the_configuration_leads_to_the_filter_and_the_decision_says_who_and_why(place):
    done = place.adopt(MINE)
    assert done["changed"]
    assert place.config.quality.filter == MINE
    assert place.config.quality.min_examples == 7
    assert place.path.read_text().startswith("# ours\n")
    (row,) = place.decisions()
    assert (row.actor, row.decision_id) == ("ada", done["decision"])
    assert row.text == "filter default -> mine-1: fewer wrong rows (min_agreement: 0.2 -> 0.5; rule others_disagree: " \
        "agreement >= 0.2 (min_agreement) for all, missing: pass -> agreement >= 0.5 (min_agreement) for all, " \
        "missing: pass)"  # fmt: skip


def test_again_changes_nothing_and_there_and_back_is_three_decisions(place):
    first, other = MINE, MINE.model_copy(update={"version": "mine-2", "min_votes": 2})
    place.adopt(first)
    assert not place.adopt(first)["changed"]
    for wanted in (other, first):
        assert place.adopt(wanted)["changed"]
    assert place.config.quality.filter == first
    assert [row.text.split(":")[0] for row in place.decisions()] == [
        "filter default -> mine-1", "filter mine-1 -> mine-2", "filter mine-2 -> mine-1",
    ]  # fmt: skip


def test_killed_behind_the_decision_the_same_command_goes_on(place, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(adoption, "dump", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            place.adopt(MINE)
    assert place.config.quality.filter.version == "default"
    place.adopt(MINE)
    assert place.config.quality.filter == MINE
    assert len(place.decisions()) == 1


def test_a_configuration_that_would_not_load_is_left_as_it_was(place, monkeypatch):
    before = place.path.read_text()
    monkeypatch.setattr(adoption, "with_filter_file", lambda text, _: f"{text}nonsense: 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        place.adopt(MINE)
    assert place.path.read_text() == before


@pytest.mark.parametrize(
    ("wanted", "more", "said"),
    [
        (MINE, {"reason": " "}, "Say why"),
        (MINE, {"config_path": None}, "pass --config"),
        (FilterConfig(min_votes=2), {}, "another filter of version 'default'"),
        (MINE.model_copy(update={"version": "../up"}), {}, "cannot name a file"),
        (name(MINE), {}, "No sweep of this flow found"),
        (FilterConfig(version="x", rules=[{"signal": "agrement", "at_least": 1, "reason": "a"}]), {}, "'agreement'"),
    ],
)
def test_refusals_leave_nothing(place, wanted, more, said):
    before = place.path.read_text()
    with pytest.raises(UsageError, match=said):
        place.adopt(wanted, **more)
    assert place.path.read_text() == before
    assert not place.decisions()
    assert not (place.path.parent / "filters").exists()


def test_a_version_means_one_filter(place):
    place.adopt(MINE)
    place.adopt(MINE.model_copy(update={"version": "mine-2"}))
    with pytest.raises(UsageError, match="another filter of version 'mine-1'"):
        place.adopt(MINE.model_copy(update={"min_votes": 3}))


def test_a_sweeps_winner_names_its_sweep_and_must_be_what_it_found(place):
    best = name(MINE)
    manifest = Manifest(kind="filter", id="filter-1", flow="triage", code_version="c", config_hash="h", seed=0,
                        data={"best": best.model_dump(mode="json"), "label_ids": []})  # fmt: skip
    write_manifest(place.lake, manifest)
    with pytest.raises(UsageError, match="changed after the sweep"):
        place.adopt(best.model_copy(update={"min_votes": 3}))
    place.adopt(best)
    assert place.decisions()[0].evidence == ["filter/filter-1"]


def test_an_open_turn_and_a_sweep_in_every_turn_are_pointed_out(place):
    place.path.write_text(place.path.read_text().replace("sweep: {in_turn: false}\n", ""))
    open_turn(place.lake.store, place.config)
    remarks = " ".join(place.adopt(MINE)["remarks"])
    assert "sweep.in_turn is on" in remarks
    assert "turn-0001 is unfinished" in remarks


def test_the_difference_counts_rows_and_labels_of_the_newest_turn(place):
    dump(MINE, place.file)
    assert "not counted" in difference(place.lake, place.config, place.file)["remarks"][0]
    _scored_turn(place)
    found = difference(place.lake, place.config, place.file)
    assert found["effect"] == {
        "turn": "turn-0001", "candidates": 8, "labels": 2, "gained": 0, "lost": 2,
        "rows": [("pass the rules", 6, 4), ("labelled right, pass", 1, 1), ("labelled wrong, pass", 1, 0)],
    }  # fmt: skip
    assert {row["setting"] for row in found["changes"]} == {"min_agreement", "rule others_disagree"}
    console = Console(file=StringIO(), width=200)
    draw.difference(found, console)
    assert "0 rows come in, 2 go out" in console.file.getvalue()
    assert place.config.quality.filter.version == "default"
    assert not place.decisions()


def _scored_turn(place):
    """Ten rows whose agreement is 0.0 to 0.9; the last and the fourth are tune labels', one right and one wrong."""
    rows = [
        Candidate(inference_id=f"{n}", flow="triage", subject=f"s{n}", rater=f"s{n}", ts=NOW, answer="no", target="yes",
                  messages=[Message(role="user", content=f"{n}")], origin="correction",
                  held_out=TUNE if n in (3, 9) else None)
        for n in range(10)
    ]  # fmt: skip
    folder = place.path.parent / "work"
    write_rows(folder / "candidates.jsonl", rows)
    built = BuildResult(id="c", folder=str(folder), captured=10, consented=10, candidates=8, held_out=2, corrections=8,
                        liked=0, dropped={})  # fmt: skip
    signals = [Signal(inference_id=f"{n}", signal="agreement", version="s1", value=n / 10) for n in range(10)]
    place.lake.append("signals", signals, app="s", version=1, flow="triage")
    asked = [
        Inference(inference_id=f"{n}", flow="triage", ts=NOW, subject=f"s{n}", model_version="v1", choices=["no"],
                  messages=[Message(role="user", content="q")], finish_reason="stop")
        for n in (3, 9)
    ]  # fmt: skip
    right = ["other", "yes"]
    review.add_labels(place.lake, [
        review.make_label(row, annotator="a", kind="correct", split="tune", correction=text)
        for row, text in zip(asked, right, strict=True)
    ])  # fmt: skip
    turn = open_turn(place.lake.store, place.config)
    turn.write(step_key("candidates"), {**built.model_dump(mode="json"), "seconds": 1.0})
    turn.write(step_key("score"), {"version": "s1", "table_version": place.lake.version("signals"), "rows": 10,
                                   "reused": False})  # fmt: skip


def test_decisions_of_other_kinds_are_read_as_before(place):
    place.adopt(MINE)
    rows = place.lake.records("decisions", Decision, flow="triage")
    assert (rows[0].candidate, rows[0].verdict) == (None, None)
