"""Where in a YAML file a value stands, so that an error can name its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml


def line_of(path: Path | None, place: Sequence[str | int]) -> int | None:
    """The line of a key (``("quality", "filter")``) or list item (``("rules", 2)``); None: it is not in the file.

    Of what lies deeper than the file goes (pydantic adds parts for unions) the deepest part that is there counts.
    """
    node = _compose(path)
    line: int | None = None
    for part in place:
        found = _child(node, part)
        if found is None:
            break
        line, node = found
    return line


def _compose(path: Path | None) -> yaml.Node | None:
    if path is None:
        return None
    try:
        return yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError):
        return None


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    return None
