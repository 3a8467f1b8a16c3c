"""The shadow's last word on a candidate, kept while its users meet it: nobody mirrors to a canary any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import ValidationError

from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine.state import RolloutState

Pair = tuple[str, str]
"""Candidate and live model."""


class Store(Protocol):
    """The part of ``lake.ObjectStore`` that is needed."""

    def put(self, key: str, data: bytes) -> None:
        """Write, over what is there."""
        ...

    def get_or_none(self, key: str) -> bytes | None:
        """The object, or None."""
        ...


class ShadowWords:
    """Remembers, also for a successor: ``rollouts/<flow>/shadow/<candidate>.json``."""

    def __init__(self, store: Store, flow: str) -> None:
        self._store, self._flow = store, flow
        self._newest: dict[Pair, LiveVerdict | None] = {}
        self._kept: dict[Pair, LiveVerdict] = {}

    def with_those_before(self, verdicts: Sequence[LiveVerdict], state: RolloutState) -> list[LiveVerdict]:
        """``verdicts``, and for each canary what was said of it in the shadow, against the same live model."""
        for one in verdicts:
            if one.source == "shadow":
                self._hear(one)
        told = {(one.candidate, one.live) for one in verdicts if one.source == "shadow"}
        canaries = [(one.version, state.live.version) for one in state.candidates if one.stage == "canary"]
        before = [self._of(pair) for pair in canaries if pair not in told]
        return [*verdicts, *(one for one in before if one is not None)]

    def _hear(self, one: LiveVerdict) -> None:
        pair = one.candidate, one.live
        self._newest[pair] = one
        last = self._kept.get(pair)
        if last is None or last.state != one.state:  # the rest is for people, and changes every few seconds
            self._store.put(self._key(one.candidate), one.model_dump_json().encode())
            self._kept[pair] = one

    def _of(self, pair: Pair) -> LiveVerdict | None:
        if pair not in self._newest:
            self._newest[pair] = self._read(pair)
        return self._newest[pair]

    def _read(self, pair: Pair) -> LiveVerdict | None:
        data = self._store.get_or_none(self._key(pair[0]))
        try:
            found = None if data is None else LiveVerdict.model_validate_json(data)
        except ValidationError:
            return None  # of another version of this program: not known
        return found if found is not None and (found.candidate, found.live) == pair else None

    def _key(self, candidate: str) -> str:
        return f"rollouts/{self._flow}/shadow/{candidate}.json"
