"""A model that says the same to everybody wins nothing: the rule that every reward comparison asks first. Pure.

Reward models have favourites: some long, polite or vague text that they like beside nearly every prompt (Gao, Schulman,
Hilton, "Scaling laws for reward model overoptimization", ICML 2023). A model that has found one, and repeats it, would
win by rewards alone. So answers are looked at together: where most *different* prompts got one answer, up to words
taken over from the prompt, they are degenerate, unless the right answers are as uniform as that themselves (a flow
whose answer is "no" nine times of ten).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flywheel.records import Record
from flywheel.text.answers import answer_key, parse_object
from flywheel.text.hashing import stable_hash
from flywheel.text.minhash import near_duplicate_groups
from flywheel.text.normalise import normalise
from flywheel.text.words import words

MOST = 0.5
"""Share of different prompts that one answer may be given to."""
BEYOND_REFERENCE = 0.2
"""Where references are known: how much more uniform than they answers may be, above ``MOST``."""
MIN_PROMPTS = 8
"""With fewer different prompts nothing is said."""
ALIKE = 0.8
"""Jaccard index from which two texts are one answer."""
MAX_LOOKED_AT = 2_000
"""Prompts, drawn by hash: a share is known well enough from so many."""


class Sameness(Record):
    """How uniform answers are: the largest share of different prompts with one answer."""

    prompts: int
    share: float
    reference: float | None = None
    degenerate: bool

    @property
    def reason(self) -> str:
        """For a person who wonders why nothing was won."""
        usual = "" if self.reference is None else f" (the right answers: {self.reference:.0%})"
        return f"the same answer to {self.share:.0%} of {self.prompts} different prompts{usual}: it cannot win"


def sameness(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str] | None = None) -> Sameness:
    """Look at a model's answers together.

    Args:
        prompts: n texts that were asked; equal ones count once.
        answers: n answers of one model.
        references: n right answers, where they are known.
    """
    first: dict[str, int] = {}
    for index, prompt in enumerate(prompts):
        first.setdefault(normalise(prompt), index)
    chosen = list(first.values())
    if len(chosen) > MAX_LOOKED_AT:
        chosen = sorted(chosen, key=lambda index: (stable_hash(prompts[index]), index))[:MAX_LOOKED_AT]
    share = _largest([prompts[index] for index in chosen], [answers[index] for index in chosen])
    usual = None
    if references is not None:
        usual = _largest([prompts[index] for index in chosen], [references[index] for index in chosen])
    limit = MOST if usual is None else max(MOST, min(1.0, usual + BEYOND_REFERENCE))
    return Sameness(
        prompts=len(chosen), share=round(share, 4), reference=None if usual is None else round(usual, 4),
        degenerate=len(chosen) >= MIN_PROMPTS and share > limit,
    )  # fmt: skip


def _largest(prompts: Sequence[str], answers: Sequence[str]) -> float:
    """Share of the most frequent answer: equal as it is, alike, or alike without the prompt's own words."""
    if not answers:
        return 0.0
    plain = Counter(answer_key(answer) for answer in answers)
    if 2 * sum(parse_object(answer) is not None for answer in answers) > len(answers):
        return max(plain.values()) / len(answers)  # JSON of one form is alike in its keys: only values tell
    alike = Counter(near_duplicate_groups(answers, ALIKE))
    # What is nothing but the prompt's words is no frame but an extract: each is an answer of its own.
    frames = [_frame(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    framed = Counter(near_duplicate_groups([frame for frame in frames if frame], ALIKE))
    return max(max(counts.values(), default=0) for counts in (plain, alike, framed)) / len(answers)


def _frame(prompt: str, answer: str) -> str:
    asked = set(words(prompt))
    return " ".join(word for word in words(answer) if word not in asked)
