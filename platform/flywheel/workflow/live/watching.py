"""Watches of this flow, made of its lake: for the rollout's controller, and for a turn that asks once."""

from __future__ import annotations

from collections.abc import Collection

from flywheel.capture.consent import latest
from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.records import Consent, utcnow
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.live.watch import Watch
from flywheel.workflow.live.instruments import live_instruments
from flywheel.workflow.turns.provenance import trace_lineage


def open_watch(lake: Lake, config: FlywheelConfig) -> Watch:
    """A watch with every instrument that there is here. Make a new one when judges or reward models changed."""
    return Watch(
        lake,
        config,
        live_instruments(lake, config),
        lineage=lambda candidate: trace_lineage(lake, config, candidate),
        withdrawn=Withdrawn(lake, config.flow),
    )


def verdict_on(watch: Watch, *, candidate: str, live: str) -> LiveVerdict | None:
    """What live traffic says now about a candidate in the shadow; None where it is not there."""
    found = [one for one in watch.update() if (one.candidate, one.live) == (candidate, live)]
    return next(iter(sorted(found, key=lambda one: one.source != "shadow")), None)


class Withdrawn:
    """Subjects who withdrew their consent to evaluation; read again when somebody said something new."""

    def __init__(self, lake: Lake, flow: str) -> None:
        self._lake, self._flow = lake, flow
        self._version: int | None = None
        self._subjects: frozenset[str] = frozenset()

    def __call__(self) -> Collection[str]:
        """All of them, now."""
        version = self._lake.version("consents")
        if version != self._version:
            said = self._lake.records("consents", Consent, flow=self._flow)
            statements = latest(said, "evaluation", utcnow())
            self._subjects = frozenset(who for who, one in statements.items() if one.state == "withdrawn")
            self._version = version
        return self._subjects
