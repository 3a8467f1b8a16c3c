"""The state of a flow's verdicts as one small object: counts, and hashes of sessions still open. No text of anybody."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

from flywheel.config import FlywheelConfig
from flywheel.lake.manifests import content_id
from flywheel.rollout.live.instrument import Instrument, versions

FORM: Final = 3
"""Grows when the state is written in another form; an older one is then computed anew."""


class Store(Protocol):
    """The part of ``lake.ObjectStore`` that is needed."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        ...

    def get_or_none(self, key: str) -> bytes | None:
        """The object, or None."""
        ...


def identity(config: FlywheelConfig, instruments: Sequence[Instrument]) -> str:
    """Of everything that shapes the counts beside the rows."""
    gate = config.rollout.gate
    limits = [gate.max_latency_ratio, gate.max_token_ratio, config.gateway.canary_timeout_s]
    rules = config.rollout.live.model_dump(mode="json")
    return content_id("live", FORM, rules, limits, sorted(versions(instruments).items()))


def key(flow: str) -> str:
    """Where the state of a flow is."""
    return f"live/{flow}.json.gz"


def save(store: Store, flow: str, state: dict[str, Any]) -> None:
    """A projection of the tables: when it is lost, it is computed from them again."""
    store.put(key(flow), gzip.compress(json.dumps(state, separators=(",", ":")).encode(), compresslevel=1, mtime=0))


def load(store: Store, flow: str, wanted: str) -> dict[str, Any] | None:
    """The stored state; None where there is none, or one that other settings or instruments made."""
    data = store.get_or_none(key(flow))
    if data is None:
        return None
    try:
        state = json.loads(gzip.decompress(data))
    except (OSError, EOFError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("identity") == wanted else None
