"""What building candidates calls: feedback in, feedback that counts out, and every suspect row with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from flywheel.config import TrustConfig
from flywheel.quality.rows import Candidate, Drop
from flywheel.quality.trust.quarantine import Verdict, examine
from flywheel.quality.trust.statements import Statements, statements
from flywheel.records import Feedback, Inference, Record

QUARANTINED = "quarantined"
"""The reason of an answer whose only clear feedback is in quarantine."""
FOR_WANT_OF_FEEDBACK = frozenset({"no_feedback", "no_clear_feedback", "disliked_without_correction"})


class Suspect(Record):
    """One feedback row in quarantine. It stays in the lake, and nothing is built from it."""

    feedback_id: str
    inference_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Trusted:
    """Feedback that counts, what is in quarantine, and how reliable each rater is where others can tell."""

    feedback: list[Feedback]
    suspects: list[Suspect] = field(default_factory=list[Suspect])
    reliability: dict[str, float] = field(default_factory=dict[str, float])

    def rated(self, rows: Sequence[Candidate]) -> list[Candidate]:
        """The same candidates with their raters' reliability, where it is known."""
        known = self.reliability
        return [
            row.model_copy(update={"rater_reliability": known[row.rater]}) if row.rater in known else row
            for row in rows
        ]

    def explain(self, drops: Sequence[Drop]) -> list[Drop]:
        """The same drops; those for want of feedback say so when it was there and is in quarantine."""
        why: dict[str, Counter[str]] = {}
        for one in self.suspects:
            why.setdefault(one.inference_id, Counter())[f"{one.reason}: {one.detail}"] += 1
        return [
            Drop(inference_id=drop.inference_id, reason=QUARANTINED, detail=_first(why[drop.inference_id]))
            if drop.reason in FOR_WANT_OF_FEEDBACK and drop.inference_id in why
            else drop
            for drop in drops
        ]


def trusted(
    inferences: Sequence[Inference], feedback: Sequence[Feedback], config: TrustConfig, *, consented: Collection[str]
) -> Trusted:
    """Judge the feedback on consented answers; other feedback passes as it is (nothing is built from it).

    What else a rater did on an answer (dwell, a comment) goes where all their votes about it go.
    """
    if not config.enabled:
        return Trusted(list(feedback))
    known = {row.inference_id: row for row in inferences if row.inference_id in consented and not row.ranking}
    said = statements(known, feedback, same_prompt=config.same_prompt, same_text=config.same_text)
    verdict = examine(said, config)
    suspects = _suspects(feedback, said, verdict)
    gone = {one.feedback_id for one in suspects}
    return Trusted([row for row in feedback if row.feedback_id not in gone], suspects, verdict.reliability)


def _suspects(feedback: Sequence[Feedback], said: Statements, verdict: Verdict) -> list[Suspect]:
    """The suspect votes, and what else their raters did on answers where all their votes are suspect."""
    votes = {
        row: (reason, detail)
        for row, reason, detail in zip(said.row.tolist(), verdict.reasons, verdict.details, strict=True)
    }
    pairs = [(feedback[row].inference_id, feedback[row].subject) for row in votes]
    accepted = {pair for pair, (reason, _) in zip(pairs, votes.values(), strict=True) if not reason}
    whole = {pair: why for pair, why in zip(pairs, votes.values(), strict=True) if pair not in accepted}
    named = [
        votes.get(index) or whole.get((row.inference_id, row.subject), ("", "")) for index, row in enumerate(feedback)
    ]
    return [
        Suspect(feedback_id=row.feedback_id, inference_id=row.inference_id, reason=reason, detail=detail)
        for row, (reason, detail) in zip(feedback, named, strict=True)
        if reason
    ]


def _first(reasons: Counter[str]) -> str:
    return min(reasons, key=lambda reason: (-reasons[reason], reason))
