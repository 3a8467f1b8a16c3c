"""What can prefer one of two answers, and which of them may decide about a candidate. Pure.

Instruments come in as callables, from whoever knows reward models and judges. Two questions are kept apart: whether an
instrument *measures* (it is there and answers), and whether it *votes*. One that helped to make the candidate measures
what the candidate was made to please (Goodhart's law), so it is shown to people and has no vote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flywheel.records import Message, ShadowPair
from flywheel.rollout.gate.evidence import Lineage
from flywheel.text.hashing import unit_interval

Knows = Literal["form", "meaning"]


class Mirrored(NamedTuple):
    """One pair of answers with what was asked; both answers are there."""

    pair: ShadowPair
    messages: Sequence[Message]


Score = Callable[[Sequence[Mirrored]], Sequence[float | None]]
"""Differences in [-1, 1], candidate minus live, in order; None: not measured. Equal answers must give 0."""


@dataclass(frozen=True)
class Instrument:
    """One way to compare two answers."""

    name: str
    version: str
    """Changes with everything that shapes a score."""
    knows: Knows
    """form: whether an answer is fit to be shown; meaning: whether it is right. Only the latter can say no worse."""
    cost: Literal["free", "model", "judge"]
    score: Score | None
    """None: it cannot be used; ``absent`` says why, and what to do."""
    absent: str = ""
    learnt_from: frozenset[str] = frozenset()
    """Ids of labels and inferences that shaped it."""
    manifest: str | None = None
    """What it is in the lake, as kind/id."""
    helped: str = ""
    """Set: it helps to make every candidate here, and how."""
    share: float = 1.0
    """Of the pairs, drawn by hash; the others it is not asked about."""


class Voters(NamedTuple):
    """Names of the instruments that may decide, in order, and why the others may not."""

    names: list[str]
    silent: dict[str, str]


def voters(instruments: Sequence[Instrument], deciders: Sequence[str], lineage: Lineage | None) -> Voters:
    """Which instruments may decide about a candidate.

    Args:
        instruments: all there are.
        deciders: names that the configuration lets decide, the most important one first.
        lineage: what made the candidate; None: nobody knows, and then only rules that learnt from nothing may.
    """
    by_name = {one.name: one for one in instruments}
    names: list[str] = []
    silent: dict[str, str] = {one.name: "rollout.live.deciders does not name it" for one in instruments}
    for name in dict.fromkeys(deciders):
        one = by_name.get(name)
        why = "there is no such instrument" if one is None else _silenced(one, lineage)
        if why:
            silent[name] = why
        else:
            names.append(name)
            silent.pop(name, None)
    return Voters(names, silent)


def _silenced(one: Instrument, lineage: Lineage | None) -> str:
    if one.score is None:
        return one.absent or "it cannot be used here"
    if one.helped:
        return f"it helped to make the candidate ({one.helped})"
    learnt = bool(one.learnt_from) or one.manifest is not None
    if not learnt:
        return ""
    if lineage is None:
        return "it is not known what made the candidate, so this instrument may have helped"
    made = [maker for maker, manifests in sorted(lineage.sources.items()) if one.manifest in manifests]
    made += [maker for maker, ids in sorted(lineage.used.items()) if maker not in made and ids & one.learnt_from]
    return f"it helped to make the candidate ({', '.join(made)})" if made else ""


def measure(instruments: Sequence[Instrument], pairs: Sequence[Mirrored]) -> list[dict[str, float]]:
    """Scores by instrument for each pair; what was not measured is not there.

    Raises:
        ValueError: an instrument gave another number of scores than pairs, or one outside [-1, 1].
    """
    found: list[dict[str, float]] = [{} for _ in pairs]
    for one in instruments:
        if one.score is None:
            continue
        chosen = [place for place, pair in enumerate(pairs) if _drawn(one, pair.pair)]
        if chosen:
            scores = one.score([pairs[place] for place in chosen])
            _note(one, chosen, scores, found)
    return found


def _drawn(one: Instrument, pair: ShadowPair) -> bool:
    return one.share >= 1 or unit_interval(pair.inference_id, "instrument", one.name) < one.share


def _note(
    one: Instrument, places: Sequence[int], scores: Sequence[float | None], found: Sequence[dict[str, float]]
) -> None:
    if len(scores) != len(places):
        raise ValueError(f"instrument '{one.name}' gave {len(scores)} scores for {len(places)} pairs")
    for place, score in zip(places, scores, strict=True):
        if score is None:
            continue
        if not -1 <= score <= 1:
            raise ValueError(f"instrument '{one.name}' gave {score}; differences lie in [-1, 1]")
        found[place][one.name] = float(score)


def versions(instruments: Sequence[Instrument]) -> Mapping[str, str]:
    """What exactly measures, by name."""
    return {one.name: one.version for one in instruments if one.score is not None}
