"""What reviewers are told to do. Its version, a hash of the text, is stored with every label made under it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from flywheel.errors import UsageError
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake


class Guideline(NamedTuple):
    """A text and its version. Without a text the version is ``1``, as labels had before there were guidelines."""

    version: str = "1"
    text: str = ""


def read_guideline(path: Path | None) -> Guideline:
    """The guideline in force.

    Raises:
        UsageError: the configured file cannot be read.
    """
    if path is None:
        return Guideline()
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read; name a text file in labels.guideline, or remove that key") from error
    return Guideline(content_id("guideline", text), text)


def keep_guideline(lake: Lake, flow: str, guideline: Guideline) -> None:
    """Store the text under its version, so that what a label was made under can be read later."""
    if guideline.text:
        lake.store.put_if_absent(f"labels/{flow}/guidelines/{guideline.version}.md", guideline.text.encode())
