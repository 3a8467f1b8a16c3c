"""Inferences and feedback -> candidate rows. Pure: no lake, no Ray.

A row's target is a user's correction, else the served answer where people liked it. One inference
gives at most one candidate; every inference that gives none leaves a ``Drop`` with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from flywheel.quality.follow_ups import next_messages
from flywheel.quality.rows import SCORED, Candidate, Drop, Evidence, Exclusions
from flywheel.records import Feedback, Inference
from flywheel.text.answers import answer_key, same_answer

UNUSABLE_FINISH = frozenset({"error", "interrupted", "client_disconnect"})
LATEST_COUNTS = frozenset({"thumbs", "rating", "correction"})
"""Kinds in which a person states an opinion: only the last statement of each person counts."""
READ_SHARE = 0.5
"""A completion event that names a smaller share says that the answer was left, not that it was used."""


def build_candidates(
    inferences: Sequence[Inference],
    feedback: Sequence[Feedback],
    *,
    consented: Collection[str],
    excluded: Exclusions,
) -> tuple[list[Candidate], list[Drop]]:
    """Join and decide, in the order of the inference ids.

    Args:
        inferences: answered requests; shadow traffic is ignored by the caller's read.
        feedback: reactions, in any order; those to unknown inferences are ignored.
        consented: ids whose subjects allow training now.
        excluded: what labels and evaluation hold back.

    Returns:
        Candidates (rows held out for tuning included and marked) and one drop for every other inference.
    """
    by_inference = opinions(feedback)
    asked_next = next_messages(inferences, consented)
    candidates: list[Candidate] = []
    drops: list[Drop] = []
    for inference in sorted(inferences, key=lambda row: row.inference_id):
        made = _one(inference, by_inference.get(inference.inference_id, []), consented, excluded)
        if isinstance(made, Candidate) and (said := asked_next.get(made.inference_id)) is not None:
            made = made.model_copy(update={"evidence": made.evidence.model_copy(update={"next_message": said})})
        (candidates if isinstance(made, Candidate) else drops).append(made)  # type: ignore[arg-type]
    return candidates, drops


def opinions(feedback: Sequence[Feedback]) -> Mapping[str, list[Feedback]]:
    """Reactions by inference, by time; of the kinds in ``LATEST_COUNTS`` only each person's last word."""
    grouped: dict[str, list[Feedback]] = defaultdict(list)
    last: dict[tuple[str, str, str, int | None], Feedback] = {}
    for row in sorted(feedback, key=lambda item: (item.ts, item.feedback_id)):
        if row.kind in LATEST_COUNTS:
            choice = (
                None if row.kind == "correction" else row.choice_index
            )  # of several, each has an opinion of its own
            last[row.inference_id, row.subject, row.kind, choice] = row
        else:
            grouped[row.inference_id].append(row)
    for row in last.values():
        grouped[row.inference_id].append(row)
    return grouped


def aggregate(events: Iterable[Feedback]) -> Evidence:
    """Counts and means over the events of one inference; opinions are already the last of each person."""
    rows = list(events)
    kinds = Counter(row.kind for row in rows)
    thumbs = [row.value or 0 for row in rows if row.kind == "thumbs"]
    ratings = [row.value for row in rows if row.kind == "rating" and row.value is not None]
    dwells = [row.value for row in rows if row.kind == "dwell" and row.value is not None]
    compared = Counter(row.value for row in rows if row.kind == "comparison")
    shares = [row.value for row in rows if row.kind == "completion" and row.value is not None]
    return Evidence(
        up=sum(value > 0 for value in thumbs),
        down=sum(value < 0 for value in thumbs),
        rating=sum(ratings) / len(ratings) if ratings else None,
        copies=kinds["copy"],
        clicks=kinds["click"],
        completions=sum(map(_used, rows)),
        abandons=kinds["abandon"],
        reprompts=kinds["reprompt"],
        dwell_ms=max(dwells, default=None),
        won=compared[1.0],
        lost=compared[-1.0],
        tied=compared[0.0],
        comments=[row.text for row in rows if row.kind == "comment" and (row.text or "").strip()],  # type: ignore[misc]
        completed_share=sum(shares) / len(shares) if shares else None,
    )


def explicit_score(evidence: Evidence) -> float | None:
    """What people said in so many words, in [-1, 1]; None where nobody said anything."""
    votes = [1.0] * evidence.up + [-1.0] * evidence.down
    if evidence.rating is not None:
        votes.append((evidence.rating - 3) / 2)
    return sum(votes) / len(votes) if votes else None


def liked(evidence: Evidence) -> bool:
    """Said to be good; where nobody said anything, used (copied or completed) and not asked again."""
    score = explicit_score(evidence)
    if score is not None:
        return score > 0
    return evidence.copies + evidence.completions > 0 and evidence.reprompts + evidence.abandons == 0


def _one(
    inference: Inference, events: list[Feedback], consented: Collection[str], excluded: Exclusions
) -> Candidate | Drop:
    def drop(reason: str, detail: str | None = None) -> Drop:
        return Drop(inference_id=inference.inference_id, reason=reason, detail=detail)

    if inference.inference_id not in consented:
        return drop("no_training_consent")
    if inference.ranking:
        return drop("ranked_list")  # its items are learnt from by rankers, not by the model that answers
    if not (0 <= inference.choice_served < len(inference.choices)) or inference.finish_reason in UNUSABLE_FINISH:
        return drop("no_answer", inference.finish_reason)
    if form := _untrainable_form(inference):
        return drop("unsupported_form", form)
    reason = excluded.reason(inference.inference_id, inference.subject)
    if reason is not None and reason not in SCORED:
        return drop("held_out", reason)
    if reason is None:  # rows that are held out to be scored are scored by all that was said
        events = [row for row in events if excluded.teaches(row.subject)]
    served = inference.choice_served
    events = [row for row in events if row.kind == "correction" or inference.rated_choice(row.choice_index) == served]
    return _target(inference, events, reason) or drop(*_why_not(inference, events))


def _untrainable_form(inference: Inference) -> str | None:
    """Examples are text in a chat template: neither tool calls nor raw completions can be learnt from them truly."""
    if inference.api == "completion":
        return "completion"
    used = any(inference.tool_calls) or any(row.tool_calls or row.role == "tool" for row in inference.messages)
    return "tool_calls" if used else None


def _target(inference: Inference, events: list[Feedback], held_out: str | None) -> Candidate | None:
    answer = inference.choices[inference.choice_served]
    evidence = aggregate(events)
    taught = inference.traffic_kind == "taught"
    correction = _majority([row for row in events if row.kind == "correction" and (row.text or "").strip()])
    if taught and answer.strip():
        target, origin, rater = answer, "taught", inference.subject
    elif correction is not None and not same_answer(correction.text or "", answer):
        target, origin, rater = (correction.text or "").strip(), "correction", correction.subject
    elif (correction is not None or liked(evidence)) and answer.strip() and inference.finish_reason != "length":
        target, origin, rater = answer, "liked", _liker(events, inference.subject)
    else:
        return None
    return Candidate(
        inference_id=inference.inference_id, flow=inference.flow, tenant=inference.tenant, subject=inference.subject,
        rater=rater, ts=inference.ts, messages=inference.messages, answer=answer, target=target, origin=origin,
        evidence=evidence, held_out=held_out,
    )  # fmt: skip


def _why_not(inference: Inference, events: list[Feedback]) -> tuple[str, str | None]:
    if not events:
        return "no_feedback", None
    if inference.finish_reason == "length" and liked(aggregate(events)):
        return "truncated_answer", None
    score = explicit_score(aggregate(events))
    return ("disliked_without_correction" if score is not None and score < 0 else "no_clear_feedback"), None


def _majority(corrections: list[Feedback]) -> Feedback | None:
    """The correction most people gave; ties go to the latest."""
    if not corrections:
        return None
    votes = Counter(answer_key(row.text or "") for row in corrections)
    return max(corrections, key=lambda row: (votes[answer_key(row.text or "")], row.ts, row.feedback_id))


def _liker(events: list[Feedback], default: str) -> str:
    praise = [row.subject for row in events if _praises(row)]
    return praise[-1] if praise else default


def _praises(row: Feedback) -> bool:
    if row.kind in ("thumbs", "rating"):
        return row.value is not None and row.value > (3 if row.kind == "rating" else 0)
    return row.kind in ("copy", "correction") or _used(row)


def _used(row: Feedback) -> bool:
    return row.kind == "completion" and (row.value is None or row.value >= READ_SHARE)
