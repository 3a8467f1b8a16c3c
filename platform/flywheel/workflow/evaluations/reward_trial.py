"""No answer that reads no question may win by a reward model: it is tried before its word counts.

A candidate may be trained, on purpose or not, into whatever a reward model likes best, and the cheapest such answer
is one constant (Zheng et al. 2025, "Cheating Automatic LLM Benchmarks"). So constants are put to the checks of kind
``reward`` in the suites that decide: worthless ones, all frequent reference answers at once, and each frequent
reference answer in the place of all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from flywheel.errors import UsageError
from flywheel.evaluation.checks import Item, Scorers, mark_all
from flywheel.judging.attacks import CONSTANTS
from flywheel.records import EvalCase
from flywheel.text.answers import same_answer
from flywheel.text.hashing import stable_hash

CASES: Final = 200
"""Cases of one trial at the most, drawn by hash."""
FREQUENT: Final = 10
"""Reference answers that are tried as constants."""


def constant_wins(cases: Sequence[EvalCase], scorers: Scorers) -> dict[str, tuple[int, int]]:
    """Constant answer (a name, or the reference itself) -> cases it passes, and cases it was put to.

    A constant is not put to cases whose reference says the same: there it is right.
    """
    asked = sorted(
        (case for case in cases if case.check.kind == "reward"), key=lambda case: stable_hash("trial", case.case_id)
    )[:CASES]
    found: dict[str, tuple[int, int]] = {}
    for name, text in _constants(asked).items():
        items = [
            Item(case.messages, case.check, text) for case in asked if not same_answer(text, str(case.check.expected))
        ]
        if items:
            found[name] = sum(mark.passed for mark in mark_all(items, scorers)), len(items)
    return found


def refuse_constant_winners(cases: Sequence[EvalCase], scorers: Scorers, *, most: float) -> None:
    """Refuse a reward model by which one constant answer passes more than a share of the cases.

    Args:
        cases: of the suites that decide.
        scorers: with the one for checks of kind ``reward``, where there are such.
        most: the share.

    Raises:
        UsageError: names the reward model, the worst constant and what to do.
    """
    wins = constant_wins(cases, scorers)
    if not wins:
        return
    worst = max(wins, key=lambda name: (wins[name][0] / wins[name][1], name))
    hits, n = wins[worst]
    if hits > most * n:
        raise UsageError(
            f"By the reward model '{scorers.versions.get('reward')}' the constant answer '{worst[:80]}' passes {hits} "
            f"of {n} cases that expect something else (at most {most:.0%} may: judging.max_constant_wins), so nothing "
            "it says counts. Name a better one in evaluation.reward_model, or give those cases another check."
        )


def _constants(cases: Sequence[EvalCase]) -> Mapping[str, str]:
    references = Counter(str(case.check.expected) for case in cases if str(case.check.expected).strip())
    frequent = [text for text, _ in sorted(references.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]]
    everything = {"everything": "\n".join(frequent)} if frequent else {}
    return {**CONSTANTS, **everything, **{text: text for text in frequent}}
