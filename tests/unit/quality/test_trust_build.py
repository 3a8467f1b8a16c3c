"""Quarantine on the way to candidates: named drops, and a file in which every suspect row can be seen."""

from collections import Counter

from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult, build
from flywheel.quality.rows import Exclusions

QUESTIONS = ["lost parcel", "refund for a hotel", "broken screen", "new password", "voucher code", "router light"]


def test_suspect_rows_are_named_counted_and_kept_where_they_can_be_seen(inference, reaction, tmp_path):
    """All at one time, as an import may be: equal votes at equal times then make nobody one actor."""
    rows, feedback = [], []
    for prompt in range(6):
        for person in range(8):
            name = f"i-{prompt}-{person}"
            rows.append(inference(name, QUESTIONS[prompt], f"answer {prompt}", subject=f"p{person}"))
            feedback.append(reaction(name, "thumbs", 1.0, subject=f"p{person}", feedback_id=f"f-{name}"))
        name = f"h-{prompt}"
        rows.append(inference(name, QUESTIONS[prompt], "gold coins", subject="h"))
        feedback.append(reaction(name, "thumbs", 1.0, subject="h", feedback_id=f"f-{name}"))
    lake = Lake(str(tmp_path / "lake"))
    lake.append("inferences", rows, app="t", version=1)
    lake.append("feedback", feedback, app="t", version=1)
    config = FlywheelConfig(flow="f", home=tmp_path)
    made = build(
        lake, config, snapshot={name: lake.version(name) for name in ("inferences", "feedback")},
        consented=lambda inferences, _: {row.inference_id for row in inferences}, heard=lambda rows, *_: rows,
        excluded=Exclusions(), work=tmp_path / "work",
    )  # fmt: skip
    assert not {row.inference_id for row in made.rows()} & {f"h-{n}" for n in range(6)}
    assert made.dropped["quarantined"] == 6
    assert {row.rater_reliability for row in made.rows()} == {made.rows()[0].rater_reliability}
    known = made.rows()[0].rater_reliability
    assert known is not None
    assert known > 0.8
    named = [drop for drop in made.drops() if drop.reason == "quarantined"]
    assert all(drop.detail for drop in named)
    assert Counter(one.feedback_id for one in made.suspects()) == {f"f-h-{n}": 1 for n in range(6)}
    assert sum(made.quarantined.values()) == 6
    assert lake.store.list("drops/f") == [f"drops/f/quarantine-{made.id}.jsonl"]
    assert not any("h" in (drop.detail or "").split() for drop in named)  # no name of a person in a reason
    old = made.model_dump(exclude={"quarantined"})
    assert BuildResult.model_validate(old).quarantined == {}  # artifacts of turns that began before
