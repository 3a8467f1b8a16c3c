"""Does a text say what one of some other texts says? Exactly, nearly, or as a part of something longer.

``exact``   equal in the normal form
``near``    Jaccard index of character shingles at least ``NEAR``
``ngram``   at least ``SHARE`` of the other text's 8-word n-grams occur in it, wherever: the rule of PaLM (Chowdhery
            et al. 2022, section 8). One shared 13-gram, the rule of GPT-3 (Brown et al. 2020, appendix C), would
            find every two tasks that begin with the same instruction.

As in GPT-3's appendix, an n-gram of more than ``COMMON`` of the indexed texts counts for nothing: it is a template. A
text of fewer than eight words has no n-gram and is found exactly or nearly only: "where is my order" is part of
much that was not copied from it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from flywheel.records import Message
from flywheel.text.nearest import NearIndex
from flywheel.text.normalise import normalise
from flywheel.text.words import words

NGRAM: Final = 8
SHARE: Final = 0.7
NEAR: Final = 0.8
COMMON: Final = 10

OverlapKind = Literal["exact", "near", "ngram"]
_STRENGTH: Final[dict[OverlapKind, int]] = {"ngram": 0, "near": 1, "exact": 2}


class Overlap(NamedTuple):
    """How two texts overlap: 1.0 where exact, else the Jaccard index or the share of n-grams."""

    kind: OverlapKind
    score: float


class OverlapIndex:
    """Texts that others are compared with: indexed once, any number of others is looked up."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Index ``texts``; those without any letter are left out."""
        forms: defaultdict[str, list[str]] = defaultdict(list)
        for text in dict.fromkeys(texts):
            forms[normalise(text)].append(text)
        forms.pop("", None)
        self._forms = list(forms)
        self._texts = list(forms.values())
        self._place = {form: place for place, form in enumerate(self._forms)}
        self._near = NearIndex(self._forms, NEAR)
        self._grams, self._sizes = _index_grams(self._forms)

    def find(self, texts: Sequence[str]) -> list[dict[str, Overlap]]:
        """For each text: the indexed texts that it overlaps with, and how (the strongest kind)."""
        found: list[dict[str, Overlap]] = []
        for text, near in zip(texts, self._near.find(texts), strict=True):
            places = self._shared(text) | {place: Overlap("near", value) for place, value in near.items()}
            if (same := self._place.get(normalise(text))) is not None:
                places[same] = Overlap("exact", 1.0)
            found.append({known: overlap for place, overlap in places.items() for known in self._texts[place]})
        return found

    def _shared(self, text: str) -> dict[int, Overlap]:
        shared: Counter[int] = Counter()
        for gram in ngrams(text) & self._grams.keys():
            shared.update(self._grams[gram])
        shares = {place: count / self._sizes[place] for place, count in shared.items()}
        return {place: Overlap("ngram", share) for place, share in shares.items() if share >= SHARE}


def ngrams(text: str) -> set[str]:
    """The 8-word n-grams of a text; none where it has fewer words."""
    said = words(text)
    return {" ".join(said[start : start + NGRAM]) for start in range(len(said) - NGRAM + 1)}


def stronger(left: Overlap, right: Overlap) -> Overlap:
    """The one that says more: exact before near before n-grams, then by score."""
    return max(left, right, key=lambda overlap: (_STRENGTH[overlap.kind], overlap.score))


def conversation_texts(messages: Sequence[Message], answer: str | None = None) -> list[str]:
    """What of a conversation is compared: every turn of the user, all turns together, and these with the answer.

    System messages are the same for everyone and left out. A turn among several counts on its own only if it has
    an n-gram: "yes, please" belongs to nobody.
    """
    turns = [message.content for message in messages if message.role == "user"]
    own = turns if len(turns) == 1 else [turn for turn in turns if len(words(turn)) >= NGRAM]
    whole = "\n".join(message.content for message in messages if message.role != "system")
    texts = [*own, whole, *([] if answer is None else [f"{whole}\n{answer}"])]
    return [text for text in dict.fromkeys(texts) if text.strip()]


def _index_grams(texts: Sequence[str]) -> tuple[dict[str, list[int]], list[int]]:
    """n-gram -> places of the texts that have it, common ones left out; and how many are left of each text."""
    grams: defaultdict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        for gram in ngrams(text):
            grams[gram].append(place)
    rare = {gram: places for gram, places in grams.items() if len(places) <= COMMON}
    sizes = [0] * len(texts)
    for places in rare.values():
        for place in places:
            sizes[place] += 1
    return rare, sizes
