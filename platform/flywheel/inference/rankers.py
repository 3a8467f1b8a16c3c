"""Rankers by version: one Serve application each, beside the engines. Nothing here imports torch; the replica does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flywheel.config import RankerConfig
from flywheel.errors import ModelError

APP_PREFIX = "ranker-"


def app_name(version: str) -> str:
    """The Serve application of a ranker version."""
    return f"{APP_PREFIX}{version}"


def check_ranker_folder(path: Path) -> None:
    """Refuse a folder that no ranker can be loaded from, before a replica is started on it.

    Raises:
        ModelError: names what is missing and what to do.
    """
    place = f"gateway.ranker.model {path}"
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{place} is no model folder; give one that save_pretrained() wrote") from error
    kinds = config.get("architectures") or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        # Loaded all the same, a model without a score head would get a random one.
        raise ModelError(f"{place} holds {', '.join(kinds) or 'no known model'}, not a sequence classifier")
    if not any(path.glob("*.safetensors")):
        raise ModelError(f"{place} has no *.safetensors; save it with save_pretrained()")


def application(config: RankerConfig) -> Any:
    """The Serve application of the configured ranker; ``config.model`` must be set.

    Raises:
        ModelError: the folder holds no model.
    """
    from ray import serve

    from flywheel.inference.ranker_server import RankerServer

    assert config.model is not None, "the caller asks for a ranker that is configured"
    folder = Path(config.model).expanduser().resolve()
    check_ranker_folder(folder)
    deployment: Any = serve.deployment(
        RankerServer,
        name="ranker",
        num_replicas=config.num_replicas,
        max_ongoing_requests=64,
        health_check_period_s=10,
        health_check_timeout_s=60,  # a busy small machine is slow, not dead
        max_constructor_retry_count=2,  # a model that does not load will not load the twentieth time either
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
    )
    return deployment.bind(config.name(), str(folder), config.model_dump(mode="json"))


def start(config: RankerConfig) -> str:
    """Run the configured ranker and wait until it answers; its version.

    Raises:
        ModelError: the folder holds no model. RuntimeError: it did not start; Serve says why.
    """
    from ray import serve

    version = config.name()
    assert version is not None, "the caller asks for a ranker that is configured"
    serve.start(proxy_location="Disabled")  # reached through handles only; a running Serve stays as it is
    serve.run(application(config), name=app_name(version), route_prefix=None)
    return version
