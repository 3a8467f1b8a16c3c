"""From whatever names a model to a variant that the routing can name."""

from __future__ import annotations

from flywheel.config import FlywheelConfig
from flywheel.lake.tables import open_lake
from flywheel.registry.versions import register, resolve
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress


def registered(config: FlywheelConfig, name: str, progress: Progress) -> Variant:
    """The named model as a registered version of the flow.

    Args:
        config: the flow.
        name: a version, a packaged model such as ``smollm2``, a Hugging Face id or a folder.
        progress: told about fetching and registering.

    Raises:
        UsageError: no such model.
        ModelError: it cannot be served.
    """
    lake = open_lake(config)
    progress.start("register", name)
    version = register(lake, config, folder=resolve(lake, config, name).folder, data={"name": name})
    progress.finish(version.version)
    return Variant(version=version.version, folder=str(version.folder))
