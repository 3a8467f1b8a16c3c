"""The simulated product: customer messages about devices and their right triage.

A message is a sentence frame (a *template*) filled with the wording of an intent, a product's name and
a cue of urgency, plus greetings, details and typos. The templates come in two disjoint sets, ``training``
and ``evaluation``; the wordings that fill them are the product's vocabulary and are shared, so a model
that learnt the vocabulary generalises, and one that learnt whole sentences does not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from flywheel.demo.fillers import FILLERS
from flywheel.records import Check, EvalCase, Example, Message

TemplateSet = Literal["training", "evaluation"]
Urgency = Literal["low", "normal", "high"]

FLOW = "triage"
OLD_SUITE = "old-intents"
TYPO_RATE = 0.02
"""Chance of a typo in a word of five letters or more."""
PRETRAINING_SCRAMBLE = 0.8
"""Most that is scrambled of a template in a pretraining message."""
CLEAN_SHARE = 0.4
"""Share of pretraining messages that are not scrambled at all."""


@cache
def vocabulary() -> dict[str, Any]:
    """Intents, products, cues and templates, from ``data/triage.json``."""
    return json.loads((resources.files("flywheel.demo") / "data" / "triage.json").read_text())


def intents(age: Literal["old", "new"]) -> tuple[str, ...]:
    """Names of the intents the live model was trained on (``old``), or not (``new``)."""
    return tuple(vocabulary()["intents"][age])


def products(age: Literal["old", "new"]) -> tuple[str, ...]:
    """Names of the products the live model was trained on (``old``), or not (``new``)."""
    return tuple(vocabulary()["products"][age])


def render(intent: str, product: str, urgency: str) -> str:
    """The answer as compact JSON."""
    return json.dumps({"intent": intent, "product": product, "urgency": urgency}, separators=(",", ":"))


@dataclass(frozen=True)
class Ticket:
    """One customer message with its truth, which only the simulation knows."""

    text: str
    intent: str
    product: str
    urgency: Urgency
    is_new: bool
    templates: TemplateSet

    @property
    def answer(self) -> str:
        """The right answer, compact JSON."""
        return render(self.intent, self.product, self.urgency)

    @property
    def messages(self) -> list[Message]:
        """The conversation as the product sends it."""
        return [Message(role="user", content=self.text)]


class Generator:
    """Seeded source of tickets: the same seed and arguments give the same tickets.

    Args:
        seed: of the random stream.
        templates: which of the two disjoint template sets to use.
        new_share: share of tickets with a new intent or a new product, 0 to 1.
        scramble: share of a template's own words that are replaced by made-up ones or left out, so that a model
            trained on the result reads the vocabulary and not the template. Only pretraining uses it.
    """

    def __init__(
        self, seed: int, *, templates: TemplateSet = "training", new_share: float = 0.4, scramble: float = 0.0
    ) -> None:
        self._rng = random.Random(f"{seed}/{templates}")
        self._templates: TemplateSet = templates
        self._new_share = new_share
        self._scramble = scramble

    def ticket(self, templates: TemplateSet | None = None) -> Ticket:
        """The next ticket; ``templates`` overrides the set for this one."""
        rng, chosen = self._rng, templates or self._templates
        intent, product, is_new = self._subject()
        urgency: Urgency = rng.choices(("low", "normal", "high"), (25, 45, 30))[0]
        scramble = self._scramble and _scrambling(rng, self._scramble)
        pick = partial(_pick, rng, vocabulary()["templates"][chosen], scramble)
        text = _with_typos(rng, _compose(rng, pick, intent, product, urgency))
        return Ticket(text, intent, product, urgency, is_new, chosen)

    def tickets(self, count: int) -> Iterator[Ticket]:
        """``count`` tickets."""
        return (self.ticket() for _ in range(count))

    def _subject(self) -> tuple[str, str, bool]:
        rng = self._rng
        if rng.random() >= self._new_share:
            return rng.choice(intents("old")), rng.choice(products("old")), False
        # Eight in ten new tickets bring a new intent, one in ten a new product, one in ten both.
        kind = rng.choices(("intent", "product", "both"), (8, 1, 1))[0]
        intent = rng.choice(intents("old" if kind == "product" else "new"))
        product = rng.choice(products("old" if kind == "intent" else "new"))
        return intent, product, True


def pretraining_examples(count: int, seed: int) -> list[Example]:
    """Training examples of old intents and products only, from the training templates."""
    generator = Generator(seed, templates="training", new_share=0.0, scramble=PRETRAINING_SCRAMBLE)
    return [
        Example(
            example_id=f"pretraining-{seed}-{i}",
            flow=FLOW,
            messages=ticket.messages,
            target=ticket.answer,
            inference_ids=[],
            subject="pretraining",
            origin="liked",
        )
        for i, ticket in enumerate(generator.tickets(count))
    ]


def write_taught(path: Path, examples: Sequence[Example]) -> Path:
    """What the live model was taught with as an OpenAI fine-tuning file, for ``flywheel import --taught``."""
    lines = [
        {"messages": [*(one.model_dump(exclude_none=True) for one in example.messages),
                      {"role": "assistant", "content": example.target}]}
        for example in examples
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def old_intent_cases(count: int = 1_200, seed: int = 1) -> list[EvalCase]:
    """Cases of the suite ``old-intents``: old intents and products, evaluation templates."""
    generator = Generator(seed, templates="evaluation", new_share=0.0)
    return [
        EvalCase(
            case_id=f"old-{seed}-{i}",
            flow=FLOW,
            suite=OLD_SUITE,
            messages=ticket.messages,
            check=Check(kind="json", expected=json.loads(ticket.answer)),
            origin="import",
            slice=ticket.intent,
        )
        for i, ticket in enumerate(generator.tickets(count))
    ]


def write_cases(path: Path, count: int = 1_200, seed: int = 1) -> Path:
    """Write the old-intent cases as the JSONL that ``flywheel cases import`` reads."""
    keep = ("messages", "check", "suite", "slice")
    rows = (case.model_dump(mode="json", exclude_none=True) for case in old_intent_cases(count, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({key: row[key] for key in keep}) + "\n" for row in rows))
    return path


def _compose(rng: random.Random, pick: Callable[[str], str], intent: str, product: str, urgency: str) -> str:
    words = vocabulary()
    issues = words["intents"]["old"].get(intent) or words["intents"]["new"][intent]
    names = words["products"]["old"].get(product) or words["products"]["new"][product]
    form = rng.choice(("verb", "noun", "statement"))
    core = pick(form).format(issue=rng.choice(issues[form]), product=rng.choice(names))
    # A message of normal urgency often has no closing, or one that says how to answer, not when.
    closing = pick("cue").format(cue=rng.choice(words["cues"][urgency]))
    if urgency == "normal" and rng.random() < 0.6:
        closing = pick("neutral") if rng.random() < 0.5 else ""
    detail = _filled(rng, pick("detail")) if rng.random() < 0.35 else ""
    tail = [core, detail] if rng.random() < 0.7 else [detail, core]
    # One message in five opens with its cue.
    body = [closing, *tail] if rng.random() < 0.2 else [*tail, closing]
    opening = pick("opening") if rng.random() < 0.5 else ""
    signature = _filled(rng, pick("signature")) if rng.random() < 0.35 else ""
    return " ".join(_sentence(part) for part in (opening, *body, signature) if part)


def _scrambling(rng: random.Random, most: float) -> float:
    """How much of one pretraining message is scrambled; some messages stay as customers write them."""
    return 0.0 if rng.random() < CLEAN_SHARE else rng.random() * most


def _pick(rng: random.Random, frames: dict[str, list[str]], scramble: float, kind: str) -> str:
    """A template of ``kind``; each of its own words is made up or left out with chance ``scramble``."""
    words = rng.choice(frames[kind]).split(" ")
    if not scramble:
        return " ".join(words)
    kept = [word if "{" in word or rng.random() >= scramble else _made_up(rng) for word in words]
    return " ".join(word for word in kept if word)


def _made_up(rng: random.Random) -> str:
    """A pronounceable word without meaning, or nothing."""
    syllables = rng.randrange(4)
    return "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(syllables))


def _filled(rng: random.Random, template: str) -> str:
    slots = [slot for _, slot, _, _ in Formatter().parse(template) if slot]
    return template.format(**{slot: FILLERS[slot](rng) for slot in slots})


def _sentence(part: str) -> str:
    text = part[0].upper() + part[1:]
    return text if text[-1] in ".?!" else text + "."


def _with_typos(rng: random.Random, text: str) -> str:
    return " ".join(_typo(rng, word) if rng.random() < TYPO_RATE else word for word in text.split(" "))


def _typo(rng: random.Random, word: str) -> str:
    """Swap, drop or double one inner letter; words with digits, capitals or addresses stay whole."""
    if len(word) < 5 or not word.isalpha() or not word.islower():
        return word
    at = rng.randrange(1, len(word) - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]
