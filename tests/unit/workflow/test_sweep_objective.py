from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.config import FilterConfig, SweepConfig, load
from flywheel.config.loader import dump
from flywheel.errors import UsageError
from flywheel.quality.filters import Columns, passing
from flywheel.quality.rows import Candidate
from flywheel.records import Label, Message
from flywheel.workflow.sweeps.outcomes import objective, value
from flywheel.workflow.sweeps.rows import TuneRows, check, tune_rows
from flywheel.workflow.sweeps.space import name
from flywheel.workflow.sweeps.study import study

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(index: int, target: str = '{"a": 1}') -> Candidate:
    return Candidate(
        inference_id=f"{index:03d}", flow="f", subject="s", rater="s", ts=NOW, answer='{"a": 0}', target=target,
        messages=[Message(role="user", content="x")], origin="correction", held_out="label_tune",
    )  # fmt: skip


def label(index: int, kind: str, correction: str | None = None, split: str = "tune", **fields) -> Label:
    return Label(**{
        "label_id": f"l{index}", "inference_id": f"{index:03d}", "flow": "f", "subject": "s", "annotator": "r",
        "ts": NOW, "kind": kind, "correction": correction, "split": split, **fields,
    })  # fmt: skip


def tuning(count: int = 100) -> TuneRows:
    """Rows with an agreement signal that tells right from wrong at 0.4, and one in five wrong."""
    rows = [row(index) for index in range(count)]
    right = np.arange(count) % 5 != 0
    signals = {one.inference_id: {"agreement": 0.7 if good else 0.3} for one, good in zip(rows, right, strict=True)}
    return TuneRows(Columns.of(rows, signals), right, [f"l{index}" for index in range(count)])


def test_truth_is_compared_by_value_and_only_tune_labels_count():
    rows = [row(index) for index in range(4)]
    labels = [label(0, "correct", '{ "a":1}'), label(1, "correct", '{"a":2}'), label(2, "accept"),
              label(3, "correct", '{"a":1}', split="gate"), label(9, "accept")]  # fmt: skip
    joined = tune_rows(rows, {}, labels)
    assert joined.columns.ids == ["000", "001", "002"]
    assert joined.right.tolist() == [True, False, False]  # accept: the served answer is right, the correction is not


def test_rejections_and_ratings_count_where_they_tell():
    liked = [row(index, '{"a": 0}') for index in range(6)]
    labels = [label(0, "reject"), label(1, "rate", value=2), label(2, "rate", value=5), label(3, "rate", value=3),
              label(4, "compare", value=1, other_answer="x"), label(5, "rate", value=1),
              label(5, "accept", label_id="v5")]  # fmt: skip
    joined = tune_rows(liked, {}, labels)
    assert joined.columns.ids == ["000", "001", "002", "005"]
    assert joined.right.tolist() == [False, False, True, True]  # a verdict beats a rating
    assert joined.label_ids == ["l0", "l1", "l2", "v5"]
    corrected = [row(index) for index in range(4)]
    assert tune_rows(corrected, {}, labels[:4]).columns.ids == []  # nothing was said about the users' corrections


def test_disputed_rows_tune_nothing_until_they_are_settled():
    rows = [row(0, '{"a": 0}')]
    dispute = [label(0, "accept"), label(0, "reject", annotator="other", label_id="o0")]
    assert tune_rows(rows, {}, dispute).columns.ids == []
    ruling = label(0, "reject", annotator="judge", label_id="j0", adjudicates=True)
    settled = tune_rows(rows, {}, [*dispute, ruling])
    assert (settled.right.tolist(), settled.label_ids) == ([False], ["j0"])


def test_objective_charges_wrong_rows():
    rows = tuning()
    everything = objective(rows, FilterConfig(), 3.0)
    only_right = objective(rows, FilterConfig(min_agreement=0.5), 3.0)
    assert everything == pytest.approx((80 - 60) / 80, abs=2e-3)
    assert only_right == pytest.approx(1.0, abs=2e-3)


def best_of(found, rows):
    return max(found, key=lambda one: value(one, rows, 3.0))


def test_study_finds_the_threshold_and_repeats():
    rows, config = tuning(), SweepConfig(proposals_per_trial=40)
    found = study(rows, FilterConfig(), config, seed=1)
    best = best_of(found, rows)
    assert len(found) == 40
    assert value(best, rows, 3.0) > 0.99
    assert passing(rows.columns, FilterConfig(**best.params)).tolist() == rows.right.tolist()
    assert study(rows, FilterConfig(), config, seed=1) == found


def test_study_learns_from_what_is_known():
    rows, config = tuning(), SweepConfig(proposals_per_trial=9)
    known = study(rows, FilterConfig(), SweepConfig(proposals_per_trial=30), seed=1)

    def mean(seed, **given):
        found = study(rows, FilterConfig(), config, seed=seed, **given)[1:]
        return np.mean([value(one, rows, 3.0) for one in found])

    assert sum(mean(seed, known=known) - mean(seed) for seed in range(2)) > 0


def test_start_is_among_the_proposals():
    start = FilterConfig(min_agreement=0.5)
    found = study(tuning(), start, SweepConfig(proposals_per_trial=2), seed=0)
    assert found[0].params == {}
    assert value(found[0], tuning(), 3.0) == objective(tuning(), start, 3.0)


def test_too_few_or_one_sided_labels_are_refused():
    with pytest.raises(UsageError, match="needs 40"):
        check(tuning(20), SweepConfig())
    rows = tuning()
    with pytest.raises(UsageError, match="agree"):
        check(TuneRows(rows.columns, np.ones(100, dtype=bool), rows.label_ids), SweepConfig())


def test_version_is_the_content_and_the_file_reads_back(tmp_path):
    best = name(FilterConfig(min_agreement=0.123456, version="other"))
    assert best.version == name(FilterConfig(min_agreement=0.123456)).version
    assert best.version != name(FilterConfig(min_agreement=0.2)).version
    dump(best, tmp_path / "filter.yaml")
    assert load(FilterConfig, tmp_path / "filter.yaml") == best
