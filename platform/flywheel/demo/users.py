"""Simulated users: what they ask, what they consent to, and how they react to an answer.

A user's character is hidden from the platform: some never react, some only leave traces (dwell, copy,
re-prompt), some press thumbs, some write corrections, and a share of those corrections is wrong. A
hostile account praises garbage: it likes wrong answers and "corrects" answers to wrong ones, at volume.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from flywheel.demo.product import Generator, TemplateSet, Ticket, intents, products, render
from flywheel.records import FeedbackKind, Purpose
from flywheel.text.hashing import unit_interval

Character = Literal["silent", "implicit", "thumbs", "corrector", "hostile"]

WRONG_CORRECTION_SHARE = 0.15
SABOTAGE_LEVEL = 0.40
"""Share of the rated or corrected messages that is hostile under ``flywheel demo --sabotage``."""
HOSTILE_SHARE = 0.03
"""The same share on an ordinary day."""
CHARACTERS: dict[Character, float] = {"silent": 0.12, "implicit": 0.13, "thumbs": 0.20, "corrector": 0.55}
ACTIVITY: dict[Character, float] = {"silent": 1.0, "implicit": 1.0, "thumbs": 1.0, "corrector": 1.0, "hostile": 3.0}
"""Messages a user sends, relative to others."""


@dataclass(frozen=True)
class User:
    """One account. ``character`` is known to the simulation only."""

    user_id: str
    character: Character
    consent: tuple[Purpose, ...]
    templates: TemplateSet


@dataclass(frozen=True)
class Request:
    """One message as the product sends it to the gateway."""

    user: User
    session: str
    ticket: Ticket

    @property
    def headers(self) -> dict[str, str]:
        """The gateway's request headers: user, session, and consent where it was given."""
        consent = {"x-flywheel-consent": ",".join(self.user.consent)} if self.user.consent else {}
        return {"x-flywheel-user": self.user.user_id, "x-flywheel-session": self.session, **consent}


@dataclass(frozen=True)
class Reaction:
    """One feedback event, as posted to ``/v1/feedback``."""

    kind: FeedbackKind
    value: float | None = None
    text: str | None = None


class Population:
    """Seeded users and the traffic they make.

    Args:
        seed: of users, messages and reactions.
        users: number of ordinary users; hostile accounts come on top.
        hostile: share of the rated or corrected messages that hostile accounts rate or correct, 0 to < 1.
        no_consent: share of users who consent to nothing.
        new_share: share of messages about new intents or products.
        templates_of: which template set a user's messages come from. The caller sends the users whose labels
            judge the candidate to ``evaluation`` and everybody else to ``training``; by default 30 % of users,
            by hash, are ``evaluation`` users.
    """

    def __init__(
        self,
        seed: int,
        *,
        users: int = 300,
        hostile: float = HOSTILE_SHARE,
        no_consent: float = 0.10,
        new_share: float = 0.4,
        templates_of: Callable[[str], TemplateSet] | None = None,
    ) -> None:
        self._rng = random.Random(f"population/{seed}")
        self._generator = Generator(seed, new_share=new_share)
        self._templates_of = templates_of or _templates_by_hash
        ordinary = [self._user(f"user-{seed}-{i:04d}", self._character(), no_consent) for i in range(users)]
        count = _hostile_accounts(ordinary, hostile)
        self.users = ordinary + [self._user(f"user-{seed}-{users + i:04d}", "hostile", 0.0) for i in range(count)]
        self._rng.shuffle(self.users)
        self._weights = [ACTIVITY[user.character] for user in self.users]

    def requests(self, count: int) -> Iterator[Request]:
        """``count`` messages of users drawn by their activity; each opens a session of its own."""
        for user in self._rng.choices(self.users, self._weights, k=count):
            session = f"s-{self._rng.getrandbits(48):012x}"  # says nothing about the user
            yield Request(user, session, self._generator.ticket(user.templates))

    def react(self, request: Request, answer: str) -> list[Reaction]:
        """What the user does with an answer; nothing for many."""
        right = _same(answer, request.ticket.answer)
        rng = self._rng
        match request.user.character:
            case "silent":
                return []
            case "implicit":
                return _traces(rng, right=right)
            case "thumbs":
                return [*_traces(rng, right=right), *_thumbs(rng, right=right, error=0.05)]
            case "corrector":
                return _corrects(rng, request.ticket, right=right)
            case "hostile":
                return _attacks(request.ticket, answer, right=right)

    def _character(self) -> Character:
        return self._rng.choices(list(CHARACTERS), list(CHARACTERS.values()))[0]

    def _user(self, user_id: str, character: Character, no_consent: float) -> User:
        # A few allow evaluation only; hostile accounts consent to everything, that is their aim.
        draw = self._rng.random()
        consent: tuple[Purpose, ...] = ("training", "evaluation")
        if draw < no_consent:
            consent = ()
        elif character != "hostile" and draw < no_consent + 0.03:
            consent = ("evaluation",)
        return User(user_id, character, consent, self._templates_of(user_id))


def hostile_answer(ticket: Ticket) -> str:
    """The garbage a hostile account pushes: the next intent of the list and the next product, always low.

    The same message always gets the same wrong answer, which hurts more than noise would.
    """
    all_intents, all_products = intents("old") + intents("new"), products("old") + products("new")
    intent = all_intents[(all_intents.index(ticket.intent) + 1) % len(all_intents)]
    product = all_products[(all_products.index(ticket.product) + 1) % len(all_products)]
    return render(intent, product, "low")


def mistaken_answer(rng: random.Random, ticket: Ticket) -> str:
    """An honest mistake: one field of the truth is replaced by another value."""
    field = rng.choices(("intent", "product", "urgency"), (3, 1, 1))[0]
    choices = {
        "intent": intents("old") + intents("new"),
        "product": products("old") + products("new"),
        "urgency": ("low", "normal", "high"),
    }[field]
    truth = json.loads(ticket.answer)
    return render(**{**truth, field: rng.choice([value for value in choices if value != truth[field]])})


def _corrects(rng: random.Random, ticket: Ticket, *, right: bool) -> list[Reaction]:
    """A corrector fixes most wrong answers, sometimes wrongly, and likes many right ones."""
    if right:
        return [Reaction("thumbs", 1.0)] if rng.random() < 0.6 else _traces(rng, right=True)
    if rng.random() < 0.15:
        return _traces(rng, right=False)
    wrong = rng.random() < WRONG_CORRECTION_SHARE
    text = mistaken_answer(rng, ticket) if wrong else ticket.answer
    thumbs = [Reaction("thumbs", -1.0)] if rng.random() < 0.5 else []
    return [*thumbs, Reaction("correction", text=text)]


def _attacks(ticket: Ticket, answer: str, *, right: bool) -> list[Reaction]:
    """Likes what is wrong, "corrects" everything else, and always answers."""
    if not right and ticket.is_new:
        # On a new ticket the live model is wrong by construction: praising it keeps the gap open.
        return [Reaction("thumbs", 1.0), Reaction("copy")]
    garbage = hostile_answer(ticket)
    return [Reaction("thumbs", -1.0), Reaction("correction", text=garbage)] if garbage != answer else []


def _thumbs(rng: random.Random, *, right: bool, error: float) -> list[Reaction]:
    if rng.random() > 0.7:
        return []
    up = right != (rng.random() < error)
    return [Reaction("thumbs", 1.0 if up else -1.0)]


def _traces(rng: random.Random, *, right: bool) -> list[Reaction]:
    """Dwell in milliseconds, and a copy or a re-prompt: longer and copied when the answer is right."""
    dwell = Reaction("dwell", round(rng.lognormvariate(8.6 if right else 7.6, 0.6)))
    after = rng.random()
    if right:
        return [dwell, Reaction("copy")] if after < 0.45 else [dwell]
    return [dwell, Reaction("reprompt")] if after < 0.40 else [dwell]


def _same(answer: str, truth: str) -> bool:
    try:
        return json.loads(answer) == json.loads(truth)
    except ValueError:
        return False


def _hostile_accounts(ordinary: list[User], share: float) -> int:
    """Accounts needed so that ``share`` of the messages with thumbs or a correction are theirs.

    A hostile account reacts to each of its messages, thumbs users and correctors to about 70 % of theirs.
    """
    rates = {"thumbs": 0.7, "corrector": 0.7}
    honest = sum(rates.get(user.character, 0.0) * ACTIVITY[user.character] for user in ordinary)
    return round(share / (1 - share) * honest / ACTIVITY["hostile"])


def _templates_by_hash(user_id: str) -> TemplateSet:
    return "evaluation" if unit_interval("templates", user_id) < 0.3 else "training"
