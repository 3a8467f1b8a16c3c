"""What reads people's rows and stores something made of them keeps out of an erasure's way."""

import pytest

from flywheel.errors import LeaseHeldError
from flywheel.workflow.evaluations.casework import mine_cases
from flywheel.workflow.evaluations.judge_runs import calibrate, run
from flywheel.workflow.turns.lease import EVALUATING, only_one

READERS = {
    "mine": lambda flow: mine_cases(flow.lake, flow.config),
    "judge run": lambda flow: run(flow.config, candidate="v2"),
    "judge calibrate": lambda flow: calibrate(flow.config),
}


@pytest.mark.parametrize("name", READERS)
def test_while_an_erasure_holds_the_flow_nothing_is_mined_or_judged(flow, name):
    flow = flow()
    with only_one(flow.config, EVALUATING), pytest.raises(LeaseHeldError, match="Another evaluation"):
        READERS[name](flow)
