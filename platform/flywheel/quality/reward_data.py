"""What people preferred: comparisons and thumbs -> pairs, soft where people disagree. Pure.

A comparison says which of two answers to one prompt is better; votes on the same two answers are counted together, a
tie as half a vote for each. Of thumbs, two uses: an answer with more up than down against one with more down than up
*to the same prompt* is a pair like any other, free of how hard the prompt is. A thumb without such a counterpart
compares with nothing; for those who want it (``thumbs: outside``) it becomes a choice between the answer and an
*outside option* of reward 0 (McFadden, "Conditional logit analysis of qualitative choice behavior", 1974): P(up) =
sigmoid(r), so the head's bias is the threshold that KTO takes from a reference model. That mixes the mood of a prompt
into the reward of its answer, which is why it is not the default. Corrections are candidates already (``pairs``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Literal

from pydantic import Field

from flywheel.quality.candidates import opinions
from flywheel.quality.dedup import near_evaluation
from flywheel.quality.rows import Candidate, Exclusions
from flywheel.records import Feedback, Inference, Message, Record
from flywheel.text.answers import answer_key, parse_object
from flywheel.text.hashing import stable_hash
from flywheel.text.language import language_of

Kind = Literal["comparison", "thumbs", "correction", "contrast"]
Key = tuple[str, str, str]
"""Prompt, and the keys of two answers in the order of their text."""

MOST_PAIRS = 16
"""Of one prompt, however often it was asked: drawn by hash, so that no greeting outweighs everything else."""
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LENGTHS = ((80, "short"), (400, "medium"))
"""Characters of the question below which it counts as short or medium; evaluation cuts there too."""


class Preference(Record):
    """One pair of answers to one prompt, with the votes on it. None stands for the outside option."""

    inference_id: str
    other_id: str | None = Field(default=None, description="where the rejected answer was given, if elsewhere")
    raters: list[str]
    messages: list[Message]
    chosen: str | None
    rejected: str | None
    share: float = Field(default=1.0, ge=0.5, le=1, description="votes for the chosen one, ties half")
    votes: int = Field(default=1, ge=1)
    kind: Kind
    slices: dict[str, str] = Field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        """Every inference it comes from."""
        return [self.inference_id, *([self.other_id] if self.other_id else [])]


class Gathered(Record):
    """The pairs, and the reactions that gave none, with the reason."""

    preferences: list[Preference]
    dropped: dict[str, int] = Field(default_factory=dict)
    unused: list[tuple[str, str]] = Field(
        default_factory=list, description="(inference id, reason) of each of them, so that they can be looked at"
    )


def gather(
    inferences: Sequence[Inference],
    feedback: Sequence[Feedback],
    *,
    consented: Collection[str],
    excluded: Exclusions,
    thumbs: Literal["off", "pairs", "outside"] = "pairs",
) -> Gathered:
    """Pairs from comparisons and thumbs, in the order of the inference ids.

    Args:
        inferences: answered requests.
        feedback: reactions, in any order.
        consented: ids whose subjects allow training now.
        excluded: what labels and evaluation hold back. Rows held out for tuning give no pairs either.
        thumbs: what to make of thumbs.
    """
    unused: list[tuple[str, str]] = []
    reactions = opinions([row for row in feedback if excluded.teaches(row.subject)])
    allowed: dict[str, Inference] = {}
    for row in sorted(inferences, key=lambda one: one.inference_id):
        said = [one for one in reactions.get(row.inference_id, []) if one.kind in ("comparison", "thumbs")]
        reason = _refused(row, consented, excluded)
        if reason is None:
            allowed[row.inference_id] = row
        else:
            unused += [(row.inference_id, reason)] * len(said)
    pairs, rest = _comparisons(allowed, reactions)
    unused += rest
    if thumbs != "off":
        liked, rest = _thumbs(allowed, reactions, outside=thumbs == "outside")
        pairs, unused = pairs + liked, unused + rest
    pairs.sort(key=lambda one: (one.inference_id, one.kind, one.chosen or "", one.rejected or ""))
    return Gathered(preferences=pairs, dropped=dict(Counter(reason for _, reason in unused)), unused=sorted(unused))


def apart(found: Gathered, texts: Sequence[str], decisive: Sequence[str]) -> Gathered:
    """Without pairs whose prompts overlap with a text of ``texts``: what judges is never learnt from."""
    rows = [
        Candidate(inference_id=str(place), flow="", subject="", rater="", ts=_NO_TIME, messages=one.messages, answer="",
                  target="", origin="liked")
        for place, one in enumerate(found.preferences)
    ]  # fmt: skip
    near = near_evaluation(rows, texts, decisive)
    unused = [
        (one.inference_id, "near_evaluation") for place, one in enumerate(found.preferences) if str(place) in near
    ]
    kept = [one for place, one in enumerate(found.preferences) if str(place) not in near]
    reasons = Counter(reason for _, reason in [*found.unused, *unused])
    return Gathered(preferences=kept, dropped=dict(reasons), unused=sorted([*found.unused, *unused]))


def slices_of(messages: Sequence[Message], tenant: str = "default", target: str = "") -> dict[str, str]:
    """The groups that a pair is reported under: length and language of the question, tenant, intent."""
    asked = next((message.content for message in reversed(messages) if message.role == "user"), "")
    found = {"tenant": tenant, "length": next((name for most, name in LENGTHS if len(asked) < most), "long")}
    if language := language_of(asked):
        found["language"] = language
    if intent := _intent(target):
        found["intent"] = intent
    return found


def prompt_key(messages: Sequence[Message]) -> str:
    """Identity of a conversation: who said what, as it was said."""
    return "\x1e".join(f"{message.role}\x1f{message.content.strip()}" for message in messages)


def _intent(target: str) -> str | None:
    fields = parse_object(target) or {}
    return next((str(fields[name]) for name in ("intent", "label", "category", "class") if name in fields), None)


def _refused(row: Inference, consented: Collection[str], excluded: Exclusions) -> str | None:
    if row.inference_id not in consented:
        return "no_training_consent"
    if row.ranking or any(row.tool_calls) or row.api == "completion":
        return "unsupported_form"
    return "held_out" if excluded.reason(row.inference_id, row.subject) is not None else None


def _comparisons(
    rows: Mapping[str, Inference], reactions: Mapping[str, list[Feedback]]
) -> tuple[list[Preference], list[tuple[str, str]]]:
    """The last word of each person on each two answers, counted."""
    last: dict[tuple[str, str, Key], tuple[Inference, str, str, float, str]] = {}
    unused: list[tuple[str, str]] = []
    for name, row in rows.items():
        for said in reactions.get(name, []):
            if said.kind != "comparison":
                continue
            two = _compared(row, said)
            if isinstance(two, str):
                unused.append((name, two))
                continue
            mine, other = two
            key = _key(row, mine, other)
            last[name, said.subject, key] = (row, mine, other, said.value or 0.0, said.subject)
    votes: dict[Key, list[tuple[Inference, str, str, float, str]]] = defaultdict(list)
    for (_, _, key), one in last.items():
        votes[key].append(one)
    return [_counted(some) for some in votes.values()], unused


def _compared(row: Inference, said: Feedback) -> tuple[str, str] | str:
    """The answer that was judged and the other one, or why that cannot be told."""
    mine = row.rated_choice(said.choice_index)
    if not 0 <= mine < len(row.choices):
        return "comparison_of_no_answer"
    others = [text for index, text in enumerate(row.choices) if index != mine]
    other = (said.text or "").strip() or (others[0] if len(others) == 1 else "")
    if not other:
        return "comparison_without_other"  # of three and more, which one it was compared with has to be said
    if answer_key(other) == answer_key(row.choices[mine]):
        return "comparison_of_equals"
    return row.choices[mine], other


def _counted(votes: list[tuple[Inference, str, str, float, str]]) -> Preference:
    row, mine, other, _, _ = votes[0]
    share = sum((1 + (value if answer_key(one) == answer_key(mine) else -value)) / 2 for _, one, _, value, _ in votes)
    share /= len(votes)
    chosen, rejected = (mine, other) if share >= 0.5 else (other, mine)
    return Preference(
        inference_id=row.inference_id, raters=sorted({row.subject, *(who for *_, who in votes)}), messages=row.messages,
        chosen=chosen, rejected=rejected, share=max(share, 1 - share), votes=len(votes), kind="comparison",
        slices=slices_of(row.messages, row.tenant, chosen),
    )  # fmt: skip


def _key(row: Inference, left: str, right: str) -> Key:
    low, high = sorted((answer_key(left), answer_key(right)))
    return prompt_key(row.messages), low, high


def _thumbs(
    rows: Mapping[str, Inference], reactions: Mapping[str, list[Feedback]], *, outside: bool
) -> tuple[list[Preference], list[tuple[str, str]]]:
    """Every liked answer against every disliked one to the same prompt; the rest against the outside option."""
    balance: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    said_by: dict[tuple[str, str], tuple[Inference, str, set[str]]] = {}
    for name, row in rows.items():
        for said in reactions.get(name, []):
            place = row.rated_choice(said.choice_index)
            if said.kind == "thumbs" and 0 <= place < len(row.choices) and row.choices[place].strip():
                prompt, answer = prompt_key(row.messages), answer_key(row.choices[place])
                balance[prompt][answer] += said.value or 0.0
                said_by.setdefault((prompt, answer), (row, row.choices[place], {row.subject}))[2].add(said.subject)
    made: list[Preference] = []
    unused: list[tuple[str, str]] = []
    for prompt, answers in balance.items():
        up = [said_by[prompt, answer] for answer, sum_ in answers.items() if sum_ > 0]
        down = [said_by[prompt, answer] for answer, sum_ in answers.items() if sum_ < 0]
        two = sorted(product(up, down), key=lambda both: stable_hash(both[0][1], both[1][1]))
        made += [_thumbed(good[0], good[1], bad[1], good[2] | bad[2], bad[0]) for good, bad in two[:MOST_PAIRS]]
        unused += [(good[0].inference_id, "over_pairs_of_a_prompt") for good, _ in two[MOST_PAIRS:]]
        if two:
            continue
        if outside:
            made += [_thumbed(row, text, None, who) for row, text, who in up]
            made += [_thumbed(row, None, text, who) for row, text, who in down]
        else:
            unused += [(row.inference_id, "thumbs_without_counterpart") for row, _, _ in [*up, *down]]
    return made, unused


def _thumbed(
    row: Inference, chosen: str | None, rejected: str | None, who: set[str], other: Inference | None = None
) -> Preference:
    elsewhere = other.inference_id if other is not None and other.inference_id != row.inference_id else None
    return Preference(
        inference_id=row.inference_id, other_id=elsewhere, raters=sorted(who), messages=row.messages, chosen=chosen,
        rejected=rejected, kind="thumbs", slices=slices_of(row.messages, row.tenant, chosen or rejected or ""),
    )  # fmt: skip
