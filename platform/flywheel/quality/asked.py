"""What a prompt asks, without what it asks it about: instructions, manuals and documents that many prompts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flywheel.quality.rows import prompt_text
from flywheel.records import Message
from flywheel.text.minhash import near_duplicate_groups

COMMON_SHARE, COMMON_LEAST = 0.05, 20
"""A line of more prompts than this share, and than so many, is no part of a question."""


def question_groups(prompts: Sequence[Sequence[Message]], threshold: float) -> list[int]:
    """Groups of near-duplicates (``text.minhash``) that ask the same; equal numbers are one group."""
    return asking_the_same(prompts, near_duplicate_groups(told(prompts), threshold), threshold)


def asking_the_same(prompts: Sequence[Sequence[Message]], groups: Sequence[int], threshold: float) -> list[int]:
    """Groups within ``groups``: a manual or a long conversation makes prompts near that ask different things."""
    sizes = Counter(groups)
    several = [place for place, group in enumerate(groups) if sizes[group] > 1]
    texts = questions(prompts)
    alike = dict(zip(several, near_duplicate_groups([texts[place] for place in several], threshold), strict=True))
    first: dict[tuple[int, int], int] = {}
    return [first.setdefault((group, alike.get(place, -1)), place) for place, group in enumerate(groups)]


def questions(prompts: Sequence[Sequence[Message]]) -> list[str]:
    """Of each prompt the last thing that the user said, and system messages, without lines that many prompts share.

    A prompt of such lines only is left as it is.
    """
    asked = [next((one.content for one in reversed(some) if one.role == "user"), "") for some in prompts]
    own = [_lines([*_system(messages), last]) for messages, last in zip(prompts, asked, strict=True)]
    return ["\n".join(rare or lines) for rare, lines in zip(_rare(own), own, strict=True)]


def told(prompts: Sequence[Sequence[Message]]) -> list[str]:
    """Of each prompt all turns, and what its system messages say that others' do not: a retrieved document, say."""
    own = _rare([_lines(_system(messages)) for messages in prompts])
    return ["\n".join([*lines, prompt_text(messages)]) for lines, messages in zip(own, prompts, strict=True)]


def _rare(prompts: Sequence[Sequence[str]]) -> list[list[str]]:
    seen = Counter(line for lines in prompts for line in set(lines))
    most = max(COMMON_LEAST, COMMON_SHARE * len(prompts))
    return [[line for line in lines if seen[line] <= most] for lines in prompts]


def _system(messages: Sequence[Message]) -> list[str]:
    return [one.content for one in messages if one.role == "system"]


def _lines(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in map(str.strip, text.splitlines()) if line]
