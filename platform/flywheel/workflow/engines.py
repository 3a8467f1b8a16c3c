"""Engines that a step needs for a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from flywheel.config import FlywheelConfig
from flywheel.inference import engines
from flywheel.lake.tables import Lake
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.workflow.cluster import read_up

_one_at_a_time = threading.Lock()
"""Building a Serve application is not safe in two threads at once (Ray registers modules globally meanwhile)."""


@contextlib.contextmanager
def serving(lake: Lake, config: FlywheelConfig, variant: Variant) -> Iterator[None]:
    """Have the engine of ``variant`` running. One that was started for this and got no role is stopped again."""
    ours = engines.running().get(engines.app_name(variant.version)) != "RUNNING"
    with _one_at_a_time:
        engines.start(variant.version, variant.folder, config.engine, wait=False)
    try:
        engines.wait_ready(variant.version, config.engine.start_timeout_s)
        yield
    finally:
        if ours and not keeps(lake, config, variant.version):
            engines.stop(variant.version)


def keeps(lake: Lake, config: FlywheelConfig, version: str) -> bool:
    """Whether a running gateway's routing needs this engine."""
    truth = routing.current(lake.store, config.flow)
    if truth is None or read_up(config) is None:
        return False
    return version in {variant.version for variant in truth.variants()}
