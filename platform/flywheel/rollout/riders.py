"""Where the versions of a routing run: on an engine of their own, or as a LoRA adapter on their base's. Pure.

A version's ``folder`` always holds whole weights, so riding is a saving and never a need: when the base leaves the
routing, or engines take no adapters, the same version gets an engine of its own. A promoted candidate always has one.
"""

from __future__ import annotations

from typing import NamedTuple

from flywheel.rollout.routing import Routing, Variant


class Rider(NamedTuple):
    """A version on another one's engine."""

    base: str
    adapter: str


class Placement(NamedTuple):
    """Which engines must run, and who rides on them."""

    engines: list[Variant]
    riders: dict[str, Rider]


def placed(routing: Routing, *, lora: bool) -> Placement:
    """Who runs where under ``routing``. ``lora``: engines take adapters (``EngineConfig.enable_lora``).

    A version rides only on one that has an engine of its own, and the live model never does.
    """
    variants = routing.variants()
    own = {variant.version for variant in variants if variant.adapter is None} | {routing.live.version}
    riders = {
        variant.version: Rider(variant.base, variant.adapter)
        for variant in variants
        if lora and variant.adapter and variant.base in own and variant.version not in own and variant.base
    }
    return Placement([variant for variant in variants if variant.version not in riders], riders)
