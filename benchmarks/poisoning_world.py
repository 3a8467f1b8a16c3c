"""A flow with honest people and an attack on it, as the lake's records, with the truth beside them.

Honest: a catalogue of questions by Zipf popularity and a share that nobody asks twice, people by Zipf activity, each
with an error rate of their own (one in twenty is careless), mistakes that several people make alike, a model that
is wrong on some questions for everybody, days and nights, and an outage in which hundreds of people ask for and
agree on the same new answer within two hours. Hostile rows are part of the whole; what the attacker knows about the
defence is in ``ATTACKS``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from flywheel.records import Feedback, Inference, Message

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 30
DAY = 86_400.0
FLOW = "support"
CAP = 100
"""What the attacker knows: TrustConfig's default of ``max_unconfirmed``."""

_VOCABULARY = """
account billing card charge invoice refund order parcel delivery address login password reset screen device
app update crash battery cable router signal phone number plan upgrade cancel contract statement balance
transfer limit currency travel hotel booking seat ticket luggage delay voucher coupon discount gift return
exchange repair warranty manual setup language keyboard mouse printer camera speaker headset charger network
outage backup email
"""
WORDS = _VOCABULARY.split()

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One interaction: who asked what, what was served, and what the rater said of it."""

    asker: str
    rater: str
    prompt: str
    served: str
    kind: str
    value: float | None
    text: str | None
    at: float
    good: bool
    """What the rater says is true."""
    hostile: bool
    inference: str | None = None
    """An answer that exists already: the rater is a second voice on it."""


@dataclass
class World:
    """Records in the order of time; the truth by feedback id."""

    inferences: list[Inference] = field(default_factory=list[Inference])
    feedback: list[Feedback] = field(default_factory=list[Feedback])
    good: dict[str, bool] = field(default_factory=dict[str, bool])
    hostile: dict[str, bool] = field(default_factory=dict[str, bool])
    attacked: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Prompt -> what the attacker says about: the answers wanted, or (bury) those to get rid of."""


@dataclass(frozen=True)
class Settings:
    """Size and noise of the honest part."""

    rows: int = 100_000
    people: int = 5_000
    prompts: int = 9_000
    answers: int = 400
    error: float = 0.12
    careless: float = 0.05
    careless_error: float = 0.35
    model_right: float = 0.7
    fresh: float = 0.15
    """Share of questions that are asked once in the history of the flow."""
    second_voice: float = 0.05
    outage: float = 0.015

    @staticmethod
    def of(rows: int) -> Settings:
        """The same flow with fewer rows: fewer people and questions."""
        share = rows / 100_000
        return Settings(
            rows=rows, people=max(50, round(5_000 * share)), prompts=max(100, round(9_000 * share)),
            answers=max(20, round(400 * min(1.0, share * 2))),
        )  # fmt: skip


class Scene:
    """The catalogue and the draws that honest and hostile rows share."""

    def __init__(self, settings: Settings, rng: np.random.Generator) -> None:
        self.settings, self.rng = settings, rng
        self.answers = [f"Please see help page {i}: {self.sentence(7)}." for i in range(settings.answers)]
        self.prompts = [f"{self.sentence(8)} {i}" for i in range(settings.prompts)]
        self.truth = rng.integers(0, settings.answers, settings.prompts)
        shift = rng.integers(1, settings.answers, settings.prompts)
        self.confused = (self.truth + shift) % settings.answers
        """The usual mistake about each prompt: the model's, and often people's."""
        self.popularity = _zipf(settings.prompts, 0.9)
        self.activity = _zipf(settings.people, 0.7)
        self._garbage = [f"Call the agents of {self.sentence(3)}: {self.sentence(5)}." for _ in range(10)]

    def sentence(self, words: int) -> str:
        """Some words."""
        return " ".join(self.rng.choice(WORDS, words))

    def fresh_prompt(self, prompt: int) -> str:  # noqa: ARG002  (a scene of real questions needs it)
        """A question that nobody asks twice, with the same right answer as ``prompt``."""
        return f"{self.sentence(9)} ref {self.rng.integers(10**9)}"

    def garbage(self, prompt: int, kind: int) -> str:  # noqa: ARG002
        """What an attacker wants to hear; ``kind`` tells one campaign's texts apart."""
        return self._garbage[kind]

    def edited(self, text: str) -> str:
        """The same with a small edit, as somebody does who knows that equal texts are counted."""
        return text + ("", "!", " now", " today", f" {self.rng.choice(WORDS)}")[self.rng.integers(5)]

    def time(self) -> float:
        """Seconds since the start: any day, mostly in the daytime."""
        return float(self.rng.integers(DAYS) * DAY + np.clip(self.rng.normal(14, 4), 0, 23.99) * 3600)


def _zipf(count: int, exponent: float) -> Floats:
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def honest(scene: Scene, count: int) -> list[Row]:
    """``count`` rows of honest people, 5 % of them second voices and 1.5 % in an outage."""
    settings, rng = scene.settings, scene.rng
    errors = np.clip(rng.beta(3, 3 / settings.error - 3, settings.people), 0, 0.5)
    errors[rng.random(settings.people) < settings.careless] = settings.careless_error
    people = rng.choice(settings.people, count, p=scene.activity)
    prompts = rng.choice(settings.prompts, count, p=scene.popularity)
    outage = round(settings.outage * count)
    rows = [_outage(scene, int(person), errors) for person in people[:outage]]
    rows += [_honest(scene, int(p), int(q), errors) for p, q in zip(people[outage:], prompts[outage:], strict=True)]
    return rows


def _honest(scene: Scene, person: int, prompt: int, errors: Floats) -> Row:
    settings, rng = scene.settings, scene.rng
    fresh = rng.random() < settings.fresh
    text = scene.fresh_prompt(prompt) if fresh else scene.prompts[prompt]
    right, wrong = scene.answers[scene.truth[prompt]], scene.answers[scene.confused[prompt]]
    # The model answers a question mostly alike: of the questions, a share is answered wrongly.
    knows = (prompt * 2654435761 % 1000) / 1000 < settings.model_right
    served = right if knows != (rng.random() < 0.1) else wrong
    return _react(scene, person, text, served, (right, wrong), errors=errors, at=scene.time())


def _outage(scene: Scene, person: int, errors: Floats) -> Row:
    """Many people within two hours, a dozen wordings, one new answer that the model does not know."""
    rng = scene.rng
    text = f"{('app', 'site', 'login', 'service')[rng.integers(4)]} is down {('again', 'now', 'here')[rng.integers(3)]}"
    right, wrong = "We have an outage and are working on it.", scene.answers[0]
    at = 12.4 * DAY + float(rng.random()) * 7200
    return _react(scene, person, text, wrong, (right, wrong), errors=errors, at=at)


def _react(
    scene: Scene, person: int, text: str, served: str, answers: tuple[str, str], *, errors: Floats, at: float
) -> Row:
    """``answers``: the right one and the usual mistake."""
    right, wrong = answers
    rng, name = scene.rng, f"person-{person}"
    mistaken = rng.random() < errors[person]

    def row(kind: str, value: float | None, said: str | None, *, good: bool) -> Row:
        return Row(name, name, text, served, kind, value, said, at, good, hostile=False)

    if served != right and rng.random() < 0.5:
        other = wrong if rng.random() < 0.5 and wrong != served else scene.answers[rng.integers(len(scene.answers))]
        said = other if mistaken else right
        return row("correction", None, said, good=said == right)
    up = (served == right) != mistaken
    return row("thumbs", 1.0 if up else -1.0, None, good=up == (served == right))


Attack = Callable[[Scene, int, int, list[Row]], list[Row]]


def praise(scene: Scene, count: int, accounts: int, _: list[Row]) -> list[Row]:
    """Praise three pieces of garbage that the model was led to, and its real mistakes, half and half.

    Knows the caps and the burst rule: spreads over accounts, days and questions; half of the questions are new.
    """
    targets = _targets(scene, max(20, count // 25))
    rows = []
    for index in range(count):
        prompt = int(targets[scene.rng.integers(len(targets))])
        fresh, real = scene.rng.random() < 0.5, scene.rng.random() < 0.5
        text = scene.fresh_prompt(prompt) if fresh else scene.prompts[prompt]
        served = scene.answers[scene.confused[prompt]] if real else scene.garbage(prompt, int(scene.rng.integers(3)))
        rows.append(_hostile(scene, index % accounts, text, served, "thumbs", 1.0, None))
    return rows


def bury(scene: Scene, count: int, accounts: int, known: list[Row]) -> list[Row]:
    """Thumbs down on other people's good answers, few on each, and not the most popular ones.

    Knows that votes are compared: picks answers whose question is rare or was asked once.
    """
    rare = {scene.prompts[i] for i in range(len(scene.prompts) // 4, len(scene.prompts))}
    catalogue = set(scene.prompts)
    places = [
        i
        for i, row in enumerate(known)
        if row.kind == "thumbs"
        and row.value == 1.0
        and row.good
        and (row.prompt in rare or row.prompt not in catalogue)
    ]
    drawn = scene.rng.choice(places, count, replace=count > len(places))
    rows = []
    for index, place in enumerate(drawn.tolist()):
        row = known[place]
        rows.append(
            Row(row.asker, f"hostile-{index % accounts}", row.prompt, row.served, "thumbs", -1.0, None,
                row.at + float(scene.rng.random()) * 2 * DAY, good=False, hostile=True,
                inference=row.inference or f"h{place}")
        )  # fmt: skip
    return rows


def paste(scene: Scene, count: int, accounts: int, _: list[Row]) -> list[Row]:
    """Correct whatever was answered to one of five texts, each time with small edits; half on new questions."""
    targets = _targets(scene, max(20, count // 25))
    rows = []
    for index in range(count):
        prompt = int(targets[scene.rng.integers(len(targets))])
        text = scene.fresh_prompt(prompt) if scene.rng.random() < 0.5 else scene.prompts[prompt]
        payload = scene.edited(scene.garbage(prompt, int(scene.rng.integers(5))))
        served = scene.answers[scene.truth[prompt] if scene.rng.random() < 0.7 else scene.confused[prompt]]
        rows.append(_hostile(scene, index % accounts, text, served, "correction", None, payload))
    return rows


def drip(scene: Scene, count: int, accounts: int, _: list[Row]) -> list[Row]:
    """Slow drip behind a good name: for every hostile row an honest one, evenly over the month, mostly new questions.

    Every account says what everybody says on popular questions, and ten texts of its own with an edit in each.
    """
    popular = np.arange(min(len(scene.prompts), 300))
    rows = []
    for index in range(count):
        prompt = int(scene.rng.choice(popular))
        account, at = index % accounts, DAYS * DAY * (index + float(scene.rng.random())) / count
        cover = scene.answers[scene.truth[prompt]]
        rows.append(_hostile(scene, account, scene.prompts[prompt], cover, "thumbs", 1.0, None, at=at, cover=True))
        text = scene.fresh_prompt(prompt) if scene.rng.random() < 0.8 else scene.prompts[prompt]
        payload = scene.edited(scene.garbage(prompt, int(scene.rng.integers(10))))
        rows.append(_hostile(scene, account, text, cover, "correction", None, payload, at=at + 60))
    return rows


ATTACKS: dict[str, Attack] = {"praise": praise, "bury": bury, "paste": paste, "drip": drip}


def _targets(scene: Scene, count: int) -> Ints:
    """Questions that people ask: drawn by popularity, without the hundred best known."""
    weights = scene.popularity.copy()
    weights[: min(100, len(weights) // 5)] = 0
    return scene.rng.choice(len(weights), min(count, len(weights) // 2), replace=False, p=weights / weights.sum())


def _hostile(  # noqa: PLR0917
    scene: Scene, account: int, text: str, served: str, kind: str, value: float | None, said: str | None,
    *, at: float | None = None, cover: bool = False,
) -> Row:  # fmt: skip
    name = f"hostile-{account}"
    when = scene.time() if at is None else at
    return Row(name, name, text, served, kind, value, said, when, good=cover, hostile=not cover)


def make_world(settings: Settings, attack: str | None, *, share: float, accounts: int, seed: int) -> World:
    """``share`` of ``settings.rows`` are hostile rows from ``accounts`` accounts; None: nobody is hostile."""
    return world_of(Scene(settings, np.random.default_rng(seed)), attack, share=share, accounts=accounts)


def world_of(scene: Scene, attack: str | None, *, share: float, accounts: int) -> World:
    """The same in a given scene. Honest rows are drawn first: they do not depend on the attack, but for how many."""
    settings = scene.settings
    hostile = round(share * settings.rows) if attack else 0
    rows = honest(scene, settings.rows - hostile)
    second = [_second_voice(scene, rows) for _ in range(round(settings.second_voice * settings.rows))]
    rows = [*rows[: len(rows) - len(second)], *second]
    if attack:
        rows += ATTACKS[attack](scene, hostile, accounts, rows)
    return _records(rows)


def _second_voice(scene: Scene, rows: list[Row]) -> Row:
    """Somebody else looks at an answer and says what it deserves, nine times in ten."""
    place = int(scene.rng.integers(int(len(rows) * 0.9)))
    row = rows[place]
    deserved = row.good == (row.value == 1.0) if row.kind == "thumbs" else False
    honest_says = deserved != (scene.rng.random() < 0.1)
    person = f"person-{scene.rng.choice(scene.settings.people, p=scene.activity)}"
    return Row(
        row.asker, person, row.prompt, row.served, "thumbs", 1.0 if honest_says else -1.0, None,
        row.at + 3600, good=honest_says == deserved, hostile=False, inference=f"h{place}",
    )  # fmt: skip


def _records(rows: list[Row]) -> World:
    """Records of all rows; those of one person on one day share a session."""
    world = World()
    for index, row in enumerate(rows):
        name = row.inference or f"h{index}"
        at = START + timedelta(seconds=row.at)
        if row.inference is None:
            world.inferences.append(
                Inference(
                    inference_id=name, flow=FLOW, ts=at, subject=row.asker, consent=["training"], model_version="v0",
                    session_id=f"{row.asker}/{int(row.at // DAY)}", finish_reason="stop", choices=[row.served],
                    messages=[Message(role="user", content=row.prompt)],
                )
            )  # fmt: skip
        feedback = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{index}"))
        world.feedback.append(
            Feedback(feedback_id=feedback, inference_id=name, flow=FLOW, ts=at + timedelta(seconds=30),
                     subject=row.rater, kind=row.kind, value=row.value, text=row.text)  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        world.good[feedback] = row.good
        world.hostile[feedback] = row.hostile
        if row.hostile:
            world.attacked.setdefault(row.prompt, set()).add(row.text or row.served)
    return world
