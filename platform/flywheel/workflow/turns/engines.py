"""Engines that a step needs for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flywheel.config import FlywheelConfig
from flywheel.inference import engines, users
from flywheel.lake.tables import Lake
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant

CONTROLLER = "controller"
"""The Serve application that makes engines follow the routing; see ``gateway.reconcile``."""


@contextlib.contextmanager
def serving(lake: Lake, config: FlywheelConfig, *variants: Variant, wait: bool = True) -> Iterator[None]:
    """Have these engines running. Those that nobody else needs are stopped again, also when a killed run left them.

    All are deployed here, one after another: building a Serve application is not safe while another thread talks
    to Serve (Ray registers modules globally meanwhile). With ``wait=False`` the caller waits for each
    (``engines.wait_ready``), in threads if it likes.
    """
    try:
        with users.using(sorted({variant.version for variant in variants}), config.engine.start_timeout_s):
            for variant in variants:
                engines.start(variant.version, variant.folder, config.engine, wait=False)
            if wait:
                for variant in variants:
                    engines.wait_ready(variant.version, config.engine.start_timeout_s)
            yield
    finally:
        needed = routed(lake, config)
        for variant in variants:
            if variant.version not in needed:
                engines.stop(variant.version)


def routed(lake: Lake, config: FlywheelConfig) -> set[str]:
    """Versions whose engines a gateway on this cluster needs; none where no controller follows the routing."""
    from ray import serve

    truth = routing.current(lake.store, config.flow)
    if truth is None or CONTROLLER not in serve.status().applications:
        return set()
    return {variant.version for variant in truth.variants()}
