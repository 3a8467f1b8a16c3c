"""Judges: what every judge can do, a language model as one, and a scorer (such as a reward model) as one.

A comparison is asked in both orders. The verdict is what both orders say; where they contradict each other the
judge prefers a place and not an answer, and abstains (Zheng et al. 2023, "Judging LLM-as-a-Judge", section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from flywheel.errors import EngineError, UsageError
from flywheel.inference.generate import REFUSED, Completion
from flywheel.judging import prompts
from flywheel.lake.manifests import content_id
from flywheel.records import Message, Purpose

Side = Literal["left", "right", "tie", "invalid"]
Verdict = Literal["left", "right", "tie", "abstain"]
Notify = Callable[[int, int], None]
"""Called with (done, total) questions."""

EVALUATION: frozenset[Purpose] = frozenset({"evaluation"})
_FORM = "the judge replied in another form than asked for"


@dataclass(frozen=True)
class Pair:
    """Two answers to the same messages.

    Attributes:
        item_id: the inference or case that both belong to.
        messages: what was asked.
        left: one answer.
        right: the other.
        left_version: what gave the left one; judges never see it.
        right_version: what gave the right one.
        subject: keyed pseudonym of who asked, if anybody did.
        purposes: what the row behind it may be used for now; rows that come from nobody allow all.
    """

    item_id: str
    messages: Sequence[Message]
    left: str
    right: str
    left_version: str
    right_version: str
    subject: str | None = None
    purposes: frozenset[Purpose] = EVALUATION


@dataclass(frozen=True)
class Opinion:
    """What a judge said in each order. ``failed``: it could not be asked, so asking again may help."""

    forward: Side
    backward: Side
    error: str | None = None
    failed: bool = False

    @property
    def verdict(self) -> Verdict:
        """What both orders say; a win in one order and a tie in the other are a tie."""
        orders = {self.forward, self.backward}
        if "invalid" in orders or orders == {"left", "right"}:
            return "abstain"
        return "tie" if "tie" in orders else self.forward  # type: ignore[return-value]


@dataclass(frozen=True)
class Answer:
    """One answer to be marked by a criterion (None: the judge's own)."""

    messages: Sequence[Message]
    text: str
    criterion: str | None = None


@dataclass(frozen=True)
class Score:
    """A mark in [0, 1], or why there is none. ``failed``: the judge could not be asked."""

    value: float | None
    error: str | None = None
    failed: bool = False


class Judge(Protocol):
    """What compares and marks."""

    @property
    def version(self) -> str:
        """Changes with the model, the prompt and every setting that shapes a verdict."""
        ...

    @property
    def needs(self) -> frozenset[Purpose]:
        """Purposes that people must agree to before this judge sees their rows."""
        ...

    @property
    def reported(self) -> list[str]:
        """Names by which the model behind it called itself so far; a change of them is drift."""
        ...

    def compare(self, pairs: Sequence[Pair], on_progress: Notify | None = None) -> list[Opinion]:
        """One opinion a pair, in order."""
        ...

    def score(self, answers: Sequence[Answer], on_progress: Notify | None = None) -> list[Score]:
        """One mark an answer, in order."""
        ...


class Ask(Protocol):
    """What carries prompts to a language model and brings its replies, one a prompt, in order."""

    @property
    def reported(self) -> list[str]:
        """Names by which the model called itself so far."""
        ...

    def __call__(
        self, asked: Sequence[Sequence[Message]], schema: Mapping[str, Any], on_progress: Notify | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order."""
        ...


def judge_version(model: Mapping[str, Any], criterion: str) -> str:
    """Content id of a language model as a judge: the model and its settings, the prompts, and the criterion."""
    schemas = (prompts.CHOICE_SCHEMA, prompts.SCORE_SCHEMA)
    return content_id("judge", model, prompts.COMPARE, prompts.MARK, schemas, criterion)


@dataclass(frozen=True)
class LanguageJudge:
    """A language model that is asked with ``prompts``."""

    version: str
    ask: Ask
    criterion: str
    needs: frozenset[Purpose] = EVALUATION

    @property
    def reported(self) -> list[str]:
        """See ``Judge``."""
        return self.ask.reported

    def compare(self, pairs: Sequence[Pair], on_progress: Notify | None = None) -> list[Opinion]:
        """Two questions a pair, one an order."""
        forward = [prompts.ask_better(pair.messages, pair.left, pair.right, self.criterion) for pair in pairs]
        backward = [prompts.ask_better(pair.messages, pair.right, pair.left, self.criterion) for pair in pairs]
        replies = self.ask([*forward, *backward], prompts.CHOICE_SCHEMA, on_progress)
        return [_opinion(*orders) for orders in zip(replies[: len(pairs)], replies[len(pairs) :], strict=True)]

    def score(self, answers: Sequence[Answer], on_progress: Notify | None = None) -> list[Score]:
        """One question an answer."""
        asked = [prompts.ask_score(item.messages, item.text, item.criterion or self.criterion) for item in answers]
        return [_score(reply) for reply in self.ask(asked, prompts.SCORE_SCHEMA, on_progress)]


Scorer = Callable[[Sequence[Message], Sequence[str]], Sequence[float]]
"""(messages, answers) -> one number an answer, higher is better: a reward model, a classifier."""


@dataclass(frozen=True)
class ScorerJudge:
    """A scorer as a judge: the higher score wins if it is higher by more than ``margin``.

    Use as a marking judge needs scores in [0, 1].
    """

    version: str
    scorer: Scorer
    margin: float = 0.0
    needs: frozenset[Purpose] = EVALUATION
    reported: list[str] = field(default_factory=list[str])

    def compare(self, pairs: Sequence[Pair], on_progress: Notify | None = None) -> list[Opinion]:
        """Both orders are put to the scorer, for one that reads its answers together may mind the order."""
        opinions = []
        for done, pair in enumerate(pairs, start=1):
            left, right = self.scorer(pair.messages, [pair.left, pair.right])
            swapped_right, swapped_left = self.scorer(pair.messages, [pair.right, pair.left])
            opinions.append(Opinion(self._side(left, right), self._side(swapped_left, swapped_right)))
            if on_progress:
                on_progress(done, len(pairs))
        return opinions

    def score(self, answers: Sequence[Answer], on_progress: Notify | None = None) -> list[Score]:
        """The scorer's number for each answer alone."""
        del on_progress
        return [Score(float(self.scorer(item.messages, [item.text])[0])) for item in answers]

    def _side(self, left: float, right: float) -> Side:
        if abs(left - right) <= self.margin:
            return "tie"
        return "left" if left > right else "right"


@dataclass(frozen=True)
class ByMarks:
    """A marking judge as one that compares: each answer is marked alone, the higher mark wins; an invalid one is 0.

    It has no order of answers, so both orders say the same. Its attacks are then those of a comparing judge.
    """

    judge: Judge

    @property
    def version(self) -> str:
        """That of the judge."""
        return self.judge.version

    @property
    def needs(self) -> frozenset[Purpose]:
        """Those of the judge."""
        return self.judge.needs

    @property
    def reported(self) -> list[str]:
        """Those of the judge."""
        return self.judge.reported

    def compare(self, pairs: Sequence[Pair], on_progress: Notify | None = None) -> list[Opinion]:
        """All answers are marked in one go."""
        answers = [Answer(pair.messages, text) for pair in pairs for text in (pair.left, pair.right)]
        marks = self.judge.score(answers, on_progress)
        return [self._opinion(left, right) for left, right in zip(marks[::2], marks[1::2], strict=True)]

    def score(self, answers: Sequence[Answer], on_progress: Notify | None = None) -> list[Score]:
        """The judge's own marks."""
        return self.judge.score(answers, on_progress)

    def _opinion(self, left: Score, right: Score) -> Opinion:
        failed = next((mark.error for mark in (left, right) if mark.failed), None)
        if failed is not None:
            return Opinion("invalid", "invalid", failed, failed=True)
        gap = (left.value or 0.0) - (right.value or 0.0)
        side: Side = "tie" if gap == 0 else "left" if gap > 0 else "right"
        return Opinion(side, side)


def as_check(judge: Judge) -> Callable[[Sequence[Answer]], list[float]]:
    """Answers -> their scores in [0, 1], for checks of kind ``judge``. A reply that is none: 0.

    Raises:
        UsageError: the judge stands outside the cluster, and a check does not know what people agreed to.
        EngineError: (the check itself) the judge could not be asked.
    """
    refuse_outside(judge.needs)

    def check(answers: Sequence[Answer]) -> list[float]:
        return [_usable(mark) for mark in judge.score(answers)]

    return check


def refuse_outside(needs: Collection[Purpose]) -> None:
    """Refuse a judge outside the cluster as a check.

    Raises:
        UsageError: it stands outside.
    """
    if "third_party" in needs:
        raise UsageError(
            "a judge outside the cluster cannot be a check, because a check does not know who agreed to third parties; "
            "use `flywheel judge run`, or a judge of your own"
        )


def _usable(mark: Score) -> float:
    if mark.failed:
        raise EngineError(f"the judge could not be asked: {mark.error}; look at its log, then run this again")
    return mark.value or 0.0


def _opinion(forward: Completion, backward: Completion) -> Opinion:
    errors = [reply.error for reply in (forward, backward) if reply.error]
    sides: list[Side] = [_side(forward, "left", "right"), _side(backward, "right", "left")]
    if not errors and "invalid" in sides:
        errors = [_FORM]
    return Opinion(sides[0], sides[1], errors[0] if errors else None, any(map(_may_pass_later, errors)))


def _side(reply: Completion, first: Side, second: Side) -> Side:
    shown: dict[prompts.Choice, Side] = {"A": first, "B": second, "tie": "tie", "invalid": "invalid"}
    return "invalid" if reply.error else shown[prompts.read_choice(reply.text)]


def _score(reply: Completion) -> Score:
    if reply.error:
        return Score(None, reply.error, _may_pass_later(reply.error))
    value = prompts.read_score(reply.text)
    return Score(value, None if value is not None else _FORM)


def _may_pass_later(error: str) -> bool:
    """What was refused (too long, say) will be refused again; other errors are the machine's."""
    return error != _FORM and not error.startswith(REFUSED)
