"""A batch whose table comes from one pass and whose end from another: what only one of them could join waits."""

import pytest

from flywheel.capture.ingest import read_totals


class Death(BaseException):
    pass


@pytest.fixture
def told(pipeline, make):
    """Reactions in ``landing/`` about an answer that nobody knows yet, and how an import brings that answer."""
    answer, known = make.inference(), make.inference()
    pipeline.record(known, make.feedback(known), make.feedback(answer), make.pair(answer))
    pipeline.ship()
    stored = answer.model_copy(update={"tags": {"text_removed": "no_consent"}})
    return lambda: pipeline.lake.append("inferences", [stored], app="imports", version=1)


def when(pipeline, monkeypatch, table, act):
    """Have ``act`` happen once, right after the commit to ``table``."""
    append = pipeline.lake.append

    def acting(name, *args, **how):
        done = append(name, *args, **how)
        if name == table:
            monkeypatch.setattr(pipeline.lake, "append", append)
            act()
        return done

    monkeypatch.setattr(pipeline.lake, "append", acting)


def check(pipeline, make):
    """The next batch brings what waited, and every event is counted once."""
    pipeline.record(make.inference())
    pipeline.ship()
    assert pipeline.ingest().waiting == 0
    assert len(pipeline.feedback()) == 2
    assert len(pipeline.ids("shadow_pairs", "candidate")) == 1
    totals = read_totals(pipeline.lake, "triage")
    assert totals.rows == {"inferences": 2, "feedback": 2, "shadow_pairs": 1}
    assert (totals.events, totals.duplicates, totals.text_removed) == (5, 0, 2)


def test_a_reaction_that_a_dead_pass_let_wait_is_not_lost(pipeline, make, monkeypatch, told):
    def die():
        raise Death

    when(pipeline, monkeypatch, "feedback", die)
    with pytest.raises(Death):
        pipeline.ingester().run_once()
    told()
    report = pipeline.ingester().run_once()
    assert (report.batches, report.waiting) == (0, 1)  # the batch of the dead one is ended; nothing else is there
    assert read_totals(pipeline.lake, "triage").rows == {"inferences": 1, "feedback": 1, "shadow_pairs": 1}
    check(pipeline, make)


def test_a_reaction_that_a_slower_pass_let_wait_is_not_lost(pipeline, make, monkeypatch, told):
    def overtake():
        told()
        pipeline.ingester().run_once()

    when(pipeline, monkeypatch, "feedback", overtake)
    report = pipeline.ingester().run_once()
    assert (report.rows, report.waiting) == ({"inferences": 1, "feedback": 1, "shadow_pairs": 1}, 1)
    check(pipeline, make)


def test_a_row_that_the_other_pass_stored_is_counted_and_does_not_wait(pipeline, make, monkeypatch, told):
    def die():
        raise Death

    told()
    when(pipeline, monkeypatch, "feedback", die)
    with pytest.raises(Death):
        pipeline.ingester().run_once()
    assert pipeline.ingester().run_once().waiting == 0
    check(pipeline, make)
