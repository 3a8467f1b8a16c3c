"""A process that runs an evaluation sweep with made-up answers and kills itself where it is told to."""

import os
import signal
import sys
from pathlib import Path

import small_evaluation
from small_evaluation import FakeAnswers

from flywheel.lake import commits
from flywheel.operate import evaluation_table
from flywheel.workflow.evaluations import evaluate


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Counted:
    """Dies at its n-th call, before or behind what it stands for."""

    def __init__(self, real, n, *, behind=False):
        self.real, self.left, self.behind = real, n, behind

    def __call__(self, *arguments, **named):
        self.left -= 1
        if self.left == 0 and not self.behind:
            die()
        result = self.real(*arguments, **named)
        if self.left == 0:
            die()
        return result


def main(home: Path, log: Path, out: Path, point: str) -> None:
    config = small_evaluation.settings(home)
    before = lambda: None  # noqa: E731
    if point == "between two blocks of a cell":
        before = Counted(before, 3)  # two blocks of its three are stored
    if point == "between two cells":
        evaluate.write_manifest = Counted(evaluate.write_manifest, 2, behind=True)
    if point == "during a commit":
        commits._commit = Counted(commits._commit, 2)  # the rows are written, and no version of the table has them
    if point == "behind the last commit of a cell":
        evaluate.write_manifest = Counted(evaluate.write_manifest, 3)
    if point == "before the table is written":
        evaluation_table.write_table = die
    grid = small_evaluation.grid(home.parent / "a", home.parent / "b")
    made = lambda lake, config: FakeAnswers(lake, config, log=log, before=before)  # noqa: E731
    result = evaluate.evaluate_grid(config, grid, answering=made)
    evaluation_table.write_table(result, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), sys.argv[4])
