"""Engines that a step needs for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flywheel.config import FlywheelConfig
from flywheel.inference import engines
from flywheel.lake.tables import Lake
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.workflow.cluster import read_up


@contextlib.contextmanager
def serving(lake: Lake, config: FlywheelConfig, *variants: Variant, wait: bool = True) -> Iterator[None]:
    """Have these engines running. Those that were started for this and got no role are stopped again.

    All are deployed here, one after another: building a Serve application is not safe while another thread talks
    to Serve (Ray registers modules globally meanwhile). With ``wait=False`` the caller waits for each
    (``engines.wait_ready``), in threads if it likes.
    """
    status = engines.running()
    ours = [item for item in variants if status.get(engines.app_name(item.version)) != "RUNNING"]
    for variant in variants:
        engines.start(variant.version, variant.folder, config.engine, wait=False)
    try:
        if wait:
            for variant in variants:
                engines.wait_ready(variant.version, config.engine.start_timeout_s)
        yield
    finally:
        for variant in ours:
            if not keeps(lake, config, variant.version):
                engines.stop(variant.version)


def keeps(lake: Lake, config: FlywheelConfig, version: str) -> bool:
    """Whether a running gateway's routing needs this engine."""
    truth = routing.current(lake.store, config.flow)
    if truth is None or read_up(config) is None:
        return False
    return version in {variant.version for variant in truth.variants()}
