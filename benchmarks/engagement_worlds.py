"""Simulated products whose clicks and whose satisfaction come apart. Used by ``engagement.py``.

**Items** have a quality and a bait, which people do not see before they open them: bait attracts, quality satisfies,
and they are negatively correlated. What the product knows of an item is noisy: its looks (``flash``, near bait), where
it is from (``source``, near quality), age, topic, and how near the topic is to the person (``affinity``).

**People** look at a place with a chance that falls with the place, as far as they scroll. Who looks opens the item with
sigmoid(attraction), and somewhat more readily near the top (trust in the ranker, which the position-based model that
we estimate does not know). Opening gives a satisfaction in [-1, 1], which nobody records. What is recorded follows it
with noise: how long they stay, likes, shares, hides, rarely a report.

**The product** starts with scores that follow past clicks, with noise. Everything is drawn anew for each world, from
ranges fixed here before any result was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

POOL, PLACES, TOPICS = 12, 8, 8
"""Items of a request, places of its list, topics."""
LONG_MS = 120_000.0
AFTER = {"like": (-2.5, 1.5), "share": (-4.0, 1.5), "hide": (-4.5, -2.0), "report": (-7.0, -2.5)}
"""Log-odds of an action of somebody who opened the item: at satisfaction 0, and for each unit of it."""


@dataclass(frozen=True)
class World:
    """All that is drawn once. Arrays are one number an item; ``taste`` is (people, topics)."""

    quality: Floats
    bait: Floats
    age_h: Floats
    topic: Indices
    flash: Floats
    source: Floats
    popular: Floats
    taste: Floats
    attract: Mapping[str, float]
    satisfy: Mapping[str, float]
    falls: float
    """Looks fall as (place + 1) ** -falls."""
    scrolls: float
    """Chance to scroll past a place, from the third on."""
    trust: float
    stays: float
    """Median of the time spent with an item of satisfaction 0, milliseconds."""


@dataclass(frozen=True)
class Requests:
    """Who asks, for which items: (requests), (requests, POOL); ``affinity``, likewise, is what the product thinks."""

    person: Indices
    items: Indices
    affinity: Floats


def draw(rng: np.random.Generator) -> World:
    """A sampled world."""
    uniform = rng.uniform
    count, people = int(rng.integers(250, 600)), int(rng.integers(250, 600))
    quality = rng.normal(size=count)
    against = uniform(0.2, 0.6)
    bait = -against * quality + np.sqrt(1 - against**2) * rng.normal(size=count)
    age_h = rng.exponential(24.0, size=count)
    attract = {
        "base": uniform(-2.2, -1.2), "quality": uniform(0.1, 0.5), "bait": uniform(0.6, 1.4),
        "affinity": uniform(0.4, 1.0), "old": uniform(0.0, 0.4),
    }  # fmt: skip
    satisfy = {
        "base": uniform(-0.2, 0.4),
        "quality": uniform(0.6, 1.2),
        "bait": uniform(0.6, 1.4),
        "affinity": uniform(0.3, 0.8),
    }
    popular = attract["quality"] * quality + attract["bait"] * bait + uniform(0.5, 1.5) * rng.normal(size=count)
    return World(
        quality=quality,
        bait=bait,
        age_h=age_h,
        topic=rng.integers(0, TOPICS, size=count),
        flash=bait + uniform(0.4, 1.0) * rng.normal(size=count),
        source=quality + uniform(0.4, 1.0) * rng.normal(size=count),
        popular=popular,
        taste=rng.normal(size=(people, TOPICS)),
        attract=attract,
        satisfy=satisfy,
        falls=uniform(0.5, 1.3),
        scrolls=uniform(0.75, 0.95),
        trust=uniform(0.0, 0.5),
        stays=uniform(25_000.0, 60_000.0),
    )


def ask(world: World, count: int, rng: np.random.Generator) -> Requests:
    """Requests of people drawn at random, each for different items."""
    person = rng.integers(0, len(world.taste), size=count)
    items = np.argsort(rng.random((count, len(world.quality))), axis=1)[:, :POOL]
    liking = world.taste[person[:, None], world.topic[items]]
    return Requests(person, items, liking + 0.5 * rng.normal(size=liking.shape))


def looks(world: World) -> Floats:
    """Chance that each place is looked at once it is on screen."""
    return (np.arange(PLACES) + 1.0) ** -world.falls


def on_screen(world: World) -> Floats:
    """Chance that each place is on screen: three are, and then people scroll on or stop."""
    return world.scrolls ** np.maximum(np.arange(PLACES) - 2, 0)


def satisfaction(world: World, requests: Requests) -> Floats:
    """Of opening each item of each request, in [-1, 1]; what nobody records."""
    kind, items = world.satisfy, requests.items
    liking = world.taste[requests.person[:, None], world.topic[items]]
    return np.tanh(
        kind["base"]
        + kind["quality"] * world.quality[items]
        - kind["bait"] * world.bait[items]
        + kind["affinity"] * liking
    )


def attraction(world: World, requests: Requests) -> Floats:
    """Log-odds that who looks at the item opens it."""
    kind, items = world.attract, requests.items
    liking = world.taste[requests.person[:, None], world.topic[items]]
    wanted = kind["quality"] * world.quality[items] + kind["bait"] * world.bait[items] + kind["affinity"] * liking
    return kind["base"] + wanted - kind["old"] * world.age_h[items] / 24


@dataclass(frozen=True)
class Reactions:
    """What people did, by (request, place): booleans, and milliseconds where an item was opened."""

    on_screen: npt.NDArray[np.bool_]
    opened: npt.NDArray[np.bool_]
    stayed_ms: Floats
    did: Mapping[str, npt.NDArray[np.bool_]]


def react(world: World, requests: Requests, shown: Indices, rng: np.random.Generator) -> Reactions:
    """Let people meet lists; ``shown`` is (requests, PLACES), indices into each request's items."""
    size = shown.shape
    scrolled = np.cumprod(np.where(np.arange(PLACES) < 3, 1.0, rng.random(size) < world.scrolls), axis=1).astype(bool)
    looked = scrolled & (rng.random(size) < looks(world))
    opened = looked & (rng.random(size) < opens(world, np.take_along_axis(attraction(world, requests), shown, axis=1)))
    felt = np.take_along_axis(satisfaction(world, requests), shown, axis=1)
    stayed = world.stays * np.exp(felt + 0.7 * rng.normal(size=size))
    did = {name: opened & (rng.random(size) < expit(base + slope * felt)) for name, (base, slope) in AFTER.items()}
    return Reactions(scrolled, opened, np.where(opened, stayed, 0.0), did)


def opens(world: World, attracted: Floats) -> Floats:
    """Chance that who looks opens, by (request, place)."""
    return expit(attracted + world.trust / (np.arange(PLACES) + 1))


@dataclass(frozen=True)
class Worth:
    """Means of a list, in expectation over what people do with it."""

    satisfaction: float
    clicks: float
    harm: float
    """Hides and reports."""
    reward: float
    """By the given weights of actions."""


def mean_worth(found: Sequence[Worth]) -> Worth:
    """The mean of several."""
    return Worth(*(float(np.mean(column)) for column in zip(*(astuple(one) for one in found), strict=True)))


def worth(world: World, requests: Requests, shown: Indices, weights: Mapping[str, float]) -> Worth:
    """What lists are worth."""
    felt = np.take_along_axis(satisfaction(world, requests), shown, axis=1)
    attracted = np.take_along_axis(attraction(world, requests), shown, axis=1)
    opened = on_screen(world) * looks(world) * opens(world, attracted)
    chances = {name: expit(base + slope * felt) for name, (base, slope) in AFTER.items()}
    chances |= {"click": np.ones_like(felt), "dwell": norm.sf((np.log(LONG_MS / world.stays) - felt) / 0.7)}
    reward = sum(weights.get(name, 0.0) * chance for name, chance in chances.items())
    harm = chances["hide"] + chances["report"]
    total = [(opened * value).sum(axis=1).mean() for value in (felt, np.ones_like(felt), harm, reward)]
    return Worth(*(float(value) for value in total))
