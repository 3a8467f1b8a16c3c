"""Where a model that is not registered comes from: a folder, a Python package, or a Hugging Face repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem, ModelError
from flywheel.inference.packaged import PACKAGED, unpack

FILES: Final = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""What is fetched from a hub: no pickles, no code."""
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


def is_repository(name: str) -> bool:
    """Whether a name has the form of a Hugging Face id: ``organisation/model``, also with ``@revision``."""
    return _REPOSITORY.fullmatch(name) is not None


def find_folder(config: FlywheelConfig, name: str) -> Path | None:
    """The folder of a model that is named by path, by package (``smollm2``), or by Hugging Face id.

    Args:
        config: packaged models are unpacked under its home, once.
        name: ``organisation/model``, also with ``@revision``; a folder of that name wins.

    Returns:
        None where the name is none of these.

    Raises:
        ModelError: the package is not installed, or the repository is not there or not open to this user.
        EnvironmentProblem: the hub does not answer.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if name in PACKAGED:
        return unpack(name, config.home_path() / "models" / name)
    return _fetch(name) if is_repository(name) else None


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"'{name}' is no folder here and no repository on the Hugging Face hub that this user may read; "
            "for a gated one accept its terms and set HF_TOKEN"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise EnvironmentProblem(
            f"'{name}' is no folder here, and fetching it from the Hugging Face hub failed; "
            "check the network (and HF_HUB_OFFLINE), or give the path of a downloaded folder"
        ) from error
