"""The signals as people and programs read about them."""

from __future__ import annotations

from typing import get_args

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.declare import Cost
from flywheel.quality.signals.versions import switched_on
from flywheel.records import Record


class Entry(Record):
    """One signal's declaration, and whether a configuration measures it."""

    name: str
    on: bool
    setting: str | None
    cost: str
    version: str
    group: str
    scope: str
    scale: str
    inputs: list[str]
    measures: str
    gamed: str
    decides: list[str]


def deciding(reason: str) -> list[str]:
    """Names of the signals that a reason of the funnel rests on; none for rules that are about no signal."""
    return sorted(one.name for one in SIGNALS.values() if reason in one.decides)


def catalogue(config: FlywheelConfig, name: str | None = None) -> list[Entry]:
    """Every signal, or one; the cheapest first, then by name.

    Raises:
        UsageError: there is no signal of that name.
        ConfigError: the configuration switches off a signal that there is not.
    """
    if name is not None and name not in SIGNALS:
        raise UsageError(f"There is no signal '{name}'. There are: {', '.join(sorted(SIGNALS))}.")
    on = {one.name for one in switched_on(config)}
    order = get_args(Cost)
    chosen = [one for one in SIGNALS.values() if name in {None, one.name}]
    return [
        Entry(
            name=one.name, on=one.name in on, cost=one.cost, version=one.version, group=one.group, scope=one.scope,
            setting=None if one.setting is None else f"quality.signals.{one.setting}", scale=one.scale,
            inputs=list(one.inputs), measures=one.measures, gamed=one.gamed, decides=list(one.decides),
        )
        for one in sorted(chosen, key=lambda one: (order.index(one.cost), one.name))
    ]  # fmt: skip
