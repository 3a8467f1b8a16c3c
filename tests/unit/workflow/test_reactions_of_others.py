"""What somebody says of another person's answer is theirs too: their own withdrawal counts, whatever the asker said."""

from flywheel.evaluation.cases import stored_cases
from flywheel.lake.keys import Keyring
from flywheel.quality.rows import Exclusions
from flywheel.records import Consent
from flywheel.telemetry import Silent
from flywheel.workflow.evaluations.casework import mine_cases, show_case
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.learn import candidates
from flywheel.workflow.turns.steps import open_turn

COLOURS = ("red", "green", "blue", "yellow", "violet", "orange")


def asked(flow):
    return [flow.answers(1, text=f"the {colour} umbrella of my aunt is broken")[0] for colour in COLOURS]


def refuse(flow, row, subject, purpose):
    flow.append("consents", [Consent(subject=subject, purpose=purpose, ts=row.ts, state="withdrawn")])


def test_training_does_not_see_the_correction_of_who_withdrew(flow):
    flow = flow()
    rows = asked(flow)
    flow.react(rows[:3], "correction", text="said by who stays", subject="stays")
    flow.react(rows[3:], "correction", text="said by who left", subject="left")
    refuse(flow, rows[0], "left", "training")
    turn = open_turn(flow.lake.store, flow.config)
    work = flow.config.home_path() / "work"
    context = Context(flow.lake, flow.config, Keyring(flow.config.home_path()), turn, work)
    tables = {name: flow.lake.version(name) for name in ("inferences", "feedback")}
    done = {"snapshot": {"tables": tables}, "split": {"excluded": Exclusions().model_dump()}}
    assert candidates(context, done, Silent())["corrections"] == 3
    written = "".join(path.read_text() for path in (work / "candidates").iterdir())
    assert "said by who stays" in written
    assert "said by who left" not in written


def test_no_case_comes_of_a_correction_by_who_withdrew_from_evaluation(flow):
    flow = flow(**{"quality.failure_eval_share": 0.99})
    rows = asked(flow)
    flow.react(rows, "correction", text="said by who left", subject="left")
    refuse(flow, rows[0], "left", "evaluation")
    assert mine_cases(flow.lake, flow.config).failures == 0
    assert stored_cases(flow.lake, "triage") == []


def test_a_case_is_shown_without_what_was_said_by_who_withdrew_later(flow):
    flow = flow(**{"quality.failure_eval_share": 0.99})
    rows = asked(flow)
    flow.react(rows, "correction", text="said by who stays", subject="stays")
    flow.react(rows, "comment", text="said by who left", subject="left")
    mine_cases(flow.lake, flow.config)
    case = stored_cases(flow.lake, "triage")[0].case_id

    def said():
        return {one["text"] for one in show_case(flow.lake, flow.config, case)["origin"]["feedback"]}

    assert said() == {"said by who stays", "said by who left"}
    refuse(flow, rows[0], "left", "evaluation")
    assert said() == {"said by who stays"}
